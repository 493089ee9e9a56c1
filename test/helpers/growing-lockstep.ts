/** An allocator that grows, in two builds and a plain model side by side. The test plays the kernel: it finds the memory. */
import { ATTR_TRANSIENT } from "../../assembly/layout/device.ts";
import { NEEDS_TRANSIENT, OVER_MAX_MAPPING, UNUSABLE_POOL } from "../../assembly/layout/status.ts";
import { GrowingPools } from "../../src/coco/memory/growing.ts";
import { Engine } from "../../src/engine.ts";
import type { PoolSize } from "../../src/swiotlb/sizing.ts";
import { Direction } from "../../src/types.ts";
import type { EngineExports } from "../../src/wasm.ts";
import { type MapRequest, needsOf, noCases, SlotModel } from "./model.ts";
import type { Random } from "./random.ts";

const UNSET = 2n ** 64n - 1n;
const ORIGINALS_BYTES = 0x200000;
const POOLS_GPA = 0x1000000;
const POOLS_BYTES = 0x600000;
const TRANSIENTS_GPA = 0x8000000;
const TRANSIENTS_BYTES = 0x400000;
const GROWING_RAM = [
	{ gpa: 0, bytes: ORIGINALS_BYTES },
	{ gpa: POOLS_GPA, bytes: POOLS_BYTES },
	{ gpa: TRANSIENTS_GPA, bytes: TRANSIENTS_BYTES },
];

const DEVICES = [
	{ minAlignMask: 0, segBoundaryMask: 0n },
	{ minAlignMask: 0xfff, segBoundaryMask: 0xffffn },
	{ minAlignMask: 0x1ff, segBoundaryMask: 0n },
	{ minAlignMask: 0xffff, segBoundaryMask: 0n },
	{ minAlignMask: 0x3fff, segBoundaryMask: 0x1ffffn },
	{ minAlignMask: 0, segBoundaryMask: 0x3fffn },
];

/**
 * How often a case took part that is easily got wrong. newestFirst: the newest of several pools served in its own area;
 * offsetOutside: an older pool's own area came before a newer pool's next one that had room; retiredLate: several
 * transient pools had ended before anyone asked.
 */
const CASES = [
	"maps",
	"transients",
	"unusable",
	"withoutMemory",
	"grown",
	"newestFirst",
	"offsetOutside",
	"retiredLate",
	"restoredWithTransients",
] as const;
export type GrowingCases = Record<(typeof CASES)[number], number>;

export function noGrowingCases(): GrowingCases {
	return Object.fromEntries(CASES.map((name) => [name, 0])) as GrowingCases;
}

interface Common {
	readonly model: SlotModel;
	readonly areas: number;
}

interface Mapping {
	readonly tlb: number;
	readonly n: number;
	readonly bytes: number;
	readonly dir: number;
	readonly device: number;
	/** The first gpa of its transient pool, or -1. */
	readonly transient: number;
}

export class GrowingLockstep {
	#engines: Engine[];
	readonly #random: Random;
	readonly #cases: GrowingCases;
	/** Newest first. */
	readonly #pools: Common[] = [];
	readonly #live: Mapping[] = [];
	/** Slots of each live transient pool. */
	readonly #transients = new Map<number, number>();
	/** First gpas of transient pools that have ended and were not collected. */
	readonly #retired: number[] = [];
	#poolEnd = POOLS_GPA;
	#used = 0;
	#hiwater = 0;

	private constructor(engines: Engine[], random: Random, cases: GrowingCases) {
		this.#engines = engines;
		this.#random = random;
		this.#cases = cases;
	}

	static async create(first: PoolSize, random: Random, cases: GrowingCases): Promise<GrowingLockstep> {
		const engines: Engine[] = [];
		for (const build of ["engine", "reference"] as const) {
			const engine = await Engine.create({ build, swiotlb: null, ram: GROWING_RAM, spareBytes: 1 << 20 });
			const pool = engine.addPool(first, { start: POOLS_GPA, grows: true });
			for (const device of DEVICES) engine.addDevice({ pool, ...device });
			for (let at = 0; at < ORIGINALS_BYTES; at += 4096) engine.ram.fill(at, 4096, (at >> 12) & 255);
			engines.push(engine);
		}
		const lockstep = new GrowingLockstep(engines, random, cases);
		lockstep.#add(first);
		return lockstep;
	}

