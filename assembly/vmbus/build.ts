/** Packets that are put together: gathered pieces, ranges before the payload, payloads built in place. */

import { plainPut, wroteInPlace } from "../audit/hooks.ts";
import { PAGE_SHIFT, PAGE_SIZE } from "../layout/context.ts";
import {
	GATHER_BYTES,
	GATHER_LENGTH,
	GATHER_PTR,
	PACKET_GPA_DIRECT,
	PACKET_HEADER_BYTES,
	PACKET_MAX_BYTES,
	PACKET_RANGES,
	PACKET_TRAILER_BYTES,
	PACKET_TRANSFER_PAGES,
	RANGE_HEAD_BYTES,
	RANGE_LENGTH,
	RANGE_OFFSET,
	RANGES_SET,
	RING_AT,
	RING_MAX_PACKET,
	RING_RESERVED_AT,
	RING_RESERVED_BYTES,
	RING_RESERVED_PTR,
	RING_RUN_END,
	TAG_WRITER,
} from "../layout/ring.ts";
import { BAD_ARGUMENT, BAD_SIZE, OK, RING_TOO_SMALL } from "../layout/status.ts";
import { bufferPtr, copyIn, herePtr, isOpen, recordOf, ringRefusal, wrappedPtr } from "./data.ts";
import { headOf, padded } from "./packet.ts";
import { MAX_PAYLOAD, pad, room, seal } from "./put.ts";

/** ringPut of a payload that lies in `count` pieces (layout/ring.ts, GATHER_*). */
export function ringPutGather(ring: u32, kind: u32, idLow: u32, idHigh: u32, list: usize, count: u32): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	let bytes: u64 = 0;
	for (let i: u32 = 0; i < count; i++) bytes += load<u32>(list + i * GATHER_BYTES, GATHER_LENGTH);
	if (bytes > MAX_PAYLOAD) return BAD_SIZE;
	const length = PACKET_HEADER_BYTES + padded(u32(bytes));
	const status = room(record, length + PACKET_TRAILER_BYTES);
	if (status !== OK) return status;
	const at = load<u32>(record, RING_AT);
	store<u64>(herePtr(record, at), headOf(kind & 0xffff, kind >> 16, PACKET_HEADER_BYTES >> 3, length));
	if (COCO_AUDIT) plainPut(herePtr(record, at), 8);
	let end = at + PACKET_HEADER_BYTES;
	for (let i: u32 = 0; i < count; i++) {
		const entry = list + i * GATHER_BYTES;
		end = copyIn(record, end, load<u32>(entry, GATHER_PTR), load<u32>(entry, GATHER_LENGTH));
	}
	return seal(record, at, pad(record, end), kind >> 16, u64(idLow) | (u64(idHigh) << 32));
}

/** Whether `count` GPA ranges fill exactly `bytes` bytes at `ranges`. */
function rangesFill(ranges: usize, bytes: u32, count: u32): bool {
	let at: u64 = 0;
	for (let i: u32 = 0; i < count; i++) {
		if (at + RANGE_HEAD_BYTES > bytes) return false;
		const length = load<u32>(ranges + u32(at), RANGE_LENGTH);
		const offset = load<u32>(ranges + u32(at), RANGE_OFFSET);
		if (length === 0 || offset >= PAGE_SIZE) return false;
		at += RANGE_HEAD_BYTES + (((u64(offset) + length + (PAGE_SIZE - 1)) >> PAGE_SHIFT) << 3);
	}
	return at === u64(bytes);
}

/**
 * ringPut of a packet with ranges between header and payload: GPA-direct, or transfer pages.
 * @param kind PACKET_GPA_DIRECT or PACKET_TRANSFER_PAGES, flags above bit 16
 * @param third what stands at byte 16: 0 (GPA-direct); set id, and 65536 when the sender owns it (transfer pages)
 * @param ranges ptr of `rangesBytes` bytes as they go on the wire, which `count` ranges fill exactly
 * @returns as ringPut, or BAD_ARGUMENT
 */
