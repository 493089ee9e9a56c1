import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as status from "../../assembly/layout/status.ts";
import type { Device } from "../../src/dma/device.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import type { Pool, PoolOptions } from "../../src/swiotlb/pool.ts";
import { Attr, Direction } from "../../src/types.ts";
import type { Build } from "../../src/wasm.ts";
import { printSeed, SEED } from "../helpers/random.ts";
import { tlbOf } from "../helpers/slots.ts";

const RAM_BYTES = 0x400000;
const POOL = 0x300000;
const SECOND = 0x380000;
const { Bidirectional, ToDevice, FromDevice } = Direction;
const DIRECTIONS = [Bidirectional, ToDevice, FromDevice];
const BUILDS: Build[] = ["engine", "reference", "debug", "engine.threads"];
const BIT47 = 2 ** 47;
const BIT51 = 2 ** 51;
printSeed("pools");

async function guest(options: PoolOptions = {}, build: Build = "engine"): Promise<{ engine: Engine; pool: Pool }> {
	const engine = await Engine.create({ build, swiotlb: null, ram: RAM_BYTES, spareBytes: 262144 });
	return { engine, pool: engine.addPool({ slabs: 256, areas: 2 }, { ...options, start: POOL }) };
}

describe("a pool's pages", () => {
	it.each([
		["shared", {}, PageState.Shared, BIT47],
		["private", { state: PageState.Private }, PageState.Private, BIT51],
		["hidden from the host", { state: PageState.Hidden }, PageState.Hidden, BIT47],
		["hidden, in private form", { state: PageState.Hidden, encrypted: true }, PageState.Hidden, BIT51],
		["private, in shared form", { state: PageState.Private, encrypted: false }, PageState.Private, BIT47],
		["shared, in private form", { state: PageState.Shared, encrypted: true }, PageState.Shared, BIT51],
	])("are %s, and its addresses say so", async (_, options, state, bit) => {
		const { engine, pool } = await guest(options);
		for (let at = 0; at < pool.bytes; at += 4096) expect(engine.ram.pageState(POOL + at)).toBe(state);
		expect(engine.ram.pagesInState(PageState.Private)).toBe(
			(RAM_BYTES - pool.bytes) / 4096 + (state === PageState.Private ? pool.bytes / 4096 : 0),
		);
		const bits = { privateBits: BigInt(BIT51), sharedBits: BigInt(BIT47) };
		const device = engine.addDevice({ pool, forceBounce: true, minAlignMask: 0xfff, ...bits });
		engine.ram.fill(0x1200, 3000, 7);
		const dma = device.map(0x1200, 3000, Bidirectional);
		expect(dma).toBe(bit + POOL + 0x200);
		engine.ram.fill(POOL + 0x200, 3000, 8);
		expect(device.syncForCpu(dma + 10, 20, Bidirectional)).toBe(20);
		expect([9, 10, 29, 30].map((at) => engine.ram.read(0x1200 + at, 1)[0])).toEqual([7, 8, 8, 7]);
		expect(device.tryUnmap(dma, 3000, Bidirectional)).toBe(3000);
		expect(pool.used).toBe(0);
		// the mask counts after encoding
		const short = engine.addDevice({ pool, forceBounce: true, dmaMask: BigInt(BIT47 - 1), ...bits });
		expect(short.tryMap(0x1200, 100, ToDevice)).toBe(status.SLOTS_BEYOND_MASK);
		expect(() => engine.ram.convert(POOL, 4096, PageState.Shared)).toThrow(/POOL_PAGES/);
	});

	it("are zeroed when the pool is made, and never take another state", async () => {
		const { engine } = await guest();
		engine.ram.fill(SECOND, 0x40000, 9);
		const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: SECOND, state: PageState.Private });
		expect(engine.ram.view(SECOND, pool.bytes).every((byte) => byte === 0)).toBe(true);
		for (const state of [PageState.InTransition, PageState.Leaked, 9 as PageState]) {
			expect(() => engine.addPool({ slabs: 128, areas: 1 }, { start: 0x200000, state })).toThrow(/BAD_ARGUMENT/);
		}
	});
});

