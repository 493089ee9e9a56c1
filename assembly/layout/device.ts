/** A device's decision record: what Linux's dma-direct (6.12, and after the 7.3 merge) asks of a `struct device`, as plain fields. */

/** Where in its record a field of type T lies (bytes). */
type At<_T> = usize;

/**
 * What decides, read by every map and unmap.
 *
 *   DEVICE_COUNTERS 0..127
 *       0                   4                   8                   12
 *     0 │ DMA_MASK                              │ BUS_LIMIT                             │
 *    16 │ SEG_BOUNDARY                          │ PRIVATE_BITS                          │
 *    32 │ SHARED_BITS                           │ PRIVATE_CLEAR                         │
 *    48 │ SHARED_CLEAR                          │ MIN_ALIGN_MASK    │ FLAGS             │
 *    64 │ POOL              │ POOL_RECORD       │ NUMBER            │ PRIVATE_POOL      │
 *     …
 *   112 │                                                                               │
 */
/** Highest DMA address that the device can emit, inclusive. */
export const DEVICE_DMA_MASK: At<u64> = 0;
/** Highest DMA address that its bus carries, inclusive; 0 = no limit. */
export const DEVICE_BUS_LIMIT: At<u64> = 8;
/** 2^k - 1 that no segment crosses; unset: 2^64 - 1. */
export const DEVICE_SEG_BOUNDARY: At<u64> = 16;
/** ORed into a private / shared gpa to make its DMA address. */
export const DEVICE_PRIVATE_BITS: At<u64> = 24;
export const DEVICE_SHARED_BITS: At<u64> = 32;
/** Cleared in a private / shared gpa before its bits are ORed in. */
export const DEVICE_PRIVATE_CLEAR: At<u64> = 40;
export const DEVICE_SHARED_CLEAR: At<u64> = 48;
/** Low bits of orig that a bounce address keeps. */
export const DEVICE_MIN_ALIGN_MASK: At<u32> = 56;
export const DEVICE_FLAGS: At<u32> = 60;
/** Number of its pool, or -1. */
export const DEVICE_POOL: At<i32> = 64;
/** Offset of its pool's record from the context base, or 0. */
export const DEVICE_POOL_RECORD: At<u32> = 68;
/** The device's own number: the owner of its mappings. */
export const DEVICE_NUMBER: At<u32> = 72;
/** Offset of the pool that serves buffers on private pages, or 0: the same pool. */
export const DEVICE_PRIVATE_POOL: At<u32> = 76;
/**
 * Counters since creation or reset, in shards of a cache line: a count is the sum over them. An area's number chooses the
 * shard in the threads build, so that workers on different areas do not share a line.
 */
export const DEVICE_COUNTERS: u32 = 128;
export const COUNTER_SHARDS: u32 = 4;
export const COUNTER_SHARD_SHIFT: u32 = 6;
/**
 * A shard.
 *
 *   COUNTER_SHARD_SHIFT 0..63
 *       0               4               8               12
 *     0 │ DIRECT_MAPS   │ BOUNCED_MAPS  │ BEYOND_MASK   │ DIRECT_UNMAPS │
 *    16 │ BYTES_IN                      │ BYTES_BACK                    │
 *    32 │ CACHE_OPS     │               │ CACHE_BYTES                   │
 *    48 │ DIRECT_BASE   │                                               │
 */
