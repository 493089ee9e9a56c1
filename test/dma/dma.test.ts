import { describe, expect, it } from "vitest";
import * as status from "../../assembly/layout/status.ts";
import type { DeviceOptions } from "../../src/dma/options.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { DmaError, statusName } from "../../src/status.ts";
import { Direction } from "../../src/types.ts";
import { tlbOf } from "../helpers/slots.ts";

const { Bidirectional, ToDevice, FromDevice } = Direction;
const POOL = 0x800000;
const POOL_END = POOL + 256 * 2048;
const HIGH = 0x240000000;

/** Low RAM, a pool at 8 MiB, and RAM above 4 GiB; all private, the pool and one page at 1 MiB shared. */
async function guest(options: DeviceOptions = {}, more: { slabs?: number } = {}) {
	const slabs = more.slabs ?? 256;
	const ram = [
		{ gpa: 0, bytes: 0x400000 },
		{ gpa: POOL, bytes: slabs * 2048 },
		{ gpa: HIGH, bytes: 0x100000 },
	];
	const engine = await Engine.create({ swiotlb: null, ram });
	const pool = engine.addPool({ slabs, areas: 1 }, { start: POOL });
	engine.ram.convert(0x100000, 4096, PageState.Shared);
	const device = engine.addDevice({ pool, trusted: true, ...options });
	return { engine, pool, ram: engine.ram, device };
}

const MASK32 = 2n ** 32n - 1n;
const BIT47 = 2n ** 47n;
const BIT51 = 2n ** 51n;

interface Row {
	readonly name: string;
	readonly options: DeviceOptions;
	readonly gpa: number;
	readonly bytes?: number;
	readonly dir?: Direction;
	/** The DMA address, or a status. */
	readonly answer: number;
}

