import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { clockCostNs, isNoise, percentiles, ratioOf, sizeClasses, spreadOf } from "../../src/study/statistics.ts";

describe("a ratio", () => {
	const around = (middle: number, spread: number) =>
		Array.from({ length: 15 }, (_, i) => middle * (1 + (spread * (i - 7)) / 7));

	it("is equal within noise where the pairs' median may be 1, or is less than 10 % off", () => {
		const base = around(100, 0.02);
		expect(ratioOf(base, base)).toMatchObject({ value: 1, isEqual: true });
		expect(ratioOf(around(109, 0.02), base)?.isEqual).toBe(true);
		expect(ratioOf(around(115, 0.02), base)?.isEqual).toBe(false);
		// 10 % off, but one pass in three says the opposite
		const torn = base.map((ns, i) => ns * (i % 3 === 0 ? 0.9 : 1.1));
		expect(ratioOf(torn, base)).toMatchObject({ value: expect.closeTo(1.1, 1), isEqual: true });
	});

	it("is compared pass by pass: what slows both down in turns leaves it as it is", () => {
		const load = (i: number) => 1 + (i % 5);
		const base = around(100, 0.01).map((ns, i) => ns * load(i));
		const twice = base.map((ns) => ns * 2);
		expect(ratioOf(twice, base)).toMatchObject({ value: 2, low: 1.8, high: 2.2, isEqual: false });
	});

	it("is known within 25 % at best where fewer than six passes were taken, and is none without a base", () => {
		expect(ratioOf([120], [100])).toEqual({ value: 1.2, low: 0.8999999999999999, high: 1.5, isEqual: true });
		expect(ratioOf([200, 200], [100, 100])?.isEqual).toBe(false);
		expect(ratioOf([1], [0])).toBeNull();
		expect(ratioOf([], [])).toBeNull();
	});

	it("lies between its bounds, and a pass more or less never makes a number that is none", () => {
		const ns = fc.array(fc.double({ min: 1, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 40 });
		fc.assert(
			fc.property(ns, ns, (values, base) => {
				const ratio = ratioOf(values, base);
				expect(ratio).not.toBeNull();
				const { value, low, high, isEqual } = ratio as NonNullable<typeof ratio>;
				expect(low).toBeLessThanOrEqual(value);
				expect(high).toBeGreaterThanOrEqual(value);
				expect(isEqual).toBe(low <= 1 && high >= 1);
			}),
		);
	});

	it("of two that are the same is equal in more than 19 of 20 runs, whatever the noise", () => {
		let [equal, runs] = [0, 0];
		fc.assert(
			fc.property(
				fc.array(fc.double({ min: 0.5, max: 1.5, noNaN: true }), { minLength: 30, maxLength: 30 }),
				(noise) => {
					runs++;
					if (ratioOf(noise.slice(0, 15), noise.slice(15))?.isEqual) equal++;
				},
			),
			{ numRuns: 1000, seed: 7 },
		);
		expect(equal / runs).toBeGreaterThan(0.95);
	});
});

describe("other figures", () => {
	it("have the median and its quartiles", () => {
		expect(spreadOf([5, 1, 4, 2, 3, 6, 8, 7])).toEqual({ median: 4, lower: 2, upper: 6 });
		expect(spreadOf([9])).toEqual({ median: 9, lower: 9, upper: 9 });
	});

	it("tell a difference from noise", () => {
		expect(isNoise([-3, 5, 1, -2, 4, -1, 2, 3], 100)).toBe(true);
		expect(isNoise(Array(10).fill(20), 100)).toBe(false);
		expect(isNoise(Array(10).fill(9), 100)).toBe(true);
	});

	it("are below the clock where they are not above its cost", () => {
		const times = Float64Array.from({ length: 100 }, (_, i) => i + 1);
		expect(percentiles(times, 60)).toMatchObject({ p50Ns: null, p99Ns: 99, maxNs: 100 });
		expect(percentiles(times, 100).curve.every(({ ns }) => ns === null)).toBe(true);
		const requests = [{ bytes: 4096 }, { bytes: 4096 }, { bytes: 8192 }];
		expect(sizeClasses(requests, Float64Array.of(10, 20, 90), 50)).toEqual([
			{ bytes: 4096, requests: 2, medianNs: null },
			{ bytes: 8192, requests: 1, medianNs: 90 },
		]);
	});

	it("take the clock's cost from calls that do nothing, and never as less than its step", () => {
		expect(clockCostNs(() => {})).toBeGreaterThan(0);
	});
});
