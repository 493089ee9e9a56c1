/** Packets out and in: into the ring with a signal when the host sleeps, out of it, and the callbacks that say there are some. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import * as layout from "../../../assembly/layout/ring.ts";
import { RING_EMPTY, RING_FULL } from "../../../assembly/layout/status.ts";
import { type GpaRange, gpaRangesBytes, PacketType, WANTS_COMPLETION, writeGpaRanges } from "../../ring/packet.ts";
import type { RingPair } from "../../ring/pair.ts";
import type { SendOptions } from "../../ring/writer.ts";
import { DmaError, type StatusName, statusName } from "../../status.ts";
import type { GuestChannel, ReceivedPacket } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import { nextTampered, pointAtPayload, publishTampered, sendTampered } from "./linux-ring.ts";
import type { GuestStatus } from "./options.ts";
import { signalHost } from "./signals.ts";

/** What the engine's statuses mean here; all others are a broken ring. */
const STATUS_NAMES: Partial<Record<StatusName, GuestStatus>> = {
	RING_FULL: "ring-full",
	REQUESTOR_FULL: "requestor-full",
	RING_CLOSED: "bad-state",
	BAD_RING: "bad-state",
	RING_RESCINDED: "rescinded",
	BAD_SIZE: "bad-argument",
	BAD_ARGUMENT: "bad-argument",
	RING_TOO_LARGE: "bad-argument",
	RING_TOO_SMALL: "too-small",
};

/** A status of a ring (below 0). */
function ringStatus(result: number): GuestStatus {
	return STATUS_NAMES[statusName(result)] ?? "ring-corrupt";
}

/** Why nothing can be sent on a channel, or "ok". */
function usable(core: GuestCore, channel: GuestChannel): GuestStatus {
	if (channel.rescinded) return "rescinded";
	if (!core.takesRequests) return "not-connected";
	return channel.state === "opened" && channel.rings !== null ? "ok" : "bad-state";
}

/** A packet to be sent: what stands behind its header, of which the first bytes may be ranges. */
interface Outgoing {
	readonly type: number;
	readonly flags: number;
	readonly id: bigint;
	readonly body: Uint8Array;
	/** Bytes of the body before the payload. */
	readonly rangesBytes: number;
}

/** Puts a packet behind the write index. @returns a status of the ring */
type Put = (rings: RingPair, low: number, high: number, ptr: number) => number;

/** Copies the body to linear memory, puts the packet, publishes it and signals. */
function sendBy(core: GuestCore, channel: GuestChannel, packet: Outgoing, put: Put): GuestStatus {
	const status = usable(core, channel);
	const { rings } = channel;
	if (status !== "ok" || rings === null) return status;
	const tampered = core.linux ? sendTampered(core, channel, packet) : null;
	if (tampered !== null) return tampered;
	const ptr = core.scratch(packet.body.length);
	if (ptr < 0) return "no-memory";
	core.engine.instance.bytes.set(packet.body, ptr);
	const id = BigInt.asUintN(64, packet.id);
	const result = put(rings, Number(id & 0xffffffffn) | 0, Number(id >> 32n) | 0, ptr);
	// Linux says "full" to what never fits as well
	if (result < 0)
		return core.linux && ringStatus(result) === "bad-argument" ? ringStatus(RING_FULL) : ringStatus(result);
	const signals = rings.writer.publish();
	if (signals === 1) signalHost(core, channel);
	return signals < 0 ? ringStatus(signals) : "ok";
}

/** Sends one packet (Linux 6.12 drivers/hv/channel.c, vmbus_sendpacket_getid). `type` may carry other flags above bit 16. */
export function send(core: GuestCore, channel: GuestChannel, payload: Uint8Array, options: SendOptions): GuestStatus {
	const { type = PacketType.InBand, id = 0n, wantsCompletion = false } = options;
	const kind = ((wantsCompletion ? WANTS_COMPLETION : 0) << 16) | type;
	const packet = { type: kind & 0xffff, flags: kind >>> 16, id, body: payload, rangesBytes: 0 };
	return sendBy(core, channel, packet, ({ writer }, low, high, ptr) =>
		writer.put(kind, low, high, ptr, payload.length),
	);
}

