/** The consumer, straight into the caller's buffer: one packet, or a burst. */

import { moved } from "../audit/hooks.ts";
import {
	PACKET_HEAD,
	PACKET_HEADER_BYTES,
	PACKET_ID,
	PACKET_TRAILER_BYTES,
	RING_AT,
	RING_BURST_BYTES,
	RING_CONSUMED,
	RING_CREDIT,
	RING_DATA_BYTES,
	RING_HELD,
	RING_INDEX_MASK,
	RING_MAX_PACKET,
	RING_PACKET_HEAD,
	RING_PACKET_ID,
	RING_PUBLISHED,
	RING_REMOTE,
	RING_RUN_END,
	RING_STOPPED,
	TAG_READER,
} from "../layout/ring.ts";
import { BAD_SIZE, RING_EMPTY, RING_TOO_SMALL } from "../layout/status.ts";
import { copyOut, headerOf, herePtr, isOpen, recordOf, ringRefusal, wrappedPtr } from "./data.ts";
import { advance, bytesBefore, countConsumed } from "./look.ts";
import { claimedBytes, claimedOffset, claimsHold } from "./packet.ts";
import { releaseNew, Steps } from "./steps.ts";

/**
 * Takes the packet that look found at data offset `at` out. The caller moves this end behind it, or releases.
 * @param head what look answered
 * @param raw header and payload, with checked lengths; else the payload alone
 * @returns the next data offset
 */
function takeOut(record: usize, at: u32, to: usize, head: u64, raw: bool): u32 {
	const bytes = claimedBytes(head);
	const offset = raw ? PACKET_HEADER_BYTES : claimedOffset(head);
	const next = at + bytes + PACKET_TRAILER_BYTES;
	const linear = next < load<u32>(record, RING_RUN_END);
	keepId(record, at);
	if (raw) {
		store<u64>(to, load<u64>(record, RING_PACKET_HEAD), PACKET_HEAD);
		store<u64>(to, load<u64>(record, RING_PACKET_ID), PACKET_ID);
		to += PACKET_HEADER_BYTES;
	}
	if (linear) Steps.copyPayload(to, herePtr(record, at) + offset, bytes - offset);
	else copyOut(record, at + offset, to, bytes - offset);
	return advance(record, at, bytes + PACKET_TRAILER_BYTES);
}

/** Keeps the id of the packet at data offset `at`. */
function keepId(record: usize, at: u32): void {
	store<u64>(record, load<u64>(wrappedPtr(record, at + u32(PACKET_ID))), RING_PACKET_ID);
}

/**
 * Takes the next packet straight into the caller's buffer and publishes. Linux 6.12 drivers/hv/ring_buffer.c, hv_ringbuffer_read.
 * @param raw 0: the payload; 1: header and payload, with checked lengths
 * @param bufferBytes room at `to`
 * @returns 2 * bytes copied + 1 to signal the peer; or RING_EMPTY, RING_TOO_SMALL (RING_PACKET_HEAD tells the length; the packet
 *   stays), BAD_SIZE (no buffer), or a status as ringNext
 */
export function ringRead(ring: u32, raw: i32, to: usize, bufferBytes: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	const record = recordOf(ring);
	if (bufferBytes === 0) return BAD_SIZE;
	// the steps of readOther: most packets are well and lie in one piece, and four calls cost as much as 128 bytes
	if ((load<u32>(record, RING_HELD) | load<u32>(record, RING_STOPPED) | u32(raw)) === 0) {
		const header = headerOf(record);
		const at = load<u32>(record, RING_AT);
		const head = Steps.peek(record, header, at);
		const bytes = claimedBytes(head);
		const wanted = bytes - claimedOffset(head);
		const next = at + bytes + PACKET_TRAILER_BYTES;
		if (head !== 0) {
			if (wanted <= bufferBytes) {
				if (next < load<u32>(record, RING_RUN_END)) {
					const packet = herePtr(record, at);
					store<u64>(record, load<u64>(packet, PACKET_ID), RING_PACKET_ID);
					Steps.copyPayload(to, packet + claimedOffset(head), wanted);
					countConsumed(record, bytes + PACKET_TRAILER_BYTES);
					const signal = Steps.release(record, header, load<u32>(record, RING_PUBLISHED), next);
					return signal < 0 ? signal : i32(wanted << 1) | signal;
				}
				return takeAndRelease(record, at, to, head, false);
			}
		}
	}
	return readOther(record, raw !== 0, to, bufferBytes);
}

