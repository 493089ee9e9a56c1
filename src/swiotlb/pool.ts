import * as layout from "../../assembly/layout/pool.ts";
import { PageState } from "../memory/ram.ts";
import { orThrow } from "../status.ts";
import type { Gpa } from "../types.ts";
import type { Instance } from "../wasm.ts";

/** One area's search start and use. */
export interface AreaState {
	/** Where its next search starts (slots, from the area's first). */
	readonly index: number;
	/** Slots in use. */
	readonly used: number;
}

/** What a pool is besides its size. */
export interface PoolOptions {
	/** Where it starts. Default: at the top of the memory below 4 GiB, or of all RAM if there is no room. */
	readonly start?: Gpa;
	/** What the host may do with its pages: PageState.Shared (default), Private or Hidden. */
	readonly state?: PageState;
	/**
	 * Whether its addresses take the private form, and the kernel knows it as not shared (after the 7.3 merge:
	 * io_tlb_mem.cc_shared is false). Default: when its pages are private.
	 */
	readonly encrypted?: boolean;
	/** Zero slots when they are given back: Linux leaves the bytes. Default false. */
	readonly zeroOnFree?: boolean;
	/** Whether its allocator may grow (CONFIG_SWIOTLB_DYNAMIC). Default false. */
	readonly grows?: boolean;
	/** Whether its pages could not be decrypted: then they stay as they are, and every slot counts as used. Default false. */
	readonly disabled?: boolean;
}

/** POOL_FLAGS of the options. */
export function poolFlags({ state, encrypted, zeroOnFree, grows, disabled }: PoolOptions): number {
	return (
		((encrypted ?? state === PageState.Private) ? layout.POOL_ENCRYPTED : 0) |
		(zeroOnFree ? layout.POOL_ZERO_ON_FREE : 0) |
		(grows ? layout.POOL_GROWS : 0) |
		(disabled ? layout.POOL_DISABLED : 0)
	);
}

/** Maps that the pool refused, and the facts of the last one. */
export interface PoolFailures {
	/** No run of free slots fitted. */
	readonly poolFull: number;
	/** More than 128 slots were wanted. */
	readonly overMaxMapping: number;
	/** Of the last refused map: slots wanted, slots in use, longest run of free slots. */
	readonly last?: { readonly slots: number; readonly usedSlots: number; readonly longestFreeRunSlots: number };
}

/** A bounce pool: Linux's io_tlb_mem with its one pool. */
export class Pool {
	readonly #instance: Instance;
	readonly index: number;
	readonly start: Gpa;
	readonly slabs: number;
	readonly areaSlabs: number;
	readonly bytes: number;
	readonly areaCount: number;

	/** Made by Engine. */
	constructor(instance: Instance, index: number) {
		this.#instance = instance;
		this.index = index;
		const ptr = this.#ptr;
		this.start = instance.u64(ptr + layout.POOL_START);
		this.slabs = instance.u32(ptr + layout.POOL_NSLABS);
		this.areaCount = instance.u32(ptr + layout.POOL_NAREAS);
		this.areaSlabs = instance.u32(ptr + layout.POOL_AREA_NSLABS);
		this.bytes = this.slabs * layout.IO_TLB_SIZE;
	}

	get #ptr(): number {
		return this.#instance.exports.poolPtr(this.index) >>> 0;
	}

	#field(offset: number): number {
		return this.#instance.u32(this.#ptr + offset);
	}

	/** POOL_FLAGS. */
	get flags(): number {
		return this.#field(layout.POOL_FLAGS);
	}

	/** Slots in use: debugfs io_tlb_used. */
	get used(): number {
		let used = 0;
		for (let i = 0; i < this.areaCount; i++) {
			used += this.#field(layout.POOL_HEADER_BYTES + (i << layout.AREA_SHIFT) + layout.AREA_USED);
		}
		return used;
	}

	/** Most slots in use at once since the last reset: debugfs io_tlb_used_hiwater. */
	get hiwater(): number {
		return this.#field(layout.POOL_HIWATER);
	}

	/** Sets the high-water mark to 0, as writing 0 to debugfs does. */
	resetHiwater(): void {
		orThrow(this.#instance.exports.poolResetHiwater(this.index), () => `resetHiwater() of pool ${this.index}`);
	}

	/** Each area's index and use. Allocates. */
	areas(): AreaState[] {
		// the areas follow the pool's record (poolBytes in assembly/layout/pool.ts)
		const areas = this.#ptr + layout.POOL_HEADER_BYTES;
		return Array.from({ length: this.areaCount }, (_, i) => {
			const at = areas + (i << layout.AREA_SHIFT);
			return { index: this.#instance.u32(at + layout.AREA_INDEX), used: this.#instance.u32(at + layout.AREA_USED) };
		});
	}

	get failures(): PoolFailures {
		const poolFull = this.#field(layout.POOL_FAILED_FULL);
		const overMaxMapping = this.#field(layout.POOL_FAILED_LARGE);
		if (poolFull + overMaxMapping === 0) return { poolFull, overMaxMapping };
		return {
			poolFull,
			overMaxMapping,
			last: {
				slots: this.#field(layout.POOL_FAILED_SLOTS),
				usedSlots: this.#field(layout.POOL_FAILED_USED),
				longestFreeRunSlots: this.#field(layout.POOL_FAILED_RUN),
			},
		};
	}

	/** Longest run of free slots now, 0 .. 128. */
	get longestFreeRun(): number {
		return this.#instance.exports.poolFreeRun(this.index);
	}

	/**
	 * Linux's `list` of each slot, as u16: 0 when used, else the free slots from it to the end of its run or segment.
	 * Allocates; for checks against the kernel.
	 */
	list(): Uint16Array {
		return Uint16Array.from({ length: this.slabs }, (_, slot) => this.#instance.exports.poolSlotList(this.index, slot));
	}

	/** The pool's state in a line, for messages. */
	describe(): string {
		const last = this.failures.last;
		const wanted =
			last === undefined ? "" : `, ${last.slots} slots wanted, longest free run ${last.longestFreeRunSlots}`;
		return `pool ${this.index}: ${this.used} of ${this.slabs} slots used${wanted}`;
	}
}
