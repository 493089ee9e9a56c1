/** `vmbus ring golden v1`: Linux 6.12's ring_buffer.c, op by op, with both indices, the signals and every byte of the ring. */

import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import * as layout from "../../assembly/layout/ring.ts";
import * as status from "../../assembly/layout/status.ts";
import { Engine } from "../engine.ts";
import { Fields } from "../fields.ts";
import { InputError } from "../input-error.ts";
import { orThrow, statusName } from "../status.ts";
import type { Build, EngineExports } from "../wasm.ts";
import { type Hashes, loadHashes } from "./hashes.ts";
import { readKeyedHeader } from "./header.ts";
import { divergedAt, type Replayed, same } from "./result.ts";

/** Where the ring's first page lies in the replay's RAM. */
const RING_GPA = 0x10000;
/** Room for any packet: no read buffer need be larger. */
const MAX_READ_BYTES = 2 ** 19;
/** Linux's errno of a refused call. */
const EAGAIN = -11;
const ENOBUFS = -105;
const EIO = -5;
const EINVAL = -22;

interface Header {
	readonly pages: number;
	readonly maxPacketBytes: number;
	/** Ops that the file promises, or null. */
	readonly ops: number | null;
}

/** Whether a text is of this format. */
export function isRing(text: string): boolean {
	return text.startsWith("# vmbus ring golden v1");
}

function readHeader(path: string, lines: readonly string[]): { header: Header; first: number } {
	const { key, has, first } = readKeyedHeader(path, lines);
	const header = {
		pages: key("pages").decimal(1, "pages", 1, layout.RING_MAX_PAGES),
		maxPacketBytes: key("max_pkt_size").decimal(1, "max_pkt_size", 16, 2 ** 31),
		ops: has("ops") ? key("ops").decimal(1, "ops", 0, 2 ** 31) : null,
	};
	return { header, first };
}

async function engineFor(header: Header, build: Build): Promise<Engine> {
	const bytes = RING_GPA + header.pages * PAGE_SIZE;
	return Engine.create({
		build,
		swiotlb: null,
		ram: [{ gpa: 0, bytes }],
		coco: false,
		spareBytes: 2 ** 18 + header.pages * 64 + MAX_READ_BYTES + Math.min(header.maxPacketBytes, layout.PACKET_MAX_BYTES),
	});
}

/** Replays one op after the other on a writer and a reader over the same pages. */
class RingReplay {
	readonly #hashes: Hashes;
	readonly #engine: Engine;
	readonly #exports: EngineExports;
	readonly #ringBytes: number;
	readonly #dataBytes: number;
	readonly #buffer: number;
	readonly #writer: number;
	readonly #reader: number;
	#signals = 0;
	#ended = false;
	readonly compared = { writes: 0, refusedWrites: 0, reads: 0, packets: 0, words: 0, corruptions: 0 };

	constructor(engine: Engine, header: Header, hashes: Hashes) {
		this.#hashes = hashes;
		this.#engine = engine;
		this.#exports = engine.instance.exports;
		this.#ringBytes = header.pages * PAGE_SIZE;
		this.#dataBytes = this.#ringBytes - PAGE_SIZE;
		this.#buffer = engine.scratch(MAX_READ_BYTES);
		const gpas = engine.scratch(header.pages * 8);
		for (let i = 0; i < header.pages; i++) {
			engine.instance.data.setFloat64(gpas + 8 * i, RING_GPA + i * PAGE_SIZE, true);
		}
		const attach = (flags: number, maxPacketBytes: number) =>
			this.#exports.ringAttach(gpas, header.pages, flags, maxPacketBytes, 0);
		this.#writer = attach(layout.RING_INIT, 0);
		// no packet is longer than 16 bits of len8 can say
		this.#reader = attach(layout.RING_READER, Math.min(header.maxPacketBytes, layout.PACKET_MAX_BYTES));
		if (this.#writer < 0 || this.#reader < 0) throw new RangeError("the ring cannot be attached");
	}

	get ended(): boolean {
		return this.#ended;
	}

	run(f: Fields): void {
		const op = f.text(0, "op");
		if (this.#ended) throw f.error("op", "nothing after the line E", op);
		if (op === "E") {
			same(f.line, "sha-256 of the ring", this.#hex(f, 1, "sha", 64), this.#sha());
			this.#ended = true;
			return;
		}
		const state =
			op === "W"
				? this.#write(f)
				: op === "R"
					? this.#read(f)
					: op === "I"
						? this.#iterate(f)
						: op === "P" || op === "M"
							? this.#word(f, op)
							: op === "X"
								? this.#corrupt(f)
								: Number.NaN;
		if (Number.isNaN(state)) throw f.error("op", "one of W R I P M X E", op);
		this.#state(f, state);
	}

	#count(call: string, result: number): number {
		if (result < 0) throw new RangeError(`${call}: ${statusName(result)}`);
		this.#signals += result & 1;
		return result >> 1;
	}

	#sha(): string {
		return this.#hashes.sha256(this.#engine.ram.view(RING_GPA, this.#ringBytes));
	}

	#hex(f: Fields, index: number, name: string, digits: number): string {
		const text = f.text(index, name);
		if (!new RegExp(`^[0-9a-f]{${digits}}$`).test(text)) throw f.error(name, `${digits} hex digits`, text);
		return text;
	}

