import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Device } from "../../src/dma/device.ts";
import { Engine, type Snapshot } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import type { EngineOptions } from "../../src/setup.ts";
import { Direction } from "../../src/types.ts";
import { loadModule } from "../../src/wasm.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { tlbOf } from "../helpers/slots.ts";

const HIGH = 2 ** 32 + 0x10000;
const POOL_BYTES = 0x100000;
const RAM = [
	{ gpa: 0, bytes: 0x80000 },
	// adjoins the first: one region
	{ gpa: 0x80000, bytes: 0x40000 },
	{ gpa: 0x200000, bytes: POOL_BYTES },
	{ gpa: HIGH, bytes: 0x80000 },
];
printSeed("snapshot");

interface Live {
	readonly dma: number;
	readonly bytes: number;
	readonly dir: Direction;
	readonly device: number;
}

async function original(options: Partial<EngineOptions> = {}): Promise<Engine> {
	const engine = await Engine.create({ swiotlb: null, ram: RAM, spareBytes: 131072, ...options });
	const pool = engine.addPool({ slabs: 256, areas: 2 }, { start: 0x200000 });
	const second = engine.addPool({ slabs: 128, areas: 1 }, { start: 0x280000 });
	engine.addDevice({ pool, forceBounce: true, minAlignMask: 0xfff });
	engine.addDevice({ pool, trusted: true, dmaMask: 2n ** 32n - 1n, segBoundaryMask: 0xffffn });
	engine.addDevice({ pool: second, forceBounce: true });
	return engine;
}

/** Does `ops` operations, the same for the same random state, and answers what came of each. */
function run(engine: Engine, live: Live[], random: Random, ops: number): number[] {
	const answers: number[] = [];
	for (let i = 0; i < ops; i++) {
		const index = random.below(engine.devices.length);
		const device = engine.devices[index] as Device;
		const dir = random.below(3) as Direction;
		const bytes = random.oneIn(8) ? 1 + random.below(0x30000) : 1 + random.below(9000);
		const region = random.pick([
			{ gpa: 0, bytes: 0xc0000 },
			{ gpa: HIGH, bytes: 0x80000 },
		]);
		const gpa = region.gpa + random.below(region.bytes - bytes);
		const kind = random.below(8);
		if (kind < 4) {
			const dma = device.tryMap(gpa, bytes, dir, random.below(4));
			answers.push(dma);
			if (dma >= 0) live.push({ dma, bytes, dir, device: index });
		} else if (live.length > 0) {
			const at = random.below(live.length);
			const mapping = live[at] as Live;
			const owner = engine.devices[mapping.device] as Device;
			if (kind < 7) {
				live.splice(at, 1);
				answers.push(owner.tryUnmap(mapping.dma, mapping.bytes, mapping.dir, random.oneIn(4) ? 32 : 0));
			} else {
				engine.ram.fill(mapping.dma, mapping.bytes, i);
				answers.push(owner.syncForCpu(mapping.dma, mapping.bytes, mapping.dir));
			}
		}
	}
	return answers;
}

/** All that can be asked of an engine. */
function stateOf(engine: Engine): unknown {
	return {
		ram: engine.ram.regions.map(({ gpa, bytes }) => Buffer.from(engine.ram.view(gpa, bytes)).toString("latin1")),
		pages: Object.values(PageState).map((state) => engine.ram.pagesInState(state)),
		pools: engine.pools.map((pool) => [pool.used, pool.hiwater, pool.areas(), pool.failures, Array.from(pool.list())]),
		devices: engine.devices.map(({ counters, pool }) => [counters, pool?.index]),
	};
}

/** Goes on with both engines alike and compares all that comes of it, up to the end of the last mapping. */
function goOnAlike(a: Engine, b: Engine, live: readonly Live[], seed: number): void {
	const [liveA, liveB] = [[...live], [...live]];
	expect(run(b, liveB, new Random(seed), 300)).toEqual(run(a, liveA, new Random(seed), 300));
	expect(liveB).toEqual(liveA);
	expect(stateOf(b)).toEqual(stateOf(a));
	for (const [engine, all] of [
		[a, liveA],
		[b, liveB],
	] as const) {
		for (const { dma, bytes, dir, device } of all) engine.devices[device]?.unmap(dma, bytes, dir);
		expect(engine.pools.map(({ used }) => used)).toEqual([0, 0]);
	}
	expect(stateOf(b)).toEqual(stateOf(a));
}

