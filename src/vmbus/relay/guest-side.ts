/** The relay's side toward the guest: what the server asks of relayed channels becomes messages to the host. */

import type { OpenAction, ServerAction, ServerCompletion } from "../server/actions.ts";
import { gpadlMessages } from "../wire/gpadl.ts";
import { MessageType } from "../wire/messages.ts";
import { OpenFlag, STATUS_UNSUCCESSFUL } from "../wire/values.ts";
import type { HostChannel, RelayCore } from "./core.ts";

/** Passes the server's actions on: to the host for its channels, out for all others. */
export function serve(core: RelayCore, actions: readonly ServerAction[]): void {
	for (const action of actions) {
		const channel = "offerId" in action ? core.byOffer.get(action.offerId) : undefined;
		if (channel === undefined) core.act(action);
		else ask(core, channel, action);
	}
}

/** Tells the server of the end of what it asked for, and serves what follows. */
export function complete(core: RelayCore, completion: ServerCompletion): void {
	serve(core, core.server.complete(completion));
}

function ask(core: RelayCore, channel: HostChannel, action: ServerAction): void {
	const { relid, offerId } = channel;
	switch (action.type) {
		case "gpadl": {
			const hostGpadl = core.takeGpadlId(action.gpadl);
			core.addGpadl({ hostGpadl, offerId, gpadl: action.gpadl, state: "creating" });
			for (const message of gpadlMessages(relid, hostGpadl, action.ranges)) core.post(message);
			break;
		}
		case "gpadlTeardown": {
			const found = core.findGpadl(offerId, action.gpadl);
			if (found === undefined) {
				complete(core, { type: "gpadlTeardown", offerId, gpadl: action.gpadl });
				break;
			}
			found.state = "tearing-down";
			core.post({ type: MessageType.GpadlTeardown, relid, gpadl: found.hostGpadl });
			break;
		}
		case "open":
			open(core, channel, action);
			break;
		case "close":
			channel.state = "closed";
			channel.signal = null;
			channel.modifying = false;
			core.post({ type: MessageType.CloseChannel, relid });
			// the host does not answer
			complete(core, { type: "close", offerId });
			break;
		case "modify":
			channel.modifying = true;
			if (channel.signal !== null) channel.signal = { ...channel.signal, vp: action.targetVp };
			core.post({ type: MessageType.ModifyChannel, relid, targetVp: action.targetVp });
			break;
		case "revoked":
			// the host rescinded a primary before its sub-channels
			if (channel.state === "open") core.post({ type: MessageType.CloseChannel, relid });
			core.post({ type: MessageType.RelidReleased, relid });
			core.drop(channel);
	}
}

function open(core: RelayCore, channel: HostChannel, { request, connectionId, eventFlag }: OpenAction): void {
	const { relid, offerId } = channel;
	const ring = core.findGpadl(offerId, request.ringGpadl);
	// a ring that the host does not have
	if (ring?.state !== "created") {
		complete(core, { type: "open", offerId, status: STATUS_UNSUCCESSFUL });
		return;
	}
	channel.state = "opening";
	channel.signal = { connectionId, eventFlag, vp: request.targetVp };
	core.post({
		type: MessageType.OpenChannel,
		relid,
		openId: relid,
		ringGpadl: ring.hostGpadl,
		targetVp: request.targetVp,
		downstreamPage: request.downstreamPage,
		userData: request.userData,
		connectionId,
		eventFlag,
		openFlags: request.redirectInterrupt ? OpenFlag.RedirectInterrupt : 0,
	});
}