const ROWS: Row[] = [
	{ name: "a device that reaches everything goes direct", options: {}, gpa: 0x1234, answer: 0x1234 },
	{ name: "also above 4 GiB", options: {}, gpa: HIGH + 5, answer: HIGH + 5 },
	{ name: "within a 32-bit mask direct", options: { dmaMask: MASK32 }, gpa: 0x1234, answer: 0x1234 },
	{ name: "beyond a 32-bit mask through the pool", options: { dmaMask: MASK32 }, gpa: HIGH, answer: POOL },
	{ name: "the mask is inclusive", options: { dmaMask: 0x1fffn }, gpa: 0x1000, bytes: 4096, answer: 0x1000 },
	{
		name: "the last byte counts",
		options: { dmaMask: 0x1ffen },
		gpa: 0x1000,
		bytes: 4096,
		answer: status.SLOTS_BEYOND_MASK,
	},
	{ name: "a bus limit counts like a mask", options: { busLimit: MASK32 }, gpa: HIGH, answer: POOL },
	{
		name: "the lower of mask and limit counts",
		options: { dmaMask: 2n ** 40n - 1n, busLimit: MASK32 },
		gpa: HIGH,
		answer: POOL,
	},
	{
		name: "the lower of limit and mask counts",
		options: { dmaMask: MASK32, busLimit: 2n ** 40n - 1n },
		gpa: HIGH,
		answer: POOL,
	},
	{ name: "a bus limit of 0 is none", options: { busLimit: 0n }, gpa: HIGH, answer: HIGH },
	{
		name: "a mask of 0 with a bus limit is none",
		options: { dmaMask: 0n, busLimit: MASK32 },
		gpa: 0x1000,
		answer: 0x1000,
	},
	{
		name: "beyond the mask without a pool is refused",
		options: { dmaMask: MASK32, pool: null },
		gpa: HIGH,
		answer: status.BEYOND_MASK,
	},
	{
		name: "a pool beyond the mask does not help",
		options: { dmaMask: 0xfffn },
		gpa: 0x2000,
		answer: status.SLOTS_BEYOND_MASK,
	},
	{ name: "forced bounce bounces what it could reach", options: { forceBounce: true }, gpa: 0x1234, answer: POOL },
	{
		name: "forced bounce without a pool is refused",
		options: { forceBounce: true, pool: null },
		gpa: 0x1234,
		answer: status.NO_POOL,
	},
	{
		name: "forced bounce keeps the low bits asked for",
		options: { forceBounce: true, minAlignMask: 0xfff },
		gpa: 0x1234,
		answer: POOL + 0x234,
	},
	{
		name: "forced bounce of too much is refused",
		options: { forceBounce: true },
		gpa: 0,
		bytes: 262145,
		answer: status.OVER_MAX_MAPPING,
	},
	{ name: "mixed pages have no one address", options: {}, gpa: 0xff800, bytes: 4096, answer: status.MIXED_PAGES },
	{ name: "mixed pages may bounce", options: { forceBounce: true }, gpa: 0xff800, bytes: 4096, answer: POOL },
	{ name: "outside RAM", options: {}, gpa: 0x500000, answer: status.OUTSIDE_RAM },
	{ name: "outside RAM, bounced", options: { forceBounce: true }, gpa: 0x500000, answer: status.OUTSIDE_RAM },
	{ name: "half outside RAM", options: { forceBounce: true }, gpa: 0x3ff800, bytes: 4096, answer: status.OUTSIDE_RAM },
	{ name: "no bytes", options: {}, gpa: 0x1000, bytes: 0, answer: status.BAD_SIZE },
	{ name: "no direction", options: {}, gpa: 0x1000, dir: 3 as Direction, answer: status.BAD_DIRECTION },
	// encodings: AMD sets a bit for private pages, TDX and vTOM for shared ones
	{ name: "a C-bit on private pages", options: { privateBits: BIT51 }, gpa: 0x1234, answer: 0x1234 + 2 ** 51 },
	{ name: "no C-bit on shared pages", options: { privateBits: BIT51 }, gpa: 0x100010, bytes: 16, answer: 0x100010 },
	{ name: "no C-bit on bounce slots", options: { privateBits: BIT51, forceBounce: true }, gpa: 0x1234, answer: POOL },
	{
		name: "a shared bit on shared pages",
		options: { sharedBits: BIT47 },
		gpa: 0x100010,
		bytes: 16,
		answer: 0x100010 + 2 ** 47,
	},
	{
		name: "a shared bit on bounce slots",
		options: { sharedBits: BIT47, forceBounce: true },
		gpa: 0x1234,
		answer: POOL + 2 ** 47,
	},
	{ name: "no shared bit on private pages", options: { sharedBits: BIT47 }, gpa: 0x1234, answer: 0x1234 },
	{ name: "bits to clear on private pages", options: { privateClear: 0x200000000n }, gpa: HIGH, answer: 0x40000000 },
	{
		name: "bits to clear on bounce slots",
		options: { sharedClear: BigInt(POOL), forceBounce: true },
		gpa: 0x1000,
		answer: 0,
	},
	{
		name: "the mask is checked after encoding: a low private page",
		options: { privateBits: BIT51, dmaMask: MASK32 },
		gpa: 0x1234,
		answer: POOL,
	},
	{
		name: "the mask is checked after encoding: a low shared page",
		options: { sharedBits: BIT47, dmaMask: MASK32 },
		gpa: 0x100010,
		bytes: 16,
		answer: status.SLOTS_BEYOND_MASK,
	},
	{
		name: "the mask is checked after encoding: a low slot",
		options: { sharedBits: BIT47, dmaMask: MASK32, forceBounce: true },
		gpa: 0x1234,
		answer: status.SLOTS_BEYOND_MASK,
	},
	{
		name: "a mask that holds the C-bit",
		options: { privateBits: BIT47, dmaMask: 2n ** 48n - 1n },
		gpa: 0x1234,
		answer: 0x1234 + 2 ** 47,
	},
	{
		name: "clearing may bring an address within the mask",
		options: { privateClear: 0x200000000n, dmaMask: MASK32 },
		gpa: HIGH,
		answer: 0x40000000,
	},
];

