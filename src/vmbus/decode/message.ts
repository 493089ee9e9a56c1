/** Channel messages and message slots as people read them: one field a line, with offset, size, name and value. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { hex } from "../../status.ts";
import {
	HvMessage,
	MAX_MESSAGE_BYTES,
	MESSAGE_PENDING,
	SLOT_BYTES,
	SLOT_FLAGS,
	SLOT_PAYLOAD,
	SLOT_SIZE,
} from "../../synic/synic.ts";
import { DecodeError, type DecodeRules, decodeMessage, fieldBytes, hasField } from "../wire/codec.ts";
import { type FieldSpec, HEADER_BYTES, type MessageSpec, messageSpec, SYNIC_MESSAGE_TYPE } from "../wire/messages.ts";
import { bytesText, type Decoded, type DecodedField, restField, runsText } from "./decoded.ts";
import { meaningOf, valueText } from "./meanings.ts";
import { describePacket, isPacket } from "./packet.ts";

type Values = Readonly<Record<string, unknown>>;

function direction(spec: MessageSpec): string {
	return spec.from === "guest" ? "guest to server" : "server to guest";
}

/** GPADL quadwords in the header: heads of ranges and their page numbers; in a body, page numbers. */
function quadwordFields(at: number, quadwords: readonly bigint[], isHeader: boolean): DecodedField[] {
	const fields: DecodedField[] = [];
	let left = isHeader ? 0 : Number.POSITIVE_INFINITY;
	for (let i = 0; i < quadwords.length; ) {
		const offset = at + 8 * i;
		if (left === 0) {
			const head = quadwords[i] as bigint;
			const [bytes, from] = [Number(head & 0xffffffffn), Number(head >> 32n)];
			left = Math.ceil((bytes + from) / PAGE_SIZE);
			const meaning = `${left} page${left === 1 ? "" : "s"}`;
			fields.push({ offset, bytes: 8, name: "range", value: `${bytes} bytes from offset ${from}`, meaning });
			i++;
			if (left === 0) continue;
		}
		const pfns = quadwords.slice(i, i + left);
		if (pfns.length === 0) break;
		fields.push({ offset: at + 8 * i, bytes: 8 * pfns.length, name: "pfns", value: runsText(pfns), meaning: "" });
		i += pfns.length;
		left -= pfns.length;
	}
	return fields;
}

function messageField(name: string, field: FieldSpec, values: Values, payload: Uint8Array): DecodedField[] {
	const value = values[name];
	const at = { offset: field.at, bytes: fieldBytes(field, payload.length), name };
	if (field.kind === "quadwords") return quadwordFields(field.at, value as readonly bigint[], "rangeCount" in values);
	if (field.kind === "gpaPair") {
		const names = ["parent to child", "child to parent"];
		return (value as readonly number[]).map((gpa, i) => ({
			offset: field.at + 8 * i,
			bytes: 8,
			name: `${name}[${i}]`,
			value: hex(gpa),
			meaning: names[i] as string,
		}));
	}
	const text =
		value instanceof Uint8Array ? bytesText(value) : typeof value === "number" ? valueText(name, value) : String(value);
	return [{ ...at, value: text, meaning: meaningOf(name, value, values) }];
}

/** A channel message's payload, header included. */
export function describeMessage(payload: Uint8Array, rules: DecodeRules = {}): Decoded {
	const result = decodeMessage(payload, rules);
	const data = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
	const type = payload.length >= 4 ? data.getUint32(0, true) : 0;
	const spec = messageSpec(type);
	const name = spec?.wire ?? `message of type ${type}`;
	const title = spec === undefined ? name : `${name} (${type}), ${direction(spec)}`;
	const described = {
		kind: "message",
		name,
		title,
		bytes: payload.length,
		...(spec === undefined ? {} : { from: spec.from }),
	} as const;
	const head: DecodedField[] =
		payload.length < HEADER_BYTES
			? []
			: [
					{ offset: 0, bytes: 4, name: "type", value: String(type), meaning: spec?.wire ?? "unknown" },
					...restField(payload, 4, HEADER_BYTES, "padding"),
				];
	const error = result instanceof DecodeError ? { error: result.text } : {};
	const values = result instanceof DecodeError ? readable(payload, spec) : result;
	if (spec === undefined || values === null) {
		const from = head.length === 0 ? 0 : HEADER_BYTES;
		return { ...described, fields: [...head, ...restField(payload, from, payload.length, "bytes")], ...error };
	}
	const fields = [...head];
	let end = HEADER_BYTES;
	for (const [name, field] of fieldsOf(spec, values)) {
		const next = field.at + fieldBytes(field, payload.length);
		if (next > payload.length) break;
		fields.push(...restField(payload, end, field.at, "reserved"), ...messageField(name, field, values, payload));
		end = next;
	}
	fields.push(...restField(payload, end, payload.length, "after the fields"));
	return { ...described, fields, ...error };
}