describe("a pool that zeroes what is given back", () => {
	/** Where RAM of the pool is not `value` any more: first and last offset. */
	const zeroed = (engine: Engine, from: number, bytes: number) => {
		const view = engine.ram.view(from, bytes);
		return [view.indexOf(0), view.lastIndexOf(0) + 1];
	};

	it.each(BUILDS)("does so at once, padding too, whatever the direction (%s)", async (build) => {
		const { engine, pool } = await guest({ zeroOnFree: true }, build);
		const { swiotlbTblMap: map, swiotlbTblUnmap: unmap } = engine.instance.exports;
		const { index } = engine.addDevice({ pool, minAlignMask: 0x3fff });
		const cases = { padded: 0, behind: 0 };
		await fc.assert(
			fc.property(
				fc.integer({ min: 0, max: 0x1ffff }),
				fc.integer({ min: 1, max: 40_000 }),
				fc.constantFrom(0, 0xfff, 0x3fff),
				fc.constantFrom(...DIRECTIONS),
				fc.constantFrom(0, Attr.SkipCpuSync),
				(orig, bytes, allocAlignMask, dir, attrs) => {
					engine.ram.fill(orig, bytes, 1);
					const below = map(index, 0x40000, 2048, 0, ToDevice, 0);
					const tlb = map(index, orig, bytes, allocAlignMask, dir, 0);
					const above = map(index, 0x40800, 2048, 0, ToDevice, 0);
					// what a device may write: all of the pool
					engine.ram.fill(POOL, pool.bytes, 0x55);
					const copied = unmap(index, tlb, bytes, dir, attrs);
					const zeroes = zeroed(engine, POOL, pool.bytes);
					unmap(index, below, 2048, ToDevice, 0);
					unmap(index, above, 2048, ToDevice, 0);
					const offset = orig & 0x3fff & (allocAlignMask | 0x7ff);
					const allocated = (bytes + offset + allocAlignMask) & ~allocAlignMask;
					const start = Math.floor((tlb - POOL) / 2048) - (offset >> 11);
					expect(zeroes).toEqual([start * 2048, (start + Math.ceil(allocated / 2048)) * 2048]);
					const view = engine.ram.view(POOL + start * 2048, allocated);
					expect(view.every((byte) => byte === 0)).toBe(true);
					const back = attrs === 0 && dir !== ToDevice;
					expect(copied).toBe(back ? bytes : 0);
					expect(engine.ram.view(orig, bytes).every((byte) => byte === (back ? 0x55 : 1))).toBe(true);
					if (offset >= 2048) cases.padded++;
					if (allocated - offset - bytes >= 2048) cases.behind++;
				},
			),
			{ seed: SEED, numRuns: 100 },
		);
		expect(Math.min(cases.padded, cases.behind)).toBeGreaterThan(10);
		expect(pool.used).toBe(0);
	});

	it.each([
		[true, 0],
		[false, 7],
	])("or not (%s): a map refused after its copy leaves %s %i", async (zeroOnFree, residue) => {
		const { engine, pool } = await guest({ zeroOnFree });
		const device = engine.addDevice({ pool, forceBounce: true, dmaMask: BigInt(POOL - 1) });
		engine.ram.fill(0x1000, 5000, 7);
		expect(device.tryMap(0x1000, 5000, ToDevice)).toBe(status.SLOTS_BEYOND_MASK);
		expect([0, 4999].map((at) => engine.ram.read(POOL + at, 1)[0])).toEqual([residue, residue]);
		expect([pool.used, device.counters.beyondMask, device.counters.bouncedMaps]).toEqual([0, 1, 0]);
		const reaching = engine.addDevice({ pool, forceBounce: true });
		const dma = reaching.map(0x1000, 5000, FromDevice);
		reaching.unmap(dma, 5000, FromDevice);
		expect([0, 4999].map((at) => engine.ram.read(dma + at, 1)[0])).toEqual([residue, residue]);
	});

	it("leaves a mapping alone whose unmap is refused", async () => {
		const { engine, pool } = await guest({ zeroOnFree: true });
		const device = engine.addDevice({ pool, forceBounce: true });
		engine.ram.fill(0x1000, 4096, 7);
		const dma = device.map(0x1000, 4096, FromDevice);
		engine.ram.convert(0x1000, 4096, PageState.InTransition);
		expect(device.tryUnmap(dma, 4096, FromDevice)).toBe(status.BLOCKED_PAGES);
		expect(device.tryUnmap(dma, 4095, FromDevice)).toBe(status.MISMATCH);
		expect(device.tryUnmap(dma + 2048, 100, FromDevice)).toBe(status.NOT_MAPPED);
		expect([pool.used, engine.ram.read(tlbOf(dma), 1)[0]]).toEqual([2, 7]);
		engine.ram.convert(0x1000, 4096, PageState.Private);
		expect(device.tryUnmap(dma, 4096, FromDevice)).toBe(4096);
		expect([pool.used, engine.ram.read(tlbOf(dma), 1)[0]]).toEqual([0, 0]);
	});
});

