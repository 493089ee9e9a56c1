/** GPADLs: guest memory that the host is told of, page by page. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { Gpa } from "../../types.ts";
import { type MessageOf, MessageType } from "../wire/messages.ts";
import type { GuestChannel } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import type { Steps } from "./scheduler.ts";
import type { GuestStatus } from "./types.ts";

/** Page numbers in a header and in a body (a payload has 240 bytes). */
const HEADER_PFNS = 26;
const BODY_PFNS = 28;
/** The u16 byte count of all ranges wraps beyond. */
export const MAX_GPADL_PAGES = 8190;

/** Memory that the host is to be told of: one run of whole pages. */
export interface GpadlMemory {
	readonly kind: "ring" | "buffer";
	readonly gpa: Gpa;
	readonly pages: number;
	/** Whether the guest took the pages itself. Default true. */
	readonly owned?: boolean;
	/** Whether their owner has made them visible to the host, and will end that. Default false. */
	readonly decrypted?: boolean;
}

/** A GPADL and the memory behind it. */
export class GuestGpadl {
	readonly handle: number;
	readonly kind: "ring" | "buffer";
	readonly gpa: Gpa;
	readonly pages: number;
	/** Whether its pages change state with it. */
	readonly converts: boolean;
	/** Whether the guest took the pages for it, and gives them back. */
	readonly owned: boolean;
	/** Whether the host sees the pages, or may see them: then they must not be freed. */
	shared = false;

	constructor(handle: number, { kind, gpa, pages, owned = true }: GpadlMemory, converts: boolean) {
		this.handle = handle;
		this.kind = kind;
		this.gpa = gpa;
		this.pages = pages;
		this.owned = owned;
		this.converts = converts;
	}
}

/** Header and bodies of one range from offset 0 on. */
function* messagesOf(
	{ handle, gpa, pages }: GuestGpadl,
	relid: number,
): Generator<MessageOf<"GpadlHeader" | "GpadlBody">> {
	const pfns = Array.from({ length: pages }, (_, i) => BigInt(gpa / PAGE_SIZE + i));
	yield {
		type: MessageType.GpadlHeader,
		relid,
		gpadl: handle,
		rangeBytes: (8 + 8 * pages) & 0xffff,
		rangeCount: 1,
		ranges: [BigInt(pages * PAGE_SIZE), ...pfns.slice(0, HEADER_PFNS)],
	};
	for (let at = HEADER_PFNS; at < pages; at += BODY_PFNS)
		yield { type: MessageType.GpadlBody, messageNumber: 0, gpadl: handle, ranges: pfns.slice(at, at + BODY_PFNS) };
}

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
	const messages = messagesOf(gpadl, channel.relid);
	const header = messages.next().value as MessageOf<"GpadlHeader">;
	const request = core.pending.add(header, channel);
	try {
		if (channel.rescinded) return { status: "rescinded", told: false };
		if (!core.takesRequests) return { status: "cancelled", told: false };
		if (core.post(header) !== null) return { status: "post-failed", told: false };
		for (const body of messages) if (core.post(body) !== null) return { status: "post-failed", told: true };
		const woken = yield* request.wait("GPADL_CREATED");
		if (woken !== "done") return { status: woken, told: true };
		if (request.response?.type === MessageType.GpadlCreated && request.response.status !== 0)
			return { status: "refused", told: false };
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
	const request = core.pending.add(message, channel);
	let status: GuestStatus = "ok";
	if (!core.takesRequests) status = "cancelled";
	else if (!channel.rescinded && core.post(message) !== null) status = "post-failed";
	else if (!channel.rescinded) {
		const woken = yield* request.wait("GPADL_TORNDOWN");
		if (woken !== "done") status = woken;
	}
	if (core.linux || core.hostGone || (channel.rescinded && core.state === "connected")) status = "ok";
	core.pending.remove(request);
	const isPrivate = takeBack(core, gpadl, status !== "ok");
	return isPrivate ? status : "conversion-failed";
}
