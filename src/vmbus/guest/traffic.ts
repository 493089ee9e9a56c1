/** Data of open channels: packets out and in, and the callbacks that say there are some. */
import * as layout from "../../../assembly/layout/ring.ts";
import { RING_EMPTY } from "../../../assembly/layout/status.ts";
import { type GpaRange, gpaRangesBytes } from "../../ring/packet.ts";
import type { RingPair } from "../../ring/pair.ts";
import type { SendOptions } from "../../ring/writer.ts";
import { DmaError, type StatusName, statusName } from "../../status.ts";
import type { GuestChannel } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import { nextTampered, publishTampered, sendEmptyRanges, sendTampered } from "./linux-ring.ts";
import { signalHost } from "./signal.ts";
import type { GuestStatus } from "./types.ts";

/** A packet's copy: nothing of it is in the host's reach any more. */
export interface ReceivedPacket {
	/** Header and payload; the header's lengths are the checked ones. */
	readonly bytes: Uint8Array;
	readonly type: number;
	readonly id: bigint;
	/** Where the payload starts in `bytes`. */
	readonly offset: number;
}

/** What a read came to. */
export interface Received {
	readonly status: GuestStatus;
	readonly packet: ReceivedPacket | null;
}

/** Packets that a linux-6.12 reader takes from a ring whose host broke it, before it is said that Linux would never return. */
const LIVELOCK_STOPS = 64;

/** What the engine's statuses mean here; all others are a broken ring. */
const STATUS_NAMES: Partial<Record<StatusName, GuestStatus>> = {
	RING_FULL: "ring-full",
	REQUESTOR_FULL: "requestor-full",
	RING_CLOSED: "bad-state",
	BAD_RING: "bad-state",
	RING_RESCINDED: "rescinded",
	BAD_SIZE: "bad-argument",
	RING_TOO_LARGE: "bad-argument",
	RING_TOO_SMALL: "too-small",
};

function caught(error: unknown): GuestStatus {
	if (error instanceof RangeError) return "bad-argument";
	if (!(error instanceof DmaError)) throw error;
	return STATUS_NAMES[error.status] ?? "ring-corrupt";
}

/** Why nothing can be sent or read on a channel, or "ok". */
function usable(core: GuestCore, channel: GuestChannel): GuestStatus {
	if (channel.rescinded) return "rescinded";
	if (!core.linux && core.state !== "connected") return "not-connected";
	return channel.state === "opened" && channel.rings !== null ? "ok" : "bad-state";
}

/** Sends by `put`. @param bytes room that the packet takes, to tell why there was none */
function guarded(
	core: GuestCore,
	channel: GuestChannel,
	bytes: number,
	put: (rings: RingPair) => boolean,
): GuestStatus {
	const status = usable(core, channel);
	const { rings } = channel;
	if (status !== "ok" || rings === null) return status;
	try {
		if (put(rings)) return "ok";
		return rings.writer.freeBytes <= bytes ? "ring-full" : "requestor-full";
	} catch (error) {
		return caught(error);
	}
}

const packetBytes = (bytes: number) => 24 + ((bytes + 7) & ~7);

/** Sends one packet. Linux 6.12 drivers/hv/channel.c, vmbus_sendpacket_getid. */
export function send(core: GuestCore, channel: GuestChannel, payload: Uint8Array, options: SendOptions): GuestStatus {
	const tampered = core.linux && usable(core, channel) === "ok" ? sendTampered(core, channel, payload, options) : null;
	if (tampered !== null) return tampered;
	return guarded(core, channel, packetBytes(payload.length), (rings) => rings.writer.send(payload, options));
}

/** Sends a packet that names guest memory. Linux 6.12 drivers/hv/channel.c, vmbus_sendpacket_mpb_desc. */
export function sendGpaDirect(
	core: GuestCore,
	channel: GuestChannel,
	ranges: readonly GpaRange[],
	payload: Uint8Array,
	options: SendOptions,
): GuestStatus {
	const bytes = packetBytes(8 + gpaRangesBytes(ranges) + payload.length);
	return guarded(core, channel, bytes, (rings) => {
		const empty = core.linux ? sendEmptyRanges(core, channel, ranges, payload, options) : null;
		return empty ?? rings.writer.sendGpaDirect(ranges, payload, options);
	});
}

/** Reads the next packet, or null. @returns why not in `status` */
function receive(core: GuestCore, channel: GuestChannel, stops: { left: number }): Received {
	const { rings, kept } = channel;
	if (rings === null) return { status: "bad-state", packet: null };
	channel.kept = null;
	if (kept !== null) return { status: "ok", packet: kept };
	const tampered = core.linux ? nextTampered(core, channel) : undefined;
	if (tampered !== undefined) return { status: "ok", packet: tampered };
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
	if (result < 0) return { status: STATUS_NAMES[statusName(result)] ?? "ring-corrupt", packet: null };
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
 * One packet, consumed and published (Linux 6.12 drivers/hv/ring_buffer.c, hv_ringbuffer_read). One that is longer than
 * `maxBytes`, header included, stays.
 */
export function receiveOne(core: GuestCore, channel: GuestChannel, maxBytes: number): Received {
	const got = receive(core, channel, { left: 1 });
	const { rings } = channel;
	if (got.packet === null || rings === null) return got;
	if (got.packet.bytes.length > maxBytes) {
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
	if (channel === undefined || channel.rescinded || !channel.callbacks) return null;
	if (channel.options?.signal !== undefined && channel.options.signal.eventFlag !== flag) return null;
	if (channel.mode === "isr") {
		core.ports.callback?.(channel);
		return null;
	}
	const exports = core.engine.instance.exports;
	const mask = (value: 0 | 1) => {
		if (channel.rings !== null) exports.ringMask(channel.rings.reader.number, value);
	};
	if (channel.mode === "batched") mask(1);
	return () => {
		if (!channel.callbacks) return;
		for (let round = 0; ; round++) {
			core.ports.callback?.(channel);
			const { rings } = channel;
			if (channel.mode !== "batched" || rings === null || channel.stuck) return;
			const left = exports.ringEndRead(rings.reader.number);
			if (left <= 0 || !channel.callbacks) return;
			// a callback that leaves what it was called for would be called for ever
			if (round >= MAX_ROUNDS) return void core.warn(`channel ${channel.relid}: the callback leaves packets unread`);
			mask(1);
		}
	};
}

/** Callbacks in a row for one event. */
const MAX_ROUNDS = 64;
