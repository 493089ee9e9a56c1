/** Checked access of the guest's CPU to RAM: a range is in RAM and usable, or nothing happens. */
import { filled } from "../audit/hooks.ts";
import { BAD_SIZE, OK } from "../layout/status.ts";
import { copyFromRam, copyToRam, zero } from "./copy.ts";
import { rangeUsable } from "./pages.ts";
import { enter, leave } from "./quiesce.ts";
import { regionOf, regionPtr, regionRemaining } from "./regions.ts";

/** Copies [gpa, gpa + bytes) to linear memory at `to`. @returns OK, BAD_SIZE, OUTSIDE_RAM or BLOCKED_PAGES */
export function ramRead(gpa: u64, bytes: i32, to: usize): i32 {
	if (bytes <= 0) return BAD_SIZE;
	enter();
	const usable = rangeUsable(gpa, bytes);
	if (usable === OK) copyFromRam(to, gpa, bytes);
	leave();
	return usable;
}

/** Copies `bytes` bytes at `from` to RAM. @returns as ramRead */
export function ramWrite(gpa: u64, bytes: i32, from: usize): i32 {
	if (bytes <= 0) return BAD_SIZE;
	enter();
	const usable = rangeUsable(gpa, bytes);
	if (usable === OK) copyToRam(gpa, from, bytes);
	leave();
	return usable;
}

/** Fills [gpa, gpa + bytes) with one value. @returns as ramRead */
export function ramFill(gpa: u64, bytes: i32, value: i32): i32 {
	if (bytes <= 0) return BAD_SIZE;
	enter();
	const usable = rangeUsable(gpa, bytes);
	if (usable === OK) fill(gpa, bytes, u8(value));
	leave();
	return usable;
}

function fill(gpa: u64, left: u64, value: u8): void {
	while (left > 0) {
		const region = regionOf(gpa);
		const here = min<u64>(regionRemaining(region, gpa), left);
		if (value === 0) zero(regionPtr(region, gpa), usize(here));
		else memory.fill(regionPtr(region, gpa), value, usize(here));
		if (COCO_AUDIT) filled(regionPtr(region, gpa), u32(here));
		gpa += here;
		left -= here;
	}
}
