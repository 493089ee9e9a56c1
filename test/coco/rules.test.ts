import { describe, expect, it } from "vitest";
import * as layout from "../../assembly/layout/device.ts";
import { AREA_INDEX, IO_TLB_SIZE, POOL_HEADER_BYTES } from "../../assembly/layout/pool.ts";
import * as status from "../../assembly/layout/status.ts";
import type { Device } from "../../src/dma/device.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { statusName } from "../../src/status.ts";
import { Attr, Direction } from "../../src/types.ts";
import type { Build } from "../../src/wasm.ts";
import { type Decision, decideByModel, type Pages, type RulesCase } from "../helpers/rules-model.ts";
import { bySuite } from "../helpers/suite.ts";

const SHARED_POOL = 0x300000;
const ENCRYPTED_POOL = 0x340000;
const BUFFERS = 0x500000;
/** Private pages up to here, shared ones behind. */
const EDGE = 0x510000;
const BIT47 = 2n ** 47n;
const ALL = 2n ** 64n - 1n;
const BYTE = 7;
const { Bidirectional, ToDevice, FromDevice } = Direction;
const BOOLEANS = [false, true] as const;
const POOLS = ["none", "shared", "encrypted"] as const;

const BUILDS = bySuite<readonly Build[]>({ quick: ["engine"], slow: ["engine", "reference", "engine.threads"] });

/** Where a buffer of each kind lies. */
const GPA: Record<Pages, number> = { private: BUFFERS + 0x1010, shared: EDGE + 0x1010, mixed: EDGE - 16 };

/** What the decision depends on. */
const AXES = {
	checksState: BOOLEANS,
	needsShared: BOOLEANS,
	encodesAsLinux: BOOLEANS,
	forcedBy: ["device", "call", "nobody", "refused"],
	host: BOOLEANS,
	ccShared: BOOLEANS,
	mmio: BOOLEANS,
	requireCoherent: BOOLEANS,
	pages: ["private", "shared", "mixed"],
	// the whole address space; all below the bit; the pools but no buffer; nothing
	mask: [ALL, BIT47 - 1n, 0x3fffffn, 0xfffffn],
	bits: [
		[0n, 0n],
		[BIT47, 0n],
		[0n, BIT47],
	],
	pool: POOLS,
	coherent: BOOLEANS,
	bytes: [32, 200],
	dir: [Bidirectional, ToDevice, FromDevice],
} as const;
type Point = { readonly [K in keyof typeof AXES]: (typeof AXES)[K][number] };

/** Every point, the last axis fastest. */
function* points(names = Object.keys(AXES), point: Record<string, unknown> = {}): Generator<Point> {
	const [name, ...others] = names;
	if (name === undefined) {
		// 6.12 knows nothing of hosts, and who forces makes no difference to one
		if (point.host === true && (point.checksState === false || !["device", "nobody"].includes(String(point.forcedBy))))
			return;
		yield point as Point;
		return;
	}
	for (const value of AXES[name as keyof typeof AXES]) {
		point[name] = value;
		yield* points(others, point);
	}
}

async function guest(build: Build = "engine"): Promise<Engine> {
	const engine = await Engine.create({ build, swiotlb: null, ram: 0x600000, spareBytes: 131072 });
	engine.addPool({ slabs: 128, areas: 1 }, { start: SHARED_POOL });
	engine.addPool({ slabs: 128, areas: 1 }, { start: ENCRYPTED_POOL, encrypted: true });
	engine.ram.convert(EDGE, 0x10000, PageState.Shared);
	engine.ram.fill(BUFFERS, 0x20000, BYTE);
	return engine;
}

/** What was last set in a device's 64-bit fields. */
const prepared = new WeakMap<Device, Pick<Point, "mask" | "bits">>();

