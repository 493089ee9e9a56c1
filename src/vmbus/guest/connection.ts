/** The connection to the host: contact and versions, both ways of finding Confidential VMBus, suspend, crash and the end of everything. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { isHardwareIsolated } from "../../synic/modes.ts";
import { VMBUS_SINT } from "../../synic/registers.ts";
import { SLOT_PAYLOAD } from "../../synic/synic.ts";
import type { Gpa } from "../../types.ts";
import { type MessageOf, MessageType } from "../wire/messages.ts";
import { ConnectionState } from "../wire/values.ts";
import { ConnectionId, Feature, Version } from "../wire/versions.ts";
import { type GuestChannel, NO_RELID } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import { endOrphan, forceRemoval, onRescind } from "./offers.ts";
import type { GuestStatus } from "./options.ts";
import type { Steps } from "./scheduler.ts";
import { freeSignalPages, makeSignalPages } from "./signals.ts";
import type { ConnectionSynic } from "./synic.ts";

/** Newest first, as Linux offers them. */
const VERSIONS: readonly number[] = [
	Version.V6_0,
	Version.V5_3,
	Version.V5_2,
	Version.V5_1,
	Version.V5_0,
	Version.V4_1,
	Version.V4_0,
	Version.V3_0,
	Version.V2_4,
];
/** The least version in an isolated VM. */
const LEAST_ISOLATED = Version.V5_2;

function wantedFeatures(core: GuestCore): number {
	return (core.confidential ? Feature.ConfidentialChannels : 0) | (core.options.features ?? 0);
}

function contactMessage(core: GuestCore, version: number): MessageOf<"InitiateContact"> {
	const boundary = core.platform.sharedGpaBoundary;
	const shared = (gpa: Gpa) => (boundary !== 0 && Math.floor(gpa / boundary) % 2 === 0 ? gpa + boundary : gpa);
	const [first, second] = core.monitorPages as [number, number];
	const message: MessageOf<"InitiateContact"> = {
		type: MessageType.InitiateContact,
		version,
		targetVp: core.vpIndex(0),
		monitorPages: [shared(first), shared(second)],
	};
	if (version < Version.V5_0) return { ...message, interruptPage: core.interruptPage };
	const toVtl = { ...message, sint: VMBUS_SINT, vtl: core.options.vtl ?? 0 };
	if (version < Version.V6_0) return toVtl;
	const featureFlags = wantedFeatures(core);
	const { clientId } = core.options;
	const named = (featureFlags & Feature.ClientId) !== 0 && clientId !== undefined;
	return {
		...toVtl,
		featureFlags: named ? featureFlags : featureFlags & ~Feature.ClientId,
		...(named ? { clientId } : {}),
	};
}

/** Takes over what an accepting response says. */
function accept(core: GuestCore, version: number, response: MessageOf<"VersionResponse">): void {
	core.state = "connected";
	if (version >= Version.V5_0) core.connectionId = response.connectionIdOrVersion;
	core.features = version >= Version.V6_0 ? (response.featureFlags ?? 0) & wantedFeatures(core) : 0;
	const theirs = response.monitorPages;
	if (theirs === undefined || !core.has(Feature.ServerSpecifiedMonitorPages)) return;
	const boundary = core.platform.sharedGpaBoundary;
	const page = boundary !== 0 && theirs[1] >= boundary ? theirs[1] - boundary : theirs[1];
	if (page !== 0 && page % PAGE_SIZE === 0 && core.isRam(page)) core.triggerPage = page;
	else core.warn(`the host's monitor page at gpa ${theirs[1]} is not used`);
}

/** One contact. @returns "refused" when the host says no, or may not be asked by that id: "not-found" */
function* contact(core: GuestCore, version: number, connectionId: number): Steps<GuestStatus> {
	// an unload or exit has meanwhile taken the pages, or there is nothing to resume
	if (core.monitorPages === null) return "cancelled";
	core.connectionId = connectionId;
	core.contactVersion = version;
	const message = contactMessage(core, version);
	const request = core.pending.add<"InitiateContact">(message);
	try {
		const error = core.post(message);
		if (error !== null) return error === "ENXIO" ? "not-found" : "post-failed";
		core.hostGone = false;
		const woken = yield* request.wait();
		if (woken !== "done") return woken;
		const { answer } = request;
		if (answer === null || answer.supported === 0) return "refused";
		if (!core.linux && answer.connectionState !== ConnectionState.Ok) return "refused";
		accept(core, version, answer);
		return "ok";
	} finally {
		core.pending.remove(request);
	}
}

/** Linux 6.12 drivers/hv/connection.c, vmbus_negotiate_version: VTL 2 tries its redirected control plane first. */
function* negotiate(core: GuestCore, version: number): Steps<GuestStatus> {
	if (version < Version.V5_0) return yield* contact(core, version, ConnectionId.Message);
	if (core.options.vtl === 2) {
		const status = yield* contact(core, version, ConnectionId.RedirectVtl2);
		if (status !== "not-found") return status;
	}
	return yield* contact(core, version, ConnectionId.Message4);
}

