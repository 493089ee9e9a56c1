/** The producer: in-band packets and completions, one by one or in bursts, and waiting for room. */

import { moved, plainPut } from "../audit/hooks.ts";
import {
	HEADER_INTERRUPT_MASK,
	HEADER_PENDING_SEND,
	HEADER_READ_INDEX,
	HEADER_WRITE_INDEX,
	INLINE_COPY_BYTES,
	PACKET_HEADER_BYTES,
	PACKET_ID,
	PACKET_TRAILER_BYTES,
	PACKET_WANTS_COMPLETION,
	RING_AT,
	RING_DATA_BYTES,
	RING_FULL_NOW,
	RING_GIVEN_ID,
	RING_HEADER,
	RING_INDEX_MASK,
	RING_PUBLISHED,
	RING_REMOTE,
	RING_REQUESTOR,
	RING_RUN_END,
	TAG_WRITER,
} from "../layout/ring.ts";
import { OK } from "../layout/status.ts";
import { freeBetween, herePtr, isOpen, ownWord, peerIndex, recordOf, ringRefusal } from "./data.ts";
import { MAX_PAYLOAD, publish, put, putInPieces } from "./put.ts";
import { requestEnd } from "./requestor.ts";

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
	if (bytes - 16 <= MAX_PAYLOAD - 16 && kind >> 16 === 0) {
		const header = record + load<u32>(record, RING_HEADER);
		const dataBytes = load<u32>(record, RING_DATA_BYTES);
		const read = COCO_THREADS ? load<u32>(record, RING_REMOTE) : load<u32>(header, HEADER_READ_INDEX);
		const sane = read < dataBytes && (read & load<u32>(record, RING_INDEX_MASK)) === 0;
		if (sane && freeBetween(at, read, dataBytes) > end + PACKET_TRAILER_BYTES - at) {
			store<u32>(record, 0, RING_FULL_NOW);
			const next = end + PACKET_TRAILER_BYTES;
			if (next >= load<u32>(record, RING_RUN_END)) {
				putInPieces(record, at, kind, u64(idLow) | (u64(idHigh) << 32), ptr, bytes);
				return publish(record);
			}
			const to = herePtr(record, at);
			store<u64>(to, u64(kind | ((PACKET_HEADER_BYTES >> 3) << 16)) | (u64((PACKET_HEADER_BYTES + padded) >> 3) << 32));
			store<u64>(to + (PACKET_TRAILER_BYTES + padded), 0);
			let payload = to + PACKET_HEADER_BYTES;
			if (COCO_AUDIT) plainPut(to, PACKET_HEADER_BYTES + padded + PACKET_TRAILER_BYTES);
			if (COCO_AUDIT) moved(payload, ptr, bytes);
			if (bytes <= INLINE_COPY_BYTES) {
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
			if (COCO_THREADS) {
				store<u32>(record, next, RING_AT);
				return publish(record);
			}
			const before = load<u32>(record, RING_PUBLISHED);
			// RING_AT and, next to it, RING_PUBLISHED
			store<u64>(record, u64(next) | (u64(next) << 32), RING_AT);
			store<u32>(header, next, HEADER_WRITE_INDEX);
			if (COCO_AUDIT) plainPut(header + HEADER_WRITE_INDEX, 4);
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
		if (requestor !== 0) requestEnd(record + requestor, load<u64>(record, RING_GIVEN_ID));
	}
	return signal;
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
