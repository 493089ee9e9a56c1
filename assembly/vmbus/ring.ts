/** Rings: attach, move, close and detach. A ring's number is its record's offset in the context. */

import { alignBlock, CTX_RINGS, CTX_RINGS_FREE, PAGE_SHIFT, PAGE_SIZE } from "../layout/context.ts";
import {
	FEATURE_PENDING_SEND,
	HEADER_FEATURES,
	HEADER_INTERRUPT_MASK,
	HEADER_PENDING_SEND,
	HEADER_READ_INDEX,
	HEADER_WRITE_INDEX,
	PACKET_HEADER_BYTES,
	PACKET_MAX_BYTES,
	PACKET_TRAILER_BYTES,
	REQUESTOR_MAX_SLOTS,
	RING_AT,
	RING_BLOCK_BYTES,
	RING_BUFFER,
	RING_CLAIM_LESS,
	RING_CLAIM_MOST,
	RING_DATA_BYTES,
	RING_FLAGS,
	RING_HEADER,
	RING_HEADER_GPA,
	RING_INDEX_MASK,
	RING_INIT,
	RING_MAX_PACKET,
	RING_MAX_PAGES,
	RING_NEXT_FREE,
	RING_NPAGES,
	RING_PAGE_DELTA,
	RING_PAGE_GPA,
	RING_PAGE_RUN_END,
	RING_PAGE_SHIFT,
	RING_PREVIOUS,
	RING_PUBLISHED,
	RING_READER,
	RING_RECORD_BYTES,
	RING_REMOTE,
	RING_REQUESTOR,
	RING_STRICT,
	RING_TAG,
	TAG_CLOSED,
	TAG_DETACHED,
	TAG_READER,
	TAG_WRITER,
} from "../layout/ring.ts";
import {
	BAD_ARGUMENT,
	BAD_REQUEST,
	BAD_RING,
	CONTEXT_FULL,
	OK,
	OUTSIDE_RAM,
	OVERLAP,
	RING_BAD_INDEX,
	RING_CLOSED,
	RING_RESCINDED,
} from "../layout/status.ts";
import { addressOf } from "../memory/address.ts";
import { context, takeBlock } from "../memory/context.ts";
import { rangeUsable } from "../memory/pages.ts";
import { NO_PTR, rangePtr } from "../memory/regions.ts";
import { headerOf, moveTo, ownWord, pageEntry, peerIndex, ringAt, ringShut } from "./data.ts";
import { requestEnd, requestorBytes, requestorInit } from "./requestor.ts";

/**
 * Attaches one end of a ring over guest pages, the header page first. Contents and page states stay as they are.
 * @param gpas ptr of `count` page addresses (f64)
 * @param count 1 .. RING_MAX_PAGES
 * @param flags RING_READER, RING_STRICT, RING_INIT
 * @param maxPacketBytes private buffer: readers copy packets into it (16 .. 524280), writers build reservations that wrap in it (may be 0)
 * @param requests ids of a writer's requestor, 0 .. REQUESTOR_MAX_SLOTS; 0: none
 * @returns the ring's number, or BAD_ARGUMENT, OUTSIDE_RAM, BLOCKED_PAGES, OVERLAP (a page twice), CONTEXT_FULL or
 *   RING_BAD_INDEX (strict, without RING_INIT: an index in the header)
 */
