/** The engine's slot allocator without a record of any mapping: what those records are measured against. One thread. */

import { PAGE_SIZE } from "../layout/context.ts";
import { AREA_FIRST, AREA_NSLABS, AREA_USED, IO_TLB_MAX_MAPPING, IO_TLB_SHIFT, IO_TLB_SIZE } from "../layout/pool.ts";
import { OVER_MAX_MAPPING, POOL_FULL } from "../layout/status.ts";
import { areaAt, areaOfSlot, bitOf, minAlignMask, poolAreas, segmentOf, summaryOf } from "../swiotlb/record.ts";
import { NONE, probe, search, want } from "../swiotlb/search.ts";
import { markFree, markUsed } from "../swiotlb/segment.ts";
import { startAfter } from "../swiotlb/start.ts";

/** As takeSlots, but nothing remembers the mapping. @returns the slot, or POOL_FULL or OVER_MAX_MAPPING */
export function bareTake(pool: usize, device: usize, orig: u64, bytes: u32, allocAlignMask: u32, cpu: u32): i32 {
	const minAlign = minAlignMask(device);
	const offset = u32(orig) & minAlign & (allocAlignMask | (IO_TLB_SIZE - 1));
	const allocBytes = (u64(bytes) + offset + allocAlignMask) & ~u64(allocAlignMask);
	if (allocBytes > IO_TLB_MAX_MAPPING) return OVER_MAX_MAPPING;
	const n = u32((allocBytes + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT);
	let alignMask = allocAlignMask;
	if (allocAlignMask === 0 && minAlign === 0 && allocBytes >= PAGE_SIZE) alignMask = PAGE_SIZE - 1;
	alignMask |= IO_TLB_SIZE - 1;
	const areaMask = poolAreas(pool) - 1;
	let areaNumber = cpu & areaMask;
	let area = areaAt(pool, areaNumber);
	let found = probe(pool, area, device, orig, n, alignMask);
	for (let looked: u32 = 0; found === NONE; ) {
		if (n <= load<u32>(area, AREA_NSLABS) - load<u32>(area, AREA_USED)) {
			want(area, device, orig, n, alignMask);
			found = search(pool, area);
			if (found !== NONE) break;
		}
		if (looked++ === areaMask) return POOL_FULL;
		areaNumber = (areaNumber + 1) & areaMask;
		area = areaAt(pool, areaNumber);
	}
	const slot = load<u32>(area, AREA_FIRST) + u32(found);
	markUsed(segmentOf(pool, slot), bitOf(slot), n);
	startAfter(area, u32(found) + n);
	store<u32>(area, load<u32>(area, AREA_USED) + n, AREA_USED);
	return slot + (offset >> IO_TLB_SHIFT);
}

/** Gives n slots from `slot` on back: the caller has to know both. */
export function bareGive(pool: usize, slot: u32, n: u32): void {
	markFree(segmentOf(pool, slot), bitOf(slot), n, summaryOf(pool) + (slot >> 7));
	const area = areaAt(pool, areaOfSlot(pool, slot));
	store<u32>(area, load<u32>(area, AREA_USED) - n, AREA_USED);
}
