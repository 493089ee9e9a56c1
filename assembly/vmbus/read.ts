/**
 * The consumer. Linux 6.12 drivers/hv/ring_buffer.c, hv_pkt_iter_first .. hv_pkt_iter_close, for a peer that may write
 * anything at any moment: each word of the peer is read once, checked, and used from the local.
 */

import {
	FEATURE_PENDING_SEND,
	HEADER_FEATURES,
	HEADER_INTERRUPT_MASK,
	HEADER_PENDING_SEND,
	HEADER_READ_INDEX,
	HEADER_WRITE_INDEX,
	PACKET_HEADER_BYTES,
	PACKET_ID,
	PACKET_TRAILER_BYTES,
	PACKET_TYPES_KNOWN,
	PACKET_WANTS_COMPLETION,
	RING_AT,
	RING_BURST_BYTES,
	RING_CLAIM_LESS,
	RING_CLAIM_MOST,
	RING_CONSUMED,
	RING_CREDIT,
	RING_DATA_BYTES,
	RING_FLAGS,
	RING_HEADER,
	RING_HELD,
	RING_INDEX_MASK,
	RING_MAX_PACKET,
	RING_PACKET_HEAD,
	RING_PACKET_ID,
	RING_PACKET_PTR,
	RING_PUBLISHED,
	RING_RANGES_LEFT,
	RING_REMOTE,
	RING_RUN_END,
	RING_STOPPED,
	RING_STRICT,
	TAG_READER,
} from "../layout/ring.ts";
import {
	BAD_SIZE,
	RING_BAD_AVAILABLE,
	RING_BAD_FLAGS,
	RING_BAD_LENGTH,
	RING_BAD_TYPE,
	RING_EMPTY,
	RING_TOO_SMALL,
} from "../layout/status.ts";
import { copy, SMALL_COPY_BYTES } from "../memory/copy.ts";
import {
	bufferPtr,
	copyOut,
	freeBetween,
	herePtr,
	isOpen,
	moveTo,
	ownWord,
	peerIndex,
	peerWord,
	recordOf,
	ringRefusal,
	ringShut,
	wrappedPtr,
} from "./ring.ts";

/** The bits of a packet's first 8 bytes that hold offset8 and len8. */
const LENGTHS: u64 = 0x0000ffffffff0000;

/** Bytes between this end and `write`. */
function bytesBefore(write: u32, at: u32, dataBytes: u32): u32 {
	return write >= at ? write - at : dataBytes - at + write;
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
function freshAvailable(record: usize, at: u32, dataBytes: u32): u32 {
	const write = freshWrite(record);
	if (i32(write) < 0) return write;
	const available = dataBytes === 0 ? 0 : bytesBefore(write, at, dataBytes);
	if (COCO_THREADS) store<u32>(record, available, RING_CREDIT);
	return available;
}

/**
 * Looks at the next packet and leaves its first 8 bytes, with lengths that hold, in RING_PACKET_HEAD.
 * @returns its bytes without trailer, a multiple of 8 from 16; or RING_EMPTY; strict: a corruption status, the ring is closed
 */
function look(record: usize): i32 {
	// lookClosely in short, for a packet with nothing wrong
	const at = load<u32>(record, RING_AT);
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	const mask = load<u32>(record, RING_INDEX_MASK);
	let available: u32 = 0;
	if (COCO_THREADS) available = load<u32>(record, RING_CREDIT);
	else {
		const write = peerWord(record, HEADER_WRITE_INDEX);
		if (write < dataBytes && (write & mask) === 0) {
			available = bytesBefore(write, at, dataBytes);
			if (write !== load<u32>(record, RING_REMOTE)) {
				store<u32>(record, write, RING_REMOTE);
				store<u32>(record, 0, RING_CONSUMED);
			}
		}
	}
	if (available >= PACKET_HEADER_BYTES && load<u32>(record, RING_CONSUMED) < dataBytes) {
		const head = load<u64>(herePtr(record, at));
		const bytes = (u32(head >> 32) & 0xffff) << 3;
		const offset = (u32(head) >>> 16) << 3;
		const limit = min<u32>(available, load<u32>(record, RING_CLAIM_MOST)) - load<u32>(record, RING_CLAIM_LESS);
		const holds = bytes <= limit && offset >= PACKET_HEADER_BYTES && offset <= bytes;
		if (holds && (mask === 0 || known(head))) {
			store<u64>(record, head, RING_PACKET_HEAD);
			return i32(bytes);
		}
	}
	return lookClosely(record);
}

/** Whether a packet's type and flags are among those of VMBus devices. */
function known(head: u64): bool {
	const type = u32(head) & 0xffff;
	return ((PACKET_TYPES_KNOWN >> min<u32>(type, 31)) & 1) !== 0 && u32(head >> 48) <= PACKET_WANTS_COMPLETION;
}

/** look, with everything that a peer can do wrong. */
function lookClosely(record: usize): i32 {
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
	const head = load<u64>(herePtr(record, at));
	let bytes = (u32(head >> 32) & 0xffff) << 3;
	let offset = (u32(head) >>> 16) << 3;
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
		return i32(bytes);
	}
	if (bytes < PACKET_HEADER_BYTES || bytes > limit) bytes = limit & ~7;
	if (offset < PACKET_HEADER_BYTES || offset > bytes) offset = PACKET_HEADER_BYTES;
	store<u64>(record, (head & ~LENGTHS) | (u64((offset >> 3) << 16) | (u64(bytes >> 3) << 32)), RING_PACKET_HEAD);
	return i32(bytes);
}

/** Most bytes that a packet may claim. available: 16 or more */
function claimLimit(record: usize, available: u32): u32 {
	return min<u32>(available, load<u32>(record, RING_CLAIM_MOST)) - load<u32>(record, RING_CLAIM_LESS);
}

