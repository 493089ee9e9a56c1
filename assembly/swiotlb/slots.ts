/** Slots of a pool: who holds which, per area and in total. Bits, records and index are an area's, under its lock. */

import {
	AREA_INDEX,
	AREA_SHIFT,
	AREA_USED,
	IO_TLB_SEGSIZE,
	IO_TLB_SHIFT,
	IO_TLB_SIZE,
	OWNER_SHIFT,
	POOL_AREA_NSLABS,
	POOL_AREA_SHIFT,
	POOL_AREAS,
	POOL_HIWATER,
	POOL_NAREAS,
	POOL_START,
	POOL_SUMMARY,
	POOL_TOTAL_USED,
	RECORD_ORIG,
	RECORD_SIZES,
	SEGMENT_FREE,
	SEGMENT_FREE_HIGH,
	SEGMENT_HEAD,
	SIZES_BYTES_MASK,
	SIZES_DIR_SHIFT,
	SIZES_MAPPED_SHIFT,
	SIZES_OFFSET_MASK,
	SIZES_OFFSET_SHIFT,
	SIZES_PAD_MASK,
	SIZES_PAD_SHIFT,
} from "../layout/pool.ts";
import { NOT_MAPPED, OK, OVER_MAX_MAPPING, POOL_FULL } from "../layout/status.ts";
import { context } from "../memory/context.ts";
import { listClaim, listRelease, listSearchArea } from "../reference/list.ts";
import { lockArea, unlockArea } from "./lock.ts";
import { recordAt, segmentOf } from "./mapping.ts";
import { NONE, searchArea } from "./search.ts";
import { freeDownwards, freeUpwards, runHigh, runIsFree, runLow } from "./segment.ts";

/** The debug build: elsewhere an assertion would still be evaluated. */
const DEBUG: bool = !ASC_NO_ASSERT;

/** ptr of an area. index: below the pool's area count */
export function areaAt(pool: usize, index: u32): usize {
	return context() + load<u32>(pool, POOL_AREAS) + (index << AREA_SHIFT);
}

/**
 * Takes slots for a mapping, in the area of `cpu` or the next one that has room.
 * Linux 6.12 kernel/dma/swiotlb.c, swiotlb_find_slots and swiotlb_tbl_map_single (without CONFIG_SWIOTLB_DYNAMIC).
 * @param orig original address, below 2^52
 * @param bytes 1 .. 2^31 - 1
 * @param allocAlignMask low bits of the bounce address that must be 0; 0 = none
 * @param minAlignMask low bits that the bounce address shares with orig
 * @param boundaryMask segment boundary, 2^k - 1 (unset: 2^64 - 1)
 * @param owner device number, for the record
 * @returns the slot of the bounce address, or OVER_MAX_MAPPING or POOL_FULL
 */
