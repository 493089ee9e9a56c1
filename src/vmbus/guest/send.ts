/** Packets out: into the ring, and a signal when the host sleeps. */
import { RING_FULL } from "../../../assembly/layout/status.ts";
import { type GpaRange, gpaRangesBytes, PacketType, WANTS_COMPLETION, writeGpaRanges } from "../../ring/packet.ts";
import type { RingPair } from "../../ring/pair.ts";
import type { SendOptions } from "../../ring/writer.ts";
import { type StatusName, statusName } from "../../status.ts";
import type { GuestChannel } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import { pointAtPayload, sendTampered } from "./linux-ring.ts";
import { signalHost } from "./signal.ts";
import type { GuestStatus } from "./types.ts";

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
export function ringStatus(result: number): GuestStatus {
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