export function ringAttach(gpas: usize, count: u32, flags: u32, maxPacketBytes: u32, requests: u32): i32 {
	if (count - 1 >= RING_MAX_PAGES || flags > (RING_READER | RING_STRICT | RING_INIT)) return BAD_ARGUMENT;
	const reads = (flags & RING_READER) !== 0;
	if (maxPacketBytes > PACKET_MAX_BYTES || (reads && maxPacketBytes < PACKET_HEADER_BYTES)) return BAD_ARGUMENT;
	if (requests > REQUESTOR_MAX_SLOTS || (reads && requests !== 0)) return BAD_ARGUMENT;
	for (let i: u32 = 0; i < count; i++) {
		const page = load<f64>(gpas + (i << 3));
		const gpa = addressOf(page);
		if ((gpa & (PAGE_SIZE - 1)) !== 0) return gpa === u64.MAX_VALUE ? OUTSIDE_RAM : BAD_ARGUMENT;
		const usable = rangeUsable(gpa, PAGE_SIZE);
		if (usable !== OK) return usable;
		for (let j: u32 = 0; j < i; j++) if (load<f64>(gpas + (j << 3)) === page) return OVERLAP;
	}
	const entries = alignBlock((count - 1) << RING_PAGE_SHIFT);
	const requestor = RING_RECORD_BYTES + entries + alignBlock(maxPacketBytes) + PAGE_SIZE;
	const ring = ringBlock(requestor + requestorBytes(requests));
	if (ring === 0) return CONTEXT_FULL;
	const record = context() + ring;
	store<u32>(record, (count - 1) << PAGE_SHIFT, RING_DATA_BYTES);
	store<u32>(record, count - 1, RING_NPAGES);
	store<u32>(record, flags, RING_FLAGS);
	store<u32>(record, maxPacketBytes, RING_MAX_PACKET);
	const strict = (flags & RING_STRICT) !== 0;
	store<u32>(record, strict ? 7 : 0, RING_INDEX_MASK);
	// strict: the trailer is there as well; clamp: the private buffer bounds the packet
	store<u32>(record, strict ? u32.MAX_VALUE : maxPacketBytes, RING_CLAIM_MOST);
	store<u32>(record, strict ? PACKET_TRAILER_BYTES : 0, RING_CLAIM_LESS);
	store<u32>(record, RING_RECORD_BYTES + entries, RING_BUFFER);
	if (requests !== 0) {
		store<u32>(record, requestor, RING_REQUESTOR);
		requestorInit(record + requestor, requests);
	}
	store<u64>(record, addressOf(load<f64>(gpas)), RING_HEADER_GPA);
	for (let i: u32 = 1; i < count; i++) {
		const entry = pageEntry(record, (i - 1) << PAGE_SHIFT);
		store<u64>(entry, addressOf(load<f64>(gpas + (i << 3))), RING_PAGE_GPA);
	}
	ringLocate(record);
	if ((flags & RING_INIT) !== 0) {
		const header = headerOf(record);
		ownWord(header, HEADER_WRITE_INDEX, 0);
		ownWord(header, HEADER_READ_INDEX, 0);
		ownWord(header, HEADER_INTERRUPT_MASK, 0);
		ownWord(header, HEADER_PENDING_SEND, 0);
		ownWord(header, HEADER_FEATURES, FEATURE_PENDING_SEND);
	}
	const own = peerIndex(record, reads ? HEADER_READ_INDEX : HEADER_WRITE_INDEX);
	const remote = peerIndex(record, reads ? HEADER_WRITE_INDEX : HEADER_READ_INDEX);
	if (load<u32>(record, RING_TAG) === TAG_CLOSED) {
		ringFreed(record);
		return RING_BAD_INDEX;
	}
	moveTo(record, own & ~7);
	store<u32>(record, own & ~7, RING_PUBLISHED);
	store<u32>(record, remote, RING_REMOTE);
	store<u32>(record, reads ? TAG_READER : TAG_WRITER, RING_TAG);
	return i32(ring);
}

/** A zeroed block for a record: that of a detached ring if one is large enough, or new. @returns its offset, or 0 */
function ringBlock(bytes: u32): u32 {
	let link = context() + CTX_RINGS_FREE;
	while (true) {
		const ring = load<u32>(link);
		if (ring === 0) break;
		const record = context() + ring;
		const block = load<u32>(record, RING_BLOCK_BYTES);
		if (block >= bytes) {
			const previous = load<u32>(record, RING_PREVIOUS);
			store<u32>(link, load<u32>(record, RING_NEXT_FREE));
			memory.fill(record, 0, bytes);
			return ringDetached(ring, block, previous);
		}
		link = record + RING_NEXT_FREE;
	}
	const ring = takeBlock(bytes);
	if (ring === 0) return 0;
	const previous = load<u32>(context(), CTX_RINGS);
	store<u32>(context(), ring, CTX_RINGS);
	return ringDetached(ring, bytes, previous);
}

