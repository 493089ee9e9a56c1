/** Channels: opening, closing, modifying, releasing and taking back (OpenVMM vmbus_server/src/channels.rs). */
import { hasMessage, type MessageOf, MessageType } from "../wire/messages.ts";
import { NO_INTERRUPT_VP, OpenFlag, STATUS_UNSUCCESSFUL, USER_DATA_BYTES } from "../wire/values.ts";
import { Feature, OfferFlag } from "../wire/versions.ts";
import { checkDisconnected } from "./connection.ts";
import type { Handlers, ServerChannel, ServerCore } from "./core.ts";
import { releaseIds } from "./offers.ts";
import { endReservation, releaseChannel } from "./release.ts";
import { isReleased, isRevoked, type OpenRequest, type Reservation, reservationOf } from "./types.ts";

/** OPENCHANNEL. A guest may open again before a close is done, for CLOSECHANNEL has no answer. */
function handleOpen(core: ServerCore, message: MessageOf<"OpenChannel">): void {
	const channel = core.channelOf(message.relid);
	if (channel === undefined) return;
	const { connectionId, eventFlag, openFlags } = message;
	const signal =
		core.has(Feature.GuestSpecifiedSignalParameters) && connectionId !== undefined && eventFlag !== undefined
			? { connectionId, eventFlag }
			: null;
	const request: OpenRequest = {
		openId: message.openId,
		ringGpadl: message.ringGpadl,
		targetVp: message.targetVp,
		downstreamPage: message.downstreamPage,
		userData: message.userData,
		signal,
		redirectInterrupt:
			core.has(Feature.ChannelInterruptRedirection) && ((openFlags ?? 0) & OpenFlag.RedirectInterrupt) !== 0,
	};
	const { state } = channel;
	if (state.name === "Closed") openChannel(core, channel, request, null);
	else if (state.name === "Closing" && state.reserved?.orphaned !== true)
		channel.state = { ...state, name: "ClosingReopen", next: request };
	else if (!isRevoked(channel)) core.reject("already-open", `OPENCHANNEL of relid ${message.relid}: ${state.name}`);
}

function openChannel(
	core: ServerCore,
	channel: ServerChannel,
	request: OpenRequest,
	reserved: Reservation | null,
): void {
	const { info, offer, offerId } = channel;
	if (info === null) throw new Error(`channel ${offerId} has no relid`);
	channel.state = { name: "Opening", request, reserved };
	const confidential = core.has(Feature.ConfidentialChannels) ? offer.flags : 0;
	core.act({
		type: "open",
		offerId,
		relid: info.relid,
		request,
		connectionId: request.signal?.connectionId ?? info.connectionId,
		eventFlag: request.signal?.eventFlag ?? info.relid,
		ringPages: (confidential & OfferFlag.ConfidentialRingBuffer) !== 0 ? "private" : "shared",
		externalPages: (confidential & OfferFlag.ConfidentialExternalMemory) !== 0 ? "private" : "shared",
		reserved: reserved !== null,
	});
}

/** The device's channel that a completion names; rejects all others. */
function completed(core: ServerCore, offerId: number, what: string): ServerChannel | undefined {
	const channel = core.channels.get(offerId);
	if (channel === undefined) core.reject("unexpected-completion", `${what} of channel ${offerId}, which is gone`);
	return channel;
}

/** The end of the action "open". */
export function completeOpen(core: ServerCore, offerId: number, status: number): void {
	const channel = completed(core, offerId, "open");
	if (channel === undefined) return;
	const { state } = channel;
	if (state.name === "OpeningClientRelease") {
		if (status === 0) {
			channel.state = { name: "ClosingClientRelease" };
			core.act({ type: "close", offerId });
		} else {
			channel.state = { name: "ClientReleased" };
			checkDisconnected(core);
		}
		return;
	}
	if (state.name !== "Opening") {
		core.reject("unexpected-completion", `open of channel ${offerId}: ${state.name}`);
		return;
	}
	const { request, reserved } = state;
	const { openId } = request;
	const result = { type: MessageType.OpenChannelResult, relid: core.relidOf(channel), openId, status: status >>> 0 };
	if (status === 0) channel.state = { name: "Open", request, reserved, modifying: null };
	if (reserved === null) core.send(result);
	else core.sendTo(reserved.target, result);
	if (status === 0) return;
	if (reserved === null) channel.state = { name: "Closed" };
	else endReservation(core, channel, reserved);
}

