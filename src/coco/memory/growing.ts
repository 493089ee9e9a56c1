/** An allocator that grows: Linux's `struct io_tlb_mem` with CONFIG_SWIOTLB_DYNAMIC. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { ATTR_TRANSIENT } from "../../../assembly/layout/device.ts";
import * as layout from "../../../assembly/layout/pool.ts";
import { BAD_POOL, NEEDS_TRANSIENT } from "../../../assembly/layout/status.ts";
import type { Device } from "../../dma/device.ts";
import type { Engine } from "../../engine.ts";
import type { PageState } from "../../memory/ram.ts";
import { DmaError } from "../../status.ts";
import type { Pool } from "../../swiotlb/pool.ts";
import { growthSizes, type PoolSize } from "../../swiotlb/sizing.ts";
import type { Direction, DmaAddr, Gpa } from "../../types.ts";
import type { ZoneName } from "../rules/kernel.ts";

/** Who a transient pool is for. */
export interface TransientNeed {
	/** Highest address that the device reaches with streaming memory, inclusive. */
	readonly reach: bigint;
	/** Whether it reaches shared memory only. */
	readonly needsShared: boolean;
	/** Whether its coherent mask, which the atomic pools ask for, reaches a block. */
	fitsCoherent(gpa: Gpa, bytes: number): boolean;
}

/** Memory of a transient pool, and the zone that it is of. */
export interface TransientMemory {
	readonly gpa: Gpa;
	readonly zone: ZoneName;
}

/** Where new pools get their memory. */
export interface PoolMemory {
	/** Memory for a common pool, in the state of the allocator's pools; may sleep. @returns its gpa, or -1 */
	allocPool(bytes: number): Gpa;
	/** State of that memory. */
	readonly state: PageState;
	/** Memory for a transient pool, without sleeping. @returns null: none */
	allocTransient(bytes: number, need: TransientNeed): TransientMemory | null;
	/** Takes the memory of a transient pool back: after a grace period, from where the kernel does it. */
	freeTransient(gpa: Gpa, bytes: number): void;
}

/** What a tick did. */
export interface Growth {
	/** The pool that was added, or null. */
	readonly pool: Pool | null;
	/** Whether growth was due and got no memory, not even for the smallest pool ("Failed to allocate new pool"). */
	readonly failed: boolean;
	/** Transient pools whose memory went back. */
	readonly freedTransients: number;
}

/** The pools of one allocator, and what counts for all of them together. */
export class GrowingPools {
	readonly #engine: Engine;
	readonly #memory: PoolMemory | null;
	readonly #counts: boolean;
	readonly first: Pool;
	/** What a new pool may measure: the sizes that are tried one after the other. */
	readonly sizes: readonly PoolSize[];
	/** Each transient pool that lives or waits for its grace period, by its first gpa. */
	readonly #transients = new Map<Gpa, { readonly bytes: number; readonly zone: ZoneName }>();
	#queued = false;

	/**
	 * @param first a pool made with `grows`
	 * @param memory null: pools come and go by Engine.growPool and the raw exports alone
	 * @param counts whether the kernel counts its use and high-water mark (Linux 7.3: swiotlb=...,track_hiwater)
	 * @throws DmaError BAD_POOL for a pool that does not grow
	 */
	constructor(engine: Engine, first: Pool, memory: PoolMemory | null = null, counts = true) {
		this.#engine = engine;
		this.#counts = counts;
		this.#memory = memory;
		this.first = first;
		this.sizes = growthSizes(first.slabs, first.areaCount);
		if ((first.flags & layout.POOL_GROWS) === 0) throw new DmaError(`GrowingPools(pool ${first.index})`, BAD_POOL);
	}

