/** A pool's record: its fields, and where its areas, segments, mappings' records and RAM lie. */

import { DEVICE_MIN_ALIGN_MASK } from "../layout/device.ts";
import {
	AREA_SHIFT,
	IO_TLB_SEGSIZE,
	IO_TLB_SHIFT,
	POOL_AREA_SHIFT,
	POOL_DELTA,
	POOL_END,
	POOL_FLAGS,
	POOL_HEADER_BYTES,
	POOL_MEM,
	POOL_NAREAS,
	POOL_NEXT,
	POOL_NSLABS,
	POOL_RECORDS,
	POOL_SEGMENTS,
	POOL_START,
	POOL_SUMMARY,
	RECORD_SHIFT,
	SEGMENT_SHIFT,
} from "../layout/pool.ts";
import { context } from "../memory/context.ts";

/** First gpa of the pool. */
export function poolStart(pool: usize): u64 {
	return load<u64>(pool, POOL_START);
}

/** First gpa behind the pool. */
export function poolEnd(pool: usize): u64 {
	return load<u64>(pool, POOL_END);
}

/** Slots of the pool. */
export function poolSlots(pool: usize): u32 {
	return load<u32>(pool, POOL_NSLABS);
}

/** Areas of the pool. */
export function poolAreas(pool: usize): u32 {
	return load<u32>(pool, POOL_NAREAS);
}

/** POOL_FLAGS. */
export function poolFlags(pool: usize): u32 {
	return load<u32>(pool, POOL_FLAGS);
}

/** The first pool of the allocator that grows and that the pool belongs to, or 0. */
export function poolMem(pool: usize): usize {
	const at = load<u32>(pool, POOL_MEM);
	return at === 0 ? 0 : context() + at;
}

/** Offset from the context's base of the next pool of its list, or 0. */
export function poolNext(pool: usize): u32 {
	return load<u32>(pool, POOL_NEXT);
}

/** Low bits of an original that a device's bounce addresses keep. */
export function minAlignMask(device: usize): u32 {
	return load<u32>(device, DEVICE_MIN_ALIGN_MASK);
}

/** ptr of an area. index: below the pool's area count */
export function areaAt(pool: usize, index: u32): usize {
	return pool + POOL_HEADER_BYTES + (index << AREA_SHIFT);
}

/** Number of the area that holds a slot. */
export function areaOfSlot(pool: usize, slot: u32): u32 {
	return slot >> load<u32>(pool, POOL_AREA_SHIFT);
}

/** Number of the area that a gpa of the pool lies in. */
export function areaOf(pool: usize, tlb: u64): u32 {
	return areaOfSlot(pool, slotOf(pool, tlb));
}

/** ptr of the pool's first segment. */
export function segmentsOf(pool: usize): usize {
	return pool + load<u32>(pool, POOL_SEGMENTS);
}

/** ptr of the segment that holds a slot. */
export function segmentOf(pool: usize, slot: u32): usize {
	return segmentsOf(pool) + ((slot >> 7) << SEGMENT_SHIFT);
}

/** A slot's bit in its segment. */
export function bitOf(slot: u32): u32 {
	return slot & (IO_TLB_SEGSIZE - 1);
}

/** ptr of the summary: a byte a segment, an upper bound of its longest free run. */
export function summaryOf(pool: usize): usize {
	return pool + load<u32>(pool, POOL_SUMMARY);
}

/** ptr of the record at a mapping's head slot. */
export function recordAt(pool: usize, head: u32): usize {
	return pool + load<u32>(pool, POOL_RECORDS) + (head << RECORD_SHIFT);
}

/** The slot of `tlb`, an address inside the pool. */
export function slotOf(pool: usize, tlb: u64): u32 {
	return u32((tlb - poolStart(pool)) >> IO_TLB_SHIFT);
}

/** ptr of the pool's RAM. */
function ramOf(pool: usize): usize {
	return pool + load<u32>(pool, POOL_DELTA);
}

/** ptr of a slot's first byte. */
export function slotPtr(pool: usize, slot: u32): usize {
	return ramOf(pool) + (slot << IO_TLB_SHIFT);
}

/** ptr of a gpa of the pool. */
export function tlbPtr(pool: usize, tlb: u64): usize {
	return ramOf(pool) + usize(tlb - poolStart(pool));
}

/** Whether a gpa lies in the pool. */
export function poolHolds(pool: usize, gpa: u64): bool {
	return gpa - poolStart(pool) < poolEnd(pool) - poolStart(pool);
}
