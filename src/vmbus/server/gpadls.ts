/** GPADLs: assembled from a header and bodies, given to the device, torn down (OpenVMM vmbus_server/src/channels.rs). */
import { parseGpadl } from "../wire/gpadl.ts";
import { type MessageOf, MessageType } from "../wire/messages.ts";
import { STATUS_UNSUCCESSFUL } from "../wire/values.ts";
import type { Rejection } from "./actions.ts";
import { checkDisconnected } from "./connection.ts";
import type { Handlers, ServerChannel, ServerCore } from "./core.ts";
import { isReleased, isRevoked, reservationOf, type ServerGpadl } from "./types.ts";

/** GPADL_HEADER. Whatever is wrong with it is answered, for the guest waits; an unknown relid too. */
function handleGpadlHeader(core: ServerCore, message: MessageOf<"GpadlHeader">): void {
	const { relid, gpadl: id, rangeBytes, rangeCount, ranges } = message;
	const channel = core.channelOf(relid);
	if (channel === undefined) {
		core.send({ type: MessageType.GpadlCreated, relid, gpadl: id, status: STATUS_UNSUCCESSFUL });
		return;
	}
	const quadwords = rangeBytes >>> 3;
	const refusal = refusalOf(core, channel, id, quadwords, quadwords > ranges.length);
	if (refusal !== null) {
		core.reject(refusal, `GPADL_HEADER of GPADL 0x${id.toString(16)} on relid ${relid}`);
		core.send({ type: MessageType.GpadlCreated, relid, gpadl: id, status: STATUS_UNSUCCESSFUL });
		return;
	}
	const gpadl: ServerGpadl = {
		offerId: channel.offerId,
		gpadl: id,
		rangeCount,
		quadwords,
		received: [],
		ranges: [],
		state: "InProgress",
	};
	channel.gpadls.set(id, gpadl);
	core.gpadlQuadwords += quadwords;
	if (quadwords > ranges.length) core.incomplete.set(id, gpadl);
	append(core, channel, gpadl, ranges);
}

/** Why a GPADL cannot begin. */
function refusalOf(
	core: ServerCore,
	channel: ServerChannel,
	id: number,
	quadwords: number,
	hasBodies: boolean,
): Rejection | null {
	// a reserved channel outlives the connection that its ids are unique in
	if (reservationOf(channel) !== null) return "channel-reserved";
	// bodies name no channel, so an id under way must be the only one
	if (channel.gpadls.has(id) || (hasBodies && core.incomplete.has(id))) return "duplicate-gpadl";
	return core.gpadlQuadwords + quadwords > core.config.maxGpadlPages ? "too-many-pages" : null;
}

/** GPADL_BODY. Without a GPADL under way there is nobody to answer. */
function handleGpadlBody(core: ServerCore, { gpadl: id, ranges }: MessageOf<"GpadlBody">): void {
	const gpadl = core.incomplete.get(id);
	const channel = gpadl && core.channels.get(gpadl.offerId);
	if (gpadl === undefined || channel === undefined)
		core.reject("unknown-gpadl", `GPADL_BODY of GPADL 0x${id.toString(16)}, which is not under way`);
	else append(core, channel, gpadl, ranges);
}

/** Adds what is meant of a message: some clients always send 240 bytes. A complete GPADL goes to the device. */
function append(core: ServerCore, channel: ServerChannel, gpadl: ServerGpadl, quadwords: readonly bigint[]): void {
	for (const quadword of quadwords.slice(0, gpadl.quadwords - gpadl.received.length)) gpadl.received.push(quadword);
	if (gpadl.received.length < gpadl.quadwords) return;
	const ranges = parseGpadl(gpadl.received, gpadl.rangeCount);
	const relid = core.relidOf(channel);
	if (ranges === null) {
		core.dropGpadl(channel, gpadl);
		core.reject("invalid-gpadl", `GPADL 0x${gpadl.gpadl.toString(16)} on relid ${relid}: its ranges are invalid`);
		core.send({ type: MessageType.GpadlCreated, relid, gpadl: gpadl.gpadl, status: STATUS_UNSUCCESSFUL });
		return;
	}
	core.endAssembly(gpadl);
	gpadl.received = [];
	gpadl.ranges = ranges;
	if (isRevoked(channel)) {
		// no device will ever look at it
		gpadl.state = "Accepted";
		core.send({ type: MessageType.GpadlCreated, relid, gpadl: gpadl.gpadl, status: 0 });
		return;
	}
	gpadl.state = "Offered";
	core.act({ type: "gpadl", offerId: channel.offerId, gpadl: gpadl.gpadl, ranges });
}

