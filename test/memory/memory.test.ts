import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as layout from "../../assembly/layout/context.ts";
import * as status from "../../assembly/layout/status.ts";
import { Engine } from "../../src/engine.ts";
import { PageState, RangeState } from "../../src/memory/ram.ts";
import { Direction } from "../../src/types.ts";
import { createMemory, Instance, loadModule } from "../../src/wasm.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { tlbOf } from "../helpers/slots.ts";

const { Shared, Private, Hidden, InTransition, Leaked } = PageState;
const PAGE = 4096;
printSeed("memory");

const HOSTILE = [
	Number.NaN,
	Number.POSITIVE_INFINITY,
	Number.NEGATIVE_INFINITY,
	-1,
	-0.5,
	-4096,
	0.5,
	4096.25,
	2 ** 31,
	2 ** 32,
	2 ** 32 + 4096,
	2 ** 52,
	2 ** 52 - 1,
	2 ** 53,
	2 ** 64,
	1e300,
	Number.MIN_VALUE,
];

async function engineOf(ram: readonly { gpa: number; bytes: number; ptr?: number }[]): Promise<Engine> {
	return Engine.create({ swiotlb: null, ram });
}

/** An engine over stretches in a memory of the test's own; ptrs as given. */
async function placed(
	ram: readonly { gpa: number; bytes: number; ptr: number }[],
	memoryBytes: number,
): Promise<Engine> {
	const memory = createMemory(memoryBytes, false);
	const bytes = Engine.contextBytes({ swiotlb: null, ram });
	return Engine.create({ swiotlb: null, ram, memory, context: { ptr: 64, bytes } });
}

function same(got: Uint8Array, expected: Uint8Array): void {
	expect(Buffer.compare(got, expected)).toBe(0);
}

