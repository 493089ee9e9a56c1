import * as layout from "../../assembly/layout/ring.ts";
import { REQUESTOR_FULL, RING_FULL } from "../../assembly/layout/status.ts";
import { expectBytes } from "../bytes.ts";
import type { Engine } from "../engine.ts";
import { orThrow } from "../status.ts";
import type { EngineExports, Instance } from "../wasm.ts";
import { Deadline, type Doorbell } from "./doorbell.ts";
import {
	type GpaRange,
	gpaRangesBytes,
	PacketType,
	type TransferRange,
	WANTS_COMPLETION,
	writeGpaRanges,
} from "./packet.ts";

/** What a send may choose. */
export interface SendOptions {
	/** Default PacketType.InBand. */
	readonly type?: number;
	/** Transaction id, or with a requestor the value that stands behind the id it gives. Default 0n. */
	readonly id?: bigint;
	/** Ask for a completion (flag bit 0). Default false. */
	readonly wantsCompletion?: boolean;
}

const MAX_PAYLOAD_BYTES = layout.PACKET_MAX_BYTES - layout.PACKET_HEADER_BYTES;

/**
 * The writing end. The plain calls (try…, put, publish) take pointers and numbers, never throw and allocate nothing; a result
 * below 0 is a status. The others are for people: they copy through a scratch buffer, answer false when the ring is full,
 * and throw a DmaError for all else.
 */
export class RingWriter {
	readonly #instance: Instance;
	readonly #exports: EngineExports;
	readonly #scratch: number;
	readonly #scratchBytes: number;
	readonly #onSignal: () => void;
	/** The engine's number of this ring. */
	readonly number: number;

	/** Made by RingPair. scratch: ptr of room for one packet's payload and ranges */
	constructor(engine: Engine, number: number, scratch: number, scratchBytes: number, onSignal: () => void) {
		this.#instance = engine.instance;
		this.#exports = engine.instance.exports;
		this.number = number;
		this.#scratch = scratch;
		this.#scratchBytes = scratchBytes;
		this.#onSignal = onSignal;
	}

	/**
	 * Writes a packet and publishes it. @param kind type, flags above bit 16
	 * @param idLow, idHigh the id's halves; ptr: payload in linear memory
	 * @returns 1 to signal the peer, 0, or a status (RING_FULL is flow control)
	 */
	tryWrite(kind: number, idLow: number, idHigh: number, ptr: number, bytes: number): number {
		return this.#exports.ringWrite(this.number, kind, idLow, idHigh, ptr, bytes);
	}

	/** As tryWrite, without publishing: the peer sees nothing before publish(). @returns 0 or a status */
	put(kind: number, idLow: number, idHigh: number, ptr: number, bytes: number): number {
		return this.#exports.ringPut(this.number, kind, idLow, idHigh, ptr, bytes);
	}

	/** Publishes all that was put. @returns 1 to signal the peer, 0, or a status */
	publish(): number {
		return this.#exports.ringPublish(this.number);
	}

	/** Writes a list of packets (assembly/layout/ring.ts, BURST_*) and publishes once. @returns 2 * packets + signal, or a status */
	tryWriteBurst(list: number, count: number): number {
		return this.#exports.ringWriteBurst(this.number, list, count);
	}

	/** Room for a payload built in place. @returns its ptr, or a status */
	reserve(bytes: number): number {
		return this.#exports.ringReserve(this.number, bytes);
	}

	/** Ends a reservation; publish() shows it to the peer. @returns 0 or a status */
	commit(kind: number, idLow: number, idHigh: number, bytes: number): number {
		return this.#exports.ringCommit(this.number, kind, idLow, idHigh, bytes);
	}

