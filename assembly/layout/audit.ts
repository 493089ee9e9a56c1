/**
 * The audit's own memory, beside the context: a shadow byte for each byte of RAM, and a log. Only the build `engine.audit`
 * has it. RAM is known by its offset in the span, the stretch of linear memory from the first region's first byte to
 * the last one's last; `spans` below are such offsets.
 *
 *   0      header (AUDIT_HEADER_BYTES)
 *   ...    labels, AUDIT_LABELS records of LABEL_BYTES
 *   ...    page states, one byte a page of the span
 *   ...    bytes of private origin that each page ever got while it was shared, u32 a page
 *   ...    when each 2 KiB of the span was given back as a slot, f64
 *   ...    events, a ring of EVENT_RECORD_BYTES each
 *   ...    words, u16 for each 2 KiB of the span: the label of all their bytes, or MIXED
 *   ...    shadow, one byte a byte of the span: labels where the word says MIXED
 */
import { alignBlock, PAGE_SHIFT } from "./context.ts";
import { IO_TLB_SHIFT } from "./pool.ts";

/** Where in its record a field of type T lies (bytes). */
type At<_T> = usize;

/**
 * The header.
 *
 *   AUDIT_HEADER_BYTES 0..127
 *       0               4               8               12
 *     0 │ SPAN_PTR      │ SPAN_BYTES    │ STATES        │ FREED         │
 *    16 │ EVENTS        │ SHADOW        │ MAX_EVENTS    │ UNIFORM       │
 *    32 │ EVENT_COUNT                   │ NOW                           │
 *    48 │ PEN           │ ACTOR         │ MAPPING       │ MAPPINGS      │
 *    64 │ MUTATIONS     │               │ PAGE_BYTES    │               │
 *     …
 *   112 │                                                               │
 */
/** ptr of the span's first byte, and its length in bytes. */
export const AUDIT_SPAN_PTR: At<u32> = 0;
export const AUDIT_SPAN_BYTES: At<u32> = 4;
/** Where the parts lie, from the block's first byte. */
export const AUDIT_STATES: At<u32> = 8;
export const AUDIT_FREED: At<u32> = 12;
export const AUDIT_EVENTS: At<u32> = 16;
export const AUDIT_SHADOW: At<u32> = 20;
export const AUDIT_PAGE_BYTES: At<u32> = 72;
export const AUDIT_UNIFORM: At<u32> = 28;
/** Events that the ring holds, and events ever logged: u64. */
export const AUDIT_MAX_EVENTS: At<u32> = 24;
export const AUDIT_EVENT_COUNT: At<u64> = 32;
/** f64 that each event takes as its time; the caller sets it, in ns. */
export const AUDIT_NOW: At<f64> = 40;
/** The label of what the guest's CPU writes; 0: none on shared pages, LABEL_GUEST on others. */
export const AUDIT_PEN: At<u32> = 48;
/** Who reads and writes through ramRead and ramWrite: a device's number, or ACTOR_*. */
export const AUDIT_ACTOR: At<i32> = 52;
/** Number of the mapping that works now, 0: none; and mappings ever asked for. */
export const AUDIT_MAPPING: At<u32> = 56;
export const AUDIT_MAPPINGS: At<u32> = 60;
/** MUTATE_* bits: faults that a test plants. */
export const AUDIT_MUTATIONS: At<u32> = 64;
export const AUDIT_HEADER_BYTES: u32 = 128;

export const ACTOR_GUEST: i32 = -1;
export const ACTOR_PARAVISOR: i32 = -2;
export const ACTOR_HOST: i32 = -3;

/** A label: what a byte is. 0 stands for nothing known: zeros, noise, what was never secret. */
export const AUDIT_LABELS: u32 = 256;
/** What the guest's CPU, or its paravisor, wrote on pages that the host does not read, of no device known. */
export const LABEL_GUEST: u32 = 1;
/** Labels that callers make are LABEL_FIRST .. LABEL_HOST - 1. */
export const LABEL_FIRST: u32 = 2;
/** What the host wrote. */
export const LABEL_HOST: u32 = 255;
/** In the word of 2 KiB: their labels stand byte by byte in the shadow. */
export const MIXED: u32 = 0xffff;

/**
 * A label's record.
 *
 *   LABEL_BYTES 0..63
 *       0           4           8           12
 *     0 │ FLAGS     │ OWNER     │ SHARED_BYTES          │
 *    16 │ HIDDEN_BYTES          │ INITIAL_BYTES         │
 *    32 │ CONVERTED_BYTES       │ RESIDUE_BYTES         │
 *    48 │ RESIDUE_BYTE_NS       │ RESIDUE_MAX_NS        │
 */
