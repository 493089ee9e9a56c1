import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DeviceOptions } from "../../src/dma/options.ts";
import { type BrokenRule, MapRefused, type Refusal, type RefusedRequest } from "../../src/dma/refusal.ts";
import { Engine } from "../../src/engine.ts";
import { type StatusName, statusName } from "../../src/status.ts";
import { Attr, Direction } from "../../src/types.ts";
import { bySuite } from "../helpers/suite.ts";

const { ToDevice, FromDevice } = Direction;
const MIB = 2 ** 20;
const HIGH = 2 ** 32;
const MASK32 = 2n ** 32n - 1n;

async function guest(swiotlb: string | null = "512") {
	const ram = [
		{ gpa: 0, bytes: 4 * MIB },
		{ gpa: HIGH, bytes: 2 * MIB },
	];
	return Engine.create({ ram, swiotlb, coco: false });
}

/** What a map is refused for. */
function refused(
	engine: Engine,
	options: DeviceOptions,
	map: { gpa: number; bytes: number; dir?: Direction; attrs?: number },
): Refusal {
	const { gpa, bytes, dir = ToDevice, attrs = 0 } = map;
	try {
		engine.addDevice(options).map(gpa, bytes, dir, 0, attrs);
	} catch (error) {
		if (error instanceof MapRefused) return error.refusal;
		throw error;
	}
	throw new Error("it was mapped");
}

const rules = (of: readonly BrokenRule[]) => of.map(({ rule }) => rule);