	/** Raw free bytes now; a packet takes 24 + its payload rounded up to 8, and must leave 8 of them. @throws DmaError */
	get freeBytes(): number {
		return orThrow(this.#exports.ringFree(this.number), () => "freeBytes");
	}

	/** Writes refused for want of room, and those of them right after an accepted one. */
	get refusals(): { readonly total: number; readonly first: number } {
		const record = this.#exports.ringPtr(this.number);
		return {
			total: this.#instance.u32(record + layout.RING_FULL_TOTAL),
			first: this.#instance.u32(record + layout.RING_FULL_FIRST),
		};
	}

	/** The transaction id of the packet written last: what the requestor gave. */
	get lastId(): bigint {
		return this.#instance.data.getBigUint64(this.#exports.ringPtr(this.number) + layout.RING_GIVEN_ID, true);
	}

	/** Live ids of the requestor; 0 without one. */
	get liveRequests(): number {
		const requestor = this.#exports.requestorOf(this.number);
		return requestor === 0 ? 0 : this.#instance.u32(requestor + layout.REQUESTOR_LIVE);
	}

	#kind(options: SendOptions, type: number): number {
		return ((options.wantsCompletion ? WANTS_COMPLETION : 0) << 16) | (options.type ?? type);
	}

	/** Checks what is to be sent behind `ahead` bytes. @throws TypeError for what is no bytes, RangeError for too many */
	#fits(ahead: number, name: string, pieces: readonly Uint8Array[]): void {
		let bytes = ahead;
		for (const piece of pieces) {
			expectBytes(name, piece);
			bytes += piece.length;
		}
		const most = Math.min(this.#scratchBytes, MAX_PAYLOAD_BYTES);
		if (bytes > most) throw new RangeError(`a packet of ${bytes} bytes: this ring takes up to ${most}`);
	}

