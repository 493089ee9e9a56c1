/** Channel messages to bytes and back, by the table in messages.ts. */
import { MAX_MESSAGE_BYTES } from "../../synic/synic.ts";
import { readGuid, writeGuid } from "./guid.ts";
import {
	type Extension,
	FIELD_BYTES,
	type FieldKind,
	type FieldSpec,
	HEADER_BYTES,
	type Message,
	type MessageSpec,
	messageSpec,
	type Sender,
} from "./messages.ts";
import { versionName } from "./versions.ts";

/** Gpas are below this. */
const GPA_LIMIT = 2 ** 52;

/** Why bytes are no message. */
type DecodeErrorKind =
	| "short"
	| "long"
	| "unknown-type"
	| "wrong-direction"
	| "not-in-version"
	| "not-negotiated"
	| "bad-gpa";

/** Bytes that are no message: which rule they break, and one line for people. */
export class DecodeError {
	readonly error: DecodeErrorKind;
	readonly text: string;

	constructor(error: DecodeErrorKind, text: string) {
		this.error = error;
		this.text = text;
	}
}

/** What the receiver knows; what is left out is not checked. */
export interface DecodeRules {
	/** Version of the connection. */
	readonly version?: number;
	/** Features of the connection. */
	readonly features?: number;
	/** Who sent the bytes. */
	readonly direction?: Sender;
}

type Values = Record<string, unknown>;

function invalid(spec: MessageSpec, field: string, expected: string, found: unknown): RangeError {
	return new RangeError(`${spec.wire}: ${field}: expected ${expected}, not ${String(found)}`);
}

function unsigned(spec: MessageSpec, name: string, value: unknown, limit: number, expected: string): number {
	if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value >= limit)
		throw invalid(spec, name, expected, value);
	return value;
}

/** Writes one field. @throws RangeError that names it */
function writeField(
	out: Uint8Array,
	data: DataView,
	spec: MessageSpec,
	name: string,
	field: FieldSpec,
	value: unknown,
) {
	const { at, kind } = field;
	const gpa = (one: unknown) => BigInt(unsigned(spec, name, one, GPA_LIMIT, "a gpa below 2^52"));
	switch (kind) {
		case "u8":
			out[at] = unsigned(spec, name, value, 2 ** 8, "a whole number below 2^8");
			break;
		case "u16":
			data.setUint16(at, unsigned(spec, name, value, 2 ** 16, "a whole number below 2^16"), true);
			break;
		case "u32":
			data.setUint32(at, unsigned(spec, name, value, 2 ** 32, "a whole number below 2^32"), true);
			break;
		case "gpa":
			data.setBigUint64(at, gpa(value), true);
			break;
		case "gpaPair":
			if (!Array.isArray(value) || value.length !== 2) throw invalid(spec, name, "two gpas", value);
			data.setBigUint64(at, gpa(value[0]), true);
			data.setBigUint64(at + 8, gpa(value[1]), true);
			break;
		case "guid":
			try {
				writeGuid(out, at, value as string);
			} catch {
				throw invalid(spec, name, "a GUID", value);
			}
			break;
		case "bytes120":
			if (!(value instanceof Uint8Array) || value.length !== FIELD_BYTES[kind])
				throw invalid(spec, name, `${FIELD_BYTES[kind]} bytes`, value);
			out.set(value, at);
			break;
		case "quadwords":
			for (const [i, quadword] of (value as readonly bigint[]).entries()) {
				if (typeof quadword !== "bigint" || quadword < 0n || quadword >= 1n << 64n)
					throw invalid(spec, `${name}[${i}]`, "a bigint below 2^64", quadword);
				data.setBigUint64(at + 8 * i, quadword, true);
			}
	}
}

