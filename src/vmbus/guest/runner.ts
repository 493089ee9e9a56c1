/** Commands of the embedder: each runs as a task, until the host lets it end. */
import type { GuestChannel } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import type { Steps } from "./scheduler.ts";
import type { GuestCommand, GuestStatus } from "./types.ts";

/** What a command on a channel does. */
type ChannelSteps<T> = (channel: GuestChannel, command: GuestCommand<T>) => Steps<GuestStatus>;

export class CommandRunner {
	readonly #core: GuestCore;
	#count = 0;

	constructor(core: GuestCore) {
		this.#core = core;
	}

	/** A channel by its relid; linux-6.12 has channels that the table of relids does not tell. */
	find(relid: number): GuestChannel | null {
		const { channels, primaries, linux } = this.#core;
		if (!linux) return channels.get(relid) ?? null;
		for (const primary of primaries)
			for (const channel of [primary, ...primary.subChannels]) if (channel.relid === relid) return channel;
		return null;
	}

	/** Begins a command and runs it as far as it goes. */
	start<T>(
		name: string,
		steps: (command: GuestCommand<T>) => Steps<GuestStatus>,
		relid: number | undefined = undefined,
	): GuestCommand<T> {
		const command: GuestCommand<T> = { number: this.#count++, name, relid, status: undefined, result: undefined };
		const { scheduler, ports } = this.#core;
		scheduler.spawn(name, finish());
		scheduler.run();
		return command;

		function* finish(): Steps {
			const status = yield* steps(command);
			command.status = status;
			ports.finished?.(command);
		}
	}

	/** A command that waits for nothing. */
	atOnce(name: string, run: () => GuestStatus): GuestCommand {
		// biome-ignore lint/correctness/useYield: it does not wait
		return this.start(name, function* () {
			return run();
		});
	}

	/** A command on a channel. */
	onChannel<T>(name: string, relid: number, steps: ChannelSteps<T>): GuestCommand<T> {
		const channel = this.find(relid);
		return this.start<T>(
			name,
			function* (command) {
				return channel === null ? "not-found" : yield* steps(channel, command);
			},
			relid,
		);
	}

	/** A command that does a driver's work on its device: one at a time, and a removal waits for it. */
	asDriver<T>(name: string, relid: number, steps: ChannelSteps<T>): GuestCommand<T> {
		return this.onChannel<T>(name, relid, function* (channel, command) {
			const device = channel.owner;
			if (device === null) return yield* steps(channel, command);
			yield* device.lock.lock("device lock");
			const status = yield* steps(channel, command);
			device.lock.unlock();
			return status;
		});
	}
}