/** Sends a packet that names guest memory (Linux 6.12 drivers/hv/channel.c, vmbus_sendpacket_mpb_desc). */
export function sendGpaDirect(
	core: GuestCore,
	channel: GuestChannel,
	ranges: readonly GpaRange[],
	payload: Uint8Array,
	options: SendOptions,
): GuestStatus {
	const { id = 0n, wantsCompletion = true } = options;
	const type = PacketType.GpaDirect;
	const flags = wantsCompletion ? WANTS_COMPLETION : 0;
	const rangesBytes = gpaRangesBytes(ranges);
	const body = new Uint8Array(8 + rangesBytes + payload.length);
	new DataView(body.buffer).setUint32(4, ranges.length, true);
	writeGpaRanges(new DataView(body.buffer), 8, ranges);
	body.set(payload, 8 + rangesBytes);
	const packet = { type, flags, id, body, rangesBytes: 8 + rangesBytes };
	const kind = (flags << 16) | type;
	// the engine refuses ranges that do not fill their pages; Linux sends what it is given
	if (core.linux)
		return sendBy(core, channel, packet, ({ writer }, low, high, ptr) => {
			const result = writer.put(kind, low, high, ptr, body.length);
			if (result >= 0) pointAtPayload(core, channel, packet.rangesBytes);
			return result;
		});
	const { exports } = core.engine.instance;
	return sendBy(core, channel, packet, ({ writer }, low, high, ptr) => {
		const [from, to] = [ptr + 8, ptr + 8 + rangesBytes];
		return exports.ringPutRanges(
			writer.number,
			kind,
			low,
			high,
			0,
			from,
			rangesBytes,
			ranges.length,
			to,
			payload.length,
		);
	});
}

/** What a read came to. */
export interface Received {
	readonly status: GuestStatus;
	readonly packet: ReceivedPacket | null;
}

/** Packets that a linux-6.12 reader takes from a ring whose host broke it, before it is said that Linux would never return. */
const LIVELOCK_STOPS = 64;

/** Callbacks in a row for one event. */
const MAX_ROUNDS = 1000;

/** Reads the next packet, or null. @returns why not in `status` */
function receive(core: GuestCore, channel: GuestChannel, stops: { left: number }): Received {
	const { rings, kept } = channel;
	if (rings === null) return { status: "bad-state", packet: null };
	channel.kept = null;
	if (kept !== null) return { status: "ok", packet: kept };
	const tampered = core.linux ? nextTampered(core, channel) : undefined;
	if (tampered === null) return { status: "ok", packet: null };
	if (tampered !== undefined)
		return stops.left-- > 0 ? { status: "ok", packet: tampered } : { status: "livelock", packet: null };
	const { reader } = rings;
	const { instance } = core.engine;
	let result = reader.next(0);
	if (result === RING_EMPTY && reader.stopped) {
		if (!core.linux) return { status: "ring-corrupt", packet: null };
		if (stops.left-- === 0) return { status: "livelock", packet: null };
		reader.resume();
		result = reader.next(0);
	}
	if (result === RING_EMPTY) return { status: "ok", packet: null };
	if (result < 0) return { status: ringStatus(result), packet: null };
	const record = reader.recordPtr;
	const at = reader.packetPtr;
	const bytes = instance.data.getUint16(record + layout.RING_PACKET_HEAD + 4, true) * 8;
	return {
		status: "ok",
		packet: {
			bytes: instance.bytes.slice(at, at + bytes),
			type: instance.data.getUint16(record + layout.RING_PACKET_HEAD, true),
			id: instance.data.getBigUint64(record + layout.RING_PACKET_ID, true),
			offset: instance.data.getUint16(record + layout.RING_PACKET_HEAD + 2, true) * 8,
		},
	};
}

/**
 * Every packet that is there, one after the other; what was taken is published at the end. The status tells why it ended:
 * "ok" when the ring was empty.
 */
export function* packets(core: GuestCore, channel: GuestChannel): Generator<ReceivedPacket, GuestStatus> {
	const stops = { left: LIVELOCK_STOPS };
	try {
		while (true) {
			const { status, packet } = receive(core, channel, stops);
			if (packet === null) return status;
			yield packet;
			if (channel.rings === null) return "bad-state";
		}
	} finally {
		publish(core, channel);
	}
}

/** Publishes what was consumed. */
function publish(core: GuestCore, channel: GuestChannel): void {
	if (channel.tampered !== null) {
		publishTampered(core, channel);
		return;
	}
	if (channel.rings?.reader.release() === 1) signalHost(core, channel);
}

/**
 * One packet, consumed and published (Linux 6.12 drivers/hv/ring_buffer.c, hv_ringbuffer_read). One whose payload, or
 * which raw, is longer than `maxBytes` stays.
 */
