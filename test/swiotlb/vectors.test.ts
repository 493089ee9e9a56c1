/** Golden vectors of Linux 6.12's swiotlb: pool at 0x4000000, one area unless said otherwise. */
import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine.ts";
import type { Pool } from "../../src/swiotlb/pool.ts";
import { Direction } from "../../src/types.ts";
import type { Build } from "../../src/wasm.ts";

const START = 0x4000000;
const { ToDevice } = Direction;

describe.each(["engine", "reference", "debug"] as const)("golden vectors on the build %s", (build: Build) => {
	async function guest(slabs: number, areas = 1, options: { minAlignMask?: number; segBoundaryMask?: bigint } = {}) {
		const engine = await Engine.create({ build, swiotlb: null, ram: [{ gpa: 0, bytes: START + slabs * 2048 }] });
		const pool = engine.addPool({ slabs, areas }, { start: START });
		const device = engine.addDevice({ pool, ...options });
		const { exports } = engine.instance;
		const map = (orig: number, bytes: number, allocAlignMask = 0, cpu = 0) =>
			exports.swiotlbTblMap(device.index, orig, bytes, allocAlignMask, ToDevice, cpu);
		const unmap = (tlb: number, bytes: number) =>
			expect(exports.swiotlbTblUnmap(device.index, tlb, bytes, ToDevice, 0)).toBe(0);
		return { engine, pool, device, map, unmap };
	}

	function list(pool: Pool, ...slots: number[]): number[] {
		const all = pool.list();
		return slots.map((slot) => all[slot] as number);
	}

	it("V1: every slot counts the free ones up to its segment's end", async () => {
		const { pool } = await guest(256);
		expect(list(pool, 0, 1, 126, 127, 128, 255)).toEqual([128, 127, 2, 1, 128, 1]);
	});

	it("V2 to V7: small, page-sized and whole-segment mappings come and go", async () => {
		const { pool, map, unmap } = await guest(256);
		const index = () => pool.areas()[0]?.index;
		expect(map(0x123456, 100)).toBe(0x4000000);
		expect(list(pool, 0, 1, 2)).toEqual([0, 127, 126]);
		expect(index()).toBe(1);
		// slot 1 is skipped: without masks, a page and more is page-aligned
		expect(map(0x200010, 4096)).toBe(0x4001000);
		expect(list(pool, 1, 2, 3, 4, 5)).toEqual([1, 0, 0, 124, 123]);
		expect(index()).toBe(4);
		expect(pool.used).toBe(3);
		expect(map(0x300000, 262144)).toBe(0x4040000);
		expect(index()).toBe(0);
		expect(pool.used).toBe(131);
		expect(map(0x300000, 262144)).toBe(-7);
		expect(pool.failures).toEqual({
			poolFull: 1,
			overMaxMapping: 0,
			last: { slots: 128, usedSlots: 131, longestFreeRunSlots: 124 },
		});
		unmap(0x4000000, 100);
		expect(list(pool, 0, 1, 2, 3)).toEqual([2, 1, 0, 0]);
		unmap(0x4001000, 4096);
		expect(list(pool, 0, 1, 2, 3, 4)).toEqual([128, 127, 126, 125, 124]);
		expect(pool.used).toBe(128);
		expect(pool.hiwater).toBe(131);
	});

	it("V8 and V9: the bounce address keeps orig's low bits, by offset and by pre-padding", async () => {
		const { engine, pool, device, map } = await guest(256, 1, { minAlignMask: 0xfff });
		expect(map(0x1000e00, 4096)).toBe(0x4000e00);
		expect(pool.used).toBe(3);
		// slot 0 stays free, slots 1 to 3 are taken
		expect(list(pool, 0, 1, 2, 3, 4)).toEqual([1, 0, 0, 0, 124]);
		expect(map(0x2001a00, 4096, 0xfff)).toBe(0x4002a00);
		expect(pool.used).toBe(7);
		// one slot of padding before the mapping, so its slots are 4 to 7
		expect(list(pool, 3, 4, 7, 8)).toEqual([0, 0, 0, 120]);
		// what a sync may copy at most is what was allocated: 4096 bytes of the first, 7680 - 2048 from V9's first real slot
		const all = 8192;
		expect(device.syncForDevice(0x4000e00, all, ToDevice)).toBe(4096);
		expect(device.syncForDevice(0x4000e00 + 2048, all, ToDevice)).toBe(2048);
		expect(device.syncForDevice(0x4002a00, all, ToDevice)).toBe(5632);
		expect(device.syncForDevice(0x4002a00 + 2048, all, ToDevice)).toBe(3584);
		expect(device.syncForDevice(0x4002a00 + 4096, all, ToDevice)).toBe(1536);
		// orig of the slots behind the first
		engine.ram.write(0x1000e00, Uint8Array.of(1));
		engine.ram.write(0x1001600, Uint8Array.of(2));
		engine.ram.write(0x1001dff, Uint8Array.of(3));
		device.syncForDevice(0x4000e00, 4096, ToDevice);
		expect([0, 0x800, 0xfff].map((at) => engine.ram.read(0x4000e00 + at, 1)[0])).toEqual([1, 2, 3]);
	});

	it("V11: with min_align_mask 0xfff the largest mapping at any offset is 252 KiB", async () => {
		const { map } = await guest(256, 1, { minAlignMask: 0xfff });
		expect(map(0x1000fff, 262144)).toBe(-8);
		expect(map(0x1000fff, 258048)).toBe(0x4000fff);
	});

	it("V12: a CPU maps in its own area", async () => {
		const { pool, map } = await guest(256, 2);
		expect(map(0x100000, 2048, 0, 1)).toBe(0x4040000);
		expect(map(0x100000, 2048, 0, 1)).toBe(0x4040800);
		expect(pool.areas()).toEqual([
			{ index: 0, used: 0 },
			{ index: 2, used: 2 },
		]);
	});

	it("V13: a full area spills to the next one, and from the last one to the first", async () => {
		const { pool, map } = await guest(256, 2);
		expect(map(0x100000, 262144, 0, 1)).toBe(0x4040000);
		expect(map(0x100000, 2048, 0, 1)).toBe(0x4000000);
		expect(map(0x100000, 2048, 0, 3)).toBe(0x4000800);
		expect(pool.areas()).toEqual([
			{ index: 2, used: 2 },
			{ index: 0, used: 128 },
		]);
	});

	it("V15: with every other slot free a page finds no room", async () => {
		const { pool, map, unmap } = await guest(128);
		const all = Array.from({ length: 128 }, () => map(0x100000, 2048));
		for (const [i, tlb] of all.entries()) if (i % 2 === 1) unmap(tlb, 2048);
		expect(pool.used).toBe(64);
		expect(map(0x100000, 4096)).toBe(-7);
		expect(pool.failures.last).toEqual({ slots: 2, usedSlots: 64, longestFreeRunSlots: 1 });
	});

	it("V16: a boundary of 64 KiB admits 64 KiB and no more", async () => {
		const { pool, map } = await guest(256, 1, { segBoundaryMask: 0xffffn });
		expect(map(0x100000, 65536)).toBe(0x4000000);
		expect(map(0x100000, 67584)).toBe(-7);
		expect(pool.used).toBe(32);
	});
});
