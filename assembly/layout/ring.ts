/**
 * A VMBus ring, one direction: its header page and packets as Linux 6.12 include/linux/hyperv.h lays them out, and the
 * engine's own record of it.
 *
 *   record (RING_RECORD_BYTES) | one entry a data page | private packet buffer
 */
/** Where in its record a field of type T lies (bytes). */
type At<_T> = usize;

/** Up to here a packet's bytes are copied by a v128 loop in line: the ring is cache-hot, and a call costs as much (bench ring). */
export const INLINE_COPY_BYTES: u32 = 256;

/**
 * The header page. The producer (P) or the consumer (C) writes a word. Indices count from the data area's first byte.
 * Bytes 4088..4095 count the guest's signals, statistics of other systems: never read or written here.
 *
 *   PAGE_SIZE 0..4095
 *        0                   4                   8                   12
 *      0 │ WRITE_INDEX       │ READ_INDEX        │ INTERRUPT_MASK    │ PENDING_SEND      │
 *      …
 *     64 │ FEATURES          │                                                           │
 *      …
 *   4080 │                                                                               │
 */
export const HEADER_WRITE_INDEX: At<u32> = 0; // P
export const HEADER_READ_INDEX: At<u32> = 4; // C
/** 1: the consumer wants no signal for new data. */
export const HEADER_INTERRUPT_MASK: At<u32> = 8; // C
/** Free bytes that the producer waits for; 0: it does not wait. */
export const HEADER_PENDING_SEND: At<u32> = 12; // P
/** Bit 0: pending_send_sz is meant. */
export const HEADER_FEATURES: At<u32> = 64; // P
export const FEATURE_PENDING_SEND: u32 = 1;

/**
 * A packet's first bytes; HEAD is read once. offset8: where the payload begins, len8: the packet without its trailer, both
 * in units of 8 bytes.
 *
 *   PACKET_HEADER_BYTES 0..15
 *       0           4           8           12
 *     0 │ HEAD                  │ ID                    │
 *   PACKET_HEAD bits: type 0..15 │ offset8 16..31 │ len8 32..47 │ flags 48..63
 */
export const PACKET_HEAD: At<u64> = 0;
/** The transaction id. */
export const PACKET_ID: At<u64> = 8;
export const PACKET_HEADER_BYTES: u32 = 16;
/** Behind a packet: u32 0, u32 ring offset where it starts. */
export const PACKET_TRAILER_BYTES: u32 = 8;
/** Largest len8 * 8. */
export const PACKET_MAX_BYTES: u32 = 524280;
/**
 * Behind the header of a packet with ranges. SET: 0 (GPA-direct); u16 set id, u8 1 when the sender owns it (transfer pages).
 *
 *   RANGES_HEAD_BYTES 0..7
 *       0           4
 *     0 │ SET       │ COUNT     │
 */
export const RANGES_SET: At<u32> = 0;
export const RANGES_COUNT: At<u32> = 4;
const RANGES_HEAD_BYTES: u32 = 8;
/** Where in its packet the first range lies. */
export const PACKET_RANGES: u32 = PACKET_HEADER_BYTES + RANGES_HEAD_BYTES;
/**
 * A range, read at once. In a GPA-direct packet its u64 page numbers follow.
 *
 *   RANGE_HEAD_BYTES 0..7
 *       0           4
 *     0 │ LENGTH    │ OFFSET    │
 */
export const RANGE_LENGTH: At<u32> = 0;
export const RANGE_OFFSET: At<u32> = 4;
export const RANGE_HEAD_BYTES: u32 = 8;

export const PACKET_IN_BAND: u32 = 6;
export const PACKET_TRANSFER_PAGES: u32 = 7;
export const PACKET_GPA_DIRECT: u32 = 9;
export const PACKET_COMPLETION: u32 = 11;
/** Bit n: the strict behaviour takes packets of type n. */
export const PACKET_TYPES_KNOWN: u32 = 0xac0;
/** Packet flag: the sender wants a completion. */
export const PACKET_WANTS_COMPLETION: u32 = 1;

/** What ringAttach is told: the end (a writer, or a reader), the behaviour (clamp, or strict), and the state at the start. */
export const RING_READER: u32 = 1;
export const RING_STRICT: u32 = 2;
/** Write an empty ring's header first; else the ring goes on where its header says. */
export const RING_INIT: u32 = 4;
/** Most pages of a ring: what one GPADL message can describe (vmbus 16-bit range_buflen). */
export const RING_MAX_PAGES: u32 = 8190;

