/** Suspend and resume: channels stay, the connection and their relids do not. */
import { type GuestChannel, NO_RELID } from "./channel.ts";
import { negotiate, requestOffers, unload } from "./connect.ts";
import type { GuestCore } from "./core.ts";
import { unmapRelid } from "./remove.ts";
import { forceRemoval, onRescind } from "./rescind.ts";
import type { Steps } from "./scheduler.ts";
import type { GuestStatus } from "./types.ts";

/** Linux waits so long for its channels, and goes on without those that are missing. */
const LINUX_RESUME_NS = 10e9;

/** What would lose its end of the connection: safe does not suspend over it. */
function inUse(channel: GuestChannel): boolean {
	return !channel.isHvSocket && (channel.state !== "offered" || channel.gpadls.size > 0);
}

/**
 * Ends the connection but keeps the primary channels for `resume` (Linux 6.12 drivers/hv/vmbus_drv.c, vmbus_bus_suspend).
 * Hvsock channels are rescinded; sub-channels the host must rescind.
 * @returns "ok", "bad-state" (safe: a channel is open or has buffers), "busy", "timed-out" or "post-failed"
 */
export function* suspend(core: GuestCore): Steps<GuestStatus> {
	if (!core.linux && core.state !== "connected") return "not-connected";
	if (!core.linux && core.primaries.some(inUse)) return "bad-state";
	core.ignoresOffers = true;
	const { offers, rescinds, primaries, subChannels } = core.queues;
	for (const queue of [rescinds, offers, primaries, subChannels])
		yield* core.scheduler.poll("work", () => queue.isIdle);
	yield* core.mutex.lock("channel lock");
	for (const { isHvSocket, relid } of core.primaries) if (isHvSocket) offers.queue(() => onRescind(core, relid));
	core.mutex.unlock();
	if (core.endingAtSuspend > 0) {
		const woken = yield* core.readyForSuspend.wait("end of sub-channels and hvsock channels");
		if (woken !== "done") {
			core.ignoresOffers = false;
			return woken;
		}
	}
	if (core.comingBack !== 0) return "busy";
	yield* core.mutex.lock("channel lock");
	for (const channel of core.primaries) {
		unmapRelid(core, channel);
		channel.offer = { ...channel.offer, relid: NO_RELID };
		if (!channel.isHvSocket) core.comingBack++;
	}
	core.mutex.unlock();
	const status = yield* unload(core);
	core.readyForResume.reset();
	return status;
}

/**
 * Connects again with the version from before, and waits until every channel is offered anew (Linux 6.12
 * drivers/hv/vmbus_drv.c, vmbus_bus_resume). Safe removes channels that do not come back.
 */
export function* resume(core: GuestCore): Steps<GuestStatus> {
	core.ignoresOffers = false;
	if (core.version === 0) return "bad-state";
	if (!core.linux && core.state !== "disconnected") return "bad-state";
	const status = yield* negotiate(core, core.version);
	if (status !== "ok") return status;
	const requested = requestOffers(core);
	if (!core.linux && requested !== "ok") return requested;
	const nothing = !core.linux && core.comingBack === 0;
	const limit = core.linux ? [LINUX_RESUME_NS] : [];
	const woken = nothing ? "done" : yield* core.readyForResume.wait("offers of the channels", ...limit);
	core.readyForSuspend.reset();
	if (woken === "done" || core.linux) return "ok";
	core.comingBack = 0;
	for (const channel of [...core.primaries]) if (channel.relid === NO_RELID) yield* forceRemoval(core, channel);
	return woken;
}
