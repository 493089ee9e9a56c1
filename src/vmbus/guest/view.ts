/** What can be seen of a guest from outside. */
import type { GuestChannel } from "./channel.ts";
import type { GuestCore } from "./core.ts";

export class GuestView {
	readonly #core: GuestCore;

	constructor(core: GuestCore) {
		this.#core = core;
	}

	/** "connected" from the contact that the host accepted until UNLOAD. */
	get state(): "disconnected" | "connecting" | "connected" {
		return this.#core.state;
	}

	/** The version of the connection, or of the last one; 0: none yet. */
	get version(): number {
		return this.#core.version;
	}

	/** Features that both sides have. */
	get features(): number {
		return this.#core.features;
	}

	get isConfidential(): boolean {
		return this.#core.confidential;
	}

	/** Connection id of the guest's messages. */
	get connectionId(): number {
		return this.#core.connectionId;
	}

	/** Channels by relid. */
	get channels(): ReadonlyMap<number, GuestChannel> {
		return this.#core.channels;
	}

	/** Primary channels, oldest first; their sub-channels hang on them. */
	get primaries(): readonly GuestChannel[] {
		return this.#core.primaries;
	}

	/** Requests that wait for the host. */
	get pendingRequests(): number {
		return this.#core.pending.count;
	}

	/** What each unfinished task waits for, for people. */
	get waits(): readonly string[] {
		return this.#core.scheduler.tasks
			.filter(({ waitsFor }) => waitsFor !== "work")
			.map(({ name, waitsFor }) => `${name}: ${waitsFor}`);
	}
}
