/** What a guest does with a channel: it opens and closes its rings, and moves its interrupts. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { PACKET_MAX_BYTES } from "../../../assembly/layout/ring.ts";
import { RingPair } from "../../ring/pair.ts";
import { DmaError } from "../../status.ts";
import { hasMessage, type MessageOf, MessageType } from "../wire/messages.ts";
import { OpenFlag, USER_DATA_BYTES } from "../wire/values.ts";
import { Feature, Version } from "../wire/versions.ts";
import type { GuestChannel, GuestChannelState, OpenOptions, RingMemory } from "./channel.ts";
import { type GuestCore, MAX_RELIDS } from "./core.ts";
import { endBuffers, establishGpadl, MAX_GPADL_PAGES, teardownGpadl } from "./gpadls.ts";
import type { GuestStatus } from "./options.ts";
import type { Steps } from "./scheduler.ts";
import { signalHost } from "./signals.ts";

const DEFAULT_MAX_PACKET_BYTES = 4096;

/** Why options are not to be tried, or "ok". */
function check(core: GuestCore, options: OpenOptions): GuestStatus {
	const { sendPages, receivePages, userData, signal } = options;
	const least = core.linux ? 1 : 2;
	const whole = Number.isInteger(sendPages) && Number.isInteger(receivePages);
	if (!whole || sendPages < least || receivePages < least || sendPages + receivePages > MAX_GPADL_PAGES)
		return "bad-argument";
	if ((userData?.length ?? 0) > USER_DATA_BYTES) return "bad-argument";
	if (signal !== undefined) {
		const { connectionId, eventFlag } = signal;
		if (connectionId !== connectionId >>> 0 || !(eventFlag >= 1 && eventFlag < MAX_RELIDS)) return "bad-argument";
		if (core.eventFlags.has(eventFlag) || !Number.isInteger(eventFlag)) return "bad-argument";
		if (!core.has(Feature.GuestSpecifiedSignalParameters)) return "unsupported";
	}
	if (options.redirectInterrupt && !core.has(Feature.ChannelInterruptRedirection)) return "unsupported";
	return "ok";
}

/** Takes rings apart: nothing reads or writes them any more. */
function detach(core: GuestCore, channel: GuestChannel): void {
	channel.rings?.detach();
	channel.rings = null;
	channel.kept = null;
	channel.tampered = null;
	for (const [flag, owner] of core.eventFlags) if (owner === channel) core.eventFlags.delete(flag);
}

/** Gives the memory of the rings back, or leaks what the host may see (Linux 6.12 drivers/hv/channel.c, vmbus_free_ring). */
function freeRing(core: GuestCore, channel: GuestChannel): void {
	detach(core, channel);
	const { ring, ringGpadl } = channel;
	if (ring !== null) core.release(ring.gpa, ring.pages, !(ringGpadl?.shared ?? false));
	channel.ring = null;
	channel.ringGpadl = null;
}

function attach(core: GuestCore, channel: GuestChannel, ring: RingMemory, options: OpenOptions): RingPair | null {
	for (const page of [0, ring.sendPages]) core.engine.ram.fill(ring.gpa + page * PAGE_SIZE, PAGE_SIZE, 0);
	try {
		return RingPair.attach(core.engine, {
			pages: Array.from({ length: ring.pages }, (_, i) => ring.gpa + i * PAGE_SIZE),
			downstreamPage: ring.sendPages,
			side: "guest",
			behaviour: core.linux ? "clamp" : "strict",
			maxPacketBytes: Math.min(options.maxPacketBytes ?? DEFAULT_MAX_PACKET_BYTES, PACKET_MAX_BYTES),
			requests: options.requests ?? 0,
			onSignal: () => signalHost(core, channel),
		});
	} catch (error) {
		if (error instanceof DmaError || error instanceof RangeError) return null;
		throw error;
	}
}

