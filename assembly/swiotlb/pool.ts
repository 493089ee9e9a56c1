/** Pools: making them out of guest RAM, and what can be asked about them. */

import { filled } from "../audit/hooks.ts";
import {
	CONVERTS_POOL_PAGES,
	CTX_MAX_POOLS,
	CTX_NPOOLS,
	CTX_POOLS,
	PAGE_HIDDEN,
	PAGE_SIZE,
} from "../layout/context.ts";
import {
	AREA_FIRST,
	AREA_LOCK,
	AREA_NSLABS,
	AREA_USED,
	IO_TLB_SEGSIZE,
	IO_TLB_SHIFT,
	MEM_HIWATER,
	MEM_NEWEST,
	POOL_DELTA,
	POOL_DISABLED,
	POOL_ENCRYPTED,
	POOL_FAILED_FULL,
	POOL_FAILED_LARGE,
	POOL_FAILED_RUN,
	POOL_FAILED_SLOTS,
	POOL_FAILED_USED,
	POOL_GROWS,
	POOL_MEM,
	POOL_ZERO_ON_FREE,
} from "../layout/pool.ts";
import {
	BAD_ARGUMENT,
	BAD_POOL,
	CONTEXT_FULL,
	OK,
	OUTSIDE_RAM,
	OVER_MAX_MAPPING,
	OVERLAP,
	POOL_PAGES,
} from "../layout/status.ts";
import { context, ramPages, takeBlock } from "../memory/context.ts";
import { zero } from "../memory/copy.ts";
import { lock, unlock } from "../memory/lock.ts";
import { rangeSetState, rangeUsable } from "../memory/pages.ts";
import { NO_PTR, rangePtr } from "../memory/regions.ts";
import { poolLay } from "./lay.ts";
import { ledgerUseUp, longestFree, poolRoom } from "./ledger.ts";
import { areaAt, poolAreas, poolEnd, poolStart } from "./record.ts";
import { poolUsed, resetHiwater } from "./slots.ts";
import { transientAt, transientsMoved } from "./transient.ts";

/** ptr of pool number `index`, or 0. */
export function poolAt(index: i32): usize {
	if (u32(index) >= load<u32>(context(), CTX_NPOOLS)) return 0;
	return context() + load<u32>(context() + load<u32>(context(), CTX_POOLS) + (index << 2));
}

/** Whether any byte of [gpa, gpa + bytes) belongs to a pool. */
export function poolOverlaps(gpa: u64, bytes: u64): bool {
	const n = load<u32>(context(), CTX_NPOOLS);
	for (let i: u32 = 0; i < n; i++) {
		const pool = poolAt(i);
		if (gpa < poolEnd(pool) && gpa + bytes > poolStart(pool)) return true;
	}
	return transientAt(gpa, bytes) !== 0;
}

/**
 * Makes a pool of RAM: its pages take a state and become zero. This is the only time that they are zeroed, as in Linux
 * (6.12 kernel/dma/swiotlb.c, swiotlb_init_io_tlb_pool).
 * @param start page-aligned gpa; the pool lies in one region
 * @param nslabs slots: a multiple of 128 per area
 * @param nareas a power of two; with more than one, the slots of an area are a power of two as well
 * @param state PAGE_SHARED, PAGE_PRIVATE or PAGE_HIDDEN
 * @param flags POOL_ENCRYPTED, POOL_ZERO_ON_FREE, POOL_GROWS, POOL_DISABLED (the pages stay as they are)
 * @returns the pool's number, or BAD_ARGUMENT, OUTSIDE_RAM, OVERLAP, BLOCKED_PAGES or CONTEXT_FULL
 */