/**
 * Makes the connection (Linux 6.12 drivers/hv/connection.c, vmbus_connect).
 * @returns "ok", "no-memory", "conversion-failed", "no-version", "version-too-old", "timed-out" or "cancelled"
 */
function* connect(core: GuestCore, maxVersion: number): Steps<GuestStatus> {
	core.state = "connecting";
	core.hostGone = true;
	core.ignoresOffers = false;
	let status = makeSignalPages(core);
	if (status === "ok") status = yield* negotiateAny(core, maxVersion);
	if (status === "ok") return "ok";
	core.state = "disconnected";
	core.features = 0;
	freeSignalPages(core);
	return status;
}

function* negotiateAny(core: GuestCore, maxVersion: number): Steps<GuestStatus> {
	for (const version of VERSIONS) {
		if (version > maxVersion || (!core.linux && core.isIsolated && version < LEAST_ISOLATED)) continue;
		const status = yield* negotiate(core, version);
		if (status === "timed-out" || status === "cancelled") return status;
		if (status !== "ok") continue;
		// Linux gives up without UNLOAD, for its version is not set yet
		if (core.isIsolated && version < LEAST_ISOLATED) return "version-too-old";
		core.version = version;
		return "ok";
	}
	// every contact was refused: the host keeps nothing
	core.hostGone = true;
	return "no-version";
}

export function requestOffers(core: GuestCore): GuestStatus {
	return core.post({ type: MessageType.RequestOffers }) === null ? "ok" : "post-failed";
}

/**
 * Posts UNLOAD and waits for the answer; nothing when the host is not connected, or older than 3.0, which knows no
 * reconnecting (Linux 6.12 drivers/hv/channel_mgmt.c, vmbus_initiate_unload). Linux waits also when the post has failed.
 */
function* unload(core: GuestCore): Steps<GuestStatus> {
	if (core.state === "disconnected") return "ok";
	core.state = "disconnected";
	if (core.version < Version.V3_0) return "ok";
	core.unloaded.reset();
	if (core.post({ type: MessageType.Unload }) !== null && !core.linux) return "post-failed";
	const woken = yield* core.unloaded.wait("UNLOAD_RESPONSE");
	if (woken !== "done") return woken;
	core.hostGone = true;
	return "ok";
}

/** Gives the host other monitor pages (MODIFY_CONNECTION; 6.0 with Feature.ModifyConnection). @param pages gpas, or 0 and 0 */
export function* modifyConnection(core: GuestCore, pages: readonly [Gpa, Gpa]): Steps<GuestStatus> {
	if (core.state !== "connected") return "not-connected";
	if (!core.has(Feature.ModifyConnection)) return "unsupported";
	const message: MessageOf<"ModifyConnection"> = { type: MessageType.ModifyConnection, monitorPages: pages };
	const request = core.pending.add<"ModifyConnection">(message);
	try {
		if (core.post(message) !== null) return "post-failed";
		const woken = yield* request.wait();
		if (woken !== "done") return woken;
		if (request.answer?.connectionState !== ConnectionState.Ok) return "refused";
		core.triggerPage = pages[1] === 0 ? -1 : pages[1];
		return "ok";
	} finally {
		core.pending.remove(request);
	}
}

/** Asks the server to take no messages but RESUME, UNLOAD and a contact (6.0 with Feature.PauseResume). */
export function* pause(core: GuestCore): Steps<GuestStatus> {
	if (core.state !== "connected") return "not-connected";
	if (!core.has(Feature.PauseResume)) return "unsupported";
	const message: MessageOf<"Pause"> = { type: MessageType.Pause };
	const request = core.pending.add<"Pause">(message);
	try {
		if (core.post(message) !== null) return "post-failed";
		const woken = yield* request.wait();
		return woken === "done" ? "ok" : woken;
	} finally {
		core.pending.remove(request);
	}
}

/** Ends a pause. */
export function unpause(core: GuestCore): GuestStatus {
	if (core.state !== "connected") return "not-connected";
	if (!core.has(Feature.PauseResume)) return "unsupported";
	return core.post({ type: MessageType.Resume }) === null ? "ok" : "post-failed";
}

/** CPUID leaf 0x40000082, EAX: the paravisor offers Confidential VMBus. */
export const CPUID_CONFIDENTIAL_VMBUS = 1 << 3;
/** Looks for the answer to a crash's UNLOAD (Linux UNLOAD_WAIT_LOOPS). */
const MAX_CRASH_POLLS = 10_000;

