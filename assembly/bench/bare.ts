/** The engine's slot allocator without a record of any mapping: what those records are measured against. One thread. */

import { PAGE_SIZE } from "../layout/context.ts";
import { DEVICE_MIN_ALIGN_MASK, DEVICE_SEG_BOUNDARY } from "../layout/device.ts";
import {
	AREA_INDEX,
	AREA_USED,
	IO_TLB_SEGSIZE,
	IO_TLB_SHIFT,
	IO_TLB_SIZE,
	POOL_AREA_NSLABS,
	POOL_AREA_SHIFT,
	POOL_NAREAS,
	POOL_SUMMARY,
} from "../layout/pool.ts";
import { OVER_MAX_MAPPING, POOL_FULL } from "../layout/status.ts";
import { segmentOf } from "../swiotlb/mapping.ts";
import { NONE, probeArea, searchArea } from "../swiotlb/search.ts";
import { markFree, markUsed } from "../swiotlb/segment.ts";
import { areaAt } from "../swiotlb/slots.ts";

/** As takeSlots, but nothing remembers the mapping. @returns the slot, or POOL_FULL or OVER_MAX_MAPPING */
export function bareTake(pool: usize, device: usize, orig: u64, bytes: u32, allocAlignMask: u32, cpu: u32): i32 {
	const minAlignMask = load<u32>(device, DEVICE_MIN_ALIGN_MASK);
	const boundaryMask = load<u64>(device, DEVICE_SEG_BOUNDARY);
	const offset = u32(orig) & minAlignMask & (allocAlignMask | (IO_TLB_SIZE - 1));
	const allocBytes = (u64(bytes) + offset + allocAlignMask) & ~u64(allocAlignMask);
	const wide = (allocBytes + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT;
	if (wide > IO_TLB_SEGSIZE) return OVER_MAX_MAPPING;
	const n = u32(wide);
	let alignMask = allocAlignMask;
	if (allocAlignMask === 0 && minAlignMask === 0 && allocBytes >= PAGE_SIZE) alignMask = PAGE_SIZE - 1;
	alignMask |= IO_TLB_SIZE - 1;
	const origMask = minAlignMask & ~alignMask;
	const areaSlots = load<u32>(pool, POOL_AREA_NSLABS);
	const areaMask = load<u32>(pool, POOL_NAREAS) - 1;
	let areaNumber = cpu & areaMask;
	let area = areaAt(pool, areaNumber);
	let areaBase = areaNumber * areaSlots;
	let found = probeArea(pool, area, areaBase, areaSlots, orig, n, alignMask, origMask, boundaryMask);
	for (let looked: u32 = 0; found === NONE; ) {
		if (n <= areaSlots - load<u32>(area, AREA_USED)) {
			found = searchArea(pool, area, areaBase, areaSlots, orig, n, alignMask, origMask, boundaryMask);
			if (found !== NONE) break;
		}
		if (looked++ === areaMask) return POOL_FULL;
		areaNumber = (areaNumber + 1) & areaMask;
		area = areaAt(pool, areaNumber);
		areaBase = areaNumber * areaSlots;
	}
	const slot = areaBase + u32(found);
	markUsed(segmentOf(pool, slot), slot & 127, n);
	const next = u32(found) + n;
	store<u32>(area, next >= areaSlots ? 0 : next, AREA_INDEX);
	store<u32>(area, load<u32>(area, AREA_USED) + n, AREA_USED);
	return slot + (offset >> IO_TLB_SHIFT);
}

/** Gives n slots from `slot` on back: the caller has to know both. */
export function bareGive(pool: usize, slot: u32, n: u32): void {
	markFree(segmentOf(pool, slot), slot & 127, n, pool + load<u32>(pool, POOL_SUMMARY) + (slot >> 7));
	const area = areaAt(pool, slot >> load<u32>(pool, POOL_AREA_SHIFT));
	store<u32>(area, load<u32>(area, AREA_USED) - n, AREA_USED);
}
