/** Connecting to the host: pages, versions, features; and UNLOAD. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { Gpa } from "../../types.ts";
import { type MessageOf, MessageType } from "../wire/messages.ts";
import { ConnectionId, Feature, Version } from "../wire/versions.ts";
import type { GuestCore } from "./core.ts";
import type { Steps } from "./scheduler.ts";
import type { GuestStatus } from "./types.ts";

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

/** Makes the interrupt page and the monitor pages; the host sees the latter. */
function makePages(core: GuestCore): GuestStatus {
	const gpas = ["interrupt page", "monitor page", "monitor page"].map((purpose) => core.pages.alloc(1, purpose));
	const [interrupt, first, second] = gpas as [number, number, number];
	if (gpas.some((gpa) => gpa < 0)) {
		for (const gpa of gpas) if (gpa >= 0) core.pages.free(gpa, 1);
		return "no-memory";
	}
	core.interruptPage = interrupt;
	const done = [core.decrypt(first, 1), core.decrypt(second, 1)];
	if (done.includes(false)) {
		for (const gpa of [first, second]) core.pages.leak(gpa, 1);
		return "conversion-failed";
	}
	for (const gpa of [first, second]) core.engine.ram.fill(gpa, PAGE_SIZE, 0);
	core.monitorPages = [first, second];
	core.triggerPage = second;
	return "ok";
}

/** Gives the pages back, or leaks what does not become private (Linux 6.12 drivers/hv/connection.c, vmbus_disconnect). */
export function freePages(core: GuestCore): void {
	const hostKeeps = !core.linux && !core.hostGone && !core.isIsolated;
	if (core.interruptPage >= 0) core.release(core.interruptPage, 1, !hostKeeps);
	for (const gpa of core.monitorPages ?? []) core.release(gpa, 1, core.encrypt(gpa, 1) && !hostKeeps);
	core.interruptPage = -1;
	core.monitorPages = null;
	core.triggerPage = -1;
}

function wantedFeatures(core: GuestCore): number {
	return (core.confidential ? Feature.ConfidentialChannels : 0) | (core.options.features ?? 0);
}

function contactMessage(core: GuestCore, version: number): MessageOf<"InitiateContact"> {
	const boundary = core.options.sharedGpaBoundary ?? 0;
	const shared = (gpa: Gpa) => (boundary !== 0 && Math.floor(gpa / boundary) % 2 === 0 ? gpa + boundary : gpa);
	const [first, second] = core.monitorPages as [number, number];
	const message: MessageOf<"InitiateContact"> = {
		type: MessageType.InitiateContact,
		version,
		targetVp: core.vpIndex(0),
		monitorPages: [shared(first), shared(second)],
	};
	if (version < Version.V5_0) return { ...message, interruptPage: core.interruptPage };
	const toVtl = { ...message, sint: 2, vtl: core.options.vtl ?? 0 };
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
	const boundary = core.options.sharedGpaBoundary ?? 0;
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
	const request = core.pending.add(message);
	try {
		const error = core.post(message);
		if (error !== null) return error === "ENXIO" ? "not-found" : "post-failed";
		core.hostGone = false;
		const woken = yield* request.wait("VERSION_RESPONSE");
		if (woken !== "done") return woken;
		const { response } = request;
		if (response?.type !== MessageType.VersionResponse || response.supported === 0) return "refused";
		if (!core.linux && response.connectionState !== 0) return "refused";
		accept(core, version, response);
		return "ok";
	} finally {
		core.pending.remove(request);
	}
}

/** Linux 6.12 drivers/hv/connection.c, vmbus_negotiate_version: VTL 2 tries its redirected control plane first. */
export function* negotiate(core: GuestCore, version: number): Steps<GuestStatus> {
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
export function* connect(core: GuestCore, maxVersion: number): Steps<GuestStatus> {
	core.state = "connecting";
	core.hostGone = true;
	core.ignoresOffers = false;
	let status = makePages(core);
	if (status === "ok") status = yield* negotiateAny(core, maxVersion);
	if (status === "ok") return "ok";
	core.state = "disconnected";
	core.features = 0;
	freePages(core);
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
export function* unload(core: GuestCore): Steps<GuestStatus> {
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
