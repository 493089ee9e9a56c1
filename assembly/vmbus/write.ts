import {
	HEADER_PENDING_SEND,
	HEADER_READ_INDEX,
	PACKET_HEADER_BYTES,
	PACKET_ID,
	PACKET_TRAILER_BYTES,
	PACKET_WANTS_COMPLETION,
	RING_AT,
	RING_DATA_BYTES,
	RING_FULL_NOW,
	RING_GIVEN_ID,
	RING_PUBLISHED,
	RING_REMOTE,
	RING_REQUESTOR,
	RING_RUN_END,
	TAG_WRITER,
} from "../layout/ring.ts";
import { OK } from "../layout/status.ts";
import { freeBetween, headerOf, herePtr, isOpen, ownWord, peerIndex, recordOf, ringRefusal } from "./data.ts";
import { padded } from "./packet.ts";
import { freeSeen, MAX_PAYLOAD, publish, publishNew, put } from "./put.ts";
import { requestEnd } from "./requestor.ts";
import { Steps } from "./steps.ts";

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

/** publishNew by number. */
export function ringPublish(ring: u32): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	return publishNew(recordOf(ring));
}

/**
 * ringPut, then ringPublish; a request id is given back when the channel was rescinded meanwhile.
 * @returns 1 to signal the peer, 0, or a status
 */
export function ringWrite(ring: u32, kind: u32, idLow: u32, idHigh: u32, ptr: usize, bytes: u32): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	const id = u64(idLow) | (u64(idHigh) << 32);
	// put and publish by their steps: most packets have no flags and fit, and two calls cost as much as 64 bytes
	if (kind >> 16 === 0) {
		if (bytes <= MAX_PAYLOAD) {
			const header = headerOf(record);
			const at = load<u32>(record, RING_AT);
			const length = PACKET_HEADER_BYTES + padded(bytes);
			const next = at + length + PACKET_TRAILER_BYTES;
			if (freeSeen(record, header, at) > length + PACKET_TRAILER_BYTES) {
				if (next < load<u32>(record, RING_RUN_END)) {
					const to = herePtr(record, at);
					store<u32>(record, 0, RING_FULL_NOW);
					Steps.layPacket(to, kind, 0, ptr, bytes);
					store<u64>(to, id, PACKET_ID);
					store<u64>(to + length, u64(at) << 32);
					return publish(record, header, load<u32>(record, RING_PUBLISHED), next);
				}
			}
		}
		return writeOther(record, kind, id, ptr, bytes);
	}
	return writeOther(record, kind, id, ptr, bytes);
}

/** ringWrite of any packet. Called from two places, so that the compiler leaves it out of line. */
function writeOther(record: usize, kind: u32, id: u64, ptr: usize, bytes: u32): i32 {
	const status = put(record, kind, id, ptr, bytes);
	if (status !== OK) return status;
	const signal = publishNew(record);
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
	ownWord(headerOf(record), HEADER_PENDING_SEND, bytes);
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
