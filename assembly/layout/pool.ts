/**
 * A bounce pool: Linux's `struct io_tlb_pool`, with bitmaps in place of the slots' `list` counters.
 *
 *   pool record | areas (one 64-byte line each) | segments | summary | records     (| list slots: reference build)
 */
import { alignBlock } from "./context.ts";

/** Where in its record a field of type T lies (bytes). */
type At<_T> = usize;

/** One slot is 2 KiB (Linux 6.12 include/linux/swiotlb.h, IO_TLB_SHIFT). */
export const IO_TLB_SHIFT: u32 = 11;
export const IO_TLB_SIZE: u32 = 2048;
/** Slots of a segment; no mapping crosses a segment (IO_TLB_SEGSIZE). */
export const IO_TLB_SEGSIZE: u32 = 128;
/** Largest mapping without any mask: 256 KiB. */
export const IO_TLB_MAX_MAPPING: u32 = 262144;

/**
 * A pool's record: what it is, what a map and an unmap read.
 *
 *   POOL_HEADER_BYTES 0..63
 *       0               4               8               12
 *     0 │ START                         │ END                           │
 *    16 │ DELTA         │ NSLABS        │ NAREAS        │ AREA_NSLABS   │
 *    32 │ AREA_SHIFT    │ FLAGS         │ SEGMENTS      │ SUMMARY       │
 *    48 │ RECORDS       │ LIST          │ HIWATER       │               │
 */
export const POOL_START: At<u64> = 0;
/** First gpa behind the pool. */
export const POOL_END: At<u64> = 8;
/** ptr of the pool's first byte, relative to this record. */
export const POOL_DELTA: At<u32> = 16;
export const POOL_NSLABS: At<u32> = 20;
export const POOL_NAREAS: At<u32> = 24;
export const POOL_AREA_NSLABS: At<u32> = 28;
/** log2 of the slots of an area, or 31 with a single area. */
export const POOL_AREA_SHIFT: At<u32> = 32;
/** POOL_ENCRYPTED .. */
export const POOL_FLAGS: At<u32> = 36;
/** Where the parts behind the areas lie, relative to this record. */
export const POOL_SEGMENTS: At<u32> = 40;
export const POOL_SUMMARY: At<u32> = 44;
export const POOL_RECORDS: At<u32> = 48;
export const POOL_LIST: At<u32> = 52;
/** Most slots used at once (raiseHiwater in swiotlb/slots.ts). */
export const POOL_HIWATER: At<u32> = 56;
/**
 * What failed, and the pools of an allocator that grows.
 *
 *   POOL_HEADER_BYTES 64..127
 *       0                   4                   8                   12
 *    64 │ POOL_FAILED_FULL  │ POOL_FAILED_LARGE │ POOL_FAILED_SLOTS │ POOL_FAILED_USED  │
 *    80 │ POOL_FAILED_RUN   │                   │ POOL_NEXT         │ POOL_MEM          │
 *    96 │ MEM_NEWEST        │ MEM_USED          │ MEM_TRANSIENT     │ MEM_HIWATER       │
 *   112 │                                                                               │
 */
/** Maps that found no run of slots. */
export const POOL_FAILED_FULL: At<u32> = 64;
/** Maps that needed more than a segment. */
export const POOL_FAILED_LARGE: At<u32> = 68;
/** Of the last failed map: slots wanted, slots used in the pool, longest free run. */
export const POOL_FAILED_SLOTS: At<u32> = 72;
export const POOL_FAILED_USED: At<u32> = 76;
export const POOL_FAILED_RUN: At<u32> = 80;
/** Offset from the context base of the next pool of its allocator, or of its device's transient pools; 0: the last. */
export const POOL_NEXT: At<u32> = 88;
/** Offset from the context base of the first pool of its allocator (Linux's `struct io_tlb_mem`) if that may grow, else 0. */
export const POOL_MEM: At<u32> = 92;
/** In an allocator's first pool, if it may grow: offset of the newest pool, slots used and transient slots in all of them. */
export const MEM_NEWEST: At<u32> = 96;
export const MEM_USED: At<u32> = 100;
export const MEM_TRANSIENT: At<u32> = 104;
/** And most slots used at once in all of them. */
export const MEM_HIWATER: At<u32> = 108;
export const POOL_HEADER_BYTES: u32 = 128;

/** POOL_FLAGS. The pool's addresses take the private form (Linux after the 7.3 merge: not io_tlb_mem.cc_shared). */
export const POOL_ENCRYPTED = 1;
/** Slots are zeroed when they are given back. */
export const POOL_ZERO_ON_FREE = 2;
/** More pools may be added to its allocator, and transient ones be made (CONFIG_SWIOTLB_DYNAMIC). */
export const POOL_GROWS = 4;
/** Holds one mapping, and goes with it. */
export const POOL_TRANSIENT = 8;
/** Belongs to an allocator that grows. */
export const POOL_COUNTED = 16;
/** Its pages could not be decrypted: no slot of it is ever free (Linux after the 7.3 merge). */
export const POOL_DISABLED = 32;
/** Pools whose slots are not simply taken and given back. */
export const POOL_SPECIAL: u32 = 30;

