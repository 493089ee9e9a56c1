/**
 * Transient pools: one mapping each, made when no common pool has room (Linux 6.12 with CONFIG_SWIOTLB_DYNAMIC,
 * kernel/dma/swiotlb.c, swiotlb_find_slots and swiotlb_del_transient). Their records are recycled.
 * Differs from Linux: one list for all devices instead of one a device; a record names its owner.
 */
import { CTX_RETIRED, CTX_SPARE_TRANSIENT, CTX_TRANSIENT_LOCK, CTX_TRANSIENTS } from "../layout/context.ts";
import { IO_TLB_SEGSIZE, MEM_TRANSIENT, POOL_DELTA, POOL_MEM, POOL_NEXT, POOL_TRANSIENT } from "../layout/pool.ts";
import { CONTEXT_FULL, OK, OUTSIDE_RAM } from "../layout/status.ts";
import { context, takeBlock } from "../memory/context.ts";
import { lock, unlock } from "../memory/lock.ts";
import { NO_PTR, rangePtr } from "../memory/regions.ts";
import { poolLay } from "./lay.ts";
import { poolRoom } from "./ledger.ts";
import { poolEnd, poolFlags, poolMem, poolNext, poolSlots, poolStart } from "./record.ts";

/** Takes the first record off a list of the context header. @returns its offset, or 0 */
function pop(list: usize): u32 {
	const at = load<u32>(context() + list);
	if (at !== 0) store<u32>(context() + list, poolNext(context() + at));
	return at;
}

function push(list: usize, at: u32): void {
	store<u32>(context() + at, load<u32>(context() + list), POOL_NEXT);
	store<u32>(context() + list, at);
}

function lockLists(): void {
	lock(context() + CTX_TRANSIENT_LOCK);
}

function unlockLists(): void {
	unlock(context() + CTX_TRANSIENT_LOCK);
}

/**
 * Makes a pool of exactly `nslabs` slots, 1 .. 128, in RAM that the caller has checked.
 * @param first the allocator's first pool
 * @returns OK or CONTEXT_FULL
 */
export function transientAdd(first: usize, start: u64, ptr: usize, nslabs: u32): i32 {
	const bytes = poolRoom(IO_TLB_SEGSIZE, 1);
	lockLists();
	let at = pop(CTX_SPARE_TRANSIENT);
	if (at === 0) at = takeBlock(bytes);
	if (at !== 0) {
		const pool = context() + at;
		memory.fill(pool, 0, bytes);
		poolLay(pool, start, ptr, nslabs, 1, poolFlags(first) | POOL_TRANSIENT);
		store<u32>(pool, u32(first - context()), POOL_MEM);
		push(CTX_TRANSIENTS, at);
		store<u32>(first, load<u32>(first, MEM_TRANSIENT) + nslabs, MEM_TRANSIENT);
	}
	unlockLists();
	return at === 0 ? CONTEXT_FULL : OK;
}

/** The newest transient pool, or 0. */
export function transientNewest(): usize {
	const at = load<u32>(context(), CTX_TRANSIENTS);
	return at === 0 ? 0 : context() + at;
}

/** Ends a transient pool: its memory waits for retiredTake. */
export function transientRetire(pool: usize): void {
	const at = u32(pool - context());
	lockLists();
	let link = context() + CTX_TRANSIENTS;
	while (load<u32>(link) !== at) link = context() + load<u32>(link) + POOL_NEXT;
	store<u32>(link, poolNext(pool));
	push(CTX_RETIRED, at);
	const mem = poolMem(pool);
	store<u32>(mem, load<u32>(mem, MEM_TRANSIENT) - poolSlots(pool), MEM_TRANSIENT);
	unlockLists();
}

/** Takes a pool that has ended off the list. @returns its first gpa, or -1 when there is none */
export function retiredTake(): f64 {
	lockLists();
	const at = pop(CTX_RETIRED);
	if (at !== 0) push(CTX_SPARE_TRANSIENT, at);
	unlockLists();
	return at === 0 ? -1 : f64(poolStart(context() + at));
}

/** The transient pool, if any, that shares a byte with [gpa, gpa + bytes): 0 for none. */
export function transientAt(gpa: u64, bytes: u64): usize {
	let found: usize = 0;
	lockLists();
	for (let at = load<u32>(context(), CTX_TRANSIENTS); at !== 0; at = poolNext(context() + at)) {
		const pool = context() + at;
		if (gpa < poolEnd(pool) && gpa + bytes > poolStart(pool)) {
			found = pool;
			break;
		}
	}
	unlockLists();
	return found;
}

/** Tells each transient pool where its RAM now lies. @returns OK or OUTSIDE_RAM */
export function transientsMoved(): i32 {
	for (let at = load<u32>(context(), CTX_TRANSIENTS); at !== 0; at = poolNext(context() + at)) {
		const pool = context() + at;
		const start = poolStart(pool);
		const ptr = rangePtr(start, poolEnd(pool) - start);
		if (ptr === NO_PTR) return OUTSIDE_RAM;
		store<u32>(pool, u32(ptr - pool), POOL_DELTA);
	}
	return OK;
}
