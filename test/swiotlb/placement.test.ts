import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import type { DevicePlan, GuestPlan } from "../helpers/guest.ts";
import { Lockstep } from "../helpers/lockstep.ts";
import { noCases } from "../helpers/model.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";

/** 2^k - 1, as drivers set them, and masks with holes, whose walk has no closed form. */
const MASKS = [
	0, 0x1ff, 0x7ff, 0xfff, 0x1fff, 0x3fff, 0x7fff, 0xffff, 0x1ffff, 0x3ffff, 0x7ffff, 0xa00, 0x1800, 0x2fff, 0x17000,
	0x1fffffff,
];
const UNSET = 2n ** 64n - 1n;
const BOUNDARIES = [
	0x7ffn,
	0xfffn,
	0x1fffn,
	0x3fffn,
	0x7fffn,
	0xffffn,
	0x1ffffn,
	0x3ffffn,
	0x7ffffn,
	0xfffffn,
	0xffffffffn,
	0x1ffffffffn,
	UNSET,
];

/** RAM from gpa 0, with stretches that adjoin, holes, and stretches on both sides of 4 GiB and far above. */
const RAM = [
	{ gpa: 0, bytes: 0x50000 },
	{ gpa: 0x50000, bytes: 0x3000 },
	{ gpa: 0x53000, bytes: 0x50000 },
	{ gpa: 0x200000, bytes: 0x50000 },
	{ gpa: 0xfffb0000, bytes: 0x50000 },
	{ gpa: 0x100000000, bytes: 0x50000 },
	{ gpa: 0x1234567000, bytes: 0x50000 },
	{ gpa: 0xffffffff80000, bytes: 0x50000 },
];

/** Pools: tiny, of odd segment counts, of many areas; aligned, page-aligned only, above 4 GiB. */
const POOLS = [
	{ slabs: 128, areas: 1, poolStart: 0x4000000 },
	{ slabs: 128, areas: 1, poolStart: 0x4003000 },
	{ slabs: 384, areas: 1, poolStart: 0x7fc5000 },
	{ slabs: 640, areas: 1, poolStart: 0x123451000 },
	{ slabs: 256, areas: 2, poolStart: 0x4001000 },
	{ slabs: 512, areas: 2, poolStart: 0xfff000 },
	{ slabs: 1024, areas: 4, poolStart: 0x1ffff7000 },
	{ slabs: 1024, areas: 8, poolStart: 0x22c00000 },
	{ slabs: 512, areas: 1, poolStart: 0x1000000000 },
];

/** The part of its operations that each test does, and the part of the hard cases that they must meet. */
const { done, met } = bySuite({ quick: { done: 1 / 6, met: 1 / 12 }, slow: { done: 1, met: 1 } });
const part = (count: number) => Math.ceil(count * done);

const cases = noCases();
const lockstep = await Lockstep.create(8 * 2 ** 20);
const large = await Lockstep.create(24 * 2 ** 20);

function seedOf(...numbers: number[]): number {
	return numbers.reduce((hash, n) => Math.imul(hash ^ n, 0x01000193) + 0x9e3779b1, SEED) | 0;
}

afterAll(() => {
	printSeed(`placement: ${lockstep.ops + large.ops} ops, ${JSON.stringify(cases)}`);
});