/** One field's value, or NaN for a gpa that is too large. The payload holds the field. */
function readField(payload: Uint8Array, data: DataView, { at, kind }: FieldSpec): unknown {
	const gpa = (offset: number) => {
		const high = data.getUint32(offset + 4, true);
		return high < 2 ** 20 ? high * 2 ** 32 + data.getUint32(offset, true) : Number.NaN;
	};
	switch (kind) {
		case "u8":
			return payload[at];
		case "u16":
			return data.getUint16(at, true);
		case "u32":
			return data.getUint32(at, true);
		case "gpa":
			return gpa(at);
		case "gpaPair":
			return [gpa(at), gpa(at + 8)];
		case "guid":
			return readGuid(payload, at);
		case "bytes120":
			return payload.slice(at, at + FIELD_BYTES[kind]);
		case "quadwords":
			return Array.from({ length: Math.floor((payload.length - at) / 8) }, (_, i) =>
				data.getBigUint64(at + 8 * i, true),
			);
	}
}

/** Whether a field exists in a message with that `version` field. */
export function hasField({ from = 0, below = 2 ** 32 }: FieldSpec, values: Values): boolean {
	const version = typeof values.version === "number" ? values.version : 0;
	return version >= from && version < below;
}

/** Bytes of the message with its longest form that has values, and the fields of it. @throws RangeError for half a form */
function formOf(spec: MessageSpec, values: Values): { bytes: number; fields: [string, FieldSpec][] } {
	let { bytes } = spec;
	const fields = Object.entries(spec.fields).filter(([, field]) => hasField(field, values));
	for (const [name, field] of Object.entries(spec.fields)) {
		if (!hasField(field, values) && values[name] !== undefined)
			throw invalid(spec, name, `nothing in version ${versionName(values.version as number)}`, values[name]);
	}
	let shorter = spec.bytes;
	for (const extension of spec.extensions) {
		const names = Object.keys(extension.fields);
		if (names.some((name) => values[name] !== undefined) || isRequired(extension, values)) {
			if (bytes !== shorter) throw invalid(spec, names[0] as string, "the fields before it as well", "this alone");
			if (!isFlagged(extension, values)) throw invalid(spec, names[0] as string, "nothing without its flag", "this");
			bytes = extension.bytes;
			fields.push(...Object.entries(extension.fields));
		}
		shorter = extension.bytes;
	}
	return { bytes, fields };
}

/** Whether the message's own flags allow the form. */
function isFlagged({ flags }: Extension, values: Values): boolean {
	return flags === undefined || ((values[flags.field] as number) & flags.bits) !== 0;
}

function isRequired(extension: Extension, values: Values): boolean {
	return extension.required === true && isFlagged(extension, values);
}

/**
 * The payload of a message, header included: 8 to 240 bytes. Reserved fields are 0; optional fields choose the longer forms.
 * @throws RangeError that names the message and the field
 */
export function encodeMessage(message: Message): Uint8Array {
	const spec = messageSpec(message.type);
	if (spec === undefined) throw new RangeError(`there is no message of type ${String(message.type)}`);
	const values = message as Values;
	const { bytes, fields } = formOf(spec, values);
	const last = fields.at(-1);
	let total = bytes;
	if (last?.[1].kind === "quadwords") {
		const list = values[last[0]];
		if (!Array.isArray(list)) throw invalid(spec, last[0], "a list of bigints", list);
		total += 8 * list.length;
		if (total > MAX_MESSAGE_BYTES) {
			const most = Math.floor((MAX_MESSAGE_BYTES - bytes) / 8);
			throw invalid(spec, last[0], `at most ${most} quadwords`, list.length);
		}
	}
	const out = new Uint8Array(total);
	const data = new DataView(out.buffer);
	data.setUint32(0, spec.type, true);
	for (const [name, field] of fields) writeField(out, data, spec, name, field, values[name]);
	return out;
}

