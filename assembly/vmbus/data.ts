/** A ring's record, the words in its header page, and where its data bytes lie. */

import { moved, plainPut } from "../audit/hooks.ts";
import { CTX_NEXT, PAGE_SHIFT, PAGE_SIZE } from "../layout/context.ts";
import {
	INLINE_COPY_BYTES,
	RING_AT,
	RING_BUFFER,
	RING_DATA_BYTES,
	RING_FLAGS,
	RING_HEADER,
	RING_PAGE_DELTA,
	RING_PAGE_RUN_END,
	RING_PAGE_SHIFT,
	RING_RECORD_BYTES,
	RING_RUN_BASE,
	RING_RUN_END,
	RING_STATE,
	RING_STRICT,
	RING_TAG,
	TAG_CLOSED,
} from "../layout/ring.ts";
import { BAD_RING, RING_BAD_INDEX } from "../layout/status.ts";
import { context } from "../memory/context.ts";
import { copy } from "../memory/copy.ts";

/**
 * Whether `ring` is the number of an open ring at one end (TAG_WRITER or TAG_READER); its record is then recordOf(ring). Apart from
 * ringAt, because there a processor has to wait for the tag before it can follow the record.
 */
export function isOpen(ring: u32, tag: u32): bool {
	return (ring < load<u32>(context(), CTX_NEXT) ? load<u32>(context() + ring, RING_TAG) : 0) === tag;
}

/** Record of a ring whose number is right. */
export function recordOf(ring: u32): usize {
	return context() + ring;
}

/** Record of an open ring at one end (TAG_WRITER or TAG_READER), or 0. */
export function ringAt(ring: u32, tag: u32): usize {
	const record = context() + ring;
	if (ring >= load<u32>(context(), CTX_NEXT) || load<u32>(record, RING_TAG) !== tag) return 0;
	return record;
}

/** Why ringAt answered 0: the status that closed the ring, or BAD_RING. */
export function ringRefusal(ring: u32): i32 {
	const record = ringAt(ring, TAG_CLOSED);
	return record === 0 ? BAD_RING : load<i32>(record, RING_STATE);
}

/** Closes a ring for good. @returns the status that its later calls answer */
export function ringShut(record: usize, status: i32): i32 {
	store<i32>(record, status, RING_STATE);
	if (COCO_THREADS) atomic.store<u32>(record, TAG_CLOSED, RING_TAG);
	else store<u32>(record, TAG_CLOSED, RING_TAG);
	return status;
}

/** ptr of the ring's header page. */
export function headerOf(record: usize): usize {
	return record + load<u32>(record, RING_HEADER);
}

/** A header word that the peer writes: one read, never repeated for the same decision. */
export function peerWord(header: usize, offset: usize): u32 {
	return COCO_THREADS ? atomic.load<u32>(header + offset) : load<u32>(header + offset);
}

/** Writes a header word and makes it visible before any later read: a full fence between workers. */
export function ownWord(header: usize, offset: usize, value: u32): void {
	if (COCO_THREADS) atomic.store<u32>(header + offset, value);
	else store<u32>(header + offset, value);
	if (COCO_AUDIT) plainPut(header + offset, 4);
}

/**
 * The peer's index, read once. An index beyond the data wraps (clamp) or closes the ring (strict, as an index that is no
 * multiple of 8 does).
 * @returns an index below the data's size, or RING_BAD_INDEX as u32
 */
export function peerIndex(record: usize, offset: usize): u32 {
	const index = peerWord(headerOf(record), offset);
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	if ((load<u32>(record, RING_FLAGS) & RING_STRICT) !== 0) {
		return index >= dataBytes || (index & 7) !== 0 ? u32(ringShut(record, RING_BAD_INDEX)) : index;
	}
	return index < dataBytes ? index : dataBytes === 0 ? 0 : index % dataBytes;
}

/** Entry of the page that holds data offset `at`. */
export function pageEntry(record: usize, at: u32): usize {
	return record + RING_RECORD_BYTES + ((at >> PAGE_SHIFT) << RING_PAGE_SHIFT);
}