describe("RAM in stretches", () => {
	it("is read and written below a hole, above it, above 4 GiB and at the end of the address space", async () => {
		const ram = [
			{ gpa: 0, bytes: 0x4000 },
			{ gpa: 0x100000, bytes: 0x2000 },
			{ gpa: 2 ** 32, bytes: 0x3000 },
			{ gpa: 2 ** 40 + 0x7000, bytes: 0x1000 },
			{ gpa: 2 ** 52 - 0x2000, bytes: 0x2000 },
		];
		const engine = await engineOf(ram);
		for (const [i, { gpa, bytes }] of ram.entries()) {
			engine.ram.fill(gpa, bytes, i + 1);
		}
		for (const [i, { gpa, bytes }] of ram.entries()) {
			same(engine.ram.read(gpa, bytes), new Uint8Array(bytes).fill(i + 1));
			for (const [at, n] of [
				[gpa - 1, 1],
				[gpa - 1, 2],
				[gpa + bytes, 1],
				[gpa + bytes - 1, 2],
				[gpa, bytes + 1],
			] as const) {
				expect(() => engine.ram.read(at, n)).toThrow(/OUTSIDE_RAM/);
				expect(() => engine.ram.write(at, new Uint8Array(n))).toThrow(/OUTSIDE_RAM/);
				expect(() => engine.ram.fill(at, n, 9)).toThrow(/OUTSIDE_RAM/);
				expect(() => engine.ram.view(at, n)).toThrow(/OUTSIDE_RAM/);
			}
		}
		expect(engine.ram.bytes).toBe(0xc000);
	});

	it("that adjoin in the guest but not in memory are one range, for every access and copy", async () => {
		// in memory they lie in reverse, with gaps
		const ram = [0, 1, 2, 3, 4].map((i) => ({ gpa: 0x10000 + i * PAGE, bytes: PAGE, ptr: 0x60000 - i * 2 * PAGE }));
		const all = [...ram, { gpa: 0x100000, bytes: 0x40000, ptr: 0x80000 }];
		const engine = await placed(all, 0x100000);
		const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: 0x100000 });
		const device = engine.addDevice({ pool, forceBounce: true });
		const random = new Random(SEED);
		const model = new Uint8Array(5 * PAGE);
		for (let i = 0; i < 300; i++) {
			const at = random.below(5 * PAGE - 1);
			const n = 1 + random.below(5 * PAGE - at);
			const data = random.bytes(n);
			engine.ram.write(0x10000 + at, data);
			model.set(data, at);
			const from = random.below(5 * PAGE - 1);
			const length = 1 + random.below(5 * PAGE - from);
			same(engine.ram.read(0x10000 + from, length), model.subarray(from, from + length));
			// a bounce gathers from the stretches and scatters back
			const dma = device.map(0x10000 + from, length, Direction.Bidirectional);
			same(engine.ram.read(tlbOf(dma), length), model.subarray(from, from + length));
			const written = random.bytes(length);
			engine.ram.write(tlbOf(dma), written);
			model.set(written, from);
			device.unmap(dma, length, Direction.Bidirectional);
		}
		same(engine.ram.read(0x10000, 5 * PAGE), model);
		engine.ram.fill(0x10800, 4 * PAGE, 0x5a);
		model.fill(0x5a, 0x800, 0x800 + 4 * PAGE);
		same(engine.ram.read(0x10000, 5 * PAGE), model);
		// nothing was written into the gaps
		const gaps = engine.instance.bytes;
		for (const { ptr } of ram) expect(gaps.subarray(ptr + PAGE, ptr + 2 * PAGE).every((byte) => byte === 0)).toBe(true);
		// a view needs one stretch, and a pool too
		expect(() => engine.ram.view(0x10800, PAGE)).toThrow(/OUTSIDE_RAM/);
		expect(engine.ram.view(0x10800, PAGE / 2).length).toBe(PAGE / 2);
	});

	it("may be thousands of single pages, sparse or side by side", async () => {
		const sparse = Array.from({ length: 5000 }, (_, i) => ({ gpa: i * 3 * PAGE, bytes: PAGE }));
		const engine = await engineOf(sparse);
		for (let i = 0; i < 5000; i += 7) engine.ram.fill(i * 3 * PAGE, PAGE, i);
		for (let i = 0; i < 5000; i += 7) expect(engine.ram.read(i * 3 * PAGE + 5, 1)[0]).toBe(i & 255);
		expect(() => engine.ram.read(PAGE, 1)).toThrow(/OUTSIDE_RAM/);
		const n = 60000;
		const side = Array.from({ length: n }, (_, i) => ({
			gpa: i * PAGE,
			bytes: PAGE,
			ptr: (n - 1 - i) * PAGE + 2 ** 24,
		}));
		const reversed = await placed(side, 2 ** 24 + n * PAGE);
		expect(reversed.ram.rangeState(0, n * PAGE)).toBe(RangeState.Private);
		reversed.ram.convert((n - 1) * PAGE, PAGE, Shared);
		expect(reversed.ram.rangeState(0, n * PAGE)).toBe(RangeState.Mixed);
		reversed.ram.convert(0, n * PAGE, Shared);
		expect(reversed.ram.rangeState(0, n * PAGE)).toBe(RangeState.Shared);
	});

	it("is refused when stretches are empty, unaligned, beyond 2^52, overlap, or share memory", async () => {
		const refuse = (ram: readonly { gpa: number; bytes: number }[] | number | string, message: RegExp) =>
			expect(Engine.create({ swiotlb: null, ram })).rejects.toThrow(message);
		await refuse([], /at least one stretch/);
		await refuse([{ gpa: 0, bytes: 0 }], /ram: gpa 0 and 0 bytes/);
		await refuse([{ gpa: 100, bytes: PAGE }], /ram: gpa 100/);
		await refuse([{ gpa: 0, bytes: 5000 }], /5000 bytes/);
		await refuse([{ gpa: -PAGE, bytes: PAGE }], /ram: gpa -4096/);
		await refuse([{ gpa: Number.NaN, bytes: PAGE }], /ram: gpa NaN/);
		await refuse([{ gpa: 2 ** 52 - PAGE, bytes: 2 * PAGE }], /2\^52/);
		await refuse(
			[
				{ gpa: 0, bytes: 2 * PAGE },
				{ gpa: PAGE, bytes: PAGE },
			],
			/overlaps/,
		);
		await refuse(0, /ram: 0/);
		await refuse(-5, /-5/);
		await refuse(5000, /ram: 5000/);
		await refuse("1Q", /"1Q"/);
		await refuse("8G", /at most 4294967296/);
		await refuse(2 ** 53, /9007199254740992/);
		// two stretches over the same bytes would be one secret at two addresses
		await expect(
			placed(
				[
					{ gpa: 0, bytes: 2 * PAGE, ptr: 0x40000 },
					{ gpa: 0x100000, bytes: PAGE, ptr: 0x41000 },
				],
				0x80000,
			),
		).rejects.toThrow(/gpa 0x100000 .*overlaps|overlaps .*gpa 0x100000/);
		for (const ptr of [0x7f008, 0x80000, -PAGE, 0.5, Number.NaN, 2 ** 32 + 0x40000, 0x40004]) {
			await expect(placed([{ gpa: 0, bytes: PAGE, ptr: ptr }], 0x80000)).rejects.toThrow(/gpa 0x0/);
		}
	});

	it("lies anywhere in a memory of 4 GiB, the context too", async () => {
		const high = 3 * 2 ** 30;
		const ram = [
			{ gpa: 0, bytes: 0x100000, ptr: high + 0x200000 },
			{ gpa: 2 ** 32, bytes: 0x100000, ptr: 2 ** 32 - 0x100000 },
		];
		const memory = createMemory(2 ** 32, false);
		const context = { ptr: high, bytes: Engine.contextBytes({ swiotlb: null, ram }) + 65536 };
		const engine = await Engine.create({ swiotlb: null, ram, memory, context, spareBytes: 65536 });
		const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: 2 ** 32 + 0x80000 });
		const device = engine.addDevice({ pool, forceBounce: true });
		engine.ram.fill(0x1000, PAGE, 7);
		const dma = device.map(0x1000, PAGE, Direction.ToDevice);
		expect(dma).toBe(2 ** 32 + 0x80000);
		expect(engine.ram.read(tlbOf(dma), 1)[0]).toBe(7);
		expect(pool.used).toBe(2);
		expect(pool.areas()).toEqual([{ index: 2, used: 2 }]);
		expect(device.counters.bouncedMaps).toBe(1);
		expect(device.mapSg([{ gpa: 0x2000, bytes: 100 }], Direction.ToDevice)).toEqual([dma + PAGE]);
		expect(engine.snapshot({ ram: false }).context.length).toBeGreaterThan(0);
		expect(engine.scratch(64)).toBeGreaterThan(high);
	});
});