/**
 * An area: what its lock guards. WANT_*: the request of a search that asks more than the first candidate.
 *
 *   AREA_SHIFT 0..63
 *       0                   4                   8                   12
 *     0 │ AREA_LOCK         │ AREA_USED         │ AREA_INDEX        │ AREA_ALLOWANCE    │
 *    16 │ AREA_FIRST        │ AREA_NSLABS       │ WANT_SLOTS        │ WANT_ALIGN_MASK   │
 *    32 │ WANT_ORIG_MASK    │ WANT_START        │ WANT_ORIG                             │
 *    48 │ WANT_BOUNDARY                         │                                       │
 */
export const AREA_LOCK: At<u32> = 0;
export const AREA_USED: At<u32> = 4;
/** Where the next search starts, relative to the area. */
export const AREA_INDEX: At<u32> = 8;
/** Slots that the area may use without a look at the others: together they stay below the high-water mark. */
export const AREA_ALLOWANCE: At<u32> = 12;
/** Fixed: the area's first slot in the pool, and how many it has. */
export const AREA_FIRST: At<u32> = 16;
export const AREA_NSLABS: At<u32> = 20;
/** What the search under way asks for: slots in a row, 1 .. 128. */
export const WANT_SLOTS: At<u32> = 24;
/** Address bits that must be 0 (alloc_align_mask, never below 0x7ff), and those that must equal ORIG's (min_align_mask without them). */
export const WANT_ALIGN_MASK: At<u32> = 28;
export const WANT_ORIG_MASK: At<u32> = 32;
/** The slot, within the area, at which it starts. */
export const WANT_START: At<u32> = 36;
/** The original address; 0 is exempt from the min_align_mask test. */
export const WANT_ORIG: At<u64> = 40;
/** The device's segment boundary, 2^k - 1. */
export const WANT_BOUNDARY: At<u64> = 48;
export const AREA_SHIFT: u32 = 6;

/**
 * A segment: 128 bits "free", slot 0 lowest.
 *
 *   SEGMENT_SHIFT 0..15
 *       0           4           8           12
 *     0 │ FREE                  │ FREE_HIGH             │
 */
export const SEGMENT_FREE: At<u64> = 0;
export const SEGMENT_FREE_HIGH: At<u64> = 8;
export const SEGMENT_SHIFT: u32 = 4;

/**
 * A mapping's record, at the slot of its tlb address. ORIG: orig_addr and the owner's device number. MAPPED: what an unmap
 * has to repeat (bytes, offset in the slot, direction), 0 where no mapping starts. ALLOCATED: what is freed, and how many
 * slots of padding stand in front.
 *
 *   RECORD_SHIFT 0..15
 *       0           4           8           12
 *     0 │ ORIG                  │ MAPPED    │ ALLOCATED │
 *   RECORD_ORIG bits: orig_addr 0..51 │ OWNER 52..63
 *   RECORD_MAPPED bits: bytes 0..18 │ OFFSET 19..29 │ DIR 30..31
 *   RECORD_ALLOCATED bits: BYTES 0..18 │ PAD 19..25 │ free 26..31
 */
export const RECORD_ORIG: At<u64> = 0;
export const OWNER_SHIFT: u64 = 52;
export const MAX_OWNERS: u32 = 4096;
export const RECORD_MAPPED: At<u32> = 8;
export const MAPPED_OFFSET_SHIFT: u32 = 19;
export const MAPPED_DIR_SHIFT: u32 = 30;
export const RECORD_ALLOCATED: At<u32> = 12;
export const ALLOCATED_BYTES_MASK: u32 = 0x7ffff;
export const ALLOCATED_PAD_SHIFT: u32 = 19;
export const RECORD_SHIFT: u32 = 4;

/**
 * A slot of the reference build (Linux 6.12 `struct io_tlb_slot`): orig_addr, alloc_size, list, pad_slots.
 *
 *   LIST_SHIFT 0..15
 *       0               4               8               12
 *     0 │ ORIG                          │ ALLOC_SIZE    │ COUNT │ PAD   │
 */
export const LIST_ORIG: At<u64> = 0;
export const LIST_ALLOC_SIZE: At<u32> = 8;
export const LIST_COUNT: At<u16> = 12;
export const LIST_PAD: At<u16> = 14;
export const LIST_SHIFT: u32 = 4;

/** Context bytes that a pool of `nslabs` slots and `nareas` areas needs. */
export function poolBytes(nslabs: u32, nareas: u32, reference: boolean): u32 {
	const segments = nslabs >>> 7;
	return (
		POOL_HEADER_BYTES +
		alignBlock(nareas << AREA_SHIFT) +
		alignBlock(segments << SEGMENT_SHIFT) +
		alignBlock(segments + 16) +
		alignBlock(nslabs << RECORD_SHIFT) +
		(reference ? alignBlock(nslabs << LIST_SHIFT) : 0)
	);
}
