/** Giving slots back to any pool: one that zeroes them, or counts them for an allocator that grows. */
import { filled } from "../audit/hooks.ts";
import { IO_TLB_SHIFT, MEM_USED, POOL_SPECIAL, POOL_TRANSIENT, POOL_ZERO_ON_FREE } from "../layout/pool.ts";
import { OK } from "../layout/status.ts";
import { padOf, slotsHeld } from "./ledger.ts";
import { poolFlags, poolMem, slotPtr } from "./record.ts";
import { giveSlots } from "./slots.ts";
import { transientRetire } from "./transient.ts";

/** As giveSlots, for any pool. */
export function giveAny(pool: usize, head: u32, offset: u32): i32 {
	const flags = poolFlags(pool);
	return (flags & POOL_SPECIAL) === 0 ? giveSlots(pool, head, offset) : giveSpecially(pool, head, offset, flags);
}

function giveSpecially(pool: usize, head: u32, offset: u32, flags: u32): i32 {
	const n = slotsHeld(pool, head, offset);
	if ((flags & POOL_ZERO_ON_FREE) !== 0) zeroSlots(pool, head, n);
	const given = giveSlots(pool, head, offset);
	if (given === OK && poolMem(pool) !== 0) {
		countGiven(poolMem(pool), n);
		if ((flags & POOL_TRANSIENT) !== 0) transientRetire(pool);
	}
	return given;
}

/** Zeroes a mapping's slots, padding too. Not Linux's: it leaves the bytes until somebody writes over them. */
function zeroSlots(pool: usize, head: u32, n: u32): void {
	if (n === 0) return;
	const ptr = slotPtr(pool, head - padOf(pool, head));
	memory.fill(ptr, 0, n << IO_TLB_SHIFT);
	if (COCO_AUDIT) filled(ptr, n << IO_TLB_SHIFT);
}

/** Counts slots that an allocator that grows got back. */
function countGiven(mem: usize, n: u32): void {
	if (COCO_THREADS) atomic.sub<u32>(mem + MEM_USED, n);
	else store<u32>(mem, load<u32>(mem, MEM_USED) - n, MEM_USED);
}
