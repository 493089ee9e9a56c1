/** Byte patterns that make each delivery checkable: a byte depends on the request and on its place in it. */
import { wroteInPlace } from "../audit/hooks.ts";

/** 8 bytes of a request's pattern. word: which 8 bytes of it */
function patternWord(seed: u32, word: u32): u64 {
	let x = (u64(seed) << 32) | word;
	x ^= x >> 31;
	x *= 0x7fb5d329728ea185;
	x ^= x >> 27;
	x *= 0x81dadef4bc2dd44d;
	return x ^ (x >> 33);
}

/** Writes n bytes of pattern `seed` at `to`. */
export function fillPattern(to: usize, n: u32, seed: u32): void {
	let i: u32 = 0;
	for (; i + 8 <= n; i += 8) store<u64>(to + i, patternWord(seed, i >> 3));
	const last = patternWord(seed, i >> 3);
	for (; i < n; i++) store<u8>(to + i, u8(last >> (u64(i & 7) << 3)));
	if (COCO_AUDIT) wroteInPlace(to, n);
}

/** Bytes among the n at `from` that are not pattern `seed`. */
export function countWrong(from: usize, n: u32, seed: u32): u32 {
	let wrong: u32 = 0;
	for (let i: u32 = 0; i < n; i++) {
		wrong += u32(load<u8>(from + i) !== u8(patternWord(seed, i >> 3) >> (u64(i & 7) << 3)));
	}
	return wrong;
}