/** A non-coherent device bounces buffers that share a cache line with others: arm64's kmalloc buckets off 64 bytes. */
const KMALLOC: [number, boolean][] = [
	[1, true],
	[8, true],
	[32, true],
	[33, false],
	[64, false],
	[65, true],
	[96, true],
	[97, false],
	[128, false],
	[192, false],
	[4096, false],
];

describe("a map goes direct, bounces or is refused", () => {
	it.each(ROWS)("$name", async ({ options, gpa, bytes = 256, dir = ToDevice, answer }) => {
		const { pool, device } = await guest(options);
		const dma = device.tryMap(gpa, bytes, dir);
		expect(dma < 0 ? statusName(dma) : dma).toBe(answer < 0 ? statusName(answer) : answer);
		const bounced = answer >= 0 && pool.used > 0;
		const { counters } = device;
		expect(counters.directMaps).toBe(answer >= 0 && !bounced ? 1 : 0);
		expect(counters.bouncedMaps).toBe(bounced ? 1 : 0);
		if (answer >= 0 && options.privateClear === undefined && options.sharedClear === undefined) {
			expect(device.tryUnmap(dma, bytes, dir)).toBe(0);
		} else if (answer < 0) {
			expect(pool.used).toBe(0);
		}
	});

	it.each(KMALLOC)("a non-coherent device's buffer of %i bytes bounces: %s", async (bytes, bounces) => {
		const { device } = await guest({ coherent: false });
		for (const dir of [FromDevice, Bidirectional]) {
			const dma = device.map(0x1000, bytes, dir);
			expect(dma >= POOL && dma < POOL_END).toBe(bounces);
			device.unmap(dma, bytes, dir);
		}
		expect(device.map(0x1000, bytes, ToDevice)).toBe(0x1000);
		const coherent = await guest({});
		expect(coherent.device.map(0x1000, bytes, FromDevice)).toBe(0x1000);
		const poolless = await guest({ coherent: false, pool: null });
		expect(poolless.device.tryMap(0x1000, bytes, FromDevice)).toBe(bounces ? status.SHARES_CACHE_LINE : 0x1000);
	});

	it("keeps every answered address within mask and limit after encoding, for every mask, limit and bit", async () => {
		const engine = (await guest()).engine;
		const pool = engine.pools[0] ?? null;
		let [answered, refused] = [0, 0];
		for (const dmaMask of [0xffffn, 0xffffffn, MASK32, 2n ** 36n - 1n, 2n ** 48n - 1n, 2n ** 64n - 1n]) {
			for (const busLimit of [0n, 0x7fffffn, 0x83ffffn, MASK32, 2n ** 40n]) {
				for (const bits of [0n, BIT47, BIT51, 2n ** 24n]) {
					for (const forceBounce of [false, true]) {
						const [privateBits, sharedBits] = answered % 2 === 0 ? [bits, 0n] : [0n, bits];
						const record = { pool, trusted: true, privateBits, sharedBits };
						if (engine.devices.length === 64) continue;
						const device = engine.addDevice({ ...record, dmaMask, busLimit, forceBounce });
						const limit = busLimit !== 0n && busLimit < dmaMask ? busLimit : dmaMask;
						for (const gpa of [0, 0x8000, 0x100000, 0x3ff000, HIGH]) {
							for (const bytes of [1, 4096]) {
								const dma = device.tryMap(gpa, bytes, ToDevice);
								if (dma < 0) {
									expect(statusName(dma)).toBe("SLOTS_BEYOND_MASK");
									refused++;
									continue;
								}
								expect(BigInt(dma + bytes - 1) <= limit).toBe(true);
								answered++;
								expect(device.tryUnmap(dma, bytes, ToDevice)).toBe(0);
							}
						}
					}
				}
			}
		}
		expect(pool?.used).toBe(0);
		expect(Math.min(answered, refused)).toBeGreaterThan(50);
	});

	it("answers the same bytes through an encoded address: sync and unmap strip the bits", async () => {
		const { ram, device } = await guest({ sharedBits: BIT47, privateBits: BIT51, forceBounce: true });
		ram.fill(0x1000, 600, 1);
		const dma = device.map(0x1000, 600, Bidirectional);
		expect(dma).toBe(POOL + 2 ** 47);
		ram.fill(POOL, 600, 2);
		expect(device.syncForCpu(dma + 100, 200, Bidirectional)).toBe(200);
		expect([99, 100, 299, 300].map((at) => ram.read(0x1000 + at, 1)[0])).toEqual([1, 2, 2, 1]);
		expect(device.tryUnmap(dma, 600, Bidirectional)).toBe(600);
		expect(ram.read(0x1000, 600)).toEqual(new Uint8Array(600).fill(2));
	});

	it("does nothing on unmap and sync of a direct mapping but check its range", async () => {
		const { ram, device } = await guest();
		ram.fill(0x1000, 4096, 7);
		const dma = device.map(0x1000, 4096, FromDevice);
		expect(device.syncForCpu(dma, 4096, FromDevice)).toBe(0);
		expect(device.syncForDevice(dma, 4096, FromDevice)).toBe(0);
		expect(device.tryUnmap(dma, 4096, FromDevice)).toBe(0);
		expect(device.tryUnmap(0x400000, 1, FromDevice)).toBe(status.OUTSIDE_RAM);
		expect(device.counters).toMatchObject({ directMaps: 1, bouncedMaps: 0, beyondMask: 0, bytesIn: 0, bytesBack: 0 });
		device.resetCounters();
		expect(device.counters.directMaps).toBe(0);
	});
});

