/** Ring loops that run inside WASM, and the bare copies that they are compared with. Each answers a checksum or a count of mistakes. */

import {
	BURST_BYTES,
	BURST_ID,
	BURST_KIND,
	BURST_LENGTH,
	BURST_PTR,
	PACKET_HEADER_BYTES,
	PACKET_IN_BAND,
	PACKET_TRAILER_BYTES,
	RING_DATA_BYTES,
	TAG_READER,
} from "../layout/ring.ts";
import { RING_EMPTY, RING_FULL } from "../layout/status.ts";
import { copy } from "../memory/copy.ts";
import { ringWriteBurst } from "../vmbus/burst.ts";
import { copyIn, copyOut, dataPtr, pageEntry, ringAt } from "../vmbus/data.ts";
import { ringConsume, ringNext, ringPacket } from "../vmbus/iterate.ts";
import { ringRead, ringReadBurst } from "../vmbus/read.ts";
import { ringPublish, ringPut, ringWrite } from "../vmbus/write.ts";

/** How a packet is read: straight into the buffer, in place and copied once, or through the private copy. */
const READ: i32 = 0;
const IN_PLACE: i32 = 1;

/** Writes a message's number as a whole vector: a narrow store before a wide load would stall what is measured. */
function mark(from: usize, value: u32): void {
	v128.store(from, i32x4.splat(value));
}

/** Takes the packet that is next into `to`. @returns its payload bytes or a status */
function take(reader: u32, to: usize, bytes: u32, how: i32): i32 {
	if (how === READ) return ringRead(reader, 0, to, bytes) >> 1;
	const got = ringNext(reader, how === IN_PLACE ? 1 : 0);
	if (got >= 0) copy(to, ringPacket(reader) + PACKET_HEADER_BYTES, u32(got));
	return got;
}

/** Writes and reads `count` packets one by one. how: READ, IN_PLACE, or 2 for the private copy. @returns mistakes */
export function pingPong(writer: u32, reader: u32, from: usize, to: usize, bytes: u32, count: u32, how: i32): u32 {
	let wrong: u32 = 0;
	if (how === READ) {
		for (let i: u32 = 0; i < count; i++) {
			mark(from, i);
			if (ringWrite(writer, PACKET_IN_BAND, i, 0, from, bytes) < 0) wrong++;
			if (ringRead(reader, 0, to, bytes) >> 1 < i32(bytes) || load<u32>(to) !== i) wrong++;
		}
		return wrong;
	}
	for (let i: u32 = 0; i < count; i++) {
		mark(from, i);
		if (ringWrite(writer, PACKET_IN_BAND, i, 0, from, bytes) < 0) wrong++;
		if (take(reader, to, bytes, how) < i32(bytes) || load<u32>(to) !== i) wrong++;
		if (how !== READ) {
			ringConsume(reader);
		}
	}
	return wrong;
}

/** Writes `batch` packets, each published, then reads them all and publishes once. @returns mistakes */
export function batches(
	writer: u32,
	reader: u32,
	from: usize,
	to: usize,
	bytes: u32,
	count: u32,
	how: i32,
	batch: u32,
): u32 {
	let wrong: u32 = 0;
	for (let i: u32 = 0; i < count; i += batch) {
		for (let k: u32 = 0; k < batch; k++) {
			mark(from, i + k);
			if (ringWrite(writer, PACKET_IN_BAND, i + k, 0, from, bytes) < 0) wrong++;
		}
		for (let k: u32 = 0; k < batch; k++) {
			if (take(reader, to, bytes, how) < i32(bytes) || load<u32>(to) !== i + k) wrong++;
		}
		if (how !== READ) {
			ringConsume(reader);
		}
	}
	return wrong;
}

/** Puts `batch` packets and publishes once, then reads them as one burst. @returns mistakes */
export function bursts(writer: u32, reader: u32, from: usize, to: usize, bytes: u32, count: u32, batch: u32): u32 {
	let wrong: u32 = 0;
	const each = PACKET_HEADER_BYTES + ((bytes + 7) & ~7);
	for (let i: u32 = 0; i < count; i += batch) {
		for (let k: u32 = 0; k < batch; k++) {
			mark(from, i + k);
			if (ringPut(writer, PACKET_IN_BAND, i + k, 0, from, bytes) < 0) wrong++;
		}
		ringPublish(writer);
		if (ringReadBurst(reader, to, each * batch, batch) >> 1 !== i32(batch)) wrong++;
		if (load<u32>(to + each * (batch - 1) + PACKET_HEADER_BYTES) !== i + batch - 1) wrong++;
	}
	return wrong;
}

