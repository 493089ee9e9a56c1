/** A device's decision record: what Linux 6.12 dma-direct asks of a `struct device`, as plain fields. */

/** Highest DMA address that the device can emit, inclusive. */
export const DEVICE_DMA_MASK: usize = 0;
/** Highest DMA address that its bus carries, inclusive; 0 = no limit. */
export const DEVICE_BUS_LIMIT: usize = 8;
/** 2^k - 1 that no segment crosses; unset: 2^64 - 1. */
export const DEVICE_SEG_BOUNDARY: usize = 16;
/** ORed into a private / shared gpa to make its DMA address. */
export const DEVICE_PRIVATE_BITS: usize = 24;
export const DEVICE_SHARED_BITS: usize = 32;
/** Cleared in a private / shared gpa before its bits are ORed in. */
export const DEVICE_PRIVATE_CLEAR: usize = 40;
export const DEVICE_SHARED_CLEAR: usize = 48;
/** Low bits of orig that a bounce address keeps. */
export const DEVICE_MIN_ALIGN_MASK: usize = 56;
export const DEVICE_FLAGS: usize = 60;
/** Number of its pool, or -1. */
export const DEVICE_POOL: usize = 64;
/** Offset of its pool's record from the context base, or 0. */
export const DEVICE_POOL_RECORD: usize = 68;
/** The device's own number: the owner of its mappings. */
export const DEVICE_NUMBER: usize = 72;
/**
 * Counters since creation or reset, in shards of a cache line: a count is the sum over them. An area's number chooses the
 * shard in the threads build, so that workers on different areas do not share a line.
 */
export const DEVICE_COUNTERS: usize = 128;
export const COUNTER_SHARDS: u32 = 4;
export const COUNTER_SHARD_SHIFT: u32 = 6;
export const COUNTER_DIRECT_MAPS: usize = 0;
export const COUNTER_BOUNCED_MAPS: usize = 4;
/** Maps refused because a pool address was beyond the mask: the slots had been filled already, as in Linux. */
export const COUNTER_BEYOND_MASK: usize = 8;
export const COUNTER_BYTES_IN: usize = 16;
export const COUNTER_BYTES_BACK: usize = 24;
export const DEVICE_BYTES: u32 = 384;

/** DEVICE_FLAGS. */
export const DEVICE_FORCE_BOUNCE: u32 = 1;
export const DEVICE_NON_COHERENT: u32 = 2;

/** Directions, as Linux numbers them (include/linux/dma-direction.h). */
export const BIDIRECTIONAL = 0;
export const TO_DEVICE = 1;
export const FROM_DEVICE = 2;

/** Attributes, as Linux numbers them (include/linux/dma-mapping.h). */
export const DMA_ATTR_SKIP_CPU_SYNC = 32;

/** One scatter-gather entry: f64 gpa, f64 dma (written by map), u32 bytes. */
export const SG_GPA: usize = 0;
export const SG_DMA: usize = 8;
export const SG_LENGTH: usize = 16;
export const SG_BYTES: u32 = 32;