describe("page states", () => {
	it("answer a range like a naive model, at every bit phase and length", async () => {
		const pages = 700;
		const engine = await engineOf([{ gpa: 0, bytes: pages * PAGE }]);
		const { ram } = engine;
		const random = new Random(SEED);
		const model = new Array<number>(pages).fill(Private);
		let compared = 0;
		const counts = new Map<number, number>();
		for (let round = 0; round < 60; round++) {
			// long runs of one state, so that long ranges are not all mixed
			for (let i = 0; i < 3; i++) {
				const from = random.below(pages);
				const n = 1 + random.below(Math.min(pages - from, random.pick([1, 3, 60, 300, 700])));
				const state = random.pick([
					Shared,
					Private,
					Shared,
					Private,
					Hidden,
					...(random.oneIn(3) ? [InTransition] : []),
				]);
				ram.convert(from * PAGE, n * PAGE, state);
				model.fill(state, from, from + n);
			}
			for (let from = 0; from < pages; from += random.oneIn(2) ? 1 : 5) {
				const lengths = [
					1,
					2,
					56,
					57,
					58,
					63,
					64,
					65,
					113,
					114,
					115,
					120,
					121,
					128,
					200,
					257,
					400,
					1 + random.below(500),
				];
				const n = Math.min(pages - from, random.pick(lengths));
				const offset = random.pick([0, 0, 1, 4095]);
				const bytes = n * PAGE - offset - random.pick([0, 0, 1]) || 1;
				const last = Math.floor((from * PAGE + offset + bytes - 1) / PAGE);
				const slice = model.slice(from, last + 1);
				const expected = slice.includes(InTransition)
					? status.BLOCKED_PAGES
					: slice.every((state) => state === Private)
						? RangeState.Private
						: slice.some((state) => state === Private)
							? RangeState.Mixed
							: RangeState.Shared;
				const got = engine.instance.exports.ramRangeState(from * PAGE + offset, bytes);
				if (got !== expected) expect.fail(`pages ${from} to ${last}: expected ${expected}, got ${got}`);
				counts.set(
					expected * 2 + (last - from > 200 ? 1 : 0),
					(counts.get(expected * 2 + (last - from > 200 ? 1 : 0)) ?? 0) + 1,
				);
				compared++;
			}
		}
		expect(compared).toBeGreaterThan(10_000);
		// each answer came for long and for short ranges
		for (const answer of [RangeState.Private, RangeState.Shared, RangeState.Mixed, status.BLOCKED_PAGES]) {
			expect(counts.get(answer * 2) ?? 0).toBeGreaterThan(20);
			expect(counts.get(answer * 2 + 1) ?? 0).toBeGreaterThan(5);
		}
		for (const state of [Shared, Private, Hidden, InTransition, Leaked]) {
			expect(ram.pagesInState(state)).toBe(model.filter((each) => each === state).length);
		}
	});

	it("find one odd page anywhere in a long range", async () => {
		const pages = 520;
		const { ram, instance } = await engineOf([{ gpa: 0, bytes: pages * PAGE }]);
		for (const [base, odd] of [
			[Private, Shared],
			[Shared, Private],
		] as const) {
			ram.convert(0, pages * PAGE, base);
			for (let at = 0; at < pages; at++) {
				ram.convert(at * PAGE, PAGE, odd);
				for (let from = at % 9; from < 16; from += 3) {
					for (const n of [57, 58, 64, 65, 121, 122, 185, 200, 257, 480]) {
						const inside = at >= from && at < from + n;
						const expected = inside ? RangeState.Mixed : base === Private ? RangeState.Private : RangeState.Shared;
						const got = instance.exports.ramRangeState(from * PAGE, n * PAGE);
						if (got !== expected)
							expect.fail(`odd page ${at} in ${n} pages from ${from}: expected ${expected}, got ${got}`);
					}
				}
				ram.convert(at * PAGE, PAGE, base);
			}
		}
	});

	it("are found across stretches that adjoin", async () => {
		const ram = [
			{ gpa: 0, bytes: 70 * PAGE, ptr: 0x200000 },
			{ gpa: 70 * PAGE, bytes: 3 * PAGE, ptr: 0x400000 },
			{ gpa: 73 * PAGE, bytes: 100 * PAGE, ptr: 0x100000 },
		];
		const engine = await placed(ram, 0x500000);
		for (let odd = 0; odd < 173; odd++) {
			engine.ram.convert(odd * PAGE, PAGE, Shared);
			for (const [from, n] of [
				[0, 173],
				[60, 20],
				[69, 2],
				[70, 3],
				[71, 100],
			] as const) {
				const inside = odd >= from && odd < from + n;
				expect(engine.ram.rangeState(from * PAGE, n * PAGE)).toBe(inside ? RangeState.Mixed : RangeState.Private);
			}
			engine.ram.convert(odd * PAGE, PAGE, Private);
		}
		engine.ram.convert(65 * PAGE, 20 * PAGE, Hidden);
		expect(engine.ram.rangeState(66 * PAGE, 10 * PAGE)).toBe(RangeState.Shared);
		expect(engine.ram.pagesInState(Hidden)).toBe(20);
	});

	it("keep CPU and device away from pages in transition, and from leaked ones for ever", async () => {
		const engine = await engineOf([
			{ gpa: 0, bytes: 64 * PAGE },
			{ gpa: 2 ** 32, bytes: 0x40000 },
		]);
		const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: 2 ** 32 });
		const direct = engine.addDevice({ pool });
		const bounced = engine.addDevice({ pool, forceBounce: true });
		const { ram } = engine;
		ram.fill(0, 64 * PAGE, 1);
		ram.convert(5 * PAGE, PAGE, InTransition);
		ram.convert(9 * PAGE, PAGE, Leaked);
		expect([ram.pageState(5 * PAGE), ram.pageState(9 * PAGE + 4095), ram.pageState(6 * PAGE)]).toEqual([
			InTransition,
			Leaked,
			Private,
		]);
		for (const page of [5, 9]) {
			const [at, n] = [page * PAGE - 1, 2];
			expect(() => ram.read(at, n)).toThrow(/BLOCKED_PAGES/);
			expect(() => ram.write(at, new Uint8Array(n))).toThrow(/BLOCKED_PAGES/);
			expect(() => ram.fill(at, n, 9)).toThrow(/BLOCKED_PAGES/);
			expect(() => ram.rangeState(at, n)).toThrow(/BLOCKED_PAGES/);
			for (const device of [direct, bounced])
				expect(device.tryMap(at, n, Direction.ToDevice)).toBe(status.BLOCKED_PAGES);
		}
		expect(pool.failures.poolFull).toBe(0);
		ram.convert(5 * PAGE, PAGE, Shared);
		expect(ram.read(5 * PAGE - 1, 2)).toEqual(Uint8Array.of(1, 1));
		for (const state of [Shared, Private, Hidden, InTransition, Leaked]) {
			expect(() => ram.convert(8 * PAGE, 2 * PAGE, state)).toThrow(/BLOCKED_PAGES/);
		}
		expect([ram.pageState(8 * PAGE), ram.pageState(9 * PAGE)]).toEqual([Private, Leaked]);
		expect(ram.pagesInState(Leaked)).toBe(1);
	});

	it("never change in a pool, and a pool is never made where there is one, or no usable RAM", async () => {
		const engine = await engineOf([
			{ gpa: 0, bytes: 0x200000 },
			{ gpa: 2 ** 32, bytes: 0x100000 },
		]);
		engine.ram.fill(0x80000, 0x40000, 0xee);
		const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: 0x80000 });
		expect(engine.ram.view(0x80000, 0x40000).every((byte) => byte === 0)).toBe(true);
		expect(engine.ram.rangeState(0x80000, pool.bytes)).toBe(RangeState.Shared);
		expect(engine.ram.rangeState(0x7f000, 0x1000)).toBe(RangeState.Private);
		for (const [at, bytes] of [
			[0x80000, PAGE],
			[0xbf000, PAGE],
			[0x7f000, 2 * PAGE],
			[0xbf000, 2 * PAGE],
			[0, 0x200000],
		] as const) {
			expect(() => engine.ram.convert(at, bytes, Private)).toThrow(/POOL_PAGES/);
		}
		engine.ram.convert(0x7f000, PAGE, Shared);
		engine.ram.convert(0x10000, PAGE, Leaked);
		const before = Buffer.from(engine.instance.bytes);
		const refuse = (slabs: number, areas: number, at: number, name: RegExp) =>
			expect(() => engine.addPool({ slabs, areas }, { start: at })).toThrow(name);
		refuse(128, 1, 0x80000, /addPool\(128 slabs, 1 areas, gpa 0x80000\): OVERLAP/);
		refuse(128, 1, 0xbf000, /OVERLAP/);
		refuse(128, 1, 0x41000, /OVERLAP/);
		refuse(128, 1, 0, /BLOCKED_PAGES/);
		refuse(128, 1, 0x1c1000, /OUTSIDE_RAM/);
		refuse(128, 1, 2 ** 33, /OUTSIDE_RAM/);
		refuse(2048, 1, 0, /OUTSIDE_RAM/);
		for (const [slabs, areas, at] of [
			[100, 1, 0x100000],
			[0, 1, 0x100000],
			[128, 0, 0x100000],
			[128, 2, 0x100000],
			[384, 3, 0x100000],
			[768, 2, 0x100000],
			[256, 1, 0x100800],
			[256.5, 1, 0x100000],
			[2 ** 32 + 128, 1, 0x100000],
			[128, 2 ** 32 + 1, 0x100000],
			[-128, 1, 0x100000],
			[Number.NaN, 1, 0x100000],
			[256, 1, Number.NaN],
			[256, 1, -PAGE],
			[256, 1, 2 ** 53],
		] as const) {
			refuse(slabs, areas, at, /BAD_ARGUMENT|OUTSIDE_RAM/);
		}
		expect(Buffer.compare(before, engine.instance.bytes)).toBe(0);
		expect(engine.pools).toEqual([pool]);
		expect(() => engine.addPool({ slabs: 4096, areas: 1 })).toThrow(/fits into no stretch/);
	});
});

