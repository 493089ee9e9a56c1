// Asks of one workload what bouncing costs, what a policy exposes, and what policies do on a device.
// Run after `npm run build`: node examples/study.js

import { auditWorkload, compareWorkload, runMatrix } from "coco-dma/study";
import { readTrace } from "coco-dma/workload";

// a trace of its own: 64 reads of 64 KiB, eight at a time
const lines = [];
for (let i = 0; i < 64; i++) {
	const at = (ns) => (1000 + i * 0.0001 + ns / 1e9).toFixed(6);
	lines.push(` fio-1 [000] ..... ${at(0)}: block_rq_issue: 259,0 R 65536 () ${i * 128} + 128 be,0,4 [fio]`);
	lines.push(` fio-1 [000] ..... ${at(50_000)}: block_rq_complete: 259,0 R () ${i * 128} + 128 be,0,4 [0]`);
}
const workload = await readTrace(lines.join("\n"), { name: "64 reads" });

// the same commands, buffers and device, once direct and once through the pool; times are in each result too
const { results } = await compareWorkload(workload, { device: "nvme", ramBytes: 2 ** 28, repeat: 1 });
for (const { mode, directMaps, bouncedMaps, bytesCopiedIn, bytesCopiedBack, wrongBytes } of results) {
	console.log(`${mode}: ${directMaps} maps direct, ${bouncedMaps} bounced, ${wrongBytes} bytes wrong`);
	console.log(`  ${bytesCopiedIn} bytes copied in, ${bytesCopiedBack} back`);
}

// what the host could read of an accepted storvsc channel under two policies
for (const policy of ["rfc-v3", "cc-accepted-bus"]) {
	const report = await auditWorkload(workload, { policy, ramBytes: 2 ** 28 });
	console.log(`${policy}: ${report.bouncedMaps} bounced, ${report.verdict.kind}: ${report.verdict.bytes} bytes`);
}

// a policy on a device, opened into parts: what each mapping comes to
const matrix = await runMatrix({ policies: ["cc-accepted-bus"], scenarios: ["storvsc-full"], cost: false });
const [cell] = matrix.rows[0].cells;
console.log(`${cell.policy} on ${cell.scenario}: ${cell.kind}`);
for (const { verdict, told } of cell.parts) if (told) console.log(`  ${verdict.part}: ${verdict.kind}`);
