/** Digests and random numbers: the same in bench/plain.ts, so that all variants do the same work. */

import { BENCH_DIGEST, BENCH_SEED } from "./layout.ts";

/** Adds an answer to the digest. */
export function digest(bench: usize, value: u32): void {
	store<u32>(bench, (load<u32>(bench, BENCH_DIGEST) ^ value) * 0x01000193, BENCH_DIGEST);
}

/** The next of a fixed sequence of random numbers below `below`. */
export function random(bench: usize, below: u32): u32 {
	let x = load<u32>(bench, BENCH_SEED);
	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	store<u32>(bench, x, BENCH_SEED);
	return x % below;
}

/** Hash of n bytes, a multiple of 8. */
export function hashBytes(ptr: usize, n: u32): u32 {
	let hash: u64 = 0xcbf29ce484222325;
	for (const end = ptr + n; ptr < end; ptr += 8) hash = (hash ^ load<u64>(ptr)) * 0x100000001b3;
	return u32(hash ^ (hash >> 32));
}