describe("a refusal", () => {
	it("of more than 128 slots tells them, what Linux logs, and what fits here and anywhere", async () => {
		const refusal = refused(await guest(), { forceBounce: true, minAlignMask: 0xfff }, { gpa: 0x200, bytes: 262144 });
		expect(refusal).toEqual({
			status: "OVER_MAX_MAPPING",
			request: { gpa: 0x200, bytes: 262144, dir: ToDevice, attrs: 0 },
			errno: { mapping: "ENOMEM", list: "EIO" },
			message: { class: "FULL", bytes: 262656, totalSlots: 512, usedSlots: 0 },
			broken: [{ rule: "max-mapping", offsetBytes: 0x200, bytes: 262144, slots: 129, maxSlots: 128 }],
			next: [],
			largestBytes: 261632,
			largestAnywhereBytes: 258048,
			ways: [[{ remedy: "split", bytes: 258048, anywhere: true }]],
		});
	});

	it("of a buffer beyond the mask without a pool tells the end, the mask, and a mask that would do", async () => {
		const refusal = refused(await guest(null), { dmaMask: MASK32 }, { gpa: HIGH + 0x1000, bytes: 4096 });
		const reach = { rule: "reach", of: "buffer", limit: HIGH - 1, limitedBy: "dma_mask", encodingBits: 0 };
		expect(refusal).toMatchObject({
			status: "BEYOND_MASK",
			message: { class: "DMA-OVERFLOW", dma: HIGH + 0x1000, bytes: 4096, mask: "ffffffff", busLimit: "0" },
			broken: [
				{ ...reach, dma: HIGH + 0x1000, endDma: HIGH + 0x1fff },
				{ rule: "no-pool", forced: false },
			],
			largestBytes: 0,
			largestAnywhereBytes: null,
			ways: [
				[{ remedy: "reach", of: "buffer", limit: HIGH - 1, maskBits: 33, byEncoding: false }],
				[{ remedy: "pool", slots: null }],
			],
		});
	});

	it("tells several rules at once, and what would have refused it next", async () => {
		const map = { gpa: HIGH + 0x200, bytes: 2 ** 20 };
		const options = { dmaMask: MASK32, minAlignMask: 0xfff };
		const without = refused(await guest(null), options, map);
		expect([without.status, rules(without.broken), rules(without.next)]).toEqual([
			"BEYOND_MASK",
			["reach", "no-pool"],
			["max-mapping"],
		]);
		expect(without.ways.map((steps) => steps.map(({ remedy }) => remedy))).toEqual([["reach"], ["pool", "split"]]);
		const wrong = { ...options, checksState: true, needsShared: true, needsSharedPool: false };
		const state = refused(await guest(), wrong, map);
		expect([state.status, state.message, rules(state.broken), rules(state.next)]).toEqual([
			"POOL_STATE",
			null,
			["reach", "state", "pool-state"],
			["max-mapping"],
		]);
		const low = refused(await guest(), { ...wrong, dmaMask: 0xfffffn }, map);
		expect(rules(low.next)).toEqual(["max-mapping", "reach"]);
	});

	it("of a full pool tells use and the longest run, and a pool that would do", async () => {
		const engine = await guest();
		const device = engine.addDevice({ forceBounce: true });
		for (let i = 0; i < 4; i++) device.map(i * 262144, 262144, ToDevice);
		const full = refused(engine, { forceBounce: true }, { gpa: 0x1000, bytes: 8192 });
		expect(full).toMatchObject({
			status: "POOL_FULL",
			message: { class: "FULL", bytes: 8192, totalSlots: 512, usedSlots: 512 },
			broken: [
				{ rule: "free-run", slots: 4, usedSlots: 512, totalSlots: 512, longestFreeRunSlots: 0, disabled: false },
			],
			largestBytes: 0,
			ways: [[{ remedy: "pool", slots: 1024 }]],
		});
	});

	it("of slots beyond the mask tells the lowest place in the pool, and that it is the encoding", async () => {
		const engine = await guest();
		const options = { forceBounce: true, dmaMask: MASK32, sharedBits: 2n ** 47n };
		const refusal = refused(engine, options, { gpa: 0x3000, bytes: 5000 });
		const start = engine.pools[0]?.start ?? 0;
		expect(refusal).toMatchObject({
			status: "SLOTS_BEYOND_MASK",
			message: { class: "TLB-OVERFLOW", dma: null, bytes: 5000, mask: "ffffffff", busLimit: "0" },
			broken: [{ rule: "reach", of: "slots", dma: 2 ** 47 + start, limit: HIGH - 1, encodingBits: 2 ** 47 }],
			largestBytes: 0,
			ways: [[{ remedy: "reach", of: "slots", maskBits: 48, byEncoding: true }]],
		});
	});

	it.each([
		["a pool that is missing", null, { forceBounce: true }, {}, "NO_POOL", ["no-pool"], "NO-POOL"],
		[
			"an attribute",
			"512",
			{ forceBounce: true, checksState: true },
			{ attrs: Attr.RequireCoherent },
			"BOUNCE_REFUSED",
			["attribute"],
			undefined,
		],
		[
			"coherence",
			"512",
			{ coherent: false, checksState: true },
			{ attrs: Attr.RequireCoherent },
			"NOT_COHERENT",
			["coherence"],
			undefined,
		],
		[
			"a shared cache line",
			null,
			{ coherent: false },
			{ bytes: 96, dir: FromDevice },
			"SHARES_CACHE_LINE",
			["cache-line", "no-pool"],
			"DMA-OVERFLOW",
		],
		[
			"the memory's state",
			null,
			{ checksState: true, needsShared: true },
			{},
			"NEEDS_SHARED",
			["state", "no-pool"],
			"DMA-OVERFLOW",
		],
	] as const)("names %s", async (_, swiotlb, options, map, status, broken, message) => {
		const refusal = refused(await guest(swiotlb), options, { gpa: 0x1000, bytes: 4096, ...map });
		expect([refusal.status, rules(refusal.broken), refusal.message?.class]).toEqual([status, broken, message]);
		expect(refusal.errno?.list).toBe(status === "NOT_COHERENT" ? "EOPNOTSUPP" : "EIO");
	});

	it("says of a call that no kernel knows just that", async () => {
		const refusal = refused(await guest(), {}, { gpa: 2 ** 40, bytes: 4096 });
		expect(refusal).toMatchObject({
			status: "OUTSIDE_RAM",
			errno: null,
			message: null,
			broken: [{ rule: "call" }],
			ways: [],
		});
	});
});

