/**
 * What Linux's ring code does and the engine's does not: it believes indices that the host has changed, and sends ranges that
 * name nothing.
 */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import {
	HEADER_INTERRUPT_MASK,
	HEADER_READ_INDEX,
	HEADER_WRITE_INDEX,
	RING_AT,
	RING_HELD,
} from "../../../assembly/layout/ring.ts";
import type { GuestChannel, ReceivedPacket, RingMemory, TamperedReader } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import type { GuestStatus } from "./options.ts";
import { signalHost } from "./signals.ts";

/** What stands in a packet: `rangesBytes` of the body come before the payload. */
interface Packet {
	readonly type: number;
	readonly flags: number;
	readonly id: bigint;
	readonly body: Uint8Array;
	readonly rangesBytes: number;
}

/** A packet as it lies in a ring, trailer included. @param start where it will lie */
function packetOf({ type, flags, id, body, rangesBytes }: Packet, start: number): Uint8Array {
	const bytes = 16 + ((body.length + 7) & ~7);
	const packet = new Uint8Array(bytes + 8);
	const data = new DataView(packet.buffer);
	data.setUint16(0, type, true);
	data.setUint16(2, (16 + rangesBytes) / 8, true);
	data.setUint16(4, bytes / 8, true);
	data.setUint16(6, flags, true);
	data.setBigUint64(8, BigInt.asUintN(64, id), true);
	packet.set(body, 16);
	data.setUint32(bytes + 4, start, true);
	return packet;
}

/**
 * Sends as Linux 6.12 (drivers/hv/ring_buffer.c, hv_ringbuffer_write, with Debian's check of both indices) into a ring whose
 * indices the host has changed: where it says, at any alignment.
 * @returns null when the host has not: then the engine's writer serves
 */
export function sendTampered(core: GuestCore, channel: GuestChannel, outgoing: Packet): GuestStatus | null {
	const { rings, ring } = channel;
	if (rings === null || ring === null) return null;
	const { gpa, sendPages } = ring as RingMemory;
	const size = (sendPages - 1) * PAGE_SIZE;
	const { instance, ram } = core.engine;
	const view = ram.view(gpa, sendPages * PAGE_SIZE);
	const header = new DataView(view.buffer, view.byteOffset, PAGE_SIZE);
	const write = header.getUint32(HEADER_WRITE_INDEX, true);
	const read = header.getUint32(HEADER_READ_INDEX, true);
	if (write >= size || read >= size) return size === 0 ? null : "ring-corrupt";
	if (write === instance.u32(instance.exports.ringPtr(rings.writer.number) + RING_AT)) return null;
	const packet = packetOf(outgoing, write);
	if ((write >= read ? size - (write - read) : read - write) <= packet.length) return "ring-full";
	for (const [i, byte] of packet.entries()) view[PAGE_SIZE + ((write + i) % size)] = byte;
	header.setUint32(HEADER_WRITE_INDEX, (write + packet.length) % size, true);
	if (header.getUint32(HEADER_INTERRUPT_MASK, true) === 0 && header.getUint32(HEADER_READ_INDEX, true) === write)
		signalHost(core, channel);
	return "ok";
}

/**
 * Gives the packet that was put last, and is not published yet, its payload's offset. A packet with ranges goes in with its
 * ranges as payload.
 */
export function pointAtPayload(core: GuestCore, { ring }: GuestChannel, rangesBytes: number): void {
	if (ring === null) return;
	const { ram } = core.engine;
	const header = ram.view(ring.gpa, PAGE_SIZE);
	const write = new DataView(header.buffer, header.byteOffset).getUint32(HEADER_WRITE_INDEX, true);
	const packet = ram.view(ring.gpa + PAGE_SIZE + write, 8);
	new DataView(packet.buffer, packet.byteOffset).setUint16(2, (16 + rangesBytes) / 8, true);
}

/**
 * The next packet as Linux 6.12 (drivers/hv/ring_buffer.c, hv_pkt_iter_first) finds it behind a write index beyond the data: the
 * difference to its own index counts as bytes to read, for ever.
 * @returns null when there is none; undefined when the host has kept to the data: then the engine's reader serves
 */
export function nextTampered(core: GuestCore, channel: GuestChannel): ReceivedPacket | null | undefined {
	const { rings, ring, options } = channel;
	if (rings === null || ring === null) return undefined;
	const { ram, instance } = core.engine;
	const size = (ring.pages - ring.sendPages - 1) * PAGE_SIZE;
	const view = ram.view(ring.gpa + ring.sendPages * PAGE_SIZE, size + PAGE_SIZE);
	const write = new DataView(view.buffer, view.byteOffset).getUint32(HEADER_WRITE_INDEX, true);
	if (size === 0 || (write < size && channel.tampered === null)) return undefined;
	const record = instance.exports.ringPtr(rings.reader.number);
	channel.tampered ??= { at: instance.u32(record + RING_AT), held: instance.u32(record + RING_HELD) };
	const reader = channel.tampered;
	advanceTampered(reader, size);
	const available = write >= reader.at ? write - reader.at : size - reader.at + write;
	if (available < 16) return null;
	const most = Math.min(available, options?.maxPacketBytes ?? PAGE_SIZE);
	const packet = Uint8Array.from({ length: most }, (_, i) => view[PAGE_SIZE + ((reader.at + i) % size)] as number);
	const data = new DataView(packet.buffer);
	let bytes = data.getUint16(4, true) * 8;
	let offset = data.getUint16(2, true) * 8;
	if (bytes < 16 || bytes > most) bytes = most & ~7;
	if (offset < 16 || offset > bytes) offset = 16;
	data.setUint16(2, offset / 8, true);
	data.setUint16(4, bytes / 8, true);
	reader.held = bytes + 8;
	return { bytes: packet.subarray(0, bytes), type: data.getUint16(0, true), id: data.getBigUint64(8, true), offset };
}

function advanceTampered(reader: TamperedReader, size: number): void {
	reader.at += reader.held;
	reader.held = 0;
	if (reader.at >= size) reader.at -= size;
}

/** Publishes what such a reader has consumed. */
export function publishTampered(core: GuestCore, { ring, tampered }: GuestChannel): void {
	if (ring === null || tampered === null) return;
	const header = core.engine.ram.view(ring.gpa + ring.sendPages * PAGE_SIZE, PAGE_SIZE);
	new DataView(header.buffer, header.byteOffset).setUint32(HEADER_READ_INDEX, tampered.at, true);
}
