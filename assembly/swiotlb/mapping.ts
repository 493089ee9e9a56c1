/** What a live mapping remembers, found from any address inside it. */

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
	POOL_NSLABS,
	POOL_RECORDS,
	POOL_SEGMENTS,
	POOL_START,
	RECORD_ALLOCATED,
	RECORD_MAPPED,
	RECORD_ORIG,
	RECORD_SHIFT,
	SEGMENT_SHIFT,
} from "../layout/pool.ts";
import { MISMATCH, NOT_MAPPED } from "../layout/status.ts";
import { listMapped, listOrigin, listRemaining } from "../reference/list.ts";

/** ptr of the segment that holds a slot. */
export function segmentOf(pool: usize, slot: u32): usize {
	return pool + load<u32>(pool, POOL_SEGMENTS) + ((slot >> 7) << SEGMENT_SHIFT);
}

/** ptr of the record at a mapping's head slot. */
export function recordAt(pool: usize, head: u32): usize {
	return pool + load<u32>(pool, POOL_RECORDS) + (head << RECORD_SHIFT);
}

/** The slot of `tlb`, an address inside the pool. */
function slotOf(pool: usize, tlb: u64): u32 {
	return u32((tlb - load<u64>(pool, POOL_START)) >> IO_TLB_SHIFT);
}

/** Offset of a mapping's tlb address in its slot (bytes). */
function offsetOf(record: usize): u32 {
	return (load<u32>(record, RECORD_MAPPED) >> MAPPED_OFFSET_SHIFT) & (IO_TLB_SIZE - 1);
}

/**
 * The mapping that holds `tlb`, an address inside the pool.
 * @returns its head slot (reference build: the slot of `tlb`), or NOT_MAPPED: a free slot, padding, or bytes before the mapping
 */
export function mappingOf(pool: usize, tlb: u64): i32 {
	const slot = slotOf(pool, tlb);
	if (COCO_REFERENCE) return listMapped(pool, slot) ? i32(slot) : NOT_MAPPED;
	// mappings do not cross segments: the head is the nearest one at or below the slot
	let head = slot;
	let record = recordAt(pool, slot);
	while (load<u32>(record, RECORD_MAPPED) === 0) {
		if ((head & (IO_TLB_SEGSIZE - 1)) === 0) return NOT_MAPPED;
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

/** Original address of the byte at `tlb`. Linux 6.12 kernel/dma/swiotlb.c, swiotlb_bounce. */
export function originOf(pool: usize, mapping: i32, tlb: u64, minAlignMask: u32): u64 {
	if (COCO_REFERENCE) return listOrigin(pool, u32(mapping), tlb, minAlignMask);
	const record = recordAt(pool, mapping);
	const orig = load<u64>(record, RECORD_ORIG) & ((1 << OWNER_SHIFT) - 1);
	return orig + (tlb - (load<u64>(pool, POOL_START) + (u64(mapping) << IO_TLB_SHIFT) + offsetOf(record)));
}

/** Bytes from `tlb` to the end of what was allocated, rounding included: what Linux clamps a sync or copy to. */
export function remainingOf(pool: usize, mapping: i32, tlb: u64, minAlignMask: u32): u32 {
	if (COCO_REFERENCE) return listRemaining(pool, u32(mapping), tlb, minAlignMask);
	const allocated = load<u32>(recordAt(pool, mapping), RECORD_ALLOCATED);
	const position = positionOf(allocated, mapping, slotOf(pool, tlb), u32(tlb) & (IO_TLB_SIZE - 1));
	return (allocated & ALLOCATED_BYTES_MASK) - position;
}

/** The head slot of the live mapping that starts at exactly `tlb`, an address inside the pool, or NOT_MAPPED. */
export function headOf(pool: usize, tlb: u64): i32 {
	const slot = slotOf(pool, tlb);
	if (COCO_REFERENCE) return listMapped(pool, slot) ? i32(slot) : NOT_MAPPED;
	const record = recordAt(pool, slot);
	const live = load<u32>(record, RECORD_MAPPED) !== 0 && offsetOf(record) === (u32(tlb) & (IO_TLB_SIZE - 1));
	return live ? i32(slot) : NOT_MAPPED;
}

/** Live mappings of one owner in a pool. */
export function mappingsOwnedBy(pool: usize, owner: u32): i32 {
	let owned: i32 = 0;
	const slots = load<u32>(pool, POOL_NSLABS);
	for (let slot: u32 = 0; slot < slots; slot++) {
		const record = recordAt(pool, slot);
		const live = load<u32>(record, RECORD_MAPPED) !== 0;
		owned += i32(live && u32(load<u64>(record, RECORD_ORIG) >> OWNER_SHIFT) === owner);
	}
	return owned;
}

/** What RECORD_MAPPED holds. */
export function mappedWord(bytes: u32, offset: u32, dir: i32): u32 {
	return bytes | (offset << MAPPED_OFFSET_SHIFT) | (u32(dir) << MAPPED_DIR_SHIFT);
}

/**
 * As headOf, for the mapping that this device made with this size and direction.
 * @returns NOT_MAPPED when none starts at `tlb`, MISMATCH for another one
 */
export function headMappedAs(pool: usize, tlb: u64, bytes: u32, dir: i32, owner: u32): i32 {
	if (COCO_REFERENCE) return headOf(pool, tlb);
	const slot = slotOf(pool, tlb);
	const record = recordAt(pool, slot);
	// a live mapping's word is never 0, nor are bytes
	if (load<u32>(record, RECORD_MAPPED) === mappedWord(bytes, u32(tlb) & (IO_TLB_SIZE - 1), dir)) {
		if (bytes <= IO_TLB_MAX_MAPPING) {
			if (u32(load<u64>(record, RECORD_ORIG) >> OWNER_SHIFT) === owner) return slot;
		}
	}
	return headOf(pool, tlb) < 0 ? NOT_MAPPED : MISMATCH;
}