function openMessage(core: GuestCore, channel: GuestChannel, options: OpenOptions): MessageOf<"OpenChannel"> {
	const userData = new Uint8Array(USER_DATA_BYTES);
	userData.set(options.userData ?? []);
	const { relid } = channel;
	const message = {
		type: MessageType.OpenChannel,
		relid,
		openId: relid,
		ringGpadl: channel.ringGpadl?.handle ?? 0,
		targetVp: core.vpIndex(channel.targetCpu),
		downstreamPage: options.sendPages,
		userData,
	};
	if (core.version < Version.V6_0) return message;
	if (!core.has(Feature.GuestSpecifiedSignalParameters | Feature.ChannelInterruptRedirection)) return message;
	return {
		...message,
		connectionId: options.signal?.connectionId ?? 0,
		eventFlag: options.signal?.eventFlag ?? relid,
		openFlags: options.redirectInterrupt ? OpenFlag.RedirectInterrupt : 0,
	};
}

/** Posts OPENCHANNEL and waits for the result. */
function* askToOpen(core: GuestCore, channel: GuestChannel, options: OpenOptions): Steps<GuestStatus> {
	const message = openMessage(core, channel, options);
	const request = core.pending.add<"OpenChannel">(message, channel);
	try {
		if (channel.rescinded) return "rescinded";
		if (!core.takesRequests) return "cancelled";
		if (core.post(message) !== null) return "post-failed";
		const woken = yield* request.wait();
		if (channel.rescinded) return "rescinded";
		if (woken !== "done") return woken;
		return request.answer !== null && request.answer.status !== 0 ? "refused" : "ok";
	} finally {
		core.pending.remove(request);
	}
}

/** The part of an open after the rings' memory is there (Linux 6.12 drivers/hv/channel.c, __vmbus_open). */
function* openRings(
	core: GuestCore,
	channel: GuestChannel,
	ring: RingMemory,
	options: OpenOptions,
): Steps<GuestStatus> {
	channel.state = "opening";
	channel.options = options;
	channel.callbacks = true;
	channel.stuck = false;
	const { status, gpadl } = yield* establishGpadl(core, channel, { kind: "ring", gpa: ring.gpa, pages: ring.pages });
	channel.ringGpadl = gpadl;
	if (status !== "ok") return status;
	const rings = attach(core, channel, ring, options);
	channel.rings = rings;
	if (rings !== null && options.signal !== undefined) core.eventFlags.set(options.signal.eventFlag, channel);
	const opened = rings === null ? "no-memory" : yield* askToOpen(core, channel, options);
	if (opened === "ok") return "ok";
	// a host that has not answered may still open it
	if (!core.linux && opened === "timed-out" && core.state === "connected")
		core.post({ type: MessageType.CloseChannel, relid: channel.relid });
	const ended = yield* teardownGpadl(core, channel, gpadl);
	if (!core.linux && (opened === "timed-out" || ended === "timed-out")) channel.state = "broken";
	return opened;
}

/**
 * Opens an offered channel (Linux 6.12 drivers/hv/channel.c, vmbus_open).
 * @returns "ok", "bad-argument", "bad-state", "unsupported", "no-memory", "conversion-failed", "post-failed", "refused",
 *   "rescinded", "timed-out" or "cancelled"
 */
export function* openChannel(core: GuestCore, channel: GuestChannel, options: OpenOptions): Steps<GuestStatus> {
	const refused = check(core, options);
	if (refused !== "ok") return refused;
	if (channel.state !== "offered") return core.linux ? reopenAsLinux(core, channel) : "bad-state";
	const isGone = channel.removed || (!core.linux && (channel.rescinded || (channel.primary?.removed ?? false)));
	if (isGone) return "rescinded";
	if (!core.takesRequests) return "not-connected";
	const pages = options.sendPages + options.receivePages;
	const gpa = core.pages.alloc(pages, "ring");
	if (gpa < 0) return "no-memory";
	channel.ring = { gpa, pages, sendPages: options.sendPages };
	const status = yield* openRings(core, channel, channel.ring, options);
	if (status === "ok") {
		channel.state = "opened";
		return "ok";
	}
	if ((channel.state as GuestChannelState) !== "broken") channel.state = "offered";
	channel.callbacks = false;
	freeRing(core, channel);
	return status;
}

/** Linux has then taken new memory in place of the rings', and forgets both. */
function reopenAsLinux(core: GuestCore, channel: GuestChannel): GuestStatus {
	detach(core, channel);
	channel.ring = null;
	return "bad-state";
}