describe("the largest mapping that is sure to be possible", () => {
	const UNLIMITED = Number.POSITIVE_INFINITY;
	const last = HIGH + 0x100000 - 1;
	it.each<[string, DeviceOptions, number]>([
		["a device that reaches everything", {}, UNLIMITED],
		["that reaches all address bits of RAM", { dmaMask: 2n ** 34n - 1n }, UNLIMITED],
		["one address bit short", { dmaMask: 2n ** 33n - 1n }, 262144],
		["a limit at the last byte of RAM: Linux asks for all of its bits", { busLimit: BigInt(last) }, 262144],
		["a 32-bit mask", { dmaMask: MASK32 }, 262144],
		["a 32-bit mask and no pool", { dmaMask: MASK32, pool: null }, UNLIMITED],
		["forced bounce", { forceBounce: true }, 262144],
		["forced bounce, mask 0x1ff", { forceBounce: true, minAlignMask: 0x1ff }, 260096],
		["forced bounce, mask 0xfff", { forceBounce: true, minAlignMask: 0xfff }, 258048],
		["forced bounce, mask 0xffff", { forceBounce: true, minAlignMask: 0xffff }, 196608],
		["forced bounce, mask 0x3ffff", { forceBounce: true, minAlignMask: 0x3ffff }, 0],
		["a mask below the C-bit", { dmaMask: 2n ** 40n - 1n, privateBits: BIT47 }, 262144],
		["a mask below the shared bit", { dmaMask: 2n ** 40n - 1n, sharedBits: BIT47 }, 262144],
		["a mask that holds the C-bit", { dmaMask: 2n ** 48n - 1n, privateBits: BIT47 }, UNLIMITED],
	])("for %s", async (_, options, bytes) => {
		const { device } = await guest(options);
		expect(device.maxMappingBytes(last)).toBe(bytes);
	});

	it("really is possible at every offset, in an empty pool", async () => {
		for (const minAlignMask of [0, 0x1ff, 0xfff, 0x7fff, 0xffff]) {
			const { pool, device } = await guest({ forceBounce: true, minAlignMask });
			const bytes = device.maxMappingBytes(last);
			for (let offset = 0; offset < 0x20000; offset += 0x1ff) {
				const dma = device.tryMap(0x40000 + offset, bytes, ToDevice);
				if (dma < 0) expect.fail(`mask ${minAlignMask}: ${bytes} bytes at ${offset}: ${statusName(dma)}`);
				device.unmap(dma, bytes, ToDevice);
			}
			expect(pool.used).toBe(0);
		}
	});
});

