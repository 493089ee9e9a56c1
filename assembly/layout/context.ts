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

export const CONTEXT_MAGIC: u32 = 0x4f434f43;
/** Raised whenever a record of layout/ changes. */
export const CONTEXT_VERSION: u32 = 2;
/** The base of a context and each block in it are multiples of this. */
export const CONTEXT_ALIGN: u32 = 64;

export const CTX_MAGIC: usize = 0;
export const CTX_VERSION: usize = 4;
/** Bytes of the whole context. */
export const CTX_BYTES: usize = 8;
/** Offset of the first byte that no block uses yet. */
export const CTX_NEXT: usize = 12;
export const CTX_REGIONS: usize = 16;
export const CTX_NREGIONS: usize = 20;
export const CTX_MAX_REGIONS: usize = 24;
/** Pages in all regions together; 0 until RAM is sealed. */
export const CTX_NPAGES: usize = 28;
export const CTX_PRIVATE: usize = 32;
export const CTX_BLOCKED: usize = 36;
export const CTX_STATES: usize = 40;
export const CTX_POOLS: usize = 44;
export const CTX_NPOOLS: usize = 48;
export const CTX_MAX_POOLS: usize = 52;
export const CTX_DEVICES: usize = 56;
export const CTX_NDEVICES: usize = 60;
export const CTX_MAX_DEVICES: usize = 64;
/** COCO_THREADS and COCO_REFERENCE of the build that made the context. */
export const CTX_BUILD: usize = 68;
/** Offset of the ring attached last, 0 without any; each record names the one before. */
export const CTX_RINGS: usize = 72;
/** Instances that attached: each takes the next line of active counts. */
export const CTX_ATTACHED: usize = 76;
/** Where the active counts lie: i32 a line, the calls under way that rely on page states (threads builds). */
export const CTX_ACTIVE: usize = 80;
/** Guards the lists of transient pools. */
export const CTX_TRANSIENT_LOCK: usize = 84;
/** Offsets of the transient pools that are over but not collected yet, and of records for new ones; 0: none. */
export const CTX_RETIRED: usize = 88;
export const CTX_SPARE_TRANSIENT: usize = 92;
/** Offset of the newest transient pool. */
export const CTX_TRANSIENTS: usize = 96;
/** One conversion of pages at a time. */
export const CTX_CONVERSION_LOCK: usize = 100;
export const CONTEXT_HEADER_BYTES: u32 = 128;

export const ACTIVE_SHIFT: u32 = 6;
export const ACTIVE_LINES: u32 = 16;

/** A stretch of RAM: u64 gpa, u64 bytes, u32 ptr relative to the context base, u32 number of its first page. */
export const REGION_GPA: usize = 0;
export const REGION_LENGTH: usize = 8;
export const REGION_DELTA: usize = 16;
export const REGION_FIRST_PAGE: usize = 20;
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
