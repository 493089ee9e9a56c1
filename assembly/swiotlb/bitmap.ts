/** Who holds which slots, on bitmaps: a free bit a slot, and a record at a mapping's head slot that remembers the mapping. */

import { slotsGiven } from "../audit/hooks.ts";
import { DEVICE_NUMBER } from "../layout/device.ts";
import {
	ALLOCATED_BYTES_MASK,
	ALLOCATED_PAD_SHIFT,
	IO_TLB_MAX_MAPPING,
	IO_TLB_SEGSIZE,
	IO_TLB_SHIFT,
	IO_TLB_SIZE,
	MAPPED_DIR_SHIFT,
	MAPPED_OFFSET_SHIFT,
	OWNER_SHIFT,
	RECORD_ALLOCATED,
	RECORD_MAPPED,
	RECORD_ORIG,
	RECORD_SHIFT,
	SEGMENT_FREE,
	SEGMENT_FREE_HIGH,
	SEGMENT_SHIFT,
} from "../layout/pool.ts";
import { MISMATCH, NOT_MAPPED } from "../layout/status.ts";
import { bitOf, poolSlots, poolStart, recordAt, segmentOf, segmentsOf, slotOf, slotPtr, summaryOf } from "./record.ts";
import { freeUpwards, isFree, isUsed, longestRun, markFree, markUsed, startsHigh, startsLow } from "./segment.ts";

/** The debug build: elsewhere an assertion would still be evaluated. */
const DEBUG: bool = !ASC_NO_ASSERT;

/** Marks every slot of a new pool free; those behind its last one in the last segment used. segments: of the pool, rounded up */
export function bitmapInit(pool: usize, segments: u32): void {
	memory.fill(segmentsOf(pool), 0xff, segments << SEGMENT_SHIFT);
	memory.fill(summaryOf(pool), u8(IO_TLB_SEGSIZE), segments);
	const rest = bitOf(poolSlots(pool));
	if (rest !== 0) markUsed(segmentOf(pool, poolSlots(pool)), rest, IO_TLB_SEGSIZE - rest);
}

/** Every slot used, by nobody. */
export function bitmapUseUp(pool: usize): void {
	memory.fill(segmentsOf(pool), 0, (poolSlots(pool) >> 7) << SEGMENT_SHIFT);
	memory.fill(summaryOf(pool), 0, poolSlots(pool) >> 7);
}

/** What RECORD_MAPPED holds. offset: of the tlb address in its slot */
export function mappedWord(bytes: u32, offset: u32, dir: i32): u32 {
	return bytes | (offset << MAPPED_OFFSET_SHIFT) | (u32(dir) << MAPPED_DIR_SHIFT);
}

/** What RECORD_ALLOCATED holds. pad: slots in front of the head */
export function allocatedWord(bytes: u32, pad: u32): u32 {
	return bytes | (pad << ALLOCATED_PAD_SHIFT);
}