describe("placement: the engine, the kernel's list algorithm and a plain model answer alike", () => {
	it("for every pair of masks on every pool", () => {
		// one device per min_align_mask; each map of it takes one of the alloc_align_masks
		for (const [p, pool] of POOLS.entries()) {
			for (const [m, minAlignMask] of MASKS.entries()) {
				for (const [a, allocAlignMask] of MASKS.entries()) {
					const plan: GuestPlan = { ...pool, ram: RAM.slice(0, 3 + ((p + m + a) % 6)), devices: [{ minAlignMask }] };
					const load = {
						ops: part(220),
						fill: 0.7,
						allocAlignMasks: [allocAlignMask],
						largeOneIn: 12,
						listEvery: part(110),
					};
					lockstep.run(plan, load, seedOf(1, p, m, a), cases);
				}
			}
		}
	});

	it("for every segment boundary with every min_align_mask", () => {
		for (const [b, boundary] of BOUNDARIES.entries()) {
			for (const [m, minAlignMask] of MASKS.entries()) {
				for (const p of [b % POOLS.length, (b + m + 4) % POOLS.length]) {
					const pool = POOLS[p] as (typeof POOLS)[number];
					const plan: GuestPlan = { ...pool, ram: RAM, devices: [{ minAlignMask, boundary }] };
					const load = {
						ops: part(500),
						fill: 0.8,
						allocAlignMasks: MASKS.slice(0, 8),
						largeOneIn: 10,
						listEvery: part(250),
					};
					lockstep.run(plan, load, seedOf(2, b, m, p), cases);
				}
			}
		}
	});

	it("in pools that stay nearly full, with small and with large requests", () => {
		for (const [p, pool] of POOLS.entries()) {
			for (const [m, minAlignMask] of [0, 0x7ff, 0xfff, 0x3fff, 0x7fff, 0x1ffff].entries()) {
				for (const fill of [0.9, 0.98, 1]) {
					const plan: GuestPlan = { ...pool, ram: RAM.slice(0, 4), devices: [{ minAlignMask }] };
					const load = { ops: part(1200), fill, allocAlignMasks: [0, 0, 0xfff], largeOneIn: 40, listEvery: part(400) };
					lockstep.run(plan, load, seedOf(3, p, m, fill * 100), cases);
				}
			}
		}
	});

	it("for devices of all kinds on one pool, with limits that refuse some of its slots", () => {
		for (let i = 0; i < part(120); i++) {
			const random = new Random(seedOf(4, i));
			const pool = random.pick(POOLS);
			const devices: DevicePlan[] = Array.from({ length: 12 }, () => {
				const plan = { minAlignMask: random.pick(MASKS), boundary: random.pick(BOUNDARIES) };
				if (random.oneIn(2)) return plan;
				return { ...plan, dmaMask: BigInt(pool.poolStart + random.below(pool.slabs * 2048)) };
			});
			const load = {
				ops: 3000,
				fill: random.pick([0.3, 0.6, 0.9]),
				allocAlignMasks: MASKS,
				largeOneIn: 30,
				listEvery: 500,
			};
			lockstep.run({ ...pool, ram: RAM, devices }, load, random.u32(), cases);
		}
	});

	it("in larger pools, whose search skips many segments at a time", () => {
		for (let i = 0; i < part(6); i++) {
			const random = new Random(seedOf(5, i));
			const slabs = random.pick([2304, 4096, 6016]);
			const areas = slabs === 4096 ? random.pick([1, 2, 16]) : 1;
			const devices = [0xfff, 0, 0x7ff, 0xffff].map((minAlignMask) => ({
				minAlignMask,
				boundary: random.pick(BOUNDARIES),
			}));
			const load = {
				ops: 8000,
				fill: random.pick([0.85, 0.95, 1]),
				allocAlignMasks: [0, 0, 0xfff, 0x3fff],
				largeOneIn: 60,
				listEvery: 4000,
			};
			large.run({ slabs, areas, poolStart: 0x100003000, ram: RAM.slice(0, 4), devices }, load, random.u32(), cases);
		}
	});

	it("for any pool, masks, boundary, load and seed", () => {
		const someMask = fc.oneof(fc.constantFrom(...MASKS), fc.nat(0x7ffff), fc.nat(0x1fffffff));
		fc.assert(
			fc.property(
				fc.constantFrom(...POOLS),
				fc.array(fc.record({ minAlignMask: someMask, boundary: fc.constantFrom(...BOUNDARIES) }), {
					minLength: 1,
					maxLength: 4,
				}),
				fc.array(someMask, { minLength: 1, maxLength: 4 }),
				fc.integer({ min: 1, max: 10 }),
				fc.integer({ min: 1, max: 400 }),
				fc.nat(),
				(pool, devices, allocAlignMasks, tenths, ops, seed) => {
					const load = { ops, fill: tenths / 10, allocAlignMasks, largeOneIn: 20, listEvery: 100 };
					lockstep.run({ ...pool, ram: RAM, devices }, load, seed, cases);
				},
			),
			{ seed: SEED, numRuns: part(600) },
		);
	});

	it("and the hard cases were really met", () => {
		expect(lockstep.ops).toBeGreaterThan(met * 1_000_000);
		expect(cases.failedMaps).toBeGreaterThan(met * 100_000);
		expect(cases.wraps).toBeGreaterThan(met * 30_000);
		expect(cases.fallbacks).toBeGreaterThan(met * 5_000);
		expect(cases.bothMasks).toBeGreaterThan(met * 20_000);
		expect(cases.padded).toBeGreaterThan(met * 10_000);
		expect(cases.orig0).toBeGreaterThan(met * 20_000);
		expect(cases.boundaryRejections).toBeGreaterThan(met * 50_000);
		expect(cases.quirks).toBeGreaterThan(met * 2_000);
		expect(cases.oddMasks).toBeGreaterThan(met * 50_000);
	});
});
