/**
 * The producer. Linux 6.12 drivers/hv/ring_buffer.c, hv_ringbuffer_write, step for step: room, bytes, request id, trailer,
 * fence, write index, and only then whether to signal. One thread writes a ring; Linux takes a lock instead.
 */

import {
	BURST_BYTES,
	BURST_ID,
	BURST_KIND,
	BURST_LENGTH,
	BURST_PTR,
	GATHER_BYTES,
	GATHER_LENGTH,
	GATHER_PTR,
	HEADER_INTERRUPT_MASK,
	HEADER_PENDING_SEND,
	HEADER_READ_INDEX,
	HEADER_WRITE_INDEX,
	PACKET_GPA_DIRECT,
	PACKET_HEADER_BYTES,
	PACKET_ID,
	PACKET_MAX_BYTES,
	PACKET_RANGES,
	PACKET_TRAILER_BYTES,
	PACKET_TRANSFER_PAGES,
	PACKET_WANTS_COMPLETION,
	RANGE_HEAD_BYTES,
	RING_AT,
	RING_DATA_BYTES,
	RING_FLAGS,
	RING_FULL_FIRST,
	RING_FULL_NOW,
	RING_FULL_TOTAL,
	RING_HEADER,
	RING_INDEX_MASK,
	RING_MAX_PACKET,
	RING_PACKET_ID,
	RING_PUBLISHED,
	RING_REMOTE,
	RING_REQUESTOR,
	RING_RESERVED_AT,
	RING_RESERVED_BYTES,
	RING_RESERVED_PTR,
	RING_RUN_END,
	RING_STATE,
	RING_STRICT,
	RING_TAG,
	TAG_WRITER,
} from "../layout/ring.ts";
import {
	BAD_ARGUMENT,
	BAD_SIZE,
	OK,
	REQUESTOR_FULL,
	RING_FULL,
	RING_TOO_LARGE,
	RING_TOO_SMALL,
} from "../layout/status.ts";
import { copy, SMALL_COPY_BYTES } from "../memory/copy.ts";
import { requestEnd, requestTake } from "./requestor.ts";
import {
	bufferPtr,
	copyIn,
	dataPtr,
	freeBetween,
	herePtr,
	isOpen,
	moveTo,
	ownWord,
	pageEntry,
	peerIndex,
	peerWord,
	recordOf,
	ringRefusal,
	wrappedPtr,
} from "./ring.ts";

/** Largest payload of an in-band packet. */
const MAX_PAYLOAD: u32 = PACKET_MAX_BYTES - PACKET_HEADER_BYTES;
/** What Linux leaves in the id's place until it has one (VMBUS_RQST_ERROR). */
const NO_ID_YET: u64 = u64.MAX_VALUE - 1;

/** First 8 bytes of a packet. kind: type, flags above bit 16; bytes: header and payload, rounded up to 8 */
function headOf(kind: u32, offset8: u32, bytes: u32): u64 {
	return u64((kind & 0xffff) | (offset8 << 16)) | (u64(bytes >> 3) << 32) | (u64(kind & 0xffff0000) << 32);
}