/** CLOSECHANNEL: never answered. */
function handleClose(core: ServerCore, { relid }: MessageOf<"CloseChannel">): void {
	const channel = core.channelOf(relid);
	if (channel === undefined || isRevoked(channel)) return;
	const { state } = channel;
	if (state.name !== "Open") core.reject("not-open", `CLOSECHANNEL of relid ${relid}: ${state.name}`);
	else if (state.reserved !== null) core.reject("channel-reserved", `CLOSECHANNEL of reserved relid ${relid}`);
	else {
		closeChannel(core, channel, state.request, null);
		// the device's answer will come too late, and the guest waits for one
		if (state.modifying !== null) sendModifyResponse(core, relid, STATUS_UNSUCCESSFUL);
	}
}

function closeChannel(
	core: ServerCore,
	channel: ServerChannel,
	request: OpenRequest,
	reserved: Reservation | null,
): void {
	channel.state = { name: "Closing", request, reserved };
	core.act({ type: "close", offerId: channel.offerId });
}

/** The end of the action "close". */
export function completeClose(core: ServerCore, offerId: number): void {
	const channel = completed(core, offerId, "close");
	if (channel === undefined) return;
	const { state } = channel;
	switch (state.name) {
		case "ClosingClientRelease":
			channel.state = { name: "ClientReleased" };
			checkDisconnected(core);
			break;
		case "ClosingReopen":
			if (state.reserved !== null) answerCloser(core, channel, state.reserved);
			openChannel(core, channel, state.next, null);
			break;
		case "Closing":
			if (state.reserved === null) {
				channel.state = { name: "Closed" };
				break;
			}
			answerCloser(core, channel, state.reserved);
			endReservation(core, channel, state.reserved);
			break;
		default:
			core.reject("unexpected-completion", `close of channel ${offerId}: ${state.name}`);
	}
}

/** Tells who closed a reserved channel. */
function answerCloser(core: ServerCore, channel: ServerChannel, { target }: Reservation): void {
	core.sendTo(target, { type: MessageType.CloseReservedResponse, relid: core.relidOf(channel) });
}

/** OPEN_RESERVED_CHANNEL: the channel then belongs to a target and outlives the connection. It gets no interrupts. */
function handleOpenReserved(core: ServerCore, message: MessageOf<"OpenReservedChannel">): void {
	const { relid, ringGpadl, downstreamPage, targetVp, sint } = message;
	const channel = core.channelOf(relid);
	if (channel === undefined || isRevoked(channel)) return;
	const request: OpenRequest = {
		openId: 0,
		ringGpadl,
		targetVp: NO_INTERRUPT_VP,
		downstreamPage,
		userData: new Uint8Array(USER_DATA_BYTES),
		signal: null,
		redirectInterrupt: false,
	};
	const { name } = channel.state;
	if (sint > 15) core.reject("malformed", `OPEN_RESERVED_CHANNEL: SINT ${sint}`);
	else if (name === "Closed") openChannel(core, channel, request, { target: { vp: targetVp, sint }, orphaned: false });
	else if (name === "Open" || name === "Opening")
		core.reject("already-open", `OPEN_RESERVED_CHANNEL: relid ${relid}: ${name}`);
	else core.reject("invalid-channel-state", `OPEN_RESERVED_CHANNEL of relid ${relid}: ${name}`);
}

/** CLOSE_RESERVED_CHANNEL: answered to the target that it names, also without a connection. */
function handleCloseReserved(core: ServerCore, message: MessageOf<"CloseReservedChannel">): void {
	const { relid, targetVp, sint } = message;
	const channel = core.channelOf(relid);
	if (channel === undefined || isRevoked(channel)) return;
	const { state } = channel;
	if (sint > 15) core.reject("malformed", `CLOSE_RESERVED_CHANNEL: SINT ${sint}`);
	else if (state.name !== "Open") core.reject("not-open", `CLOSE_RESERVED_CHANNEL of relid ${relid}: ${state.name}`);
	else if (state.reserved === null) core.reject("channel-not-reserved", `CLOSE_RESERVED_CHANNEL of relid ${relid}`);
	else closeChannel(core, channel, state.request, { ...state.reserved, target: { vp: targetVp, sint } });
}

/** MODIFYCHANNEL: moves the interrupts; answered from 5.3 on, also for an unknown relid. */
function handleModify(core: ServerCore, { relid, targetVp }: Omit<MessageOf<"ModifyChannel">, "type">): void {
	const channel = core.channelOf(relid);
	if (channel === undefined) {
		sendModifyResponse(core, relid, STATUS_UNSUCCESSFUL);
		return;
	}
	const { state } = channel;
	const version = core.connected?.version ?? 0;
	if (
		state.name !== "Open" ||
		state.reserved !== null ||
		state.request.targetVp === NO_INTERRUPT_VP ||
		targetVp === NO_INTERRUPT_VP
	) {
		core.reject("invalid-channel-state", `MODIFYCHANNEL of relid ${relid}: ${state.name}`);
		sendModifyResponse(core, relid, STATUS_UNSUCCESSFUL);
		return;
	}
	if (state.modifying === null) {
		channel.state = { ...state, request: { ...state.request, targetVp }, modifying: { pendingVp: null } };
		core.act({ type: "modify", offerId: channel.offerId, targetVp });
	} else if (hasMessage(version, "ModifyChannelResponse")) {
		core.reject("modify-in-progress", `MODIFYCHANNEL of relid ${relid} before the answer to the last one`);
	} else {
		// older guests are not told when the last one is done
		channel.state = { ...state, modifying: { pendingVp: targetVp } };
	}
}

