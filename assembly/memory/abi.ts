/** RAM as the ABI gives it: addresses are f64, and become u64 here. */
import { BAD_ARGUMENT, BAD_SIZE, OK, OUTSIDE_RAM } from "../layout/status.ts";
import { ramFill, ramRead, ramWrite } from "./access.ts";
import { addressOf } from "./address.ts";
import { contextAttach } from "./context.ts";
import { pageState, rangeState } from "./pages.ts";
import { quiesceAttach } from "./quiesce.ts";
import { NO_PTR, rangePtr, regionAdd, regionsChanged } from "./regions.ts";

/** As contextAttach; the instance forgets what it knew of an earlier context. */
export function attach(ptr: usize): i32 {
	regionsChanged();
	const status = contextAttach(ptr);
	if (status === OK) quiesceAttach();
	return status;
}

/** As attach, for a module that holds the rings alone: its calls do not rely on page states. */
export function ringsAttach(ptr: usize): i32 {
	regionsChanged();
	return contextAttach(ptr);
}

/** regionAdd (regions.ts). */
export function ramAddRegion(gpa: f64, bytes: f64, ptr: usize): i32 {
	if (!(bytes > 0 && bytes < 4294967296)) return BAD_ARGUMENT;
	return regionAdd(addressOf(gpa), u64(bytes), ptr);
}

/** rangeState (pages.ts). */
export function ramRangeState(gpa: f64, bytes: i32): i32 {
	return bytes <= 0 ? BAD_SIZE : rangeState(addressOf(gpa), bytes);
}

/** State of one page, PAGE_*, or OUTSIDE_RAM. */
export function ramPageState(gpa: f64): i32 {
	return pageState(addressOf(gpa));
}

/** ramRead (access.ts). */
export function ramReadTo(gpa: f64, bytes: i32, to: usize): i32 {
	return ramRead(addressOf(gpa), bytes, to);
}

/** ramWrite (access.ts). */
export function ramWriteFrom(gpa: f64, bytes: i32, from: usize): i32 {
	return ramWrite(addressOf(gpa), bytes, from);
}

/** ramFill (access.ts). */
export function ramFillWith(gpa: f64, bytes: i32, value: i32): i32 {
	return ramFill(addressOf(gpa), bytes, value);
}

/** ptr of a range in one region, or OUTSIDE_RAM or BAD_SIZE: for views, which a memory.grow ends. */
export function ramPtr(gpa: f64, bytes: f64): f64 {
	if (!(bytes >= 1 && bytes <= 4294967296 && floor(bytes) === bytes)) return BAD_SIZE;
	const ptr = rangePtr(addressOf(gpa), u64(bytes));
	return ptr === NO_PTR ? OUTSIDE_RAM : f64(ptr);
}