/** Whether `total` bytes fit now. @returns OK, RING_FULL, or RING_TOO_LARGE and RING_BAD_INDEX (strict) */
function room(record: usize, total: u32): i32 {
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
function seal(record: usize, at: u32, end: u32, kind: u32, id: u64): i32 {
	if (kind >> 16 === PACKET_WANTS_COMPLETION && load<u32>(record, RING_REQUESTOR) !== 0) {
		// after the copy: from here on a completion may name the id
		const given = requestId(record, id);
		store<u64>(wrappedPtr(record, at + u32(PACKET_ID)), given === 0 ? NO_ID_YET : given);
		if (given === 0) return REQUESTOR_FULL;
		store<u64>(record, given, RING_PACKET_ID);
	} else store<u64>(wrappedPtr(record, at + u32(PACKET_ID)), id);
	store<u64>(wrappedPtr(record, end), u64(at) << 32);
	const next = end + PACKET_TRAILER_BYTES;
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	moveTo(record, next >= dataBytes ? next - dataBytes : next);
	return OK;
}

/** Zeroes up to the next multiple of 8. @returns that multiple */
function pad(record: usize, at: u32): u32 {
	while ((at & 7) !== 0) {
		store<u8>(dataPtr(record, pageEntry(record, at), at), 0);
		at++;
	}
	return at === load<u32>(record, RING_DATA_BYTES) ? 0 : at;
}

/**
 * Writes an in-band packet or a completion behind the write index without publishing it. All or nothing.
 * @param kind packet type, flags above bit 16
 * @param ptr payload in linear memory, `bytes` bytes, 0 .. 524264
 * @returns OK, RING_FULL, REQUESTOR_FULL, BAD_SIZE, BAD_RING and why a ring is closed, RING_TOO_LARGE and RING_BAD_INDEX (strict)
 */
export function ringPut(ring: u32, kind: u32, idLow: u32, idHigh: u32, ptr: usize, bytes: u32): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	return put(record, kind, u64(idLow) | (u64(idHigh) << 32), ptr, bytes);
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
	store<u64>(to, headOf(kind, PACKET_HEADER_BYTES >> 3, PACKET_HEADER_BYTES + padded));
	if (padded !== 0) {
		// the padding first, as a whole quadword: the payload then covers what is not padding
		store<u64>(to + (PACKET_TRAILER_BYTES + padded), 0);
		if (bytes - 16 <= SMALL_COPY_BYTES - 16) {
			// copy() in short, here because a call costs as much as these bytes; payload and ring do not overlap
			let payload = to + PACKET_HEADER_BYTES;
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
		store<u64>(record, given, RING_PACKET_ID);
	} else store<u64>(to, id, PACKET_ID);
	store<u64>(to + (PACKET_HEADER_BYTES + padded), u64(at) << 32);
	store<u32>(record, at + total, RING_AT);
	return OK;
}

/** put where the packet wraps, or crosses into a page that lies elsewhere. */
function putInPieces(record: usize, at: u32, kind: u32, id: u64, ptr: usize, bytes: u32): i32 {
	const padded = (bytes + 7) & ~7;
	const head = headOf(kind, PACKET_HEADER_BYTES >> 3, PACKET_HEADER_BYTES + padded);
	store<u64>(herePtr(record, at), head);
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

/** publish (above) by number. */
export function ringPublish(ring: u32): i32 {
	return isOpen(ring, TAG_WRITER) ? publish(recordOf(ring)) : ringRefusal(ring);
}

/**
 * ringPut, then ringPublish; a request id is given back when the channel was rescinded meanwhile.
 * @returns 1 to signal the peer, 0, or a status
 */
export function ringWrite(ring: u32, kind: u32, idLow: u32, idHigh: u32, ptr: usize, bytes: u32): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	const at = load<u32>(record, RING_AT);
	const padded = (bytes + 7) & ~7;
	const end = at + PACKET_HEADER_BYTES + padded;
	// put and publish in short, for the packet that is common: a call costs as much as 64 bytes. All else takes the calls below
	if (
		bytes - 16 <= MAX_PAYLOAD - 16 &&
		end + PACKET_TRAILER_BYTES < load<u32>(record, RING_RUN_END) &&
		kind >> 16 === 0
	) {
		const header = record + load<u32>(record, RING_HEADER);
		const dataBytes = load<u32>(record, RING_DATA_BYTES);
		const read = COCO_THREADS ? load<u32>(record, RING_REMOTE) : load<u32>(header, HEADER_READ_INDEX);
		const sane = read < dataBytes && (read & load<u32>(record, RING_INDEX_MASK)) === 0;
		if (sane && freeBetween(at, read, dataBytes) > end + PACKET_TRAILER_BYTES - at) {
			const to = herePtr(record, at);
			store<u64>(to, u64(kind | ((PACKET_HEADER_BYTES >> 3) << 16)) | (u64((PACKET_HEADER_BYTES + padded) >> 3) << 32));
			store<u64>(to + (PACKET_TRAILER_BYTES + padded), 0);
			let payload = to + PACKET_HEADER_BYTES;
			if (bytes <= SMALL_COPY_BYTES) {
				const lastTo = payload + bytes - 16;
				const last = v128.load(ptr + bytes - 16);
				for (; payload < lastTo; payload += 16) {
					v128.store(payload, v128.load(ptr));
					ptr += 16;
				}
				v128.store(lastTo, last);
			} else memory.copy(payload, ptr, bytes);
			store<u64>(to, u64(idLow) | (u64(idHigh) << 32), PACKET_ID);
			store<u64>(to + PACKET_HEADER_BYTES + padded, u64(at) << 32);
			store<u32>(record, 0, RING_FULL_NOW);
			const next = end + PACKET_TRAILER_BYTES;
			if (COCO_THREADS) {
				store<u32>(record, next, RING_AT);
				return publish(record);
			}
			const before = load<u32>(record, RING_PUBLISHED);
			// RING_AT and, next to it, RING_PUBLISHED
			store<u64>(record, u64(next) | (u64(next) << 32), RING_AT);
			store<u32>(header, next, HEADER_WRITE_INDEX);
			return i32(load<u32>(header, HEADER_READ_INDEX) === before) & i32(load<u32>(header, HEADER_INTERRUPT_MASK) === 0);
		}
	}
	const status = put(record, kind, u64(idLow) | (u64(idHigh) << 32), ptr, bytes);
	return status !== OK ? status : publishOrReclaim(record, kind);
}

function publishOrReclaim(record: usize, kind: u32): i32 {
	const signal = publish(record);
	if (signal < 0 && kind >> 16 === PACKET_WANTS_COMPLETION) {
		const requestor = load<u32>(record, RING_REQUESTOR);
		if (requestor !== 0) requestEnd(record + requestor, load<u64>(record, RING_PACKET_ID));
	}
	return signal;
}

/**
 * Writes up to `count` packets of a list (layout/ring.ts, BURST_*) and publishes once.
 * @returns 2 * packets written + 1 to signal the peer; or, when the first is refused, its status
 */
export function ringWriteBurst(ring: u32, list: usize, count: u32): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	let written: u32 = 0;
	let status: i32 = OK;
	for (; written < count; written++) {
		const entry = list + written * BURST_BYTES;
		const id = load<u64>(entry, BURST_ID);
		status = put(record, load<u32>(entry, BURST_KIND), id, load<u32>(entry, BURST_PTR), load<u32>(entry, BURST_LENGTH));
		if (status !== OK) break;
	}
	if (written === 0) return status;
	const signal = publish(record);
	return signal < 0 ? signal : i32(written << 1) | signal;
}

