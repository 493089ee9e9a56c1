import { moved } from "../audit/hooks.ts";
import { SMALL_COPY_BYTES } from "../layout/context.ts";
import { regionOf, regionPtr, regionRemaining } from "./regions.ts";

/** Copies n bytes; the ranges may overlap. n: 0 .. 2^31 - 1. */
export function copy(to: usize, from: usize, n: u32): void {
	if (n > SMALL_COPY_BYTES) memory.copy(to, from, n);
	else copySmall(to, from, n);
	if (COCO_AUDIT) moved(to, from, n);
}

/** What is looked at before it is zeroed: a page of the machine's. */
const ZERO_STEP: usize = 4096;

/** Zeroes bytes of linear memory; pages that are zero are only read, so that RAM which nobody touched stays without memory. */
export function zero(ptr: usize, bytes: usize): void {
	while (bytes >= ZERO_STEP) {
		let any: u64 = 0;
		for (let at: usize = 0; at < ZERO_STEP; at += 8) any |= load<u64>(ptr + at);
		if (any !== 0) memory.fill(ptr, 0, ZERO_STEP);
		ptr += ZERO_STEP;
		bytes -= ZERO_STEP;
	}
	memory.fill(ptr, 0, bytes);
}

/** Copies n <= SMALL_COPY_BYTES bytes. All loads come before the first store, and the last ones may overlap the first. */
function copySmall(to: usize, from: usize, n: u32): void {
	if (n >= 16) {
		const first = v128.load(from);
		const last = v128.load(from + n - 16);
		if (n > 32) {
			const second = v128.load(from, 16);
			const secondLast = v128.load(from + n - 32);
			v128.store(to, second, 16);
			v128.store(to + n - 32, secondLast);
		}
		v128.store(to, first);
		v128.store(to + n - 16, last);
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

/** Copies RAM to `to`. The caller has checked that [gpa, gpa + n) is RAM. */
export function copyFromRam(to: usize, gpa: u64, n: u32): void {
	const region = regionOf(gpa);
	if (regionRemaining(region, gpa) >= n) {
		if (n > SMALL_COPY_BYTES) memory.copy(to, regionPtr(region, gpa), n);
		else copySmall(to, regionPtr(region, gpa), n);
		if (COCO_AUDIT) moved(to, regionPtr(region, gpa), n);
	} else copyAcrossRegions(to, gpa, n, false);
}

/** Copies `from` to RAM. The caller has checked that [gpa, gpa + n) is RAM. */
export function copyToRam(gpa: u64, from: usize, n: u32): void {
	const region = regionOf(gpa);
	if (regionRemaining(region, gpa) >= n) {
		if (n > SMALL_COPY_BYTES) memory.copy(regionPtr(region, gpa), from, n);
		else copySmall(regionPtr(region, gpa), from, n);
		if (COCO_AUDIT) moved(regionPtr(region, gpa), from, n);
	} else copyAcrossRegions(from, gpa, n, true);
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
