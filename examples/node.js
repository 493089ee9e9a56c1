// What needs Node: a policy and a trace from files, and runs that have a process each.
// Run after `npm run build`: node examples/node.js
import { fileURLToPath } from "node:url";
import { InputError, loadPolicy, processRunner, readTraceFile } from "coco-dma/node";
import { compareWorkload } from "coco-dma/study";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));

const { name, policy } = await loadPolicy(`${path("my-policy.ts")}+force`);
console.log(`${name}: ${policy.title}`);

const workload = await readTraceFile(path("../bench/traces/pgbench.block.ftrace.txt.gz"));
console.log(`${workload.requests.length} requests, ${workload.counters.malformedLines} malformed lines`);
const { results } = await compareWorkload(workload, {
	modes: ["bounce"],
	repeat: 1,
	runner: processRunner,
	progress: ({ subject }) => console.log(`running ${subject} in a process of its own`),
});
for (const { bouncedMaps, bytesCopiedIn, pool } of results)
	console.log(`${bouncedMaps} maps, ${bytesCopiedIn} bytes copied in, at most ${pool.hiwaterSlots} slots in use`);

try {
	await readTraceFile("gone.txt");
} catch (error) {
	if (error instanceof InputError) console.log(error.message);
}
