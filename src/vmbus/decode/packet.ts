/** Ring packets as people read them. Layouts: Linux include/linux/hyperv.h, OpenVMM vmbus_ring/src/lib.rs */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { PACKET_HEADER_BYTES, PACKET_TRAILER_BYTES } from "../../../assembly/layout/ring.ts";
import { PacketType, WANTS_COMPLETION } from "../../ring/packet.ts";
import type { Sender } from "../wire/messages.ts";
import { type Decoded, type DecodedField, hexText, restField, runsText } from "./decoded.ts";

/** Bytes of a payload that a line shows. */
const SHOWN_BYTES = 64;
/** Where the ranges of a packet start (bytes). */
const RANGES_AT = 24;
/** Packets that only one side may send. */
const SENDERS = new Map<number, Sender>([
	[PacketType.TransferPages, "server"],
	[PacketType.GpaDirect, "guest"],
]);
const TYPES = new Map<number, string>([
	[PacketType.InBand, "in-band data"],
	[PacketType.TransferPages, "data in transfer pages"],
	[PacketType.GpaDirect, "data by GPA direct"],
	[PacketType.Completion, "completion"],
]);

function viewOf(bytes: Uint8Array): DataView {
	return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Whether bytes start with a packet's descriptor: no channel message does, as the upper half of its type is 0. */
export function isPacket(bytes: Uint8Array): boolean {
	if (bytes.length < PACKET_HEADER_BYTES) return false;
	const data = viewOf(bytes);
	const [offset8, len8] = [data.getUint16(2, true), data.getUint16(4, true)];
	return TYPES.has(data.getUint16(0, true)) && offset8 >= 2 && offset8 <= len8 && offset8 * 8 <= bytes.length;
}

/** The fields in front of a transfer-page packet's payload. */
function transferFields(data: DataView, end: number): { fields: DecodedField[]; error?: string } {
	if (end < RANGES_AT) return { fields: [], error: "the payload starts inside the range header" };
	const count = data.getUint32(20, true);
	const fields: DecodedField[] = [
		{ offset: 16, bytes: 2, name: "transferSet", value: `0x${data.getUint16(16, true).toString(16)}`, meaning: "" },
		{ offset: 18, bytes: 1, name: "senderOwnsSet", value: String(data.getUint8(18)), meaning: "" },
		{ offset: 20, bytes: 4, name: "rangeCount", value: String(count), meaning: "" },
	];
	for (let i = 0; i < count; i++) {
		const offset = RANGES_AT + 8 * i;
		if (offset + 8 > end) return { fields, error: `${count} ranges do not fit before the payload` };
		const value = `${data.getUint32(offset, true)} bytes from offset ${data.getUint32(offset + 4, true)}`;
		fields.push({ offset, bytes: 8, name: `range[${i}]`, value, meaning: "" });
	}
	return { fields };
}

/** The fields in front of a GPA-direct packet's payload. */
function gpaDirectFields(data: DataView, end: number): { fields: DecodedField[]; error?: string } {
	if (end < RANGES_AT) return { fields: [], error: "the payload starts inside the range header" };
	const count = data.getUint32(20, true);
	const fields: DecodedField[] = [{ offset: 20, bytes: 4, name: "rangeCount", value: String(count), meaning: "" }];
	let at = RANGES_AT;
	for (let i = 0; i < count; i++) {
		if (at + 8 > end) return { fields, error: `${count} ranges do not fit before the payload` };
		const [bytes, from] = [data.getUint32(at, true), data.getUint32(at + 4, true)];
		const pages = Math.ceil((bytes + from) / PAGE_SIZE);
		const value = `${bytes} bytes from offset ${from}`;
		fields.push({
			offset: at,
			bytes: 8,
			name: `range[${i}]`,
			value,
			meaning: `${pages} page${pages === 1 ? "" : "s"}`,
		});
		at += 8;
		if (at + 8 * pages > end)
			return { fields, error: `range ${i} needs ${pages} pages, which do not fit before the payload` };
		const pfns = Array.from({ length: pages }, (_, k) => data.getBigUint64(at + 8 * k, true));
		if (pages > 0) fields.push({ offset: at, bytes: 8 * pages, name: "pfns", value: runsText(pfns), meaning: "" });
		at += 8 * pages;
	}
	if (count === 0) return { fields, error: "no range" };
	return { fields };
}

/**
 * A packet from its descriptor on, with or without the trailer.
 * @param mayBeCut whether a recording may have kept its first bytes only
 */
export function describePacket(packet: Uint8Array, mayBeCut = false): Decoded {
	const { length: bytes } = packet;
	if (bytes < PACKET_HEADER_BYTES) {
		const error = `${bytes} bytes, expected a descriptor of ${PACKET_HEADER_BYTES}`;
		const fields = restField(packet, 0, packet.length, "bytes");
		return { kind: "packet", name: "cut short", bytes, title: "ring packet", fields, error };
	}
	const data = viewOf(packet);
	const [type, offset8, len8, flags] = [0, 2, 4, 6].map((at) => data.getUint16(at, true)) as [
		number,
		number,
		number,
		number,
	];
	const known = TYPES.get(type);
	const name = known ?? `type ${type}`;
	const from = SENDERS.get(type);
	const title = `ring packet: ${name}`;
	const described = { kind: "packet", name, bytes, title, ...(from === undefined ? {} : { from }) } as const;
	const id = data.getBigUint64(8, true);
	const fields: DecodedField[] = [
		{ offset: 0, bytes: 2, name: "type", value: String(type), meaning: known ?? "unknown" },
		{ offset: 2, bytes: 2, name: "offset8", value: String(offset8), meaning: `payload at ${offset8 * 8}` },
		{ offset: 4, bytes: 2, name: "len8", value: String(len8), meaning: `${len8 * 8} bytes and a trailer` },
		{
			offset: 6,
			bytes: 2,
			name: "flags",
			value: `0x${flags.toString(16)}`,
			meaning: flags & WANTS_COMPLETION ? "completion requested" : "",
		},
		{ offset: 8, bytes: 8, name: "transactionId", value: String(id), meaning: id === 0n ? "unsolicited" : "" },
	];
	const length = len8 * 8;
	if (offset8 < 2 || len8 < offset8) {
		fields.push(...restField(packet, PACKET_HEADER_BYTES, packet.length, "bytes"));
		return { ...described, fields, error: `payload at ${offset8 * 8} of a packet of ${length} bytes` };
	}
	const start = Math.min(offset8 * 8, packet.length);
	const extra =
		type === PacketType.TransferPages
			? transferFields(data, start)
			: type === PacketType.GpaDirect
				? gpaDirectFields(data, start)
				: { fields: restField(packet, PACKET_HEADER_BYTES, start, "extra header") };
	fields.push(...extra.fields);
	const payload = packet.subarray(start, Math.min(length, packet.length));
	if (payload.length > 0) {
		const value = hexText(payload, SHOWN_BYTES);
		fields.push({ offset: start, bytes: length - start, name: "payload", value, meaning: "" });
	}
	if (packet.length >= length + PACKET_TRAILER_BYTES) {
		const at = data.getUint32(length + 4, true);
		fields.push(
			...restField(packet, length, length + 4, "reserved"),
			{
				offset: length + 4,
				bytes: 4,
				name: "trailer",
				value: `0x${at.toString(16)}`,
				meaning: "where the packet starts in the ring",
			},
			...restField(packet, length + PACKET_TRAILER_BYTES, packet.length, "after the packet"),
		);
	}
	const cut = packet.length < length && !mayBeCut ? `${packet.length} of ${length} bytes` : undefined;
	const error = extra.error ?? cut;
	return { ...described, fields, ...(error === undefined ? {} : { error }) };
}