/** ptr of data offset `at`, whose page entry is known. */
export function dataPtr(record: usize, entry: usize, at: u32): usize {
	return record + load<u32>(entry, RING_PAGE_DELTA) + (at & (PAGE_SIZE - 1));
}

/**
 * Where in the private buffer a packet from data offset `at` goes: at the same place in a page as in the ring, which spares the
 * copy misaligned lines and false store-to-load conflicts between addresses 4 KiB apart.
 */
export function bufferPtr(record: usize, at: u32): usize {
	return record + load<u32>(record, RING_BUFFER) + (at & (PAGE_SIZE - 1));
}

/** ptr of this end's next byte. It and what follows lie side by side up to RING_RUN_END. */
export function herePtr(record: usize, at: u32): usize {
	return record + load<u32>(record, RING_RUN_BASE) + at;
}

/** Moves this end to data offset `at`, and to the run of pages that holds it. */
export function moveTo(record: usize, at: u32): void {
	store<u32>(record, at, RING_AT);
	if (load<u32>(record, RING_DATA_BYTES) === 0) return;
	const entry = pageEntry(record, at);
	store<u32>(record, load<u32>(entry, RING_PAGE_DELTA) - (at & ~(PAGE_SIZE - 1)), RING_RUN_BASE);
	store<u32>(record, load<u32>(entry, RING_PAGE_RUN_END), RING_RUN_END);
}

/** ptr of data offset `at`, which may be the first behind the end: there the data begins again. */
export function wrappedPtr(record: usize, at: u32): usize {
	const index = at >= load<u32>(record, RING_DATA_BYTES) ? at - load<u32>(record, RING_DATA_BYTES) : at;
	return dataPtr(record, pageEntry(record, index), index);
}

/**
 * memory.copy, but the greater part of a page in two halves: from 2 KiB on some C libraries copy with string instructions,
 * which start slowly where neither end is aligned (measured: 4 KiB over scattered pages 12 % faster, whole pages slower).
 */
function copyPart(to: usize, from: usize, n: u32): void {
	if (COCO_AUDIT) moved(to, from, n);
	if (n > PAGE_SIZE / 2 && n < PAGE_SIZE) {
		memory.copy(to, from, PAGE_SIZE / 2);
		memory.copy(to + PAGE_SIZE / 2, from + PAGE_SIZE / 2, n - PAGE_SIZE / 2);
	} else memory.copy(to, from, n);
}

/** Copies n bytes into the ring from data offset `at`, wrapping. n: below the data's size. @returns the offset behind them */
export function copyIn(record: usize, at: u32, from: usize, n: u32): u32 {
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	if (at >= dataBytes) at -= dataBytes;
	while (n > 0) {
		const entry = pageEntry(record, at);
		const here = min<u32>(n, load<u32>(entry, RING_PAGE_RUN_END) - at);
		if (here > INLINE_COPY_BYTES) copyPart(dataPtr(record, entry, at), from, here);
		else copy(dataPtr(record, entry, at), from, here);
		from += here;
		n -= here;
		at += here;
		if (at === dataBytes) at = 0;
	}
	return at;
}

/** Copies n bytes out of the ring from data offset `at`, wrapping. n: below the data's size. */
export function copyOut(record: usize, at: u32, to: usize, n: u32): void {
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	if (at >= dataBytes) at -= dataBytes;
	while (n > 0) {
		const entry = pageEntry(record, at);
		const here = min<u32>(n, load<u32>(entry, RING_PAGE_RUN_END) - at);
		if (here > INLINE_COPY_BYTES) copyPart(to, dataPtr(record, entry, at), here);
		else copy(to, dataPtr(record, entry, at), here);
		to += here;
		n -= here;
		at += here;
		if (at === dataBytes) at = 0;
	}
}

/** Raw free bytes between two indices; one quadword of them is never used. Linux 6.12 drivers/hv/hyperv_vmbus.h, hv_get_avail_to_write. */
export function freeBetween(write: u32, read: u32, dataBytes: u32): u32 {
	return read - write + (write >= read ? dataBytes : 0);
}
