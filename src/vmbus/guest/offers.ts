/** How channels come and go: offers, which are taken and brought to a driver, and rescinds, which end a device. */
import { TrustError } from "../../coco/trust/error.ts";
import { offerFlags, trustOfOffer } from "../../coco/trust/offer.ts";
import { DeviceType } from "../wire/guid.ts";
import type { MessageOf } from "../wire/messages.ts";
import { Feature, OfferFlag, Version } from "../wire/versions.ts";
import { GuestChannel, NO_RELID, VmbusDevice } from "./channel.ts";
import { closeChannel, closeOne, openChannel } from "./channels.ts";
import { type GuestCore, MAX_RELIDS } from "./core.ts";
import { endBuffers } from "./gpadls.ts";
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
	core.mapRelid(channel);
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
	core.mapRelid(channel);
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

/** A driver lets go of its device: before 4.0 the buffers must end first (Linux 6.12 drivers/net/hyperv/netvsc.c, netvsc_device_remove). */
export function* removeDriver(core: GuestCore, device: VmbusDevice): Steps {
	const { channel } = device;
	device.bound = false;
	channel.openSubChannels = null;
	if (core.version < Version.V4_0) yield* endBuffers(core, channel);
	yield* closeChannel(core, channel);
	if (core.version >= Version.V4_0) yield* endBuffers(core, channel);
}

/** Takes a device off the bus; its channel is rescinded. Linux 6.12 drivers/hv/vmbus_drv.c, vmbus_device_unregister. */
function* unregisterDevice(core: GuestCore, device: VmbusDevice): Steps {
	// the recordings show a removal wait for target CPU changes of any channel
	if (core.linux) yield* core.scheduler.poll("target CPU change", () => core.modifying === 0);
	yield* device.lock.lock("device lock");
	if (device.bound || !core.linux) yield* removeDriver(core, device);
	device.lock.unlock();
	yield* core.mutex.lock("channel lock");
	if (!device.channel.removed) core.removeChannel(device.channel);
	core.mutex.unlock();
}

/** A channel ends: nothing calls back, and who waits for the host on it is woken. */
function cutOff(core: GuestCore, channel: GuestChannel): void {
	channel.callbacks = false;
	channel.rescinded = true;
	core.pending.rescind(channel, !core.linux);
}

/** Handles RESCIND_CHANNELOFFER (Linux 6.12 drivers/hv/channel_mgmt.c, vmbus_onoffer_rescind). */
export function* onRescind(core: GuestCore, relid: number): Steps {
	if (core.state === "disconnected") return;
	yield* core.scheduler.poll("offers in progress", () => core.offersInProgress === 0);
	yield* core.mutex.lock("channel lock");
	const channel = core.channels.get(relid);
	const isFirst = channel !== undefined && !channel.rescindSeen;
	if (isFirst) channel.rescindSeen = true;
	core.mutex.unlock();
	if (!isFirst) return;
	const endsAtSuspend = channel.endsAtSuspend;
	cutOff(core, channel);
	yield* core.scheduler.poll("probe", () => channel.probeDone);
	if (channel.device !== null) yield* unregisterDevice(core, channel.device);
	else if (channel.primary !== null) {
		yield* core.mutex.lock("channel lock");
		if (channel.state !== "offered" && channel.state !== "broken") channel.rescindEvent.complete();
		else if (!channel.removed) {
			if (!core.linux) yield* endBuffers(core, channel);
			core.removeChannel(channel);
		}
		core.mutex.unlock();
	}
	if (endsAtSuspend && --core.endingAtSuspend === 0) core.readyForSuspend.complete();
}

/** Ends what is left of a channel: a sub-channel whose primary is gone. */
export function* endOrphan(core: GuestCore, channel: GuestChannel): Steps {
	cutOff(core, channel);
	yield* closeOne(core, channel, false);
	yield* endBuffers(core, channel);
	core.cpuPlan.release(channel);
	channel.removed = true;
	core.ports.channelRemoved?.(channel);
}

/** Rescinds a channel without the host's word, and takes its device off the bus. */
export function* forceRemoval(core: GuestCore, channel: GuestChannel): Steps {
	if (core.linux) channel.rescinded = true;
	else cutOff(core, channel);
	if (channel.device !== null) yield* unregisterDevice(core, channel.device);
}
