/** Checked access of the guest's CPU to RAM: a range is in RAM and usable, or nothing happens. */
import { BAD_SIZE, OK } from "../layout/status.ts";
import { copyFromRam, copyToRam } from "./copy.ts";
import { rangeUsable } from "./pages.ts";
import { regionOf, regionPtr, regionRemaining } from "./regions.ts";

/** Copies [gpa, gpa + bytes) to linear memory at `to`. @returns OK, BAD_SIZE, OUTSIDE_RAM or BLOCKED_PAGES */
export function ramRead(gpa: u64, bytes: i32, to: usize): i32 {
	if (bytes <= 0) return BAD_SIZE;
	const usable = rangeUsable(gpa, bytes);
	if (usable === OK) copyFromRam(to, gpa, bytes);
	return usable;
}

/** Copies `bytes` bytes at `from` to RAM. @returns as ramRead */
export function ramWrite(gpa: u64, bytes: i32, from: usize): i32 {
	if (bytes <= 0) return BAD_SIZE;
	const usable = rangeUsable(gpa, bytes);
	if (usable === OK) copyToRam(gpa, from, bytes);
	return usable;
}

/** Fills [gpa, gpa + bytes) with one value. @returns as ramRead */
export function ramFill(gpa: u64, bytes: i32, value: i32): i32 {
	if (bytes <= 0) return BAD_SIZE;
	const usable = rangeUsable(gpa, bytes);
	if (usable !== OK) return usable;
	let left = u64(bytes);
	while (left > 0) {
		const region = regionOf(gpa);
		const here = min<u64>(regionRemaining(region, gpa), left);
		memory.fill(regionPtr(region, gpa), u8(value), usize(here));
		gpa += here;
		left -= here;
	}
	return OK;
}
