/** Bit work on one segment: 128 slots as two 64-bit words, bit 1 = free. */

/** Bits [from, 128) of a segment's low word. from: 0 .. 128 */
export function maskFromLow(from: u32): u64 {
	return from < 64 ? u64.MAX_VALUE << u64(from) : 0;
}

/** Bits [from, 128) of a segment's high word. */
export function maskFromHigh(from: u32): u64 {
	return from <= 64 ? u64.MAX_VALUE : from < 128 ? u64.MAX_VALUE << u64(from - 64) : 0;
}

/** Bits [from, from + n) of the low word. */
export function runLow(from: u32, n: u32): u64 {
	return maskFromLow(from) & ~maskFromLow(from + n);
}

/** Bits [from, from + n) of the high word. */
export function runHigh(from: u32, n: u32): u64 {
	return maskFromHigh(from) & ~maskFromHigh(from + n);
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

/** Whether a run of n free slots starts at `from`. from + n <= 128 */
export function runIsFree(low: u64, high: u64, from: u32, n: u32): bool {
	const wantLow = runLow(from, n);
	const wantHigh = runHigh(from, n);
	return (((low & wantLow) ^ wantLow) | ((high & wantHigh) ^ wantHigh)) === 0;
}

/** Free slots from `from` upwards, `from` itself included. from: 0 .. 127 */
export function freeUpwards(low: u64, high: u64, from: u32): u32 {
	if (from >= 64) return u32(ctz(~(high >> u64(from - 64))));
	const here = u32(ctz(~(low >> u64(from))));
	return here < 64 - from ? here : 64 - from + u32(ctz(~high));
}

/** Free slots directly below `from`. from: 0 .. 128 */
export function freeDownwards(low: u64, high: u64, from: u32): u32 {
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