/** Sets the device up for a point. @returns attributes of the map */
function prepare(engine: Engine, device: Device, point: Point): number {
	const { exports: x } = engine.instance;
	const flags =
		(point.checksState ? layout.DEVICE_CHECKS_STATE | layout.DEVICE_CHECKS_POOL | layout.DEVICE_ENCODES_MMIO : 0) |
		(point.needsShared ? layout.DEVICE_NEEDS_SHARED : 0) |
		(point.needsShared || point.host ? layout.DEVICE_NEEDS_SHARED_POOL : 0) |
		(point.host ? layout.DEVICE_MMIO_SHARED : 0) |
		(point.forcedBy === "device" ? layout.DEVICE_FORCE_BOUNCE : 0) |
		(point.encodesAsLinux ? layout.DEVICE_ENCODES_AS_LINUX : 0) |
		(point.coherent ? 0 : layout.DEVICE_NON_COHERENT);
	x.deviceSet(device.index, POOLS.indexOf(point.pool) - 1, flags, 0);
	const before = prepared.get(device);
	if (before?.mask !== point.mask || before.bits !== point.bits) {
		const set = (field: number, value: bigint) =>
			x.deviceSet64(device.index, field, Number(value & 0xffffffffn), Number(value >> 32n));
		set(layout.DEVICE_DMA_MASK, point.mask);
		set(layout.DEVICE_PRIVATE_BITS, point.bits[0]);
		set(layout.DEVICE_SHARED_BITS, point.bits[1]);
		prepared.set(device, { mask: point.mask, bits: point.bits });
	}
	return (
		(point.ccShared ? Attr.CcShared : 0) |
		(point.mmio ? Attr.Mmio : 0) |
		(point.requireCoherent ? Attr.RequireCoherent : 0) |
		(point.forcedBy === "call" ? layout.ATTR_FORCE_BOUNCE : 0) |
		(point.forcedBy === "refused" ? layout.ATTR_NO_BOUNCE : 0)
	);
}

/** The slot that the pool's next search finds first: all are free. */
function nextSlot(engine: Engine, pool: Point["pool"]): number {
	const number = pool === "encrypted" ? 1 : 0;
	const index = engine.instance.u32((engine.instance.exports.poolPtr(number) >>> 0) + POOL_HEADER_BYTES + AREA_INDEX);
	return (number === 1 ? ENCRYPTED_POOL : SHARED_POOL) + index * IO_TLB_SIZE;
}

/** How a map came out: what the model is compared with. */
function observe(engine: Engine, device: Device, point: Point, attrs: number, slot: number): Decision {
	const { exports: x } = engine.instance;
	const { bytes, dir } = point;
	const view = engine.ram.view(slot, bytes);
	view.fill(0);
	const answer = x.mapSingle(device.index, GPA[point.pages], bytes, dir, 0, attrs);
	const bounced = engine.pools.some(({ used }) => used > 0);
	const decision = { answer, bounced, copied: view[0] === BYTE && view[bytes - 1] === BYTE };
	if (answer >= 0) {
		const back = x.unmapSingle(device.index, answer, bytes, dir, attrs);
		if (back !== (bounced && dir !== ToDevice ? bytes : 0)) throw new Error(`unmap answered ${back}`);
	}
	return decision;
}

