/** Slots of a pool: who holds which. Bits, records, index and use are an area's, under its lock. */

import { slotsTaken } from "../audit/hooks.ts";
import { PAGE_SIZE } from "../layout/context.ts";
import {
	AREA_ALLOWANCE,
	AREA_FIRST,
	AREA_LOCK,
	AREA_NSLABS,
	AREA_USED,
	IO_TLB_MAX_MAPPING,
	IO_TLB_SHIFT,
	IO_TLB_SIZE,
	POOL_HIWATER,
} from "../layout/pool.ts";
import { NOT_MAPPED, OK, OVER_MAX_MAPPING, POOL_FULL } from "../layout/status.ts";
import { lock, unlock } from "../memory/lock.ts";
import { allocatedWord, mappedWord } from "./bitmap.ts";
import { claimSlots, probeSlots, releaseSlots, searchSlots } from "./ledger.ts";
import { areaAt, areaOfSlot, minAlignMask, poolAreas, slotPtr } from "./record.ts";
import { NONE, want } from "./search.ts";
import { startAfter } from "./start.ts";

/** The debug build: elsewhere an assertion would still be evaluated. */
const DEBUG: bool = !ASC_NO_ASSERT;

/** Offset of a mapping's first byte from the first slot that it takes: padding, and offset in its head slot. */
function offsetIn(orig: u64, alignMask: u32, allocAlignMask: u32): u32 {
	return u32(orig) & alignMask & (allocAlignMask | (IO_TLB_SIZE - 1));
}

/** Bytes that a mapping takes from its first slot on. offset: offsetIn */
function bytesWanted(offset: u32, bytes: u32, allocAlignMask: u32): u64 {
	return (u64(bytes) + offset + allocAlignMask) & ~u64(allocAlignMask);
}

function slotsOf(bytes: u64): u32 {
	return u32((bytes + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT);
}

/** Slots that a request takes, padding too. */
export function slotsWanted(device: usize, orig: u64, bytes: u32, allocAlignMask: u32): u32 {
	return slotsOf(bytesWanted(offsetIn(orig, minAlignMask(device), allocAlignMask), bytes, allocAlignMask));
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
	const minAlign = minAlignMask(device);
	const offset = offsetIn(orig, minAlign, allocAlignMask);
	const allocBytes = bytesWanted(offset, bytes, allocAlignMask);
	if (allocBytes > IO_TLB_MAX_MAPPING) return OVER_MAX_MAPPING;
	const n = slotsOf(allocBytes);
	// a page and more stays page-aligned for devices that set no mask at all
	let alignMask = allocAlignMask;
	if (allocAlignMask === 0 && minAlign === 0 && allocBytes >= PAGE_SIZE) alignMask = PAGE_SIZE - 1;
	alignMask |= IO_TLB_SIZE - 1;
	const areaMask = poolAreas(pool) - 1;
	let areaNumber = cpu & areaMask;
	let area = areaAt(pool, areaNumber);
	lock(area + AREA_LOCK);
	let found = probeSlots(pool, area, device, orig, n, alignMask);
	for (let looked: u32 = 0; found === NONE; ) {
		if (n <= load<u32>(area, AREA_NSLABS) - load<u32>(area, AREA_USED)) {
			want(area, device, orig, n, alignMask);
			found = searchSlots(pool, area);
			if (found !== NONE) break;
		}
		unlock(area + AREA_LOCK);
		if (looked++ === areaMask || (cpu & ONE_AREA) !== 0) return POOL_FULL;
		areaNumber = (areaNumber + 1) & areaMask;
		area = areaAt(pool, areaNumber);
		lock(area + AREA_LOCK);
	}

	const slot = load<u32>(area, AREA_FIRST) + u32(found);
	const mapped = mappedWord(bytes, offset & (IO_TLB_SIZE - 1), dir);
	const head = claimSlots(pool, device, slot, orig, mapped, allocatedWord(u32(allocBytes), offset >> IO_TLB_SHIFT));
	if (COCO_AUDIT) slotsTaken(slotPtr(pool, slot), n);
	startAfter(area, u32(found) + n);
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
	const area = areaAt(pool, areaOfSlot(pool, head));
	lock(area + AREA_LOCK);
	const n = releaseSlots(pool, head, offset);
	if (DEBUG) assert(n <= load<u32>(area, AREA_USED)); // what is given back was taken
	store<u32>(area, load<u32>(area, AREA_USED) - n, AREA_USED);
	unlock(area + AREA_LOCK);
	return n === 0 ? NOT_MAPPED : OK;
}

/** Slots used in all areas. */
export function poolUsed(pool: usize): u32 {
	const nareas = poolAreas(pool);
	let used: u32 = 0;
	for (let i: u32 = 0; i < nareas; i++) used += load<u32>(areaAt(pool, i), AREA_USED);
	return used;
}

function lockAreas(pool: usize): void {
	const nareas = poolAreas(pool);
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
	const nareas = poolAreas(pool);
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
	const nareas = poolAreas(pool);
	for (let i: u32 = 0; i < nareas; i++) {
		store<u32>(areaAt(pool, i), 0, AREA_ALLOWANCE);
		unlock(areaAt(pool, i) + AREA_LOCK);
	}
}
