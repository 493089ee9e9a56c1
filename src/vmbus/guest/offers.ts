/** Offers: which are taken, and what becomes of them. */

import { TrustError } from "../../coco/trust/error.ts";
import { offerFlags, trustOfOffer } from "../../coco/trust/offer.ts";
import { DeviceType } from "../wire/guid.ts";
import type { MessageOf } from "../wire/messages.ts";
import { Feature, OfferFlag } from "../wire/versions.ts";
import { GuestChannel, NO_RELID } from "./channel.ts";
import { type GuestCore, MAX_RELIDS } from "./core.ts";
import { VmbusDevice } from "./device.ts";
import { openChannel } from "./open.ts";
import { mapRelid } from "./remove.ts";
import { Completion, Mutex, type Steps } from "./scheduler.ts";

type Offer = MessageOf<"OfferChannel">;

/** Device types that Linux takes in an isolated VM (Linux 6.12 drivers/hv/channel_mgmt.c, vmbus_devs). */
const ALLOWED_IN_ISOLATED: readonly string[] = [
	DeviceType.Scsi,
	DeviceType.Network,
	DeviceType.PciExpress,
	DeviceType.TimeSync,
	DeviceType.Heartbeat,
	DeviceType.Shutdown,
];

function isAllowed(core: GuestCore, offer: Offer): boolean {
	if (!core.isIsolated || (offer.flags & OfferFlag.TlnpiProvider) !== 0) return true;
	return (core.options.allowedInIsolated ?? ALLOWED_IN_ISOLATED).includes(offer.interfaceId);
}

/** The primary channel of an offer's instance: Linux asks for no more than that. */
function primaryOf(core: GuestCore, offer: Offer): GuestChannel | undefined {
	return core.primaries.find((channel) => channel.offer.instanceId === offer.instanceId);
}

/** Why an offer's confidential flags cannot be, or null. */
function distrust(core: GuestCore, offer: Offer): string | null {
	const confidential = core.confidential && core.has(Feature.ConfidentialChannels);
	try {
		trustOfOffer(offerFlags(offer.flags), { confidential, version: core.version });
		return null;
	} catch (error) {
		if (error instanceof TrustError) return error.message;
		throw error;
	}
}

/** Why the safe guest does not take an offer, or null. */
function refusal(core: GuestCore, offer: Offer): string | null {
	const untrusted = distrust(core, offer);
	if (untrusted !== null) return untrusted;
	if (offer.relid < 1 || offer.relid >= MAX_RELIDS) return "its relid is out of range";
	if (core.channels.has(offer.relid)) return "its relid is in use";
	const primary = primaryOf(core, offer);
	if (offer.subChannelIndex === 0) {
		const comesBack = primary?.relid === NO_RELID && primary.offer.interfaceId === offer.interfaceId;
		return primary === undefined || comesBack ? null : "its instance is there already";
	}
	if (primary === undefined || primary.offer.interfaceId !== offer.interfaceId)
		return "its primary channel is not there";
	return primary.rescinded ? "its primary channel is rescinded" : null;
}

/** Handles OFFERCHANNEL (Linux 6.12 drivers/hv/channel_mgmt.c, vmbus_onoffer). Refused offers are not answered. */
export function* onOffer(core: GuestCore, offer: Offer): Steps {
	// Linux leaves the count as it is, so that later rescinds wait for ever
	if (core.state === "disconnected") {
		if (!core.linux) core.offersInProgress--;
		return;
	}
	const reason = isAllowed(core, offer) ? null : "its device type is not allowed in an isolated VM";
	const refused = reason ?? (core.linux ? null : refusal(core, offer));
	if (refused !== null) {
		core.warn(`the offer of ${offer.instanceId} with relid ${offer.relid} is refused: ${refused}`);
		core.offersInProgress--;
		return;
	}
	let known: GuestChannel | undefined;
	if (offer.subChannelIndex === 0) {
		yield* core.mutex.lock("channel lock");
		known = primaryOf(core, offer);
		core.mutex.unlock();
	}
	if (known !== undefined) yield* takeBack(core, known, offer);
	else yield* addChannel(core, offer);
}

/** A channel is offered anew: after a resume, or by a host that offers twice. */
function* takeBack(core: GuestCore, channel: GuestChannel, offer: Offer): Steps {
	yield* core.mutex.lock("channel lock");
	core.offersInProgress--;
	if (channel.relid !== NO_RELID)
		core.warn(`the offer of ${offer.instanceId} replaces the one with relid ${channel.relid}`);
	channel.offer = offer;
	mapRelid(core, channel);
	if (--core.comingBack === 0) core.readyForResume.complete();
	core.mutex.unlock();
}

/** Linux 6.12 drivers/hv/channel_mgmt.c, vmbus_process_offer. */
function* addChannel(core: GuestCore, offer: Offer): Steps {
	const channel = new GuestChannel(offer, new Completion(core.scheduler), core.takesConfidentialChannels);
	yield* core.mutex.lock("channel lock");
	const primary = primaryOf(core, offer);
	if (primary?.offer.interfaceId === offer.interfaceId) channel.primary = primary;
	core.cpuPlan.assign(channel);
	if (channel.endsAtSuspend) core.endingAtSuspend++;
	core.offersInProgress--;
	if (channel.primary === null) core.primaries.push(channel);
	else channel.primary.subChannels.push(channel);
	mapRelid(core, channel);
	core.mutex.unlock();
	const queue = channel.primary === null ? core.queues.primaries : core.queues.subChannels;
	queue.queue(() => register(core, channel));
}

/** Brings a channel to its driver (Linux 6.12 drivers/hv/channel_mgmt.c, vmbus_add_channel_work). */
function* register(core: GuestCore, channel: GuestChannel): Steps {
	if (channel.primary !== null) {
		core.ports.channelAdded?.(channel);
		const options = channel.primary.openSubChannels;
		if (options !== null) {
			const status = yield* openChannel(core, channel, options);
			core.ports.probed?.(channel, status);
		}
		channel.probeDone = true;
		return;
	}
	const device = new VmbusDevice(channel, new Mutex(core.scheduler));
	channel.device = device;
	core.ports.channelAdded?.(channel);
	const plan = core.options.driver?.(channel) ?? null;
	if (plan !== null) {
		yield* device.lock.lock("device lock");
		if (plan.subChannels) channel.openSubChannels = plan.open;
		const status = yield* openChannel(core, channel, plan.open);
		device.bound = status === "ok";
		device.lock.unlock();
		core.ports.probed?.(channel, status);
	}
	channel.probeDone = true;
}
