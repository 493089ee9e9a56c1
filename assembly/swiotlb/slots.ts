/** Slots of a pool: who holds which. Bits, records, index and use are an area's, under its lock. */

import { slotsGiven, slotsTaken } from "../audit/hooks.ts";
import { PAGE_SIZE } from "../layout/context.ts";
import { DEVICE_MIN_ALIGN_MASK, DEVICE_NUMBER, DEVICE_SEG_BOUNDARY } from "../layout/device.ts";
import {
	ALLOCATED_BYTES_MASK,
	ALLOCATED_PAD_SHIFT,
	AREA_ALLOWANCE,
	AREA_INDEX,
	AREA_LOCK,
	AREA_SHIFT,
	AREA_USED,
	IO_TLB_SEGSIZE,
	IO_TLB_SHIFT,
	IO_TLB_SIZE,
	OWNER_SHIFT,
	POOL_AREA_NSLABS,
	POOL_AREA_SHIFT,
	POOL_DELTA,
	POOL_HEADER_BYTES,
	POOL_HIWATER,
	POOL_NAREAS,
	POOL_SUMMARY,
	RECORD_ALLOCATED,
	RECORD_MAPPED,
	RECORD_ORIG,
} from "../layout/pool.ts";
import { NOT_MAPPED, OK, OVER_MAX_MAPPING, POOL_FULL } from "../layout/status.ts";
import { lock, unlock } from "../memory/lock.ts";
import { listClaim, listRelease, listSearchArea } from "../reference/list.ts";
import { mappedWord, recordAt, segmentOf } from "./mapping.ts";
import { NONE, probeArea, searchArea } from "./search.ts";
import { isFree, isUsed, markFree, markUsed } from "./segment.ts";

/** The debug build: elsewhere an assertion would still be evaluated. */
const DEBUG: bool = !ASC_NO_ASSERT;

/** ptr of an area. index: below the pool's area count */
export function areaAt(pool: usize, index: u32): usize {
	return pool + POOL_HEADER_BYTES + (index << AREA_SHIFT);
}

/** In takeSlots' cpu: look at no area but that CPU's. */
export const ONE_AREA: u32 = 0x80000000;

/**
 * Takes slots for a mapping, in the area of `cpu` or the next one that has room.
 * Linux 6.12 kernel/dma/swiotlb.c, swiotlb_find_slots and swiotlb_tbl_map_single (without CONFIG_SWIOTLB_DYNAMIC).
 * @param device ptr of the device's record: its min_align_mask, segment boundary and number
 * @param orig original address, below 2^52
 * @param bytes 1 .. 2^31 - 1
 * @param allocAlignMask low bits of the bounce address that must be 0; 0 = none
 * @param cpu may hold ONE_AREA
 * @returns the slot of the bounce address, or OVER_MAX_MAPPING or POOL_FULL
 */
