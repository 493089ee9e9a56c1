/**
 * The kernel's list algorithm, written from its rule for comparison: build `reference` only, never in a release binary.
 * Linux 6.12 kernel/dma/swiotlb.c. A slot's `list` is 0 when used, else the number of free slots from it to the end of
 * its run or of its 128-slot segment.
 */
import {
	ALLOCATED_BYTES_MASK,
	ALLOCATED_PAD_SHIFT,
	AREA_FIRST,
	AREA_NSLABS,
	IO_TLB_SEGSIZE,
	IO_TLB_SHIFT,
	IO_TLB_SIZE,
	LIST_ALLOC_SIZE,
	LIST_COUNT,
	LIST_ORIG,
	LIST_PAD,
	LIST_SHIFT,
	MAPPED_OFFSET_SHIFT,
	POOL_LIST,
	POOL_NSLABS,
	POOL_START,
	WANT_ALIGN_MASK,
	WANT_BOUNDARY,
	WANT_ORIG,
	WANT_ORIG_MASK,
	WANT_SLOTS,
	WANT_START,
} from "../layout/pool.ts";

/** orig_addr of a slot that belongs to no mapping, or is padding. */
const INVALID: u64 = u64.MAX_VALUE;

function slotAt(pool: usize, slot: u32): usize {
	return pool + load<u32>(pool, POOL_LIST) + (slot << LIST_SHIFT);
}

function count(pool: usize, slot: u32): u32 {
	return load<u16>(slotAt(pool, slot), LIST_COUNT);
}

/** Every slot free. */
export function listInit(pool: usize): void {
	const n = load<u32>(pool, POOL_NSLABS);
	for (let slot: u32 = 0; slot < n; slot++) {
		store<u16>(slotAt(pool, slot), u16(min(IO_TLB_SEGSIZE - (slot & (IO_TLB_SEGSIZE - 1)), n - slot)), LIST_COUNT);
		store<u64>(slotAt(pool, slot), INVALID, LIST_ORIG);
	}
}

/** Every slot used, by nobody. */
export function listUseUp(pool: usize): void {
	const n = load<u32>(pool, POOL_NSLABS);
	for (let slot: u32 = 0; slot < n; slot++) store<u16>(slotAt(pool, slot), 0, LIST_COUNT);
}

/**
 * The walk over candidates, one by one: the slot, within the area, for the request in the area's record, or -1.
 * Linux 6.12 kernel/dma/swiotlb.c, swiotlb_search_pool_area.
 */