describe("a snapshot", () => {
	it.each(["engine", "reference", "engine.threads", "debug"] as const)(
		"with live mappings goes on in a new memory (%s)",
		async (build) => {
			const engine = await original({ build });
			const live: Live[] = [];
			run(engine, live, new Random(SEED), 400);
			engine.ram.convert(0x4000, 4096, PageState.Hidden);
			expect(live.length).toBeGreaterThan(5);
			const restored = await Engine.restore(engine.snapshot());
			expect(restored.memory).not.toBe(engine.memory);
			expect(stateOf(restored)).toEqual(stateOf(engine));
			goOnAlike(engine, restored, live, SEED + 1);
		},
	);

	it("goes on at another base: in a bigger memory, with context and regions elsewhere", async () => {
		await fc.assert(
			fc.asyncProperty(
				fc.nat(),
				fc.integer({ min: 0, max: 300 }),
				fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 }),
				async (seed, ops, order) => {
					const engine = await original();
					const live: Live[] = [];
					run(engine, live, new Random(seed), ops);
					const snapshot = engine.snapshot();
					expect(snapshot.regions.length).toBe(3);
					// context and regions in any order, with gaps between them
					const ptrs: number[] = [];
					let ptr = 4096 + (seed % 512) * 64;
					for (const which of order) {
						ptrs[which] = ptr;
						ptr +=
							(which === 3 ? snapshot.contextBytes : (snapshot.regions[which]?.bytes as number)) +
							64 * (1 + (seed % 100));
						ptr = Math.ceil(ptr / 64) * 64;
					}
					const memory = new WebAssembly.Memory({ initial: Math.ceil(ptr / 65536) + 3 });
					new Uint8Array(memory.buffer).fill(0xa5);
					const restored = await Engine.restore(snapshot, {
						memory,
						contextPtr: ptrs[3] as number,
						regionPtrs: ptrs.slice(0, 3),
					});
					expect(restored.ram.regions.map((region) => region.ptr)).toEqual(ptrs.slice(0, 3));
					goOnAlike(engine, restored, live, seed + 1);
					// bytes between them are not the engine's
					const bytes = new Uint8Array(memory.buffer);
					expect(bytes.subarray(0, 4096).every((byte) => byte === 0xa5)).toBe(true);
					expect(bytes.subarray(ptr).every((byte) => byte === 0xa5)).toBe(true);
				},
			),
			{ seed: SEED, numRuns: 12 },
		);
	});

	it("is a copy: what happens to the engine later does not change it, and it may be restored many times", async () => {
		const engine = await original();
		const live: Live[] = [];
		run(engine, live, new Random(SEED), 100);
		const before = stateOf(engine);
		const snapshot = structuredClone(engine.snapshot());
		run(engine, [...live], new Random(SEED + 5), 200);
		const [one, two] = [await Engine.restore(snapshot), await Engine.restore(snapshot)];
		expect(stateOf(one)).toEqual(before);
		run(one, [...live], new Random(SEED + 6), 200);
		expect(stateOf(two)).toEqual(before);
	});

	it("may leave the RAM out, for an owner who keeps its bytes", async () => {
		const engine = await original();
		const live: Live[] = [];
		run(engine, live, new Random(SEED), 200);
		const snapshot = engine.snapshot({ ram: false });
		expect(snapshot.ram).toBeNull();
		const memory = new WebAssembly.Memory({ initial: 64 });
		const regionPtrs = [0x100000, 0x200000, 0x300000];
		for (const [i, { gpa, bytes }] of engine.ram.regions.entries()) {
			new Uint8Array(memory.buffer).set(engine.ram.view(gpa, bytes), regionPtrs[i] as number);
		}
		const restored = await Engine.restore(snapshot, { memory, contextPtr: 64, regionPtrs });
		goOnAlike(engine, restored, live, SEED + 3);
	});

	it("can take more pools and devices after it is restored", async () => {
		const engine = await original();
		const restored = await Engine.restore(engine.snapshot());
		for (const each of [engine, restored]) {
			const pool = each.addPool({ slabs: 128, areas: 1 }, { start: HIGH });
			expect(each.addDevice({ pool, forceBounce: true }).map(0, 100, Direction.ToDevice)).toBe(HIGH);
		}
		expect(stateOf(restored)).toEqual(stateOf(engine));
	});

	it("is refused for another engine, naming both", async () => {
		const engine = await original();
		const snapshot = { ...engine.snapshot(), engineHash: "0123456789abcdef" };
		const { hash } = await loadModule("engine");
		await expect(Engine.restore(snapshot)).rejects.toThrow(
			`the snapshot is of engine 0123456789abcdef, this is engine ${hash}`,
		);
		const other = { ...engine.snapshot(), build: "reference" };
		await expect(Engine.restore(other)).rejects.toThrow(new RegExp(`${hash}.*${(await loadModule("reference")).hash}`));
		const unknown = { ...engine.snapshot(), build: "../engine" };
		await expect(Engine.restore(unknown)).rejects.toThrow(/^build: expected engine, .*, found "\.\.\/engine"$/);
		const format = { ...engine.snapshot(), format: "coco-dma snapshot 1" } as unknown as Snapshot;
		await expect(Engine.restore(format)).rejects.toThrow(/expected a coco-dma snapshot 2, not coco-dma snapshot 1/);
	});

	it("is refused where it does not fit, and then nothing is written", async () => {
		const snapshot = (await original()).snapshot();
		const memory = new WebAssembly.Memory({ initial: 64 });
		const good = { memory, contextPtr: 64, regionPtrs: [0x100000, 0x200000, 0x300000] };
		const refuse = (place: Partial<typeof good>, message: RegExp) =>
			expect(Engine.restore(snapshot, { ...good, ...place })).rejects.toThrow(message);
		await refuse({ regionPtrs: [0x100000, 0x200000] }, /3 regions, and 2 regionPtrs/);
		await refuse({ contextPtr: 65 }, /context .* multiple of 64/);
		await refuse({ contextPtr: 0x3fffc0 }, /context .* must lie inside the memory/);
		await refuse({ contextPtr: -64 }, /context/);
		await refuse({ regionPtrs: [0x100000, 0x200000, 0x3f0000] }, /gpa 0x100010000 .*must lie inside/);
		await refuse({ regionPtrs: [0x100004, 0x200000, 0x300000] }, /gpa 0x0 .*multiple of 8/);
		await refuse({ regionPtrs: [0x100000, 0x1a0000, 0x300000] }, /gpa 0x200000 overlaps the one at gpa 0x0/);
		await refuse({ regionPtrs: [64, 0x200000, 0x300000] }, /context overlaps the stretch at gpa 0x0/);
		expect(new Uint8Array(memory.buffer).every((byte) => byte === 0)).toBe(true);
		await Engine.restore(snapshot, good);
	});
});