	#add({ slabs, areas }: PoolSize): void {
		this.#pools.unshift({ model: new SlotModel(this.#poolEnd, slabs, areas, noCases()), areas });
		// pools lie apart, and not all on multiples of their alignment
		this.#poolEnd += slabs * 2048 + 4096 * this.#random.below(4);
	}

	/** The answer of both builds. @throws Error when they differ */
	#ask(what: string, call: (x: EngineExports) => number): number {
		const [got, reference] = this.#engines.map((engine) => call(engine.instance.exports)) as [number, number];
		if (got !== reference) throw new Error(`${what}: engine ${got}, reference ${reference}`);
		return got;
	}

	#same(what: string, expected: number, got: number): void {
		if (expected !== got) throw new Error(`${what}: model ${expected}, engines ${got}`);
	}

	/** One step of a random history. fill: slots that the load keeps in use */
	step(fill: number): void {
		const turn = this.#random.below(10);
		if (this.#live.length > 0 && (this.#used > fill ? turn < 7 : turn < 4)) this.unmap();
		else this.map();
		if (this.#random.oneIn(6)) this.collect();
		this.compare();
	}

	/** Adds a pool as the kernel's worker would. */
	grow(size: PoolSize): void {
		if (this.#poolEnd + size.slabs * 2048 > POOLS_GPA + POOLS_BYTES) return;
		for (const engine of this.#engines) engine.growPool(engine.pools[0] as never, size, this.#poolEnd);
		this.#add(size);
		this.#cases.grown++;
	}

	map(): void {
		const random = this.#random;
		const bytes = random.oneIn(4) ? 1 + random.below(random.oneIn(6) ? 300_000 : 100_000) : 1 + random.below(6000);
		const unit = random.pick([1, 512, 4096]);
		const orig = Math.floor(random.below(Math.max(1, ORIGINALS_BYTES - bytes)) / unit) * unit;
		const allocAlignMask = random.pick([0, 0, 0x7ff, 0xfff, 0x3fff]);
		const [dir, cpu, device] = [random.below(3), random.below(16), random.below(DEVICES.length)];
		const { minAlignMask, segBoundaryMask } = DEVICES[device] as (typeof DEVICES)[number];
		const boundary = segBoundaryMask === 0n ? UNSET : segBoundaryMask;
		const request = { orig, bytes, allocAlignMask, minAlignMask, boundary, cpu };
		const map = (attrs: number) => (x: EngineExports) =>
			x.swiotlbTblMap(device, orig, bytes, allocAlignMask, dir, cpu, attrs);
		const expected = this.#inCommon(request);
		const what = `map ${JSON.stringify({ ...request, boundary: String(boundary), device, dir })}`;
		const tlb = this.#ask(what, map(0));
		this.#same(what, expected, tlb);
		this.#cases.maps++;
		const { n } = needsOf(request);
		if (tlb >= 0) this.#took({ tlb, n, bytes, dir, device, transient: -1 });
		if (tlb !== NEEDS_TRANSIENT) return;
		this.#same(
			"slots",
			n,
			this.#ask("slots", (x) => x.swiotlbSlots(device, orig, bytes, allocAlignMask)),
		);
		const start = random.oneIn(8) ? -1 : this.#placeOf(n);
		if (start < 0) {
			this.#cases.withoutMemory++;
			// nobody made a pool for it: those that live are others'
			this.#same("no transient pool", NEEDS_TRANSIENT, this.#ask(what, map(ATTR_TRANSIENT)));
			return;
		}
		this.#same(
			"made",
			0,
			this.#ask("made", (x) => x.poolCreateTransient(0, start, n)),
		);
		const found = new SlotModel(start, n, 1, noCases()).map(request);
		const answer = this.#ask(`transient ${what}`, map(ATTR_TRANSIENT));
		this.#same(`transient ${what}`, found < 0 ? UNUSABLE_POOL : found, answer);
		if (answer < 0) {
			this.#cases.unusable++;
			this.#retired.push(start);
			return;
		}
		this.#cases.transients++;
		this.#transients.set(start, n);
		this.#took({ tlb: answer, n, bytes, dir, device, transient: start });
	}

	/** Free memory for a transient pool: page-aligned, seldom better. @returns -1 when there is none */
	#placeOf(slots: number): number {
		const bytes = slots * 2048;
		for (let attempt = 0; attempt < 8; attempt++) {
			const align = this.#random.pick([4096, 4096, 65536]);
			const at = TRANSIENTS_GPA + Math.floor(this.#random.below(TRANSIENTS_BYTES - bytes) / align) * align;
			const taken = [...this.#transients].some(([start, n]) => at < start + n * 2048 && start < at + bytes);
			if (!taken) return at;
		}
		return -1;
	}

	/** The rule: every pool's own area before anyone's next one, the newest pool first. */
	#inCommon(request: MapRequest): number {
		const { areas } = this.#pools.at(-1) as Common;
		for (let i = 0; i < areas; i++) {
			for (const [at, pool] of this.#pools.entries()) {
				if (i >= pool.areas) continue;
				const tlb = pool.model.mapIn(request.cpu + i, request);
				if (tlb === OVER_MAX_MAPPING) return tlb;
				if (tlb < 0) continue;
				if (i === 0 && at === 0 && this.#pools.length > 1) this.#cases.newestFirst++;
				const newer = this.#pools.slice(0, at).filter((other) => i + 1 < other.areas);
				if (newer.some(({ model }) => model.hasRoomIn(request.cpu + i + 1, request))) this.#cases.offsetOutside++;
				return tlb;
			}
		}
		return NEEDS_TRANSIENT;
	}

	#took(mapping: Mapping): void {
		this.#live.push(mapping);
		this.#used += mapping.n;
		this.#hiwater = Math.max(this.#hiwater, this.#used);
		// the device writes what it got
		for (const { ram } of this.#engines) ram.fill(mapping.tlb, mapping.bytes, this.#live.length & 255);
	}

	unmap(): void {
		const at = this.#random.below(this.#live.length);
		const [mapping] = this.#live.splice(at, 1) as [Mapping];
		const { tlb, n, bytes, dir, device, transient } = mapping;
		const done = this.#ask(`unmap ${tlb}`, (x) => x.swiotlbTblUnmap(device, tlb, bytes, dir, 0));
		this.#same(`unmap ${tlb}`, dir === Direction.ToDevice ? 0 : bytes, done);
		this.#used -= n;
		if (transient < 0) this.#pools.find(({ model }) => model.holds(tlb))?.model.unmap(tlb);
		else {
			this.#transients.delete(transient);
			this.#retired.push(transient);
		}
	}

	/** Takes back the memory of all transient pools that have ended: the last one first. */
	collect(): void {
		if (this.#retired.length > 1) this.#cases.retiredLate++;
		while (this.#retired.length > 0)
			this.#same(
				"retired",
				this.#retired.pop() as number,
				this.#ask("retired", (x) => x.retiredTake()),
			);
		this.#same(
			"none retired",
			-1,
			this.#ask("none retired", (x) => x.retiredTake()),
		);
	}

	/** Both engines go on from a snapshot, in another memory and at other bases. */
	async restore(): Promise<void> {
		if (this.#transients.size > 0) this.#cases.restoredWithTransients++;
		const restored: Engine[] = [];
		for (const engine of this.#engines) {
			const snapshot = engine.snapshot();
			let ptr = 4096 * (1 + this.#random.below(8));
			const regionPtrs = snapshot.regions.map((region) => {
				const at = ptr;
				ptr += region.bytes + 64 * this.#random.below(64);
				return at;
			});
			const contextPtr = Math.ceil(ptr / 64) * 64;
			const memory = new WebAssembly.Memory({ initial: Math.ceil((contextPtr + snapshot.contextBytes) / 65536) });
			restored.push(await Engine.restore(snapshot, { memory, contextPtr, regionPtrs }));
			// who goes on with the old one does no harm to the new one
			engine.ram.fill(POOLS_GPA, POOLS_BYTES, 0xff);
		}
		this.#engines = restored;
		this.compare();
	}

	/** Compares all counters. */
	compare(): void {
		const slabs = this.#pools.reduce((sum, { model }) => sum + model.owner.length, 0);
		const transientSlabs = [...this.#transients.values()].reduce((sum, n) => sum + n, 0);
		for (const engine of this.#engines) {
			const got = new GrowingPools(engine, engine.pools[0] as never);
			this.#same("used", this.#used, got.used);
			this.#same("hiwater", this.#hiwater, got.hiwater);
			this.#same("slabs", slabs, got.slabs);
			this.#same("transient slabs", transientSlabs, got.transientSlabs);
			for (const [i, pool] of got.pools.entries()) {
				const { model } = this.#pools[i] as Common;
				for (const [area, { index, used }] of pool.areas().entries()) {
					this.#same(`index of pool ${i}, area ${area}`, model.index[area] as number, index);
					this.#same(`used of pool ${i}, area ${area}`, model.areaUsed[area] as number, used);
				}
			}
		}
	}

	/** Ends all mappings: every counter is back at 0, and both builds hold the same bytes. */
	end(): void {
		while (this.#live.length > 0) this.unmap();
		this.collect();
		this.compare();
		this.#same("used at the end", 0, this.#used);
		const [engine, reference] = this.#engines as [Engine, Engine];
		for (const { gpa, bytes } of GROWING_RAM) {
			if (Buffer.compare(engine.ram.view(gpa, bytes), reference.ram.view(gpa, bytes)) !== 0)
				throw new Error(`the bytes at 0x${gpa.toString(16)} differ`);
		}
		for (const pool of engine.pools) {
			if (pool.list().some((free, slot) => free !== 128 - (slot % 128)))
				throw new Error(`pool ${pool.index} is not free`);
		}
	}
}