export function listSearch(pool: usize, area: usize): i32 {
	const n = load<u32>(area, WANT_SLOTS);
	const alignMask = load<u32>(area, WANT_ALIGN_MASK);
	const origMask = load<u32>(area, WANT_ORIG_MASK);
	const orig = load<u64>(area, WANT_ORIG);
	const boundary = load<u64>(area, WANT_BOUNDARY);
	const first = load<u32>(area, AREA_FIRST);
	const slots = load<u32>(area, AREA_NSLABS);
	const table = load<u64>(pool, POOL_START) & boundary;
	const tableSlots = (table + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT;
	const slotsMask = boundary >> IO_TLB_SHIFT;
	const stride = (max(alignMask, origMask) >> IO_TLB_SHIFT) + 1;
	let at = load<u32>(area, WANT_START);
	let looked: u32 = 0;
	while (looked < slots) {
		const address = table + (u64(first + at) << IO_TLB_SHIFT);
		let step = stride;
		if ((address & alignMask) !== 0 || (orig !== 0 && (address & origMask) !== (orig & origMask))) step = 1;
		else if (((tableSlots + first + at) & slotsMask) + n <= slotsMask + 1 && count(pool, first + at) >= n) return at;
		at += step;
		if (at >= slots) at = 0;
		looked += step;
	}
	return -1;
}

/**
 * Marks a mapping's slots used, and shortens the runs to their left inside the segment.
 * @param mapped, allocated the words that a record on bitmaps holds (layout/pool.ts, RECORD_MAPPED and RECORD_ALLOCATED)
 * @returns the slot of the mapping's bounce address
 */
export function listClaim(pool: usize, slot: u32, orig: u64, mapped: u32, allocated: u32): u32 {
	const allocBytes = allocated & ALLOCATED_BYTES_MASK;
	const pad = allocated >> ALLOCATED_PAD_SHIFT;
	const offset = (mapped >> MAPPED_OFFSET_SHIFT) & (IO_TLB_SIZE - 1);
	const n = (allocBytes + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT;
	for (let i: u32 = 0; i < n; i++) {
		store<u16>(slotAt(pool, slot + i), 0, LIST_COUNT);
		store<u32>(slotAt(pool, slot + i), allocBytes - offset - (i << IO_TLB_SHIFT), LIST_ALLOC_SIZE);
	}
	let run: u16 = 0;
	for (let left = slot; (left & (IO_TLB_SEGSIZE - 1)) !== 0 && count(pool, left - 1) !== 0; left--) {
		store<u16>(slotAt(pool, left - 1), ++run, LIST_COUNT);
	}
	store<u16>(slotAt(pool, slot + pad), u16(pad), LIST_PAD);
	for (let i: u32 = pad; i < n; i++) {
		store<u64>(slotAt(pool, slot + i), orig + (u64(i - pad) << IO_TLB_SHIFT), LIST_ORIG);
	}
	return slot + pad;
}

/** Slots of padding in front of a mapping. */
export function listPad(pool: usize, head: u32): u32 {
	return load<u16>(slotAt(pool, head), LIST_PAD);
}

/** Slots of the mapping at `head`, padding too; 0 when none starts there. */
export function listSlots(pool: usize, head: u32, offset: u32): u32 {
	if (!listMapped(pool, head)) return 0;
	const slot = head - listPad(pool, head);
	return (load<u32>(slotAt(pool, slot), LIST_ALLOC_SIZE) + offset + IO_TLB_SIZE - 1) >> IO_TLB_SHIFT;
}

/** Marks a mapping's slots free and lengthens the runs to their left. @returns how many, 0 when none starts at `head` */
export function listRelease(pool: usize, head: u32, offset: u32): u32 {
	const n = listSlots(pool, head, offset);
	if (n === 0) return 0;
	const slot = head - listPad(pool, head);
	const end = slot + n;
	const inside = (end & (IO_TLB_SEGSIZE - 1)) !== 0 && end < load<u32>(pool, POOL_NSLABS);
	let run = inside ? count(pool, end) : 0;
	for (let i = end; i > slot; i--) {
		const at = slotAt(pool, i - 1);
		store<u16>(at, u16(++run), LIST_COUNT);
		store<u64>(at, INVALID, LIST_ORIG);
		store<u32>(at, 0, LIST_ALLOC_SIZE);
		store<u16>(at, 0, LIST_PAD);
	}
	for (let left = slot; (left & (IO_TLB_SEGSIZE - 1)) !== 0 && count(pool, left - 1) !== 0; left--) {
		store<u16>(slotAt(pool, left - 1), u16(++run), LIST_COUNT);
	}
	return n;
}

/** Whether a slot holds bytes of a mapping. */
export function listMapped(pool: usize, slot: u32): bool {
	return load<u64>(slotAt(pool, slot), LIST_ORIG) !== INVALID;
}

/** As originOf (swiotlb/ledger.ts). */
export function listOrigin(pool: usize, slot: u32, tlb: u64, minAlignMask: u32): u64 {
	const orig = load<u64>(slotAt(pool, slot), LIST_ORIG);
	return orig + (tlb & (IO_TLB_SIZE - 1)) - (orig & minAlignMask & (IO_TLB_SIZE - 1));
}

/** As remainingOf (swiotlb/ledger.ts). */
export function listRemaining(pool: usize, slot: u32, tlb: u64, minAlignMask: u32): u32 {
	const at = slotAt(pool, slot);
	return (
		load<u32>(at, LIST_ALLOC_SIZE) -
		((u32(tlb) & (IO_TLB_SIZE - 1)) - (u32(load<u64>(at, LIST_ORIG)) & minAlignMask & (IO_TLB_SIZE - 1)))
	);
}

/** A slot's `list`. */
export function listCount(pool: usize, slot: u32): u32 {
	return count(pool, slot);
}

/** The longer of `best` and the longest free run among n slots from `slot` on. */
export function listLongest(pool: usize, slot: u32, n: u32, best: u32): u32 {
	for (let i = slot; i < slot + n; i++) best = max(best, count(pool, i));
	return best;
}
