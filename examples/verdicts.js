// What a policy comes to on a device, as values: which parts leak, how much, and why what failed did.
import { runMatrix } from "coco-dma/study";

const { rows } = await runMatrix({ policies: ["rfc-v3", "cc-accepted"], scenarios: ["tdisp-nvme-32"], cost: false });
for (const { policy, cells } of rows) {
	for (const { scenario, kind, parts } of cells) {
		console.log(`${policy.name} on ${scenario}: ${kind}`);
		for (const { told, verdict } of parts) {
			if (!told) continue;
			const { part, platform, bytes, cause } = verdict;
			const why = cause === null ? "it worked" : JSON.stringify(cause);
			console.log(`  ${part} on ${platform}: ${[verdict.kind, ...verdict.also].join(", ")}; ${bytes} bytes; ${why}`);
		}
	}
}
