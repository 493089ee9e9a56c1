/** Many packets for one publication. */
import {
	BURST_BYTES,
	BURST_ID,
	BURST_KIND,
	BURST_LENGTH,
	BURST_PTR,
	INLINE_COPY_BYTES,
	PACKET_HEADER_BYTES,
	PACKET_ID,
	PACKET_TRAILER_BYTES,
	RING_AT,
	RING_FULL_NOW,
	RING_RUN_END,
	TAG_WRITER,
} from "../layout/ring.ts";
import { OK } from "../layout/status.ts";
import { headerOf, herePtr, isOpen, recordOf, ringRefusal } from "./data.ts";
import { padded } from "./packet.ts";
import { freeSeen, publishNew, put } from "./put.ts";
import { Steps } from "./steps.ts";

/**
 * Writes up to `count` packets of a list (layout/ring.ts, BURST_*) and publishes once.
 * @returns 2 * packets written + 1 to signal the peer; or, when the first is refused, its status
 */
export function ringWriteBurst(ring: u32, list: usize, count: u32): i32 {
	if (!isOpen(ring, TAG_WRITER)) return ringRefusal(ring);
	const record = recordOf(ring);
	let written: u32 = 0;
	let status: i32 = OK;
	while (written < count) {
		written += putRun(record, list + written * BURST_BYTES, count - written);
		if (written === count) break;
		const entry = list + written * BURST_BYTES;
		const id = load<u64>(entry, BURST_ID);
		status = put(record, load<u32>(entry, BURST_KIND), id, load<u32>(entry, BURST_PTR), load<u32>(entry, BURST_LENGTH));
		if (status < 0) break;
		written++;
	}
	if (written === 0) return status;
	const signal = publishNew(record);
	return signal < 0 ? signal : i32(written << 1) | signal;
}

/**
 * Puts packets of a list one behind the other, with the writer's state in locals: as long as they are short, carry no
 * flags, have room and reach no end of the pages. @returns how many; put() knows what to do with the next
 */
function putRun(record: usize, list: usize, count: u32): u32 {
	const runEnd = load<u32>(record, RING_RUN_END);
	let at = load<u32>(record, RING_AT);
	const base = herePtr(record, 0);
	let free = freeSeen(record, headerOf(record), at);
	let n: u32 = 0;
	for (; n < count; n++) {
		const kind = load<u32>(list, BURST_KIND);
		const bytes = load<u32>(list, BURST_LENGTH);
		if (kind >> 16 !== 0 || bytes - 16 > INLINE_COPY_BYTES - 16) break;
		const length = PACKET_HEADER_BYTES + padded(bytes);
		const total = length + PACKET_TRAILER_BYTES;
		if (free <= total || at + total >= runEnd) break;
		Steps.layPacket(base + at, kind, 0, load<u32>(list, BURST_PTR), bytes);
		store<u64>(base + at, load<u64>(list, BURST_ID), PACKET_ID);
		store<u64>(base + at + length, u64(at) << 32);
		at += total;
		free -= total;
		list += BURST_BYTES;
	}
	if (n > 0) {
		store<u32>(record, 0, RING_FULL_NOW);
		store<u32>(record, at, RING_AT);
	}
	return n;
}
