/**
 * The steps that each packet takes, written once and inlined wherever a packet takes them: with calls in their place every row of
 * `bench ring` up to 1 KiB is 1.1 to 1.4 times as slow. asc inlines by a decorator, and a method's is one that every parser takes.
 * Conditions nest: of `a && b` in an inlined function V8 makes a value and tests it again, which is one more step in ten.
 */

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
	PACKET_TRAILER_BYTES,
	PACKET_WANTS_COMPLETION,
	RING_AT,
	RING_CONSUMED,
	RING_CREDIT,
	RING_DATA_BYTES,
	RING_GIVEN_ID,
	RING_HELD,
	RING_INDEX_MASK,
	RING_PACKET_HEAD,
	RING_PUBLISHED,
	RING_REMOTE,
	RING_REQUESTOR,
} from "../layout/ring.ts";
import { copy } from "../memory/copy.ts";
import { headerOf, herePtr, ownWord, peerWord } from "./data.ts";
import { advance, bytesBefore, claimLimit, known, lookClosely, releaseWaiting } from "./look.ts";
import { claimsHold, headOf, padded, withoutFlags } from "./packet.ts";
import { requestTake } from "./requestor.ts";

/** What Linux leaves in the id's place until it has one (VMBUS_RQST_ERROR). */
const NO_ID_YET: u64 = u64.MAX_VALUE - 1;

// biome-ignore lint/complexity/noStaticOnlyClass: a namespace whose members asc inlines
export abstract class Steps {
	/**
	 * Copies n bytes between a ring and a buffer that does not overlap it. Up to INLINE_COPY_BYTES a vector loop: the ring is
	 * cache-hot, and a call of memory.copy costs as much.
	 */
	@inline static copyPayload(to: usize, from: usize, n: u32): void {
		if (n - 16 > INLINE_COPY_BYTES - 16) {
			copy(to, from, n);
			return;
		}
		if (COCO_AUDIT) moved(to, from, n);
		const end = to + n - 16;
		const last = v128.load(from + n - 16);
		for (; to < end; to += 16) {
			v128.store(to, v128.load(from));
			from += 16;
		}
		v128.store(end, last);
	}

	/** Lays an in-band packet down at `to`, where all of it lies side by side: its head and payload, not yet its id and trailer. */
	@inline static layPacket(to: usize, type: u32, flags: u32, ptr: usize, bytes: u32): void {
		const length = PACKET_HEADER_BYTES + padded(bytes);
		if (COCO_AUDIT) plainPut(to, length + PACKET_TRAILER_BYTES);
		store<u64>(to, headOf(type, flags, PACKET_HEADER_BYTES >> 3, length), PACKET_HEAD);
		// the padding first, as a whole quadword: the payload then covers what is not padding, or without one the id does
		store<u64>(to + length - 8, 0);
		Steps.copyPayload(to + PACKET_HEADER_BYTES, ptr, bytes);
	}

	/**
	 * Puts a packet's id in its place: the sender's, or one of the requestor's that stands for it. It comes after the copy: from
	 * here on a completion may name it. @returns false when all ids are live
	 */
	@inline static putId(record: usize, place: usize, flags: u32, id: u64): bool {
		const requestor = flags === PACKET_WANTS_COMPLETION ? load<u32>(record, RING_REQUESTOR) : 0;
		if (requestor === 0) {
			store<u64>(place, id);
			return true;
		}
		const given: u64 = requestTake(record + requestor, id);
		store<u64>(place, given === 0 ? NO_ID_YET : given);
		if (given === 0) return false;
		store<u64>(record, given, RING_GIVEN_ID);
		return true;
	}

	/**
	 * Looks at the next packet, at data offset `at`, and leaves its first 8 bytes, with lengths that hold, in RING_PACKET_HEAD.
	 * @returns the same without the flags (claimedBytes, claimedOffset); or RING_EMPTY; strict: a corruption status, the ring is closed
	 */
	@inline static look(record: usize, at: u32): i64 {
		const head = Steps.peek(record, headerOf(record), at);
		return head !== 0 ? i64(head) : lookClosely(record);
	}

	/** look at a packet with nothing wrong. @returns 0 for any other: there may be none */
	@inline static peek(record: usize, header: usize, at: u32): u64 {
		const dataBytes = load<u32>(record, RING_DATA_BYTES);
		const mask = load<u32>(record, RING_INDEX_MASK);
		let consumed = load<u32>(record, RING_CONSUMED);
		let available: u32 = 0;
		if (COCO_THREADS) available = load<u32>(record, RING_CREDIT);
		else {
			const write = peerWord(header, HEADER_WRITE_INDEX);
			if (write < dataBytes && (write & mask) === 0) {
				available = bytesBefore(write, at, dataBytes);
				if (write !== load<u32>(record, RING_REMOTE)) {
					consumed = 0;
					// RING_REMOTE and, next to it, RING_CONSUMED
					store<u64>(record, write, RING_REMOTE);
				}
			}
		}
		if (available >= PACKET_HEADER_BYTES) {
			const head = load<u64>(herePtr(record, at), PACKET_HEAD);
			const limit = claimLimit(record, available);
			if (limit >= PACKET_HEADER_BYTES) {
				if (claimsHold(head, limit)) {
					if (consumed < dataBytes) {
						if (mask === 0 || known(head)) {
							store<u64>(record, head, RING_PACKET_HEAD);
							return withoutFlags(head);
						}
					}
				}
			}
		}
		return 0;
	}

	/** Consumes the packet in hand, if there is one. @returns the next data offset */
	@inline static consumeHeld(record: usize): u32 {
		const at = load<u32>(record, RING_AT);
		const held = load<u32>(record, RING_HELD);
		if (held === 0) return at;
		store<u32>(record, 0, RING_HELD);
		return advance(record, at, held);
	}

	/**
	 * Publishes the read index: everything before data offset `at` is free for the writer. Linux 6.12 drivers/hv/ring_buffer.c,
	 * hv_pkt_iter_close: signal when the writer waits for room (feature bit, pending_send_sz), had too little before and has
	 * enough now.
	 * @param before the index as it was published last, another one
	 * @returns 1 to signal the peer, else 0; strict: RING_BAD_INDEX
	 */
	@inline static release(record: usize, header: usize, before: u32, at: u32): i32 {
		// RING_AT and, next to it, RING_PUBLISHED
		store<u64>(record, u64(at) | (u64(at) << 32), RING_AT);
		// the fence of this store: an index published after pending_send_sz was read could lose the writer's wake-up
		ownWord(header, HEADER_READ_INDEX, at);
		const pending = peerWord(header, HEADER_PENDING_SEND);
		if (pending === 0 || (peerWord(header, HEADER_FEATURES) & FEATURE_PENDING_SEND) === 0) return 0;
		return releaseWaiting(record, before, pending);
	}
}

/** release, if there is anything to say: a store would only take the header's line away from the writer. */
export function releaseNew(record: usize, at: u32): i32 {
	const before = load<u32>(record, RING_PUBLISHED);
	return at === before ? 0 : Steps.release(record, headerOf(record), before, at);
}
