/** The whole of a connection's life: SynIC and contact, both ways of finding Confidential VMBus, and the end of everything. */
import { SLOT_PAYLOAD } from "../../synic/synic.ts";
import { MessageType } from "../wire/messages.ts";
import { Version } from "../wire/versions.ts";
import { connect, freePages, requestOffers, unload } from "./connect.ts";
import type { GuestCore } from "./core.ts";
import { endOrphan, forceRemoval } from "./rescind.ts";
import type { Steps } from "./scheduler.ts";
import type { ConnectionSynic } from "./synic.ts";
import type { GuestStatus } from "./types.ts";

/** CPUID leaf 0x40000082, EAX: the paravisor offers Confidential VMBus. */
const CPUID_CONFIDENTIAL_VMBUS = 1 << 3;
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
	const hardware = core.isolation === "snp" || core.isolation === "tdx";
	if (confidential?.how === "try-then-fallback" && core.paravisor && hardware) {
		core.confidential = true;
		const status = yield* attempt(core, synic, maxVersion);
		if (status === "ok" || status === "cancelled") return status;
		core.warn(`no confidential connection (${status}): trying without`);
		core.confidential = false;
	} else {
		const found = confidential?.how === "cpuid" && (confidential.eax & CPUID_CONFIDENTIAL_VMBUS) !== 0;
		core.confidential = found && core.paravisor;
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
	if (core.linux) freePages(core);
	else yield* cancelWaits(core);
	for (const channel of [...core.primaries]) yield* forceRemoval(core, channel);
	if (!core.linux) for (const channel of [...core.channels.values()]) yield* endOrphan(core, channel);
	core.channels.clear();
	core.eventFlags.clear();
	core.endingAtSuspend = 0;
	core.comingBack = 0;
	freePages(core);
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
