import { beforeAll, describe, expect, it } from "vitest";
import { build, SETS } from "../../build.ts";
import { cocoProcess } from "../helpers/cli.ts";

// biome-ignore lint/suspicious/noExplicitAny: parsed JSON
function bench(...args: string[]): any {
	const { code, out, err } = cocoProcess("bench", ...args, "--rounds", "1", "--ms", "1", "--json", "-");
	expect(err).toBe("");
	expect(code).toBe(0);
	return JSON.parse(out);
}

describe("coco-dma bench", () => {
	beforeAll(() => build(SETS.benchmarks), 120_000);

	it.each([
		["slots", ["engine", "reference", "bare bitmap", "TypeScript"]],
		["calls", ["WebAssembly", "TypeScript"]],
		["vmbus", ["host, SNP", "paravisor, SNP"]],
		["audit", ["engine", "engine.audit"]],
	])("runs suite %s in which all variants agree before they are timed", (suite, variants) => {
		const report = bench(suite);
		expect(report).toMatchObject({
			command: "bench",
			environment: { node: process.version },
			options: { suites: [suite] },
		});
		const [{ cases }] = report.suites;
		expect(cases.length).toBeGreaterThan(3);
		expect(Object.keys(cases[0].variants)).toEqual(variants);
		for (const { variants: measured } of cases) {
			for (const { nsPerOp, bytes } of Object.values(measured) as { nsPerOp?: number; bytes?: number }[]) {
				expect(nsPerOp ?? bytes).toBeGreaterThanOrEqual(0);
			}
		}
	});

	it("says which rounds and milliseconds it takes", () => {
		for (const args of [
			["--rounds", "0"],
			["--ms", "1.5"],
			["--ms", "20000"],
		]) {
			const { code, err } = cocoProcess("bench", ...args);
			expect(code).toBe(2);
			expect(err).toMatch(/^coco-dma bench: --(rounds|ms): expected .*\n$/);
		}
	});
});
