/**
 * Allocators that grow: Linux's `struct io_tlb_mem` with a list of pools (6.12, CONFIG_SWIOTLB_DYNAMIC). The first pool's
 * record holds what belongs to all of them; others answer for themselves.
 */
import { PAGE_SIZE } from "../layout/context.ts";
import { ATTR_OWN_POOL, ATTR_TRANSIENT, DEVICE_PRIVATE_POOL } from "../layout/device.ts";
import {
	IO_TLB_SEGSIZE,
	IO_TLB_SHIFT,
	MEM_HIWATER,
	MEM_NEWEST,
	MEM_USED,
	POOL_COUNTED,
	POOL_ENCRYPTED,
	POOL_FLAGS,
	POOL_MEM,
	POOL_NEXT,
	POOL_ZERO_ON_FREE,
} from "../layout/pool.ts";
import {
	BAD_ARGUMENT,
	BAD_POOL,
	NEEDS_TRANSIENT,
	OK,
	OUTSIDE_RAM,
	OVERLAP,
	POOL_FULL,
	UNUSABLE_POOL,
} from "../layout/status.ts";
import { context } from "../memory/context.ts";
import { rangeUsable } from "../memory/pages.ts";
import { NO_PTR, rangePtr } from "../memory/regions.ts";
import { poolAdd, poolAt, poolOverlaps } from "./pool.ts";
import { poolAreas, poolFlags, poolHolds, poolMem, poolNext } from "./record.ts";
import { ONE_AREA, poolUsed, slotsWanted, takeSlots } from "./slots.ts";
import { transientAdd, transientAt, transientNewest, transientRetire } from "./transient.ts";

/**
 * Adds a pool to an allocator that grows, at the head of its list: the next search looks there first. Parameters and
 * results as poolAdd; the flags are those of the first pool, whose number is `first`. The state need not be: Linux 6.12
 * decrypts grown pools where it leaves the first one as it is (pKVM).
 */
export function poolGrow(first: i32, start: u64, nslabs: u32, nareas: u32, state: i32): i32 {
	const mem = poolAt(first);
	if (mem === 0 || poolMem(mem) !== mem) return BAD_POOL;
	const flags = poolFlags(mem) & (POOL_ENCRYPTED | POOL_ZERO_ON_FREE);
	const number = poolAdd(start, nslabs, nareas, state, flags);
	if (number < 0) return number;
	const pool = poolAt(number);
	store<u32>(pool, u32(mem - context()), POOL_MEM);
	store<u32>(pool, poolFlags(pool) | POOL_COUNTED, POOL_FLAGS);
	store<u32>(pool, load<u32>(mem, MEM_NEWEST), POOL_NEXT);
	if (COCO_THREADS) atomic.store<u32>(mem + MEM_NEWEST, u32(pool - context()));
	else store<u32>(mem, u32(pool - context()), MEM_NEWEST);
	return number;
}

/**
 * Makes a transient pool for an allocator that grows: the next map with ATTR_TRANSIENT takes its slots.
 * @param first number of the allocator's first pool
 * @param start page-aligned gpa; the pool lies in one region
 * @param nslabs 1 .. 128
 * @returns OK, BAD_POOL, BAD_ARGUMENT, OUTSIDE_RAM, BLOCKED_PAGES, OVERLAP or CONTEXT_FULL
 */
export function poolTransient(first: i32, start: u64, nslabs: u32): i32 {
	const mem = poolAt(first);
	if (mem === 0 || poolMem(mem) !== mem) return BAD_POOL;
	if ((start & (PAGE_SIZE - 1)) !== 0 || nslabs - 1 >= IO_TLB_SEGSIZE) return BAD_ARGUMENT;
	const bytes = u64(nslabs) << IO_TLB_SHIFT;
	const ptr = rangePtr(start, bytes);
	if (ptr === NO_PTR) return OUTSIDE_RAM;
	const usable = rangeUsable(start, bytes);
	if (usable !== OK) return usable;
	return poolOverlaps(start, bytes) ? OVERLAP : transientAdd(mem, start, ptr, nslabs);
}

/** A second result of takeAny. */
let from: usize = 0;

/** The pool that the last takeAny got slots of, or asked in vain. */
export function tookFrom(): usize {
	return from;
}

