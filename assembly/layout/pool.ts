/**
 * A bounce pool: Linux's `struct io_tlb_pool`, with bitmaps in place of the slots' `list` counters.
 *
 *   pool record | areas (one 64-byte line each) | segments | summary | records     (| list slots: reference build)
 */
import { alignBlock } from "./context.ts";

/** One slot is 2 KiB (Linux 6.12 include/linux/swiotlb.h, IO_TLB_SHIFT). */
export const IO_TLB_SHIFT: u32 = 11;
export const IO_TLB_SIZE: u32 = 2048;
/** Slots of a segment; no mapping crosses a segment (IO_TLB_SEGSIZE). */
export const IO_TLB_SEGSIZE: u32 = 128;
/** Largest mapping without any mask: 256 KiB. */
export const IO_TLB_MAX_MAPPING: u32 = 262144;

export const POOL_START: usize = 0;
/** First gpa behind the pool. */
export const POOL_END: usize = 8;
/** ptr of the pool's first byte, relative to this record. */
export const POOL_DELTA: usize = 16;
export const POOL_NSLABS: usize = 20;
export const POOL_NAREAS: usize = 24;
export const POOL_AREA_NSLABS: usize = 28;
/** log2 of the slots of an area, or 31 with a single area. */
export const POOL_AREA_SHIFT: usize = 32;
/** POOL_ENCRYPTED .. */
export const POOL_FLAGS: usize = 36;
/** Where the parts behind the areas lie, relative to this record. */
export const POOL_SEGMENTS: usize = 40;
export const POOL_SUMMARY: usize = 44;
export const POOL_RECORDS: usize = 48;
export const POOL_LIST: usize = 52;
/** Most slots used at once (raiseHiwater in swiotlb/slots.ts). */
export const POOL_HIWATER: usize = 56;
/** Maps that found no run of slots. */
export const POOL_FAILED_FULL: usize = 64;
/** Maps that needed more than a segment. */
export const POOL_FAILED_LARGE: usize = 68;
/** Of the last failed map: slots wanted, slots used in the pool, longest free run. */
export const POOL_FAILED_SLOTS: usize = 72;
export const POOL_FAILED_USED: usize = 76;
export const POOL_FAILED_RUN: usize = 80;
/** Offset from the context base of the next pool of its allocator, or of its device's transient pools; 0: the last. */
export const POOL_NEXT: usize = 88;
/** Offset from the context base of the first pool of its allocator (Linux's `struct io_tlb_mem`) if that may grow, else 0. */
export const POOL_MEM: usize = 92;
/** In an allocator's first pool, if it may grow: offset of the newest pool, slots used and transient slots in all of them. */
export const MEM_NEWEST: usize = 96;
export const MEM_USED: usize = 100;
export const MEM_TRANSIENT: usize = 104;
/** And most slots used at once in all of them. */
export const MEM_HIWATER: usize = 108;
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

export const AREA_LOCK: usize = 0;
export const AREA_USED: usize = 4;
/** Where the next search starts, relative to the area. */
export const AREA_INDEX: usize = 8;
/** Slots that the area may use without a look at the others: together they stay below the high-water mark. */
export const AREA_ALLOWANCE: usize = 12;
export const AREA_SHIFT: u32 = 6;

/** A segment: 128 bits "free". */
export const SEGMENT_FREE: usize = 0;
export const SEGMENT_FREE_HIGH: usize = 8;
export const SEGMENT_SHIFT: u32 = 4;

/** A mapping's record, at the slot of its tlb address. u64: orig_addr in the low 52 bits, the owner's device number above. */
export const RECORD_ORIG: usize = 0;
export const OWNER_SHIFT: u64 = 52;
export const MAX_OWNERS: u32 = 4096;
/** u32, what an unmap has to repeat: bytes mapped (19 bits), offset in the slot (11), direction (2); 0: no mapping starts here. */
export const RECORD_MAPPED: usize = 8;
export const MAPPED_OFFSET_SHIFT: u32 = 19;
export const MAPPED_DIR_SHIFT: u32 = 30;
/** u32, what is freed: bytes allocated (19 bits), slots of padding in front (7). */
export const RECORD_ALLOCATED: usize = 12;
export const ALLOCATED_BYTES_MASK: u32 = 0x7ffff;
export const ALLOCATED_PAD_SHIFT: u32 = 19;
export const RECORD_SHIFT: u32 = 4;

/** A slot of the reference build (Linux 6.12 `struct io_tlb_slot`): u64 orig_addr, u32 alloc_size, u16 list, u16 pad_slots. */
export const LIST_ORIG: usize = 0;
export const LIST_ALLOC_SIZE: usize = 8;
export const LIST_COUNT: usize = 12;
export const LIST_PAD: usize = 14;
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