/**
 * Bare copies at the offsets that the ring would use: in, and out once (copies 2) or through `middle` (copies 3).
 * @returns mistakes
 */
export function bareCopies(
	reader: u32,
	from: usize,
	to: usize,
	middle: usize,
	bytes: u32,
	count: u32,
	copies: u32,
): u32 {
	const record = ringAt(reader, TAG_READER);
	const dataBytes = load<u32>(record, RING_DATA_BYTES);
	const data = ringDataPtr(record);
	const total = PACKET_HEADER_BYTES + ((bytes + 7) & ~7) + PACKET_TRAILER_BYTES;
	let wrong: u32 = 0;
	let at: u32 = 0;
	for (let i: u32 = 0; i < count; i++) {
		mark(from, i);
		const payload = at + PACKET_HEADER_BYTES;
		if (payload + bytes <= dataBytes) {
			memory.copy(data + payload, from, bytes);
			if (copies === 3) {
				memory.copy(middle, data + payload, bytes);
				memory.copy(to, middle, bytes);
			} else memory.copy(to, data + payload, bytes);
		} else {
			copyIn(record, payload, from, bytes);
			copyOut(record, payload, copies === 3 ? middle : to, bytes);
			if (copies === 3) memory.copy(to, middle, bytes);
		}
		if (load<u32>(to) !== i) wrong++;
		at += total;
		if (at >= dataBytes) at -= dataBytes;
	}
	return wrong;
}

function ringDataPtr(record: usize): usize {
	return dataPtr(record, pageEntry(record, 0), 0);
}

/** Writes `count` packets, published every `burst`, and waits where the ring is full. The first word counts up. @returns mistakes */
export function produce(writer: u32, from: usize, bytes: u32, count: u32, burst: u32): u32 {
	if (burst > 1) return produceBursts(writer, from, bytes, count, burst);
	let wrong: u32 = 0;
	let open: u32 = 0;
	for (let i: u32 = 0; i < count; i++) {
		mark(from, i);
		let status = ringPut(writer, PACKET_IN_BAND, i, 0, from, bytes);
		while (status === RING_FULL) {
			// what is put must be seen before waiting for room
			ringPublish(writer);
			open = 0;
			status = ringPut(writer, PACKET_IN_BAND, i, 0, from, bytes);
		}
		if (status < 0) wrong++;
		if (++open === burst) {
			ringPublish(writer);
			open = 0;
		}
	}
	ringPublish(writer);
	return wrong;
}

/** produce with lists: `burst` payloads from `from` on, the list behind them. */
function produceBursts(writer: u32, from: usize, bytes: u32, count: u32, burst: u32): u32 {
	const each = (bytes + 7) & ~7;
	const list = from + burst * each;
	for (let k: u32 = 0; k < burst; k++) {
		store<u32>(list + k * BURST_BYTES, PACKET_IN_BAND, BURST_KIND);
		store<u32>(list + k * BURST_BYTES, u32(from + k * each), BURST_PTR);
		store<u32>(list + k * BURST_BYTES, bytes, BURST_LENGTH);
	}
	for (let i: u32 = 0; i < count; ) {
		const n = min(burst, count - i);
		for (let k: u32 = 0; k < n; k++) {
			mark(from + k * each, i);
			store<u64>(list + k * BURST_BYTES, i++, BURST_ID);
		}
		for (let done: u32 = 0; done < n; ) {
			const answer = ringWriteBurst(writer, list + done * BURST_BYTES, n - done);
			if (answer >= 0) done += u32(answer) >> 1;
			else if (answer !== RING_FULL) return count;
		}
	}
	return 0;
}

/** Reads `count` packets into `to`, in bursts of up to `burst`. @returns mistakes in their order */
export function consume(reader: u32, to: usize, bytes: u32, count: u32, burst: u32): u32 {
	let wrong: u32 = 0;
	const each = PACKET_HEADER_BYTES + ((bytes + 7) & ~7);
	for (let i: u32 = 0; i < count; ) {
		const got = ringReadBurst(reader, to, each * burst, burst);
		if (got === RING_EMPTY) continue;
		if (got < 0) return count;
		for (let k: u32 = 0; k < u32(got) >> 1; k++) {
			if (load<u32>(to + each * k + PACKET_HEADER_BYTES) !== i++) wrong++;
		}
	}
	return wrong;
}
