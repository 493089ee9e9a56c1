// Reads traces as a program has them: a text, and bytes as they arrive. Run after `npm run build`: node examples/workload.js
import { DEVICE_PRESETS, InputError, readTrace } from "coco-dma/workload";

// what `trace-cmd record -e block:block_rq_issue -e block:block_rq_complete` shows of a write and a read
const text = `\
 fio-812 [001] ..... 10.000100: block_rq_issue: 259,0 WS 8192 () 4096 + 16 be,0,4 [fio]
 fio-812 [000] ..... 10.000150: block_rq_issue: 259,0 R 131072 () 65536 + 256 be,0,4 [fio]
 <idle>-0 [001] ..s1. 10.000230: block_rq_complete: 259,0 WS () 4096 + 16 be,0,4 [0]
 <idle>-0 [000] ..s1. 10.000900: block_rq_complete: 259,0 R () 65536 + 256 be,0,4 [0]
`;
const workload = await readTrace(text, { name: "two requests" });
for (const { read, bytes, sector, cpu } of workload.requests)
	console.log(`cpu ${cpu}: ${read ? "reads" : "writes"} ${bytes} bytes at sector ${sector}`);
console.log(`${workload.events.length} events in ${workload.timesNs.at(-1) / 1000} us, on ${workload.cpus} CPUs`);

// a body that arrives in pieces, packed: a file's stream, or fetch(url).then(({ body }) => readTrace(body))
const packed = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
const { counters } = await readTrace(packed, { name: "the same, packed" });
console.log(`packed: ${counters.dataRequests} requests of ${counters.eventLines} lines`);

// what a trace may be replayed on
for (const { name, dma } of DEVICE_PRESETS)
	console.log(`${name}: minAlignMask 0x${(dma.minAlignMask ?? 0).toString(16)}`);

// what is no trace is told in one line
try {
	await readTrace("hello", { name: "mail.txt" });
} catch (error) {
	if (error instanceof InputError) console.log(error.message);
}