function find(core: ServerCore, offerId: number, id: number, what: string) {
	const channel = core.channels.get(offerId);
	const gpadl = channel?.gpadls.get(id);
	if (channel !== undefined && gpadl !== undefined) return { channel, gpadl };
	core.reject("unexpected-completion", `${what} of GPADL 0x${id.toString(16)} of channel ${offerId}, which is gone`);
	return undefined;
}

/** The end of the action "gpadl". */
export function completeGpadl(core: ServerCore, offerId: number, id: number, status: number): void {
	const found = find(core, offerId, id, "gpadl");
	if (found === undefined) return;
	const { channel, gpadl } = found;
	if (gpadl.state === "Offered") {
		core.send({ type: MessageType.GpadlCreated, relid: core.relidOf(channel), gpadl: id, status: status >>> 0 });
		if (status === 0) gpadl.state = "Accepted";
		else core.dropGpadl(channel, gpadl);
	} else if (gpadl.state === "OfferedTearingDown") {
		if (status === 0) {
			gpadl.state = "TearingDown";
			core.act({ type: "gpadlTeardown", offerId, gpadl: id });
		} else {
			core.dropGpadl(channel, gpadl);
			checkDisconnected(core);
		}
	} else core.reject("unexpected-completion", `gpadl of GPADL 0x${id.toString(16)}: ${gpadl.state}`);
}

/** GPADL_TEARDOWN. */
function handleGpadlTeardown(core: ServerCore, { relid, gpadl: id }: MessageOf<"GpadlTeardown">): void {
	const channel = core.channelOf(relid);
	if (channel === undefined) return;
	const gpadl = channel.gpadls.get(id);
	const text = `GPADL_TEARDOWN of GPADL 0x${id.toString(16)} on relid ${relid}`;
	if (gpadl === undefined) core.reject("unknown-gpadl", text);
	else if (gpadl.state !== "Accepted") core.reject("invalid-gpadl-state", `${text}: ${gpadl.state}`);
	else if (reservationOf(channel) !== null) core.reject("channel-reserved", text);
	else if (isRevoked(channel)) {
		core.dropGpadl(channel, gpadl);
		core.send({ type: MessageType.GpadlTorndown, gpadl: id });
	} else {
		gpadl.state = "TearingDown";
		core.act({ type: "gpadlTeardown", offerId: channel.offerId, gpadl: id });
	}
}

/** The end of the action "gpadlTeardown". */
export function completeGpadlTeardown(core: ServerCore, offerId: number, id: number): void {
	const found = find(core, offerId, id, "gpadlTeardown");
	if (found === undefined) return;
	const { channel, gpadl } = found;
	if (gpadl.state !== "TearingDown") {
		core.reject("unexpected-completion", `gpadlTeardown of GPADL 0x${id.toString(16)}: ${gpadl.state}`);
		return;
	}
	core.dropGpadl(channel, gpadl);
	if (!isReleased(channel)) core.send({ type: MessageType.GpadlTorndown, gpadl: id });
	checkDisconnected(core);
}

export const GPADL_HANDLERS = {
	GpadlHeader: { take: handleGpadlHeader },
	GpadlBody: { take: handleGpadlBody },
	GpadlTeardown: { take: handleGpadlTeardown },
} satisfies Partial<Handlers>;
