/** Compares what the guest does, event by event, with what the transcript says comes next. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { hexOf } from "../../bytes.ts";
import { InputError } from "../../input-error.ts";
import type { Gpa } from "../../types.ts";
import type { TranscriptLine } from "../../vmbus/decode/transcript.ts";
import { MessageType } from "../../vmbus/wire/messages.ts";
import { Version } from "../../vmbus/wire/versions.ts";
import type { Hashes } from "../hashes.ts";
import { Diverged } from "../result.ts";
import { isCompared, isInput, LineArgs } from "./lines.ts";
import { describePayload } from "./text.ts";

/** Byte offset of the GPADL handle in each message of the guest that has one. */
const GPADL_AT: Readonly<Record<number, number>> = {
	[MessageType.GpadlHeader]: 12,
	[MessageType.GpadlBody]: 12,
	[MessageType.OpenChannel]: 16,
	[MessageType.GpadlTeardown]: 12,
};
/** And in the host's. */
const HOST_GPADL_AT: Readonly<Record<number, number>> = {
	[MessageType.GpadlCreated]: 12,
	[MessageType.GpadlTorndown]: 8,
};
/** Where the page numbers of a GPADL message start. */
const PFNS_AT: Readonly<Record<number, number>> = { [MessageType.GpadlHeader]: 28, [MessageType.GpadlBody]: 16 };

const u32At = (bytes: Uint8Array, at: number) =>
	at + 4 <= bytes.length ? new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true) : 0;

/** The lines that are left, and how many were found identical. */
export class Expected {
	readonly path: string;
	readonly #lines: readonly TranscriptLine[];
	readonly #vtom: bigint;
	readonly #hashes: Hashes;
	#at = 0;
	/** GPADL handles: the recording's to the guest's. */
	readonly #handles = new Map<number, number>();
	/** Pages of the recorded conversions in a row that the guest has not made yet. */
	#pagesAhead = 0;
	readonly compared: Record<string, number> = {};

	/** @param vtom bits of the shared address space, kept in gpas */
	constructor(path: string, lines: readonly TranscriptLine[], vtom: bigint, hashes: Hashes) {
		this.#hashes = hashes;
		this.path = path;
		this.#lines = lines;
		this.#vtom = vtom;
	}

	/** Number of the line in hand, for errors. */
	get line(): number {
		return (this.#lines[this.#at] ?? this.#lines.at(-1))?.number ?? 1;
	}

	/** Skips what is not compared. @returns the next output to compare or input, or undefined at the end */
	#next(): TranscriptLine | undefined {
		while (this.#at < this.#lines.length) {
			const line = this.#lines[this.#at] as TranscriptLine;
			if (isCompared(line) || isInput(line)) return line;
			this.#at++;
		}
		return undefined;
	}