export function receiveOne(core: GuestCore, channel: GuestChannel, maxBytes: number, raw: boolean): Received {
	if (!(maxBytes > 0)) return { status: "bad-argument", packet: null };
	const got = receive(core, channel, { left: 1 });
	const { rings } = channel;
	if (got.packet === null || rings === null) return got;
	if (got.packet.bytes.length - (raw ? 0 : got.packet.offset) > maxBytes) {
		channel.kept = got.packet;
		return { status: "too-small", packet: null };
	}
	if (channel.tampered === null) rings.reader.advance();
	publish(core, channel);
	return got;
}

/**
 * Ends the request that a completion names, also when the rings are closed.
 * @param only end it only if it was sent with this value (Linux 6.12 drivers/hv/channel.c, vmbus_request_addr_match)
 * @returns the value it was sent with, or null
 */
export function endRequest(
	core: GuestCore,
	channel: GuestChannel,
	id: bigint,
	only: bigint | undefined = undefined,
): bigint | null {
	const { rings } = channel;
	if (rings === null) return null;
	const value = only === undefined ? only : liveValue(core, rings, id);
	if (value !== undefined && value !== only) return value;
	try {
		return rings.writer.endRequest(id);
	} catch (error) {
		if (error instanceof DmaError) return null;
		throw error;
	}
}

/** The value that a slot of the requestor holds: the sender's, while the id is live. */
function liveValue({ engine }: GuestCore, { writer }: RingPair, id: bigint): bigint | undefined {
	const requestor = engine.instance.exports.requestorOf(writer.number);
	const slots = requestor === 0 ? 0 : engine.instance.u32(requestor + layout.REQUESTOR_SLOTS);
	if (id < 1n || id > BigInt(slots)) return undefined;
	const slot = requestor + layout.REQUESTOR_HEADER_BYTES + 8 * (Number(id) - 1);
	return engine.instance.data.getBigUint64(slot, true);
}

/**
 * What an event flag runs, or null (Linux 6.12 drivers/hv/vmbus_drv.c, vmbus_chan_sched and connection.c, vmbus_on_event).
 * A batched channel masks the host's signals while its callback runs, and looks again after.
 */
export function onEvent(core: GuestCore, flag: number): (() => void) | null {
	if (flag === 0) return null;
	const channel = core.eventFlags.get(flag) ?? core.channels.get(flag);
	if (channel === undefined || channel.rescinded || !channel.callbacks || channel.stuck) return null;
	if (channel.options?.signal !== undefined && channel.options.signal.eventFlag !== flag) return null;
	if (channel.mode === "isr") {
		core.ports.callback?.(channel);
		return null;
	}
	const exports = core.engine.instance.exports;
	// false: the ring is closed, and there are no signals to mask
	const mask = (value: 0 | 1) => channel.rings !== null && exports.ringMask(channel.rings.reader.number, value) >= 0;
	const masked = channel.mode === "batched" && mask(1);
	return () => {
		if (!channel.callbacks) return;
		for (let round = 0; round < MAX_ROUNDS; round++) {
			const before = readIndex(core, channel);
			core.ports.callback?.(channel);
			const { rings } = channel;
			if (!masked || rings === null || channel.stuck) return;
			const left = exports.ringEndRead(rings.reader.number);
			if (left < 0) return;
			const isAgain = core.linux ? unread(core, channel) > 0 : left > 0;
			if (!isAgain || !channel.callbacks) return;
			// who reads nothing is not called again for the same bytes; Linux calls for ever
			if (readIndex(core, channel) === before) {
				core.warn(`channel ${channel.relid}: the callback leaves bytes unread`);
				if (core.linux && mask(1)) stop(core, channel);
				return;
			}
			if (!mask(1)) return;
		}
		if (!mask(0)) core.warn(`channel ${channel.relid}: its ring was closed meanwhile`);
	};
}

/** Where the reader is in its ring. */
function readIndex({ engine }: GuestCore, { rings }: GuestChannel): number {
	return rings === null ? -1 : engine.instance.u32(rings.reader.recordPtr + layout.RING_AT);
}

/** Bytes to read as Linux counts them, less than a packet's header included. */
function unread(core: GuestCore, channel: GuestChannel): number {
	const { ring } = channel;
	if (ring === null) return 0;
	const header = core.engine.ram.view(ring.gpa + ring.sendPages * PAGE_SIZE, 8);
	const write = new DataView(header.buffer, header.byteOffset).getUint32(layout.HEADER_WRITE_INDEX, true);
	return Math.abs(write - readIndex(core, channel));
}

/** linux-6.12: ends what Linux would never return from. The channel's callback is not called again. */
function stop(core: GuestCore, channel: GuestChannel): void {
	channel.stuck = true;
	core.ports.livelock?.(channel);
}
