/** The device behind a primary channel: what a driver is bound to. */
import type { GuestChannel } from "./channel.ts";
import type { Mutex } from "./scheduler.ts";

export class VmbusDevice {
	readonly channel: GuestChannel;
	/** Held while a driver is bound or unbound, and by commands that stand for its work. */
	readonly lock: Mutex;
	/** Whether a driver is bound, so that a removal closes the channel and its buffers. */
	bound = false;
	readonly instanceId: string;

	constructor(channel: GuestChannel, lock: Mutex) {
		this.channel = channel;
		this.lock = lock;
		this.instanceId = channel.offer.instanceId;
	}
}
