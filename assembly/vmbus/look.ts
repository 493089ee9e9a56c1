/**
 * The consumer's eyes: what lies next in a ring whose peer may write anything at any moment. Each word of the peer is read
 * once, checked, and used from the local. Linux 6.12 drivers/hv/ring_buffer.c, hv_pkt_iter_first and hv_pkt_iter_close.
 */

import {
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
	RING_PACKET_HEAD,
	RING_REMOTE,
	RING_RUN_END,
	RING_STOPPED,
	RING_STRICT,
} from "../layout/ring.ts";
import { RING_BAD_AVAILABLE, RING_BAD_FLAGS, RING_BAD_LENGTH, RING_BAD_TYPE, RING_EMPTY } from "../layout/status.ts";
import { freeBetween, herePtr, moveTo, peerIndex, ringShut } from "./data.ts";
import { claimedBytes, claimedOffset, withoutFlags } from "./packet.ts";

/** The bits of a packet's first 8 bytes that hold offset8 and len8. */
const LENGTHS: u64 = 0x0000ffffffff0000;

/** Bytes between this end and `write`. */
export function bytesBefore(write: u32, at: u32, dataBytes: u32): u32 {
	return write - at + (write >= at ? 0 : dataBytes);
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

/** Whether a packet's type and flags are among those of VMBus devices. */
export function known(head: u64): bool {
	const type = u32(head) & 0xffff;
	return ((PACKET_TYPES_KNOWN >> min<u32>(type, 31)) & 1) !== 0 && u32(head >> 48) <= PACKET_WANTS_COMPLETION;
}

/** look, with everything that a peer can do wrong. */
export function lookClosely(record: usize): i64 {
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
	let bytes = claimedBytes(head);
	let offset = claimedOffset(head);
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
		return withoutFlags(head);
	}
	if (bytes < PACKET_HEADER_BYTES || bytes > limit) bytes = limit & ~7;
	if (offset < PACKET_HEADER_BYTES || offset > bytes) offset = PACKET_HEADER_BYTES;
	const checked = (head & ~LENGTHS) | (u64((offset >> 3) << 16) | (u64(bytes >> 3) << 32));
	store<u64>(record, checked, RING_PACKET_HEAD);
	return withoutFlags(checked);
}

/** Most bytes that a packet may claim. available: 16 or more */
export function claimLimit(record: usize, available: u32): u32 {
	return min<u32>(available, load<u32>(record, RING_CLAIM_MOST)) - load<u32>(record, RING_CLAIM_LESS);
}

/** Less than a header: nothing there (Linux ignores 1 to 15 bytes), or corruption. */
function tooFew(record: usize, available: u32, strict: bool): i32 {
	if (available === 0) store<u32>(record, 0, RING_CONSUMED);
	return strict && available !== 0 ? ringShut(record, RING_BAD_AVAILABLE) : RING_EMPTY;
}

/** Counts bytes that this end has consumed. */
export function countConsumed(record: usize, bytes: u32): void {
	store<u32>(record, load<u32>(record, RING_CONSUMED) + bytes, RING_CONSUMED);
	if (COCO_THREADS) {
		const credit = load<u32>(record, RING_CREDIT);
		store<u32>(record, credit > bytes ? credit - bytes : 0, RING_CREDIT);
	}
}

/** Moves this end from data offset `at` behind a packet and its trailer. bytes: both @returns the next data offset */
export function advance(record: usize, at: u32, bytes: u32): u32 {
	countConsumed(record, bytes);
	const next = at + bytes;
	if (next >= load<u32>(record, RING_RUN_END)) return moveOn(record, next);
	store<u32>(record, next, RING_AT);
	return next;
}

/** Moves this end to data offset `next`, which may lie behind the end of its run, or of the data. @returns the data offset */
function moveOn(record: usize, next: u32): u32 {
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	const index = next >= dataBytes ? next - dataBytes : next;
	moveTo(record, index);
	return index;
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
