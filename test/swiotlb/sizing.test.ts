import { describe, expect, it } from "vitest";
import { parseBytes } from "../../src/bytes.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { parseSwiotlbOption, poolSize } from "../../src/swiotlb/sizing.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const SLABS_PER_MIB = 512;

describe("the swiotlb= option", () => {
	it.each([
		["", {}],
		["32768", { slabs: 32768 }],
		["32768,4", { slabs: 32768, areas: 4 }],
		[",4", { areas: 4 }],
		["force", { force: true }],
		["noforce", { force: false }],
		["32768,force", { slabs: 32768, force: true }],
		["32768,4,force", { slabs: 32768, areas: 4, force: true }],
		["0x8000", { slabs: 32768 }],
		["010", { slabs: 8 }],
		["1,0", { slabs: 1, areas: 0 }],
		["track_hiwater", { trackHiwater: true }],
		["1024,track_hiwater", { slabs: 1024, trackHiwater: true }],
		["1024,4,force,track_hiwater", { slabs: 1024, areas: 4, force: true, trackHiwater: true }],
		["noforce,track_hiwater", { force: false, trackHiwater: true }],
	])("%j says %j", (text, option) => {
		expect(parseSwiotlbOption(text)).toEqual(option);
	});

	it.each([
		["lots", '"lots"'],
		["-5", '"-5"'],
		["1.5", '"1.5"'],
		["64M", '"64M"'],
		["force,4", '"force" must come last'],
		["track_hiwater,4", '"track_hiwater"'],
		["1,2,force,track_hiwaters", '"force" must come last'],
		["1,2,3", '"3"'],
		["1,2,force,force", '"force" must come last'],
		["1048577", "more than 1048576 slots"],
		["99999999999999999999", "more than 1048576 slots"],
		["1,99999999999", "more than 1048576"],
		["1,,2", '"2"'],
	])("%j is refused by name", (text, named) => {
		expect(() => parseSwiotlbOption(text)).toThrow(RangeError);
		expect(() => parseSwiotlbOption(text)).toThrow(`swiotlb=${text}: `);
		expect(() => parseSwiotlbOption(text)).toThrow(named);
	});
});

describe("a pool's size", () => {
	it.each([
		// RAM, CPUs: MiB, areas; the effective results of Linux for a confidential guest
		[1, 1, 64, 1],
		[2, 2, 128, 2],
		[4, 4, 256, 4],
		[8, 8, 512, 8],
		[16, 16, 1024, 16],
		[32, 48, 1024, 64],
		[64, 128, 1024, 128],
	])("for a confidential guest of %i GiB and %i CPUs is %i MiB in %i areas", (gib, cpus, mib, areas) => {
		expect(poolSize({ coco: true, ramBytes: gib * GIB, cpus })).toEqual({ slabs: mib * SLABS_PER_MIB, areas });
	});

	it("of 32 GiB and 48 CPUs has areas of 8192 slots, of 64 GiB and 128 CPUs of 4096", () => {
		for (const [gib, cpus, each] of [
			[32, 48, 8192],
			[64, 128, 4096],
		] as const) {
			const { slabs, areas } = poolSize({ coco: true, ramBytes: gib * GIB, cpus });
			expect(slabs / areas).toBe(each);
		}
	});

	it("is 64 MiB in one area when nothing is said, and for a guest that is not confidential", () => {
		expect(poolSize()).toEqual({ slabs: 32768, areas: 1 });
		expect(poolSize({ ramBytes: 64 * GIB })).toEqual({ slabs: 32768, areas: 1 });
		expect(poolSize({ coco: true, ramBytes: 256 * MIB })).toEqual({ slabs: 32768, areas: 1 });
	});

	it.each([
		[{ slabs: 1 }, { slabs: 128, areas: 1 }],
		[{ slabs: 128 }, { slabs: 128, areas: 1 }],
		[{ slabs: 129 }, { slabs: 256, areas: 1 }],
		[{ slabs: 300 }, { slabs: 512, areas: 1 }],
		[{ slabs: 600 }, { slabs: 1024, areas: 1 }],
		[{ slabs: 40000 }, { slabs: 65536, areas: 1 }],
		[
			{ slabs: 1024, areas: 0 },
			{ slabs: 1024, areas: 1 },
		],
		[
			{ slabs: 1024, areas: 3 },
			{ slabs: 1024, areas: 4 },
		],
		[
			{ slabs: 128, areas: 4 },
			{ slabs: 512, areas: 4 },
		],
		[
			{ slabs: 1024, areas: 100 },
			{ slabs: 16384, areas: 128 },
		],
		[
			{ slabs: 4096, areas: 1 },
			{ slabs: 4096, areas: 1 },
		],
		[{ areas: 6 }, { slabs: 32768, areas: 8 }],
		[{ cpus: 6 }, { slabs: 32768, areas: 8 }],
		[
			{ cpus: 6, areas: 2 },
			{ slabs: 32768, areas: 2 },
		],
	])("follows Linux's rounding: %j gives %j", (options, expected) => {
		expect(poolSize(options)).toEqual(expected);
	});

	it("that the user gave is not replaced by a share of RAM", () => {
		expect(poolSize({ coco: true, ramBytes: 16 * GIB, slabs: 4096 })).toEqual({ slabs: 4096, areas: 1 });
		// Linux cannot tell the default from the same number given by hand
		expect(poolSize({ coco: true, ramBytes: 16 * GIB, slabs: 32768 }).slabs).toBe(1024 * SLABS_PER_MIB);
	});

	it("is 6 % of RAM between 64 MiB and 1 GiB, as a power of two of slots", () => {
		for (let mib = 64; mib < 40_000; mib = Math.floor(mib * 1.17)) {
			const { slabs } = poolSize({ coco: true, ramBytes: mib * MIB });
			const share = Math.min(Math.max(mib * 0.06, 64), 1024) * SLABS_PER_MIB;
			expect(Math.log2(slabs) % 1).toBe(0);
			expect(slabs).toBeGreaterThanOrEqual(Math.floor(share));
			expect(slabs).toBeLessThan(Math.ceil(share) * 2 + 128);
		}
	});
});

