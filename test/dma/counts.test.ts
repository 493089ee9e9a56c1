import { describe, expect, it } from "vitest";
import * as status from "../../assembly/layout/status.ts";
import { Engine } from "../../src/engine.ts";
import type { Pool } from "../../src/swiotlb/pool.ts";
import { Attr, Direction } from "../../src/types.ts";

const POOL = 0x300000;
const { Bidirectional, ToDevice, FromDevice } = Direction;

async function guest(): Promise<{ engine: Engine; pool: Pool }> {
	const engine = await Engine.create({ swiotlb: null, ram: 0x400000 });
	return { engine, pool: engine.addPool({ slabs: 256, areas: 2 }, { start: POOL }) };
}

describe("what a device holds and costs", () => {
	it("counts live direct mappings across a reset of its counters, MMIO and lists too", async () => {
		const { engine, pool } = await guest();
		const device = engine.addDevice({ pool, trusted: true });
		const holds = () => device.holds().directMappings;
		const first = device.map(0x1000, 100, ToDevice);
		const second = device.map(0x2000, 100, FromDevice);
		device.resetCounters();
		expect([holds(), device.counters.directMaps]).toEqual([2, 0]);
		device.unmap(first, 100, ToDevice);
		expect(device.tryUnmap(2 ** 40, 100, ToDevice)).toBe(status.OUTSIDE_RAM);
		const mmio = device.map(2 ** 40, 4096, ToDevice, 0, Attr.Mmio);
		expect([mmio, holds(), device.counters.directMaps]).toEqual([2 ** 40, 2, 1]);
		device.resetCounters();
		device.unmap(mmio, 4096, ToDevice, Attr.Mmio);
		device.unmap(second, 100, FromDevice);
		expect([holds(), device.counters.directMaps]).toEqual([0, 0]);
		// a list that fails ends what it had mapped, MMIO as MMIO
		const list = [2 ** 40, 2 ** 41, 2 ** 52].map((gpa) => ({ gpa, bytes: 4096 }));
		expect(() => device.mapSg(list, ToDevice, 0, Attr.Mmio)).toThrow(/OUTSIDE_RAM/);
		expect([holds(), device.counters.directMaps]).toEqual([0, 2]);
	});

	/** Operations of map, sync for device, sync for CPU, unmap. */
	/** Bytes of a map, a sync for the device, one for the CPU and an unmap: nothing is done about TO_DEVICE memory given back. */
	const MAINTAINED: [string, Direction, readonly number[]][] = [
		["BIDIRECTIONAL", Bidirectional, [5000, 300, 300, 5000]],
		["TO_DEVICE", ToDevice, [5000, 300, 0, 0]],
		["FROM_DEVICE", FromDevice, [5000, 300, 300, 5000]],
	];
	for (const forceBounce of [false, true]) {
		it.each(MAINTAINED)(`counts cache maintenance, %s, bounced: ${forceBounce}`, async (_, dir, expected) => {
			const { engine, pool } = await guest();
			for (const coherent of [true, false]) {
				const device = engine.addDevice({ pool, trusted: true, forceBounce, coherent });
				const ops: number[] = [];
				const covered: number[] = [];
				let dma = 0;
				const step = (calls: (() => void)[]) => {
					ops.length = 0;
					covered.length = 0;
					for (const call of calls) {
						const { cacheOps, cacheBytes } = device.counters;
						call();
						ops.push(device.counters.cacheOps - cacheOps);
						covered.push(device.counters.cacheBytes - cacheBytes);
					}
				};
				const map = (attrs: number) => () => {
					dma = device.map(0x1000, 5000, dir, 0, attrs);
				};
				const syncs = [() => device.syncForDevice(dma + 100, 300, dir), () => device.syncForCpu(dma + 100, 300, dir)];
				const none = [0, 0, 0, 0];
				step([map(0), ...syncs, () => device.unmap(dma, 5000, dir)]);
				expect([ops, covered]).toEqual(coherent ? [none, none] : [[1, 1, 1, 1], expected]);
				const { SkipCpuSync } = Attr;
				step([map(SkipCpuSync), ...syncs, () => device.unmap(dma, 5000, dir, SkipCpuSync)]);
				expect(ops).toEqual(coherent ? none : [0, 1, 1, 0]);
				// a call that is refused, and MMIO, need none
				const { cacheOps } = device.counters;
				expect(device.tryMap(0x1000, 300_000_000, dir)).toBe(status.OUTSIDE_RAM);
				if (!forceBounce) device.map(2 ** 40, 100, dir, 0, Attr.Mmio);
				expect(device.counters.cacheOps).toBe(cacheOps);
				device.resetCounters();
				expect(device.counters).toMatchObject({ cacheOps: 0, cacheBytes: 0 });
			}
		});
	}
});
