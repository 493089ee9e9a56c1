import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as status from "../../assembly/layout/status.ts";
import { Engine } from "../../src/engine.ts";
import { Attr, Direction } from "../../src/types.ts";
import type { Build } from "../../src/wasm.ts";
import { RawGuest } from "../helpers/guest.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { tlbOf } from "../helpers/slots.ts";

const POOL = 0x800000;
const RAM_BYTES = 0x400000;
const { Bidirectional, ToDevice, FromDevice } = Direction;
const ALL = [Bidirectional, ToDevice, FromDevice];
printSeed("bounce");

async function guest(options: { build?: Build; slabs?: number; dmaMask?: bigint; minAlignMask?: number } = {}) {
	const { build = "engine", slabs = 256, ...device } = options;
	const ram = [
		{ gpa: 0, bytes: RAM_BYTES },
		{ gpa: POOL, bytes: slabs * 2048 },
	];
	const engine = await Engine.create({ build, swiotlb: null, ram });
	const pool = engine.addPool({ slabs, areas: 1 }, { start: POOL });
	return { engine, pool, ram: engine.ram, device: engine.addDevice({ pool, forceBounce: true, ...device }) };
}

/** n bytes that differ from each other and from those of another `from`. */
function bytesFrom(from: number, n: number): Uint8Array {
	return Uint8Array.from({ length: n }, (_, i) => (from + i * 7 + (i >> 8)) & 0xff);
}