describe("sizing", () => {
	it("refuses numbers that are no counts by the option's name", () => {
		for (const name of ["slabs", "areas", "cpus", "ramBytes"] as const) {
			for (const bad of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60]) {
				expect(() => poolSize({ coco: true, [name]: bad })).toThrow(`${name} must be a whole number`);
			}
		}
	});
});

describe("an engine's default pool", () => {
	it("lies at the top of the memory below 4 GiB, page-aligned", async () => {
		const engine = await Engine.create({ ram: "128M", swiotlb: "1024,2" });
		const [pool] = engine.pools;
		expect(pool).toMatchObject({ start: 126 * MIB, slabs: 1024, areaCount: 2, areaSlabs: 512, bytes: 2 * MIB });
		const high = await Engine.create({
			swiotlb: "512",
			ram: [
				{ gpa: 0, bytes: 4 * MIB },
				{ gpa: 4 * GIB, bytes: 8 * MIB },
			],
		});
		expect(high.pools[0]?.start).toBe(3 * MIB);
	});

	it("has an area for each CPU, and none is made with null or noforce", async () => {
		expect((await Engine.create({ ram: "96M", cpus: 4 })).pools[0]).toMatchObject({ slabs: 32768, areaCount: 4 });
		expect((await Engine.create({ ram: "16M", swiotlb: null })).pools).toEqual([]);
		expect((await Engine.create({ ram: "16M", swiotlb: "noforce" })).pools).toEqual([]);
	});

	it.each([
		["64M", 16384, 8],
		["65M", 32768, 8],
		["16M", 4096, 8],
		["1028K", 512, 4],
	])("is halved until it leaves some RAM, as at boot: %s", async (ram, slabs, areaCount) => {
		const engine = await Engine.create({ ram, cpus: 8 });
		expect(engine.pools[0]).toMatchObject({ slabs, areaCount });
		expect(engine.ram.pageState(0)).toBe(PageState.Private);
	});

	it.each([
		[{ ram: "1M" }, /^swiotlb: a pool of 1048576 bytes does not fit into RAM of 1048576 bytes: null for no pool$/],
		[{ ram: "16M", swiotlb: "65536" }, /does not fit/],
		[{ ram: "16M", swiotlb: "8192" }, /does not fit/],
		[{ ram: "64M", swiotlb: "many" }, /swiotlb=many/],
		[{ ram: "64M", cpus: 0 }, /cpus must be a whole number/],
		[{ ram: "64M", cpus: Number.NaN }, /cpus/],
		[{ ram: "64M", cpus: 1.5 }, /cpus/],
		[{ ram: "64M", maxDevices: 5000 }, /maxDevices/],
		[{ ram: "64M", maxPools: -1 }, /maxPools/],
		[{ ram: "64M", spareBytes: Number.POSITIVE_INFINITY }, /spareBytes/],
	])("is refused by the name of the option: %j", async (options, message) => {
		await expect(Engine.create(options)).rejects.toThrow(message);
	});

	it("needs a memory and a context together, and a ptr for each stretch of a foreign memory", async () => {
		const memory = new WebAssembly.Memory({ initial: 8 });
		const ram = [{ gpa: 0, bytes: 4096 }];
		await expect(Engine.create({ ram, swiotlb: null, memory })).rejects.toThrow(/memory and context go together/);
		const context = { ptr: 0, bytes: 300_000 };
		await expect(Engine.create({ ram, swiotlb: null, memory, context })).rejects.toThrow(/gpa 0x0 must have a ptr/);
		const placed = [{ gpa: 0, bytes: 4096, ptr: 327680 }];
		await expect(Engine.create({ ram: placed, swiotlb: null })).rejects.toThrow(/must not have a ptr/);
		const cases = [
			[{ ptr: 0, bytes: 100 }, /context has 100 bytes and needs/],
			[{ ptr: 300_032, bytes: 300_000 }, /must lie inside the memory/],
			[{ ptr: 100, bytes: 300_000 }, /multiple of 64/],
			[{ ptr: -64, bytes: 300_000 }, /must lie inside the memory/],
			[{ ptr: 65536, bytes: 300_000 }, /context overlaps the stretch at gpa 0x0/],
		] as const;
		const before = Buffer.from(memory.buffer.slice(0));
		for (const [context, message] of cases) {
			await expect(Engine.create({ ram: placed, swiotlb: null, memory, context })).rejects.toThrow(message);
		}
		expect(Buffer.compare(before, Buffer.from(memory.buffer))).toBe(0);
	});
});

describe("a size", () => {
	it("is bytes, or K, M, G, T in powers of 1024", () => {
		expect(["4096", "64K", "1.5G", "2 MiB", "1tb", 12].map(parseBytes)).toEqual([
			4096,
			65536,
			1.5 * GIB,
			2 * MIB,
			2 ** 40,
			12,
		]);
		for (const bad of ["", "K", "-1", "1.0001K", "1Q", "1e3", "0x10", Number.NaN, -4, 1.5, 2 ** 60]) {
			expect(() => parseBytes(bad)).toThrow(`"${bad}"`);
		}
	});
});
