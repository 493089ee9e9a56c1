/** The engine's search, bitmaps and counts without a record of any mapping: what those records are measured against. */

import { AREA_INDEX, AREA_USED, IO_TLB_SHIFT, IO_TLB_SIZE, POOL_AREA_NSLABS, POOL_SUMMARY } from "../layout/pool.ts";
import { OVER_MAX_MAPPING, POOL_FULL } from "../layout/status.ts";
import { segmentOf } from "../swiotlb/mapping.ts";
import { NONE, probeArea, searchArea } from "../swiotlb/search.ts";
import { markFree, markUsed } from "../swiotlb/segment.ts";
import { areaAt } from "../swiotlb/slots.ts";

/** Takes slots of area 0 for a page-aligned original. @returns the slot, or POOL_FULL or OVER_MAX_MAPPING */
export function bareTake(pool: usize, orig: u64, bytes: u32, minAlignMask: u32): i32 {
	const n = (bytes + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT;
	if (n > 128) return OVER_MAX_MAPPING;
	const alignMask: u32 = minAlignMask === 0 && bytes >= 4096 ? 4095 : IO_TLB_SIZE - 1;
	const area = areaAt(pool, 0);
	const areaSlots = load<u32>(pool, POOL_AREA_NSLABS);
	const used = load<u32>(area, AREA_USED);
	const origMask = minAlignMask & ~alignMask;
	let slot = probeArea(pool, area, 0, areaSlots, orig, n, alignMask, origMask, u64.MAX_VALUE);
	if (slot === NONE) {
		if (n > areaSlots - used) return POOL_FULL;
		slot = searchArea(pool, area, 0, areaSlots, orig, n, alignMask, origMask, u64.MAX_VALUE);
		if (slot === NONE) return POOL_FULL;
	}
	markUsed(segmentOf(pool, slot), slot & 127, n);
	const next = u32(slot) + n;
	store<u32>(area, next >= areaSlots ? 0 : next, AREA_INDEX);
	store<u32>(area, used + n, AREA_USED);
	return slot;
}

/** Gives n slots from `slot` on back: the caller has to know both. */
export function bareGive(pool: usize, slot: u32, n: u32): void {
	markFree(segmentOf(pool, slot), slot & 127, n, pool + load<u32>(pool, POOL_SUMMARY) + (slot >> 7));
	const area = areaAt(pool, 0);
	store<u32>(area, load<u32>(area, AREA_USED) - n, AREA_USED);
}
