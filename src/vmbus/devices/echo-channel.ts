/** The open channel of an echo device: its rings, what it sends back, and its commands (echo.ts). */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { Engine } from "../../engine.ts";
import { type GpaRange, type Packet, PacketType, type TransferRange, WANTS_COMPLETION } from "../../ring/packet.ts";
import { RingPair } from "../../ring/pair.ts";
import { DmaError, orThrow, type StatusName } from "../../status.ts";
import type { Gpa } from "../../types.ts";
import { type MemoryRefusal, type MemoryView, rangesBytes, readRanges, writeRanges } from "../server/memory-view.ts";

/** First word of a command: "ECHO". */
export const ECHO = 0x4f484345;
export const EchoCommand = { Buffer: 1, Transfer: 2, Take: 3, Give: 4 } as const;
export const EchoStatus = {
	Done: 0,
	/** No such command, or its fields are impossible. */
	Invalid: 1,
	/** Memory that the device may not touch. */
	Refused: 2,
	/** Too much of the transfer buffer is with the guest. */
	Busy: 3,
} as const;
type EchoStatus = (typeof EchoStatus)[keyof typeof EchoStatus];

/** Parts that a transfer buffer is sent in. */
const SECTION_BYTES = 2048;
/** What a guest can make the device keep. */
const MAX_KEPT_BYTES = 2 ** 20;
/** Packets of one service(): other channels have their turn. */
const PACKETS_A_TURN = 1024;
/** Header and trailer. */
const PACKET_BYTES = 24;

/** What one service() did. */
export interface EchoTurn {
	readonly packets: number;
	/** Whether there is more to do that no signal will tell of. */
	readonly more: boolean;
	/** Why the device has stopped using the channel for good, or null. */
	readonly broken: StatusName | MemoryRefusal | null;
}

interface EchoChannelOptions {
	readonly engine: Engine;
	/** gpas of both rings' pages. */
	readonly pages: readonly Gpa[];
	readonly downstreamPage: number;
	/** The only way to the rings' pages, and to what packets name; null: none. */
	readonly rings: MemoryView;
	readonly external: MemoryView | null;
	readonly gpadls: ReadonlyMap<number, readonly GpaRange[]>;
	readonly onSignal: () => void;
	/** Longest packet, header included (bytes). */
	readonly maxPacketBytes: number;
}

export class EchoChannel {
	readonly #options: EchoChannelOptions;
	readonly #pair: RingPair;
	/** Sends that a full ring did not take; nothing is read before they are done. */
	readonly #unsent: { readonly bytes: number; readonly send: () => boolean }[] = [];
	#buffer: { readonly gpadl: number; readonly set: number; readonly free: number[] } | null = null;
	/** Sections that the transfer-page packet of that id took. */
	readonly #lent = new Map<bigint, readonly number[]>();
	#nextId = 1n;
	#kept: Uint8Array = new Uint8Array(0);
	#broken: StatusName | MemoryRefusal | null = null;

	/** @throws DmaError for pages that cannot be rings */
	constructor(options: EchoChannelOptions) {
		const { engine, pages, downstreamPage, onSignal, maxPacketBytes } = options;
		this.#options = options;
		this.#pair = RingPair.attach(engine, { pages, downstreamPage, side: "device", maxPacketBytes, onSignal });
	}

	/** The GPADL is the guest's again. */
	forget(gpadl: number): void {
		if (this.#buffer?.gpadl !== gpadl) return;
		this.#buffer = null;
		this.#lent.clear();
	}

	/** Stops for good. */
	stop(reason: StatusName | MemoryRefusal): void {
		this.#broken ??= reason;
	}

	detach(): void {
		this.#pair.detach();
	}

	/** Answers what the guest sent. Never throws for what a guest does. */
	service(): EchoTurn {
		// the guest may have converted the pages since the last turn
		for (const gpa of this.#options.pages) this.#broken ??= this.#options.rings.refusal(gpa, PAGE_SIZE);
		let packets = 0;
		let more = false;
		if (this.#broken === null) {
			try {
				const { reader } = this.#pair;
				reader.beginRead();
				while (this.#flush() && packets < PACKETS_A_TURN) {
					const packet = reader.receive();
					if (packet === null) break;
					packets++;
					this.#answer(packet);
				}
				more = reader.endRead() > 0 && this.#unsent.length === 0;
			} catch (error) {
				if (!(error instanceof DmaError)) throw error;
				this.#broken = error.status;
			}
		}
		return { packets, more: more && this.#broken === null, broken: this.#broken };
	}

	/** Sends what waits; a full ring's guest is asked to signal when there is room. @returns whether all of it went */
	#flush(): boolean {
		const { exports } = this.#options.engine.instance;
		const { number } = this.#pair.writer;
		for (let [next] = this.#unsent; next !== undefined; [next] = this.#unsent) {
			while (!next.send()) if (exports.ringSetPending(number, next.bytes) === 0) return false;
			orThrow(exports.ringSetPending(number, 0), () => "setPending()");
			this.#unsent.shift();
		}
		return true;
	}

	#send(payload: Uint8Array, type: PacketType, id: bigint): void {
		const { pages, downstreamPage } = this.#options;
		const most = (pages.length - downstreamPage - 1) * PAGE_SIZE - 16;
		const bytes = PACKET_BYTES + ((payload.length + 7) & ~7);
		// a ring that could never take it: an answer without payload says so
		const fitting = bytes <= most ? payload : new Uint8Array(0);
		this.#unsent.push({ bytes: Math.min(bytes, most), send: () => this.#pair.writer.send(fitting, { type, id }) });
	}

	#answer(packet: Packet): void {
		const { payload, type, id } = packet;
		if (type === PacketType.Completion) {
			this.#takeBack(id);
			return;
		}
		const wantsCompletion = (packet.flags & WANTS_COMPLETION) !== 0;
		const data = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
		const isCommand = payload.length >= 8 && data.getUint32(0, true) === ECHO;
		const answer = isCommand ? this.#command(packet, data) : payload;
		if (wantsCompletion) this.#send(answer, PacketType.Completion, id);
		else if (type === PacketType.InBand) this.#send(answer, PacketType.InBand, id);
	}

