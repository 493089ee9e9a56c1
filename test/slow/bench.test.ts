import { beforeAll, describe, expect, it } from "vitest";
import { compareRounds, judge } from "../../bench/suite.ts";
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

	it("writes results with spreads and units that a person reads, in lines of at most 100 columns, and no targets", () => {
		const { code, out } = cocoProcess("bench", "vmbus", "calls", "--rounds", "2", "--ms", "1");
		expect(code).toBe(0);
		expect(out).toMatch(/host, SNP [\d.]+ ms \u00b1\d+ %/);
		expect(out).toMatch(/paravisor, SNP [\d.]+ ms \u00b1\d+ % +\((equal within noise|[\d.]+x)\)/);
		expect(out).not.toMatch(/target|pass|FAIL|\d,\d{3},\d{3} ns/);
		for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(100);
	});

	it("shows the targets where it is asked to check them, and fails where one is missed", () => {
		const { code, out } = cocoProcess("bench", "calls", "--rounds", "1", "--ms", "1", "--check");
		const missed = out.split("\n").filter((line) => line.includes(": FAIL  "));
		const met = out.split("\n").filter((line) => line.includes(": pass  "));
		expect(missed.length + met.length).toBeGreaterThan(3);
		expect(out).toContain(`${met.length} of ${met.length + missed.length} targets met.`);
		expect(code).toBe(missed.length === 0 ? 0 : 1);
	});

	it("lists its suites and their rows", () => {
		const { code, out } = cocoProcess("bench", "--list");
		expect(code).toBe(0);
		for (const name of ["slots", "copy", "map", "calls", "vmbus", "audit", "ring"])
			expect(out).toMatch(new RegExp(`^${name}: `, "m"));
		expect(out).toContain("    4 KiB random release, 32 in flight\n");
		for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(100);
	});

	it("takes no negative difference for one that meets a target", () => {
		const variants = { a: { nsPerOp: 3, samples: 1, opsPerSample: 1 }, b: { nsPerOp: 5, samples: 1, opsPerSample: 1 } };
		const judged = (of: string, minus: string) => judge({ of, minus, atMost: 15 }, "ns", variants).pass;
		expect([judged("b", "a"), judged("a", "b")]).toEqual([true, false]);
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
