/** Bytes to decode out of files: hex text, and recorded transcripts of a guest and its host. */
import { Fields } from "../../fields.ts";
import { InputError } from "../../input-error.ts";
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

/** The messages and packets of a transcript, in order. @throws InputError that names file, line and field */
export function* transcriptItems(path: string, text: string): Generator<Recorded> {
	let number = 0;
	for (const line of text.split("\n")) {
		number++;
		const verb = /^[GH] (POST|MSG|HVMSG|PKTOUT|PKTIN)\b/.exec(line)?.[1] as Recorded["verb"] | undefined;
		if (verb === undefined) continue;
		const fields = new Fields(path, number, line);
		if (verb === "POST") yield post(path, fields);
		else if (verb === "MSG" || verb === "HVMSG") {
			const vp = fields.count > 3 ? fields.decimal(3, "cpu", 0, MAX_VPS) : 0;
			const bytes = hexField(path, fields, 2);
			if (verb === "HVMSG" && bytes.length !== 256)
				throw fields.error("bytes", "256 bytes of a message slot", `${bytes.length} bytes`);
			yield { line: number, verb, from: "server", bytes, vp };
		} else {
			const item = packet(path, fields, verb);
			if (item !== null) yield item;
		}
	}
}