/**
 * The engine's record of one end: what is fixed while it is attached.
 *
 *   RING_RECORD_BYTES 0..63
 *       0               4               8               12
 *     0 │ TAG           │ DATA_BYTES    │ HEADER        │ FLAGS         │
 *    16 │ MAX_PACKET    │ BUFFER        │ REQUESTOR     │ NPAGES        │
 *    32 │ HEADER_GPA                    │ STATE         │ BLOCK_BYTES   │
 *    48 │ PREVIOUS      │ INDEX_MASK    │ CLAIM_MOST    │ CLAIM_LESS    │
 */
/** One of the tags. */
export const RING_TAG: At<u32> = 0;
export const TAG_WRITER: u32 = 0x57474e52;
export const TAG_READER: u32 = 0x52474e52;
export const TAG_CLOSED: u32 = 0x43474e52;
export const TAG_DETACHED: u32 = 0x44474e52;
export const RING_DATA_BYTES: At<u32> = 4;
/** ptr of the header page, relative to this record as all ptrs of a ring are: no look at the context is needed to follow them. */
export const RING_HEADER: At<u32> = 8;
export const RING_FLAGS: At<u32> = 12;
/** A reader takes longer packets for corrupt (clamp) or refuses them (copy-out). */
export const RING_MAX_PACKET: At<u32> = 16;
/** ptr of the private packet buffer. */
export const RING_BUFFER: At<u32> = 20;
/** ptr of the requestor; 0: none. */
export const RING_REQUESTOR: At<u32> = 24;
export const RING_NPAGES: At<u32> = 28;
/** gpa of the header page. */
export const RING_HEADER_GPA: At<u64> = 32;
/** Why a closed ring is closed: a status. */
export const RING_STATE: At<i32> = 40;
/** Bytes of the record's block; offset of the record attached before this one. */
export const RING_BLOCK_BYTES: At<u32> = 44;
export const RING_PREVIOUS: At<u32> = 48;
/** Bits of the peer's index that must be 0: 7 (strict) or 0. */
export const RING_INDEX_MASK: At<u32> = 52;
/** Reader: most bytes that a packet may claim are min(available, RING_CLAIM_MOST) - RING_CLAIM_LESS. */
export const RING_CLAIM_MOST: At<u32> = 56;
export const RING_CLAIM_LESS: At<u32> = 60;

/**
 * What only this end's thread touches, at every packet.
 *
 *   RING_RECORD_BYTES 64..127
 *       0               4               8               12
 *    64 │ AT            │ PUBLISHED     │ REMOTE        │ CONSUMED      │
 *    80 │ HELD          │ STOPPED       │ CREDIT        │ NEXT_FREE     │
 *    96 │ PACKET_HEAD                   │ PACKET_ID                     │
 *   112 │ PACKET_PTR    │ BURST_BYTES   │ RUN_BASE      │ RUN_END       │
 */
/** Next byte to write or read. */
export const RING_AT: At<u32> = 64;
/** This end's index as the header page was last told. */
export const RING_PUBLISHED: At<u32> = 68;
/** The peer's index as last read, inside the data. */
export const RING_REMOTE: At<u32> = 72;
/** Reader: bytes consumed since the write index last changed. */
export const RING_CONSUMED: At<u32> = 76;
/** Reader: bytes of the packet in hand, trailer included; 0: none. */
export const RING_HELD: At<u32> = 80;
/** Reader, clamp: 1 when more was consumed than the ring holds: a broken peer. */
export const RING_STOPPED: At<u32> = 84;
/** Reader, between workers: bytes that were there when the write index was last read and are not consumed. */
export const RING_CREDIT: At<u32> = 88;
/** Of a detached record: offset of the one detached before it, 0: none. */
export const RING_NEXT_FREE: At<u32> = 92;
/** Reader: the packet in hand: its first 8 bytes with validated lengths; its transaction id; ptr. */
export const RING_PACKET_HEAD: At<u64> = 96;
export const RING_PACKET_ID: At<u64> = 104;
export const RING_PACKET_PTR: At<u32> = 112;
/** Reader: bytes that the last burst filled. */
export const RING_BURST_BYTES: At<u32> = 116;
/** The run of pages that holds RING_AT: ptr that data offset 0 would have in it, and the data offset where it ends. */
export const RING_RUN_BASE: At<u32> = 120;
export const RING_RUN_END: At<u32> = 124;