describe("a pool that is disabled", () => {
	it.each(BUILDS)("serves nothing and reports every slot as used (%s)", async (build) => {
		const { engine } = await guest({}, build);
		const { exports } = engine.instance;
		engine.ram.fill(SECOND, 0x40000, 9);
		const second = engine.addPool({ slabs: 128, areas: 1 }, { start: SECOND, disabled: true });
		expect([engine.ram.pageState(SECOND), engine.ram.read(SECOND, 1)[0]]).toEqual([PageState.Private, 9]);
		const device = engine.addDevice({ pool: second, forceBounce: true });
		for (const bytes of [1, 2048, 4096, 262144]) {
			for (const cpu of [0, 1]) expect(device.tryMap(0x1000, bytes, ToDevice, cpu)).toBe(status.POOL_FULL);
		}
		expect(exports.swiotlbAlloc(device.index, 100, 0, 0)).toBe(status.POOL_FULL);
		const free = [...second.list()].filter((each) => each !== 0);
		expect([second.used, second.longestFreeRun, free]).toEqual([second.slabs, 0, []]);
	});
});

describe("a device with a second pool, for buffers on private pages", () => {
	it.each([
		["6.12", false],
		["7.3", true],
	] as const)("is served by it under the rules of %s", async (_, checksState) => {
		const { engine, pool } = await guest();
		const own = engine.addPool(
			{ slabs: 128, areas: 1 },
			{ start: SECOND, state: PageState.Private, encrypted: checksState },
		);
		engine.ram.convert(0x10000, 0x10000, PageState.Shared);
		const device = engine.addDevice({
			pool,
			privatePool: own,
			forceBounce: true,
			checksState,
			sharedBits: BigInt(BIT47),
		});
		const attrs = checksState ? Attr.CcShared : 0;
		engine.ram.fill(0, 0x20000, 3);
		const onPrivate = device.map(0x1000, 5000, Bidirectional, 0);
		expect(onPrivate).toBe(checksState ? SECOND : SECOND + BIT47);
		// 7.3: the caller's CC_SHARED says it; the shared pool is then of the wrong state for a device that is trusted
		const onShared = device.tryMap(0x11000, 5000, Bidirectional, 0, attrs);
		expect(Math.min(onShared, 0)).toBe(checksState ? status.POOL_STATE : 0);
		expect([pool.used, own.used]).toEqual([checksState ? 0 : 3, 3]);
		engine.ram.fill(SECOND, 5000, 4);
		expect(device.syncForCpu(onPrivate + 100, 200, Bidirectional)).toBe(200);
		expect([99, 100, 299, 300].map((at) => engine.ram.read(0x1000 + at, 1)[0])).toEqual([3, 4, 4, 3]);
		engine.ram.fill(0x1000, 5000, 5);
		expect(device.syncForDevice(onPrivate, 5000, Bidirectional)).toBe(5000);
		expect(engine.ram.read(SECOND + 4999, 1)[0]).toBe(5);
		expect(device.holds()).toEqual({ directMappings: 0, bouncedMappings: checksState ? 1 : 2 });
		expect(device.tryUnmap(onPrivate, 5000, Bidirectional)).toBe(5000);
		if (!checksState) expect(device.tryUnmap(onShared, 5000, Bidirectional)).toBe(5000);
		expect([pool.used, own.used, device.holds().bouncedMappings]).toEqual([0, 0, 0]);
		expect(device.tryUnmap(onPrivate, 5000, Bidirectional)).toBe(status.NOT_MAPPED);
		// without it both lie in the one pool
		device.configure({ pool, forceBounce: true });
		expect([device.map(0x1000, 100, ToDevice), device.map(0x11000, 100, ToDevice)].every((at) => at < SECOND)).toBe(
			true,
		);
	});

	it("cannot be given a pool that grows, or none", async () => {
		const { engine, pool } = await guest();
		engine.addPool({ slabs: 128, areas: 1 }, { start: SECOND, grows: true });
		const device = engine.addDevice({ pool });
		const { exports } = engine.instance;
		expect(exports.deviceSetPrivatePool(device.index, 1)).toBe(status.BAD_POOL);
		expect(exports.deviceSetPrivatePool(device.index, 2)).toBe(status.BAD_POOL);
		expect(exports.deviceSetPrivatePool(9, 0)).toBe(status.BAD_DEVICE);
	});
});