export function takeSlots(
	pool: usize,
	orig: u64,
	bytes: u32,
	allocAlignMask: u32,
	minAlignMask: u32,
	boundaryMask: u64,
	dir: i32,
	cpu: u32,
	owner: u32,
): i32 {
	const offset = u32(orig) & minAlignMask & (allocAlignMask | (IO_TLB_SIZE - 1));
	const allocBytes = (u64(bytes) + offset + allocAlignMask) & ~u64(allocAlignMask);
	const wide = (allocBytes + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT;
	if (wide > IO_TLB_SEGSIZE) return OVER_MAX_MAPPING;
	const n = u32(wide);
	// a page and more stays page-aligned for devices that set no mask at all
	let alignMask = allocAlignMask;
	if (allocAlignMask === 0 && minAlignMask === 0 && allocBytes >= 4096) alignMask = 4095;
	alignMask |= IO_TLB_SIZE - 1;
	const origMask = minAlignMask & ~alignMask;
	const pad = offset >> IO_TLB_SHIFT;
	const sizes =
		allocBytes |
		(u64(bytes) << SIZES_MAPPED_SHIFT) |
		(u64(offset & (IO_TLB_SIZE - 1)) << SIZES_OFFSET_SHIFT) |
		(u64(pad) << SIZES_PAD_SHIFT) |
		(u64(dir) << SIZES_DIR_SHIFT);

	const areaSlots = load<u32>(pool, POOL_AREA_NSLABS);
	const areaMask = load<u32>(pool, POOL_NAREAS) - 1;
	const firstArea = cpu & areaMask;
	let areaNumber = firstArea;
	do {
		const area = areaAt(pool, areaNumber);
		const areaBase = areaNumber * areaSlots;
		lockArea(area);
		if (n <= areaSlots - load<u32>(area, AREA_USED)) {
			let found: i32;
			if (COCO_REFERENCE)
				found = listSearchArea(pool, area, areaBase, areaSlots, orig, n, alignMask, origMask, boundaryMask);
			else found = searchArea(pool, area, areaBase, areaSlots, orig, n, alignMask, origMask, boundaryMask);
			if (found !== NONE) {
				const slot = areaBase + u32(found);
				if (COCO_REFERENCE) listClaim(pool, slot, n, pad, orig, u32(allocBytes), offset & (IO_TLB_SIZE - 1));
				else claim(pool, slot, n, slot + pad, orig | (u64(owner) << OWNER_SHIFT), sizes);
				const next = u32(found) + n;
				store<u32>(area, next >= areaSlots ? 0 : next, AREA_INDEX);
				store<u32>(area, load<u32>(area, AREA_USED) + n, AREA_USED);
				unlockArea(area);
				countTaken(pool, n);
				return slot + pad;
			}
		}
		unlockArea(area);
		areaNumber = (areaNumber + 1) & areaMask;
	} while (areaNumber !== firstArea);
	return POOL_FULL;
}

/** Marks slots used. The summary keeps its upper bound: only a search that fails lowers it. */
function claim(pool: usize, slot: u32, n: u32, head: u32, orig: u64, sizes: u64): void {
	const segment = segmentOf(pool, slot);
	const from = slot & 127;
	if (DEBUG) assert(n > 0 && from + n <= IO_TLB_SEGSIZE && head - slot < n); // inside one segment, its head inside it
	if (DEBUG) assert(runIsFree(load<u64>(segment, SEGMENT_FREE), load<u64>(segment, SEGMENT_FREE_HIGH), from, n)); // no slot has two owners
	store<u64>(segment, load<u64>(segment, SEGMENT_FREE) & ~runLow(from, n), SEGMENT_FREE);
	store<u64>(segment, load<u64>(segment, SEGMENT_FREE_HIGH) & ~runHigh(from, n), SEGMENT_FREE_HIGH);
	const heads = segment + ((head & 64) >> 3);
	store<u64>(heads, load<u64>(heads, SEGMENT_HEAD) | (1 << u64(head & 63)), SEGMENT_HEAD);
	const record = recordAt(pool, head);
	store<u64>(record, orig, RECORD_ORIG);
	store<u64>(record, sizes, RECORD_SIZES);
}

/**
 * Gives a mapping's slots back. The area's index stays where it is, as in Linux (swiotlb_release_slots).
 * @param tlb the bounce address that the map returned, inside the pool
 * @param minAlignMask the device's, for the reference build: here the record knows the offset
 * @returns OK, or NOT_MAPPED when no mapping starts at `tlb`: Linux leaves that undefined
 */
export function giveSlots(pool: usize, tlb: u64, minAlignMask: u32): i32 {
	const head = u32((tlb - load<u64>(pool, POOL_START)) >> IO_TLB_SHIFT);
	const area = areaAt(pool, head >> load<u32>(pool, POOL_AREA_SHIFT));
	lockArea(area);
	let n: u32;
	if (COCO_REFERENCE) n = listRelease(pool, head, u32(tlb) & minAlignMask & (IO_TLB_SIZE - 1));
	else n = release(pool, head, u32(tlb) & (IO_TLB_SIZE - 1));
	if (DEBUG) assert(n <= load<u32>(area, AREA_USED)); // what is given back was taken
	store<u32>(area, load<u32>(area, AREA_USED) - n, AREA_USED);
	unlockArea(area);
	if (n === 0) return NOT_MAPPED;
	countGiven(pool, n);
	return OK;
}

/** Marks the slots of the mapping at `head` free. @returns how many, 0 when none starts there */
function release(pool: usize, head: u32, offset: u32): u32 {
	const segment = segmentOf(pool, head);
	const heads = segment + ((head & 64) >> 3);
	const bit: u64 = 1 << u64(head & 63);
	const sizes = load<u64>(recordAt(pool, head), RECORD_SIZES);
	if ((load<u64>(heads, SEGMENT_HEAD) & bit) === 0 || u32((sizes >> SIZES_OFFSET_SHIFT) & SIZES_OFFSET_MASK) !== offset)
		return 0;
	store<u64>(heads, load<u64>(heads, SEGMENT_HEAD) & ~bit, SEGMENT_HEAD);
	const n = u32((sizes & SIZES_BYTES_MASK) + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT;
	const slot = head - u32((sizes >> SIZES_PAD_SHIFT) & SIZES_PAD_MASK);
	const from = slot & 127;
	if (DEBUG) assert(n > 0 && from + n <= IO_TLB_SEGSIZE && head - slot < n); // as it was claimed
	if (DEBUG) assert((load<u64>(segment, SEGMENT_FREE) & runLow(from, n)) === 0); // no slot was free already
	if (DEBUG) assert((load<u64>(segment, SEGMENT_FREE_HIGH) & runHigh(from, n)) === 0);
	const low = load<u64>(segment, SEGMENT_FREE) | runLow(from, n);
	const high = load<u64>(segment, SEGMENT_FREE_HIGH) | runHigh(from, n);
	store<u64>(segment, low, SEGMENT_FREE);
	store<u64>(segment, high, SEGMENT_FREE_HIGH);
	const longest = context() + load<u32>(pool, POOL_SUMMARY) + (slot >> 7);
	const merged = freeDownwards(low, high, from) + freeUpwards(low, high, from);
	if (merged > u32(load<u8>(longest))) store<u8>(longest, u8(merged));
	return n;
}

function countTaken(pool: usize, n: u32): void {
	if (COCO_THREADS) {
		const used = atomic.add<u32>(pool, n, POOL_TOTAL_USED) + n;
		let hiwater = atomic.load<u32>(pool, POOL_HIWATER);
		while (used > hiwater) {
			const seen = atomic.cmpxchg<u32>(pool, hiwater, used, POOL_HIWATER);
			if (seen === hiwater) break;
			hiwater = seen;
		}
	} else {
		const used = load<u32>(pool, POOL_TOTAL_USED) + n;
		store<u32>(pool, used, POOL_TOTAL_USED);
		if (used > load<u32>(pool, POOL_HIWATER)) store<u32>(pool, used, POOL_HIWATER);
	}
}

function countGiven(pool: usize, n: u32): void {
	if (COCO_THREADS) atomic.sub<u32>(pool, n, POOL_TOTAL_USED);
	else store<u32>(pool, load<u32>(pool, POOL_TOTAL_USED) - n, POOL_TOTAL_USED);
}