/**
 * A reader's walk over ranges.
 *
 *   RING_RECORD_BYTES 128..159
 *       0               4               8               12
 *   128 │ RANGES_LEFT   │ RANGES_AT     │ RANGES_END    │ RANGE_LENGTH  │
 *   144 │ RANGE_OFFSET  │ RANGE_PFNS    │ RANGE_NPFNS   │               │
 */
/** Ranges left, ptrs of the next range and behind the last. */
export const RING_RANGES_LEFT: At<u32> = 128;
export const RING_RANGES_AT: At<u32> = 132;
export const RING_RANGES_END: At<u32> = 136;
/** The range in hand: bytes, offset (in its first page, or in the transfer buffer), ptr of its page numbers and how many. */
export const RING_RANGE_LENGTH: At<u32> = 140;
export const RING_RANGE_OFFSET: At<u32> = 144;
export const RING_RANGE_PFNS: At<u32> = 148;
export const RING_RANGE_NPFNS: At<u32> = 152;
/**
 * A writer's refusals, reservation and ids.
 *
 *   RING_RECORD_BYTES 160..191
 *       0                   4                   8                   12
 *   160 │ FULL_TOTAL        │ FULL_FIRST        │ FULL_NOW          │ RESERVED_AT       │
 *   176 │ RESERVED_BYTES    │ RESERVED_PTR      │ GIVEN_ID                              │
 */
/** Refused for want of room; of these, right after an accepted write; 1 when the last write was refused. */
export const RING_FULL_TOTAL: At<u32> = 160;
export const RING_FULL_FIRST: At<u32> = 164;
export const RING_FULL_NOW: At<u32> = 168;
/** The reservation's packet start, payload bytes + 1, and payload ptr. */
export const RING_RESERVED_AT: At<u32> = 172;
export const RING_RESERVED_BYTES: At<u32> = 176;
export const RING_RESERVED_PTR: At<u32> = 180;
/** The id that the requestor gave last. */
export const RING_GIVEN_ID: At<u64> = 184;
export const RING_RECORD_BYTES: u32 = 192;

/**
 * A data page. DELTA: its ptr relative to the ring's record; RUN_END: the data offset up to which linear memory goes on
 * without a gap.
 *
 *   RING_PAGE_SHIFT 0..15
 *       0           4           8           12
 *     0 │ GPA                   │ DELTA     │ RUN_END   │
 */
export const RING_PAGE_GPA: At<u64> = 0;
export const RING_PAGE_DELTA: At<u32> = 8;
export const RING_PAGE_RUN_END: At<u32> = 12;
export const RING_PAGE_SHIFT: u32 = 4;

/**
 * A gather entry.
 *
 *   GATHER_BYTES 0..7
 *       0           4
 *     0 │ PTR       │ LENGTH    │
 */
export const GATHER_PTR: At<u32> = 0;
export const GATHER_LENGTH: At<u32> = 4;
export const GATHER_BYTES: u32 = 8;

/**
 * A packet of a burst.
 *
 *   BURST_BYTES 0..23
 *       0           4           8           12
 *     0 │ KIND      │ PTR       │ LENGTH    │           │
 *    16 │ ID                    │
 *   BURST_KIND bits: type 0..15 │ flags 16..31
 */
export const BURST_KIND: At<u32> = 0;
export const BURST_PTR: At<u32> = 4;
export const BURST_LENGTH: At<u32> = 8;
export const BURST_ID: At<u64> = 16;
export const BURST_BYTES: u32 = 24;

/**
 * The requestor: ids in all, first free slot, live ids, the sender's value that a completion found; u64 slots and a bitmap of
 * live ids follow.
 *
 *   REQUESTOR_HEADER_BYTES 0..63
 *       0           4           8           12
 *     0 │ LOCK      │ SLOTS     │ FREE      │ LIVE      │
 *    16 │ FOUND                 │                       │
 *     …
 *    48 │                                               │
 */
export const REQUESTOR_LOCK: At<u32> = 0;
export const REQUESTOR_SLOTS: At<u32> = 4;
export const REQUESTOR_FREE: At<u32> = 8;
export const REQUESTOR_LIVE: At<u32> = 12;
export const REQUESTOR_FOUND: At<u64> = 16;
export const REQUESTOR_HEADER_BYTES: u32 = 64;
export const REQUESTOR_MAX_SLOTS: u32 = 65536;