export function poolAdd(start: u64, nslabs: u32, nareas: u32, state: i32, flags: u32): i32 {
	const allowed = POOL_ENCRYPTED | POOL_ZERO_ON_FREE | POOL_GROWS | POOL_DISABLED;
	if (u32(state) > u32(PAGE_HIDDEN) || (flags & ~allowed) !== 0) return BAD_ARGUMENT;
	const disabled = (flags & POOL_DISABLED) !== 0;
	if (ramPages() === 0 || (start & (PAGE_SIZE - 1)) !== 0 || nslabs === 0 || nslabs > 1 << 20) return BAD_ARGUMENT;
	if (nareas === 0 || (nareas & (nareas - 1)) !== 0 || nareas > nslabs >> 7) return BAD_ARGUMENT;
	const areaSlots = nslabs / nareas;
	if (areaSlots * nareas !== nslabs || (areaSlots & (IO_TLB_SEGSIZE - 1)) !== 0) return BAD_ARGUMENT;
	if (nareas > 1 && (areaSlots & (areaSlots - 1)) !== 0) return BAD_ARGUMENT;
	const bytes = u64(nslabs) << IO_TLB_SHIFT;
	const ptr = rangePtr(start, bytes);
	if (ptr === NO_PTR) return OUTSIDE_RAM;
	const usable = disabled ? OK : rangeUsable(start, bytes);
	if (usable !== OK) return usable;
	if (poolOverlaps(start, bytes)) return OVERLAP;
	const number = load<u32>(context(), CTX_NPOOLS);
	if (number === load<u32>(context(), CTX_MAX_POOLS)) return CONTEXT_FULL;

	const header = takeBlock(poolRoom(nslabs, nareas));
	if (header === 0) return CONTEXT_FULL;
	const pool = context() + header;
	poolLay(pool, start, ptr, nslabs, nareas, flags);
	if ((flags & POOL_GROWS) !== 0) {
		store<u32>(pool, header, POOL_MEM);
		store<u32>(pool, header, MEM_NEWEST);
	}
	if (disabled) useUp(pool);
	else {
		rangeSetState(start, bytes, state);
		zero(ptr, usize(bytes));
		if (COCO_AUDIT) filled(ptr, u32(bytes));
	}
	store<u32>(context() + load<u32>(context(), CTX_POOLS) + (number << 2), header);
	store<u32>(context(), number + 1, CTX_NPOOLS);
	return number;
}

/** Tells each pool where its RAM now lies: after regionMove. @returns OK or OUTSIDE_RAM */
export function poolsMoved(): i32 {
	const n = load<u32>(context(), CTX_NPOOLS);
	for (let i: u32 = 0; i < n; i++) {
		const pool = poolAt(i);
		const ptr = rangePtr(poolStart(pool), poolEnd(pool) - poolStart(pool));
		if (ptr === NO_PTR) return OUTSIDE_RAM;
		store<u32>(pool, u32(ptr - pool), POOL_DELTA);
	}
	return transientsMoved();
}

/** Longest run of free slots in the pool, 0 .. 128, area by area. */
export function poolLongestFreeRun(pool: usize): u32 {
	const nareas = poolAreas(pool);
	let best: u32 = 0;
	for (let i: u32 = 0; i < nareas; i++) {
		const area = areaAt(pool, i);
		lock(area + AREA_LOCK);
		best = longestFree(pool, load<u32>(area, AREA_FIRST), load<u32>(area, AREA_NSLABS), best);
		unlock(area + AREA_LOCK);
	}
	return best;
}

/** Marks every slot of a pool that nobody uses as used, for ever: no search finds any. */
function useUp(pool: usize): void {
	for (let i: u32 = 0; i < poolAreas(pool); i++) {
		const area = areaAt(pool, i);
		store<u32>(area, load<u32>(area, AREA_NSLABS), AREA_USED);
	}
	ledgerUseUp(pool);
}

/** Keeps why a map failed. status: POOL_FULL or OVER_MAX_MAPPING; slots: how many it wanted */
export function poolFailed(pool: usize, status: i32, slots: u32): void {
	const counter = pool + (status === OVER_MAX_MAPPING ? POOL_FAILED_LARGE : POOL_FAILED_FULL);
	if (COCO_THREADS) atomic.add<u32>(counter, 1);
	else store<u32>(counter, load<u32>(counter) + 1);
	store<u32>(pool, slots, POOL_FAILED_SLOTS);
	store<u32>(pool, poolUsed(pool), POOL_FAILED_USED);
	store<u32>(pool, poolLongestFreeRun(pool), POOL_FAILED_RUN);
}

/** Sets the high-water mark to 0, as writing 0 to debugfs io_tlb_used_hiwater does. @returns OK or BAD_POOL */
export function poolResetHiwater(index: i32): i32 {
	const pool = poolAt(index);
	if (pool === 0) return BAD_POOL;
	resetHiwater(pool);
	store<u32>(pool, 0, MEM_HIWATER);
	return OK;
}

/** rangeSetState for pages that no pool owns, or with CONVERTS_POOL_PAGES for any. @returns as rangeSetState, or POOL_PAGES */
export function rangeConvert(gpa: u64, bytes: u64, state: i32): i32 {
	if ((state & CONVERTS_POOL_PAGES) === 0 && poolOverlaps(gpa, bytes)) return POOL_PAGES;
	return rangeSetState(gpa, bytes, state & ~CONVERTS_POOL_PAGES);
}
