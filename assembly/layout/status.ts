/**
 * Status codes of the engine: the reserved range is -1 .. -255, so any result < 0 is a status and any result >= 0 a value.
 * The texts that people read stand in src/status.ts.
 */

export const OK: i32 = 0;
/** The range, or part of it, is in no RAM region. */
export const OUTSIDE_RAM: i32 = -1;
/** A length of 0 bytes, or above 2^31 - 1. */
export const BAD_SIZE: i32 = -2;
/** A direction that is not BIDIRECTIONAL, TO_DEVICE or FROM_DEVICE. */
export const BAD_DIRECTION: i32 = -3;
/** Private and shared pages in one range that is to have one DMA address. */
export const MIXED_PAGES: i32 = -4;
/** A page of the range is in transition or leaked. */
export const BLOCKED_PAGES: i32 = -5;
/** The encoded DMA address exceeds the device's mask or bus limit. */
export const BEYOND_MASK: i32 = -6;
/** No run of free slots fits. */
export const POOL_FULL: i32 = -7;
/** The request needs more than IO_TLB_SEGSIZE slots. */
export const OVER_MAX_MAPPING: i32 = -8;
/** The device must bounce and has no pool. */
export const NO_POOL: i32 = -9;
/** The address is no live mapping, or lies outside its bytes. */
export const NOT_MAPPED: i32 = -10;
/** An unmap whose size, direction or device is not that of the map. */
export const MISMATCH: i32 = -11;
/** No device of that number. */
export const BAD_DEVICE: i32 = -12;
/** No pool of that number. */
export const BAD_POOL: i32 = -13;
/** The context area has no room left for the record. */
export const CONTEXT_FULL: i32 = -14;
/** A set-up argument outside its range. */
export const BAD_ARGUMENT: i32 = -15;
/** A region or pool that overlaps another one. */
export const OVERLAP: i32 = -16;
/** A page conversion inside a live pool. */
export const POOL_PAGES: i32 = -17;
/** The memory at the context base is no context of this version. */
export const BAD_CONTEXT: i32 = -18;
/** The mapping must bounce, and its attributes (MMIO, REQUIRE_COHERENT) forbid it. */
export const BOUNCE_REFUSED: i32 = -19;
/** The pool is shared and the device is trusted with private memory, or the reverse. */
export const POOL_STATE: i32 = -20;
/** No pool of the allocator has room; a transient pool may serve (CONFIG_SWIOTLB_DYNAMIC). */
export const NEEDS_TRANSIENT: i32 = -21;
/** The memory of a transient pool does not fit the request's alignment or boundary. */
export const UNUSABLE_POOL: i32 = -22;
/** The slots that were found are beyond the device's mask or bus limit: the bytes had been copied, the slots are free again. */
export const SLOTS_BEYOND_MASK: i32 = -23;
/** The device reaches shared memory only, and the mapping may not bounce or has no pool. */
export const NEEDS_SHARED: i32 = -24;
/** REQUIRE_COHERENT for a device that is not coherent. */
export const NOT_COHERENT: i32 = -25;
/** A small buffer that may share a cache line, for a device that is not coherent and has no pool. */
export const SHARES_CACHE_LINE: i32 = -26;
/** Memory of another device that this one does not reach (P2PDMA); the engine never answers it. */
export const PEER_UNREACHABLE: i32 = -27;

/** No open ring of that number and end. */
export const BAD_RING: i32 = -32;
/** No room for the packet now: flow control. */
export const RING_FULL: i32 = -33;
/** No packet now: flow control. */
export const RING_EMPTY: i32 = -34;
/** The packet is longer than the caller's, or the ring's private, buffer; it stays in the ring. */
export const RING_TOO_SMALL: i32 = -35;
/** A packet that an empty ring could not hold (strict; Linux calls it full). */
export const RING_TOO_LARGE: i32 = -36;
/** The ring was closed by its owner. */
export const RING_CLOSED: i32 = -37;
/** The host took the channel away. */
export const RING_RESCINDED: i32 = -38;
/** Every request id is live: the packet's bytes lie in the ring, behind the write index. */
export const REQUESTOR_FULL: i32 = -39;
/** A transaction id that is not live: never issued, or completed before. */
export const BAD_REQUEST: i32 = -40;
/** Corruption: the peer's index is beyond the data, or no multiple of 8. */
export const RING_BAD_INDEX: i32 = -41;
/** Corruption: 1 to 15 bytes between the indices. */
export const RING_BAD_AVAILABLE: i32 = -42;
/** Corruption: a packet's length or payload offset. */
export const RING_BAD_LENGTH: i32 = -43;
/** Corruption: an unknown packet type. */
export const RING_BAD_TYPE: i32 = -44;
/** Corruption: an unknown packet flag. */
export const RING_BAD_FLAGS: i32 = -45;
/** Corruption: ranges that do not fit into their packet, or are empty. */
export const RING_BAD_RANGES: i32 = -46;
