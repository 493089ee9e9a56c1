/** Bit work on one segment: 128 slots as two 64-bit words, bit 1 = free. */

import { IO_TLB_SEGSIZE, SEGMENT_FREE, SEGMENT_FREE_HIGH } from "../layout/pool.ts";

/** Bits [from, 128) of a segment's low word. from: 0 .. 128 */
export function maskFromLow(from: u32): u64 {
	return from < 64 ? u64.MAX_VALUE << u64(from) : 0;
}

/** Bits [from, 128) of a segment's high word. */
export function maskFromHigh(from: u32): u64 {
	return from <= 64 ? u64.MAX_VALUE : from < 128 ? u64.MAX_VALUE << u64(from - 64) : 0;
}

/** One bit each `period` slots, from bit 0. period: a power of two, 1 .. 64 (128: only bit 0 of the low word). */
export function everyPeriod(period: u32): u64 {
	let bits: u64 = u64.MAX_VALUE;
	if (period > 1) bits = 0x5555555555555555;
	if (period > 2) bits &= 0x3333333333333333;
	if (period > 4) bits &= 0x0f0f0f0f0f0f0f0f;
	if (period > 8) bits &= 0x00ff00ff00ff00ff;
	if (period > 16) bits &= 0x0000ffff0000ffff;
	if (period > 32) bits &= 0x00000000ffffffff;
	return bits;
}

/** Low word of the slots at which a run of n free slots starts. n: 1 .. 128 */
export function startsLow(low: u64, high: u64, n: u32): u64 {
	let have: u32 = 1;
	while (have < n) {
		const step = min(have, n - have);
		if (step < 64) {
			low &= (low >> u64(step)) | (high << u64(64 - step));
			high &= high >> u64(step);
		} else {
			low &= high;
			high = 0;
		}
		have += step;
	}
	return low;
}

/** High word of the slots at which a run of n free slots starts: only a run of at most 64 can start there. */
export function startsHigh(high: u64, n: u32): u64 {
	if (n > 64) return 0;
	let have: u32 = 1;
	while (have < n) {
		const step = min(have, n - have);
		high &= high >> u64(step);
		have += step;
	}
	return high;
}

/** Whether the run [from, from + n) lies in one word. Most do. */
function inOneWord(from: u32, n: u32): bool {
	return (from & 63) + n <= 64;
}

/** ptr of the word that holds bit `from`. */
function wordAt(segment: usize, from: u32): usize {
	return segment + ((from & 64) >> 3);
}

/** A run that lies in the word of its first bit. n: 1 .. 64 */
function wordRun(from: u32, n: u32): u64 {
	return (u64.MAX_VALUE >> u64(64 - n)) << u64(from & 63);
}

/** The part in the low word of a run that does not lie in one word. */
function runLow(from: u32): u64 {
	return u64.MAX_VALUE << u64(from);
}

/** The part in the high word of a run that does not lie in one word. end: 65 .. 128 */
function runHigh(end: u32): u64 {
	return u64.MAX_VALUE >> u64(128 - end);
}

/** Whether n slots from `from` on are free. from: 0 .. 127; false when they reach beyond the segment */
export function isFree(segment: usize, from: u32, n: u32): bool {
	if (inOneWord(from, n)) {
		const run = wordRun(from, n);
		return (load<u64>(wordAt(segment, from), SEGMENT_FREE) & run) === run;
	}
	if (from + n > IO_TLB_SEGSIZE) return false;
	return (
		((~load<u64>(segment, SEGMENT_FREE) & runLow(from)) |
			(~load<u64>(segment, SEGMENT_FREE_HIGH) & runHigh(from + n))) ===
		0
	);
}

/** Whether n slots from `from` on are used. from + n: at most 128 */
export function isUsed(segment: usize, from: u32, n: u32): bool {
	if (inOneWord(from, n)) return (load<u64>(wordAt(segment, from), SEGMENT_FREE) & wordRun(from, n)) === 0;
	return (
		((load<u64>(segment, SEGMENT_FREE) & runLow(from)) |
			(load<u64>(segment, SEGMENT_FREE_HIGH) & runHigh(from + n))) ===
		0
	);
}

/** Marks n slots from `from` on used. They are free. */
export function markUsed(segment: usize, from: u32, n: u32): void {
	if (inOneWord(from, n)) {
		const at = wordAt(segment, from);
		store<u64>(at, load<u64>(at, SEGMENT_FREE) ^ wordRun(from, n), SEGMENT_FREE);
	} else {
		store<u64>(segment, load<u64>(segment, SEGMENT_FREE) ^ runLow(from), SEGMENT_FREE);
		store<u64>(segment, load<u64>(segment, SEGMENT_FREE_HIGH) ^ runHigh(from + n), SEGMENT_FREE_HIGH);
	}
}

/**
 * Marks n slots from `from` on free. They are used.
 * @param bound ptr of the upper bound of the segment's longest free run, which rises to the run that this makes
 */
export function markFree(segment: usize, from: u32, n: u32, bound: usize): void {
	if (inOneWord(from, n)) {
		const at = wordAt(segment, from);
		store<u64>(at, load<u64>(at, SEGMENT_FREE) ^ wordRun(from, n), SEGMENT_FREE);
	} else {
		store<u64>(segment, load<u64>(segment, SEGMENT_FREE) ^ runLow(from), SEGMENT_FREE);
		store<u64>(segment, load<u64>(segment, SEGMENT_FREE_HIGH) ^ runHigh(from + n), SEGMENT_FREE_HIGH);
	}
	const longest = u32(load<u8>(bound));
	if (longest === IO_TLB_SEGSIZE) return;
	const low = load<u64>(segment, SEGMENT_FREE);
	const high = load<u64>(segment, SEGMENT_FREE_HIGH);
	const merged = freeDownwards(low, high, from) + freeUpwards(low, high, from);
	if (merged > longest) store<u8>(bound, u8(merged));
}

/** Free slots from `from` upwards, `from` itself included. from: 0 .. 127 */
export function freeUpwards(low: u64, high: u64, from: u32): u32 {
	if (from >= 64) return u32(ctz(~(high >> u64(from - 64))));
	const here = u32(ctz(~(low >> u64(from))));
	return here < 64 - from ? here : 64 - from + u32(ctz(~high));
}

/** Free slots directly below `from`. from: 0 .. 128 */
function freeDownwards(low: u64, high: u64, from: u32): u32 {
	if (from === 0) return 0;
	if (from <= 64) return u32(clz(~(low << u64(64 - from))));
	const here = u32(clz(~(high << u64(128 - from))));
	return here < from - 64 ? here : from - 64 + u32(clz(~low));
}

/** Longest run of free slots in a segment that has one of `atLeast` or more. */
export function longestRun(low: u64, high: u64, atLeast: u32, atMost: u32): u32 {
	while (atLeast < atMost) {
		const middle = (atLeast + atMost + 1) >> 1;
		if ((startsLow(low, high, middle) | startsHigh(high, middle)) !== 0) atLeast = middle;
		else atMost = middle - 1;
	}
	return atLeast;
}