function sendModifyResponse(core: ServerCore, relid: number, status: number): void {
	if (hasMessage(core.connected?.version ?? 0, "ModifyChannelResponse"))
		core.send({ type: MessageType.ModifyChannelResponse, relid, status: status >>> 0 });
}

/** The end of the action "modify". */
export function completeModify(core: ServerCore, offerId: number, status: number): void {
	const channel = completed(core, offerId, "modify");
	if (channel === undefined) return;
	const { state } = channel;
	if (state.name !== "Open" || state.modifying === null) {
		// the channel was closed meanwhile
		core.reject("unexpected-completion", `modify of channel ${offerId}: ${state.name}`);
		return;
	}
	const { pendingVp } = state.modifying;
	channel.state = { ...state, modifying: null };
	const relid = core.relidOf(channel);
	sendModifyResponse(core, relid, status);
	if (pendingVp !== null) handleModify(core, { relid, targetVp: pendingVp });
}

/** RELID_RELEASED. */
function handleRelidReleased(core: ServerCore, { relid }: MessageOf<"RelidReleased">): void {
	const channel = core.channelOf(relid);
	if (channel === undefined) return;
	const { name } = channel.state;
	if (name === "Opening" || name === "Open" || name === "ClosingReopen" || reservationOf(channel) !== null) {
		core.reject("invalid-channel-state", `RELID_RELEASED of relid ${relid}: ${name}`);
		return;
	}
	releaseChannel(core, channel, true);
}

/** TL_CONNECT_REQUEST: the embedder offers an hvsock channel, or says that none will come. */
function handleTlConnect(core: ServerCore, message: MessageOf<"TlConnectRequest">): void {
	const { endpointId, serviceId, siloId = null } = message;
	core.act({ type: "tlConnect", endpointId, serviceId, siloId });
}

/** A device takes its channel back; the sub-channels of a primary go before it, else Linux uses what it has freed. */
export function revoke(core: ServerCore, channel: ServerChannel): void {
	const { interfaceId, instanceId, subChannelIndex } = channel.offer;
	if (subChannelIndex === 0) {
		for (const other of [...core.channels.values()]) {
			const { offer } = other;
			if (offer.subChannelIndex === 0 || offer.instanceId !== instanceId || offer.interfaceId !== interfaceId) continue;
			if (other.state.name === "Revoked") continue;
			revokeOne(core, other);
			core.act({ type: "revoked", offerId: other.offerId });
		}
	}
	revokeOne(core, channel);
	checkDisconnected(core);
}

function revokeOne(core: ServerCore, channel: ServerChannel): void {
	const { state } = channel;
	if (state.name === "Revoked") return;
	if (isReleased(channel) || reservationOf(channel)?.orphaned === true) {
		for (const gpadl of [...channel.gpadls.values()]) core.dropGpadl(channel, gpadl);
		releaseIds(core, channel);
		core.channels.delete(channel.offerId);
		return;
	}
	channel.state = { name: "Revoked" };
	if (state.name === "Reoffered") return;
	const relid = core.relidOf(channel);
	for (const gpadl of [...channel.gpadls.values()]) {
		if (gpadl.state === "Offered")
			core.send({ type: MessageType.GpadlCreated, relid, gpadl: gpadl.gpadl, status: STATUS_UNSUCCESSFUL });
		else if (gpadl.state === "TearingDown") core.send({ type: MessageType.GpadlTorndown, gpadl: gpadl.gpadl });
		else continue;
		core.dropGpadl(channel, gpadl);
	}
	core.send({ type: MessageType.RescindChannelOffer, relid });
}

export const CHANNEL_HANDLERS = {
	OpenChannel: { take: handleOpen },
	CloseChannel: { take: handleClose },
	RelidReleased: { take: handleRelidReleased },
	OpenReservedChannel: { take: handleOpenReserved },
	CloseReservedChannel: { take: handleCloseReserved, unconnected: true },
	TlConnectRequest: { take: handleTlConnect },
	ModifyChannel: { take: handleModify },
} satisfies Partial<Handlers>;
