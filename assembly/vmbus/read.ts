/** The consumer, straight into the caller's buffer: one packet, or a burst. */

import { moved, plainPut } from "../audit/hooks.ts";
import {
	FEATURE_PENDING_SEND,
	HEADER_FEATURES,
	HEADER_PENDING_SEND,
	HEADER_READ_INDEX,
	HEADER_WRITE_INDEX,
	INLINE_COPY_BYTES,
	PACKET_HEAD,
	PACKET_HEADER_BYTES,
	PACKET_ID,
	PACKET_TRAILER_BYTES,
	RING_AT,
	RING_BURST_BYTES,
	RING_CONSUMED,
	RING_CREDIT,
	RING_DATA_BYTES,
	RING_HEADER,
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
import { copy } from "../memory/copy.ts";
import { copyOut, herePtr, isOpen, recordOf, ringRefusal, wrappedPtr } from "./data.ts";
import { advance, bytesBefore, look, release, releaseWaiting } from "./look.ts";

/** Copies the packet that `look` found to `to` from byte `offset` on; a raw copy gets the checked header. */
function takeOut(record: usize, to: usize, bytes: u32, offset: u32): void {
	const at = load<u32>(record, RING_AT);
	if (at + bytes <= load<u32>(record, RING_RUN_END)) {
		const packet = herePtr(record, at);
		store<u64>(record, load<u64>(packet, PACKET_ID), RING_PACKET_ID);
		copy(to, packet + offset, bytes - offset);
	} else {
		store<u64>(record, load<u64>(wrappedPtr(record, at + u32(PACKET_ID))), RING_PACKET_ID);
		copyOut(record, at + offset, to, bytes - offset);
	}
	if (offset === 0) {
		store<u64>(to, load<u64>(record, RING_PACKET_HEAD));
		store<u64>(to, load<u64>(record, RING_PACKET_ID), PACKET_ID);
	}
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
	if ((load<u32>(record, RING_HELD) | load<u32>(record, RING_STOPPED)) !== 0) {
		advance(record, load<u32>(record, RING_HELD));
		if (load<u32>(record, RING_STOPPED) !== 0) return RING_EMPTY;
	}
	const at = load<u32>(record, RING_AT);
	// look, takeOut and release in short, for a packet with nothing wrong: a call costs as much as 64 bytes
	if (!COCO_THREADS && raw === 0 && load<u32>(record, RING_INDEX_MASK) === 0) {
		const header = record + load<u32>(record, RING_HEADER);
		const dataBytes = load<u32>(record, RING_DATA_BYTES);
		const write = load<u32>(header, HEADER_WRITE_INDEX);
		const consumed = write === load<u32>(record, RING_REMOTE) ? load<u32>(record, RING_CONSUMED) : 0;
		if (write < dataBytes && consumed < dataBytes) {
			const limit = min<u32>(bytesBefore(write, at, dataBytes), load<u32>(record, RING_MAX_PACKET));
			const packet = herePtr(record, at);
			const head = load<u64>(packet, PACKET_HEAD);
			const bytes = (u32(head >> 32) & 0xffff) << 3;
			const offset = (u32(head) >>> 16) << 3;
			const wanted = bytes - offset;
			const next = at + bytes + PACKET_TRAILER_BYTES;
			const holds = bytes <= limit && offset >= PACKET_HEADER_BYTES && offset <= bytes;
			if (holds && wanted >= 16 && wanted <= bufferBytes) {
				store<u64>(record, head, RING_PACKET_HEAD);
				if (next >= load<u32>(record, RING_RUN_END)) {
					store<u64>(record, load<u64>(wrappedPtr(record, at + u32(PACKET_ID))), RING_PACKET_ID);
					copyOut(record, at + offset, to, wanted);
					store<u64>(record, u64(write) | (u64(consumed) << 32), RING_REMOTE);
					advance(record, bytes + PACKET_TRAILER_BYTES);
					return i32(wanted << 1) | release(record);
				}
				store<u64>(record, load<u64>(packet, PACKET_ID), RING_PACKET_ID);
				let from = packet + offset;
				if (COCO_AUDIT) moved(to, from, wanted);
				if (wanted <= INLINE_COPY_BYTES) {
					const lastTo = to + wanted - 16;
					const last = v128.load(from + wanted - 16);
					for (; to < lastTo; to += 16) {
						v128.store(to, v128.load(from));
						from += 16;
					}
					v128.store(lastTo, last);
				} else memory.copy(to, from, wanted);
				// RING_REMOTE and RING_CONSUMED, RING_AT and RING_PUBLISHED: each two words side by side
				store<u64>(record, u64(write) | (u64(consumed + bytes + PACKET_TRAILER_BYTES) << 32), RING_REMOTE);
				const before = load<u32>(record, RING_PUBLISHED);
				store<u64>(record, u64(next) | (u64(next) << 32), RING_AT);
				store<u32>(header, next, HEADER_READ_INDEX);
				if (COCO_AUDIT) plainPut(header + HEADER_READ_INDEX, 4);
				const pending = load<u32>(header, HEADER_PENDING_SEND);
				if (pending === 0 || (load<u32>(header, HEADER_FEATURES) & FEATURE_PENDING_SEND) === 0) return i32(wanted << 1);
				return i32(wanted << 1) | releaseWaiting(record, before, pending);
			}
		}
	}
	const bytes = look(record);
	if (bytes < 0) return bytes;
	const offset = raw !== 0 ? 0 : (u32(load<u64>(record, RING_PACKET_HEAD)) >>> 16) << 3;
	const wanted = u32(bytes) - offset;
	if (wanted > bufferBytes) {
		store<u64>(record, load<u64>(wrappedPtr(record, at + u32(PACKET_ID))), RING_PACKET_ID);
		return RING_TOO_SMALL;
	}
	takeOut(record, to, u32(bytes), offset);
	advance(record, u32(bytes) + PACKET_TRAILER_BYTES);
	const signal = release(record);
	return signal < 0 ? signal : i32(wanted << 1) | signal;
}

/**
 * Takes up to `max` packets, each with its checked header, one behind the other into the caller's buffer, and publishes once.
 * @returns 2 * packets + 1 to signal the peer (RING_BURST_BYTES: bytes filled); or, when there is none, a status as ringRead
 */
export function ringReadBurst(ring: u32, to: usize, bufferBytes: u32, max: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	const record = recordOf(ring);
	const held = load<u32>(record, RING_HELD);
	if (held !== 0) advance(record, held);
	let filled: u32 = 0;
	let packets: u32 = 0;
	let status: i32 = RING_EMPTY;
	while (packets < max && load<u32>(record, RING_STOPPED) === 0) {
		const bytes = look(record);
		status = bytes < 0 ? bytes : u32(bytes) > bufferBytes - filled ? RING_TOO_SMALL : 0;
		if (status < 0) break;
		takeOut(record, to + filled, u32(bytes), 0);
		advance(record, u32(bytes) + PACKET_TRAILER_BYTES);
		filled += u32(bytes);
		if (++packets === max) break;
		const run = takeRun(record, to + filled, bufferBytes - filled, max - packets);
		packets += u32(run);
		filled += u32(run >> 32);
	}
	store<u32>(record, filled, RING_BURST_BYTES);
	if (packets === 0) return status;
	const signal = release(record);
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
		const bytes = (u32(head >> 32) & 0xffff) << 3;
		const offset = (u32(head) >>> 16) << 3;
		const total = bytes + PACKET_TRAILER_BYTES;
		if (total > available || bytes > most || bytes > bufferBytes - filled || at + total >= end) break;
		if (offset < PACKET_HEADER_BYTES || offset > bytes) break;
		store<u64>(to, head);
		store<u64>(to, load<u64>(packet, PACKET_ID), PACKET_ID);
		if (COCO_AUDIT) moved(to, packet, PACKET_HEADER_BYTES);
		const payload = bytes - PACKET_HEADER_BYTES;
		if (payload - 16 <= INLINE_COPY_BYTES - 16) {
			let from = packet + PACKET_HEADER_BYTES;
			let into = to + PACKET_HEADER_BYTES;
			const lastTo = into + payload - 16;
			if (COCO_AUDIT) moved(into, from, payload);
			const last = v128.load(from + payload - 16);
			for (; into < lastTo; into += 16) {
				v128.store(into, v128.load(from));
				from += 16;
			}
			v128.store(lastTo, last);
		} else copy(to + PACKET_HEADER_BYTES, packet + PACKET_HEADER_BYTES, payload);
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