describe("slots without an original", () => {
	it.each(BUILDS)("are aligned as asked, copy nothing, and are released alone (%s)", async (build) => {
		const { engine, pool } = await guest({}, build);
		const { exports } = engine.instance;
		// orig 0 is exempt from the min_align_mask comparison
		const device = engine.addDevice({ pool, minAlignMask: 0xffff });
		engine.ram.fill(0, 0x20000, 7);
		engine.ram.fill(POOL, pool.bytes, 9);
		const held: [number, number][] = [];
		for (const [bytes, alignMask] of [
			[100, 0],
			[4096, 0xfff],
			[12288, 0x3fff],
			[65536, 0xffff],
		] as const) {
			const tlb = exports.swiotlbAlloc(device.index, bytes, alignMask, 0);
			expect(tlb).toBeGreaterThanOrEqual(POOL);
			expect(tlb & alignMask).toBe(0);
			held.push([tlb, bytes]);
		}
		expect(pool.used).toBe(1 + 2 + 8 + 32);
		expect(engine.ram.view(POOL, pool.bytes).every((byte) => byte === 9)).toBe(true);
		if (build !== "reference") expect(device.holds().bouncedMappings).toBe(4);
		for (const [tlb, bytes] of held) {
			expect(exports.swiotlbTblUnmap(device.index, tlb, bytes, Bidirectional, Attr.SkipCpuSync)).toBe(0);
		}
		expect([pool.used, engine.ram.view(0, 0x20000).every((byte) => byte === 7)]).toEqual([0, true]);
		expect(exports.swiotlbAlloc(device.index, 0, 0, 0)).toBe(status.BAD_SIZE);
		expect(exports.swiotlbAlloc(9, 100, 0, 0)).toBe(status.BAD_DEVICE);
		expect(exports.swiotlbAlloc(device.index, 300_000, 0, 0)).toBe(status.OVER_MAX_MAPPING);
		const poolless: Device = engine.addDevice({ pool: null });
		expect(exports.swiotlbAlloc(poolless.index, 100, 0, 0)).toBe(status.NO_POOL);
	});
});
