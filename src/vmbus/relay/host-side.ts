/** The relay's side toward the host: what it says becomes offers, revocations and completions of the guest's server. */

import { MAX_CHANNELS } from "../server/offers.ts";
import { type Message, type MessageOf, MessageType } from "../wire/messages.ts";
import { ConnectionState } from "../wire/values.ts";
import { Feature, OfferFlag } from "../wire/versions.ts";
import type { RelayCore, RelayDownReason } from "./core.ts";
import { complete, serve } from "./guest-side.ts";

/** What the host says is confidential is not. */
const STRIPPED_FLAGS = OfferFlag.ConfidentialRingBuffer | OfferFlag.ConfidentialExternalMemory;
/** What a host must have to be relayed (OpenVMM vmbus_relay/src/lib.rs, REQUIRED_FEATURE_FLAGS). */
const REQUIRED_FEATURES =
	Feature.GuestSpecifiedSignalParameters | Feature.ChannelInterruptRedirection | Feature.ModifyConnection;
/** What a relay asks the host for, and can pass on. */
export const RELAYED_FEATURES = REQUIRED_FEATURES | Feature.PauseResume;

/** Takes a message of the host. Answers to what was not asked, and what names nothing, change nothing. */
export function hear(core: RelayCore, message: Message): void {
	if (message.type === MessageType.VersionResponse && core.state === "contacting") connected(core, message);
	if (core.state !== "connected") return;
	switch (message.type) {
		case MessageType.OfferChannel:
			offer(core, message);
			break;
		case MessageType.RescindChannelOffer:
			rescind(core, message.relid);
			break;
		case MessageType.OpenChannelResult:
			opened(core, message.relid, message.status);
			break;
		case MessageType.GpadlCreated:
			created(core, message.gpadl, message.status);
			break;
		case MessageType.GpadlTorndown:
			torndown(core, message.gpadl);
			break;
		case MessageType.ModifyChannelResponse:
			modified(core, message.relid, message.status);
	}
}

/** Takes all of the host's channels back. */
export function goDown(core: RelayCore, reason: RelayDownReason): void {
	core.state = "down";
	for (const channel of [...core.byOffer.values()]) {
		core.drop(channel);
		serve(core, core.server.revoke(channel.offerId));
	}
	core.act({ type: "relayDown", reason });
}

function connected(core: RelayCore, response: MessageOf<"VersionResponse">): void {
	const features = (response.featureFlags ?? 0) & RELAYED_FEATURES;
	if (response.supported === 0 || response.connectionState !== ConnectionState.Ok) {
		goDown(core, "version-refused");
	} else if ((features & REQUIRED_FEATURES) !== REQUIRED_FEATURES) {
		goDown(core, "missing-features");
	} else {
		core.state = "connected";
		core.features = features;
		core.messageConnectionId = response.connectionIdOrVersion;
		core.act({ type: "relaySint", sint: core.options.guestSint });
		core.post({ type: MessageType.RequestOffers });
	}
}

function offer(core: RelayCore, message: MessageOf<"OfferChannel">): void {
	const { relid } = message;
	// a relid that is taken, or that no event page has a flag for, is the host's mistake: nothing is answered
	if (relid < 1 || relid > MAX_CHANNELS || core.byRelid.has(relid)) return;
	const offered = core.server.offer({
		interfaceId: message.interfaceId,
		instanceId: message.instanceId,
		subChannelIndex: message.subChannelIndex,
		flags: message.flags & ~STRIPPED_FLAGS,
		mmioMegabytes: message.mmioMegabytes,
		mmioMegabytesOptional: message.mmioMegabytesOptional,
		userData: message.userData,
	});
	if (typeof offered === "string") {
		// no channel of the host takes the place of one that there is
		core.post({ type: MessageType.RelidReleased, relid });
		return;
	}
	core.add({ offerId: offered.offerId, relid, state: "closed", modifying: false, signal: null });
	serve(core, offered.actions);
}

function rescind(core: RelayCore, relid: number): void {
	const channel = core.byRelid.get(relid);
	if (channel === undefined) return;
	core.drop(channel);
	core.post({ type: MessageType.RelidReleased, relid });
	serve(core, core.server.revoke(channel.offerId));
}

function opened(core: RelayCore, relid: number, status: number): void {
	const channel = core.byRelid.get(relid);
	if (channel?.state !== "opening") return;
	channel.state = status === 0 ? "open" : "closed";
	if (status !== 0) channel.signal = null;
	complete(core, { type: "open", offerId: channel.offerId, status });
}

function created(core: RelayCore, hostGpadl: number, status: number): void {
	const found = core.gpadls.get(hostGpadl);
	if (found?.state !== "creating") return;
	if (status === 0) found.state = "created";
	else core.dropGpadl(found);
	complete(core, { type: "gpadl", offerId: found.offerId, gpadl: found.gpadl, status });
}

function torndown(core: RelayCore, hostGpadl: number): void {
	const found = core.gpadls.get(hostGpadl);
	if (found?.state !== "tearing-down") return;
	core.dropGpadl(found);
	complete(core, { type: "gpadlTeardown", offerId: found.offerId, gpadl: found.gpadl });
}

function modified(core: RelayCore, relid: number, status: number): void {
	const channel = core.byRelid.get(relid);
	if (channel?.modifying !== true) return;
	channel.modifying = false;
	complete(core, { type: "modify", offerId: channel.offerId, status });
}