export const LABEL_FLAGS: At<u32> = 0;
/** Number of the device whose data it is, or -1. */
export const LABEL_OWNER: At<i32> = 4;
/** u64: bytes ever put on shared pages, and on hidden ones. */
export const LABEL_SHARED_BYTES: At<u64> = 8;
export const LABEL_HIDDEN_BYTES: At<u64> = 16;
/** Of the first: by the copy that starts a FROM_DEVICE mapping, and by pages that became shared with their contents. */
export const LABEL_INITIAL_BYTES: At<u64> = 24;
export const LABEL_CONVERTED_BYTES: At<u64> = 32;
/** Of what stayed in freed slots and was overwritten there: bytes; f64: bytes times ns; f64: the longest (ns). */
export const LABEL_RESIDUE_BYTES: At<u64> = 40;
export const LABEL_RESIDUE_BYTE_NS: At<f64> = 48;
export const LABEL_RESIDUE_MAX_NS: At<f64> = 56;
export const LABEL_BYTES: u32 = 64;

/** LABEL_FLAGS: its bytes come from private memory, or from a device that reaches private memory. */
export const LABEL_PRIVATE: u32 = 1;
/** Whoever wrote it counts on its staying confidential. */
export const LABEL_SECRET: u32 = 2;
/** Its owner was accepted (an offer with confidential external memory, or TDISP in RUN) when the label was made. */
export const LABEL_ACCEPTED: u32 = 4;

/**
 * An event. KIND: one of EVENT_MAP ..; STATE: that of the first page concerned; LABEL: that of the first byte.
 *
 *   EVENT_RECORD_BYTES 0..63
 *       0                       4                       8                       12
 *     0 │ KIND│ DIR │STATE│LABEL│ DEVICE                │ MAPPING               │ STATUS                │
 *    16 │ TIME                                          │ TO                                            │
 *    32 │ FROM                                          │ LENGTH                │ ATTRS                 │
 *    48 │ SHARED_BYTES          │ HIDDEN_BYTES          │ ACCEPTED_BYTES        │ ACCEPTED_LABEL        │
 *       a ACCEPTED_LABEL
 */
export const EVENT_KIND: At<u8> = 0;
export const EVENT_DIR: At<u8> = 1;
export const EVENT_STATE: At<u8> = 2;
export const EVENT_LABEL: At<u8> = 3;
/** Device, or ACTOR_* of a read or write. */
export const EVENT_DEVICE: At<i32> = 4;
/** Number of the mapping that it belongs to, 0: none. */
export const EVENT_MAPPING: At<u32> = 8;
/** What the call answered, if that is a status. */
export const EVENT_STATUS: At<i32> = 12;
export const EVENT_TIME: At<f64> = 16;
/** f64. A copy, write, fill or conversion: where to, as a span offset. A map or take: the address that it answered. */
export const EVENT_TO: At<f64> = 24;
/** f64. A copy or read: where from, as a span offset; -1: from outside RAM. A map or take: the original's gpa. An unmap, sync or give: the address. */
export const EVENT_FROM: At<f64> = 32;
export const EVENT_LENGTH: At<u32> = 40;
/** Attributes of a map, unmap. */
export const EVENT_ATTRS: At<u32> = 44;
/** Bytes of private origin that it put on shared pages, and on hidden ones. */
export const EVENT_SHARED_BYTES: At<u32> = 48;
export const EVENT_HIDDEN_BYTES: At<u32> = 52;
/** Of EVENT_SHARED_BYTES: bytes of labels with LABEL_ACCEPTED; the first such label. */
export const EVENT_ACCEPTED_BYTES: At<u32> = 56;
export const EVENT_ACCEPTED_LABEL: At<u32> = 60;
export const EVENT_RECORD_BYTES: u32 = 64;

export const EVENT_MAP = 1;
export const EVENT_UNMAP = 2;
export const EVENT_SYNC_FOR_DEVICE = 3;
export const EVENT_SYNC_FOR_CPU = 4;
/** Inside RAM, by the engine. */
export const EVENT_COPY = 5;
/** From outside RAM, by EVENT_DEVICE; and to there. */
export const EVENT_WRITE = 6;
export const EVENT_READ = 7;
/** Bytes became one constant. */
export const EVENT_FILL = 8;
/** Pages changed their state. */
export const EVENT_CONVERT = 9;
/** Slots taken beside a device's map (swiotlb_alloc, swiotlb_tbl_map_single), and given back. */
export const EVENT_TAKE = 10;
export const EVENT_GIVE = 11;

/** MUTATE_*: a FROM_DEVICE mapping starts without the copy of its original. */
export const MUTATE_INITIAL_COPY: u32 = 1;
/** Copies do not take labels along. */
export const MUTATE_LABELS: u32 = 2;

/** Bytes of the audit's block. spanBytes: a multiple of 4096 */
export function auditBytes(spanBytes: u32, maxEvents: u32): u32 {
	return (
		AUDIT_HEADER_BYTES +
		AUDIT_LABELS * LABEL_BYTES +
		alignBlock(spanBytes >>> PAGE_SHIFT) +
		alignBlock((spanBytes >>> PAGE_SHIFT) << 2) +
		alignBlock((spanBytes >>> IO_TLB_SHIFT) << 3) +
		alignBlock(maxEvents * EVENT_RECORD_BYTES) +
		alignBlock((spanBytes >>> IO_TLB_SHIFT) << 1) +
		alignBlock(spanBytes)
	);
}
