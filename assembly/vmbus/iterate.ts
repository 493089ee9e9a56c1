/** The consumer, packet by packet: take the next, stop, go on, publish; and when to be woken. */

import { moved } from "../audit/hooks.ts";
import {
	HEADER_INTERRUPT_MASK,
	HEADER_WRITE_INDEX,
	INLINE_COPY_BYTES,
	PACKET_HEAD,
	PACKET_HEADER_BYTES,
	PACKET_ID,
	PACKET_TRAILER_BYTES,
	RING_AT,
	RING_CONSUMED,
	RING_CREDIT,
	RING_DATA_BYTES,
	RING_HELD,
	RING_INDEX_MASK,
	RING_MAX_PACKET,
	RING_PACKET_HEAD,
	RING_PACKET_ID,
	RING_PACKET_PTR,
	RING_RANGES_LEFT,
	RING_REMOTE,
	RING_RUN_END,
	RING_STOPPED,
	TAG_READER,
} from "../layout/ring.ts";
import { RING_EMPTY, RING_TOO_SMALL } from "../layout/status.ts";
import { copy } from "../memory/copy.ts";
import { bufferPtr, copyOut, herePtr, isOpen, ownWord, peerWord, recordOf, ringRefusal } from "./data.ts";
import { advance, bytesBefore, freshAvailable, look, release } from "./look.ts";
import { ringRecord } from "./ring.ts";

/**
 * Consumes the packet in hand, if there is one, and takes the next. Nothing is published: ringRelease does that.
 * @param inPlace 0: the packet is copied to the private buffer, lengths patched in the copy, and stays as it was read.
 *   1: it stays in the ring unless it wraps or crosses into a page elsewhere; the peer can still change its payload
 * @returns payload bytes, 0 or more (the rest is in the record: RING_PACKET_*), or RING_EMPTY, RING_TOO_SMALL (strict: longer
 *   than the private buffer), BAD_RING or why the ring is closed; strict: a corruption status
 */
export function ringNext(ring: u32, inPlace: i32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	const record = recordOf(ring);
	const held = load<u32>(record, RING_HELD);
	const end = load<u32>(record, RING_RUN_END);
	let at = load<u32>(record, RING_AT) + held;
	let packet: usize = 0;
	let bytes: u32 = 0;
	// advance and look in short, for a packet that stays in place with nothing wrong; nothing is stored before that is certain
	if (inPlace !== 0 && at < end && (load<u32>(record, RING_INDEX_MASK) | load<u32>(record, RING_STOPPED)) === 0) {
		const dataBytes = load<u32>(record, RING_DATA_BYTES);
		const remote = load<u32>(record, RING_REMOTE);
		const write = COCO_THREADS ? remote : peerWord(record, HEADER_WRITE_INDEX);
		const consumed = write === remote ? load<u32>(record, RING_CONSUMED) + held : 0;
		if (write < dataBytes && consumed < dataBytes) {
			const credit = load<u32>(record, RING_CREDIT);
			const left: u32 = credit > held ? credit - held : 0;
			const available = COCO_THREADS ? left : bytesBefore(write, at, dataBytes);
			const head = load<u64>(herePtr(record, at), PACKET_HEAD);
			bytes = (u32(head >> 32) & 0xffff) << 3;
			const offset = (u32(head) >>> 16) << 3;
			const limit = min<u32>(available, load<u32>(record, RING_MAX_PACKET));
			if (bytes <= limit && offset >= PACKET_HEADER_BYTES && offset <= bytes && at + bytes < end) {
				packet = herePtr(record, at);
				store<u64>(record, head, RING_PACKET_HEAD);
				store<u32>(record, at, RING_AT);
				// RING_REMOTE and, next to it, RING_CONSUMED
				store<u64>(record, u64(write) | (u64(consumed) << 32), RING_REMOTE);
				if (COCO_THREADS) store<u32>(record, left, RING_CREDIT);
			}
		}
	}
	if (packet === 0) {
		if (held !== 0) advance(record, held);
		if (load<u32>(record, RING_STOPPED) !== 0) return RING_EMPTY;
		const found = look(record);
		if (found < 0) return found;
		bytes = u32(found);
		at = load<u32>(record, RING_AT);
		const linear = at + bytes <= load<u32>(record, RING_RUN_END);
		if (linear && inPlace !== 0) packet = herePtr(record, at);
		else {
			if (bytes > load<u32>(record, RING_MAX_PACKET)) return RING_TOO_SMALL;
			packet = bufferPtr(record, at);
			if (!linear) copyOut(record, at, packet, bytes);
			else if (bytes > INLINE_COPY_BYTES) {
				memory.copy(packet, herePtr(record, at), bytes);
				if (COCO_AUDIT) moved(packet, herePtr(record, at), bytes);
			} else copy(packet, herePtr(record, at), bytes);
			store<u64>(packet, load<u64>(record, RING_PACKET_HEAD));
		}
	}
	store<u64>(record, load<u64>(packet, PACKET_ID), RING_PACKET_ID);
	store<u32>(record, u32(packet - record), RING_PACKET_PTR);
	store<u32>(record, 0, RING_RANGES_LEFT);
	store<u32>(record, bytes + PACKET_TRAILER_BYTES, RING_HELD);
	return i32(bytes) - i32((u32(load<u64>(record, RING_PACKET_HEAD)) >>> 16) << 3);
}

