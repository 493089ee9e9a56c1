import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { ATTR_TRANSIENT } from "../../assembly/layout/device.ts";
import * as status from "../../assembly/layout/status.ts";
import { GrowingPools } from "../../src/coco/memory/growing.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import type { Pool } from "../../src/swiotlb/pool.ts";
import { growthSizes, type PoolSize } from "../../src/swiotlb/sizing.ts";
import { Direction } from "../../src/types.ts";
import { GrowingLockstep, noGrowingCases } from "../helpers/growing-lockstep.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";

const POOL = 0x100000;
const FREE = 0x200000;
const { Bidirectional, ToDevice } = Direction;
const cases = noGrowingCases();
printSeed("dynamic");
const RUNS = bySuite({ quick: 8, slow: 40 });

const SIZES: PoolSize[] = [
	{ slabs: 128, areas: 1 },
	{ slabs: 256, areas: 2 },
	{ slabs: 512, areas: 4 },
	{ slabs: 512, areas: 2 },
];

describe("an allocator that grows", () => {
	it("answers as the rule in both builds, whatever happens, and goes on from a snapshot", async () => {
		await fc.assert(
			fc.asyncProperty(
				fc.nat(),
				fc.constantFrom(...SIZES),
				fc.integer({ min: 1, max: 5 }),
				async (seed, first, pools) => {
					const random = new Random(SEED ^ seed);
					const lockstep = await GrowingLockstep.create(first, random, cases);
					const restoreAt = random.below(400);
					const smaller = SIZES.filter(({ areas }) => areas <= first.areas);
					for (let i = 0, left = pools; i < 400; i++) {
						lockstep.step(first.slabs * (pools - left + 1) * 0.9);
						if (i === restoreAt || i === 399) await lockstep.restore();
						if (left > 1 && random.oneIn(40)) {
							lockstep.grow(random.pick(smaller));
							left--;
						}
					}
					lockstep.end();
				},
			),
			{ seed: SEED, numRuns: RUNS },
		);
	});

	afterAll(() => {
		expect(cases.maps).toBeGreaterThan(125 * RUNS);
		for (const [name, count] of Object.entries(cases)) expect(count, name).toBeGreaterThan(RUNS / 4);
		for (const name of ["transients", "unusable", "newestFirst", "offsetOutside"] as const)
			expect(cases[name], name).toBeGreaterThan(bySuite({ quick: 5, slow: 100 }));
	});

	async function guest() {
		const engine = await Engine.create({ swiotlb: null, ram: 0x400000, maxDevices: 8 });
		const first = engine.addPool({ slabs: 128, areas: 1 }, { start: POOL, grows: true });
		return { engine, first, x: engine.instance.exports, growing: new GrowingPools(engine, first) };
	}

	it("uses the newest pool first, and counts all pools together", async () => {
		const { engine, first, growing } = await guest();
		const device = engine.addDevice({ pool: first, forceBounce: true });
		const old = device.map(0, 2048, ToDevice);
		const second = engine.growPool(first, { slabs: 256, areas: 1 }, FREE);
		const third = engine.growPool(first, { slabs: 128, areas: 1 }, FREE + 0x80000);
		expect(growing.pools).toEqual([third, second, first]);
		const fresh = device.map(0, 262144, Bidirectional);
		const next = device.map(0, 4096, Bidirectional);
		expect([old, fresh, next]).toEqual([first.start, third.start, second.start]);
		expect([growing.used, growing.hiwater, growing.slabs, growing.transientSlabs]).toEqual([131, 131, 512, 0]);
		for (const [dma, bytes] of [
			[fresh, 262144],
			[next, 4096],
		] as const)
			expect(device.tryUnmap(dma, bytes, Bidirectional)).toBe(bytes);
		first.resetHiwater();
		expect([growing.used, growing.hiwater]).toEqual([1, 0]);
		device.unmap(old, 2048, ToDevice);
		expect([growing.used, device.tryMap(0, 300_000, ToDevice)]).toEqual([0, status.OVER_MAX_MAPPING]);
	});

	it("grows into pools of its first one's state and zeroing", async () => {
		const engine = await Engine.create({ swiotlb: null, ram: 0x400000 });
		const first = engine.addPool(
			{ slabs: 128, areas: 1 },
			{ start: POOL, state: PageState.Hidden, encrypted: true, zeroOnFree: true, grows: true },
		);
		engine.ram.fill(FREE, 0x40000, 9);
		const second = engine.growPool(first, { slabs: 128, areas: 1 }, FREE);
		expect(engine.ram.pageState(FREE)).toBe(PageState.Hidden);
		expect(engine.ram.read(FREE, 1)[0]).toBe(0);
		const device = engine.addDevice({ pool: first, forceBounce: true, privateBits: 2n ** 47n });
		engine.ram.fill(0, 4096, 7);
		const dma = device.map(0, 4096, ToDevice);
		expect([dma, engine.ram.read(FREE, 1)[0]]).toEqual([2 ** 47 + second.start, 7]);
		device.unmap(dma, 4096, ToDevice);
		expect(engine.ram.read(FREE, 1)[0]).toBe(0);
	});

	it("is refused pools where it cannot grow", async () => {
		const { engine, first } = await guest();
		const size = { slabs: 128, areas: 1 };
		const still = engine.addPool(size, { start: FREE });
		const grown = engine.growPool(first, size, FREE + 0x40000);
		expect(() => engine.growPool(still, size, FREE + 0x80000)).toThrow(/growPool.*BAD_POOL/);
		expect(() => engine.growPool(grown, size, FREE + 0x80000)).toThrow(/BAD_POOL/);
		expect(() => new GrowingPools(engine, still)).toThrow(/BAD_POOL/);
		expect(() => engine.growPool(first, size, FREE)).toThrow(/OVERLAP/);
		expect(() => engine.growPool(first, size, 0x3f0000)).toThrow(/OUTSIDE_RAM/);
		expect(() => engine.growPool(first, { slabs: 100, areas: 1 }, FREE + 0x80000)).toThrow(/BAD_ARGUMENT/);
		engine.ram.convert(FREE + 0x80000, 4096, PageState.Leaked);
		expect(() => engine.growPool(first, size, FREE + 0x80000)).toThrow(/BLOCKED_PAGES/);
		expect(engine.pools.length).toBe(3);
		expect(new GrowingPools(engine, first).pools).toEqual([grown, first]);
	});

	it("refuses transient pools by name, and makes nothing then", async () => {
		const { engine, first, x, growing } = await guest();
		engine.addPool({ slabs: 128, areas: 1 }, { start: FREE });
		engine.growPool(first, { slabs: 128, areas: 1 }, FREE + 0x40000);
		engine.ram.convert(0x3f0000, 4096, PageState.InTransition);
		const free = FREE + 0x80000;
		const refusals: [number, number, number, number][] = [
			[1, free, 1, status.BAD_POOL],
			[2, free, 1, status.BAD_POOL],
			[3, free, 1, status.BAD_POOL],
			[-1, free, 1, status.BAD_POOL],
			[0, free + 2048, 1, status.BAD_ARGUMENT],
			[0, free, 0, status.BAD_ARGUMENT],
			[0, free, 129, status.BAD_ARGUMENT],
			[0, free, -1, status.BAD_ARGUMENT],
			[0, 0x400000, 1, status.OUTSIDE_RAM],
			[0, 0x3ff000, 3, status.OUTSIDE_RAM],
			[0, 0x3ef000, 4, status.BLOCKED_PAGES],
			[0, POOL - 4096, 3, status.OVERLAP],
			[0, FREE, 1, status.OVERLAP],
		];
		for (const [pool, start, slots, answer] of refusals) expect(x.poolCreateTransient(pool, start, slots)).toBe(answer);
		expect([growing.transientSlabs, x.retiredTake()]).toEqual([0, -1]);
		expect(x.poolCreateTransient(0, free, 128)).toBe(0);
		expect(x.poolCreateTransient(0, free + 0x3f000, 2)).toBe(status.OVERLAP);
		expect(growing.transientSlabs).toBe(128);
		while (x.scratchTake(4096) !== 0);
		while (x.scratchTake(64) !== 0);
		expect(x.poolCreateTransient(0, free + 0x40000, 1)).toBe(status.CONTEXT_FULL);
	});

	it("keeps a transient pool from conversions and other pools until its mapping has ended", async () => {
		const { engine, first, x, growing } = await guest();
		const device = engine.addDevice({ pool: first, forceBounce: true });
		const all = device.map(0, 262144, ToDevice);
		expect(device.tryMap(0, 5000, Bidirectional)).toBe(status.NEEDS_TRANSIENT);
		expect(x.poolCreateTransient(0, FREE, 3)).toBe(0);
		engine.ram.fill(0x1000, 5000, 7);
		const map = (bytes: number) => x.mapSingle(device.index, 0x1000, bytes, Bidirectional, 0, ATTR_TRANSIENT);
		expect(map(5000)).toBe(FREE);
		expect([growing.used, growing.hiwater, growing.transientSlabs]).toEqual([131, 131, 3]);
		expect(() => engine.ram.convert(FREE, 4096, PageState.Private)).toThrow(/POOL_PAGES/);
		expect(() => engine.ram.convert(FREE + 4096, 8192, PageState.Private)).toThrow(/POOL_PAGES/);
		expect(() => engine.addPool({ slabs: 128, areas: 1 }, { start: FREE })).toThrow(/OVERLAP/);
		// it serves one mapping: the next one needs a pool of its own
		expect(map(100)).toBe(status.NEEDS_TRANSIENT);
		expect([x.retiredTake(), device.holds().bouncedMappings]).toEqual([-1, 2]);
		engine.ram.fill(FREE, 5000, 8);
		expect(device.syncForCpu(FREE + 100, 50, Bidirectional)).toBe(50);
		expect(device.tryUnmap(FREE, 5000, Bidirectional)).toBe(5000);
		expect(engine.ram.read(0x1000 + 4999, 1)[0]).toBe(8);
		expect([growing.used, growing.hiwater, growing.transientSlabs]).toEqual([128, 131, 0]);
		engine.ram.convert(FREE, 8192, PageState.Shared);
		expect([x.retiredTake(), x.retiredTake()]).toEqual([FREE, -1]);
		device.unmap(all, 262144, ToDevice);
		expect(growing.used).toBe(0);
	});

	it("gives a transient pool to nobody of another allocator, and takes one back that is of no use", async () => {
		const { engine, first, x, growing } = await guest();
		const other: Pool = engine.addPool({ slabs: 128, areas: 1 }, { start: FREE, grows: true });
		const [mine, others] = [first, other].map((pool) => engine.addDevice({ pool, minAlignMask: 0xffff }).index);
		const still = engine.addDevice({
			pool: engine.addPool({ slabs: 128, areas: 1 }, { start: FREE + 0x40000 }),
			minAlignMask: 0xfff,
		});
		const map = (device: number, orig: number) => x.swiotlbTblMap(device, orig, 100, 0, ToDevice, 0, ATTR_TRANSIENT);
		const free = FREE + 0x81000;
		expect(x.poolCreateTransient(0, free, 1)).toBe(0);
		expect(map(others as number, 0x11000)).toBe(status.NEEDS_TRANSIENT);
		expect(map(still.index, 0x11000)).toBe(status.NEEDS_TRANSIENT);
		expect(growing.transientSlabs).toBe(1);
		expect(map(mine as number, 0x12000)).toBe(status.UNUSABLE_POOL);
		expect([growing.transientSlabs, growing.used, x.retiredTake(), x.retiredTake()]).toEqual([0, 0, free, -1]);
		expect(x.poolCreateTransient(0, free, 1)).toBe(0);
		expect(map(mine as number, 0x11000)).toBe(free);
	});

	it("makes any number of transient pools in a context of one size", async () => {
		const { engine, first, x } = await guest();
		const { index } = engine.addDevice({ pool: first });
		let used = 0;
		for (let i = 0; i < 2000; i++) {
			expect(x.poolCreateTransient(0, FREE + (i % 100) * 4096, 2)).toBe(0);
			const tlb = x.swiotlbTblMap(index, 0, 4096, 0, ToDevice, 0, ATTR_TRANSIENT);
			expect(tlb).toBe(FREE + (i % 100) * 4096);
			expect(x.swiotlbTblUnmap(index, tlb, 4096, ToDevice, 0)).toBe(0);
			expect(x.retiredTake()).toBe(tlb);
			if (i === 0) used = x.contextUsedBytes();
		}
		expect(x.contextUsedBytes()).toBe(used);
	});
});

describe("the sizes that growth tries", () => {
	it.each([
		[2048, 16, ["2048/16", "1024/8", "512/4"]],
		[32768, 32, ["2048/16", "1024/8", "512/4"]],
		[32768, 4, ["2048/4", "1024/4", "512/4"]],
		[1024, 1, ["1024/1", "512/1"]],
		[512, 4, ["512/4"]],
		[256, 2, ["256/2"]],
		[128, 1, ["128/1"]],
		[768, 1, ["768/1", "384/1"]],
	])("of %i slots in %i areas are %s", (slabs, areas, sizes) => {
		expect(growthSizes(slabs, areas).map((size) => `${size.slabs}/${size.areas}`)).toEqual(sizes);
	});
});
