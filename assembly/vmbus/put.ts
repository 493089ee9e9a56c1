/**
 * The producer's steps in Linux's order (6.12 drivers/hv/ring_buffer.c, hv_ringbuffer_write): room, bytes, request id, trailer,
 * fence, write index, and only then whether to signal. One thread writes a ring; Linux takes a lock instead.
 */

import { moved, plainPut } from "../audit/hooks.ts";
import {
	HEADER_INTERRUPT_MASK,
	HEADER_READ_INDEX,
	HEADER_WRITE_INDEX,
	INLINE_COPY_BYTES,
	PACKET_HEADER_BYTES,
	PACKET_ID,
	PACKET_MAX_BYTES,
	PACKET_TRAILER_BYTES,
	PACKET_WANTS_COMPLETION,
	RING_AT,
	RING_DATA_BYTES,
	RING_FLAGS,
	RING_FULL_FIRST,
	RING_FULL_NOW,
	RING_FULL_TOTAL,
	RING_GIVEN_ID,
	RING_INDEX_MASK,
	RING_PUBLISHED,
	RING_REMOTE,
	RING_REQUESTOR,
	RING_RUN_END,
	RING_STATE,
	RING_STRICT,
	RING_TAG,
	TAG_WRITER,
} from "../layout/ring.ts";
import { BAD_SIZE, OK, REQUESTOR_FULL, RING_FULL, RING_TOO_LARGE } from "../layout/status.ts";
import { copy } from "../memory/copy.ts";
import {
	copyIn,
	dataPtr,
	freeBetween,
	herePtr,
	moveTo,
	ownWord,
	pageEntry,
	peerIndex,
	peerWord,
	wrappedPtr,
} from "./data.ts";
import { requestTake } from "./requestor.ts";

/** Largest payload of an in-band packet. */
export const MAX_PAYLOAD: u32 = PACKET_MAX_BYTES - PACKET_HEADER_BYTES;

/** What Linux leaves in the id's place until it has one (VMBUS_RQST_ERROR). */
const NO_ID_YET: u64 = u64.MAX_VALUE - 1;

/** First 8 bytes of a packet. kind: type, flags above bit 16; bytes: header and payload, rounded up to 8 */
export function headOf(kind: u32, offset8: u32, bytes: u32): u64 {
	return u64((kind & 0xffff) | (offset8 << 16)) | (u64(bytes >> 3) << 32) | (u64(kind & 0xffff0000) << 32);
}

/** Whether `total` bytes fit now. @returns OK, RING_FULL, or RING_TOO_LARGE and RING_BAD_INDEX (strict) */
export function room(record: usize, total: u32): i32 {
	const at = load<u32>(record, RING_AT);
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	if (COCO_THREADS) {
		// the peer's index only moves towards more room, so the one read last will do until it says full
		if (freeBetween(at, load<u32>(record, RING_REMOTE), dataBytes) > total) return accepted(record);
	}
	const read = peerIndex(record, HEADER_READ_INDEX);
	if (i32(read) < 0) return i32(read);
	store<u32>(record, read, RING_REMOTE);
	if (freeBetween(at, read, dataBytes) > total) return accepted(record);
	if ((load<u32>(record, RING_FLAGS) & RING_STRICT) !== 0 && total + 8 > dataBytes) return RING_TOO_LARGE;
	return refused(record);
}

function accepted(record: usize): i32 {
	store<u32>(record, 0, RING_FULL_NOW);
	return OK;
}

function refused(record: usize): i32 {
	store<u32>(record, load<u32>(record, RING_FULL_TOTAL) + 1, RING_FULL_TOTAL);
	if (load<u32>(record, RING_FULL_NOW) === 0) {
		store<u32>(record, load<u32>(record, RING_FULL_FIRST) + 1, RING_FULL_FIRST);
		store<u32>(record, 1, RING_FULL_NOW);
	}
	return RING_FULL;
}

/** Takes a request id for the sender's value. Only with a requestor. @returns 0 when all are live */
function requestId(record: usize, value: u64): u64 {
	return requestTake(record + load<u32>(record, RING_REQUESTOR), value);
}

/** Puts id and trailer behind the copied bytes and moves this end's index on. end: data offset of the trailer */
export function seal(record: usize, at: u32, end: u32, kind: u32, id: u64): i32 {
	if (COCO_AUDIT) plainPut(wrappedPtr(record, at + u32(PACKET_ID)), 8);
	if (COCO_AUDIT) plainPut(wrappedPtr(record, end), PACKET_TRAILER_BYTES);
	if (kind >> 16 === PACKET_WANTS_COMPLETION && load<u32>(record, RING_REQUESTOR) !== 0) {
		// after the copy: from here on a completion may name the id
		const given = requestId(record, id);
		store<u64>(wrappedPtr(record, at + u32(PACKET_ID)), given === 0 ? NO_ID_YET : given);
		if (given === 0) return REQUESTOR_FULL;
		store<u64>(record, given, RING_GIVEN_ID);
	} else store<u64>(wrappedPtr(record, at + u32(PACKET_ID)), id);
	store<u64>(wrappedPtr(record, end), u64(at) << 32);
	const next = end + PACKET_TRAILER_BYTES;
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	moveTo(record, next >= dataBytes ? next - dataBytes : next);
	return OK;
}