/** ringRead of any packet. */
function readOther(record: usize, raw: bool, to: usize, bufferBytes: u32): i32 {
	const at = Steps.consumeHeld(record);
	if (load<u32>(record, RING_STOPPED) !== 0) return RING_EMPTY;
	const head = Steps.look(record, at);
	if (head < 0) return i32(head);
	const wanted = raw ? claimedBytes(head) : claimedBytes(head) - claimedOffset(head);
	if (wanted > bufferBytes) {
		keepId(record, at);
		return RING_TOO_SMALL;
	}
	return takeAndRelease(record, at, to, head, raw);
}

/** takeOut, then release. @returns as ringRead */
function takeAndRelease(record: usize, at: u32, to: usize, head: u64, raw: bool): i32 {
	const signal = releaseNew(record, takeOut(record, at, to, head, raw));
	const taken = raw ? claimedBytes(head) : claimedBytes(head) - claimedOffset(head);
	return signal < 0 ? signal : i32(taken << 1) | signal;
}

/**
 * Takes up to `max` packets, each with its checked header, one behind the other into the caller's buffer, and publishes once.
 * @returns 2 * packets + 1 to signal the peer (RING_BURST_BYTES: bytes filled); or, when there is none, a status as ringRead
 */
export function ringReadBurst(ring: u32, to: usize, bufferBytes: u32, max: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	const record = recordOf(ring);
	let at = Steps.consumeHeld(record);
	let filled: u32 = 0;
	let packets: u32 = 0;
	let status: i32 = RING_EMPTY;
	while (packets < max && load<u32>(record, RING_STOPPED) === 0) {
		const head = Steps.look(record, at);
		const bytes = claimedBytes(head);
		status = head < 0 ? i32(head) : bytes > bufferBytes - filled ? RING_TOO_SMALL : 0;
		if (status < 0) break;
		at = takeOut(record, at, to + filled, head, true);
		filled += bytes;
		if (++packets === max) break;
		const run = takeRun(record, to + filled, bufferBytes - filled, max - packets);
		packets += u32(run);
		filled += u32(run >> 32);
		at = load<u32>(record, RING_AT);
	}
	store<u32>(record, filled, RING_BURST_BYTES);
	if (packets === 0) return status;
	const signal = releaseNew(record, at);
	return signal < 0 ? signal : i32(packets << 1) | signal;
}

/**
 * Takes the packets that follow, as long as nothing is wrong with them, all lies in one piece and the bytes counted at the last look
 * hold them; the record is read and written once for all of them. Clamp only: strict looks at every packet.
 * @returns packets in the low half, bytes filled in the high half
 */
function takeRun(record: usize, to: usize, bufferBytes: u32, max: u32): u64 {
	if (load<u32>(record, RING_INDEX_MASK) !== 0) return 0;
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	const most = load<u32>(record, RING_MAX_PACKET);
	const end = load<u32>(record, RING_RUN_END);
	const base = herePtr(record, 0);
	let at = load<u32>(record, RING_AT);
	let consumed = load<u32>(record, RING_CONSUMED);
	let available = COCO_THREADS
		? load<u32>(record, RING_CREDIT)
		: bytesBefore(load<u32>(record, RING_REMOTE), at, dataBytes);
	let filled: u32 = 0;
	let packets: u32 = 0;
	while (packets < max && consumed < dataBytes) {
		const packet = base + at;
		const head = load<u64>(packet, PACKET_HEAD);
		const bytes = claimedBytes(head);
		const total = bytes + PACKET_TRAILER_BYTES;
		if (total > available || bytes > bufferBytes - filled || at + total >= end || !claimsHold(head, most)) break;
		store<u64>(to, head, PACKET_HEAD);
		store<u64>(to, load<u64>(packet, PACKET_ID), PACKET_ID);
		if (COCO_AUDIT) moved(to, packet, PACKET_HEADER_BYTES);
		Steps.copyPayload(to + PACKET_HEADER_BYTES, packet + PACKET_HEADER_BYTES, bytes - PACKET_HEADER_BYTES);
		to += bytes;
		filled += bytes;
		at += total;
		available -= total;
		consumed += total;
		packets++;
	}
	store<u32>(record, at, RING_AT);
	store<u32>(record, consumed, RING_CONSUMED);
	if (COCO_THREADS) store<u32>(record, available, RING_CREDIT);
	return u64(packets) | (u64(filled) << 32);
}
