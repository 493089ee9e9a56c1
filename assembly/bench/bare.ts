/** The engine's search and bitmaps without records, heads or totals: what the bookkeeping of mappings is measured against. */

import {
	AREA_INDEX,
	AREA_USED,
	IO_TLB_SHIFT,
	IO_TLB_SIZE,
	POOL_AREA_NSLABS,
	POOL_SUMMARY,
	SEGMENT_FREE,
	SEGMENT_FREE_HIGH,
} from "../layout/pool.ts";
import { OVER_MAX_MAPPING, POOL_FULL } from "../layout/status.ts";
import { context } from "../memory/context.ts";
import { segmentOf } from "../swiotlb/mapping.ts";
import { NONE, searchArea } from "../swiotlb/search.ts";
import { freeDownwards, freeUpwards, runHigh, runLow } from "../swiotlb/segment.ts";
import { areaAt } from "../swiotlb/slots.ts";

/** Takes slots of area 0 for a page-aligned original. @returns the slot, or POOL_FULL or OVER_MAX_MAPPING */
export function bareTake(pool: usize, orig: u64, bytes: u32, minAlignMask: u32): i32 {
	const n = (bytes + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT;
	if (n > 128) return OVER_MAX_MAPPING;
	const alignMask: u32 = minAlignMask === 0 && bytes >= 4096 ? 4095 : IO_TLB_SIZE - 1;
	const area = areaAt(pool, 0);
	const areaSlots = load<u32>(pool, POOL_AREA_NSLABS);
	const used = load<u32>(area, AREA_USED);
	if (n > areaSlots - used) return POOL_FULL;
	const slot = searchArea(pool, area, 0, areaSlots, orig, n, alignMask, minAlignMask & ~alignMask, u64.MAX_VALUE);
	if (slot === NONE) return POOL_FULL;
	const segment = segmentOf(pool, slot);
	const from = slot & 127;
	store<u64>(segment, load<u64>(segment, SEGMENT_FREE) & ~runLow(from, n), SEGMENT_FREE);
	store<u64>(segment, load<u64>(segment, SEGMENT_FREE_HIGH) & ~runHigh(from, n), SEGMENT_FREE_HIGH);
	const next = u32(slot) + n;
	store<u32>(area, next >= areaSlots ? 0 : next, AREA_INDEX);
	store<u32>(area, used + n, AREA_USED);
	return slot;
}

/** Gives n slots from `slot` on back: the caller has to know both. */
export function bareGive(pool: usize, slot: u32, n: u32): void {
	const segment = segmentOf(pool, slot);
	const from = slot & 127;
	const low = load<u64>(segment, SEGMENT_FREE) | runLow(from, n);
	const high = load<u64>(segment, SEGMENT_FREE_HIGH) | runHigh(from, n);
	store<u64>(segment, low, SEGMENT_FREE);
	store<u64>(segment, high, SEGMENT_FREE_HIGH);
	const longest = context() + load<u32>(pool, POOL_SUMMARY) + (slot >> 7);
	const merged = freeDownwards(low, high, from) + freeUpwards(low, high, from);
	if (merged > u32(load<u8>(longest))) store<u8>(longest, u8(merged));
	const area = areaAt(pool, 0);
	store<u32>(area, load<u32>(area, AREA_USED) - n, AREA_USED);
}
