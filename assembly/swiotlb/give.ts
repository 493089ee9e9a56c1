/** Giving slots back to any pool: one that zeroes them, or counts them for an allocator that grows. */
import { filled } from "../audit/hooks.ts";
import {
	ALLOCATED_BYTES_MASK,
	ALLOCATED_PAD_SHIFT,
	IO_TLB_SHIFT,
	IO_TLB_SIZE,
	MEM_USED,
	POOL_DELTA,
	POOL_FLAGS,
	POOL_MEM,
	POOL_SPECIAL,
	POOL_TRANSIENT,
	POOL_ZERO_ON_FREE,
	RECORD_ALLOCATED,
	RECORD_MAPPED,
} from "../layout/pool.ts";
import { OK } from "../layout/status.ts";
import { context } from "../memory/context.ts";
import { listPad, listSlots } from "../reference/list.ts";
import { recordAt } from "./mapping.ts";
import { giveSlots } from "./slots.ts";
import { transientRetire } from "./transient.ts";

/** As giveSlots, for any pool. */
export function giveAny(pool: usize, head: u32, offset: u32): i32 {
	const flags = load<u32>(pool, POOL_FLAGS);
	return (flags & POOL_SPECIAL) === 0 ? giveSlots(pool, head, offset) : giveSpecially(pool, head, offset, flags);
}

function giveSpecially(pool: usize, head: u32, offset: u32, flags: u32): i32 {
	const n = slotsHeld(pool, head, offset);
	if ((flags & POOL_ZERO_ON_FREE) !== 0) zeroSlots(pool, head, n);
	const given = giveSlots(pool, head, offset);
	if (given === OK && load<u32>(pool, POOL_MEM) !== 0) {
		countGiven(context() + load<u32>(pool, POOL_MEM), n);
		if ((flags & POOL_TRANSIENT) !== 0) transientRetire(pool);
	}
	return given;
}

/** Slots of the mapping at `head`, padding too; 0 when none starts there. */
function slotsHeld(pool: usize, head: u32, offset: u32): u32 {
	if (COCO_REFERENCE) return listSlots(pool, head, offset);
	const record = recordAt(pool, head);
	if (load<u32>(record, RECORD_MAPPED) === 0) return 0;
	return ((load<u32>(record, RECORD_ALLOCATED) & ALLOCATED_BYTES_MASK) + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT;
}

/** Zeroes a mapping's slots, padding too. Not Linux's: it leaves the bytes until somebody writes over them. */
function zeroSlots(pool: usize, head: u32, n: u32): void {
	if (n === 0) return;
	let slot: u32;
	if (COCO_REFERENCE) slot = head - listPad(pool, head);
	else slot = head - (load<u32>(recordAt(pool, head), RECORD_ALLOCATED) >> ALLOCATED_PAD_SHIFT);
	memory.fill(pool + load<u32>(pool, POOL_DELTA) + (slot << IO_TLB_SHIFT), 0, n << IO_TLB_SHIFT);
	if (COCO_AUDIT) filled(pool + load<u32>(pool, POOL_DELTA) + (slot << IO_TLB_SHIFT), n << IO_TLB_SHIFT);
}

/** Counts slots that an allocator that grows got back. */
function countGiven(mem: usize, n: u32): void {
	if (COCO_THREADS) atomic.sub<u32>(mem + MEM_USED, n);
	else store<u32>(mem, load<u32>(mem, MEM_USED) - n, MEM_USED);
}