/** ptr of the packet that a reader has in hand, or 0. */
export function ringPacket(ring: u32): usize {
	const record = ringRecord(ring);
	return record === 0 ? 0 : record + load<u32>(record, RING_PACKET_PTR);
}

/** Consumes the packet in hand without looking at the next. @returns 0 or a status */
export function ringAdvance(ring: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	const record = recordOf(ring);
	const held = load<u32>(record, RING_HELD);
	if (held !== 0) advance(record, held);
	return 0;
}

/** Lets a reader that stopped on a broken peer go on, as Linux would. @returns 0 or a status */
export function ringResume(ring: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	const record = recordOf(ring);
	store<u32>(record, 0, RING_STOPPED);
	store<u32>(record, 0, RING_CONSUMED);
	return 0;
}

/** release (above) by number. */
export function ringRelease(ring: u32): i32 {
	return isOpen(ring, TAG_READER) ? release(recordOf(ring)) : ringRefusal(ring);
}

/** Consumes the packet in hand and publishes the read index: ringAdvance and ringRelease in one call. @returns as ringRelease */
export function ringConsume(ring: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	const record = recordOf(ring);
	const held = load<u32>(record, RING_HELD);
	if (held !== 0) advance(record, held);
	return release(record);
}

/** Sets the interrupt mask: 1 while this end reads anyway. Linux 6.12 drivers/hv/ring_buffer.c, hv_begin_read. @returns 0 or a status */
export function ringMask(ring: u32, mask: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	const record = recordOf(ring);
	ownWord(record, HEADER_INTERRUPT_MASK, mask);
	return 0;
}

/**
 * Clears the mask, then looks again: without that look a wake-up could be lost. Linux 6.12 drivers/hv/ring_buffer.c, hv_end_read.
 * Differs from Linux: 1 to 15 bytes, or a reader that stopped, answer 0, where Linux would reschedule for ever.
 * @returns bytes to read, 0 when the ring may sleep, or a status
 */
export function ringEndRead(ring: u32): i32 {
	const status = ringMask(ring, 0);
	return status < 0 ? status : ringAvailable(ring);
}

/** Bytes that this end may read now, trailers included; 0 for less than a header or a stopped reader. @returns bytes or a status */
export function ringAvailable(ring: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	const record = recordOf(ring);
	if (load<u32>(record, RING_STOPPED) !== 0) return 0;
	const held = load<u32>(record, RING_HELD);
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	let at = load<u32>(record, RING_AT) + held;
	if (at >= dataBytes) at -= dataBytes;
	const available = freshAvailable(record, at, dataBytes);
	if (COCO_THREADS && held !== 0) store<u32>(record, 0, RING_CREDIT);
	return i32(available) >= 0 && available < PACKET_HEADER_BYTES ? 0 : i32(available);
}
