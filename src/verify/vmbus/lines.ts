/** A transcript of Linux's guest driver, line by line: what the host did, what the guest answered. */
import { bytesOfHex } from "../../bytes.ts";
import { InputError, shown } from "../../input-error.ts";
import type { TranscriptLine } from "../../vmbus/decode/transcript.ts";

/** What a guest must do alike; all other output of the recording is for people. */
const COMPARED = new Set([
	"POST",
	"SIGNAL",
	"BITSET",
	"DECRYPT",
	"ENCRYPT",
	"DECRYPT-FAIL",
	"ENCRYPT-FAIL",
	"RING",
	"PKTOUT",
	"PKTIN",
	"RECV",
	"LIVELOCK",
	"RES",
	"EOM",
]);

/** Whether a text is such a transcript. */
export function isVmbus(text: string): boolean {
	return text.startsWith("G HELLO hvguest 1 ");
}

/** Whether a guest must do the same as this line says. */
export function isCompared({ direction, verb }: TranscriptLine): boolean {
	return direction === "G" && COMPARED.has(verb);
}

/** Whether the line is an input: what comes before it happened before it. */
export function isInput({ direction, verb }: TranscriptLine): boolean {
	return direction === "H" || direction === "C" || (direction === "S" && verb === "hostring");
}

/** Reads arguments with checks. */
export class LineArgs {
	readonly #path: string;
	readonly line: TranscriptLine;

	constructor(path: string, line: TranscriptLine) {
		this.#path = path;
		this.line = line;
	}

	/** The error that an argument is not what was expected. */
	error(name: string, expected: string, found: string | undefined): InputError {
		const what = found === undefined ? "end of line" : shown(found);
		return new InputError(`${this.#path}:${this.line.number}: ${name}: expected ${expected}, found ${what}`);
	}

	text(index: number, name: string): string {
		const text = this.line.args[index];
		if (text === undefined || text === "") throw this.error(name, "a value", undefined);
		return text;
	}

	has(index: number): boolean {
		return (this.line.args[index] ?? "") !== "";
	}

	/** A whole number, decimal or with 0x, from 0 to `max`. */
	number(index: number, name: string, max = 2 ** 32 - 1): number {
		const text = this.text(index, name);
		const value = /^(\d+|0x[0-9a-f]+)$/i.test(text) ? Number(text) : Number.NaN;
		if (!(value <= max)) throw this.error(name, `a whole number from 0 to ${max}`, text);
		return value;
	}

	/** A whole number below 2^64, decimal or with 0x. */
	big(index: number, name: string): bigint {
		const text = this.text(index, name);
		if (!/^(\d{1,20}|0x[0-9a-f]{1,16})$/i.test(text)) throw this.error(name, "a whole number below 2^64", text);
		return BigInt.asUintN(64, BigInt(text));
	}

	/** Hex digits without 0x, as a number below 2^53. */
	hex(index: number, name: string): number {
		const text = this.text(index, name);
		const value = /^[0-9a-f]+$/i.test(text) ? Number.parseInt(text, 16) : Number.NaN;
		if (!(value < 2 ** 53)) throw this.error(name, "hex digits", text);
		return value;
	}

	/** Bytes in hex; none for an argument that is not there. */
	bytes(index: number, name: string, maxBytes: number): Uint8Array {
		const text = this.line.args[index] ?? "";
		if (!/^([0-9a-f]{2})*$/i.test(text) || text.length > 2 * maxBytes)
			throw this.error(name, `up to ${maxBytes} bytes in hex`, text);
		return bytesOfHex(text);
	}

	/** The value of `key=value` among the arguments from `from` on, or undefined. */
	option(key: string, from = 0): string | undefined {
		return this.line.args
			.slice(from)
			.find((arg) => arg.startsWith(`${key}=`))
			?.slice(key.length + 1);
	}
}