	#field(offset: number): number {
		const { exports } = this.#engine.instance;
		return this.#engine.instance.u32((exports.poolPtr(this.first.index) >>> 0) + offset);
	}

	/** The common pools, the newest first: the order in which a search looks at them. */
	get pools(): readonly Pool[] {
		const { exports } = this.#engine.instance;
		const base = (exports.poolPtr(this.first.index) >>> 0) - this.#field(layout.POOL_MEM);
		const byPtr = new Map(this.#engine.pools.map((pool) => [exports.poolPtr(pool.index) >>> 0, pool]));
		const pools: Pool[] = [];
		for (let at = this.#field(layout.MEM_NEWEST); at !== 0; ) {
			pools.push(byPtr.get(base + at) as Pool);
			at = this.#engine.instance.u32(base + at + layout.POOL_NEXT);
		}
		return pools;
	}

	/** Slots in use in all pools, transient ones only where they are counted: debugfs io_tlb_used. */
	get used(): number {
		return this.#counts ? this.#field(layout.MEM_USED) : this.pools.reduce((sum, pool) => sum + pool.used, 0);
	}

	/** Most slots in use at once, 0 where they are not counted: debugfs io_tlb_used_hiwater. */
	get hiwater(): number {
		return this.#counts ? this.#field(layout.MEM_HIWATER) : 0;
	}

	/** Slots of the common pools: debugfs io_tlb_nslabs. */
	get slabs(): number {
		return this.pools.reduce((sum, pool) => sum + pool.slabs, 0);
	}

	/** Slots of the transient pools now: debugfs io_tlb_transient_nslabs. */
	get transientSlabs(): number {
		return this.#field(layout.MEM_TRANSIENT);
	}

	/** Whether growth waits for the next tick: at most one is ever pending. */
	get growthQueued(): boolean {
		return this.#queued;
	}

	/**
	 * Goes on with a map that found no room in the common pools: queues growth, and maps in a transient pool made for it
	 * (Linux 6.12 kernel/dma/swiotlb.c, swiotlb_find_slots).
	 * @param need what the device is
	 * @returns as Device.tryMap: NEEDS_TRANSIENT when there is no memory, UNUSABLE_POOL when the memory does not fit
	 */
	mapTransient(
		device: Device,
		gpa: Gpa,
		bytes: number,
		dir: Direction,
		cpu: number,
		attrs: number,
		need: TransientNeed,
	): DmaAddr {
		if (this.#memory === null) return NEEDS_TRANSIENT;
		this.#queued = true;
		const { exports } = this.#engine.instance;
		const slots = exports.swiotlbSlots(device.index, gpa, bytes, 0);
		if (slots < 0) return slots;
		const poolBytes = Math.ceil((slots * layout.IO_TLB_SIZE) / PAGE_SIZE) * PAGE_SIZE;
		const memory = this.#memory.allocTransient(poolBytes, need);
		if (memory === null) return NEEDS_TRANSIENT;
		const start = memory.gpa;
		const made = exports.poolCreateTransient(this.first.index, start, slots);
		if (made < 0) {
			this.#memory.freeTransient(start, poolBytes);
			return made;
		}
		this.#transients.set(start, { bytes: poolBytes, zone: memory.zone });
		return device.tryMap(gpa, bytes, dir, cpu, attrs | ATTR_TRANSIENT);
	}

	/** The transient pools that live, or wait for their memory to go back. */
	get transients(): readonly (TransientMemory & { readonly bytes: number })[] {
		return [...this.#transients].map(([gpa, { bytes, zone }]) => ({ gpa, bytes, zone }));
	}

	/**
	 * Lets the kernel's worker and its grace periods run: grows if that is queued, and gives back the memory of transient
	 * pools that have ended.
	 */
	tick(): Growth {
		const freedTransients = this.endTransients();
		if (!this.#queued || this.#memory === null) return { pool: null, failed: false, freedTransients };
		this.#queued = false;
		for (const size of this.sizes) {
			const start = this.#memory.allocPool(size.slabs * layout.IO_TLB_SIZE);
			if (start < 0) continue;
			const pool = this.#engine.growPool(this.first, size, start, this.#memory.state);
			return { pool, failed: false, freedTransients };
		}
		return { pool: null, failed: true, freedTransients };
	}

	/** Lets grace periods end: the memory of transient pools that serve nothing goes back. @returns how many */
	endTransients(): number {
		const { exports } = this.#engine.instance;
		for (let freed = 0; ; freed++) {
			const start = exports.retiredTake();
			if (start < 0) return freed;
			const bytes = this.#transients.get(start)?.bytes ?? 0;
			this.#memory?.freeTransient(start, bytes);
			this.#transients.delete(start);
		}
	}
}
