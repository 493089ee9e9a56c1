/** Decoded bytes: what a line for people is made of. */

import type { Sender } from "../wire/messages.ts";

/** One line: a field of the bytes. */
export interface DecodedField {
	/** Where it starts (bytes). */
	readonly offset: number;
	readonly bytes: number;
	readonly name: string;
	/** The value as text: decimal, 0x, a GUID, or plain hex for bytes. */
	readonly value: string;
	/** What the value says, or "". */
	readonly meaning: string;
}

export interface Decoded {
	readonly kind: "message" | "slot" | "packet";
	/** The message's or the packet's type in a word, such as GPADL_HEADER or "in-band data". */
	readonly name: string;
	readonly title: string;
	readonly bytes: number;
	/** Who sends such bytes, if that can be told from them. */
	readonly from?: Sender;
	readonly fields: readonly DecodedField[];
	/** What is wrong with the bytes. */
	readonly error?: string;
}

/** Plain hex; `most` bytes of it at most. */
export function hexText(bytes: Uint8Array, most = bytes.length): string {
	const text = Array.from(bytes.subarray(0, most), (byte) => byte.toString(16).padStart(2, "0")).join("");
	return bytes.length > most ? `${text}...` : text;
}

/** Bytes that belong to no field, if any of them is not zero. */
export function restField(payload: Uint8Array, offset: number, end: number, name: string): DecodedField[] {
	const rest = payload.subarray(offset, end);
	if (rest.every((byte) => byte === 0)) return [];
	return [{ offset, bytes: rest.length, name, value: hexText(rest), meaning: "not zero" }];
}

/** Numbers with runs shortened: "0x200..0x203 0x80". */
export function runsText(numbers: readonly bigint[]): string {
	const runs: string[] = [];
	for (let i = 0; i < numbers.length; ) {
		let end = i;
		while (end + 1 < numbers.length && numbers[end + 1] === (numbers[end] as bigint) + 1n) end++;
		const [first, last] = [numbers[i] as bigint, numbers[end] as bigint].map((n) => `0x${n.toString(16)}`);
		runs.push(end - i > 1 ? `${first}..${last}` : end > i ? `${first} ${last}` : `${first}`);
		i = end + 1;
	}
	return runs.join(" ");
}

/** Bytes without the zeros at their end. */
export function bytesText(bytes: Uint8Array): string {
	const end = bytes.findLastIndex((byte) => byte !== 0) + 1;
	return end === 0 ? "all zero" : `${hexText(bytes, end)}${end < bytes.length ? ", then zeros" : ""}`;
}