/** Which rule the kernel stopped at, by status. */
const STOPS: Readonly<Partial<Record<StatusName, readonly BrokenRule["rule"][]>>> = {
	BEYOND_MASK: ["no-pool", "attribute"],
	NEEDS_SHARED: ["no-pool", "attribute"],
	SHARES_CACHE_LINE: ["no-pool", "attribute"],
	NO_POOL: ["no-pool"],
	BOUNCE_REFUSED: ["attribute"],
	NOT_COHERENT: ["coherence"],
	POOL_STATE: ["pool-state"],
	OVER_MAX_MAPPING: ["max-mapping"],
	POOL_FULL: ["free-run"],
	SLOTS_BEYOND_MASK: ["reach"],
};

describe("for every device, pool and request, a refusal", () => {
	it("names the rule that the status stands for, and a largest size that is mapped while no larger one is", async () => {
		const seen = new Map<string, number>();
		const device = fc.record(
			{
				dmaMask: fc.constantFrom(0xfffffn, 0x2fffffn, 0x3fffffn, MASK32, 2n ** 40n - 1n),
				busLimit: fc.constantFrom(0x2fffffn, MASK32),
				minAlignMask: fc.constantFrom(0x1ff, 0xfff, 0x1fff, 0xffff),
				segBoundaryMask: fc.constantFrom(0xffffn, 0x1ffffn),
				coherent: fc.boolean(),
				forceBounce: fc.boolean(),
				checksState: fc.boolean(),
				checksPool: fc.boolean(),
				encodesMmio: fc.boolean(),
				needsShared: fc.boolean(),
				needsSharedPool: fc.boolean(),
				encodesAsLinux: fc.boolean(),
				sharedBits: fc.constantFrom(2n ** 47n),
			},
			{ requiredKeys: [] },
		);
		const request = fc.record({
			gpa: fc.oneof(
				fc.nat(0xfffff),
				fc.nat(0xfffff).map((at) => HIGH + at),
			),
			bytes: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 400000 })),
			dir: fc.constantFrom(0, 1, 2) as fc.Arbitrary<Direction>,
			attrs: fc.constantFrom(0, 0, Attr.RequireCoherent, Attr.CcShared, Attr.Mmio, Attr.Mmio | Attr.CcShared),
		});
		const filled = fc.array(fc.integer({ min: 1, max: 128 }), { maxLength: 12 });
		const property = async (
			options: DeviceOptions,
			has: boolean,
			{ gpa, bytes, dir, attrs }: RefusedRequest,
			fill: number[],
		) => {
			const engine = await guest(has ? "512,2" : null);
			const filler = engine.addDevice({ forceBounce: true });
			const held = fill.flatMap((slots, i) => {
				const dma = has ? filler.tryMap(0, slots * 2048, ToDevice, i) : -1;
				return dma < 0 ? [] : [{ dma, bytes: slots * 2048 }];
			});
			for (const [i, one] of held.entries()) if (i % 3 === 1) filler.unmap(one.dma, one.bytes, ToDevice);
			const one = engine.addDevice(options);
			const status = one.tryMap(gpa, bytes, dir, 0, attrs);
			if (status >= 0) return;
			const refusal = one.refusal({ gpa, bytes, dir, attrs }, status);
			const name = statusName(status);
			seen.set(name, (seen.get(name) ?? 0) + 1);
			expect(refusal.status).toBe(name);
			expect(STOPS[name]).toContain(refusal.broken.at(-1)?.rule);
			const { largestBytes } = refusal;
			if (largestBytes === null) return;
			const maps = (size: number) => {
				const dma = one.tryMap(gpa, size, dir, 0, attrs);
				if (dma >= 0) one.unmap(dma, size, dir, attrs);
				return dma >= 0;
			};
			expect(largestBytes).toBeLessThan(bytes);
			if (largestBytes > 0) expect(maps(largestBytes), `${largestBytes} bytes`).toBe(true);
			for (const more of [1, 2, 31, 64, 2048, 4096, 65536])
				if (largestBytes + more <= bytes) expect(maps(largestBytes + more), `${largestBytes + more} bytes`).toBe(false);
		};
		await fc.assert(fc.asyncProperty(device as fc.Arbitrary<DeviceOptions>, fc.boolean(), request, filled, property), {
			numRuns: bySuite({ quick: 120, slow: 3000 }),
		});
		expect(seen.size).toBeGreaterThan(6);
	});
});