/**
 * Takes slots of a pool, or of the allocator that grows from it: in its common pools, or with ATTR_TRANSIENT in the newest
 * transient one, which goes at once when it is of no use; with ATTR_OWN_POOL in this pool alone. Parameters as takeSlots.
 * @returns the slot in the pool that tookFrom tells, or OVER_MAX_MAPPING, POOL_FULL, NEEDS_TRANSIENT or UNUSABLE_POOL
 */
export function takeAny(
	first: usize,
	device: usize,
	orig: u64,
	bytes: u32,
	allocAlignMask: u32,
	dir: i32,
	cpu: u32,
	attrs: u32,
): i32 {
	from = first;
	const mem = poolMem(first);
	let slot: i32;
	if ((attrs & ATTR_TRANSIENT) !== 0) slot = takeFromTransient(mem, device, orig, bytes, allocAlignMask, dir);
	else if (mem === 0 || (attrs & ATTR_OWN_POOL) !== 0)
		slot = takeSlots(first, device, orig, bytes, allocAlignMask, dir, cpu);
	else slot = takeFromCommon(first, device, orig, bytes, allocAlignMask, dir, cpu);
	if (slot >= 0 && mem !== 0) countTaken(mem, slotsWanted(device, orig, bytes, allocAlignMask));
	return slot;
}

function takeFromTransient(mem: usize, device: usize, orig: u64, bytes: u32, allocAlignMask: u32, dir: i32): i32 {
	const pool = transientNewest();
	// one that serves a mapping, or another allocator, is not this one's
	if (pool === 0 || poolUsed(pool) !== 0 || poolMem(pool) !== mem) return NEEDS_TRANSIENT;
	const slot = takeSlots(pool, device, orig, bytes, allocAlignMask, dir, 0);
	if (slot < 0) {
		transientRetire(pool);
		return UNUSABLE_POOL;
	}
	from = pool;
	return slot;
}

/** Counts slots taken in an allocator that grows (Linux 6.12, inc_used_and_hiwater): all its pools have one mark. */
function countTaken(mem: usize, n: u32): void {
	if (COCO_THREADS) {
		const used = atomic.add<u32>(mem + MEM_USED, n) + n;
		let mark = atomic.load<u32>(mem + MEM_HIWATER);
		while (used > mark) {
			const seen = atomic.cmpxchg<u32>(mem + MEM_HIWATER, mark, used);
			if (seen === mark) break;
			mark = seen;
		}
	} else {
		const used = load<u32>(mem, MEM_USED) + n;
		store<u32>(mem, used, MEM_USED);
		store<u32>(mem, max(used, load<u32>(mem, MEM_HIWATER)), MEM_HIWATER);
	}
}

/**
 * Takes slots in any pool of an allocator that grows: every pool's own area before anyone's next one, the newest pool first.
 * Linux 6.12 kernel/dma/swiotlb.c, swiotlb_find_slots and swiotlb_search_area. Parameters as takeSlots.
 * @returns the slot in the pool that tookFrom tells, or OVER_MAX_MAPPING or NEEDS_TRANSIENT
 */
function takeFromCommon(
	first: usize,
	device: usize,
	orig: u64,
	bytes: u32,
	allocAlignMask: u32,
	dir: i32,
	cpu: u32,
): i32 {
	const areas = poolAreas(first);
	for (let i: u32 = 0; i < areas; i++) {
		for (let at = load<u32>(first, MEM_NEWEST); at !== 0; at = poolNext(context() + at)) {
			const pool = context() + at;
			if (i >= poolAreas(pool)) continue;
			const slot = takeSlots(pool, device, orig, bytes, allocAlignMask, dir, (cpu + i) | ONE_AREA);
			if (slot >= 0) from = pool;
			if (slot !== POOL_FULL) return slot;
		}
	}
	return NEEDS_TRANSIENT;
}

/** The pool of an allocator that grows, a device's second pool or a transient one that holds `gpa`, or 0. pool: the device's, or 0 */
export function otherPoolHolding(device: usize, pool: usize, gpa: u64): usize {
	const second = load<u32>(device, DEVICE_PRIVATE_POOL);
	if (second !== 0 && poolHolds(context() + second, gpa)) return context() + second;
	if (pool === 0 || poolMem(pool) === 0) return 0;
	for (let at = load<u32>(pool, MEM_NEWEST); at !== 0; at = poolNext(context() + at)) {
		if (poolHolds(context() + at, gpa)) return context() + at;
	}
	return transientAt(gpa, 1);
}
