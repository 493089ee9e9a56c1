import { existsSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import type { Device } from "../../src/dma/device.ts";
import { Engine } from "../../src/engine.ts";
import type { Pool } from "../../src/swiotlb/pool.ts";
import { Direction } from "../../src/types.ts";
import { SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";

const LIBRARY = new URL("../../build/src/doors/engine.js", import.meta.url);
const WINDOW_BYTES = 0x100000;
const ROUNDS = bySuite({ quick: 6_000, slow: 30_000 });

interface Done {
	maps: number;
	full: number;
	slots: number;
	wrong: number;
	refusedUnmaps: number;
	otherStatus: number;
	outside: number;
}

interface Load {
	readonly workers: number;
	readonly slabs: number;
	readonly areas: number;
	/** The CPU of a worker; -1: another one for each map. */
	readonly cpuOf: (worker: number) => number;
	readonly rounds: number;
	readonly inFlight: number;
}

/** Runs workers on one engine; each moves its own bytes through the shared pool and looks at all that arrives. */
async function run(load: Load): Promise<{ engine: Engine; all: Done[]; device: Device }> {
	const poolBytes = load.slabs * 2048;
	const engine = await Engine.create({
		build: "engine.threads",
		swiotlb: `${load.slabs},${load.areas}`,
		ram: load.workers * WINDOW_BYTES + poolBytes,
		spareBytes: 32768 * load.workers,
	});
	const pool = engine.pools[0] as Pool;
	const areaBytes = pool.areaSlabs * 2048;
	const device = engine.addDevice({ pool, forceBounce: true, minAlignMask: 0x1ff });
	const gate = new SharedArrayBuffer(4);
	const all = await Promise.all(
		Array.from(
			{ length: load.workers },
			(_, i) =>
				new Promise<Done>((resolve, reject) => {
					const worker = new Worker(new URL("../helpers/worker.mjs", import.meta.url), {
						workerData: {
							library: LIBRARY.href,
							handle: engine.handle(),
							device: device.index,
							// every other worker spins instead of sleeping, as a browser's main thread has to
							mayBlock: i % 2 === 0,
							cpu: load.cpuOf(i),
							// with areas enough, a worker's slots are in its own
							slotsFrom: load.areas >= load.workers ? pool.start + load.cpuOf(i) * areaBytes : pool.start,
							slotsTo:
								load.areas >= load.workers ? pool.start + (load.cpuOf(i) + 1) * areaBytes : pool.start + poolBytes,
							rounds: load.rounds,
							inFlight: load.inFlight,
							seed: SEED + i,
							windowGpa: i * WINDOW_BYTES,
							windowBytes: WINDOW_BYTES,
							gate,
							workers: load.workers,
						},
					});
					worker.once("message", resolve);
					worker.once("error", reject);
				}),
		),
	);
	return { engine, all, device };
}

function checkEnd({ engine, all, device }: Awaited<ReturnType<typeof run>>): void {
	const pool = engine.pools[0];
	if (pool === undefined) throw new Error("no pool");
	for (const { wrong, refusedUnmaps, otherStatus, outside } of all) {
		expect({ wrong, refusedUnmaps, otherStatus, outside }).toEqual({
			wrong: 0,
			refusedUnmaps: 0,
			otherStatus: 0,
			outside: 0,
		});
	}
	expect(pool.used).toBe(0);
	expect(pool.areas().map(({ used }) => used)).toEqual(new Array(pool.areaCount).fill(0));
	expect(pool.list()).toEqual(Uint16Array.from({ length: pool.slabs }, (_, slot) => 128 - (slot % 128)));
	expect(pool.hiwater).toBeGreaterThan(0);
	expect(pool.hiwater).toBeLessThanOrEqual(pool.slabs);
	const sum = (field: keyof Done) => all.reduce((total, done) => total + done[field], 0);
	expect(device.counters.bouncedMaps).toBe(sum("maps"));
	expect(pool.failures.poolFull).toBe(sum("full"));
	expect(device.counters.bytesIn).toBeGreaterThan(device.counters.bytesBack);
	// the pool still works: all of it can be mapped
	const whole = Array.from({ length: pool.slabs / 128 }, (_, i) => device.map(0, 262144 - 512, Direction.ToDevice, i));
	expect(pool.used).toBe(pool.slabs);
	for (const dma of whole) device.unmap(dma, 262144 - 512, Direction.ToDevice);
	expect(pool.used).toBe(0);
}

describe("workers on one engine.threads memory", () => {
	it("have the built library to run", () => {
		expect(existsSync(LIBRARY), "npm run build makes it").toBe(true);
	});

	it("each on its own area: nobody is refused, every byte arrives, all slots come back", async () => {
		const result = await run({ workers: 4, slabs: 4096, areas: 4, cpuOf: (i) => i, rounds: ROUNDS, inFlight: 8 });
		checkEnd(result);
		expect(result.all.map(({ full }) => full)).toEqual([0, 0, 0, 0]);
		for (const { maps } of result.all) expect(maps).toBeGreaterThan(ROUNDS / 3);
	});

	it("all on one area: they wait for each other, and every byte arrives", async () => {
		const result = await run({ workers: 4, slabs: 1024, areas: 1, cpuOf: () => 0, rounds: ROUNDS, inFlight: 8 });
		checkEnd(result);
		for (const { maps } of result.all) expect(maps).toBeGreaterThan(ROUNDS / 3);
	});

	it("on a pool that is too small for all: some are refused, none gets another's slots", async () => {
		const result = await run({ workers: 4, slabs: 256, areas: 2, cpuOf: () => -1, rounds: ROUNDS, inFlight: 16 });
		checkEnd(result);
		expect(result.all.reduce((sum, { full }) => sum + full, 0)).toBeGreaterThan(ROUNDS / 300);
	});

	it("needs shared memory, and room in the context for each", async () => {
		const unshared = await Engine.create({ ram: "1M", swiotlb: null });
		expect(() => unshared.handle()).toThrow(/engine\.threads/);
		const engine = await Engine.create({ build: "engine.threads", ram: "1M", swiotlb: null, spareBytes: 40_000 });
		engine.handle();
		expect(() => engine.handle()).toThrow(/spareBytes/);
	});

	it("is refused an attach where there is no context of its build", async () => {
		const engine = await Engine.create({ build: "engine.threads", ram: "1M", swiotlb: null });
		const handle = engine.handle();
		for (const contextPtr of [0, handle.contextPtr + 64, handle.contextPtr + 1]) {
			await expect(Engine.attach({ ...handle, contextPtr })).rejects.toThrow(
				/attach\(context 0x[0-9a-f]+\): BAD_CONTEXT/,
			);
		}
		const attached = await Engine.attach(handle);
		expect(attached.ram.bytes).toBe(2 ** 20);
	});
});