export function ringPutRanges(
	ring: u32,
	kind: u32,
	idLow: u32,
	idHigh: u32,
	third: u32,
	ranges: usize,
	rangesBytes: u32,
	count: u32,
	ptr: usize,
	bytes: u32,
): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	if (rangesBytes > MAX_PAYLOAD || bytes > MAX_PAYLOAD) return BAD_SIZE;
	const offset = PACKET_RANGES + rangesBytes;
	const length = padded(offset + bytes);
	if (length > PACKET_MAX_BYTES) return BAD_SIZE;
	const type = kind & 0xffff;
	if (type === PACKET_GPA_DIRECT) {
		if (count === 0 || !rangesFill(ranges, rangesBytes, count)) return BAD_ARGUMENT;
	} else if (type !== PACKET_TRANSFER_PAGES || u64(count) * RANGE_HEAD_BYTES !== u64(rangesBytes)) return BAD_ARGUMENT;
	const status = room(record, length + PACKET_TRAILER_BYTES);
	if (status !== OK) return status;
	const at = load<u32>(record, RING_AT);
	store<u64>(herePtr(record, at), headOf(type, kind >> 16, offset >> 3, length));
	store<u64>(wrappedPtr(record, at + PACKET_HEADER_BYTES), u64(third) | (u64(count) << 32), RANGES_SET);
	if (COCO_AUDIT) plainPut(herePtr(record, at), 8);
	if (COCO_AUDIT) plainPut(wrappedPtr(record, at + PACKET_HEADER_BYTES), 8);
	let end = copyIn(record, at + PACKET_RANGES, ranges, rangesBytes);
	end = copyIn(record, end, ptr, bytes);
	return seal(record, at, pad(record, end), kind >> 16, u64(idLow) | (u64(idHigh) << 32));
}

/**
 * Makes room for an in-band packet whose payload the caller builds in place, then commits. Any other write drops the reservation.
 * The payload's place is in the ring, or in the ring's private buffer when it would wrap or cross into a page elsewhere.
 * @returns ptr of `bytes` bytes, or a status as ringPut; RING_TOO_SMALL: the private buffer cannot hold it
 */
export function ringReserve(ring: u32, bytes: u32): f64 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	if (bytes > MAX_PAYLOAD) return BAD_SIZE;
	const total = PACKET_HEADER_BYTES + padded(bytes) + PACKET_TRAILER_BYTES;
	const status = room(record, total);
	if (status !== OK) return status;
	const at = load<u32>(record, RING_AT);
	let place = bufferPtr(record, at + PACKET_HEADER_BYTES);
	if (at + PACKET_HEADER_BYTES + bytes <= load<u32>(record, RING_RUN_END)) {
		place = herePtr(record, at) + PACKET_HEADER_BYTES;
	} else if (bytes > load<u32>(record, RING_MAX_PACKET)) return RING_TOO_SMALL;
	store<u32>(record, at, RING_RESERVED_AT);
	store<u32>(record, bytes + 1, RING_RESERVED_BYTES);
	store<u32>(record, u32(place - record), RING_RESERVED_PTR);
	return f64(place);
}

/**
 * Ends a reservation: the packet as ringPut leaves it, not yet published.
 * @param bytes payload bytes, at most as many as reserved
 * @returns OK, REQUESTOR_FULL, or BAD_ARGUMENT without a reservation of that size
 */
export function ringCommit(ring: u32, kind: u32, idLow: u32, idHigh: u32, bytes: u32): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	const at = load<u32>(record, RING_AT);
	if (bytes >= load<u32>(record, RING_RESERVED_BYTES) || load<u32>(record, RING_RESERVED_AT) !== at)
		return BAD_ARGUMENT;
	store<u32>(record, 0, RING_RESERVED_BYTES);
	const length = PACKET_HEADER_BYTES + padded(bytes);
	const place = record + load<u32>(record, RING_RESERVED_PTR);
	const head = herePtr(record, at);
	store<u64>(head, headOf(kind & 0xffff, kind >> 16, PACKET_HEADER_BYTES >> 3, length));
	const payload = at + PACKET_HEADER_BYTES;
	let end = payload + bytes;
	if (COCO_AUDIT) plainPut(head, 8);
	if (place !== head + PACKET_HEADER_BYTES) end = copyIn(record, payload, place, bytes);
	if (COCO_AUDIT) wroteInPlace(place, bytes);
	return seal(record, at, pad(record, end), kind >> 16, u64(idLow) | (u64(idHigh) << 32));
}