describe("the decision of Linux 6.12 and that of the 7.3 merge", () => {
	it.each(BUILDS)("is the model's in every case (%s)", async (build) => {
		const engine = await guest(build);
		const device = engine.addDevice();
		const seen = new Map<string, number>();
		let all = 0;
		for (const point of points()) {
			all++;
			const slot = nextSlot(engine, point.pool);
			const got = observe(engine, device, point, prepare(engine, device, point), slot);
			const expected = decideByModel({
				...point,
				forced: point.forcedBy === "device" || point.forcedBy === "call",
				noBounce: point.forcedBy === "refused",
				privateBit: point.bits[0],
				sharedBit: point.bits[1],
				toDevice: point.dir === ToDevice,
				gpa: BigInt(GPA[point.pages]),
				slot: BigInt(slot),
			} satisfies RulesCase);
			if (got.answer !== expected.answer || got.bounced !== expected.bounced || got.copied !== expected.copied) {
				const text = JSON.stringify(point, (_, value) =>
					typeof value === "bigint" ? `0x${value.toString(16)}` : value,
				);
				expect.fail(`${text}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(got)}`);
			}
			const how = got.answer < 0 ? statusName(got.answer) : got.bounced ? "bounced" : "direct";
			const name = `${point.checksState ? "7.3" : "6.12"} ${how}${got.copied && !got.bounced ? ", copied" : ""}`;
			seen.set(name, (seen.get(name) ?? 0) + 1);
		}
		expect(all).toBe((2 ** 6 * 4 + 2 ** 5 * 2) * 3 * 4 * 3 * 3 * 2 * 2 * 3);
		expect([...seen.keys()].sort()).toEqual([
			"6.12 BEYOND_MASK",
			"6.12 BOUNCE_REFUSED",
			"6.12 MIXED_PAGES",
			"6.12 NO_POOL",
			"6.12 SHARES_CACHE_LINE",
			"6.12 SLOTS_BEYOND_MASK, copied",
			"6.12 bounced",
			"6.12 direct",
			"7.3 BEYOND_MASK",
			"7.3 BOUNCE_REFUSED",
			"7.3 NEEDS_SHARED",
			"7.3 NOT_COHERENT",
			"7.3 NO_POOL",
			"7.3 POOL_STATE",
			"7.3 SHARES_CACHE_LINE",
			"7.3 SLOTS_BEYOND_MASK, copied",
			"7.3 bounced",
			"7.3 direct",
		]);
		for (const [name, count] of seen) expect(count, name).toBeGreaterThan(400);
		expect(engine.pools.map(({ used }) => used)).toEqual([0, 0]);
	});

	it("tells which pages are blocked or outside RAM before anything else, but for MMIO", async () => {
		const engine = await guest();
		const device = engine.addDevice();
		engine.ram.convert(BUFFERS + 0x8000, 4096, PageState.Leaked);
		for (const point of points()) {
			if (point.mask !== ALL || point.bytes !== 32 || point.dir !== ToDevice || point.mmio) continue;
			const attrs = prepare(engine, device, point);
			const map = (gpa: number) => engine.instance.exports.mapSingle(device.index, gpa, 32, ToDevice, 0, attrs);
			if (map(BUFFERS + 0x8ff0) !== status.BLOCKED_PAGES || map(BUFFERS + 0x7ff0) !== status.BLOCKED_PAGES)
				expect.fail(JSON.stringify(point, (_, value) => String(value)));
			if (map(0x5ffff0) !== status.OUTSIDE_RAM || map(2 ** 40) !== status.OUTSIDE_RAM)
				expect.fail(JSON.stringify(point, (_, value) => String(value)));
		}
	});

	it.each([false, true])(
		"refuses an MMIO address that is none, whatever is cleared in it (7.3: %s)",
		async (checksState) => {
			const engine = await guest();
			const clear = { trusted: true, sharedClear: BIT47, privateClear: BIT47, checksState };
			const device = engine.addDevice({ ...clear, pool: engine.pools[0] ?? null });
			const before = device.counters;
			for (const gpa of [-1, 0.5, 2 ** 52, 2 ** 52 - 4095, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 64]) {
				for (const bytes of [1, 4096, 2 ** 31 - 1]) {
					if (gpa + bytes <= 2 ** 52 && Number.isInteger(gpa) && gpa > 0) continue;
					for (const attrs of [Attr.Mmio, Attr.Mmio | Attr.CcShared])
						expect(device.tryMap(gpa, bytes, ToDevice, 0, attrs)).toBe(status.OUTSIDE_RAM);
				}
			}
			expect(device.counters).toEqual(before);
			expect(device.tryMap(2 ** 51, 4096, ToDevice, 0, Attr.Mmio)).toBe(2 ** 51);
		},
	);
});