	#publish(status: number, call: string): boolean {
		if (status === RING_FULL || status === REQUESTOR_FULL) return false;
		orThrow(status, () => call);
		if (orThrow(this.publish(), () => call) === 1) this.#onSignal();
		return true;
	}

	/** Sends one packet. @returns false when the ring, or the requestor, is full @throws DmaError; RangeError for a payload that is too long */
	send(payload: Uint8Array, options: SendOptions = {}): boolean {
		this.#fits(0, "payload", [payload]);
		this.#instance.bytes.set(payload, this.#scratch);
		const id = options.id ?? 0n;
		const [low, high] = halves(id);
		const status = this.put(this.#kind(options, PacketType.InBand), low, high, this.#scratch, payload.length);
		return this.#publish(status, `send(${payload.length} bytes, id ${id})`);
	}

	/** Sends a packet whose payload lies in pieces. @returns and throws as send */
	sendGather(pieces: readonly Uint8Array[], options: SendOptions = {}): boolean {
		this.#fits(pieces.length * layout.GATHER_BYTES, "pieces", pieces);
		const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
		const list = this.#scratch + ((bytes + 7) & ~7);
		let at = this.#scratch;
		for (const [i, piece] of pieces.entries()) {
			this.#instance.bytes.set(piece, at);
			this.#instance.data.setUint32(list + i * layout.GATHER_BYTES + layout.GATHER_PTR, at, true);
			this.#instance.data.setUint32(list + i * layout.GATHER_BYTES + layout.GATHER_LENGTH, piece.length, true);
			at += piece.length;
		}
		const [low, high] = halves(options.id ?? 0n);
		const kind = this.#kind(options, PacketType.InBand);
		const status = this.#exports.ringPutGather(this.number, kind, low, high, list, pieces.length);
		return this.#publish(status, `sendGather(${pieces.length} pieces)`);
	}

	/** Answers a request. @returns false when the ring is full: keep the completion and try again */
	complete(id: bigint, payload: Uint8Array): boolean {
		return this.send(payload, { type: PacketType.Completion, id });
	}

	/** Sends a packet that names guest memory (pageBuffers, multiPageRange, pageArray make the ranges). Asks for a completion, as Linux does. */
	sendGpaDirect(ranges: readonly GpaRange[], payload: Uint8Array, options: SendOptions = {}): boolean {
		const bytes = gpaRangesBytes(ranges);
		this.#fits(bytes, "payload", [payload]);
		writeGpaRanges(this.#instance.data, this.#scratch, ranges);
		const kind = this.#kind({ wantsCompletion: true, ...options }, PacketType.GpaDirect);
		return this.#sendRanges(kind, options.id ?? 0n, 0, bytes, ranges.length, payload);
	}

	/** Sends a packet that names stretches of transfer buffer `set`. */
	sendTransferPages(
		set: number,
		ranges: readonly TransferRange[],
		payload: Uint8Array,
		options: SendOptions & { readonly senderOwnsSet?: boolean } = {},
	): boolean {
		this.#fits(8 * ranges.length, "payload", [payload]);
		const pages = ranges.map((range) => ({ ...range, pfns: [] }));
		const bytes = writeGpaRanges(this.#instance.data, this.#scratch, pages);
		const third = (set & 0xffff) | (options.senderOwnsSet ? 65536 : 0);
		const kind = this.#kind(options, PacketType.TransferPages);
		return this.#sendRanges(kind, options.id ?? 0n, third, bytes, ranges.length, payload);
	}

	#sendRanges(kind: number, id: bigint, third: number, bytes: number, count: number, payload: Uint8Array): boolean {
		const [low, high] = halves(id);
		const ptr = this.#scratch + bytes;
		this.#instance.bytes.set(payload, ptr);
		const { number } = this;
		const status = this.#exports.ringPutRanges(
			number,
			kind,
			low,
			high,
			third,
			this.#scratch,
			bytes,
			count,
			ptr,
			payload.length,
		);
		return this.#publish(status, `send(${count} ranges, ${payload.length} bytes, id ${id})`);
	}

	/**
	 * Ends the request that a completion names. @returns the value that was sent with it @throws DmaError BAD_REQUEST: never
	 * issued, or completed before
	 */
	endRequest(id: bigint): bigint {
		const [low, high] = halves(id);
		orThrow(this.#exports.ringComplete(this.number, low, high), () => `endRequest(${id})`);
		return this.#instance.data.getBigUint64(this.#exports.requestorOf(this.number) + layout.REQUESTOR_FOUND, true);
	}

	#wants(payloadBytes: number): number {
		const dataBytes = this.#instance.u32(this.#exports.ringPtr(this.number) + layout.RING_DATA_BYTES);
		if (payloadBytes > dataBytes - 40)
			throw new RangeError(`a ring of ${dataBytes} bytes never has room for ${payloadBytes}`);
		return layout.PACKET_HEADER_BYTES + ((payloadBytes + 7) & ~7) + layout.PACKET_TRAILER_BYTES;
	}

	/**
	 * Publishes, then sleeps until a packet with `payloadBytes` bytes fits.
	 * @param bell the one that the reader rings for this end
	 * @returns false when the time was up. A closed or corrupt ring counts as room: the next call says what.
	 */
	waitForRoom(payloadBytes: number, bell: Doorbell, timeoutMs = Number.POSITIVE_INFINITY): boolean {
		const wanted = this.#wants(payloadBytes);
		const published = this.publish();
		if (published === 1) this.#onSignal();
		const deadline = new Deadline(timeoutMs);
		while (published >= 0) {
			const seen = bell.count;
			if (this.#exports.ringSetPending(this.number, wanted) !== 0) break;
			if (!bell.wait(seen, deadline.leftMs)) return this.#awake(false);
		}
		return this.#awake(true);
	}

	/** As waitForRoom, for threads that may not block. */
	async waitForRoomAsync(payloadBytes: number, bell: Doorbell, timeoutMs = Number.POSITIVE_INFINITY): Promise<boolean> {
		const wanted = this.#wants(payloadBytes);
		const published = this.publish();
		if (published === 1) this.#onSignal();
		const deadline = new Deadline(timeoutMs);
		while (published >= 0) {
			const seen = bell.count;
			if (this.#exports.ringSetPending(this.number, wanted) !== 0) break;
			if (!(await bell.waitAsync(seen, deadline.leftMs))) return this.#awake(false);
		}
		return this.#awake(true);
	}

	/** Waits no more. A closed ring counts as room: the next call says what. */
	#awake(room: boolean): boolean {
		return this.#exports.ringSetPending(this.number, 0) < 0 || room;
	}
}

/** A 64-bit id as two i32. */
function halves(id: bigint): [low: number, high: number] {
	if (id < 0n || id >= 1n << 64n) throw new RangeError(`an id is from 0 to 2^64 - 1, not ${id}`);
	return [Number(id & 0xffffffffn) | 0, Number(id >> 32n) | 0];
}