	#sign(f: Fields, index: number, sign: string): void {
		if (f.text(index, `"${sign}"`) !== sign)
			throw f.error("line", `"${sign}" as field ${index + 1}`, f.text(index, sign));
	}

	/** @returns the number of the field behind the op */
	#write(f: Fields): number {
		const bytes = f.decimal(1, "len", 0, 2 ** 19 - 24);
		const seed = f.decimal(2, "seed", 0, 2 ** 31);
		const type = f.decimal(3, "type", 0, 65535);
		const flags = f.decimal(4, "flags", 0, 65535);
		const id = f.hex64(5, "rid");
		this.#sign(f, 6, "=");
		const expected = f.decimal(7, "rc", -4096, 0);
		const payload = this.#engine.instance.bytes.subarray(this.#buffer, this.#buffer + bytes);
		for (let i = 0; i < bytes; i++) payload[i] = seed + 31 * i;
		const low = Number(id & 0xffffffffn) | 0;
		const high = Number(id >> 32n) | 0;
		const got = this.#exports.ringWrite(this.#writer, (flags << 16) | type, low, high, this.#buffer, bytes);
		same(f.line, "rc of the write", expected, got >= 0 ? 0 : got === status.RING_FULL ? EAGAIN : EIO);
		if (got >= 0) this.#signals += got;
		else this.compared.refusedWrites++;
		this.compared.writes++;
		return 8;
	}

	/** A call of the reader; where the engine stops on a broken peer, Linux goes on, and so does the replay. */
	#asLinux(call: () => number): number {
		const result = call();
		if (result !== status.RING_EMPTY) return result;
		const resumed = this.#exports.ringResume(this.#reader);
		return resumed < 0 ? resumed : call();
	}

	#packetId(): string {
		const at = this.#engine.instance.exports.ringPtr(this.#reader) + layout.RING_PACKET_ID;
		return `0x${this.#engine.instance.data.getBigUint64(at, true).toString(16)}`;
	}

	#read(f: Fields): number {
		const bufferBytes = Math.min(f.decimal(1, "buflen", 0, 2 ** 31), MAX_READ_BYTES);
		const raw = f.decimal(2, "raw", 0, 1);
		this.#sign(f, 3, "=");
		const expectedRc = f.decimal(4, "rc", -4096, 0);
		const expectedBytes = f.decimal(5, "actual", 0, 2 ** 31);
		const expectedId = `0x${f.hex64(6, "rid").toString(16)}`;
		const expectedCrc = this.#hex(f, 7, "crc", 8);
		const got = this.#asLinux(() => this.#exports.ringRead(this.#reader, raw, this.#buffer, bufferBytes));
		let rc = 0;
		let bytes = 0;
		let id = "0x0";
		let crc = "00000000";
		if (got === status.RING_TOO_SMALL) {
			const at = this.#exports.ringPtr(this.#reader) + layout.RING_PACKET_HEAD;
			rc = ENOBUFS;
			bytes =
				this.#engine.instance.data.getUint16(at + 4, true) * 8 -
				(raw ? 0 : this.#engine.instance.data.getUint16(at + 2, true) * 8);
			id = this.#packetId();
		} else if (got === status.BAD_SIZE) rc = EINVAL;
		else if (got !== status.RING_EMPTY) {
			bytes = this.#count("read", got);
			id = this.#packetId();
			crc = this.#crc(this.#buffer, bytes);
		}
		same(f.line, "rc of the read", expectedRc, rc);
		same(f.line, "bytes of the read", expectedBytes, bytes);
		same(f.line, "transaction id of the read", expectedId, id);
		same(f.line, "crc of the read", expectedCrc, crc);
		this.compared.reads++;
		return 8;
	}

	#crc(ptr: number, bytes: number): string {
		return this.#hashes.crc32(this.#engine.instance.bytes.subarray(ptr, ptr + bytes));
	}

	#iterate(f: Fields): number {
		const max = f.decimal(1, "max", 0, 2 ** 31);
		this.#sign(f, 2, "=");
		const expected = f.decimal(3, "n", 0, 2 ** 31);
		const expectedHash = this.#hex(f, 4, "hash", 8);
		const { exports } = this.#engine.instance;
		const record = exports.ringPtr(this.#reader);
		const { data } = this.#engine.instance;
		let n = 0;
		let hash = 0;
		for (; n < max && this.#asLinux(() => exports.ringNext(this.#reader, 0)) >= 0; n++) {
			const packet = exports.ringPacket(this.#reader);
			const bytes = data.getUint16(record + layout.RING_PACKET_HEAD + 4, true) * 8;
			hash = (Math.imul(hash, 31) + Number.parseInt(this.#crc(packet, bytes), 16)) >>> 0;
		}
		orThrow(exports.ringAdvance(this.#reader), () => "advance()");
		this.#signals += orThrow(exports.ringRelease(this.#reader), () => "release()");
		same(f.line, "packets iterated", expected, n);
		same(f.line, "hash of the packets", expectedHash, hash.toString(16).padStart(8, "0"));
		this.compared.packets += n;
		return 5;
	}

	#word(f: Fields, op: "P" | "M"): number {
		const value = f.decimal(1, "v", 0, 2 ** 32 - 1);
		const set =
			op === "P" ? this.#exports.ringSetPending(this.#writer, value) : this.#exports.ringMask(this.#reader, value);
		orThrow(set, () => op);
		this.compared.words++;
		return 2;
	}

	#corrupt(f: Fields): number {
		const offset = f.decimal(1, "off", 0, 2 ** 31);
		const value = f.decimal(2, "v", 0, 65535);
		if (this.#dataBytes === 0) throw f.error("off", "a ring with data pages");
		const { ram } = this.#engine;
		const at = this.#engine.instance.u32(this.#exports.ringPtr(this.#reader) + layout.RING_AT);
		for (const [i, byte] of [value & 255, value >> 8].entries()) {
			ram.write(RING_GPA + PAGE_SIZE + ((at + offset + i) % this.#dataBytes), Uint8Array.of(byte));
		}
		this.compared.corruptions++;
		return 3;
	}

	#state(f: Fields, index: number): void {
		this.#sign(f, index, "|");
		const reader = this.#exports.ringPtr(this.#reader);
		const writer = this.#exports.ringPtr(this.#writer);
		const header = this.#engine.ram.view(RING_GPA, 8);
		const words = new DataView(header.buffer, header.byteOffset, 8);
		const { instance } = this.#engine;
		const compare = (at: number, name: string, got: number) =>
			same(f.line, name, f.decimal(index + at, name, 0, 2 ** 40), got);
		compare(1, "write_index", words.getUint32(layout.HEADER_WRITE_INDEX, true));
		compare(2, "read_index", words.getUint32(layout.HEADER_READ_INDEX, true));
		compare(3, "priv_read_index", instance.u32(reader + layout.RING_AT));
		compare(4, "out_full_total", instance.u32(writer + layout.RING_FULL_TOTAL));
		compare(5, "out_full_first", instance.u32(writer + layout.RING_FULL_FIRST));
		compare(6, "signals", this.#signals);
		same(f.line, "sha-256 of the ring", this.#hex(f, index + 7, "sha16", 16), this.#sha().slice(0, 16));
	}
}

/** Replays a recording and compares every answer. @throws InputError for a file that is not of the format */
export async function verifyRing(path: string, text: string, build: Build = "engine"): Promise<Replayed> {
	const lines = text.split("\n");
	const { header, first } = readHeader(path, lines);
	const replay = new RingReplay(await engineFor(header, build), header, await loadHashes());
	const { compared } = replay;
	let line = first;
	let ops = 0;
	try {
		for (let i = first; i < lines.length; i++) {
			if ((lines[i] as string).trim() === "") continue;
			line = i + 1;
			replay.run(new Fields(path, line, lines[i] as string));
			ops++;
		}
	} catch (error) {
		return { compared, outcome: divergedAt(line, error) };
	}
	if (!replay.ended) throw new InputError(`${path}: expected a last line "E ...": the file ends early`);
	if (header.ops !== null && ops - 1 !== header.ops)
		throw new InputError(`${path}: ops: expected ${header.ops} ops, found ${ops - 1}`);
	const { writes, refusedWrites, reads, packets, corruptions } = compared;
	const parts = [
		`${ops - 1}/${ops - 1} steps identical`,
		`${writes} writes (${refusedWrites} refused)`,
		`${reads} reads`,
		`${packets} packets iterated`,
		...(corruptions > 0 ? [`${corruptions} corruptions`] : []),
		"indices, signals and ring bytes identical",
	];
	return { compared, outcome: { identical: true, said: parts.join(", ") } };
}