	/** Takes the next input, or undefined at the end. @throws Diverged when the recorded guest did more before it */
	nextInput(): TranscriptLine | undefined {
		const line = this.#next();
		if (line === undefined) return undefined;
		if (!isInput(line)) throw new Diverged(line.number, line.verb, this.#describe(line), "nothing");
		if (this.#pagesAhead > 0)
			throw new Diverged(line.number, "conversion", `${this.#pagesAhead} more pages`, "no more");
		this.#at++;
		return line;
	}

	/** Whether the next thing is the end of such a command, which the guest has not come to. */
	endsWithout(command: string): boolean {
		const line = this.#next();
		return line?.verb === "RES" && line.args[1] === command;
	}

	#describe(line: TranscriptLine): string {
		if (line.verb === "POST")
			return `POST ${line.args[0]} ${describePayload(new LineArgs(this.path, line).bytes(2, "payload", 240))}`;
		return `${line.verb} ${line.rest.length > 160 ? `${line.rest.slice(0, 160)}...` : line.rest}`;
	}

	/** The next output, which must be of that verb. @throws Diverged that says what was recorded and what the guest did */
	#take(verb: string, got: string): LineArgs {
		const line = this.#next();
		if (line === undefined || isInput(line)) {
			const next = line === undefined ? "the end" : `${line.direction} ${line.verb}`;
			throw new Diverged(line?.number ?? this.line, verb, `nothing before ${next}`, got);
		}
		if (line.verb !== verb) throw new Diverged(line.number, line.verb, this.#describe(line), got);
		this.#at++;
		this.compared[verb] = (this.compared[verb] ?? 0) + 1;
		return new LineArgs(this.path, line);
	}

	/** An output of one line, as text. */
	line1(verb: string, text: string): void {
		const { line } = this.#take(verb, `${verb} ${text}`);
		if (line.rest !== text) throw new Diverged(line.number, verb, this.#describe(line), `${verb} ${text}`);
	}

	/** A message of the guest. */
	post(connectionId: number, type: number, payload: Uint8Array, path: string): void {
		const got = `POST ${connectionId.toString(16)} ${describePayload(payload)}`;
		const args = this.#take("POST", got);
		const recorded = args.bytes(2, "payload", 240);
		if (u32At(recorded, 0) === MessageType.GpadlHeader && u32At(payload, 0) === MessageType.GpadlHeader)
			this.#handles.set(u32At(recorded, 12), u32At(payload, 12));
		const head = (id: string, kind: string, way: string) => `connection ${id}, type ${kind}, by ${way}`;
		const expected = head(args.text(0, "conn"), args.text(1, "type"), args.text(3, "path"));
		const actual = head(connectionId.toString(16), String(type), path);
		const same = hexOf(this.#settled(recorded, true)) === hexOf(this.#settled(payload, false));
		if (expected !== actual || !same)
			throw new Diverged(
				args.line.number,
				"POST",
				`${expected}: ${describePayload(recorded)}`,
				`${actual}: ${describePayload(payload)}`,
			);
	}

	/** A message with its free fields settled: what is left must be the same. */
	#settled(payload: Uint8Array, isRecorded: boolean): Uint8Array {
		const out = payload.slice();
		const data = new DataView(out.buffer);
		const type = u32At(out, 0);
		const at = GPADL_AT[type];
		if (at !== undefined && at + 4 <= out.length && isRecorded) {
			const handle = data.getUint32(at, true);
			data.setUint32(at, this.#handles.get(handle) ?? handle, true);
		}
		const pfns = PFNS_AT[type];
		if (pfns !== undefined) out.fill(0, pfns);
		// whose processor it is to be is the guest's own policy
		if (type === MessageType.OpenChannel && out.length >= 24) data.setUint32(20, 0, true);
		if (type === MessageType.InitiateContact && out.length >= 40) {
			if (data.getUint32(8, true) < Version.V5_0) data.setBigUint64(16, 0n, true);
			for (const page of [24, 32]) {
				const gpa = data.getBigUint64(page, true);
				data.setBigUint64(page, gpa === 0n ? 0n : (gpa & this.#vtom) | 1n, true);
			}
		}
		return out;
	}

	/** A message of the host, with its GPADL handle made the guest's. */
	hostPayload(payload: Uint8Array): Uint8Array {
		const at = HOST_GPADL_AT[u32At(payload, 0)];
		const handle = at === undefined ? undefined : this.#handles.get(u32At(payload, at));
		if (at === undefined || handle === undefined || payload.length < at + 4) return payload;
		const out = payload.slice();
		new DataView(out.buffer).setUint32(at, handle, true);
		return out;
	}

	/** Lines up to the `H RET` of a post. @param input takes what the host did before the post returned */
	status(input: (line: TranscriptLine) => void): number {
		for (let line = this.#next(); line !== undefined; line = this.#next()) {
			if (line.direction !== "H" && line.verb !== "hostring") break;
			this.#at++;
			if (line.verb === "RET") return new LineArgs(this.path, line).number(0, "status", 65535);
			input(line);
		}
		throw new InputError(`${this.path}:${this.line}: line: expected "H RET" of the POST before it`);
	}

	/** A conversion. Recorded line by line of contiguous pages, whatever the guest's pages are. */
	convert(verb: "DECRYPT" | "ENCRYPT", pages: number, done: boolean): void {
		const got = `${verb}${done ? "" : "-FAIL"} of ${pages} pages`;
		if (!done) {
			const args = this.#take(`${verb}-FAIL`, got);
			if (args.hex(0, "pages") !== pages && args.number(0, "pages") !== pages)
				throw new Diverged(args.line.number, `${verb}-FAIL`, this.#describe(args.line), got);
			return;
		}
		while (this.#pagesAhead < pages) this.#pagesAhead += this.#take(verb, got).number(1, "pages");
		this.#pagesAhead -= pages;
		const next = this.#next();
		if (this.#pagesAhead > 0 && next?.verb !== verb && next !== undefined)
			throw new Diverged(next.number, verb, `${this.#pagesAhead} more pages`, got);
	}

	bitSet(gpa: Gpa, bit: number): void {
		const got = `BITSET ...${(gpa % PAGE_SIZE).toString(16)} ${bit}`;
		const args = this.#take("BITSET", got);
		if (
			args.hex(0, "gpa") % PAGE_SIZE !== gpa % PAGE_SIZE ||
			![String(bit), bit.toString(16)].includes(args.text(1, "bit"))
		)
			throw new Diverged(args.line.number, "BITSET", this.#describe(args.line), got);
	}

	/** A packet: its bytes, or length, first 64 bytes and hash where they are many. */
	packet(verb: "PKTOUT" | "PKTIN" | "RECV", head: string, bytes: Uint8Array, tail = ""): void {
		const whole = `${head} ${hexOf(bytes)}${tail}`;
		const args = this.#take(verb, `${verb} ${whole.slice(0, 160)}`);
		const { line } = args;
		const length = args.option("len");
		if (length === undefined && line.rest === whole) return;
		const start = args.option("head") === undefined ? "" : ` head=${hexOf(bytes.subarray(0, 64))}`;
		const short = `${head} len=${bytes.length}${start} sha256=${this.#hashes.sha256(bytes)}${tail}`;
		if (length === undefined || line.rest !== short)
			throw new Diverged(line.number, verb, this.#describe(line), `${verb} ${length === undefined ? whole : short}`);
	}

	/** A reader that Linux would never let go. The text behind the relid says where the recorder ended it. */
	livelock(relid: number): void {
		const args = this.#take("LIVELOCK", `LIVELOCK ${relid}`);
		if (args.number(0, "relid") !== relid)
			throw new Diverged(args.line.number, "LIVELOCK", this.#describe(args.line), `LIVELOCK ${relid}`);
	}

	/** The end of a command: its number, and whether it went well. */
	result(number: number, status: string): void {
		const got = `RES ${number} ${status}`;
		const args = this.#take("RES", got);
		const rc = Number(args.text(2, "rc"));
		if (!Number.isInteger(rc)) throw args.error("rc", "a whole number", args.text(2, "rc"));
		if (args.number(0, "number") !== number || rc >= 0 !== (status === "ok"))
			throw new Diverged(args.line.number, "RES", this.#describe(args.line), got);
	}
}
