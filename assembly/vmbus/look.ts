/**
 * The consumer's eyes: what lies next in a ring whose peer may write anything at any moment. Each word of the peer is read
 * once, checked, and used from the local. Linux 6.12 drivers/hv/ring_buffer.c, hv_pkt_iter_first and hv_pkt_iter_close.
 */

import {
	FEATURE_PENDING_SEND,
	HEADER_FEATURES,
	HEADER_PENDING_SEND,
	HEADER_READ_INDEX,
	HEADER_WRITE_INDEX,
	PACKET_HEAD,
	PACKET_HEADER_BYTES,
	PACKET_TYPES_KNOWN,
	PACKET_WANTS_COMPLETION,
	RING_AT,
	RING_CLAIM_LESS,
	RING_CLAIM_MOST,
	RING_CONSUMED,
	RING_CREDIT,
	RING_DATA_BYTES,
	RING_FLAGS,
	RING_HELD,
	RING_INDEX_MASK,
	RING_PACKET_HEAD,
	RING_PUBLISHED,
	RING_REMOTE,
	RING_RUN_END,
	RING_STOPPED,
	RING_STRICT,
} from "../layout/ring.ts";
import { RING_BAD_AVAILABLE, RING_BAD_FLAGS, RING_BAD_LENGTH, RING_BAD_TYPE, RING_EMPTY } from "../layout/status.ts";
import { freeBetween, herePtr, moveTo, ownWord, peerIndex, peerWord, ringShut } from "./data.ts";

/** The bits of a packet's first 8 bytes that hold offset8 and len8. */
const LENGTHS: u64 = 0x0000ffffffff0000;

/** Bytes between this end and `write`. */
export function bytesBefore(write: u32, at: u32, dataBytes: u32): u32 {
	return write >= at ? write - at : dataBytes - at + write;
}

/** The write index, read once. What was consumed counts anew when it has moved. @returns an index, or a status as u32 */
function freshWrite(record: usize): u32 {
	const write = peerIndex(record, HEADER_WRITE_INDEX);
	if (i32(write) >= 0 && write !== load<u32>(record, RING_REMOTE)) {
		store<u32>(record, write, RING_REMOTE);
		store<u32>(record, 0, RING_CONSUMED);
	}
	return write;
}

/** Bytes to read, by a fresh look at the write index. @returns bytes below the data's size, or a status as u32 */
export function freshAvailable(record: usize, at: u32, dataBytes: u32): u32 {
	const write = freshWrite(record);
	if (i32(write) < 0) return write;
	const available = dataBytes === 0 ? 0 : bytesBefore(write, at, dataBytes);
	if (COCO_THREADS) store<u32>(record, available, RING_CREDIT);
	return available;
}

/**
 * Looks at the next packet and leaves its first 8 bytes, with lengths that hold, in RING_PACKET_HEAD.
 * @returns its bytes without trailer, a multiple of 8 from 16; or RING_EMPTY; strict: a corruption status, the ring is closed
 */
export function look(record: usize): i32 {
	// lookClosely in short, for a packet with nothing wrong
	const at = load<u32>(record, RING_AT);
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	const mask = load<u32>(record, RING_INDEX_MASK);
	let available: u32 = 0;
	if (COCO_THREADS) available = load<u32>(record, RING_CREDIT);
	else {
		const write = peerWord(record, HEADER_WRITE_INDEX);
		if (write < dataBytes && (write & mask) === 0) {
			available = bytesBefore(write, at, dataBytes);
			if (write !== load<u32>(record, RING_REMOTE)) {
				store<u32>(record, write, RING_REMOTE);
				store<u32>(record, 0, RING_CONSUMED);
			}
		}
	}
	if (available >= PACKET_HEADER_BYTES && load<u32>(record, RING_CONSUMED) < dataBytes) {
		const head = load<u64>(herePtr(record, at), PACKET_HEAD);
		const bytes = (u32(head >> 32) & 0xffff) << 3;
		const offset = (u32(head) >>> 16) << 3;
		const limit = min<u32>(available, load<u32>(record, RING_CLAIM_MOST)) - load<u32>(record, RING_CLAIM_LESS);
		const holds = bytes <= limit && offset >= PACKET_HEADER_BYTES && offset <= bytes;
		if (holds && (mask === 0 || known(head))) {
			store<u64>(record, head, RING_PACKET_HEAD);
			return i32(bytes);
		}
	}
	return lookClosely(record);
}

/** Whether a packet's type and flags are among those of VMBus devices. */
function known(head: u64): bool {
	const type = u32(head) & 0xffff;
	return ((PACKET_TYPES_KNOWN >> min<u32>(type, 31)) & 1) !== 0 && u32(head >> 48) <= PACKET_WANTS_COMPLETION;
}

