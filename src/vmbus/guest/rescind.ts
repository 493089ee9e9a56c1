/** A rescind, and the end of a device. */

import { Version } from "../wire/versions.ts";
import { endBuffers } from "./buffers.ts";
import type { GuestChannel } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import type { VmbusDevice } from "./device.ts";
import { closeChannel, closeOne } from "./open.ts";
import { removeChannel } from "./remove.ts";
import type { Steps } from "./scheduler.ts";

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
	if (!device.channel.removed) removeChannel(core, device.channel);
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
			removeChannel(core, channel);
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
	channel.removed = true;
	core.ports.channelRemoved?.(channel);
}

/** Rescinds a channel without the host's word, and takes its device off the bus. */
export function* forceRemoval(core: GuestCore, channel: GuestChannel): Steps {
	if (core.linux) channel.rescinded = true;
	else cutOff(core, channel);
	if (channel.device !== null) yield* unregisterDevice(core, channel.device);
}