describe("a scatter-gather list", () => {
	const segments = [
		{ gpa: 0x1000, bytes: 4096 },
		{ gpa: 0x9200, bytes: 512 },
		{ gpa: HIGH + 0x4000, bytes: 65536 },
		{ gpa: 0x20001, bytes: 1 },
	];

	it("maps each segment in order, and unmaps with copying back", async () => {
		const { ram, pool, device } = await guest({ forceBounce: true, minAlignMask: 0xfff });
		const dmas = device.mapSg(segments, FromDevice);
		expect(dmas).toEqual([POOL, POOL + 0x1200, POOL + 0x2000, POOL + 0x12001]);
		expect(pool.used).toBe(2 + 1 + 32 + 1);
		for (const [i, dma] of dmas.entries()) ram.fill(tlbOf(dma), segments[i]?.bytes ?? 0, i + 1);
		device.unmapSg(
			segments.map(({ bytes }, i) => ({ dma: dmas[i] as number, bytes })),
			FromDevice,
		);
		expect(segments.map(({ gpa, bytes }) => [ram.read(gpa, 1)[0], ram.read(gpa + bytes - 1, 1)[0]])).toEqual([
			[1, 1],
			[2, 2],
			[3, 3],
			[4, 4],
		]);
		expect(pool.used).toBe(0);
		expect(device.counters).toMatchObject({ bouncedMaps: 4, bytesIn: 70145, bytesBack: 70145 });
	});

	it("may mix direct and bounced segments", async () => {
		const { pool, device } = await guest({ dmaMask: MASK32 });
		expect(device.mapSg(segments, ToDevice)).toEqual([0x1000, 0x9200, POOL, 0x20001]);
		expect(pool.used).toBe(32);
		expect(device.counters).toMatchObject({ directMaps: 3, bouncedMaps: 1 });
	});

	const failing: [string, { gpa: number; bytes: number }, number][] = [
		["a range outside RAM", { gpa: 0x500000, bytes: 4096 }, status.OUTSIDE_RAM],
		["too large a segment", { gpa: 0x150000, bytes: 300000 }, status.OVER_MAX_MAPPING],
		["a size of 0", { gpa: 0, bytes: 0 }, status.BAD_SIZE],
		["a size that wraps", { gpa: 0, bytes: 2 ** 32 + 1 }, status.BAD_SIZE],
		["leaked pages", { gpa: 0x30000, bytes: 4096 }, status.BLOCKED_PAGES],
		["a full pool", { gpa: 0x150000, bytes: 256 * 1024 }, status.POOL_FULL],
	];

	it.each(failing)("unwinds all earlier segments without copying back when one meets %s", async (_, bad, code) => {
		const { engine, ram, pool, device } = await guest({ forceBounce: true, minAlignMask: 0x7ff });
		ram.convert(0x30000, 4096, PageState.Leaked);
		// a mapping that stays, and leaves one segment free
		const stays = device.map(0x50000, 65536, ToDevice);
		for (const at of [0, 1, 3, segments.length]) {
			const list = [...segments.slice(0, at), bad, ...segments.slice(at)];
			ram.fill(0, 0x30000, 0x11);
			ram.fill(HIGH, 0x100000, 0x11);
			const blocker = code === status.POOL_FULL ? device.map(0x100000, 100, ToDevice) : 0;
			if (code === status.POOL_FULL) device.map(0x150000, 262144, ToDevice);
			const { used } = pool;
			const before = [ram.view(0, 0x400000), ram.view(HIGH, 0x100000)].map((bytes) => Buffer.from(bytes));
			const { counters } = device;
			let error: unknown;
			try {
				device.mapSg(list, FromDevice);
			} catch (thrown) {
				error = thrown;
			}
			expect(error).toBeInstanceOf(DmaError);
			expect((error as DmaError).status).toBe(statusName(code));
			expect((error as DmaError).message).toContain(
				`mapSg(${list.length} segments, FROM_DEVICE) on device 0: ${statusName(code)}: `,
			);
			expect(pool.used).toBe(used);
			expect(Buffer.compare(before[0] as Buffer, ram.view(0, 0x400000))).toBe(0);
			expect(Buffer.compare(before[1] as Buffer, ram.view(HIGH, 0x100000))).toBe(0);
			expect(device.counters.bytesBack).toBe(counters.bytesBack);
			const copied = segments.slice(0, at).reduce((sum, { bytes }) => sum + bytes, 0);
			expect(device.counters.bytesIn - counters.bytesIn).toBe(copied);
			if (code === status.POOL_FULL) {
				device.unmap(blocker, 100, ToDevice);
				for (let slot = 0; slot < 256; slot++) device.tryUnmap(POOL + slot * 2048, 262144, ToDevice);
			}
		}
		device.unmap(stays, 65536, ToDevice);
		expect(pool.used).toBe(0);
		expect(pool.list()).toEqual(Uint16Array.from({ length: 256 }, (_, slot) => 128 - (slot % 128)));
		expect(engine.devices.length).toBe(1);
	});

	it("does not copy back what the device wrote before the unwinding", async () => {
		const { ram, pool, device } = await guest({ forceBounce: true, dmaMask: BigInt(POOL + 8191) });
		ram.fill(0x1000, 0x4000, 1);
		const list = [0x1000, 0x2000, 0x3000].map((gpa) => ({ gpa, bytes: 4096 }));
		expect(() => device.mapSg(list, Bidirectional)).toThrow(/BEYOND_MASK/);
		expect(pool.used).toBe(0);
		expect(device.counters).toMatchObject({
			directMaps: 0,
			bouncedMaps: 2,
			beyondMask: 1,
			bytesIn: 12288,
			bytesBack: 0,
		});
		// Linux's swiotlb fills the slots before it looks at their address
		expect(ram.read(POOL + 8192, 1)[0]).toBe(1);
		expect(pool.hiwater).toBe(6);
	});

	it("unmaps the others when one entry is refused, and says so", async () => {
		const { pool, device } = await guest({ forceBounce: true });
		const dmas = device.mapSg(segments.slice(0, 3), ToDevice);
		const list = dmas.map((dma, i) => ({ dma: i === 1 ? dma + 2048 * 100 : dma, bytes: segments[i]?.bytes ?? 0 }));
		expect(() => device.unmapSg(list, ToDevice)).toThrow(/unmapSg\(3 segments, TO_DEVICE\) on device 0: NOT_MAPPED/);
		expect(pool.used).toBe(1);
		device.unmap(dmas[1] as number, 512, ToDevice);
		expect(pool.used).toBe(0);
	});
});

