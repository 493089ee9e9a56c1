import { regionAdded } from "../audit/hooks.ts";
import {
	CTX_BYTES,
	CTX_MAX_REGIONS,
	CTX_NPAGES,
	CTX_NREGIONS,
	CTX_REGIONS,
	MAX_GPA,
	PAGE_SHIFT,
	PAGE_SIZE,
	REGION_BYTES,
	REGION_DELTA,
	REGION_FIRST_PAGE,
	REGION_GPA,
	REGION_LENGTH,
} from "../layout/context.ts";
import { BAD_ARGUMENT, CONTEXT_FULL, OK, OUTSIDE_RAM, OVERLAP } from "../layout/status.ts";
import { context, inMemory } from "./context.ts";

/** No ptr: the range is not in one region. */
export const NO_PTR: usize = usize.MAX_VALUE;

/** The region that the last look-up found: only a hint, checked at each use, so instances need not share it. */
let hint: usize = 0;

/** Forgets the hint: the context, or its regions, have changed. */
export function regionsChanged(): void {
	hint = 0;
}

function regionAt(index: u32): usize {
	return context() + load<u32>(context(), CTX_REGIONS) + index * REGION_BYTES;
}

/**
 * Adds a stretch of RAM. Stretches come in ascending gpa order and do not overlap.
 * @param gpa multiple of 4096, gpa + bytes below 2^52
 * @param bytes multiple of 4096, above 0
 * @param ptr where the stretch lies in linear memory, a multiple of 8
 * @returns OK, BAD_ARGUMENT, OVERLAP (also with the context, and of two stretches in linear memory) or CONTEXT_FULL
 */
export function regionAdd(gpa: u64, bytes: u64, ptr: usize): i32 {
	if (load<u32>(context(), CTX_NPAGES) !== 0) return BAD_ARGUMENT;
	if (((gpa | bytes) & (PAGE_SIZE - 1)) !== 0 || (ptr & 7) !== 0) return BAD_ARGUMENT;
	if (bytes === 0 || gpa + bytes > u64(MAX_GPA) || !inMemory(ptr, bytes)) return BAD_ARGUMENT;
	if (placeTaken(ptr, bytes)) return OVERLAP;
	const n = load<u32>(context(), CTX_NREGIONS);
	const delta = ptr - context();
	if (n > 0) {
		const last = regionAt(n - 1);
		const end = load<u64>(last, REGION_GPA) + load<u64>(last, REGION_LENGTH);
		if (gpa < end) return OVERLAP;
	}
	if (n === load<u32>(context(), CTX_MAX_REGIONS)) return CONTEXT_FULL;
	const region = regionAt(n);
	store<u64>(region, gpa, REGION_GPA);
	store<u64>(region, bytes, REGION_LENGTH);
	store<u32>(region, u32(delta), REGION_DELTA);
	store<u32>(context(), n + 1, CTX_NREGIONS);
	if (COCO_AUDIT) regionAdded(ptr, bytes);
	return OK;
}

/** Whether the context, or a region, lies in [ptr, ptr + bytes) of linear memory. */
function placeTaken(ptr: usize, bytes: u64): bool {
	if (meets(ptr, bytes, context(), load<u32>(context(), CTX_BYTES))) return true;
	const n = load<u32>(context(), CTX_NREGIONS);
	for (let i: u32 = 0; i < n; i++) {
		const region = regionAt(i);
		if (meets(ptr, bytes, context() + load<u32>(region, REGION_DELTA), load<u64>(region, REGION_LENGTH))) return true;
	}
	return false;
}

function meets(ptr: usize, bytes: u64, other: usize, otherBytes: u64): bool {
	return u64(ptr) < u64(other) + otherBytes && u64(other) < u64(ptr) + bytes;
}

/** Numbers the pages of all regions in order. @returns how many there are */
export function regionsNumberPages(): u32 {
	let pages: u32 = 0;
	const n = load<u32>(context(), CTX_NREGIONS);
	for (let i: u32 = 0; i < n; i++) {
		const region = regionAt(i);
		store<u32>(region, pages, REGION_FIRST_PAGE);
		pages += u32(load<u64>(region, REGION_LENGTH) >> PAGE_SHIFT);
	}
	return pages;
}

/**
 * Tells region number `index` that its bytes now lie at `ptr`: RAM that was moved, or restored elsewhere.
 * @returns OK or BAD_ARGUMENT
 */
export function regionMove(index: u32, ptr: usize): i32 {
	if (index >= load<u32>(context(), CTX_NREGIONS) || (ptr & 7) !== 0) return BAD_ARGUMENT;
	const region = regionAt(index);
	if (!inMemory(ptr, load<u64>(region, REGION_LENGTH))) return BAD_ARGUMENT;
	store<u32>(region, u32(ptr - context()), REGION_DELTA);
	regionsChanged();
	return OK;
}

/** The region record that holds `gpa`, or 0. */
export function regionOf(gpa: u64): usize {
	const last = hint;
	if (last !== 0) {
		if (gpa - load<u64>(last, REGION_GPA) < load<u64>(last, REGION_LENGTH)) return last;
	}
	return regionSearch(gpa);
}

function regionSearch(gpa: u64): usize {
	let low: u32 = 0;
	let high = load<u32>(context(), CTX_NREGIONS);
	while (low < high) {
		const middle = (low + high) >> 1;
		const region = regionAt(middle);
		const gpaFrom = load<u64>(region, REGION_GPA);
		if (gpa < gpaFrom) high = middle;
		else if (gpa - gpaFrom < load<u64>(region, REGION_LENGTH)) {
			hint = region;
			return region;
		} else low = middle + 1;
	}
	return 0;
}

/** ptr of `gpa` in its region. */
export function regionPtr(region: usize, gpa: u64): usize {
	return context() + load<u32>(region, REGION_DELTA) + usize(gpa - load<u64>(region, REGION_GPA));
}

/** Bytes from `gpa` to the end of its region. */
export function regionRemaining(region: usize, gpa: u64): u64 {
	return load<u64>(region, REGION_LENGTH) - (gpa - load<u64>(region, REGION_GPA));
}

/** Number of the page of `gpa` in the page bitmaps. */
export function regionPage(region: usize, gpa: u64): u32 {
	return load<u32>(region, REGION_FIRST_PAGE) + u32((gpa - load<u64>(region, REGION_GPA)) >> PAGE_SHIFT);
}

/** ptr of [gpa, gpa + bytes) when all of it lies in one region, else NO_PTR. */
export function rangePtr(gpa: u64, bytes: u64): usize {
	const region = regionOf(gpa);
	if (region === 0 || regionRemaining(region, gpa) < bytes) return NO_PTR;
	return regionPtr(region, gpa);
}

/** OK when all of [gpa, gpa + bytes) is RAM, be it in several adjoining regions, else OUTSIDE_RAM. */
export function rangeInRam(gpa: u64, bytes: u64): i32 {
	let at = gpa;
	let left = bytes;
	while (true) {
		const region = regionOf(at);
		if (region === 0) return OUTSIDE_RAM;
		const here = regionRemaining(region, at);
		if (here >= left) return OK;
		left -= here;
		at += here;
	}
}