/** Slots that are freed with a mapping, padding too. allocated: RECORD_ALLOCATED */
function slotsIn(allocated: u32): u32 {
	return ((allocated & ALLOCATED_BYTES_MASK) + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT;
}

/** Offset of a mapping's tlb address in its slot (bytes). */
function offsetOf(record: usize): u32 {
	return (load<u32>(record, RECORD_MAPPED) >> MAPPED_OFFSET_SHIFT) & (IO_TLB_SIZE - 1);
}

/**
 * Marks a mapping's slots used and remembers it. The summary keeps its upper bound: only a search that fails lowers it.
 * @param slot the first one, padding too
 * @param mapped what an unmap has to repeat (mappedWord)
 * @param allocated what is freed (allocatedWord)
 * @returns the slot of the mapping's bounce address
 */
export function bitmapClaim(pool: usize, device: usize, slot: u32, orig: u64, mapped: u32, allocated: u32): u32 {
	const head = slot + (allocated >> ALLOCATED_PAD_SHIFT);
	const n = slotsIn(allocated);
	if (DEBUG) assert(head - slot < n && isFree(segmentOf(pool, slot), bitOf(slot), n)); // no slot has two owners
	markUsed(segmentOf(pool, slot), bitOf(slot), n);
	const record = recordAt(pool, head);
	store<u64>(record, orig | (u64(load<u32>(device, DEVICE_NUMBER)) << OWNER_SHIFT), RECORD_ORIG);
	// RECORD_MAPPED and, next to it, RECORD_ALLOCATED
	store<u64>(record, u64(mapped) | (u64(allocated) << 32), RECORD_MAPPED);
	return head;
}

/** Marks the slots of the mapping at `head` free. @returns how many, 0 when none starts there */
export function bitmapRelease(pool: usize, head: u32): u32 {
	const record = recordAt(pool, head);
	if (load<u32>(record, RECORD_MAPPED) === 0) return 0;
	store<u32>(record, 0, RECORD_MAPPED);
	const allocated = load<u32>(record, RECORD_ALLOCATED);
	const n = slotsIn(allocated);
	const slot = head - (allocated >> ALLOCATED_PAD_SHIFT);
	if (DEBUG) assert(head - slot < n && isUsed(segmentOf(pool, slot), bitOf(slot), n)); // no slot was free already
	markFree(segmentOf(pool, slot), bitOf(slot), n, summaryOf(pool) + (slot >> 7));
	if (COCO_AUDIT) slotsGiven(slotPtr(pool, slot), n);
	return n;
}

/** Slots of the mapping at `head`, padding too; 0 when none starts there. */
export function bitmapHeld(pool: usize, head: u32): u32 {
	const record = recordAt(pool, head);
	return load<u32>(record, RECORD_MAPPED) === 0 ? 0 : slotsIn(load<u32>(record, RECORD_ALLOCATED));
}

/** Slots of padding in front of the mapping at `head`. */
export function bitmapPad(pool: usize, head: u32): u32 {
	return load<u32>(recordAt(pool, head), RECORD_ALLOCATED) >> ALLOCATED_PAD_SHIFT;
}

/**
 * The mapping that holds `tlb`, an address inside the pool.
 * @returns its head slot, or NOT_MAPPED: a free slot, padding, or bytes before the mapping
 */
export function bitmapMapping(pool: usize, tlb: u64): i32 {
	const slot = slotOf(pool, tlb);
	// mappings do not cross segments: the head is the nearest one at or below the slot
	let head = slot;
	let record = recordAt(pool, slot);
	while (load<u32>(record, RECORD_MAPPED) === 0) {
		if (bitOf(head) === 0) return NOT_MAPPED;
		head--;
		record -= 1 << RECORD_SHIFT;
	}
	const into = u32(tlb) & (IO_TLB_SIZE - 1);
	if (slot === head && into < offsetOf(record)) return NOT_MAPPED;
	const allocated = load<u32>(record, RECORD_ALLOCATED);
	return positionOf(allocated, head, slot, into) < (allocated & ALLOCATED_BYTES_MASK) ? i32(head) : NOT_MAPPED;
}

/** Bytes from the first allocated slot, pre-padding included, to an address. */
function positionOf(allocated: u32, head: u32, slot: u32, into: u32): u32 {
	return ((slot - head + (allocated >> ALLOCATED_PAD_SHIFT)) << IO_TLB_SHIFT) + into;
}

/** Original address of the byte at `tlb`. Linux 6.12 kernel/dma/swiotlb.c, swiotlb_bounce. head: of its mapping */
export function bitmapOrigin(pool: usize, head: u32, tlb: u64): u64 {
	const record = recordAt(pool, head);
	const orig = load<u64>(record, RECORD_ORIG) & ((1 << OWNER_SHIFT) - 1);
	return orig + (tlb - (poolStart(pool) + (u64(head) << IO_TLB_SHIFT) + offsetOf(record)));
}

/** Bytes from `tlb` to the end of what was allocated, rounding included: what Linux clamps a sync or copy to. */
export function bitmapRemaining(pool: usize, head: u32, tlb: u64): u32 {
	const allocated = load<u32>(recordAt(pool, head), RECORD_ALLOCATED);
	const position = positionOf(allocated, head, slotOf(pool, tlb), u32(tlb) & (IO_TLB_SIZE - 1));
	return (allocated & ALLOCATED_BYTES_MASK) - position;
}

/** The head slot of the live mapping that starts at exactly `tlb`, an address inside the pool, or NOT_MAPPED. */
export function bitmapHead(pool: usize, tlb: u64): i32 {
	const slot = slotOf(pool, tlb);
	const record = recordAt(pool, slot);
	const live = load<u32>(record, RECORD_MAPPED) !== 0 && offsetOf(record) === (u32(tlb) & (IO_TLB_SIZE - 1));
	return live ? i32(slot) : NOT_MAPPED;
}

/**
 * As bitmapHead, for the mapping that this device made with this size and direction.
 * @returns NOT_MAPPED when none starts at `tlb`, MISMATCH for another one
 */
export function bitmapHeadMappedAs(pool: usize, tlb: u64, bytes: u32, dir: i32, owner: u32): i32 {
	const slot = slotOf(pool, tlb);
	const record = recordAt(pool, slot);
	// a live mapping's word is never 0, nor are bytes
	if (load<u32>(record, RECORD_MAPPED) === mappedWord(bytes, u32(tlb) & (IO_TLB_SIZE - 1), dir)) {
		if (bytes <= IO_TLB_MAX_MAPPING) {
			if (u32(load<u64>(record, RECORD_ORIG) >> OWNER_SHIFT) === owner) return slot;
		}
	}
	return bitmapHead(pool, tlb) < 0 ? NOT_MAPPED : MISMATCH;
}

/** Live mappings of one owner in a pool. */
export function bitmapOwnedBy(pool: usize, owner: u32): i32 {
	let owned: i32 = 0;
	for (let slot: u32 = 0; slot < poolSlots(pool); slot++) {
		const record = recordAt(pool, slot);
		const live = load<u32>(record, RECORD_MAPPED) !== 0;
		owned += i32(live && u32(load<u64>(record, RECORD_ORIG) >> OWNER_SHIFT) === owner);
	}
	return owned;
}

/** Free slots from `slot` to the end of its run or segment; 0: it is used. */
export function bitmapCount(pool: usize, slot: u32): u32 {
	const segment = segmentOf(pool, slot);
	return freeUpwards(load<u64>(segment, SEGMENT_FREE), load<u64>(segment, SEGMENT_FREE_HIGH), bitOf(slot));
}

/** The longer of `best` and the longest free run among n slots from `slot` on, whole segments. Bounds that prove too high are corrected. */
export function bitmapLongest(pool: usize, slot: u32, n: u32, best: u32): u32 {
	const summary = summaryOf(pool);
	for (let i = slot >> 7; i < (slot + n) >> 7 && best < IO_TLB_SEGSIZE; i++) {
		const bound = u32(load<u8>(summary + i));
		if (bound <= best) continue;
		const segment = segmentOf(pool, i << 7);
		const low = load<u64>(segment, SEGMENT_FREE);
		const high = load<u64>(segment, SEGMENT_FREE_HIGH);
		if ((startsLow(low, high, bound) | startsHigh(high, bound)) !== 0) best = bound;
		else {
			const run = longestRun(low, high, 0, bound - 1);
			store<u8>(summary + i, u8(run));
			best = max(best, run);
		}
	}
	return best;
}
