/** GPADLs: guest memory that the host is told of, page by page; and the buffers that a channel shares by them. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { Gpa } from "../../types.ts";
import { gpadlMessages } from "../wire/gpadl.ts";
import { type MessageOf, MessageType } from "../wire/messages.ts";
import { type GpadlMemory, type GuestChannel, GuestGpadl } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import type { BufferMemory, GuestStatus } from "./options.ts";
import type { Steps } from "./scheduler.ts";

/** The u16 byte count of all ranges wraps beyond. */
export const MAX_GPADL_PAGES = 8190;

/** Whether the memory stays private: the paravisor reads it where it is. */
function staysPrivate(channel: GuestChannel, kind: GuestGpadl["kind"]): boolean {
	return kind === "ring" ? channel.confidentialRing : channel.confidentialMemory;
}

/** Posts a GPADL and waits for the host's word. */
function* create(
	core: GuestCore,
	channel: GuestChannel,
	gpadl: GuestGpadl,
): Steps<{ status: GuestStatus; told: boolean }> {
	const pfns = Array.from({ length: gpadl.pages }, (_, i) => gpadl.gpa / PAGE_SIZE + i);
	const messages = gpadlMessages(channel.relid, gpadl.handle, [{ bytes: gpadl.pages * PAGE_SIZE, offset: 0, pfns }]);
	const header = messages.next().value as MessageOf<"GpadlHeader">;
	const request = core.pending.add<"GpadlHeader">(header, channel);
	try {
		if (channel.rescinded) return { status: "rescinded", told: false };
		if (!core.takesRequests) return { status: "cancelled", told: false };
		if (core.post(header) !== null) return { status: "post-failed", told: false };
		for (const body of messages) if (core.post(body) !== null) return { status: "post-failed", told: true };
		const woken = yield* request.wait();
		if (woken !== "done") return { status: woken, told: true };
		if (request.answer !== null && request.answer.status !== 0) return { status: "refused", told: false };
		return channel.rescinded ? { status: "rescinded", told: false } : { status: "ok", told: true };
	} finally {
		core.pending.remove(request);
	}
}

/**
 * Makes a GPADL of private pages (Linux 6.12 drivers/hv/channel.c, __vmbus_establish_gpadl). Its handle is used up also when
 * that fails; then `shared` tells whether the pages must be leaked.
 */
export function* establishGpadl(
	core: GuestCore,
	channel: GuestChannel,
	memory: GpadlMemory,
): Steps<{ status: GuestStatus; gpadl: GuestGpadl }> {
	const { kind, gpa, pages, decrypted = false } = memory;
	const converts = core.isIsolated && !decrypted && !staysPrivate(channel, kind);
	const gpadl = new GuestGpadl(core.nextGpadl, memory, converts);
	core.nextGpadl = (core.nextGpadl + 1) >>> 0 || 1;
	if (converts) {
		gpadl.shared = true;
		if (!core.decrypt(gpa, pages)) return { status: "conversion-failed", gpadl };
	}
	const { status, told } = yield* create(core, channel, gpadl);
	if (status !== "ok") takeBack(core, gpadl, told);
	else gpadl.shared = true;
	return { status, gpadl };
}

/** Ends the host's sight of a GPADL's pages. @param told the host may still use them, and has not said otherwise */
function takeBack(core: GuestCore, gpadl: GuestGpadl, told: boolean): boolean {
	const { converts } = gpadl;
	const hostKeeps = told && !core.linux && !core.hostGone && !converts;
	const isPrivate = !converts || core.encrypt(gpadl.gpa, gpadl.pages);
	gpadl.shared = !isPrivate || hostKeeps;
	return isPrivate;
}

/**
 * Ends a GPADL (Linux 6.12 drivers/hv/channel.c, vmbus_teardown_gpadl): the host is asked unless it has taken the channel
 * away, then the pages become private. Its `shared` tells whether they must be leaked.
 * @returns "ok", or why the host did not confirm, or "conversion-failed"; linux-6.12 swallows a failed post
 */
export function* teardownGpadl(core: GuestCore, channel: GuestChannel, gpadl: GuestGpadl): Steps<GuestStatus> {
	const message = { type: MessageType.GpadlTeardown, relid: channel.relid, gpadl: gpadl.handle };
	const request = core.pending.add<"GpadlTeardown">(message, channel);
	let status: GuestStatus = "ok";
	if (!core.takesRequests) status = "cancelled";
	else if (!channel.rescinded && core.post(message) !== null) status = "post-failed";
	else if (!channel.rescinded) {
		const woken = yield* request.wait();
		if (woken !== "done") status = woken;
	}
	if (core.linux || core.hostGone || (channel.rescinded && core.state === "connected")) status = "ok";
	core.pending.remove(request);
	const isPrivate = takeBack(core, gpadl, status !== "ok");
	return isPrivate ? status : "conversion-failed";
}

/** Why the host cannot be told of memory, or "ok". */
function checkBuffer(core: GuestCore, channel: GuestChannel, pages: number, gpa: Gpa | null): GuestStatus {
	if (!Number.isInteger(pages) || pages < 1 || (pages > MAX_GPADL_PAGES && !core.linux)) return "bad-argument";
	if (gpa !== null && !(core.isRam(gpa) && core.isRam(gpa + (pages - 1) * PAGE_SIZE) && gpa % PAGE_SIZE === 0))
		return "bad-argument";
	const isGone = channel.rescinded || channel.removed || (channel.primary?.removed ?? false);
	if (!core.linux && isGone) return "rescinded";
	return core.takesRequests ? "ok" : "not-connected";
}

/** Tells the host of pages that the guest takes, or of its owner's. */
export function* shareBuffer(
	core: GuestCore,
	channel: GuestChannel,
	memory: number | BufferMemory,
): Steps<{ status: GuestStatus; gpadl: GuestGpadl | null }> {
	const owned = typeof memory === "number";
	const pages = owned ? memory : memory.pages;
	const refused = checkBuffer(core, channel, pages, owned ? null : memory.gpa);
	if (refused !== "ok") return { status: refused, gpadl: null };
	const gpa = owned ? core.pages.alloc(pages, "buffer") : memory.gpa;
	if (gpa < 0) return { status: "no-memory", gpadl: null };
	const decrypted = !owned && (memory.decrypted ?? false);
	const { status, gpadl } = yield* establishGpadl(core, channel, { kind: "buffer", gpa, pages, owned, decrypted });
	if (status === "ok") channel.gpadls.set(gpadl.handle, gpadl);
	else if (owned) core.release(gpa, pages, !gpadl.shared);
	return { status, gpadl };
}

/** Ends one buffer's GPADL and gives the buffer back, or leaks it. */
export function* endBuffer(core: GuestCore, channel: GuestChannel, handle: number): Steps<GuestStatus> {
	const gpadl = channel.gpadls.get(handle);
	if (gpadl === undefined) return "not-found";
	channel.gpadls.delete(handle);
	const status = yield* teardownGpadl(core, channel, gpadl);
	if (gpadl.owned) core.release(gpadl.gpa, gpadl.pages, !gpadl.shared);
	return status;
}

/** Ends all buffers of a channel and, safe only, of its sub-channels. */
export function* endBuffers(core: GuestCore, channel: GuestChannel): Steps {
	if (!core.linux) for (const sub of channel.subChannels) yield* endBuffers(core, sub);
	for (const handle of [...channel.gpadls.keys()]) yield* endBuffer(core, channel, handle);
}