describe("an engine over a memory that somebody else owns", () => {
	it("goes on when the owner grows it between any two calls", async () => {
		const ram = RAM.slice(2).map((region, i) => ({ ...region, ptr: 0x100000 + i * 0x180000 }));
		const memory = new WebAssembly.Memory({ initial: 64 });
		const context = { ptr: 0x40000, bytes: 0xb0000 };
		const engine = await Engine.create({ swiotlb: null, ram, memory, context });
		const pool = engine.addPool({ slabs: 256, areas: 1 }, { start: 0x200000 });
		const device = engine.addDevice({ pool, forceBounce: true });
		const owner = () => new Uint8Array(memory.buffer);
		const ptrOf = (gpa: number) => 0x280000 + gpa - HIGH;
		for (let i = 0; i < 20; i++) {
			owner().fill(i + 1, ptrOf(HIGH), ptrOf(HIGH) + 5000);
			const before = memory.buffer;
			memory.grow(1);
			expect(memory.buffer).not.toBe(before);
			const dma = device.map(HIGH, 5000, Direction.Bidirectional);
			memory.grow(1);
			expect(engine.ram.read(tlbOf(dma), 5000)).toEqual(new Uint8Array(5000).fill(i + 1));
			memory.grow(1);
			engine.ram.write(dma + 100, Uint8Array.of(200));
			memory.grow(1);
			expect(device.syncForCpu(dma, 200, Direction.Bidirectional)).toBe(200);
			expect(owner()[ptrOf(HIGH) + 100]).toBe(200);
			memory.grow(1);
			const [sg] = device.mapSg([{ gpa: HIGH + 100, bytes: 1 }], Direction.ToDevice);
			memory.grow(1);
			device.unmapSg([{ dma: sg as number, bytes: 1 }], Direction.ToDevice);
			memory.grow(1);
			device.unmap(dma, 5000, Direction.Bidirectional);
			expect(pool.used).toBe(0);
			expect(device.counters.bouncedMaps).toBe(2 * (i + 1));
			expect(engine.ram.view(HIGH, 8).byteLength).toBe(8);
		}
		expect(engine.snapshot().regions).toEqual(ram);
	});

	it("writes nothing outside of its context and regions", async () => {
		const ram = RAM.slice(2).map((region, i) => ({ ...region, ptr: 0x200000 + i * 0x180000 }));
		const memory = new WebAssembly.Memory({ initial: 64 });
		new Uint8Array(memory.buffer).fill(0x77);
		const needed = Engine.contextBytes({ swiotlb: null, ram });
		const context = { ptr: 0x40000, bytes: needed };
		const engine = await Engine.create({ swiotlb: null, ram, memory, context });
		const pool = engine.addPool({ slabs: 256, areas: 2 }, { start: 0x200000 });
		const device = engine.addDevice({ pool, forceBounce: true });
		for (let i = 0; i < 500; i++) {
			const dma = device.tryMap(HIGH + i * 100, 1 + i * 9, Direction.Bidirectional, i);
			if (i % 3 !== 0 && dma >= 0) device.unmap(dma, 1 + i * 9, Direction.Bidirectional);
		}
		const bytes = new Uint8Array(memory.buffer);
		const gaps = [
			[0, 0x40000],
			[0x40000 + needed, 0x200000],
			[0x200000 + POOL_BYTES, 0x380000],
			[0x380000 + 0x80000, bytes.length],
		] as const;
		for (const [from, to] of gaps) expect(bytes.subarray(from, to).every((byte) => byte === 0x77)).toBe(true);
	});
});
