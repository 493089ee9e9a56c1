import { describe, expect, it } from "vitest";
import type { DeviceOptions } from "../../src/dma/options.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { statusName } from "../../src/status.ts";
import { Attr, Direction } from "../../src/types.ts";

const { ToDevice } = Direction;
const BUFFER = 0x5000;

const confidential = (swiotlb: string | null = "256") => Engine.create({ ram: "4M", swiotlb });

/** Where a device's map of a private page goes: the pool, the page itself, or a status. */
function goes(engine: Engine, options?: DeviceOptions): string {
	const dma = engine.addDevice(options).tryMap(BUFFER, 512, ToDevice);
	if (dma < 0) return statusName(dma);
	if (dma === BUFFER) return "direct";
	const pool = engine.pools.find(({ start, bytes }) => dma >= start && dma < start + bytes);
	return pool === undefined ? `at ${dma}` : `pool ${pool.index}`;
}

describe("a device of a confidential engine", () => {
	it("bounces unless it is said to be trusted", async () => {
		const engine = await confidential();
		expect(engine.confidential).toBe(true);
		expect(goes(engine)).toBe("pool 0");
		expect(goes(engine, {})).toBe("pool 0");
		expect(goes(engine, { trusted: false })).toBe("pool 0");
		expect(goes(engine, { trusted: true })).toBe("direct");
	});

	it("bounces what lies on shared pages too, as with SWIOTLB_FORCE", async () => {
		const engine = await confidential();
		engine.ram.convert(BUFFER, 4096, PageState.Shared);
		expect(goes(engine)).toBe("pool 0");
	});

	it.each([null, "noforce"])("is refused its maps where there is no pool (swiotlb %s)", async (swiotlb) => {
		const engine = await confidential(swiotlb);
		expect(goes(engine)).toBe("NO_POOL");
		expect(goes(engine, { trusted: true })).toBe("direct");
		expect(() => engine.addDevice().map(BUFFER, 512, ToDevice)).toThrow(/must bounce and has no pool/);
		const other = engine.addPool({ slabs: 256, areas: 1 });
		expect(goes(engine, { pool: other })).toBe("pool 0");
		expect(goes(engine, { pool: null })).toBe("NO_POOL");
	});

	it("bounces although it is trusted where the engine or the device is told to force it", async () => {
		expect(goes(await confidential("256,force"), { trusted: true })).toBe("pool 0");
		expect(goes(await confidential("256,force"), { trusted: true, forceBounce: false })).toBe("direct");
		expect(goes(await confidential(), { trusted: true, forceBounce: true })).toBe("pool 0");
	});

	it("does not get private pages by a forceBounce of false alone", async () => {
		const engine = await confidential();
		const message = /forceBounce: false would give it private pages as they are: say trusted: true/;
		expect(() => engine.addDevice({ forceBounce: false })).toThrow(message);
		expect(() => engine.addDevice({ forceBounce: false, checksState: true })).toThrow(message);
		expect(() => engine.addDevice({ forceBounce: false, needsShared: true })).toThrow(message);
		expect(engine.devices).toEqual([]);
	});

	it("may leave the decision to the rules of 7.3, which keep it from private pages and let shared ones pass", async () => {
		const engine = await confidential();
		const rules = { checksState: true, needsShared: true };
		expect(goes(engine, rules)).toBe("pool 0");
		engine.ram.convert(BUFFER, 4096, PageState.Shared);
		expect(engine.addDevice(rules).map(BUFFER, 512, ToDevice, 0, Attr.CcShared)).toBe(BUFFER);
	});

	it("is not trusted again by a new configuration that does not say so", async () => {
		const engine = await confidential();
		const pool = engine.pools[0] ?? null;
		const device = engine.addDevice({ trusted: true });
		expect(device.map(BUFFER, 512, ToDevice)).toBe(BUFFER);
		device.configure({ pool });
		expect(device.map(BUFFER, 512, ToDevice)).toBe(pool?.start);
		expect(() => device.configure({ pool, forceBounce: false })).toThrow(/say trusted: true/);
		device.configure({});
		expect(statusName(device.tryMap(BUFFER, 512, ToDevice))).toBe("NO_POOL");
	});

	it("bounces in an engine that was restored too", async () => {
		const restored = await Engine.restore((await confidential()).snapshot());
		expect(restored.confidential).toBe(true);
		expect(goes(restored)).toBe("pool 0");
		const plain = await Engine.restore((await Engine.create({ ram: "4M", swiotlb: "256", coco: false })).snapshot());
		expect(plain.confidential).toBe(false);
		expect(goes(plain)).toBe("direct");
	});

	it("bounces where another worker adds it", async () => {
		const options = { ram: "4M", swiotlb: "256", build: "engine.threads" } as const;
		const attached = await Engine.attach((await Engine.create(options)).handle());
		expect(attached.confidential).toBe(true);
		expect(goes(attached)).toBe("pool 0");
	});
});

describe("a device of a plain engine", () => {
	it("goes direct unless it is said not to be trusted, or all bounces", async () => {
		const engine = await Engine.create({ ram: "4M", swiotlb: "256", coco: false });
		expect(goes(engine)).toBe("direct");
		expect(goes(engine, { trusted: false })).toBe("pool 0");
		expect(goes(engine, { forceBounce: true })).toBe("pool 0");
		expect(goes(await Engine.create({ ram: "4M", swiotlb: "256,force", coco: false }))).toBe("pool 0");
	});
});
