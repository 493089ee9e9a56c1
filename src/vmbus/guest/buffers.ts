/** Buffers that a channel shares with the host, and their end. */
import type { GuestChannel } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import { teardownGpadl } from "./gpadl.ts";
import type { Steps } from "./scheduler.ts";
import type { GuestStatus } from "./types.ts";

/** Ends one buffer's GPADL and gives the buffer back, or leaks it. */
export function* endBuffer(core: GuestCore, channel: GuestChannel, handle: number): Steps<GuestStatus> {
	const gpadl = channel.gpadls.get(handle);
	if (gpadl === undefined) return "not-found";
	channel.gpadls.delete(handle);
	const status = yield* teardownGpadl(core, channel, gpadl);
	core.release(gpadl.gpa, gpadl.pages, !gpadl.shared);
	return status;
}

/** Ends all buffers of a channel and, safe only, of its sub-channels. */
export function* endBuffers(core: GuestCore, channel: GuestChannel): Steps {
	if (!core.linux) for (const sub of channel.subChannels) yield* endBuffers(core, sub);
	for (const handle of [...channel.gpadls.keys()]) yield* endBuffer(core, channel, handle);
}
