/** The end of a channel and of the device behind it. */
import { MessageType } from "../wire/messages.ts";
import { type GuestChannel, NO_RELID } from "./channel.ts";
import { type GuestCore, MAX_RELIDS } from "./core.ts";

/** Enters a channel's relid in the table; Linux lets a relid that is in use change hands, and has no place for large ones. */
export function mapRelid(core: GuestCore, channel: GuestChannel): void {
	if (channel.relid < MAX_RELIDS) core.channels.set(channel.relid, channel);
	else core.warn(`relid ${channel.relid} is too large: the channel can be neither signalled nor rescinded`);
}

export function unmapRelid(core: GuestCore, channel: GuestChannel): void {
	if (core.linux || core.channels.get(channel.relid) === channel) core.channels.delete(channel.relid);
}

/**
 * Forgets a rescinded channel and gives its relid back to the host; the lock of all channels is held.
 * Linux 6.12 drivers/hv/channel_mgmt.c, hv_process_channel_removal.
 */
export function removeChannel(core: GuestCore, channel: GuestChannel): void {
	const list = channel.primary?.subChannels ?? core.primaries;
	const at = list.indexOf(channel);
	if (at >= 0) list.splice(at, 1);
	core.cpuPlan.release(channel);
	channel.removed = true;
	if (channel.relid !== NO_RELID) {
		unmapRelid(core, channel);
		if (core.takesRequests) core.post({ type: MessageType.RelidReleased, relid: channel.relid });
	}
	core.ports.channelRemoved?.(channel);
}