/** ringPut of a payload that lies in `count` pieces (layout/ring.ts, GATHER_*). */
export function ringPutGather(ring: u32, kind: u32, idLow: u32, idHigh: u32, list: usize, count: u32): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	let bytes: u64 = 0;
	for (let i: u32 = 0; i < count; i++) bytes += load<u32>(list + i * GATHER_BYTES, GATHER_LENGTH);
	if (bytes > MAX_PAYLOAD) return BAD_SIZE;
	const length = PACKET_HEADER_BYTES + ((u32(bytes) + 7) & ~7);
	const status = room(record, length + PACKET_TRAILER_BYTES);
	if (status !== OK) return status;
	const at = load<u32>(record, RING_AT);
	store<u64>(herePtr(record, at), headOf(kind, PACKET_HEADER_BYTES >> 3, length));
	let end = at + PACKET_HEADER_BYTES;
	for (let i: u32 = 0; i < count; i++) {
		const entry = list + i * GATHER_BYTES;
		end = copyIn(record, end, load<u32>(entry, GATHER_PTR), load<u32>(entry, GATHER_LENGTH));
	}
	return seal(record, at, pad(record, end), kind, u64(idLow) | (u64(idHigh) << 32));
}

/** Whether `count` GPA ranges fill exactly `bytes` bytes at `ranges`. */
function rangesFill(ranges: usize, bytes: u32, count: u32): bool {
	let at: u64 = 0;
	for (let i: u32 = 0; i < count; i++) {
		if (at + RANGE_HEAD_BYTES > bytes) return false;
		const length = load<u32>(ranges + u32(at));
		const offset = load<u32>(ranges + u32(at), 4);
		if (length === 0 || offset > 4095) return false;
		at += RANGE_HEAD_BYTES + (((u64(offset) + length + 4095) >> 12) << 3);
	}
	return at === u64(bytes);
}

/**
 * ringPut of a packet with ranges between header and payload: GPA-direct, or transfer pages.
 * @param kind PACKET_GPA_DIRECT or PACKET_TRANSFER_PAGES, flags above bit 16
 * @param third what stands at byte 16: 0 (GPA-direct); set id, and 65536 when the sender owns it (transfer pages)
 * @param ranges ptr of `rangesBytes` bytes as they go on the wire, which `count` ranges fill exactly
 * @returns as ringPut, or BAD_ARGUMENT
 */
