/** An allocator that grows: Linux's `struct io_tlb_mem` with CONFIG_SWIOTLB_DYNAMIC. */
import * as layout from "../../assembly/layout/pool.ts";
import { BAD_POOL } from "../../assembly/layout/status.ts";
import type { Engine } from "../engine.ts";
import { DmaError } from "../status.ts";
import type { Pool } from "../swiotlb/pool.ts";
import { growthSizes, type PoolSize } from "../swiotlb/sizing.ts";

/** The pools of one allocator, and what counts for all of them together. */
export class GrowingPools {
	readonly #engine: Engine;
	readonly first: Pool;
	/** What a new pool may measure: the sizes that are tried one after the other. */
	readonly sizes: readonly PoolSize[];

	/** @param first a pool made with `grows` @throws DmaError BAD_POOL for another one */
	constructor(engine: Engine, first: Pool) {
		this.#engine = engine;
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

	/** Slots in use in all pools, transient ones too: debugfs io_tlb_used. */
	get used(): number {
		return this.#field(layout.MEM_USED);
	}

	/** Most slots in use at once: debugfs io_tlb_used_hiwater. */
	get hiwater(): number {
		return this.#field(layout.MEM_HIWATER);
	}

	/** Slots of the common pools: debugfs io_tlb_nslabs. */
	get slabs(): number {
		return this.pools.reduce((sum, pool) => sum + pool.slabs, 0);
	}

	/** Slots of the transient pools now: debugfs io_tlb_transient_nslabs. */
	get transientSlabs(): number {
		return this.#field(layout.MEM_TRANSIENT);
	}
}
