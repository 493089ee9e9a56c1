/**
 * Where a search starts in its area: where the last mapping ended. Linux 6.12 kernel/dma/swiotlb.c, swiotlb_search_pool_area:
 * area->index moves only on success, and a release leaves it where it is.
 */
import { AREA_INDEX, AREA_NSLABS } from "../layout/pool.ts";

/** The slot, within the area, at which a search starts. */
export function searchStart(area: usize): u32 {
	return load<u32>(area, AREA_INDEX);
}

/** A mapping's slots end before slot `next` of the area. */
export function startAfter(area: usize, next: u32): void {
	store<u32>(area, next >= load<u32>(area, AREA_NSLABS) ? 0 : next, AREA_INDEX);
}