describe("hostile numbers", () => {
	it("never trap and never change anything, in any call", async () => {
		const engine = await engineOf([
			{ gpa: 0, bytes: 16 * PAGE },
			{ gpa: 2 ** 33, bytes: 0x40000 },
		]);
		const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: 2 ** 33 });
		const direct = engine.addDevice({ pool });
		const bounced = engine.addDevice({ pool, forceBounce: true });
		const { ram } = engine;
		const dma = bounced.map(PAGE, 5000, Direction.FromDevice);
		const before = Buffer.from(engine.instance.bytes);
		const unchanged = (what: string) => {
			if (Buffer.compare(before, engine.instance.bytes) !== 0) expect.fail(`${what} changed memory`);
		};
		const refuses = (what: string, call: () => unknown) => {
			expect(call, what).toThrow(/^(?!.*unreachable).*(OUTSIDE_RAM|BAD_SIZE|BAD_ARGUMENT)/);
			unchanged(what);
		};
		const answers = (what: string, call: () => number) => {
			expect(call(), what).toBeLessThan(0);
			unchanged(what);
		};
		for (const number of HOSTILE) {
			for (const device of [direct, bounced]) {
				answers(`map at ${number}`, () => device.tryMap(number, 100, Direction.ToDevice));
				answers(`unmap at ${number}`, () => device.tryUnmap(number, 100, Direction.ToDevice));
				refuses(`map at ${number}`, () => device.map(number, 100, Direction.ToDevice));
				refuses(`sync at ${number}`, () => device.syncForCpu(number, 100, Direction.FromDevice));
				refuses(`sync at ${number}`, () => device.syncForDevice(number, 100, Direction.FromDevice));
				answers(`map of ${number}`, () => device.tryMap(0, number, Direction.ToDevice));
				answers(`unmap of ${number}`, () => device.tryUnmap(dma, number, Direction.FromDevice));
				refuses(`sync of ${number}`, () => device.syncForCpu(dma, number, Direction.FromDevice));
			}
			refuses(`read at ${number}`, () => ram.read(number, 1));
			refuses(`write at ${number}`, () => ram.write(number, Uint8Array.of(1)));
			refuses(`fill at ${number}`, () => ram.fill(number, 1, 1));
			refuses(`view at ${number}`, () => ram.view(number, 1));
			refuses(`rangeState at ${number}`, () => ram.rangeState(number, 1));
			refuses(`pageState at ${number}`, () => ram.pageState(number));
			refuses(`convert at ${number}`, () => ram.convert(number, PAGE, Shared));
			refuses(`read of ${number}`, () => ram.read(0, number));
			refuses(`fill of ${number}`, () => ram.fill(0, number, 1));
			refuses(`view of ${number}`, () => ram.view(0, number));
			refuses(`rangeState of ${number}`, () => ram.rangeState(0, number));
			refuses(`convert of ${number}`, () => ram.convert(0, number, Shared));
			refuses(`convert to ${number}`, () => ram.convert(0, PAGE, number as never));
		}
		refuses("convert of half a page", () => ram.convert(0, 2048, Shared));
		refuses("convert from half a page", () => ram.convert(2048, PAGE, Shared));
		// a list is written down before it is looked at, so only the guest's bytes and the counters stay as they are
		const guest = Buffer.concat([ram.view(0, 16 * PAGE), ram.view(2 ** 33, 0x40000)]);
		const { used } = pool;
		for (const device of [direct, bounced]) {
			const { counters } = device;
			for (const number of HOSTILE) {
				for (const dir of [Direction.ToDevice, Direction.FromDevice]) {
					expect(() => device.mapSg([{ gpa: number, bytes: 100 }], dir)).toThrow(/OUTSIDE_RAM/);
					expect(() => device.unmapSg([{ dma: number, bytes: 100 }], dir)).toThrow(/OUTSIDE_RAM/);
					expect(() => device.mapSg([{ gpa: 0, bytes: number }], dir)).toThrow(/BAD_SIZE/);
					expect(() => device.unmapSg([{ dma, bytes: number }], dir)).toThrow(/BAD_SIZE/);
				}
			}
			expect(device.counters).toEqual(counters);
			expect(() => device.mapSg([], Direction.ToDevice)).toThrow(/1 to 1024 segments, not 0/);
			const long = Array.from({ length: 1025 }, () => ({ gpa: 0, bytes: 1 }));
			expect(() => device.mapSg(long, Direction.ToDevice)).toThrow(/1 to 1024 segments, not 1025/);
		}
		expect(pool.used).toBe(used);
		expect(Buffer.compare(guest, Buffer.concat([ram.view(0, 16 * PAGE), ram.view(2 ** 33, 0x40000)]))).toBe(0);
		bounced.unmap(dma, 5000, Direction.FromDevice);
		expect(pool.used).toBe(0);
	});

	it("as a direction are refused too", async () => {
		const engine = await engineOf([{ gpa: 0, bytes: 0x80000 }]);
		const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: 0x40000 });
		const device = engine.addDevice({ pool, forceBounce: true });
		const dma = device.map(0, 100, Direction.Bidirectional);
		for (const dir of [3, -1, 4, 2 ** 31, Number.NaN, 0.5, 1.5, 2 ** 32, 2 ** 32 + 1, Number.POSITIVE_INFINITY]) {
			expect(device.tryMap(0, 100, dir as Direction), `dir ${dir}`).toBe(status.BAD_DIRECTION);
			expect(device.tryUnmap(dma, 100, dir as Direction), `dir ${dir}`).toBe(status.BAD_DIRECTION);
			expect(() => device.syncForCpu(dma, 100, dir as Direction)).toThrow(/BAD_DIRECTION/);
			expect(() => device.mapSg([{ gpa: 0, bytes: 100 }], dir as Direction)).toThrow(/BAD_DIRECTION/);
			expect(() => device.map(0, 100, dir as Direction)).toThrow(
				`map(0x0, 100 bytes, ${dir}) on device 0: BAD_DIRECTION`,
			);
		}
		expect(pool.used).toBe(1);
	});

	it("given to the raw exports name what lies outside the memory, or over something else", async () => {
		const memory = createMemory(4 * 65536, false);
		const { exports } = await Instance.create(await loadModule("engine"), memory);
		for (const ptr of [32, 2 ** 31, -64, 2 ** 32 - 64, 4 * 65536 - 64])
			expect(exports.contextInit(ptr, 65536, 4, 2, 2), `contextInit at ${ptr}`).toBe(status.BAD_ARGUMENT);
		expect(exports.contextInit(64, 65536, 4, 2, 2)).toBe(0);
		for (const ptr of [0, 32, 128, 2 ** 31, -64, 2 ** 32 - 64, 4 * 65536])
			expect(exports.attach(ptr), `attach at ${ptr}`).toBe(status.BAD_CONTEXT);
		// a context that says it is larger than the memory
		new DataView(memory.buffer).setUint32(64 + layout.CTX_BYTES, 2 ** 31, true);
		expect(exports.attach(64)).toBe(status.BAD_CONTEXT);
		new DataView(memory.buffer).setUint32(64 + layout.CTX_BYTES, 65536, true);
		expect(exports.attach(64)).toBe(0);
		expect(exports.ramAddRegion(0, 4096, 64)).toBe(status.OVERLAP);
		expect(exports.ramAddRegion(0, 4096, 65536)).toBe(status.OVERLAP);
		expect(exports.ramAddRegion(0, 8192, 131072)).toBe(0);
		expect(exports.ramAddRegion(8192, 4096, 131072)).toBe(status.OVERLAP);
		expect(exports.ramAddRegion(8192, 4096, 131072 + 4096)).toBe(status.OVERLAP);
		expect(exports.ramAddRegion(8192, 4096, 4 * 65536 - 4088)).toBe(status.BAD_ARGUMENT);
		expect(exports.ramAddRegion(8192, 4096, 131072 + 8192)).toBe(0);
	});

	it.each([-1, 0, 0.5, Number.NaN, 2 ** 32, Number.POSITIVE_INFINITY])(
		"given to scratch are refused by name: %s bytes",
		async (bytes) => {
			const engine = await Engine.create({ ram: "1M", swiotlb: null });
			expect(() => engine.scratch(bytes)).toThrow(/^bytes: expected a whole number from 1 to 2\^32 - 1, found /);
			expect(engine.scratch(8)).not.toBe(engine.scratch(8));
		},
	);

	it("given to the raw exports never trap", async () => {
		const memory = createMemory(4 * 65536, false);
		const { exports } = await Instance.create(await loadModule("engine"), memory);
		expect(exports.contextInit(64, 65536, 4, 2, 2)).toBe(0);
		exports.attach(64);
		const number = fc.oneof(
			fc.constantFrom(...HOSTILE, 0, 1, 4096, 65536, 131072, 2 ** 31 - 1),
			fc.double(),
			fc.integer(),
		);
		expect(exports.ramAddRegion(0, 65536, 131072)).toBe(0);
		expect(exports.ramAddRegion(2 ** 32, 65536, 196608)).toBe(0);
		fc.assert(
			fc.property(number, number, number, number, (a, b, c, d) => {
				for (const got of [
					exports.ramAddRegion(a, b === 65536 ? 0 : Number.NaN, c),
					exports.mapSingle(a, b, c, d, 0),
					exports.unmapSingle(a, b, c, d, 0),
					exports.syncForCpu(a, b, c, d),
					exports.syncForDevice(a, b, c, d),
					exports.swiotlbAlloc(a, c, d, 0),
					exports.swiotlbTblMap(a, b, c, d, 0, 0),
					exports.swiotlbTblUnmap(a, b, c, d, 0),
					exports.poolSlotList(a, b),
					exports.deviceSet(a, b, c, d),
					exports.deviceSet64(a, b, c, d),
				]) {
					expect(got).toBeLessThan(0);
				}
				exports.ramPtr(a, b);
				expect(exports.poolPtr(a)).toBe(0);
				expect(exports.devicePtr(a)).toBe(0);
				expect(exports.regionMove(100, c)).toBeLessThan(0);
			}),
			{ seed: SEED, numRuns: 2000 },
		);
	});
});