/** Ends an opened channel and its rings. @returns whether it was open and the host has let go of it */
function* disconnectRing(core: GuestCore, channel: GuestChannel): Steps<boolean> {
	channel.callbacks = false;
	if (channel.state !== "opened") return false;
	channel.state = core.linux ? "offered" : "closing";
	channel.rings?.close({ rescinded: channel.rescinded });
	const told = !core.takesRequests || core.post({ type: MessageType.CloseChannel, relid: channel.relid }) === null;
	let ended: GuestStatus = "post-failed";
	if (told) ended = channel.ringGpadl === null ? "ok" : yield* teardownGpadl(core, channel, channel.ringGpadl);
	else if (channel.ringGpadl !== null) channel.ringGpadl.shared = true;
	const confirmed = ended === "ok" || ended === "cancelled";
	if (!core.linux) channel.state = confirmed || ended === "conversion-failed" ? "offered" : "broken";
	return core.linux ? ended === "ok" : confirmed;
}

/**
 * Closes a primary channel, its sub-channels first (Linux 6.12 drivers/hv/channel.c, vmbus_disconnect_ring). linux-6.12 holds
 * the lock of all channels while it waits for the host, safe does not.
 */
export function* closeChannel(core: GuestCore, channel: GuestChannel): Steps {
	if (channel.primary !== null) return;
	for (const sub of [...channel.subChannels]) {
		if (sub.rescinded && core.linux) yield* sub.rescindEvent.wait("rescind of the sub-channel");
		yield* closeOne(core, sub, true);
	}
	yield* closeOne(core, channel, false);
}

/** Closes one channel and gives its rings' memory back. @param isSub of a primary that closes: it goes if it is rescinded */
export function* closeOne(core: GuestCore, channel: GuestChannel, isSub: boolean): Steps {
	const { mutex } = core;
	const wasOpen = channel.state === "opened";
	yield* mutex.lock("channel lock");
	if (!core.linux) mutex.unlock();
	const ended = yield* disconnectRing(core, channel);
	if (isSub && ended) {
		freeRing(core, channel);
		if (channel.rescinded && !channel.removed) {
			if (!core.linux) yield* endBuffers(core, channel);
			core.removeChannel(channel);
		}
	}
	if (core.linux) mutex.unlock();
	if (wasOpen) freeRing(core, channel);
}

/** Posts MODIFYCHANNEL; from 5.3 on it waits for the answer, and the lock of all channels is free meanwhile. */
function* askToMove(core: GuestCore, channel: GuestChannel, cpu: number): Steps<GuestStatus> {
	const message: MessageOf<"ModifyChannel"> = {
		type: MessageType.ModifyChannel,
		relid: channel.relid,
		targetVp: core.vpIndex(cpu),
	};
	if (!hasMessage(core.version, "ModifyChannelResponse")) return core.post(message) === null ? "ok" : "post-failed";
	const request = core.pending.add<"ModifyChannel">(message, channel);
	try {
		if (core.post(message) !== null) return "post-failed";
		core.mutex.unlock();
		const woken = yield* request.wait();
		yield* core.mutex.lock("channel lock");
		if (woken !== "done") return woken;
		// a rescind counts as success in Linux
		if (request.answer === null) return core.linux ? "ok" : "rescinded";
		return request.answer.status === 0 ? "ok" : "refused";
	} finally {
		core.pending.remove(request);
	}
}

/**
 * Moves a channel's interrupts to another processor (Linux 6.12 drivers/hv/vmbus_drv.c, target_cpu_store).
 * @returns "ok", "unsupported" before 4.1, "bad-argument", "bad-state" unless the channel is open, or what the host answered
 */
export function* setTargetCpu(core: GuestCore, channel: GuestChannel, cpu: number): Steps<GuestStatus> {
	if (!hasMessage(core.version, "ModifyChannel")) return "unsupported";
	if (!Number.isInteger(cpu) || cpu < 0 || cpu >= core.cpus) return "bad-argument";
	core.modifying++;
	yield* core.mutex.lock("channel lock");
	let status: GuestStatus = "ok";
	if (channel.state !== "opened" || !core.takesRequests) status = "bad-state";
	else if (cpu !== channel.targetCpu) {
		status = yield* askToMove(core, channel, cpu);
		if (status === "ok") core.cpuPlan.move(channel, cpu);
	}
	core.mutex.unlock();
	core.modifying--;
	return status;
}
