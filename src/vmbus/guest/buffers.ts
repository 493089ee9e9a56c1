/** Buffers that a channel shares with the host, and their end. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { Gpa } from "../../types.ts";
import type { GuestChannel } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import { establishGpadl, type GuestGpadl, MAX_GPADL_PAGES, teardownGpadl } from "./gpadl.ts";
import type { Steps } from "./scheduler.ts";
import type { BufferMemory, GuestStatus } from "./types.ts";

/** Why the host cannot be told of memory, or "ok". */
function check(core: GuestCore, channel: GuestChannel, pages: number, gpa: Gpa | null): GuestStatus {
	if (!Number.isInteger(pages) || pages < 1 || (pages > MAX_GPADL_PAGES && !core.linux)) return "bad-argument";
	if (gpa !== null && !(core.isRam(gpa) && core.isRam(gpa + (pages - 1) * PAGE_SIZE) && gpa % PAGE_SIZE === 0))
		return "bad-argument";
	const isGone = channel.rescinded || channel.removed || (channel.primary?.removed ?? false);
	if (!core.linux && isGone) return "rescinded";
	return core.takesRequests ? "ok" : "not-connected";
}

/** Tells the host of pages that the guest takes, or of its owner's. The driver counts as bound from then on. */
export function* shareBuffer(
	core: GuestCore,
	channel: GuestChannel,
	memory: number | BufferMemory,
): Steps<{ status: GuestStatus; gpadl: GuestGpadl | null }> {
	const owned = typeof memory === "number";
	const pages = owned ? memory : memory.pages;
	const refused = check(core, channel, pages, owned ? null : memory.gpa);
	if (refused !== "ok") return { status: refused, gpadl: null };
	const gpa = owned ? core.pages.alloc(pages, "buffer") : memory.gpa;
	if (gpa < 0) return { status: "no-memory", gpadl: null };
	const decrypted = !owned && (memory.decrypted ?? false);
	const { status, gpadl } = yield* establishGpadl(core, channel, { kind: "buffer", gpa, pages, owned, decrypted });
	if (status === "ok") {
		channel.gpadls.set(gpadl.handle, gpadl);
		if (channel.device !== null) channel.device.bound = true;
	} else if (owned) core.release(gpa, pages, !gpadl.shared);
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
