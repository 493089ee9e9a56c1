/**
 * The context: every byte of engine state, in one block of linear memory.
 * All links inside it are byte offsets from its base, so a context may be copied to another base and go on.
 *
 *   0        header (CONTEXT_HEADER_BYTES)
 *   ...      region table, pool table (u32 offsets), device table, active counts
 *   ...      page bitmaps (private, blocked) and page states, once RAM is sealed
 *   ...      pools, scatter-gather scratch and replay plans, in the order in which they are added
 */
import { DEVICE_BYTES } from "./device.ts";

/** Where in its record a field of type T lies (bytes). */
type At<_T> = usize;

export const CONTEXT_MAGIC: u32 = 0x4f434f43;
/** Raised whenever a record of layout/ changes. */
export const CONTEXT_VERSION: u32 = 4;
/** The base of a context and each block in it are multiples of this. */
export const CONTEXT_ALIGN: u32 = 64;

/**
 * The header. Links are offsets from the context's base.
 *
 *   CONTEXT_HEADER_BYTES 0..127
 *       0                   4                   8                   12
 *     0 │ MAGIC             │ VERSION           │ BYTES             │ NEXT              │
 *    16 │ REGIONS           │ NREGIONS          │ MAX_REGIONS       │ NPAGES            │
 *    32 │ PRIVATE           │ BLOCKED           │ STATES            │ POOLS             │
 *    48 │ NPOOLS            │ MAX_POOLS         │ DEVICES           │ NDEVICES          │
 *    64 │ MAX_DEVICES       │ BUILD             │ RINGS             │ ATTACHED          │
 *    80 │ ACTIVE            │ TRANSIENT_LOCK    │ RETIRED           │ SPARE_TRANSIENT   │
 *    96 │ TRANSIENTS        │ CONVERSION_LOCK   │ RINGS_FREE        │                   │
 *   112 │                                                                               │
 */
export const CTX_MAGIC: At<u32> = 0;
export const CTX_VERSION: At<u32> = 4;
/** Bytes of the whole context. */
export const CTX_BYTES: At<u32> = 8;
/** Offset of the first byte that no block uses yet. */
export const CTX_NEXT: At<u32> = 12;
export const CTX_REGIONS: At<u32> = 16;
export const CTX_NREGIONS: At<u32> = 20;
export const CTX_MAX_REGIONS: At<u32> = 24;
/** Pages in all regions together; 0 until RAM is sealed. */
export const CTX_NPAGES: At<u32> = 28;
export const CTX_PRIVATE: At<u32> = 32;
export const CTX_BLOCKED: At<u32> = 36;
export const CTX_STATES: At<u32> = 40;
export const CTX_POOLS: At<u32> = 44;
export const CTX_NPOOLS: At<u32> = 48;
export const CTX_MAX_POOLS: At<u32> = 52;
export const CTX_DEVICES: At<u32> = 56;
export const CTX_NDEVICES: At<u32> = 60;
export const CTX_MAX_DEVICES: At<u32> = 64;
/** COCO_THREADS and COCO_REFERENCE of the build that made the context. */
export const CTX_BUILD: At<u32> = 68;
/** Offset of the ring attached last, 0 without any; each record names the one before. */
export const CTX_RINGS: At<u32> = 72;
/** Offset of the ring detached last, 0 without any; each record names the one before (RING_NEXT_FREE). */
export const CTX_RINGS_FREE: At<u32> = 104;
/** Instances that attached: each takes the next line of active counts. */
export const CTX_ATTACHED: At<u32> = 76;
/** Where the active counts lie: i32 a line, the calls under way that rely on page states (threads builds). */
export const CTX_ACTIVE: At<u32> = 80;
/** Guards the lists of transient pools. */
export const CTX_TRANSIENT_LOCK: At<u32> = 84;
/** Offsets of the transient pools that are over but not collected yet, and of records for new ones; 0: none. */
export const CTX_RETIRED: At<u32> = 88;
export const CTX_SPARE_TRANSIENT: At<u32> = 92;
/** Offset of the newest transient pool. */
export const CTX_TRANSIENTS: At<u32> = 96;
/** One conversion of pages at a time. */
export const CTX_CONVERSION_LOCK: At<u32> = 100;
export const CONTEXT_HEADER_BYTES: u32 = 128;

export const ACTIVE_SHIFT: u32 = 6;
export const ACTIVE_LINES: u32 = 16;

/**
 * A stretch of RAM. DELTA: its ptr, relative to the context base; FIRST_PAGE: number of its first page in the bitmaps.
 *
 *   REGION_BYTES 0..31
 *       0               4               8               12
 *     0 │ GPA                           │ LENGTH                        │
 *    16 │ DELTA         │ FIRST_PAGE    │                               │
 */
export const REGION_GPA: At<u64> = 0;
export const REGION_LENGTH: At<u64> = 8;
export const REGION_DELTA: At<u32> = 16;
export const REGION_FIRST_PAGE: At<u32> = 20;
export const REGION_BYTES: u32 = 32;

/** Up to here the v128 loop beats the engine's memory.copy, whose call costs about 5 ns (bench copy). */
export const SMALL_COPY_BYTES: u32 = 64;

export const PAGE_SHIFT: u32 = 12;
export const PAGE_SIZE: u32 = 4096;
/** Guest physical and DMA addresses are below this: x86 and Arm architectures allow 52 bits, and an f64 holds them exactly. */
export const MAX_GPA: f64 = 4503599627370496.0;

/** Page states, one cold byte a page; the hot path reads the two bitmaps. */
export const PAGE_SHARED = 0;
export const PAGE_PRIVATE = 1;
/** Decrypted, but not mapped for the host: a paravisor's bounce page. */
export const PAGE_HIDDEN = 2;
export const PAGE_IN_TRANSITION = 3;
/** State unknown after a failed conversion; never used again. */
export const PAGE_LEAKED = 4;
/** Beside a state for ramConvert: pages of a live pool, too. */
export const CONVERTS_POOL_PAGES = 16;

/** What a range check answers. */
export const RANGE_SHARED = 0;
export const RANGE_PRIVATE = 1;
export const RANGE_MIXED = 2;

/** `bytes` rounded up to the block alignment. */
export function alignBlock(bytes: u32): u32 {
	return ((bytes + (CONTEXT_ALIGN - 1)) & ~(CONTEXT_ALIGN - 1)) >>> 0;
}

/** Bytes of the header and tables of a context. */
export function tablesBytes(maxRegions: u32, maxPools: u32, maxDevices: u32): u32 {
	return (
		CONTEXT_HEADER_BYTES +
		alignBlock(maxRegions * REGION_BYTES) +
		alignBlock(maxPools * 4) +
		alignBlock(maxDevices * DEVICE_BYTES) +
		(ACTIVE_LINES << ACTIVE_SHIFT)
	);
}

/** Bytes of one page bitmap; 8 bytes of padding let a check load 64 bits at any byte. */
export function pageBitmapBytes(pages: u32): u32 {
	return alignBlock((pages >>> 3) + 9);
}

/** Bytes of both bitmaps and the page states. */
export function pagesBytes(pages: u32): u32 {
	return 2 * pageBitmapBytes(pages) + alignBlock(pages);
}