/** Whether a payload has the extension, by size and by what is known; a DecodeError when it must have it and does not. */
function hasExtension(
	spec: MessageSpec,
	extension: Extension,
	payload: Uint8Array,
	values: Values,
	rules: DecodeRules,
) {
	if (isRequired(extension, values) && payload.length < extension.bytes) {
		return new DecodeError(
			"short",
			`${spec.wire}: ${payload.length} bytes, expected ${extension.bytes} with its flags`,
		);
	}
	return (
		payload.length >= extension.bytes &&
		(rules.version ?? extension.minVersion) >= extension.minVersion &&
		(extension.features === undefined || rules.features === undefined || (rules.features & extension.features) !== 0) &&
		isFlagged(extension, values)
	);
}

function checkRules(spec: MessageSpec, payload: Uint8Array, rules: DecodeRules): DecodeError | undefined {
	const { wire, from, minVersion, feature } = spec;
	if (rules.direction !== undefined && rules.direction !== from)
		return new DecodeError("wrong-direction", `${wire}: only the ${from} sends it`);
	if (rules.version !== undefined && rules.version < minVersion) {
		const text = `${wire}: needs version ${versionName(minVersion)}, the connection has ${versionName(rules.version)}`;
		return new DecodeError("not-in-version", text);
	}
	if (feature !== undefined && rules.features !== undefined && (rules.features & feature) === 0)
		return new DecodeError("not-negotiated", `${wire}: needs feature 0x${feature.toString(16)}`);
	if (payload.length < spec.bytes) {
		const text = `${wire}: ${payload.length} bytes, expected ${spec.bytes}`;
		return new DecodeError("short", text);
	}
	return undefined;
}

/**
 * Reads a payload; bytes after the message, and reserved ones, are ignored. Never throws, whatever the bytes.
 * @param payload the peer's bytes, already copied out of memory that the peer can write
 */
export function decodeMessage(payload: Uint8Array, rules: DecodeRules = {}): Message | DecodeError {
	if (payload.length < HEADER_BYTES)
		return new DecodeError("short", `${payload.length} bytes, expected a header of ${HEADER_BYTES}`);
	if (payload.length > MAX_MESSAGE_BYTES)
		return new DecodeError("long", `${payload.length} bytes, expected at most ${MAX_MESSAGE_BYTES}`);
	const data = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
	const type = data.getUint32(0, true);
	const spec = messageSpec(type);
	if (spec === undefined) return new DecodeError("unknown-type", `there is no message of type ${type}`);
	const refused = checkRules(spec, payload, rules);
	if (refused !== undefined) return refused;
	const values: Values = { type };
	const bad = readFields(payload, data, spec, spec.fields, values);
	if (bad !== undefined) return bad;
	for (const extension of spec.extensions) {
		const has = hasExtension(spec, extension, payload, values, rules);
		if (has instanceof DecodeError) return has;
		if (!has) break;
		const wrong = readFields(payload, data, spec, extension.fields, values);
		if (wrong !== undefined) return wrong;
	}
	return values as Message;
}

function readFields(
	payload: Uint8Array,
	data: DataView,
	spec: MessageSpec,
	fields: MessageSpec["fields"],
	values: Values,
): DecodeError | undefined {
	for (const name in fields) {
		const field = fields[name] as FieldSpec;
		if (!hasField(field, values)) continue;
		const value = readField(payload, data, field);
		if (isGpaKind(field.kind) && [value].flat().some(Number.isNaN))
			return new DecodeError("bad-gpa", `${spec.wire}: ${name}: expected gpas below 2^52`);
		values[name] = value;
	}
	return undefined;
}

function isGpaKind(kind: FieldKind): boolean {
	return kind === "gpa" || kind === "gpaPair";
}

/** Bytes that a field takes in a payload of that many bytes. */
export function fieldBytes({ at, kind }: FieldSpec, payloadBytes: number): number {
	return kind === "quadwords" ? Math.floor(Math.max(payloadBytes - at, 0) / 8) * 8 : FIELD_BYTES[kind];
}
