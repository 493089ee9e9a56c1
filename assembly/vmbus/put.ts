/**
 * The producer's steps in Linux's order (6.12 drivers/hv/ring_buffer.c, hv_ringbuffer_write): room, bytes, request id, trailer,
 * fence, write index, and only then whether to signal. One thread writes a ring; Linux takes a lock instead.
 */

import { plainPut } from "../audit/hooks.ts";
import {
	HEADER_INTERRUPT_MASK,
	HEADER_READ_INDEX,
	HEADER_WRITE_INDEX,
	PACKET_HEAD,
	PACKET_HEADER_BYTES,
	PACKET_ID,
	PACKET_MAX_BYTES,
	PACKET_TRAILER_BYTES,
	RING_AT,
	RING_DATA_BYTES,
	RING_FLAGS,
	RING_FULL_FIRST,
	RING_FULL_NOW,
	RING_FULL_TOTAL,
	RING_INDEX_MASK,
	RING_PUBLISHED,
	RING_REMOTE,
	RING_RUN_END,
	RING_STATE,
	RING_STRICT,
	RING_TAG,
	TAG_WRITER,
} from "../layout/ring.ts";
import { BAD_SIZE, OK, REQUESTOR_FULL, RING_FULL, RING_TOO_LARGE } from "../layout/status.ts";
import {
	copyIn,
	dataPtr,
	freeBetween,
	headerOf,
	herePtr,
	moveTo,
	ownWord,
	pageEntry,
	peerIndex,
	peerWord,
	wrappedPtr,
} from "./data.ts";
import { headOf, padded } from "./packet.ts";
import { Steps } from "./steps.ts";

/** Largest payload of an in-band packet. */
export const MAX_PAYLOAD: u32 = PACKET_MAX_BYTES - PACKET_HEADER_BYTES;

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

/** Puts id and trailer behind the copied bytes and moves this end's index on. end: data offset of the trailer */
export function seal(record: usize, at: u32, end: u32, flags: u32, id: u64): i32 {
	if (COCO_AUDIT) plainPut(wrappedPtr(record, at + u32(PACKET_ID)), 8);
	if (COCO_AUDIT) plainPut(wrappedPtr(record, end), PACKET_TRAILER_BYTES);
	if (!Steps.putId(record, wrappedPtr(record, at + u32(PACKET_ID)), flags, id)) return REQUESTOR_FULL;
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

/**
 * Free bytes by the peer's index as it stands (between workers: as it was read last); 0 where it is no index or says full, and
 * room has to be asked.
 */
export function freeSeen(record: usize, header: usize, at: u32): u32 {
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	const read = COCO_THREADS ? load<u32>(record, RING_REMOTE) : peerWord(header, HEADER_READ_INDEX);
	const wrong = u32(read >= dataBytes) | (read & load<u32>(record, RING_INDEX_MASK));
	return select<u32>(freeBetween(at, read, dataBytes), 0, wrong === 0);
}

/** ringPut on a record. */
export function put(record: usize, kind: u32, id: u64, ptr: usize, bytes: u32): i32 {
	if (bytes > MAX_PAYLOAD) return BAD_SIZE;
	const at = load<u32>(record, RING_AT);
	const length = PACKET_HEADER_BYTES + padded(bytes);
	const total = length + PACKET_TRAILER_BYTES;
	if (freeSeen(record, headerOf(record), at) > total) store<u32>(record, 0, RING_FULL_NOW);
	else {
		const status = room(record, total);
		if (status !== OK) return status;
	}
	if (at + total >= load<u32>(record, RING_RUN_END)) return putInPieces(record, kind, id, ptr, bytes);
	const to = herePtr(record, at);
	Steps.layPacket(to, kind & 0xffff, kind >> 16, ptr, bytes);
	if (!Steps.putId(record, to + PACKET_ID, kind >> 16, id)) return REQUESTOR_FULL;
	store<u64>(to + length, u64(at) << 32);
	store<u32>(record, at + total, RING_AT);
	return OK;
}

/** put where the packet wraps, or crosses into a page that lies elsewhere. */
function putInPieces(record: usize, kind: u32, id: u64, ptr: usize, bytes: u32): i32 {
	const at = load<u32>(record, RING_AT);
	const head = headOf(kind & 0xffff, kind >> 16, PACKET_HEADER_BYTES >> 3, PACKET_HEADER_BYTES + padded(bytes));
	store<u64>(herePtr(record, at), head, PACKET_HEAD);
	if (COCO_AUDIT) plainPut(herePtr(record, at), 8);
	const end = copyIn(record, at + PACKET_HEADER_BYTES, ptr, bytes);
	return seal(record, at, pad(record, end), kind >> 16, id);
}

/**
 * Publishes what was put, up to data offset `at`: one store of the write index and one decision for all of it.
 * Linux 6.12 drivers/hv/ring_buffer.c, hv_signal_on_write: signal when the ring was empty before and is not masked.
 * @param before the index as it was published last, another one
 * @returns 1 to signal the peer, else 0; RING_RESCINDED when the channel was taken away meanwhile (the bytes are published)
 */
export function publish(record: usize, header: usize, before: u32, at: u32): i32 {
	// RING_AT and, next to it, RING_PUBLISHED
	store<u64>(record, u64(at) | (u64(at) << 32), RING_AT);
	ownWord(header, HEADER_WRITE_INDEX, at);
	const unmasked = i32(peerWord(header, HEADER_INTERRUPT_MASK) === 0);
	const signal = unmasked & i32(peerWord(header, HEADER_READ_INDEX) === before);
	if (COCO_THREADS && atomic.load<u32>(record, RING_TAG) !== TAG_WRITER) return load<i32>(record, RING_STATE);
	return signal;
}

/** publish, if there is anything new. */
export function publishNew(record: usize): i32 {
	const before = load<u32>(record, RING_PUBLISHED);
	const at = load<u32>(record, RING_AT);
	return at === before ? 0 : publish(record, headerOf(record), before, at);
}