/** Less than a header: nothing there (Linux ignores 1 to 15 bytes), or corruption. */
function tooFew(record: usize, available: u32, strict: bool): i32 {
	if (available === 0) store<u32>(record, 0, RING_CONSUMED);
	return strict && available !== 0 ? ringShut(record, RING_BAD_AVAILABLE) : RING_EMPTY;
}

/** Moves this end behind a packet and its trailer. bytes: both */
function advance(record: usize, bytes: u32): void {
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	const next = load<u32>(record, RING_AT) + bytes;
	if (next < load<u32>(record, RING_RUN_END)) store<u32>(record, next, RING_AT);
	else moveTo(record, next >= dataBytes ? next - dataBytes : next);
	store<u32>(record, load<u32>(record, RING_CONSUMED) + bytes, RING_CONSUMED);
	if (COCO_THREADS) {
		const credit = load<u32>(record, RING_CREDIT);
		store<u32>(record, credit > bytes ? credit - bytes : 0, RING_CREDIT);
	}
	store<u32>(record, 0, RING_HELD);
}

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
	if (held !== 0) advance(record, held);
	if (load<u32>(record, RING_STOPPED) !== 0) return RING_EMPTY;
	const bytes = look(record);
	if (bytes < 0) return bytes;
	const at = load<u32>(record, RING_AT);
	const linear = at + u32(bytes) <= load<u32>(record, RING_RUN_END);
	let packet = bufferPtr(record, at);
	if (linear && inPlace !== 0) packet = herePtr(record, at);
	else {
		if (u32(bytes) > load<u32>(record, RING_MAX_PACKET)) return RING_TOO_SMALL;
		if (!linear) copyOut(record, at, packet, u32(bytes));
		else if (u32(bytes) > SMALL_COPY_BYTES) memory.copy(packet, herePtr(record, at), u32(bytes));
		else copy(packet, herePtr(record, at), u32(bytes));
		store<u64>(packet, load<u64>(record, RING_PACKET_HEAD));
	}
	store<u64>(record, load<u64>(packet, PACKET_ID), RING_PACKET_ID);
	store<u32>(record, u32(packet - record), RING_PACKET_PTR);
	store<u32>(record, 0, RING_RANGES_LEFT);
	store<u32>(record, u32(bytes) + PACKET_TRAILER_BYTES, RING_HELD);
	return bytes - i32((u32(load<u64>(record, RING_PACKET_HEAD)) >>> 16) << 3);
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

/**
 * Publishes the read index: everything consumed is free for the writer. Linux 6.12 drivers/hv/ring_buffer.c, hv_pkt_iter_close:
 * signal when the writer waits for room (feature bit, pending_send_sz), had too little before and has enough now.
 * @returns 1 to signal the peer, else 0; strict: RING_BAD_INDEX
 */
function release(record: usize): i32 {
	const at = load<u32>(record, RING_AT);
	const before = load<u32>(record, RING_PUBLISHED);
	store<u32>(record, at, RING_PUBLISHED);
	// the fence of this store: an index published after pending_send_sz was read could lose the writer's wake-up
	ownWord(record, HEADER_READ_INDEX, at);
	if ((peerWord(record, HEADER_FEATURES) & FEATURE_PENDING_SEND) === 0) return 0;
	const pending = peerWord(record, HEADER_PENDING_SEND);
	return pending === 0 ? 0 : releaseWaiting(record, before, pending);
}

/** Whether the read index just published ends the wait of a writer that needs more than `pending` bytes. */
function releaseWaiting(record: usize, before: u32, pending: u32): i32 {
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

/** release (above) by number. */
export function ringRelease(ring: u32): i32 {
	return isOpen(ring, TAG_READER) ? release(recordOf(ring)) : ringRefusal(ring);
}

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
	if (load<u64>(record, RING_HELD) !== 0) {
		advance(record, load<u32>(record, RING_HELD));
		if (load<u32>(record, RING_STOPPED) !== 0) return RING_EMPTY;
	}
	const at = load<u32>(record, RING_AT);
	// look, takeOut and release in short, for a packet with nothing wrong in one piece: a call costs as much as 64 bytes
	if (!COCO_THREADS && raw === 0 && load<u32>(record, RING_INDEX_MASK) === 0) {
		const header = record + load<u32>(record, RING_HEADER);
		const dataBytes = load<u32>(record, RING_DATA_BYTES);
		const write = load<u32>(header, HEADER_WRITE_INDEX);
		const consumed = write === load<u32>(record, RING_REMOTE) ? load<u32>(record, RING_CONSUMED) : 0;
		if (write < dataBytes && consumed < dataBytes) {
			const limit = min<u32>(bytesBefore(write, at, dataBytes), load<u32>(record, RING_MAX_PACKET));
			const packet = herePtr(record, at);
			const head = load<u64>(packet);
			const bytes = (u32(head >> 32) & 0xffff) << 3;
			const offset = (u32(head) >>> 16) << 3;
			const wanted = bytes - offset;
			const next = at + bytes + PACKET_TRAILER_BYTES;
			const holds = bytes <= limit && offset >= PACKET_HEADER_BYTES && offset <= bytes;
			if (holds && wanted >= 16 && wanted <= bufferBytes && next < load<u32>(record, RING_RUN_END)) {
				store<u64>(record, head, RING_PACKET_HEAD);
				store<u64>(record, load<u64>(packet, PACKET_ID), RING_PACKET_ID);
				let from = packet + offset;
				if (wanted <= SMALL_COPY_BYTES) {
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
		packets++;
	}
	store<u32>(record, filled, RING_BURST_BYTES);
	if (packets === 0) return status;
	const signal = release(record);
	return signal < 0 ? signal : i32(packets << 1) | signal;
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
