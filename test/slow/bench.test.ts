import { beforeAll, describe, expect, it } from "vitest";
import { compareRounds } from "../../bench/suite.ts";
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

	it("compares the rows of a suite with those of another build, in turn", () => {
		const { against, suites, options } = bench("calls", "--against", ".");
		expect(against.before).toBe(against.now);
		expect(options).toMatchObject({ suites: ["calls"], rounds: 1 });
		const [{ rows }] = suites;
		expect(rows.length).toBe(8);
		for (const { name, beforeNs, nowNs, ratio, low, high } of rows) {
			expect(name).toMatch(/^(direct|bounced), .*: (WebAssembly|TypeScript)$/);
			expect(ratio).toBeCloseTo(nowNs / beforeNs, 1);
			expect([low, high]).toEqual([ratio, ratio]);
		}
	});

	it("calls a row slower or faster only when three rounds of four say so, by more than 5 %", () => {
		const verdict = (...now: number[]) => compareRounds("row", [100, 100, 100, 100, 100], now).verdict;
		expect(verdict(110, 110, 110, 110, 90)).toBe("slower");
		expect(verdict(104, 104, 104, 104, 104)).toBe("same");
		expect(verdict(110, 110, 110, 90, 90)).toBe("same");
		expect(verdict(90, 90, 90, 90, 110)).toBe("faster");
		// a round's two figures belong together
		expect(compareRounds("row", [100, 200], [50, 100])).toMatchObject({
			beforeNs: 150,
			nowNs: 75,
			ratio: 0.5,
			high: 0.5,
		});
	});

	it("refuses a folder without a build", () => {
		const { code, err } = cocoProcess("bench", "slots", "--against", "docs");
		expect(code).toBe(2);
		expect(err).toMatch(
			/--against: expected the folder of a built clone: there is no .*docs\/build\/bench\/child\.js\n$/,
		);
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
