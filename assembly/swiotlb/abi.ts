/** Pools as the ABI gives them: addresses are f64, and become u64 here. */
import { BAD_ARGUMENT, BAD_POOL, BAD_SIZE } from "../layout/status.ts";
import { addressOf } from "../memory/address.ts";
import { slotCount } from "./ledger.ts";
import { poolGrow, poolTransient } from "./mem.ts";
import { poolAdd, poolAt, poolLongestFreeRun, rangeConvert } from "./pool.ts";
import { poolSlots } from "./record.ts";

/** rangeConvert (pool.ts). state: with CONVERTS_POOL_PAGES where they may be a pool's */
export function ramConvert(gpa: f64, bytes: i32, state: i32): i32 {
	return bytes <= 0 ? BAD_SIZE : rangeConvert(addressOf(gpa), bytes, state);
}

/** poolAdd (pool.ts). */
export function poolCreate(start: f64, nslabs: u32, nareas: u32, state: i32, flags: u32): i32 {
	return poolAdd(addressOf(start), nslabs, nareas, state, flags);
}

/** poolGrow (mem.ts). */
export function poolCreateNext(first: i32, start: f64, nslabs: u32, nareas: u32, state: i32): i32 {
	return poolGrow(first, addressOf(start), nslabs, nareas, state);
}

/** poolTransient (mem.ts). */
export function poolCreateTransient(first: i32, start: f64, nslabs: u32): i32 {
	return poolTransient(first, addressOf(start), nslabs);
}

/** slotCount (ledger.ts), or BAD_POOL or BAD_ARGUMENT. */
export function poolSlotList(index: i32, slot: u32): i32 {
	const pool = poolAt(index);
	if (pool === 0) return BAD_POOL;
	return slot < poolSlots(pool) ? slotCount(pool, slot) : BAD_ARGUMENT;
}

/** Longest run of free slots, 0 .. 128, or BAD_POOL. */
export function poolFreeRun(index: i32): i32 {
	const pool = poolAt(index);
	return pool === 0 ? BAD_POOL : poolLongestFreeRun(pool);
}