describe("a refused call's error", () => {
	it("names the call, its arguments, the status and the pool's state", async () => {
		const { device } = await guest({ forceBounce: true }, { slabs: 128 });
		device.map(0x1000, 2048, ToDevice);
		expect(() => device.map(0x2000, 262144, FromDevice)).toThrow(
			"map(0x2000, 262144 bytes, FROM_DEVICE) on device 0: POOL_FULL: no run of free slots fits (pool 0: 1 of 128 slots used, 128 slots wanted, longest free run 127)",
		);
		expect(() => device.map(0x2000, 300000, FromDevice)).toThrow(
			/OVER_MAX_MAPPING: the request needs more than 128 slots/,
		);
		expect(() => device.map(-1, 10, ToDevice)).toThrow("map(-1, 10 bytes, TO_DEVICE) on device 0: OUTSIDE_RAM");
		expect(() => device.map(0.5, 10, ToDevice)).toThrow(/OUTSIDE_RAM/);
		expect(() => device.syncForCpu(POOL + 4096, 10, FromDevice)).toThrow(
			/syncForCpu\(0x801000, 10 bytes, FROM_DEVICE\) on device 0: NOT_MAPPED/,
		);
	});

	it("tell of the pool only where its state is why", async () => {
		const engine = await Engine.create({ ram: "256M" });
		const device = engine.addDevice({});
		const map = (gpa: number, bytes: number, dir: number) => () => device.map(gpa, bytes, dir as Direction);
		expect(map(0x1000, 300_000, Direction.ToDevice)).toThrow(/OVER_MAX_MAPPING: .*147 slots wanted/);
		for (const [call, status] of [
			[map(2 ** 40, 10, Direction.ToDevice), /OUTSIDE_RAM: [^(]*$/],
			[map(0x1000, 0, Direction.ToDevice), /BAD_SIZE: [^(]*$/],
			[() => device.mapSg([{ gpa: 2 ** 40, bytes: 10 }], Direction.ToDevice), /OUTSIDE_RAM: [^(]*$/],
		] as const)
			expect(call).toThrow(status);
	});

	it("carries a status that programs can compare, and each status has a text of its own", () => {
		const texts = new Set<string>();
		for (const [name, code] of Object.entries(status)) {
			if (code === 0) continue;
			expect(code).toBeLessThan(0);
			expect(code).toBeGreaterThanOrEqual(-255);
			const error = new DmaError("call()", code);
			expect(error.status).toBe(name);
			expect(error.message.startsWith(`call(): ${name}: `)).toBe(true);
			texts.add(error.message);
		}
		expect(texts.size).toBe(Object.keys(status).length - 1);
	});
});

describe("adding a device", () => {
	it("is refused by the name of the option, and adds nothing", async () => {
		const { engine, pool } = await guest();
		const other = await guest();
		const refuse = (options: DeviceOptions, message: RegExp) =>
			expect(() => engine.addDevice(options)).toThrow(message);
		refuse({ dmaMask: -1n }, /dmaMask must be from 0 to 2\^64 - 1/);
		refuse({ busLimit: 2n ** 64n }, /busLimit/);
		refuse({ segBoundaryMask: 0x1234n }, /segBoundaryMask must be of the form 2\^k - 1/);
		refuse({ minAlignMask: -1 }, /minAlignMask/);
		refuse({ minAlignMask: 1.5 }, /minAlignMask/);
		refuse({ minAlignMask: 2 ** 32 }, /minAlignMask/);
		refuse({ privateBits: 2n ** 52n }, /privateBits must be below 2\^52/);
		refuse({ sharedBits: 2n ** 63n }, /sharedBits must be below 2\^52/);
		refuse({ pool: other.pool }, /pool is not one of this engine's/);
		expect(engine.devices.length).toBe(1);
		expect(engine.addDevice({ pool, segBoundaryMask: 2n ** 64n - 1n }).index).toBe(1);
		for (let i = 2; i < 64; i++) engine.addDevice();
		expect(() => engine.addDevice()).toThrow(/addDevice\(\): CONTEXT_FULL/);
		expect(engine.devices.length).toBe(64);
	});

	it("takes the engine's first pool, another one, or none", async () => {
		const engine = await Engine.create({ ram: "8M", swiotlb: "512" });
		const second = engine.addPool({ slabs: 256, areas: 2 });
		expect(second.start).toBe(engine.pools[0] ? engine.pools[0].start - 256 * 2048 : 0);
		const [a, b, c] = [engine.addDevice(), engine.addDevice({ pool: second }), engine.addDevice({ pool: null })];
		expect([a?.pool, b?.pool, c?.pool]).toEqual([engine.pools[0], second, null]);
		const forced = engine.addDevice({ pool: second, forceBounce: true });
		expect(forced.map(0, 100, ToDevice, 1)).toBe(second.start + 128 * 2048);
		expect([engine.pools[0]?.used, second.used]).toEqual([0, 1]);
	});
});
