import { describe, expect, it } from "vitest";
import { compareWorkload } from "../../src/study/compare.ts";
import { type MatrixOptions, type MatrixStep, runMatrix } from "../../src/study/matrix.ts";
import { workloadOf } from "../helpers/workload.ts";

describe("a study", () => {
	it("refuses a list in place of its options", async () => {
		const policies = ["rfc-v3"] as unknown as MatrixOptions;
		await expect(runMatrix(policies)).rejects.toThrow(
			/^runMatrix: expected options such as \{ policies: \[\.\.\.\] \}/,
		);
		const work = workloadOf([{ read: false, bytes: 4096, depth: 0, ns: 1000 }]);
		await expect(compareWorkload(work, ["direct"] as object)).rejects.toThrow(
			/^compareWorkload: expected options such as/,
		);
	});

	it("tells what runs next by name", async () => {
		const steps: MatrixStep[] = [];
		const progress = (step: MatrixStep) => steps.push(step);
		await runMatrix({ policies: ["rfc-v3"], scenarios: ["tdisp-nvme"], cost: false, progress });
		expect(steps).toEqual([{ policy: "rfc-v3", scenario: "tdisp-nvme" }]);
	});
});