export function takeSlots(
	pool: usize,
	device: usize,
	orig: u64,
	bytes: u32,
	allocAlignMask: u32,
	dir: i32,
	cpu: u32,
): i32 {
	const minAlignMask = load<u32>(device, DEVICE_MIN_ALIGN_MASK);
	const boundaryMask = load<u64>(device, DEVICE_SEG_BOUNDARY);
	const offset = u32(orig) & minAlignMask & (allocAlignMask | (IO_TLB_SIZE - 1));
	const allocBytes = (u64(bytes) + offset + allocAlignMask) & ~u64(allocAlignMask);
	const wide = (allocBytes + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT;
	if (wide > IO_TLB_SEGSIZE) return OVER_MAX_MAPPING;
	const n = u32(wide);
	// a page and more stays page-aligned for devices that set no mask at all
	let alignMask = allocAlignMask;
	if (allocAlignMask === 0 && minAlignMask === 0 && allocBytes >= PAGE_SIZE) alignMask = PAGE_SIZE - 1;
	alignMask |= IO_TLB_SIZE - 1;
	const origMask = minAlignMask & ~alignMask;
	const pad = offset >> IO_TLB_SHIFT;
	const areaSlots = load<u32>(pool, POOL_AREA_NSLABS);
	const areaMask = load<u32>(pool, POOL_NAREAS) - 1;
	let areaNumber = cpu & areaMask;
	let area = areaAt(pool, areaNumber);
	let areaBase = areaNumber * areaSlots;
	lock(area + AREA_LOCK);
	let found = COCO_REFERENCE
		? NONE
		: probeArea(pool, area, areaBase, areaSlots, orig, n, alignMask, origMask, boundaryMask);
	for (let looked: u32 = 0; found === NONE; ) {
		if (n <= areaSlots - load<u32>(area, AREA_USED)) {
			if (COCO_REFERENCE)
				found = listSearchArea(pool, area, areaBase, areaSlots, orig, n, alignMask, origMask, boundaryMask);
			else found = searchArea(pool, area, areaBase, areaSlots, orig, n, alignMask, origMask, boundaryMask);
			if (found !== NONE) break;
		}
		unlock(area + AREA_LOCK);
		if (looked++ === areaMask || (cpu & ONE_AREA) !== 0) return POOL_FULL;
		areaNumber = (areaNumber + 1) & areaMask;
		area = areaAt(pool, areaNumber);
		areaBase = areaNumber * areaSlots;
		lock(area + AREA_LOCK);
	}

	const slot = areaBase + u32(found);
	const head = slot + pad;
	if (COCO_REFERENCE) listClaim(pool, slot, n, pad, orig, u32(allocBytes), offset & (IO_TLB_SIZE - 1));
	else {
		if (DEBUG) assert(head - slot < n && isFree(segmentOf(pool, slot), slot & 127, n)); // no slot has two owners
		// the summary keeps its upper bound: only a search that fails lowers it
		markUsed(segmentOf(pool, slot), slot & 127, n);
		const record = recordAt(pool, head);
		store<u64>(record, orig | (u64(load<u32>(device, DEVICE_NUMBER)) << OWNER_SHIFT), RECORD_ORIG);
		// RECORD_MAPPED and, next to it, RECORD_ALLOCATED
		const mapped = mappedWord(bytes, offset & (IO_TLB_SIZE - 1), dir);
		store<u64>(record, u64(mapped) | ((allocBytes | (u64(pad) << ALLOCATED_PAD_SHIFT)) << 32), RECORD_MAPPED);
	}
	if (COCO_AUDIT) slotsTaken(pool + load<u32>(pool, POOL_DELTA) + (slot << IO_TLB_SHIFT), n);
	const next = u32(found) + n;
	store<u32>(area, next >= areaSlots ? 0 : next, AREA_INDEX);
	const used = load<u32>(area, AREA_USED) + n;
	const within = used <= load<u32>(area, AREA_ALLOWANCE);
	store<u32>(area, used, AREA_USED);
	unlock(area + AREA_LOCK);
	if (!within) raiseHiwater(pool);
	return head;
}

/**
 * Gives a mapping's slots back. The area's index stays where it is, as in Linux (swiotlb_release_slots).
 * @param head slot of the bounce address that the map returned
 * @param offset offset of that address in its slot, for the reference build: here the record knows it
 * @returns OK, or NOT_MAPPED when no mapping starts there: Linux leaves that undefined
 */
export function giveSlots(pool: usize, head: u32, offset: u32): i32 {
	const area = areaAt(pool, head >> load<u32>(pool, POOL_AREA_SHIFT));
	lock(area + AREA_LOCK);
	let n: u32;
	if (COCO_REFERENCE) n = listRelease(pool, head, offset);
	else n = release(pool, head);
	if (DEBUG) assert(n <= load<u32>(area, AREA_USED)); // what is given back was taken
	store<u32>(area, load<u32>(area, AREA_USED) - n, AREA_USED);
	unlock(area + AREA_LOCK);
	return n === 0 ? NOT_MAPPED : OK;
}

/** Marks the slots of the mapping at `head` free. @returns how many, 0 when none starts there */
function release(pool: usize, head: u32): u32 {
	const record = recordAt(pool, head);
	if (load<u32>(record, RECORD_MAPPED) === 0) return 0;
	store<u32>(record, 0, RECORD_MAPPED);
	const allocated = load<u32>(record, RECORD_ALLOCATED);
	const n = ((allocated & ALLOCATED_BYTES_MASK) + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT;
	const slot = head - (allocated >> ALLOCATED_PAD_SHIFT);
	if (DEBUG) assert(head - slot < n && isUsed(segmentOf(pool, slot), slot & 127, n)); // no slot was free already
	markFree(segmentOf(pool, slot), slot & 127, n, pool + load<u32>(pool, POOL_SUMMARY) + (slot >> 7));
	if (COCO_AUDIT) slotsGiven(pool + load<u32>(pool, POOL_DELTA) + (slot << IO_TLB_SHIFT), n);
	return n;
}

/** Slots used in all areas. */
export function poolUsed(pool: usize): u32 {
	const nareas = load<u32>(pool, POOL_NAREAS);
	let used: u32 = 0;
	for (let i: u32 = 0; i < nareas; i++) used += load<u32>(areaAt(pool, i), AREA_USED);
	return used;
}

function lockAreas(pool: usize): void {
	const nareas = load<u32>(pool, POOL_NAREAS);
	for (let i: u32 = 0; i < nareas; i++) lock(areaAt(pool, i) + AREA_LOCK);
}

/**
 * Raises the high-water mark to what is used now, and shares out what is left below it. While each area keeps to its
 * allowance the pool keeps to its mark, so a map looks at its own area alone.
 * Differs from Linux, which counts each map and unmap in one atomic total; the mark is the same.
 */
function raiseHiwater(pool: usize): void {
	lockAreas(pool);
	const used = poolUsed(pool);
	const hiwater = max(used, load<u32>(pool, POOL_HIWATER));
	store<u32>(pool, hiwater, POOL_HIWATER);
	const nareas = load<u32>(pool, POOL_NAREAS);
	const spare = (hiwater - used) >> ctz(nareas);
	for (let i: u32 = 0; i < nareas; i++) {
		const area = areaAt(pool, i);
		store<u32>(area, load<u32>(area, AREA_USED) + spare, AREA_ALLOWANCE);
		unlock(area + AREA_LOCK);
	}
}

/** Sets the high-water mark to 0: the next map sets it to what is used then. */
export function resetHiwater(pool: usize): void {
	lockAreas(pool);
	store<u32>(pool, 0, POOL_HIWATER);
	const nareas = load<u32>(pool, POOL_NAREAS);
	for (let i: u32 = 0; i < nareas; i++) {
		store<u32>(areaAt(pool, i), 0, AREA_ALLOWANCE);
		unlock(areaAt(pool, i) + AREA_LOCK);
	}
}