/** SynIC, contact, offers; on failure all of it is undone, in the confidential state in which it was made. */
function* attempt(core: GuestCore, synic: ConnectionSynic, maxVersion: number): Steps<GuestStatus> {
	let status = synic.alloc();
	if (status === "ok") {
		if (!synic.enable()) status = "unsupported";
		if (status === "ok") status = yield* connect(core, maxVersion);
		if (status !== "ok") synic.disable();
	}
	if (status !== "ok") {
		synic.free();
		return status;
	}
	// Linux does not look whether this post works
	status = requestOffers(core);
	if (core.linux || status === "ok") return "ok";
	yield* unloadAll(core, synic);
	return status;
}

/**
 * Connects (Linux 6.12 drivers/hv/vmbus_drv.c, vmbus_bus_init). With try-then-fallback a confidential connection is tried
 * first, and undone before the other is begun.
 */
export function* bringUp(core: GuestCore, synic: ConnectionSynic, maxVersion: number): Steps<GuestStatus> {
	// a suspended guest still has its pages: it resumes, or unloads first
	if (core.state !== "disconnected" || core.ending || (!core.linux && core.monitorPages !== null)) return "bad-state";
	const { confidential } = core.options;
	const { paravisor } = core.platform;
	if (confidential?.how === "try-then-fallback" && paravisor && isHardwareIsolated(core.platform)) {
		core.confidential = true;
		const status = yield* attempt(core, synic, maxVersion);
		if (status === "ok" || status === "cancelled") return status;
		core.warn(`no confidential connection (${status}): trying without`);
		core.confidential = false;
	} else {
		const found = confidential?.how === "cpuid" && (confidential.eax & CPUID_CONFIDENTIAL_VMBUS) !== 0;
		core.confidential = found && paravisor;
	}
	return yield* attempt(core, synic, maxVersion);
}

/** Ends every wait for the host, and waits until those who waited are through. */
function* cancelWaits(core: GuestCore): Steps {
	const { scheduler, pending, queues } = core;
	for (const task of scheduler.tasks) if (task !== scheduler.current) scheduler.interrupt(task, "cancelled");
	yield* scheduler.poll("cancelled waits", () => pending.count === 0);
	for (const queue of [queues.rescinds, queues.offers, queues.primaries, queues.subChannels])
		yield* scheduler.poll("work", () => queue.isIdle);
}

/** Ends channels, devices and pages. */
function* sweep(core: GuestCore, synic: ConnectionSynic): Steps {
	if (core.linux) freeSignalPages(core);
	else yield* cancelWaits(core);
	for (const channel of [...core.primaries]) yield* forceRemoval(core, channel);
	if (!core.linux) for (const channel of [...core.channels.values()]) yield* endOrphan(core, channel);
	core.channels.clear();
	core.eventFlags.clear();
	core.endingAtSuspend = 0;
	core.comingBack = 0;
	freeSignalPages(core);
	synic.disable();
	synic.free();
}

/** UNLOAD; safe then ends all that hung on the connection. */
export function* unloadAll(core: GuestCore, synic: ConnectionSynic): Steps<GuestStatus> {
	if (core.linux) return yield* unload(core);
	return yield* takeDown(core, synic);
}

/** UNLOAD, then the end of everything. linux-6.12 still posts each channel's end (Linux 6.12 drivers/hv/vmbus_drv.c, vmbus_exit). */
export function* takeDown(core: GuestCore, synic: ConnectionSynic): Steps<GuestStatus> {
	if (core.ending) {
		yield* core.scheduler.poll("end of the connection", () => !core.ending);
		return "ok";
	}
	core.ending = true;
	const status = yield* unload(core);
	yield* sweep(core, synic);
	core.version = 0;
	core.features = 0;
	core.ending = false;
	return status;
}

/** A crash's search for the answer to UNLOAD. */
export interface Crash {
	poll(): void;
}

/** UNLOAD in a crash (Linux 6.12 drivers/hv/channel_mgmt.c, vmbus_wait_for_unload). @param begin takes the search, then null */
export function* crash(
	core: GuestCore,
	synic: ConnectionSynic,
	begin: (crash: Crash | null) => void,
): Steps<GuestStatus> {
	if (core.state === "disconnected") return "ok";
	core.state = "disconnected";
	if (core.version < Version.V3_0) return "ok";
	core.unloaded.reset();
	core.post({ type: MessageType.Unload }, false);
	let polls = 0;
	let isOver = false;
	const poll = () => {
		isOver ||= core.unloaded.isDone || polls++ >= MAX_CRASH_POLLS;
		if (isOver) return;
		synic.pollMessages((slot) => slot[SLOT_PAYLOAD] === MessageType.UnloadResponse && core.unloaded.complete());
	};
	begin({ poll });
	poll();
	yield* core.scheduler.poll("UNLOAD_RESPONSE in a message page", () => isOver);
	begin(null);
	return core.linux || core.unloaded.isDone ? "ok" : "timed-out";
}

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
		core.unmapRelid(channel);
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