export function ringPutRanges(
	ring: u32,
	kind: u32,
	idLow: u32,
	idHigh: u32,
	third: u32,
	ranges: usize,
	rangesBytes: u32,
	count: u32,
	ptr: usize,
	bytes: u32,
): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	if (rangesBytes > MAX_PAYLOAD || bytes > MAX_PAYLOAD) return BAD_SIZE;
	const offset = u32(PACKET_RANGES) + rangesBytes;
	const length = (offset + bytes + 7) & ~7;
	if (length > PACKET_MAX_BYTES) return BAD_SIZE;
	const type = kind & 0xffff;
	if (type === PACKET_GPA_DIRECT) {
		if (count === 0 || !rangesFill(ranges, rangesBytes, count)) return BAD_ARGUMENT;
	} else if (type !== PACKET_TRANSFER_PAGES || u64(count) * RANGE_HEAD_BYTES !== u64(rangesBytes)) return BAD_ARGUMENT;
	const status = room(record, length + PACKET_TRAILER_BYTES);
	if (status !== OK) return status;
	const at = load<u32>(record, RING_AT);
	store<u64>(herePtr(record, at), headOf(kind, offset >> 3, length));
	store<u64>(wrappedPtr(record, at + PACKET_HEADER_BYTES), u64(third) | (u64(count) << 32));
	let end = copyIn(record, at + u32(PACKET_RANGES), ranges, rangesBytes);
	end = copyIn(record, end, ptr, bytes);
	return seal(record, at, pad(record, end), kind, u64(idLow) | (u64(idHigh) << 32));
}

/**
 * Makes room for an in-band packet whose payload the caller builds in place, then commits. Any other write drops the reservation.
 * The payload's place is in the ring, or in the ring's private buffer when it would wrap or cross into a page elsewhere.
 * @returns ptr of `bytes` bytes, or a status as ringPut; RING_TOO_SMALL: the private buffer cannot hold it
 */
export function ringReserve(ring: u32, bytes: u32): f64 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	if (bytes > MAX_PAYLOAD) return BAD_SIZE;
	const total = PACKET_HEADER_BYTES + ((bytes + 7) & ~7) + PACKET_TRAILER_BYTES;
	const status = room(record, total);
	if (status !== OK) return status;
	const at = load<u32>(record, RING_AT);
	let place = bufferPtr(record, at + PACKET_HEADER_BYTES);
	if (at + PACKET_HEADER_BYTES + bytes <= load<u32>(record, RING_RUN_END)) {
		place = herePtr(record, at) + PACKET_HEADER_BYTES;
	} else if (bytes > load<u32>(record, RING_MAX_PACKET)) return RING_TOO_SMALL;
	store<u32>(record, at, RING_RESERVED_AT);
	store<u32>(record, bytes + 1, RING_RESERVED_BYTES);
	store<u32>(record, u32(place - record), RING_RESERVED_PTR);
	return f64(place);
}

/**
 * Ends a reservation: the packet as ringPut leaves it, not yet published.
 * @param bytes payload bytes, at most as many as reserved
 * @returns OK, REQUESTOR_FULL, or BAD_ARGUMENT without a reservation of that size
 */
export function ringCommit(ring: u32, kind: u32, idLow: u32, idHigh: u32, bytes: u32): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	const at = load<u32>(record, RING_AT);
	if (bytes >= load<u32>(record, RING_RESERVED_BYTES) || load<u32>(record, RING_RESERVED_AT) !== at)
		return BAD_ARGUMENT;
	store<u32>(record, 0, RING_RESERVED_BYTES);
	const length = PACKET_HEADER_BYTES + ((bytes + 7) & ~7);
	const place = record + load<u32>(record, RING_RESERVED_PTR);
	const head = herePtr(record, at);
	store<u64>(head, headOf(kind, PACKET_HEADER_BYTES >> 3, length));
	const payload = at + PACKET_HEADER_BYTES;
	let end = payload + bytes;
	if (place !== head + PACKET_HEADER_BYTES) end = copyIn(record, payload, place, bytes);
	return seal(record, at, pad(record, end), kind, u64(idLow) | (u64(idHigh) << 32));
}

/**
 * Tells the reader how much room this end waits for, then looks again: without that look a wake-up could be lost.
 * @param bytes as pending_send_sz holds it: the packet's bytes with trailer; 0 ends the wait
 * @returns 1 when more than `bytes` are free now, else 0
 */
export function ringSetPending(ring: u32, bytes: u32): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	ownWord(record, HEADER_PENDING_SEND, bytes);
	const free = ringFree(ring);
	return free < 0 ? free : i32(u32(free) > bytes);
}

/** Raw free bytes as this writer sees them now; a packet must leave one quadword of them. @returns bytes or a status */
export function ringFree(ring: u32): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	const read = peerIndex(record, HEADER_READ_INDEX);
	if (i32(read) < 0) return i32(read);
	store<u32>(record, read, RING_REMOTE);
	return i32(freeBetween(load<u32>(record, RING_AT), read, load<u32>(record, RING_DATA_BYTES)));
}
