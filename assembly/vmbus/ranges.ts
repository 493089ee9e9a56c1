/** The ranges of the packet in hand, walked one by one with counts and lengths that were read once and checked. */

import { PAGE_SHIFT, PAGE_SIZE } from "../layout/context.ts";
import {
	PACKET_GPA_DIRECT,
	PACKET_HEADER_BYTES,
	PACKET_RANGES,
	PACKET_TRANSFER_PAGES,
	RANGE_HEAD_BYTES,
	RANGE_LENGTH,
	RANGES_COUNT,
	RING_FLAGS,
	RING_HELD,
	RING_PACKET_HEAD,
	RING_PACKET_PTR,
	RING_RANGE_LENGTH,
	RING_RANGE_NPFNS,
	RING_RANGE_OFFSET,
	RING_RANGE_PFNS,
	RING_RANGES_AT,
	RING_RANGES_END,
	RING_RANGES_LEFT,
	RING_STRICT,
	TAG_READER,
} from "../layout/ring.ts";
import { BAD_ARGUMENT, RING_BAD_RANGES } from "../layout/status.ts";
import { isOpen, recordOf, ringRefusal, ringShut } from "./data.ts";

/** Bad ranges: the packet is refused (clamp), or the ring closes (strict). */
function badRanges(record: usize): i32 {
	store<u32>(record, 0, RING_RANGES_LEFT);
	return (load<u32>(record, RING_FLAGS) & RING_STRICT) !== 0 ? ringShut(record, RING_BAD_RANGES) : RING_BAD_RANGES;
}

/**
 * Begins the walk over the ranges of the packet in hand: GPA-direct, or transfer pages.
 * The count is checked against the packet: OpenVMM vmbus_ring (no range, or an offset below 24, is corruption), Linux 6.12
 * drivers/net/hyperv/netvsc.c, netvsc_receive.
 * @returns how many ranges there are, or BAD_ARGUMENT (no packet in hand, or one without ranges) or RING_BAD_RANGES
 */
export function ringRanges(ring: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	const record = recordOf(ring);
	const head = u32(load<u64>(record, RING_PACKET_HEAD));
	const type = head & 0xffff;
	if (load<u32>(record, RING_HELD) === 0) return BAD_ARGUMENT;
	if (type !== PACKET_GPA_DIRECT && type !== PACKET_TRANSFER_PAGES) return BAD_ARGUMENT;
	const offset = (head >>> 16) << 3;
	if (offset < PACKET_RANGES) return badRanges(record);
	const packet = load<u32>(record, RING_PACKET_PTR);
	// a packet in place is the peer's to change: the count is read once
	const count = load<u32>(record + packet + PACKET_HEADER_BYTES, RANGES_COUNT);
	const most = (offset - PACKET_RANGES) / RANGE_HEAD_BYTES;
	if (count > most || (count === 0 && type === PACKET_GPA_DIRECT)) return badRanges(record);
	store<u32>(record, count, RING_RANGES_LEFT);
	store<u32>(record, packet + PACKET_RANGES, RING_RANGES_AT);
	store<u32>(record, packet + offset, RING_RANGES_END);
	return i32(count);
}

/**
 * Takes the next range into the record: RING_RANGE_LENGTH, _OFFSET, and for GPA-direct _PFNS and _NPFNS.
 * A GPA range has at least one byte, starts in its first page, and names as many pages as it touches.
 * @returns ranges left including this one; 0 when there is none; or BAD_RING, RING_BAD_RANGES
 */
export function ringNextRange(ring: u32): i32 {
	if (!isOpen(ring, TAG_READER)) return ringRefusal(ring);
	const record = recordOf(ring);
	const left = load<u32>(record, RING_RANGES_LEFT);
	if (left === 0) return 0;
	const at = load<u32>(record, RING_RANGES_AT);
	const end = load<u32>(record, RING_RANGES_END);
	if (end - at < RANGE_HEAD_BYTES) return badRanges(record);
	const range = load<u64>(record + at, RANGE_LENGTH);
	const bytes = u32(range);
	const offset = u32(range >> 32);
	let pages: u32 = 0;
	if ((u32(load<u64>(record, RING_PACKET_HEAD)) & 0xffff) === PACKET_GPA_DIRECT) {
		if (bytes === 0 || offset >= PAGE_SIZE) return badRanges(record);
		pages = u32((u64(offset) + bytes + (PAGE_SIZE - 1)) >> PAGE_SHIFT);
		if (pages > (end - at - RANGE_HEAD_BYTES) >> 3) return badRanges(record);
	}
	store<u32>(record, bytes, RING_RANGE_LENGTH);
	store<u32>(record, offset, RING_RANGE_OFFSET);
	store<u32>(record, at + RANGE_HEAD_BYTES, RING_RANGE_PFNS);
	store<u32>(record, pages, RING_RANGE_NPFNS);
	store<u32>(record, at + RANGE_HEAD_BYTES + (pages << 3), RING_RANGES_AT);
	store<u32>(record, left - 1, RING_RANGES_LEFT);
	return i32(left);
}