/** look, with everything that a peer can do wrong. */
function lookClosely(record: usize): i32 {
	const at = load<u32>(record, RING_AT);
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	const strict = (load<u32>(record, RING_FLAGS) & RING_STRICT) !== 0;
	// between workers, the bytes counted at the last look at the index serve while they hold the whole packet
	let fresh = COCO_THREADS === 0 || load<u32>(record, RING_CREDIT) < PACKET_HEADER_BYTES;
	let available = fresh ? freshAvailable(record, at, dataBytes) : load<u32>(record, RING_CREDIT);
	if (i32(available) < 0) return i32(available);
	if (available < PACKET_HEADER_BYTES) return tooFew(record, available, strict);
	if (load<u32>(record, RING_CONSUMED) >= dataBytes) {
		// more than the ring holds since the peer last wrote: a broken length has sent this end past the write index
		store<u32>(record, 1, RING_STOPPED);
		return RING_EMPTY;
	}
	const head = load<u64>(herePtr(record, at), PACKET_HEAD);
	let bytes = (u32(head >> 32) & 0xffff) << 3;
	let offset = (u32(head) >>> 16) << 3;
	let limit = claimLimit(record, available);
	if (COCO_THREADS && !fresh && (bytes < PACKET_HEADER_BYTES || bytes > limit)) {
		fresh = true;
		available = freshAvailable(record, at, dataBytes);
		if (i32(available) < 0) return i32(available);
		if (available < PACKET_HEADER_BYTES) return tooFew(record, available, strict);
		limit = claimLimit(record, available);
	}
	if (strict) {
		if (bytes < PACKET_HEADER_BYTES || bytes > limit || offset < PACKET_HEADER_BYTES || offset > bytes)
			return ringShut(record, RING_BAD_LENGTH);
		if (u32(head >> 48) <= PACKET_WANTS_COMPLETION && !known(head)) return ringShut(record, RING_BAD_TYPE);
		if (!known(head)) return ringShut(record, RING_BAD_FLAGS);
		store<u64>(record, head, RING_PACKET_HEAD);
		return i32(bytes);
	}
	if (bytes < PACKET_HEADER_BYTES || bytes > limit) bytes = limit & ~7;
	if (offset < PACKET_HEADER_BYTES || offset > bytes) offset = PACKET_HEADER_BYTES;
	store<u64>(record, (head & ~LENGTHS) | (u64((offset >> 3) << 16) | (u64(bytes >> 3) << 32)), RING_PACKET_HEAD);
	return i32(bytes);
}

/** Most bytes that a packet may claim. available: 16 or more */
function claimLimit(record: usize, available: u32): u32 {
	return min<u32>(available, load<u32>(record, RING_CLAIM_MOST)) - load<u32>(record, RING_CLAIM_LESS);
}

/** Less than a header: nothing there (Linux ignores 1 to 15 bytes), or corruption. */
function tooFew(record: usize, available: u32, strict: bool): i32 {
	if (available === 0) store<u32>(record, 0, RING_CONSUMED);
	return strict && available !== 0 ? ringShut(record, RING_BAD_AVAILABLE) : RING_EMPTY;
}

/** Moves this end behind a packet and its trailer. bytes: both */
export function advance(record: usize, bytes: u32): void {
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	const next = load<u32>(record, RING_AT) + bytes;
	if (next < load<u32>(record, RING_RUN_END)) store<u32>(record, next, RING_AT);
	else moveTo(record, next >= dataBytes ? next - dataBytes : next);
	store<u32>(record, load<u32>(record, RING_CONSUMED) + bytes, RING_CONSUMED);
	if (COCO_THREADS) {
		const credit = load<u32>(record, RING_CREDIT);
		store<u32>(record, credit > bytes ? credit - bytes : 0, RING_CREDIT);
	}
	store<u32>(record, 0, RING_HELD);
}

/**
 * Publishes the read index: everything consumed is free for the writer. Linux 6.12 drivers/hv/ring_buffer.c, hv_pkt_iter_close:
 * signal when the writer waits for room (feature bit, pending_send_sz), had too little before and has enough now.
 * @returns 1 to signal the peer, else 0; strict: RING_BAD_INDEX
 */
export function release(record: usize): i32 {
	const at = load<u32>(record, RING_AT);
	const before = load<u32>(record, RING_PUBLISHED);
	// nothing to say: a store would only take the header's line away from the writer
	if (at === before) return 0;
	store<u32>(record, at, RING_PUBLISHED);
	// the fence of this store: an index published after pending_send_sz was read could lose the writer's wake-up
	ownWord(record, HEADER_READ_INDEX, at);
	if ((peerWord(record, HEADER_FEATURES) & FEATURE_PENDING_SEND) === 0) return 0;
	const pending = peerWord(record, HEADER_PENDING_SEND);
	return pending === 0 ? 0 : releaseWaiting(record, before, pending);
}

/** Whether the read index just published ends the wait of a writer that needs more than `pending` bytes. */
export function releaseWaiting(record: usize, before: u32, pending: u32): i32 {
	const at = load<u32>(record, RING_AT);
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	// OpenVMM: some writers ask for one byte less than they need
	if ((load<u32>(record, RING_FLAGS) & RING_STRICT) !== 0) pending &= ~7;
	if (pending === 0) return 0;
	const write = peerIndex(record, HEADER_WRITE_INDEX);
	if (i32(write) < 0) return i32(write);
	const free = freeBetween(write, at, dataBytes);
	const freed = bytesBefore(at, before, dataBytes);
	return i32(free - freed <= pending && free > pending);
}