describe("a bounce mapping", () => {
	it.each(ALL)("starts as a copy of the original, whatever the direction (%i)", async (dir) => {
		const { ram, device } = await guest();
		const data = bytesFrom(3, 5000);
		ram.write(0x1234, data);
		const dma = device.map(0x1234, 5000, dir);
		expect(dma).toBeGreaterThanOrEqual(POOL);
		expect(ram.read(tlbOf(dma), 5000)).toEqual(data);
	});

	it.each([
		[Bidirectional, 0, true],
		[ToDevice, 0, false],
		[FromDevice, 0, true],
		[Bidirectional, Attr.SkipCpuSync, false],
		[ToDevice, Attr.SkipCpuSync, false],
		[FromDevice, Attr.SkipCpuSync, false],
	])("in direction %i with attributes %i copies back on unmap: %s", async (dir, attrs, copies) => {
		const { ram, device } = await guest();
		const before = bytesFrom(3, 3000);
		const written = bytesFrom(99, 3000);
		ram.write(0x5678, before);
		const dma = device.map(0x5678, 3000, dir);
		ram.write(tlbOf(dma), written);
		expect(device.tryUnmap(dma, 3000, dir, attrs)).toBe(copies ? 3000 : 0);
		expect(ram.read(0x5678, 3000)).toEqual(copies ? written : before);
		expect(device.counters).toMatchObject({ bytesIn: 3000, bytesBack: copies ? 3000 : 0, bouncedMaps: 1 });
	});

	it("leaves the freed slots' bytes as they are", async () => {
		const { ram, device } = await guest();
		const secret = bytesFrom(42, 4096);
		ram.write(0x1000, secret);
		const dma = device.map(0x1000, 4096, ToDevice);
		device.unmap(dma, 4096, ToDevice);
		expect(ram.read(tlbOf(dma), 4096)).toEqual(secret);
	});

	it("does not touch a byte around the original or the slots", async () => {
		const { ram, device } = await guest({ minAlignMask: 0xfff });
		for (const bytes of [1, 2, 3, 7, 8, 15, 16, 17, 100, 255, 256, 257, 600, 2047, 2048, 2049, 4096]) {
			ram.fill(0, 0x10000, 0xaa);
			ram.fill(POOL, 0x80000, 0xbb);
			const dma = device.map(0x2345, bytes, FromDevice);
			expect(ram.read(dma - 64, 64)).toEqual(new Uint8Array(64).fill(0xbb));
			expect(ram.read(dma + bytes, 64)).toEqual(new Uint8Array(64).fill(0xbb));
			ram.fill(tlbOf(dma), bytes, 0xcc);
			device.unmap(dma, bytes, FromDevice);
			expect(ram.read(0x2345 - 64, 64)).toEqual(new Uint8Array(64).fill(0xaa));
			expect(ram.read(0x2345, bytes)).toEqual(new Uint8Array(bytes).fill(0xcc));
			expect(ram.read(0x2345 + bytes, 64)).toEqual(new Uint8Array(64).fill(0xaa));
		}
	});

	it("beyond the device's mask leaves its bytes in the freed slots and the index advanced, as Linux does", async () => {
		// the mask ends with the pool's second page
		const { ram, pool, device } = await guest({ dmaMask: BigInt(POOL + 8191) });
		ram.write(0x1000, bytesFrom(1, 4096));
		const [first, second] = [device.map(0x1000, 4096, FromDevice), device.map(0x1000, 4096, FromDevice)];
		expect([first, second]).toEqual([POOL, POOL + 4096]);
		const secret = bytesFrom(77, 4096);
		ram.write(0x3000, secret);
		expect(device.tryMap(0x3000, 4096, FromDevice)).toBe(status.SLOTS_BEYOND_MASK);
		expect(ram.read(POOL + 8192, 4096)).toEqual(secret);
		expect(pool.areas()).toEqual([{ index: 6, used: 4 }]);
		expect([pool.used, pool.hiwater]).toEqual([4, 6]);
		expect(ram.read(0x3000, 4096)).toEqual(secret);
		expect(device.counters).toMatchObject({
			directMaps: 0,
			bouncedMaps: 2,
			beyondMask: 1,
			bytesIn: 12288,
			bytesBack: 0,
		});
		expect(pool.failures).toEqual({ poolFull: 0, overMaxMapping: 0 });
		expect(() => device.map(0x3000, 4096, FromDevice)).toThrow(/SLOTS_BEYOND_MASK/);
	});

	it("is refused above 128 slots, whatever is free, and nothing has happened", async () => {
		const { engine, pool, device } = await guest();
		const before = Buffer.from(engine.ram.view(0, RAM_BYTES));
		expect(device.tryMap(0, 262145, ToDevice)).toBe(status.OVER_MAX_MAPPING);
		expect(device.tryMap(0, RAM_BYTES, ToDevice)).toBe(status.OVER_MAX_MAPPING);
		expect(pool.failures).toEqual({
			poolFull: 0,
			overMaxMapping: 2,
			last: { slots: RAM_BYTES / 2048, usedSlots: 0, longestFreeRunSlots: 128 },
		});
		expect([pool.used, pool.hiwater]).toEqual([0, 0]);
		expect(device.counters).toMatchObject({ directMaps: 0, bouncedMaps: 0, beyondMask: 0, bytesIn: 0, bytesBack: 0 });
		expect(Buffer.compare(before, engine.ram.view(0, RAM_BYTES))).toBe(0);
		expect(engine.ram.view(POOL, pool.bytes).every((byte) => byte === 0)).toBe(true);
	});

	it("resets its pool's high-water mark to 0, from where it rises again", async () => {
		const { pool, device } = await guest();
		const dma = device.map(0, 8192, ToDevice);
		expect(pool.hiwater).toBe(4);
		pool.resetHiwater();
		expect(pool.hiwater).toBe(0);
		device.map(0, 2048, ToDevice);
		expect(pool.hiwater).toBe(5);
		device.unmap(dma, 8192, ToDevice);
		expect([pool.used, pool.hiwater]).toEqual([1, 5]);
	});
});

