/** Loops over the slot allocator alone: no buffer is copied. */

import { deviceAt, poolOf } from "../dma/device.ts";
import { PAGE_SHIFT } from "../layout/context.ts";
import { IO_TLB_SEGSIZE, IO_TLB_SHIFT, IO_TLB_SIZE, POOL_NSLABS, POOL_SUMMARY } from "../layout/pool.ts";
import { giveSlots, takeSlots } from "../swiotlb/slots.ts";
import { bareGive, bareTake } from "./bare.ts";
import { BENCH_COUNT, BENCH_RING } from "./layout.ts";
import { digest, random } from "./state.ts";

/** Original of operation number `count`: page-aligned, never 0. */
function original(count: u32): u64 {
	return u64(((count & 1023) + 1) << PAGE_SHIFT);
}

/** @returns the slot or a status */
function take(pool: usize, device: usize, count: u32, bytes: u32): i32 {
	if (COCO_BARE) return bareTake(pool, device, original(count), bytes, 0, 0);
	return takeSlots(pool, device, original(count), bytes, 0, 0, 0);
}

function give(pool: usize, slot: u32, bytes: u32): void {
	if (COCO_BARE) bareGive(pool, slot, (bytes + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT);
	else giveSlots(pool, slot, 0);
}

/**
 * Fills the pool with mappings of 1 .. maxSlots slots, then gives random ones back until at most `keep` slots are used.
 * @param list ptr of 8 bytes a slot of the pool
 * @returns slots used
 */
export function slotsFragment(index: i32, bench: usize, maxSlots: u32, keep: u32, list: usize): u32 {
	const device = deviceAt(index);
	const pool = poolOf(device);
	let live: u32 = 0;
	let used: u32 = 0;
	for (let refused = 0; refused < 64; ) {
		const n = 1 + random(bench, maxSlots);
		const slot = take(pool, device, live, n << IO_TLB_SHIFT);
		if (slot < 0) {
			refused++;
			continue;
		}
		store<u32>(list + (live << 3), slot);
		store<u32>(list + (live << 3), n, 4);
		live++;
		used += n;
	}
	while (used > keep) {
		const entry = list + (random(bench, live) << 3);
		const n = load<u32>(entry, 4);
		give(pool, load<u32>(entry), n << IO_TLB_SHIFT);
		store<u64>(entry, load<u64>(list + (--live << 3)));
		used -= n;
	}
	return used;
}

/** Leaves only runs of 2 free slots at odd slots: no request for an even slot fits, and every summary says it might. */
export function slotsOddPairs(index: i32): void {
	const device = deviceAt(index);
	const pool = poolOf(device);
	const nslabs = load<u32>(pool, POOL_NSLABS);
	for (let slot: u32 = 0; slot < nslabs; slot++) take(pool, device, slot, IO_TLB_SIZE);
	for (let slot: u32 = 1; slot < nslabs; slot += 4) {
		give(pool, slot, IO_TLB_SIZE);
		give(pool, slot + 1, IO_TLB_SIZE);
	}
}

/** Takes `depth` times, to have that many in flight. */
export function slotsPrime(index: i32, bench: usize, bytes: u32, depth: u32): void {
	const device = deviceAt(index);
	const pool = poolOf(device);
	for (let i: u32 = 0; i < depth; i++) {
		const slot = take(pool, device, i, bytes);
		store<u64>(bench + (i << 3), u64(i64(slot)), BENCH_RING);
		digest(bench, slot);
	}
	store<u32>(bench, depth, BENCH_COUNT);
}

/** One operation gives the oldest (or a random) one in flight back and takes anew. */
export function slotsRun(index: i32, bench: usize, bytes: u32, depth: u32, randomly: bool, ops: u32): void {
	const device = deviceAt(index);
	const pool = poolOf(device);
	let count = load<u32>(bench, BENCH_COUNT);
	for (let i: u32 = 0; i < ops; i++) {
		const at = bench + ((randomly ? random(bench, depth) : count & (depth - 1)) << 3);
		const live = load<i64>(at, BENCH_RING);
		if (live >= 0) give(pool, u32(live), bytes);
		const slot = take(pool, device, count, bytes);
		store<i64>(at, i64(slot), BENCH_RING);
		digest(bench, slot);
		count++;
	}
	store<u32>(bench, count, BENCH_COUNT);
}

/** One operation is a request that fails. cold: all summaries are reset before it. @returns requests that did not fail */
export function slotsFail(index: i32, bytes: u32, cold: bool, ops: u32): u32 {
	const device = deviceAt(index);
	const pool = poolOf(device);
	const segments = load<u32>(pool, POOL_NSLABS) >> 7;
	let taken: u32 = 0;
	for (let i: u32 = 0; i < ops; i++) {
		if (cold) memory.fill(pool + load<u32>(pool, POOL_SUMMARY), u8(IO_TLB_SEGSIZE), segments);
		taken += u32(take(pool, device, i, bytes) >= 0);
	}
	return taken;
}
