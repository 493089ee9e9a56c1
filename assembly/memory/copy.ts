import { SMALL_COPY_BYTES } from "../layout/context.ts";
import { NO_PTR, rangePtr, regionOf, regionPtr, regionRemaining } from "./regions.ts";

/** Copies n bytes; the ranges may overlap. n: 0 .. 2^31 - 1. */
export function copy(to: usize, from: usize, n: u32): void {
	if (n <= SMALL_COPY_BYTES && to - from >= n && from - to >= n) copySmall(to, from, n);
	else memory.copy(to, from, n);
}

/** Copies n <= SMALL_COPY_BYTES bytes between ranges that do not overlap. */
function copySmall(to: usize, from: usize, n: u32): void {
	if (n >= 16) {
		// the tail is one unaligned vector that may write some bytes twice
		const last = v128.load(from + n - 16);
		const toLast = to + n - 16;
		while (to < toLast) {
			v128.store(to, v128.load(from));
			to += 16;
			from += 16;
		}
		v128.store(toLast, last);
	} else if (n >= 8) {
		const last = load<u64>(from + n - 8);
		store<u64>(to, load<u64>(from));
		store<u64>(to + n - 8, last);
	} else if (n >= 4) {
		const last = load<u32>(from + n - 4);
		store<u32>(to, load<u32>(from));
		store<u32>(to + n - 4, last);
	} else if (n > 0) {
		const middle = load<u8>(from + (n >> 1));
		const last = load<u8>(from + n - 1);
		store<u8>(to, load<u8>(from));
		store<u8>(to + (n >> 1), middle);
		store<u8>(to + n - 1, last);
	}
}

/** Copies RAM to `to`. The caller has checked with rangeInRam that [gpa, gpa + n) is RAM. */
export function copyFromRam(to: usize, gpa: u64, n: u32): void {
	const ptr = rangePtr(gpa, n);
	if (ptr !== NO_PTR) copy(to, ptr, n);
	else copyAcrossRegions(to, gpa, n, false);
}

/** Copies `from` to RAM. The caller has checked with rangeInRam that [gpa, gpa + n) is RAM. */
export function copyToRam(gpa: u64, from: usize, n: u32): void {
	const ptr = rangePtr(gpa, n);
	if (ptr !== NO_PTR) copy(ptr, from, n);
	else copyAcrossRegions(from, gpa, n, true);
}

function copyAcrossRegions(ptr: usize, gpa: u64, n: u32, toRam: bool): void {
	while (n > 0) {
		const region = regionOf(gpa);
		const here = u32(min<u64>(regionRemaining(region, gpa), n));
		if (toRam) copy(regionPtr(region, gpa), ptr, here);
		else copy(ptr, regionPtr(region, gpa), here);
		ptr += here;
		gpa += here;
		n -= here;
	}
}