describe("a sync", () => {
	it.each([
		[Bidirectional, true, true],
		[ToDevice, true, false],
		[FromDevice, false, true],
	])("in direction %i copies for the device: %s, for the CPU: %s", async (dir, forDevice, forCpu) => {
		const { ram, device } = await guest();
		ram.fill(0x1000, 4096, 1);
		const dma = device.map(0x1000, 4096, dir);
		ram.fill(0x1000, 4096, 2);
		expect(device.syncForDevice(dma, 4096, dir)).toBe(forDevice ? 4096 : 0);
		expect(ram.read(tlbOf(dma), 1)[0]).toBe(forDevice ? 2 : 1);
		ram.fill(tlbOf(dma), 4096, 3);
		expect(device.syncForCpu(dma, 4096, dir)).toBe(forCpu ? 4096 : 0);
		expect(ram.read(0x1000, 1)[0]).toBe(forCpu ? 3 : 2);
		expect(device.counters.bytesIn).toBe(4096 + (forDevice ? 4096 : 0));
		expect(device.counters.bytesBack).toBe(forCpu ? 4096 : 0);
	});

	it("finds its mapping at every offset: engine, reference and a model of the bytes agree", async () => {
		const bytes = 2 * 2 ** 20;
		const pattern = new Random(SEED).bytes(65536);
		const guests = [await RawGuest.create("engine", bytes), await RawGuest.create("reference", bytes)];
		const orig = 0x3a00;
		const size = 3 * 2048 + 700;
		let compared = 0;
		for (const minAlignMask of [0, 0x1ff, 0x7ff, 0xfff, 0x3fff]) {
			for (const allocAlignMask of [0, 0xfff, 0x1fff]) {
				const plan = {
					slabs: 128,
					areas: 1,
					poolStart: 0x400000,
					ram: [{ gpa: 0, bytes: 0x10000 }],
					devices: [{ minAlignMask }],
				};
				for (const one of guests) {
					one.setUp(plan, pattern);
					one.bytes.set(pattern.subarray(7, 16391), 8192);
				}
				const tlbs = guests.map(({ x }) => x.swiotlbTblMap(0, orig, size, allocAlignMask, Bidirectional, 0));
				const tlb = tlbs[0] as number;
				expect(tlbs).toEqual([tlb, tlb]);
				const ram = Uint8Array.from(guests[0]?.ramBytes()[0] as Uint8Array);
				const pool = Uint8Array.from(guests[0]?.pool() as Uint8Array);
				const at = tlb - 0x400000;
				const starts = [
					0,
					1,
					2,
					511,
					512,
					513,
					1000,
					1535,
					1536,
					2047,
					2048,
					2049,
					3000,
					4095,
					4096,
					4097,
					6143,
					6144,
					size - 1,
				];
				for (const [i, start] of starts.entries()) {
					for (const n of [1, 3, 16, 100, 511, 2048, 2049, 4096]) {
						if (start + n > size) continue;
						// the device writes all of the mapping, the CPU gets a part; then the other way round
						const [from, other] = [8192 + ((i * 31 + n) % 4096), 8192 + ((i * 17 + n * 3) % 4096)];
						for (const { x } of guests) {
							x.ramWriteFrom(tlb, size, from);
							expect(x.syncForCpu(0, tlb + start, n, Bidirectional)).toBe(n);
							x.ramWriteFrom(orig, size, other);
							expect(x.syncForDevice(0, tlb + start, n, Bidirectional)).toBe(n);
						}
						const source = guests[0]?.bytes as Uint8Array;
						pool.set(source.subarray(from, from + size), at);
						ram.set(pool.subarray(at + start, at + start + n), orig + start);
						ram.set(source.subarray(other, other + size), orig);
						pool.set(ram.subarray(orig + start, orig + start + n), at + start);
						for (const one of guests) {
							if (
								Buffer.compare(one.pool(), pool) !== 0 ||
								Buffer.compare(one.ramBytes()[0] as Uint8Array, ram) !== 0
							) {
								expect.fail(`mam ${minAlignMask} aam ${allocAlignMask}: sync of ${n} bytes at ${start} differs`);
							}
							compared++;
						}
					}
				}
			}
		}
		expect(compared).toBeGreaterThan(3000);
	});

	it("is clamped to what the mapping has allocated, in both builds", async () => {
		for (const build of ["engine", "reference"] as const) {
			const { ram, device } = await guest({ build });
			// 5000 bytes without an alloc_align_mask: exactly 5000 are allocated
			const dma = device.map(0x1000, 5000, Bidirectional);
			expect(device.syncForDevice(dma, 100_000, Bidirectional)).toBe(5000);
			expect(device.syncForCpu(dma + 4096, 100_000, Bidirectional)).toBe(904);
			expect(device.syncForCpu(dma + 4999, 2, Bidirectional)).toBe(1);
			ram.fill(0x1000 + 5000, 100, 7);
			ram.fill(dma + 5000, 100, 9);
			device.syncForCpu(dma + 4000, 4096, Bidirectional);
			expect(ram.read(0x1000 + 5000, 100)).toEqual(new Uint8Array(100).fill(7));
		}
	});

	it("outside of every mapping's bytes is refused", async () => {
		const { device } = await guest({ minAlignMask: 0xfff });
		const dma = device.map(0x1e00, 3000, Bidirectional);
		for (const at of [dma - 1, dma - 0x600, dma + 3000, dma + 4096, POOL, POOL + 256 * 2048 - 1]) {
			expect(() => device.syncForCpu(at, 1, Bidirectional)).toThrow(/NOT_MAPPED/);
			expect(() => device.syncForDevice(at, 1, Bidirectional)).toThrow(/NOT_MAPPED/);
			expect(() => device.syncForCpu(at, 1, ToDevice)).toThrow(/NOT_MAPPED/);
		}
		expect(device.syncForCpu(dma + 2999, 1, Bidirectional)).toBe(1);
	});
});

