/**
 * A VMBus ring, one direction: its header page and packets as Linux 6.12 include/linux/hyperv.h lays them out, and the
 * engine's own record of it.
 *
 *   record (RING_RECORD_BYTES) | one entry a data page | private packet buffer
 */

/** Up to here a packet's bytes are copied by a v128 loop in line: the ring is cache-hot, and a call costs as much (bench ring). */
export const INLINE_COPY_BYTES: u32 = 256;

/** Header page: words that the producer (P) or the consumer (C) writes. All byte offsets count from the data area. */
export const HEADER_WRITE_INDEX: usize = 0; // P
export const HEADER_READ_INDEX: usize = 4; // C
/** 1: the consumer wants no signal for new data. */
export const HEADER_INTERRUPT_MASK: usize = 8; // C
/** Free bytes that the producer waits for; 0: it does not wait. */
export const HEADER_PENDING_SEND: usize = 12; // P
/** Bit 0: pending_send_sz is meant. */
export const HEADER_FEATURES: usize = 64; // P
export const FEATURE_PENDING_SEND: u32 = 1;
/** u64 count of the guest's signals: statistics of other systems, never read or written here. */
export const HEADER_GUEST_INTERRUPTS: usize = 4088;

/** Packet: u16 type, u16 payload offset / 8, u16 length / 8 without trailer, u16 flags, u64 transaction id. */
export const PACKET_ID: usize = 8;
export const PACKET_HEADER_BYTES: u32 = 16;
/** Behind a packet: u32 0, u32 ring offset where it starts. */
export const PACKET_TRAILER_BYTES: u32 = 8;
/** Largest len8 * 8. */
export const PACKET_MAX_BYTES: u32 = 524280;
/** GPA-direct: u32 0, u32 range count. Transfer pages: u16 set id, u8 sender owns it, u8 0, u32 range count. */
export const PACKET_RANGES_HEAD: usize = 16;
export const PACKET_RANGES: usize = 24;
/** A range: u32 bytes, u32 offset; in a GPA-direct packet its u64 page numbers follow. */
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

/** Record, first line: fixed while attached. One of the tags. */
export const RING_TAG: usize = 0;
export const TAG_WRITER: u32 = 0x57474e52;
export const TAG_READER: u32 = 0x52474e52;
export const TAG_CLOSED: u32 = 0x43474e52;
export const TAG_DETACHED: u32 = 0x44474e52;
export const RING_DATA_BYTES: usize = 4;
/** ptr of the header page, relative to this record as all ptrs of a ring are: no look at the context is needed to follow them. */
export const RING_HEADER: usize = 8;
export const RING_FLAGS: usize = 12;
/** A reader takes longer packets for corrupt (clamp) or refuses them (copy-out). */
export const RING_MAX_PACKET: usize = 16;
/** ptr of the private packet buffer. */
export const RING_BUFFER: usize = 20;
/** ptr of the requestor; 0: none. */
export const RING_REQUESTOR: usize = 24;
export const RING_NPAGES: usize = 28;
/** gpa of the header page. */
export const RING_HEADER_GPA: usize = 32;
/** Why a closed ring is closed: a status. */
export const RING_STATE: usize = 40;
/** Bytes of the record's block; offset of the record attached before this one. */
export const RING_BLOCK_BYTES: usize = 44;
export const RING_PREVIOUS: usize = 48;
/** Bits of the peer's index that must be 0: 7 (strict) or 0. */
export const RING_INDEX_MASK: usize = 52;
/** Reader: most bytes that a packet may claim are min(available, RING_CLAIM_MOST) - RING_CLAIM_LESS. */
export const RING_CLAIM_MOST: usize = 56;
export const RING_CLAIM_LESS: usize = 60;

/** Second line: what only this end's thread touches. Next byte to write or read. */
export const RING_AT: usize = 64;
/** This end's index as the header page was last told. */
export const RING_PUBLISHED: usize = 68;
/** The peer's index as last read, inside the data. */
export const RING_REMOTE: usize = 72;
/** Reader: bytes consumed since the write index last changed. */
export const RING_CONSUMED: usize = 76;
/** Reader: bytes of the packet in hand, trailer included; 0: none. One 64-bit load reads it together with RING_STOPPED. */
export const RING_HELD: usize = 80;
/** Reader, clamp: 1 when more was consumed than the ring holds: a broken peer. */
export const RING_STOPPED: usize = 84;
/** Reader, between workers: bytes that were there when the write index was last read and are not consumed. */
export const RING_CREDIT: usize = 88;
/** Writer: the reservation's packet start, payload bytes + 1, and payload ptr. */
export const RING_RESERVED_AT: usize = 76;
export const RING_RESERVED_BYTES: usize = 80;
export const RING_RESERVED_PTR: usize = 84;
/** Packet in hand: its first 8 bytes with validated lengths; its transaction id; ptr. Writer: the id that the requestor gave last. */
export const RING_PACKET_HEAD: usize = 96;
export const RING_PACKET_ID: usize = 104;
export const RING_PACKET_PTR: usize = 112;
/** Reader: bytes that the last burst filled. */
export const RING_BURST_BYTES: usize = 116;
/** The run of pages that holds RING_AT: ptr that data offset 0 would have in it, and the data offset where it ends. */
export const RING_RUN_BASE: usize = 120;
export const RING_RUN_END: usize = 124;

/** Third line. Range walk: ranges left, ptrs of the next range and behind the last. */
export const RING_RANGES_LEFT: usize = 128;
export const RING_RANGES_AT: usize = 132;
export const RING_RANGES_END: usize = 136;
/** The range in hand: bytes, offset (in its first page, or in the transfer buffer), ptr of its page numbers and how many. */
export const RING_RANGE_LENGTH: usize = 140;
export const RING_RANGE_OFFSET: usize = 144;
export const RING_RANGE_PFNS: usize = 148;
export const RING_RANGE_NPFNS: usize = 152;
/** Writer: refused for want of room; of these, right after an accepted write; 1 when the last write was refused. */
export const RING_FULL_TOTAL: usize = 160;
export const RING_FULL_FIRST: usize = 164;
export const RING_FULL_NOW: usize = 168;
export const RING_RECORD_BYTES: u32 = 192;

/** A data page: u64 gpa, u32 ptr relative to the record, u32 data offset up to which linear memory goes on without a gap. */
export const RING_PAGE_GPA: usize = 0;
export const RING_PAGE_DELTA: usize = 8;
export const RING_PAGE_RUN_END: usize = 12;
export const RING_PAGE_SHIFT: u32 = 4;

/** A gather entry: u32 ptr, u32 bytes. */
export const GATHER_PTR: usize = 0;
export const GATHER_LENGTH: usize = 4;
export const GATHER_BYTES: u32 = 8;

/** A packet of a burst: u32 kind (type, flags above bit 16), u32 ptr, u32 bytes, u32 0, u64 id. */
export const BURST_KIND: usize = 0;
export const BURST_PTR: usize = 4;
export const BURST_LENGTH: usize = 8;
export const BURST_ID: usize = 16;
export const BURST_BYTES: u32 = 24;

/** The requestor: lock, slots, first free slot, live ids, then the id that a completion found; u64 slots; a bitmap of live ids. */
export const REQUESTOR_LOCK: usize = 0;
export const REQUESTOR_SLOTS: usize = 4;
export const REQUESTOR_FREE: usize = 8;
export const REQUESTOR_LIVE: usize = 12;
export const REQUESTOR_FOUND: usize = 16;
export const REQUESTOR_HEADER_BYTES: u32 = 64;
export const REQUESTOR_MAX_SLOTS: u32 = 65536;
