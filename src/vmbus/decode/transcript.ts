/** Bytes to decode out of files: hex text, and recorded transcripts of a guest and its host. */
import { Fields } from "../../fields.ts";
import { InputError, shown } from "../../input-error.ts";
import type { Sender } from "../wire/messages.ts";

/** Where hex text comes from: what an error names. */
interface HexSource {
	readonly name: string;
	readonly line?: number;
}

/** Bytes of hex text: digits in pairs, blanks anywhere, 0x in front or not. @throws InputError that names place and digit */
export function parseHex(text: string, { name, line }: HexSource): Uint8Array {
	const place = line === undefined ? name : `${name}:${line}`;
	const digits = text.replace(/^\s*0x/i, "").replace(/\s+/g, "");
	const bad = /[^0-9a-f]/i.exec(digits);
	if (bad !== null) throw new InputError(`${place}: expected hex digits, found "${bad[0]}" as digit ${bad.index + 1}`);
	if (digits.length === 0) throw new InputError(`${place}: expected hex digits, found none`);
	if (digits.length % 2 !== 0)
		throw new InputError(`${place}: expected pairs of hex digits, found ${digits.length} digits`);
	return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** How a recorded post or signal left the guest. */
type RecordedPath = "hc" | "ghcb" | "tdcall";

/** Bytes that went one way in a transcript. */
export interface Recorded {
	/** 1-based. */
	readonly line: number;
	readonly verb: "POST" | "MSG" | "HVMSG" | "PKTOUT" | "PKTIN";
	readonly from: Sender;
	readonly bytes: Uint8Array;
	/** POST. */
	readonly connectionId?: number;
	readonly path?: RecordedPath;
	/** Packets. */
	readonly relid?: number;
	/** Packets: the recording kept the first bytes only. */
	readonly isCut?: boolean;
	/** Messages to the guest: the processor. */
	readonly vp?: number;
}

const PATHS: readonly string[] = ["hc", "ghcb", "tdcall"];
const MAX_RELID = 0xffffffff;
const MAX_VPS = 65535;

/** Whether a text is a transcript and not plain hex. */
export function isTranscript(text: string): boolean {
	return text.startsWith("G HELLO ");
}

/** A field of hex digits; a missing one is an empty message. */
function hexField(path: string, fields: Fields, index: number): Uint8Array {
	const text = index < fields.count ? fields.text(index, "bytes") : "";
	return text === "" ? new Uint8Array(0) : parseHex(text, { name: path, line: fields.line });
}

function post(path: string, fields: Fields): Recorded {
	const how = fields.text(5, "path");
	if (!PATHS.includes(how)) throw fields.error("path", PATHS.join(", "), how);
	const connection = fields.text(2, "connection id");
	if (!/^[0-9a-f]{1,8}$/.test(connection)) throw fields.error("connection id", "up to 8 hex digits", connection);
	return {
		line: fields.line,
		verb: "POST",
		from: "guest",
		bytes: hexField(path, fields, 4),
		connectionId: Number.parseInt(connection, 16),
		path: how as RecordedPath,
	};
}

/** A packet's line, or null when the recording kept no bytes of it. */
function packet(path: string, fields: Fields, verb: "PKTOUT" | "PKTIN"): Recorded | null {
	const relid = fields.decimal(2, "relid", 0, MAX_RELID);
	const from = verb === "PKTOUT" ? "guest" : "server";
	for (let i = 3; i < fields.count; i++) {
		const text = fields.text(i, "bytes");
		const isCut = text.startsWith("head=");
		if (text.includes("=") && !isCut) continue;
		const bytes = parseHex(isCut ? text.slice("head=".length) : text, { name: path, line: fields.line });
		return { line: fields.line, verb, from, relid, bytes, isCut };
	}
	return null;
}

/** One line of a transcript: direction, verb and arguments. */
export interface TranscriptLine {
	readonly number: number;
	/** G: the guest's output; H: the host's input; C: a command to the guest; S: a note. */
	readonly direction: "G" | "H" | "C" | "S";
	readonly verb: string;
	readonly args: readonly string[];
	/** All behind the verb. */
	readonly rest: string;
}

function parseLine(path: string, number: number, text: string): TranscriptLine {
	const match = /^([GHCS]) (\S+)(?: (.*))?$/.exec(text);
	if (match === null)
		throw new InputError(`${path}:${number}: line: expected G, H, C or S, a verb and arguments, found ${shown(text)}`);
	const rest = match[3] ?? "";
	return {
		number,
		direction: match[1] as TranscriptLine["direction"],
		verb: match[2] as string,
		args: rest === "" ? [] : rest.split(" "),
		rest,
	};
}

/** The lines of a transcript. @throws InputError for a line of no known form, and at the end of a file that ends early */
export function* transcriptLines(path: string, text: string): Generator<TranscriptLine, void> {
	let last: TranscriptLine | undefined;
	for (const [i, line] of text.split("\n").entries()) {
		if (line.trim() === "") continue;
		last = parseLine(path, i + 1, line.replace(/\r$/, ""));
		yield last;
	}
	if (last?.direction !== "G" || last.verb !== "END")
		throw new InputError(`${path}: expected a last line "G END ...": the file ends early`);
}

/** The messages and packets of a transcript, in order. @throws InputError that names file, line and field; for none at all, too */
export function* transcriptItems(path: string, text: string): Generator<Recorded> {
	let found = 0;
	for (const item of recordedItems(path, text)) {
		found++;
		yield item;
	}
	if (found === 0) throw new InputError(`${path}: expected messages or packets in the transcript, found none`);
}

function* recordedItems(path: string, text: string): Generator<Recorded> {
	for (const { number, direction, verb: name, rest } of transcriptLines(path, text)) {
		if (!/^[GH] (POST|MSG|HVMSG|PKTOUT|PKTIN)$/.test(`${direction} ${name}`)) continue;
		const verb = name as Recorded["verb"];
		const line = number;
		const fields = new Fields(path, number, `${direction} ${verb} ${rest}`);
		if (verb === "POST") yield post(path, fields);
		else if (verb === "MSG" || verb === "HVMSG") {
			const vp = fields.count > 3 ? fields.decimal(3, "cpu", 0, MAX_VPS) : 0;
			const bytes = hexField(path, fields, 2);
			if (verb === "HVMSG" && bytes.length !== 256)
				throw fields.error("bytes", "256 bytes of a message slot", `${bytes.length} bytes`);
			yield { line, verb, from: "server", bytes, vp };
		} else {
			const item = packet(path, fields, verb);
			if (item !== null) yield item;
		}
	}
}