describe("an unmap that Linux leaves undefined", () => {
	async function refusals() {
		const all = await guest({ minAlignMask: 0x7ff });
		const { engine, device, pool } = all;
		const stranger = engine.addDevice({ pool, forceBounce: true, minAlignMask: 0x7ff });
		const dma = device.map(0x1234, 6000, FromDevice);
		// a copy back, were there one, would show
		engine.ram.fill(tlbOf(dma), 6000, 0x77);
		const other = device.map(0x9234, 2000, ToDevice);
		return { ...all, stranger, dma, other };
	}

	it("is refused by name and changes nothing", async () => {
		const { engine, device, stranger, dma, other } = await refusals();
		device.unmap(other, 2000, ToDevice);
		const before = Buffer.from(engine.instance.bytes);
		const attempts: [number, () => number][] = [
			[status.NOT_MAPPED, () => device.tryUnmap(other, 2000, ToDevice)], // twice
			[status.NOT_MAPPED, () => device.tryUnmap(POOL + 100 * 2048, 6000, FromDevice)], // never mapped
			[status.NOT_MAPPED, () => device.tryUnmap(dma + 2048, 6000, FromDevice)], // its second slot
			[status.NOT_MAPPED, () => device.tryUnmap(dma + 1, 6000, FromDevice)],
			[status.NOT_MAPPED, () => device.tryUnmap(dma - 1, 6000, FromDevice)],
			[status.MISMATCH, () => device.tryUnmap(dma, 5999, FromDevice)],
			[status.MISMATCH, () => device.tryUnmap(dma, 6001, FromDevice)],
			[status.MISMATCH, () => device.tryUnmap(dma, 6000, Bidirectional)],
			[status.MISMATCH, () => device.tryUnmap(dma, 6000, ToDevice)],
			[status.MISMATCH, () => stranger.tryUnmap(dma, 6000, FromDevice)],
			[status.BAD_DIRECTION, () => device.tryUnmap(dma, 6000, 3 as never)],
			[status.BAD_DIRECTION, () => device.tryUnmap(dma, 6000, -1 as never)],
			[status.BAD_SIZE, () => device.tryUnmap(dma, 0, FromDevice)],
			[status.BAD_SIZE, () => device.tryUnmap(dma, -6000, FromDevice)],
			[status.BAD_SIZE, () => device.tryUnmap(dma, 2 ** 32 + 6000, FromDevice)],
			[status.BAD_SIZE, () => device.tryUnmap(dma, 6000.5, FromDevice)],
			[status.OUTSIDE_RAM, () => device.tryUnmap(dma + 0.5, 6000, FromDevice)],
			[status.OUTSIDE_RAM, () => device.tryUnmap(2 ** 53, 6000, FromDevice)],
			[status.OUTSIDE_RAM, () => device.tryUnmap(Number.NaN, 6000, FromDevice)],
			[status.OUTSIDE_RAM, () => device.tryUnmap(0x700000, 6000, FromDevice)],
		];
		const got = attempts.map(([, attempt]) => attempt());
		expect(got).toEqual(attempts.map(([expected]) => expected));
		expect(Buffer.compare(before, engine.instance.bytes)).toBe(0);
		expect(device.tryUnmap(dma, 6000, FromDevice)).toBe(6000);
	});

	it("throws an error that names the call and its arguments", async () => {
		const { device, dma } = await refusals();
		device.unmap(dma, 6000, FromDevice);
		expect(() => device.unmap(dma, 6000, FromDevice)).toThrow(
			`unmap(0x${dma.toString(16)}, 6000 bytes, FROM_DEVICE) on device 0: NOT_MAPPED: no live mapping starts there`,
		);
	});

	it("is refused while the original's pages are blocked, and works once they are back", async () => {
		const { ram, pool, device, dma } = await refusals();
		ram.convert(0x2000, 4096, 3);
		const used = pool.used;
		expect(device.tryUnmap(dma, 6000, FromDevice)).toBe(status.BLOCKED_PAGES);
		expect(pool.used).toBe(used);
		ram.convert(0x2000, 4096, 1);
		expect(device.tryUnmap(dma, 6000, FromDevice)).toBe(6000);
	});

	it("never disturbs the live mappings, whatever address, size and direction it names", async () => {
		const { pool, device } = await guest({ slabs: 128, minAlignMask: 0xfff });
		fc.assert(
			fc.property(
				fc.array(
					fc.record({ orig: fc.nat(0x1000), bytes: fc.integer({ min: 1, max: 9000 }), dir: fc.constantFrom(...ALL) }),
					{ minLength: 1, maxLength: 12 },
				),
				fc.array(
					fc.record({
						at: fc.nat(256 * 1024 - 1),
						unit: fc.constantFrom(1, 512, 2048),
						bytes: fc.integer({ min: -1, max: 9000 }),
						dir: fc.integer({ min: -1, max: 3 }),
					}),
					{ maxLength: 40 },
				),
				(maps, attempts) => {
					const live = maps
						.map((each) => ({ ...each, dma: device.tryMap(each.orig, each.bytes, each.dir) }))
						.filter(({ dma }) => dma >= 0);
					const used = pool.used;
					for (const { at, unit, bytes, dir } of attempts) {
						const dma = POOL + at - (at % unit);
						if (live.some((one) => one.dma === dma && one.bytes === bytes && one.dir === dir)) continue;
						expect(device.tryUnmap(dma, bytes, dir as Direction)).toBeLessThan(0);
						expect(pool.used).toBe(used);
					}
					for (const { dma, bytes, dir } of live) expect(device.tryUnmap(dma, bytes, dir)).toBeGreaterThanOrEqual(0);
					expect(pool.used).toBe(0);
				},
			),
			{ seed: SEED, numRuns: 300 },
		);
		expect(pool.list()).toEqual(Uint16Array.from({ length: 128 }, (_, slot) => 128 - slot));
	});
});