/** A zeroed record that is no ring yet. @returns its offset */
function ringDetached(ring: u32, block: u32, previous: u32): u32 {
	const record = context() + ring;
	store<u32>(record, TAG_DETACHED, RING_TAG);
	store<u32>(record, block, RING_BLOCK_BYTES);
	store<u32>(record, previous, RING_PREVIOUS);
	return ring;
}

/** Gives a record's block to later attaches. */
function ringFreed(record: usize): void {
	store<u32>(record, TAG_DETACHED, RING_TAG);
	store<u32>(record, load<u32>(context(), CTX_RINGS_FREE), RING_NEXT_FREE);
	store<u32>(context(), u32(record - context()), CTX_RINGS_FREE);
}

/** Finds the ring's pages in linear memory, and where they lie one behind the other. @returns OK or OUTSIDE_RAM */
function ringLocate(record: usize): i32 {
	const header = rangePtr(load<u64>(record, RING_HEADER_GPA), PAGE_SIZE);
	if (header === NO_PTR) return OUTSIDE_RAM;
	store<u32>(record, u32(header - record), RING_HEADER);
	let next: u32 = 0;
	let runEnd: u32 = 0;
	for (let i = load<u32>(record, RING_NPAGES); i > 0; i--) {
		const entry = pageEntry(record, (i - 1) << PAGE_SHIFT);
		const ptr = rangePtr(load<u64>(entry, RING_PAGE_GPA), PAGE_SIZE);
		if (ptr === NO_PTR) return OUTSIDE_RAM;
		const delta = u32(ptr - record);
		if (runEnd === 0 || delta + PAGE_SIZE !== next) runEnd = i << PAGE_SHIFT;
		store<u32>(entry, delta, RING_PAGE_DELTA);
		store<u32>(entry, runEnd, RING_PAGE_RUN_END);
		next = delta;
	}
	moveTo(record, load<u32>(record, RING_AT));
	return OK;
}

/** Tells each ring where its pages now lie: after regionMove. @returns OK or OUTSIDE_RAM */
export function ringsMoved(): i32 {
	for (let ring = load<u32>(context(), CTX_RINGS); ring !== 0; ) {
		const record = context() + ring;
		if (load<u32>(record, RING_TAG) !== TAG_DETACHED && ringLocate(record) !== OK) return OUTSIDE_RAM;
		ring = load<u32>(record, RING_PREVIOUS);
	}
	return OK;
}

/** The record of a ring at either end, open or closed, or 0. */
export function ringRecord(ring: u32): usize {
	const writer = ringAt(ring, TAG_WRITER);
	if (writer !== 0) return writer;
	const reader = ringAt(ring, TAG_READER);
	return reader !== 0 ? reader : ringAt(ring, TAG_CLOSED);
}

/** Forgets a ring; its block serves a later attach. @returns OK or BAD_RING */
export function ringDetach(ring: u32): i32 {
	const record = ringRecord(ring);
	if (record === 0) return BAD_RING;
	ringFreed(record);
	return OK;
}

/** Closes a ring: its calls answer RING_CLOSED, or RING_RESCINDED when the host took the channel. @returns OK or BAD_RING */
export function ringClose(ring: u32, rescinded: i32): i32 {
	const record = ringRecord(ring);
	if (record === 0) return BAD_RING;
	ringShut(record, rescinded !== 0 ? RING_RESCINDED : RING_CLOSED);
	return OK;
}

/** ptr of a writer ring's requestor, or 0. */
export function requestorOf(ring: u32): usize {
	const record = ringRecord(ring);
	const block = record === 0 ? 0 : load<u32>(record, RING_REQUESTOR);
	return block === 0 ? 0 : record + block;
}

/**
 * Ends the live request that a completion names; the sender's value is then at requestorOf(ring) + REQUESTOR_FOUND.
 * Open and closed rings answer alike: requests outlive a channel. Linux 6.12 drivers/hv/channel.c, vmbus_request_addr.
 * @returns OK, or BAD_REQUEST: no requestor, id 0, never issued, or completed before
 */
export function ringComplete(ring: u32, idLow: u32, idHigh: u32): i32 {
	const requestor = requestorOf(ring);
	return requestor === 0 ? BAD_REQUEST : requestEnd(requestor, u64(idLow) | (u64(idHigh) << 32));
}