export const COUNTER_DIRECT_MAPS: At<u32> = 0;
export const COUNTER_BOUNCED_MAPS: At<u32> = 4;
/** Maps refused because a pool address was beyond the mask: the slots had been filled already, as in Linux. */
export const COUNTER_BEYOND_MASK: At<u32> = 8;
/** Direct mappings that have ended. This and COUNTER_DIRECT_MAPS survive a reset: their difference is what is live. */
export const COUNTER_DIRECT_UNMAPS: At<u32> = 12;
export const COUNTER_BYTES_IN: At<u64> = 16;
export const COUNTER_BYTES_BACK: At<u64> = 24;
/** Cache maintenance of a non-coherent device: the kernel's calls for it, and bytes that they cover (none for TO_DEVICE given back). */
export const COUNTER_CACHE_OPS: At<u32> = 32;
export const COUNTER_CACHE_BYTES: At<u64> = 40;
/** COUNTER_DIRECT_MAPS at the last reset. */
export const COUNTER_DIRECT_BASE: At<u32> = 48;
export const DEVICE_BYTES: u32 = DEVICE_COUNTERS + (COUNTER_SHARDS << COUNTER_SHARD_SHIFT);

/** DEVICE_FLAGS. */
export const DEVICE_FORCE_BOUNCE: u32 = 1;
export const DEVICE_NON_COHERENT: u32 = 2;
/** Direct addresses take the form that Linux gives them: private, or shared with DMA_ATTR_CC_SHARED. Else that of the pages. */
export const DEVICE_ENCODES_AS_LINUX: u32 = 4;
/** The device reaches shared memory only: Linux's force_dma_unencrypted. */
export const DEVICE_NEEDS_SHARED: u32 = 8;
/** The rules after Linux's 7.3 merge: attributes tell what memory is, and dma_capable asks for it. */
export const DEVICE_CHECKS_STATE: u32 = 16;
/** MMIO takes the shared form whatever its attributes say: a host whose memory is encrypted. */
export const DEVICE_MMIO_SHARED: u32 = 32;
/** Under DEVICE_CHECKS_POOL: its pool has to be shared; else it has to be private. */
export const DEVICE_NEEDS_SHARED_POOL: u32 = 64;
/** swiotlb asks for the pool's state before it takes slots. */
export const DEVICE_CHECKS_POOL: u32 = 128;
/** MMIO is encoded and judged as RAM is; else its address is given as it is. */
export const DEVICE_ENCODES_MMIO: u32 = 256;
/** A device that reaches shared memory only is promised no mapping larger than a bounce. */
export const DEVICE_LIMITS_SHARED_MAPS: u32 = 512;
/** Set by the engine: its pool is POOL_SPECIAL, or not its only one. */
export const DEVICE_SPECIAL_POOLS: u32 = 0x80000000;
/** What a caller may set. */
export const DEVICE_FLAGS_MASK: u32 = 1023;

/** Directions, as Linux numbers them (include/linux/dma-direction.h). */
export const BIDIRECTIONAL = 0;
export const TO_DEVICE = 1;
export const FROM_DEVICE = 2;

/** Attributes, as Linux numbers them (include/linux/dma-mapping.h). */
export const DMA_ATTR_SKIP_CPU_SYNC = 32;
export const DMA_ATTR_MMIO = 1024;
export const DMA_ATTR_REQUIRE_COHERENT = 4096;
export const DMA_ATTR_CC_SHARED = 8192;
/** Not Linux's: bounce whatever the decision would be, which is its swiotlb_map. */
export const ATTR_FORCE_BOUNCE = 0x40000000;
/** Not Linux's: take the slots of the device's newest transient pool. */
export const ATTR_TRANSIENT = 0x20000000;
/** Not Linux's: take slots of the device's pool alone, where its allocator has more. For replays of searches that raced. */
export const ATTR_OWN_POOL = 0x10000000;
/** Not Linux's: refuse what would bounce (memory of another device, where Linux does not bounce that). */
export const ATTR_NO_BOUNCE = 0x08000000;

/**
 * One scatter-gather entry; a map writes its DMA. The rest of it is layout/replay.ts's.
 *
 *   SG_BYTES 0..19
 *       0           4           8           12
 *     0 │ GPA                   │ DMA                   │
 *    16 │ LENGTH    │
 */
export const SG_GPA: At<f64> = 0;
export const SG_DMA: At<f64> = 8;
export const SG_LENGTH: At<u32> = 16;
export const SG_BYTES: u32 = 32;