	/** @returns the answer: {u32 status, u32 bytes} */
	#command(packet: Packet, data: DataView): Uint8Array {
		let done: { status: EchoStatus; bytes: number } = { status: EchoStatus.Invalid, bytes: 0 };
		const { gpaRanges, payload, type } = packet;
		switch (data.getUint32(4, true)) {
			case EchoCommand.Buffer:
				if (type === PacketType.InBand && payload.length >= 16)
					done = this.#setBuffer(data.getUint32(8, true), data.getUint32(12, true));
				break;
			case EchoCommand.Transfer:
				if (type === PacketType.InBand) done = this.#transfer(payload.subarray(8));
				break;
			case EchoCommand.Take:
				if (gpaRanges !== undefined) done = this.#take(gpaRanges);
				break;
			case EchoCommand.Give:
				if (gpaRanges !== undefined) done = this.#give(gpaRanges);
		}
		const answer = new Uint8Array(8);
		new DataView(answer.buffer).setUint32(0, done.status, true);
		new DataView(answer.buffer).setUint32(4, done.bytes, true);
		return answer;
	}

	#take(ranges: readonly GpaRange[]) {
		const bytes = rangesBytes(ranges);
		if (bytes > MAX_KEPT_BYTES) return { status: EchoStatus.Invalid, bytes: 0 };
		const taken =
			this.#options.external === null ? "WRONG_PAGES" : readRanges(this.#options.external, ranges, 0, bytes);
		if (typeof taken === "string") return { status: EchoStatus.Refused, bytes: 0 };
		this.#kept = taken;
		return { status: EchoStatus.Done, bytes };
	}

	#give(ranges: readonly GpaRange[]) {
		const bytes = Math.min(rangesBytes(ranges), this.#kept.length);
		return { ...this.#write(ranges, 0, this.#kept.subarray(0, bytes)), bytes };
	}

	#write(ranges: readonly GpaRange[], offset: number, data: Uint8Array): { status: EchoStatus; bytes: number } {
		const { external } = this.#options;
		const refused = external === null ? "WRONG_PAGES" : writeRanges(external, ranges, offset, data);
		return { status: refused === null ? EchoStatus.Done : EchoStatus.Refused, bytes: data.length };
	}

	#setBuffer(gpadl: number, set: number) {
		const bytes = rangesBytes(this.#options.gpadls.get(gpadl) ?? []);
		const sections = Math.floor(bytes / SECTION_BYTES);
		if (sections === 0 || set > 0xffff) return { status: EchoStatus.Invalid, bytes: 0 };
		this.#lent.clear();
		this.#buffer = { gpadl, set, free: Array.from({ length: sections }, (_, i) => sections - 1 - i) };
		return { status: EchoStatus.Done, bytes };
	}

	#transfer(data: Uint8Array): { status: EchoStatus; bytes: number } {
		const buffer = this.#buffer;
		const ranges = this.#options.gpadls.get(buffer?.gpadl ?? -1);
		if (buffer === null || ranges === undefined || data.length === 0) return { status: EchoStatus.Invalid, bytes: 0 };
		const needed = Math.ceil(data.length / SECTION_BYTES);
		if (needed > buffer.free.length) return { status: EchoStatus.Busy, bytes: 0 };
		const sections = buffer.free.splice(-needed).reverse();
		const stretches: TransferRange[] = [];
		for (const [i, section] of sections.entries()) {
			const part = data.subarray(i * SECTION_BYTES, (i + 1) * SECTION_BYTES);
			const offset = section * SECTION_BYTES;
			stretches.push({ bytes: part.length, offset });
			const { status } = this.#write(ranges, offset, part);
			if (status === EchoStatus.Done) continue;
			buffer.free.push(...sections);
			return { status, bytes: 0 };
		}
		const id = this.#nextId++;
		this.#lent.set(id, sections);
		const { writer } = this.#pair;
		const send = () =>
			writer.sendTransferPages(buffer.set, stretches, new Uint8Array(0), { id, wantsCompletion: true });
		this.#unsent.push({ bytes: PACKET_BYTES + 8 + 8 * stretches.length, send });
		return { status: EchoStatus.Done, bytes: data.length };
	}

	/** The guest has completed a transfer; an id that is not lent, or no more, is nothing. */
	#takeBack(id: bigint): void {
		this.#buffer?.free.push(...(this.#lent.get(id) ?? []));
		this.#lent.delete(id);
	}
}
