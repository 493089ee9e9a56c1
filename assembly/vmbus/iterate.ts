/** The consumer, packet by packet: take the next, stop, go on, publish; and when to be woken. */

import {
	HEADER_INTERRUPT_MASK,
	PACKET_HEAD,
	PACKET_HEADER_BYTES,
	PACKET_ID,
	PACKET_TRAILER_BYTES,
	RING_AT,
	RING_CONSUMED,
	RING_CREDIT,
	RING_DATA_BYTES,
	RING_HELD,
	RING_MAX_PACKET,
	RING_PACKET_HEAD,
	RING_PACKET_ID,
	RING_PACKET_PTR,
	RING_RANGES_LEFT,
	RING_RUN_END,
	RING_STOPPED,
	TAG_READER,
} from "../layout/ring.ts";
import { RING_EMPTY, RING_TOO_SMALL } from "../layout/status.ts";
import { bufferPtr, copyOut, headerOf, herePtr, isOpen, ownWord, recordOf, ringRefusal } from "./data.ts";
import { freshAvailable } from "./look.ts";
import { claimedBytes, claimedOffset } from "./packet.ts";
import { ringRecord } from "./ring.ts";
import { releaseNew, Steps } from "./steps.ts";

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
	const at = Steps.consumeHeld(record);
	if (load<u32>(record, RING_STOPPED) !== 0) return RING_EMPTY;
	const head = Steps.look(record, at);
	if (head < 0) return i32(head);
	const bytes = claimedBytes(head);
	const linear = at + bytes <= load<u32>(record, RING_RUN_END);
	let packet = herePtr(record, at);
	if (!linear || inPlace === 0) {
		if (bytes > load<u32>(record, RING_MAX_PACKET)) return RING_TOO_SMALL;
		packet = bufferPtr(record, at);
		if (linear) Steps.copyPayload(packet, herePtr(record, at), bytes);
		else copyOut(record, at, packet, bytes);
		store<u64>(packet, load<u64>(record, RING_PACKET_HEAD), PACKET_HEAD);
	}
	store<u64>(record, load<u64>(packet, PACKET_ID), RING_PACKET_ID);
	store<u32>(record, u32(packet - record), RING_PACKET_PTR);
	store<u32>(record, 0, RING_RANGES_LEFT);
	store<u32>(record, bytes + PACKET_TRAILER_BYTES, RING_HELD);
	return i32(bytes) - i32(claimedOffset(head));
}

/** ptr of the packet that a reader has in hand, or 0. */
export function ringPacket(ring: u32): usize {
	const record = ringRecord(ring);
	return record === 0 ? 0 : record + load<u32>(record, RING_PACKET_PTR);
}

/** Consumes the packet in hand without looking at the next. @returns 0 or a status */
export function ringAdvance(ring: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	Steps.consumeHeld(recordOf(ring));
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

/** releaseNew by number. */
export function ringRelease(ring: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	return releaseNew(recordOf(ring), load<u32>(recordOf(ring), RING_AT));
}

/** Consumes the packet in hand and publishes the read index: ringAdvance and ringRelease in one call. @returns as ringRelease */
export function ringConsume(ring: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	const record = recordOf(ring);
	return releaseNew(record, Steps.consumeHeld(record));
}

/** Sets the interrupt mask: 1 while this end reads anyway. Linux 6.12 drivers/hv/ring_buffer.c, hv_begin_read. @returns 0 or a status */
export function ringMask(ring: u32, mask: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	ownWord(headerOf(recordOf(ring)), HEADER_INTERRUPT_MASK, mask);
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
