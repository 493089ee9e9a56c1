/**
 * Messages and packets of VMBus as a pcapng file, for Wireshark with the script of report/vmbus-dissector.ts.
 *
 * One section, one interface of link type USER0 (147), times in nanoseconds. Each packet of the file is a pseudo header of 16
 * bytes, little-endian, and the bytes of the message, ring packet or hypercall input:
 *
 *    0 u8  format: 1                            4 u32 processor
 *    1 u8  kind: 1 message, 2 ring packet,      8 u32 connection id of a message or hypercall, 0 for none;
 *                3 hypercall, 4 message slot          relid of a ring packet
 *    2 u8  direction and trust: bit 0: server  12 u16 status of a hypercall (HvStatus)
 *          to guest; bit 1: trusted            14 u8  SynIC: 0 none, 1 hypervisor's, 2 paravisor's
 *    3 u8  path: 0 none, 1 plain hypercall,    15 u8  memory: 0 unknown, 1 shared with the host, 2 private
 *          2 GHCB, 3 tdcall
 */
import type { SynicParty } from "../../synic/interrupts.ts";
import type { CallPath } from "../../synic/modes.ts";
import type { Sender } from "../wire/messages.ts";

const PSEUDO_HEADER_BYTES = 16;
const FORMAT = 1;
const LINKTYPE_USER0 = 147;
const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const OPTION_END = 0;
const OPTION_SHB_USERAPPL = 4;
const OPTION_IF_NAME = 2;
const OPTION_IF_TSRESOL = 9;
/** 10^-9 s. */
const NANOSECONDS = 9;

const KINDS = { message: 1, packet: 2, hypercall: 3, slot: 4 } as const;
const PATHS: Readonly<Record<CallPath, number>> = { direct: 1, ghcb: 2, tdcall: 3 };
const PARTIES: Readonly<Record<SynicParty, number>> = { hypervisor: 1, paravisor: 2 };
const MEMORIES = { shared: 1, private: 2 } as const;

/** One event of the file. */
export interface CapturedBytes {
	readonly kind: keyof typeof KINDS;
	readonly from: Sender;
	readonly bytes: Uint8Array;
	/** Since any start, in nanoseconds. */
	readonly timeNs: bigint;
	/** Default 0. */
	readonly vp?: number;
	readonly path?: CallPath;
	readonly synic?: SynicParty;
	/** Connection id of a message or hypercall, relid of a packet. */
	readonly id?: number;
	/** Status of a hypercall. */
	readonly status?: number;
	readonly trusted?: boolean;
	readonly memory?: keyof typeof MEMORIES;
}

function padded(bytes: number): number {
	return (bytes + 3) & ~3;
}

/** A block: type and length in front, length behind, the body padded to 4 bytes. */
function block(type: number, body: Uint8Array): Uint8Array {
	const total = 12 + padded(body.length);
	const out = new Uint8Array(total);
	const data = new DataView(out.buffer);
	data.setUint32(0, type, true);
	data.setUint32(4, total, true);
	out.set(body, 8);
	data.setUint32(total - 4, total, true);
	return out;
}

function option(code: number, value: Uint8Array): Uint8Array {
	const out = new Uint8Array(4 + padded(value.length));
	const data = new DataView(out.buffer);
	data.setUint16(0, code, true);
	data.setUint16(2, value.length, true);
	out.set(value, 4);
	return out;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
	const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
	let at = 0;
	for (const part of parts) {
		out.set(part, at);
		at += part.length;
	}
	return out;
}

function sectionHeader(): Uint8Array {
	const fixed = new Uint8Array(16);
	const data = new DataView(fixed.buffer);
	data.setUint32(0, BYTE_ORDER_MAGIC, true);
	data.setUint16(4, 1, true);
	// the section's length is not told
	data.setBigInt64(8, -1n, true);
	const name = option(OPTION_SHB_USERAPPL, new TextEncoder().encode("coco-dma"));
	return block(SECTION_HEADER, joined([fixed, name, option(OPTION_END, new Uint8Array(0))]));
}

function interfaceDescription(): Uint8Array {
	const fixed = new Uint8Array(8);
	new DataView(fixed.buffer).setUint16(0, LINKTYPE_USER0, true);
	const name = option(OPTION_IF_NAME, new TextEncoder().encode("vmbus"));
	const resolution = option(OPTION_IF_TSRESOL, Uint8Array.of(NANOSECONDS));
	return block(INTERFACE_DESCRIPTION, joined([fixed, name, resolution, option(OPTION_END, new Uint8Array(0))]));
}

function enhancedPacket(event: CapturedBytes): Uint8Array {
	const { kind, from, bytes, timeNs, vp = 0, path, synic, id = 0, status = 0, trusted = false, memory } = event;
	const length = PSEUDO_HEADER_BYTES + bytes.length;
	const body = new Uint8Array(20 + length);
	const data = new DataView(body.buffer);
	data.setUint32(4, Number((timeNs >> 32n) & 0xffffffffn), true);
	data.setUint32(8, Number(timeNs & 0xffffffffn), true);
	data.setUint32(12, length, true);
	data.setUint32(16, length, true);
	body[20] = FORMAT;
	body[21] = KINDS[kind];
	body[22] = (from === "server" ? 1 : 0) | (trusted ? 2 : 0);
	body[23] = path === undefined ? 0 : PATHS[path];
	data.setUint32(24, vp, true);
	data.setUint32(28, id, true);
	data.setUint16(32, status, true);
	body[34] = synic === undefined ? 0 : PARTIES[synic];
	body[35] = memory === undefined ? 0 : MEMORIES[memory];
	body.set(bytes, 20 + PSEUDO_HEADER_BYTES);
	return block(ENHANCED_PACKET, body);
}

/** The file that holds these events, in order. */
export function pcapng(events: readonly CapturedBytes[]): Uint8Array {
	return joined([sectionHeader(), interfaceDescription(), ...events.map(enhancedPacket)]);
}
