/** Loops over map and unmap, and the copies that they made, replayed bare. */

import { deviceAt, gpaOf, poolOf } from "../dma/device.ts";
import { dmaMap } from "../dma/map.ts";
import { dmaUnmap } from "../dma/unmap.ts";
import { FROM_DEVICE } from "../layout/device.ts";
import { addressOf } from "../memory/address.ts";
import { rangePtr } from "../memory/regions.ts";
import { tlbPtr } from "../swiotlb/record.ts";
import { BENCH_COUNT, BENCH_RING, MOVE_FROM, MOVE_SHIFT, MOVE_TO } from "./layout.ts";
import { digest } from "./state.ts";

/**
 * Original of map number `count`: a walk around a window.
 * @param step bytes between two originals
 * @param window bytes of the walk, 2^k
 */
function original(base: u64, count: u32, step: u32, window: u32): u64 {
	return base + ((count * step) & (window - 1));
}

/**
 * One operation ends the oldest mapping in flight, if there is one, and makes a new one. The device writes 8 bytes.
 * @param moves ptr of the list of copies that the run makes (layout.ts), or 0
 * @returns calls that were refused
 */
export function mapRun(
	device: i32,
	bench: usize,
	base: f64,
	step: u32,
	window: u32,
	bytes: u32,
	dir: i32,
	cpu: u32,
	depth: u32,
	ops: u32,
	moves: usize,
): u32 {
	const first = addressOf(base);
	// device-side ptr of a bounce address
	const pool = poolOf(deviceAt(device));
	const slots = tlbPtr(pool, 0);
	let count = load<u32>(bench, BENCH_COUNT);
	let refused: u32 = 0;
	for (let i: u32 = 0; i < ops; i++) {
		const at = bench + ((count & (depth - 1)) << 3);
		if (count >= depth) {
			const old = load<u64>(at, BENCH_RING);
			refused += u32(dmaUnmap(device, old, bytes, dir, 0) < 0);
			if (moves !== 0 && dir === FROM_DEVICE) {
				moves = record(moves, original(first, count - depth, step, window), gpaOf(deviceAt(device), old));
			}
		}
		const gpa = original(first, count, step, window);
		const dma = dmaMap(device, gpa, bytes, dir, cpu, 0);
		refused += u32(dma < 0);
		store<i64>(at, dma, BENCH_RING);
		if (dir === FROM_DEVICE) store<u64>(slots + usize(dma), count);
		if (moves !== 0) {
			digest(bench, u32(dma));
			// one that had nothing to end copies in twice: the list stays one of pairs
			if (dir === FROM_DEVICE && count < depth) moves = record(moves, dma, gpa);
			moves = record(moves, dma, gpa);
		}
		count++;
	}
	store<u32>(bench, count, BENCH_COUNT);
	return refused;
}

/** Ends all mappings in flight. @returns calls that were refused */
export function mapDrain(device: i32, bench: usize, bytes: u32, dir: i32, depth: u32): u32 {
	let refused: u32 = 0;
	const count = load<u32>(bench, BENCH_COUNT);
	for (let i: u32 = 0; i < depth; i++) {
		const at = bench + (((count + i) & (depth - 1)) << 3);
		refused += u32(dmaUnmap(device, load<u64>(at, BENCH_RING), bytes, dir, 0) < 0);
	}
	store<u32>(bench, 0, BENCH_COUNT);
	return refused;
}

function record(moves: usize, to: u64, from: u64): usize {
	store<u32>(moves, u32(rangePtr(to, 8)), MOVE_TO);
	store<u32>(moves, u32(rangePtr(from, 8)), MOVE_FROM);
	return moves + (1 << MOVE_SHIFT);
}

/**
 * Replays recorded copies with memory.copy and nothing else.
 * @param moves ptr of `count` copies
 * @param at the first copy to make
 * @param stamp every second copy is a map's, after which the device writes 8 bytes (FROM_DEVICE)
 * @returns the next copy to make
 */
export function movesRun(moves: usize, count: u32, at: u32, bytes: u32, stamp: bool, ops: u32): u32 {
	for (let i: u32 = 0; i < ops; i++) {
		const move = moves + (at << MOVE_SHIFT);
		const to = load<u32>(move, MOVE_TO);
		memory.copy(to, load<u32>(move, MOVE_FROM), bytes);
		if (stamp && (at & 1) !== 0) store<u64>(to, at >> 1);
		at++;
		if (at === count) at = 0;
	}
	return at;
}
