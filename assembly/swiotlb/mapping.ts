/** What a live mapping remembers, found from any address inside it. */

import {
	IO_TLB_SHIFT,
	IO_TLB_SIZE,
	OWNER_SHIFT,
	POOL_RECORDS,
	POOL_SEGMENTS,
	POOL_START,
	RECORD_ORIG,
	RECORD_SHIFT,
	RECORD_SIZES,
	SEGMENT_HEAD,
	SEGMENT_HEAD_HIGH,
	SEGMENT_SHIFT,
	SIZES_BYTES_MASK,
	SIZES_DIR_SHIFT,
	SIZES_MAPPED_SHIFT,
	SIZES_OFFSET_MASK,
	SIZES_OFFSET_SHIFT,
	SIZES_PAD_MASK,
	SIZES_PAD_SHIFT,
} from "../layout/pool.ts";
import { NOT_MAPPED } from "../layout/status.ts";
import { context } from "../memory/context.ts";
import { listMapped, listOrigin, listRemaining } from "../reference/list.ts";

/** ptr of the segment that holds a slot. */
export function segmentOf(pool: usize, slot: u32): usize {
	return context() + load<u32>(pool, POOL_SEGMENTS) + ((slot >> 7) << SEGMENT_SHIFT);
}

/** ptr of the record at a mapping's head slot. */
export function recordAt(pool: usize, head: u32): usize {
	return context() + load<u32>(pool, POOL_RECORDS) + (head << RECORD_SHIFT);
}

/**
 * The mapping that holds `tlb`, an address inside the pool.
 * @returns its head slot (reference build: the slot of `tlb`), or NOT_MAPPED: a free slot, padding, or bytes before the mapping
 */
export function mappingOf(pool: usize, tlb: u64): i32 {
	const slot = u32((tlb - load<u64>(pool, POOL_START)) >> IO_TLB_SHIFT);
	if (COCO_REFERENCE) return listMapped(pool, slot) ? i32(slot) : NOT_MAPPED;
	// mappings do not cross segments: the head is the nearest one at or below the slot
	const segment = segmentOf(pool, slot);
	const at = slot & 127;
	let head: u32;
	const high = at < 64 ? 0 : load<u64>(segment, SEGMENT_HEAD_HIGH) & (u64.MAX_VALUE >> u64(127 - at));
	if (high !== 0) head = (slot & ~127) + 127 - u32(clz(high));
	else {
		const low = load<u64>(segment, SEGMENT_HEAD) & (at < 64 ? u64.MAX_VALUE >> u64(63 - at) : u64.MAX_VALUE);
		if (low === 0) return NOT_MAPPED;
		head = (slot & ~127) + 63 - u32(clz(low));
	}
	const sizes = load<u64>(recordAt(pool, head), RECORD_SIZES);
	const into = u32(tlb) & (IO_TLB_SIZE - 1);
	if (slot === head && into < u32((sizes >> SIZES_OFFSET_SHIFT) & SIZES_OFFSET_MASK)) return NOT_MAPPED;
	return positionOf(sizes, head, slot, into) < u32(sizes & SIZES_BYTES_MASK) ? i32(head) : NOT_MAPPED;
}

/** Bytes from the first allocated slot, pre-padding included, to an address. */
function positionOf(sizes: u64, head: u32, slot: u32, into: u32): u32 {
	return ((slot - head + u32((sizes >> SIZES_PAD_SHIFT) & SIZES_PAD_MASK)) << IO_TLB_SHIFT) + into;
}

/** Original address of the byte at `tlb`. Linux 6.12 kernel/dma/swiotlb.c, swiotlb_bounce. */
export function originOf(pool: usize, mapping: i32, tlb: u64, minAlignMask: u32): u64 {
	if (COCO_REFERENCE) return listOrigin(pool, u32(mapping), tlb, minAlignMask);
	const record = recordAt(pool, mapping);
	const orig = load<u64>(record, RECORD_ORIG) & ((1 << OWNER_SHIFT) - 1);
	return orig + (tlb - tlbOf(pool, mapping));
}

/** Bytes from `tlb` to the end of what was allocated, rounding included: what Linux clamps a sync or copy to. */
export function remainingOf(pool: usize, mapping: i32, tlb: u64, minAlignMask: u32): u32 {
	if (COCO_REFERENCE) return listRemaining(pool, u32(mapping), tlb, minAlignMask);
	const sizes = load<u64>(recordAt(pool, mapping), RECORD_SIZES);
	const slot = u32((tlb - load<u64>(pool, POOL_START)) >> IO_TLB_SHIFT);
	return u32(sizes & SIZES_BYTES_MASK) - positionOf(sizes, mapping, slot, u32(tlb) & (IO_TLB_SIZE - 1));
}

/** The bounce address that the map of the mapping at `head` returned. */
export function tlbOf(pool: usize, head: u32): u64 {
	const sizes = load<u64>(recordAt(pool, head), RECORD_SIZES);
	return (
		load<u64>(pool, POOL_START) + (u64(head) << IO_TLB_SHIFT) + ((sizes >> SIZES_OFFSET_SHIFT) & SIZES_OFFSET_MASK)
	);
}

/** The head slot of the live mapping that starts at exactly `tlb`, an address inside the pool, or NOT_MAPPED. */
export function headOf(pool: usize, tlb: u64): i32 {
	const slot = u32((tlb - load<u64>(pool, POOL_START)) >> IO_TLB_SHIFT);
	if (COCO_REFERENCE) return listMapped(pool, slot) ? i32(slot) : NOT_MAPPED;
	const heads = load<u64>(segmentOf(pool, slot) + ((slot & 64) >> 3), SEGMENT_HEAD);
	const offset = u32(load<u64>(recordAt(pool, slot), RECORD_SIZES) >> SIZES_OFFSET_SHIFT) & u32(SIZES_OFFSET_MASK);
	return ((heads >> u64(slot & 63)) & 1) !== 0 && offset === (u32(tlb) & (IO_TLB_SIZE - 1)) ? i32(slot) : NOT_MAPPED;
}

/** Whether the mapping at `head` was made by this device, with this size and direction. */
export function mappedAs(pool: usize, head: u32, bytes: u32, dir: i32, owner: u32): bool {
	const record = recordAt(pool, head);
	const sizes = load<u64>(record, RECORD_SIZES);
	return (
		u32((sizes >> SIZES_MAPPED_SHIFT) & SIZES_BYTES_MASK) === bytes &&
		i32(sizes >> SIZES_DIR_SHIFT) === dir &&
		u32(load<u64>(record, RECORD_ORIG) >> OWNER_SHIFT) === owner
	);
}