/** Zeroes up to the next multiple of 8. @returns that multiple */
export function pad(record: usize, at: u32): u32 {
	while ((at & 7) !== 0) {
		store<u8>(dataPtr(record, pageEntry(record, at), at), 0);
		if (COCO_AUDIT) plainPut(dataPtr(record, pageEntry(record, at), at), 1);
		at++;
	}
	return at === load<u32>(record, RING_DATA_BYTES) ? 0 : at;
}

/** ringPut on a record. */
export function put(record: usize, kind: u32, id: u64, ptr: usize, bytes: u32): i32 {
	if (bytes > MAX_PAYLOAD) return BAD_SIZE;
	const padded = (bytes + 7) & ~7;
	const total = PACKET_HEADER_BYTES + padded + PACKET_TRAILER_BYTES;
	const at = load<u32>(record, RING_AT);
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	// room() in short: between workers the index read last serves until it says full
	const read = COCO_THREADS ? load<u32>(record, RING_REMOTE) : peerWord(record, HEADER_READ_INDEX);
	const sane = read < dataBytes && (read & load<u32>(record, RING_INDEX_MASK)) === 0;
	if (sane && freeBetween(at, read, dataBytes) > total) store<u32>(record, 0, RING_FULL_NOW);
	else {
		const status = room(record, total);
		if (status !== OK) return status;
	}
	if (at + total >= load<u32>(record, RING_RUN_END)) return putInPieces(record, at, kind, id, ptr, bytes);

	const to = herePtr(record, at);
	if (COCO_AUDIT) plainPut(to, total);
	store<u64>(to, headOf(kind, PACKET_HEADER_BYTES >> 3, PACKET_HEADER_BYTES + padded));
	if (padded !== 0) {
		// the padding first, as a whole quadword: the payload then covers what is not padding
		store<u64>(to + (PACKET_TRAILER_BYTES + padded), 0);
		if (bytes - 16 <= INLINE_COPY_BYTES - 16) {
			// copy() in short, here because a call costs as much as these bytes; payload and ring do not overlap
			let payload = to + PACKET_HEADER_BYTES;
			if (COCO_AUDIT) moved(payload, ptr, bytes);
			const end = payload + bytes - 16;
			let from = ptr;
			const last = v128.load(from + bytes - 16);
			while (payload < end) {
				v128.store(payload, v128.load(from));
				payload += 16;
				from += 16;
			}
			v128.store(end, last);
		} else copy(to + PACKET_HEADER_BYTES, ptr, bytes);
	}
	if (kind >> 16 === PACKET_WANTS_COMPLETION && load<u32>(record, RING_REQUESTOR) !== 0) {
		const given = requestId(record, id);
		store<u64>(to, given === 0 ? NO_ID_YET : given, PACKET_ID);
		if (given === 0) return REQUESTOR_FULL;
		store<u64>(record, given, RING_GIVEN_ID);
	} else store<u64>(to, id, PACKET_ID);
	store<u64>(to + (PACKET_HEADER_BYTES + padded), u64(at) << 32);
	store<u32>(record, at + total, RING_AT);
	return OK;
}

/** put where the packet wraps, or crosses into a page that lies elsewhere. */
export function putInPieces(record: usize, at: u32, kind: u32, id: u64, ptr: usize, bytes: u32): i32 {
	const padded = (bytes + 7) & ~7;
	const head = headOf(kind, PACKET_HEADER_BYTES >> 3, PACKET_HEADER_BYTES + padded);
	store<u64>(herePtr(record, at), head);
	if (COCO_AUDIT) plainPut(herePtr(record, at), 8);
	const end = copyIn(record, at + PACKET_HEADER_BYTES, ptr, bytes);
	return seal(record, at, pad(record, end), kind, id);
}

/**
 * Publishes what was put: one store of the write index and one decision for all of it.
 * Linux 6.12 drivers/hv/ring_buffer.c, hv_signal_on_write: signal when the ring was empty before and is not masked.
 * @returns 1 to signal the peer, else 0; RING_RESCINDED when the channel was taken away meanwhile (the bytes are published)
 */
export function publish(record: usize): i32 {
	const before = load<u32>(record, RING_PUBLISHED);
	const at = load<u32>(record, RING_AT);
	if (at === before) return 0;
	store<u32>(record, at, RING_PUBLISHED);
	ownWord(record, HEADER_WRITE_INDEX, at);
	let signal: i32 = 0;
	if (peerWord(record, HEADER_INTERRUPT_MASK) === 0) signal = i32(peerWord(record, HEADER_READ_INDEX) === before);
	if (COCO_THREADS && atomic.load<u32>(record, RING_TAG) !== TAG_WRITER) return load<i32>(record, RING_STATE);
	return signal;
}