/** The fields that a message has, by offset. */
function fieldsOf(spec: MessageSpec, values: Values): [string, FieldSpec][] {
	return [spec.fields, ...spec.extensions.map(({ fields }) => fields)]
		.flatMap((fields) => Object.entries(fields))
		.filter(([name, field]) => hasField(field, values) && values[name] !== undefined)
		.sort(([, a], [, b]) => a.at - b.at);
}

/** What can be read of a message that its receiver refuses: as if zeros followed, and no rule forbade it. */
function readable(payload: Uint8Array, spec: MessageSpec | undefined): Values | null {
	if (spec === undefined || payload.length < HEADER_BYTES) return null;
	const longest = Math.max(payload.length, spec.bytes, ...spec.extensions.map(({ bytes }) => bytes));
	const padded = new Uint8Array(Math.min(longest, MAX_MESSAGE_BYTES));
	padded.set(payload.subarray(0, MAX_MESSAGE_BYTES));
	const result = decodeMessage(padded);
	return result instanceof DecodeError ? null : result;
}

/** Types of SynIC messages. */
const SLOT_TYPES = new Map([
	[0, "none"],
	[SYNIC_MESSAGE_TYPE, "channel message"],
	[HvMessage.UnmappedGpa, "unmapped gpa"],
	[HvMessage.GpaIntercept, "gpa intercept"],
	[HvMessage.TimerExpired, "timer expired"],
]);

function slotHead(slot: Uint8Array): DecodedField[] {
	const data = new DataView(slot.buffer, slot.byteOffset, SLOT_BYTES);
	const field = (offset: number, bytes: number, name: string, value: string, meaning = "") => {
		return { offset, bytes, name, value, meaning };
	};
	const [type, flags] = [data.getUint32(0, true), data.getUint8(SLOT_FLAGS)];
	return [
		field(0, 4, "messageType", hex(type), SLOT_TYPES.get(type)),
		field(SLOT_SIZE, 1, "payloadSize", String(data.getUint8(SLOT_SIZE))),
		field(SLOT_FLAGS, 1, "messageFlags", hex(flags), (flags & MESSAGE_PENDING) === 0 ? "" : "pending"),
		...restField(slot, SLOT_FLAGS + 1, 8, "reserved"),
		field(8, 8, "sender", `0x${data.getBigUint64(8, true).toString(16)}`),
	];
}

/** A message slot of 256 bytes, and the channel message in it. @throws RangeError for another length */
export function describeSlot(slot: Uint8Array, rules: DecodeRules = {}): Decoded {
	if (slot.length !== SLOT_BYTES) throw new RangeError(`slot: expected ${SLOT_BYTES} bytes, not ${slot.length}`);
	const described = { kind: "slot", bytes: slot.length, from: "server" } as const;
	const head = slotHead(slot);
	const type = new DataView(slot.buffer, slot.byteOffset).getUint32(0, true);
	const size = slot[SLOT_SIZE] as number;
	if (type !== SYNIC_MESSAGE_TYPE || size > MAX_MESSAGE_BYTES) {
		const fields = [...head, ...restField(slot, SLOT_PAYLOAD, SLOT_BYTES, "payload")];
		const error = size > MAX_MESSAGE_BYTES ? `payload size ${size}, expected at most ${MAX_MESSAGE_BYTES}` : undefined;
		return {
			...described,
			name: `type ${hex(type)}`,
			title: `message slot, type ${hex(type)}`,
			fields,
			...(error === undefined ? {} : { error }),
		};
	}
	const body = describeMessage(slot.subarray(SLOT_PAYLOAD, SLOT_PAYLOAD + size), rules);
	const fields = [...head, ...body.fields.map((field) => ({ ...field, offset: field.offset + SLOT_PAYLOAD }))];
	const error = body.error === undefined ? {} : { error: body.error };
	return { ...described, name: body.name, title: `message slot: ${body.title}`, fields, ...error };
}

/** Bytes of which only the hex is known: a packet starts with its descriptor, a slot has 256, and the rest are messages. */
export function describeBytes(bytes: Uint8Array, rules: DecodeRules = {}): Decoded {
	if (isPacket(bytes)) return describePacket(bytes);
	return bytes.length === SLOT_BYTES ? describeSlot(bytes, rules) : describeMessage(bytes, rules);
}
