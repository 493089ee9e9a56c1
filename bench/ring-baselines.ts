/** What rings are compared with: the same ring in plain TypeScript, and ringbuf.js. */

import { RingBuffer } from "ringbuf.js";
import { PAGE_SIZE } from "../assembly/layout/context.ts";

/**
 * A VMBus ring in plain TypeScript over a DataView and Uint8Arrays: the same bytes, the same checks, contiguous data.
 * Written as one would write it without an engine.
 */
export class DataViewRing {
	readonly #data: DataView;
	readonly #u8: Uint8Array;
	readonly #dataBytes: number;

	/** @param header page offset of the ring's header in the buffer; bytes: of the data area */
	constructor(buffer: ArrayBufferLike, header: number, bytes: number) {
		this.#data = new DataView(buffer, header, PAGE_SIZE + bytes);
		this.#u8 = new Uint8Array(buffer, header + PAGE_SIZE, bytes);
		this.#dataBytes = bytes;
		this.#data.setUint32(64, 1, true);
	}

	get bytes(): Uint8Array {
		return new Uint8Array(this.#data.buffer, this.#data.byteOffset, this.#data.byteLength);
	}

	#word(at: number, value: number): void {
		this.#data.setUint32(PAGE_SIZE + (at >= this.#dataBytes ? at - this.#dataBytes : at), value, true);
	}

	#read(at: number): number {
		return this.#data.getUint32(PAGE_SIZE + (at >= this.#dataBytes ? at - this.#dataBytes : at), true);
	}

	/** @returns 1 to signal, 0, or -1 when full */
	write(type: number, flags: number, id: number, payload: Uint8Array): number {
		const padded = (payload.length + 7) & ~7;
		const total = 24 + padded;
		const at = this.#data.getUint32(0, true);
		const read = this.#data.getUint32(4, true);
		const free = at >= read ? this.#dataBytes - (at - read) : read - at;
		if (free <= total) return -1;
		this.#word(at, type | (2 << 16));
		this.#word(at + 4, ((16 + padded) >> 3) | (flags << 16));
		this.#word(at + 8, id);
		this.#word(at + 12, 0);
		let to = at + 16;
		if (to >= this.#dataBytes) to -= this.#dataBytes;
		const first = Math.min(payload.length, this.#dataBytes - to);
		if (first === payload.length) this.#u8.set(payload, to);
		else {
			this.#u8.set(payload.subarray(0, first), to);
			this.#u8.set(payload.subarray(first), 0);
		}
		for (let i = payload.length; i < padded; i++) this.#u8[(to + i) % this.#dataBytes] = 0;
		this.#word(at + 16 + padded, 0);
		this.#word(at + 20 + padded, at);
		let next = at + total;
		if (next >= this.#dataBytes) next -= this.#dataBytes;
		this.#data.setUint32(0, next, true);
		return this.#data.getUint32(8, true) === 0 && this.#data.getUint32(4, true) === at ? 1 : 0;
	}

	/** Copies the next payload to `out`. @returns its bytes, or -1 when empty */
	read(out: Uint8Array): number {
		const at = this.#data.getUint32(4, true);
		const write = this.#data.getUint32(0, true);
		const available = write >= at ? write - at : this.#dataBytes - at + write;
		if (available < 16) return -1;
		const first = this.#read(at);
		let bytes = (this.#read(at + 4) & 0xffff) * 8;
		let offset = (first >>> 16) * 8;
		if (bytes < 16 || bytes > available) bytes = available & ~7;
		if (offset < 16 || offset > bytes) offset = 16;
		const length = bytes - offset;
		let from = at + offset;
		if (from >= this.#dataBytes) from -= this.#dataBytes;
		const head = Math.min(length, this.#dataBytes - from);
		if (head === length) out.set(this.#u8.subarray(from, from + length));
		else {
			out.set(this.#u8.subarray(from, from + head));
			out.set(this.#u8.subarray(0, length - head), head);
		}
		let next = at + bytes + 8;
		if (next >= this.#dataBytes) next -= this.#dataBytes;
		this.#data.setUint32(4, next, true);
		return length;
	}
}

/** A ringbuf.js queue of bytes. Its users push and pop once a message, of a length that both sides know. */
export function ringbuf(bytes: number): RingBuffer {
	return new RingBuffer(RingBuffer.getStorageForCapacity(bytes, Uint8Array), Uint8Array);
}