describe("copies", () => {
	it("of every size 0 to 600 at odd offsets are exact, between ranges apart, touching and overlapping", async () => {
		const bytes = 0x20000;
		const engine = await engineOf([{ gpa: 0, bytes }]);
		const { exports } = engine.instance;
		const all = engine.ram.view(0, bytes);
		const ptr = exports.ramPtr(0, bytes);
		const model = new Random(SEED).bytes(bytes);
		all.set(model);
		let copies = 0;
		for (let n = 1; n <= 600; n++) {
			for (const [from, distance] of [
				[1001, 2000],
				[1003, n],
				[3005, -n],
				[2007, 1],
				[2009, -1],
				[2011, Math.max(1, n >> 1)],
				[2013, -Math.max(1, n - 1)],
				[2017, 16],
				[2019, -7],
				[2021, 0],
			] as const) {
				const to = from + distance;
				// ramReadTo copies RAM to any ptr, also one inside RAM
				expect(exports.ramReadTo(from, n, ptr + to)).toBe(0);
				model.copyWithin(to, from, from + n);
				if (Buffer.compare(all.subarray(0, 8192), model.subarray(0, 8192)) !== 0) {
					expect.fail(`copy of ${n} bytes from ${from} to ${to} differs`);
				}
				copies++;
			}
			model.set(model.subarray(0x8000 + n * 8, 0x8000 + n * 8 + 4000), 900);
			all.set(model.subarray(0, 8192));
		}
		expect(copies).toBe(6000);
		expect(exports.ramReadTo(0, 0, ptr)).toBe(status.BAD_SIZE);
		expect(Buffer.compare(all, model)).toBe(0);
	});

	it("of random sizes up to 64 KiB are exact", async () => {
		const engine = await engineOf([{ gpa: 0, bytes: 0x40000 }]);
		const { exports } = engine.instance;
		const ptr = exports.ramPtr(0, 0x40000);
		const all = engine.ram.view(0, 0x40000);
		const model = new Random(SEED + 1).bytes(0x40000);
		all.set(model);
		fc.assert(
			fc.property(fc.nat(0x2ffff), fc.nat(0x2ffff), fc.integer({ min: 1, max: 0x10000 }), (from, to, n) => {
				expect(exports.ramReadTo(from, n, ptr + to)).toBe(0);
				model.copyWithin(to, from, from + n);
				expect(Buffer.compare(all, model)).toBe(0);
			}),
			{ seed: SEED, numRuns: 500 },
		);
	});
});
