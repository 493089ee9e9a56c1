import { beforeAll, expect, it } from "vitest";
import { build, SETS } from "../../build.ts";
import { readTraceFile } from "../../src/node/input.ts";
import { processRunner } from "../../src/node/runner.ts";
import { timeInTurns } from "../../src/study/turns.ts";

const BURST = new URL("../golden/block/read-burst.ftrace.txt.gz", import.meta.url).pathname;
const RUNS = 20;

beforeAll(() => build(SETS.start), 600_000);

it("two policies that do the same mappings are equal within noise in 19 of 20 runs, on a machine as it is", async () => {
	const workload = await readTraceFile(BURST);
	const choices = ["force-bounce", "rfc-v3"].map((policy) => ({ policy, scenario: "storvsc-plain" }));
	const ratios: number[] = [];
	let [dma, total] = [0, 0];
	for (let run = 0; run < RUNS; run++) {
		const [first, second] = await timeInTurns(processRunner, workload, choices, {
			passes: 15,
			size: {},
			begins: () => {},
		});
		if (first === undefined || second === undefined || "what" in first || "what" in second)
			throw new Error("a device does not come about");
		expect(second.cost).toMatchObject({
			bouncedMaps: first.cost.bouncedMaps,
			bytesCopiedIn: first.cost.bytesCopiedIn,
			bytesCopiedBack: first.cost.bytesCopiedBack,
			firstRefused: null,
		});
		ratios.push(second.againstFirst?.dma?.value ?? Number.NaN);
		if (second.againstFirst?.dma?.isEqual) dma++;
		if (second.againstFirst?.total?.isEqual) total++;
	}
	console.log(`same work, DMA layer: ${ratios.map((ratio) => ratio.toFixed(3)).join(" ")}`);
	expect(dma).toBeGreaterThanOrEqual(RUNS - 1);
	expect(total).toBeGreaterThanOrEqual(RUNS - 1);
});
