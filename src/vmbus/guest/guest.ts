/** The guest side of VMBus: commands and host inputs in, posts, signals and page conversions out, through injected ports. */
import type { GpaRange } from "../../ring/packet.ts";
import type { SendOptions } from "../../ring/writer.ts";
import { MAX_MESSAGE_BYTES, SLOT_BYTES, SLOT_PAYLOAD, SLOT_SIZE } from "../../synic/synic.ts";
import type { Gpa } from "../../types.ts";
import { hasMessage, type MessageOf, MessageType, SYNIC_MESSAGE_TYPE } from "../wire/messages.ts";
import { Version } from "../wire/versions.ts";
import type { GuestChannel, OpenOptions, ReceivedPacket } from "./channel.ts";
import { closeChannel, openChannel, setTargetCpu } from "./channels.ts";
import {
	bringUp,
	type Crash,
	crash,
	modifyConnection,
	pause,
	requestOffers,
	resume,
	suspend,
	takeDown,
	unloadAll,
	unpause,
} from "./connection.ts";
import { GuestCore } from "./core.ts";
import { endBuffer, shareBuffer } from "./gpadls.ts";
import { onSlot } from "./inbox.ts";
import { removeDriver } from "./offers.ts";
import type { BufferMemory, GuestCommand, GuestStatus, VmbusGuestOptions } from "./options.ts";
import type { Steps } from "./scheduler.ts";
import { ConnectionSynic } from "./synic.ts";
import * as traffic from "./traffic.ts";

/** A buffer that the host was told of. */
export interface GuestBuffer {
	readonly handle: number;
	readonly gpa: Gpa;
	readonly pages: number;
}

/** What a command on a channel does. */
type ChannelSteps<T> = (channel: GuestChannel, command: GuestCommand<T>) => Steps<GuestStatus>;

/** Commands of the embedder: each runs as a task, until the host lets it end. */
class CommandRunner {
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

/**
 * A guest. Commands begin at once and end, in the same call or a later one, with a status: `finished` of the ports tells when.
 * All is synchronous and deterministic: time passes only by the ports' clock and `tick`.
 */
export class VmbusGuest {
	readonly #core: GuestCore;
	readonly #synic: ConnectionSynic;
	readonly #runner: CommandRunner;
	#crash: Crash | null = null;

	/** @throws RangeError that names the option, or when the first pages cannot be made */
	constructor(options: VmbusGuestOptions) {
		const core = new GuestCore(options);
		this.#core = core;
		this.#runner = new CommandRunner(core);
		this.#synic = new ConnectionSynic(
			core,
			(slot) => onSlot(core, slot),
			(flag) => traffic.onEvent(core, flag),
		);
		const made = this.#synic.allocInputs();
		if (made !== "ok") throw new RangeError(`pages: the hypercalls' input pages: ${made}`);
		core.scheduler.run();
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

	/**
	 * Makes the SynIC's pages, connects with the highest version both know, and asks for offers.
	 * @param maxVersion default: that of the options
	 */
	connect(maxVersion = this.#core.maxVersion): GuestCommand {
		return this.#runner.start("connect", () =>
			bringUp(this.#core, this.#synic, Math.min(maxVersion, this.#core.maxVersion)),
		);
	}

	/** REQUESTOFFERS again: legal once a connection. */
	requestOffers(): GuestCommand {
		const core = this.#core;
		return this.#runner.atOnce("requestoffers", () => {
			return core.takesRequests ? requestOffers(core) : "not-connected";
		});
	}

	/** Opens an offered channel. Its driver counts as bound from the first open that goes well. */
	open(relid: number, options: OpenOptions): GuestCommand {
		const core = this.#core;
		return this.#runner.asDriver("open", relid, function* (channel) {
			const status = yield* openChannel(core, channel, options);
			if (status === "ok" && channel.device !== null) channel.device.bound = true;
			return status;
		});
	}

	/** Closes a primary channel and its sub-channels. */
	close(relid: number): GuestCommand {
		const core = this.#core;
		return this.#runner.onChannel("close", relid, function* (channel) {
			if (channel.state === "opened" || core.linux) yield* closeChannel(core, channel);
			else return channel.state === "broken" ? "bad-state" : "ok";
			return "ok";
		});
	}

	/** Takes the driver off a device: channel and buffers end, the device stays. linux-6.12 does nothing where none is bound. */
	unbind(relid: number): GuestCommand {
		const core = this.#core;
		return this.#runner.asDriver("unbind", relid, function* (channel) {
			if (channel.device === null) return "bad-state";
			if (channel.device.bound || !core.linux) yield* removeDriver(core, channel.device);
			return "ok";
		});
	}

	/** Tells the host of memory: pages that the guest takes (1 .. 8190), or the embedder's. */
	gpadl(relid: number, memory: number | BufferMemory): GuestCommand<GuestBuffer> {
		const core = this.#core;
		return this.#runner.asDriver<GuestBuffer>("gpadl", relid, function* (channel, command) {
			const { status, gpadl } = yield* shareBuffer(core, channel, memory);
			if (status === "ok" && gpadl !== null) command.result = gpadl;
			return status;
		});
	}

	/** Ends a buffer's GPADL and gives its pages back. */
	gpadlDown(relid: number, handle: number): GuestCommand {
		return this.#runner.onChannel("gpadldown", relid, (channel) => endBuffer(this.#core, channel, handle));
	}

	/** Moves a channel's interrupts to another processor. */
	modify(relid: number, cpu: number): GuestCommand {
		return this.#runner.onChannel("modify", relid, (channel) => setTargetCpu(this.#core, channel, cpu));
	}

	/** MODIFY_CONNECTION: other monitor pages (gpas), or none (0 and 0). */
	modifyConnection(pages: readonly [Gpa, Gpa]): GuestCommand {
		return this.#runner.start("modifyconnection", () => modifyConnection(this.#core, pages));
	}

	/** The server takes no messages until `unpause`. */
	pause(): GuestCommand {
		return this.#runner.start("pause", () => pause(this.#core));
	}

	unpause(): GuestCommand {
		const core = this.#core;
		return this.#runner.atOnce("unpause", () => {
			return unpause(core);
		});
	}

	/** Asks the host for an hvsock connection: GUIDs of endpoint and service, from 5.2 on also a silo. */
	tlConnect(endpointId: string, serviceId: string, siloId?: string): GuestCommand {
		const core = this.#core;
		const message: MessageOf<"TlConnectRequest"> = {
			type: MessageType.TlConnectRequest,
			endpointId,
			serviceId,
			...(siloId === undefined ? {} : { siloId }),
		};
		return this.#runner.atOnce("tlconnect", () => {
			if (!core.takesRequests) return "not-connected";
			if (!core.linux && !hasMessage(core.version, "TlConnectRequest")) return "unsupported";
			if (siloId !== undefined && core.version < Version.V5_2) return "unsupported";
			return core.post(message) === null ? "ok" : "post-failed";
		});
	}

	/** UNLOAD. Safe then ends every channel and gives all pages back; linux-6.12 leaves them. */
	unload(): GuestCommand {
		return this.#runner.start("unload", () => unloadAll(this.#core, this.#synic));
	}

	/** UNLOAD, then the end of every channel and of all pages. */
	exit(): GuestCommand {
		return this.#runner.start("exit", () => takeDown(this.#core, this.#synic));
	}

	suspend(): GuestCommand {
		return this.#runner.start("suspend", () => suspend(this.#core));
	}

	resume(): GuestCommand {
		return this.#runner.start("resume", () => resume(this.#core));
	}

	/** UNLOAD in a crash: no interrupts; the answer is looked for in the message pages by `pollCrash`. */
	crash(): GuestCommand {
		return this.#runner.start("crash", () =>
			crash(this.#core, this.#synic, (state) => {
				this.#crash = state;
			}),
		);
	}

	/** Looks for the answer to a crash's UNLOAD: Linux does so every 10 ms, 10,000 times. The look after the one that finds it ends the search. */
	pollCrash(): void {
		this.#crash?.poll();
		this.#core.scheduler.run();
	}

	/** An interrupt of VMBus's SINT on a processor: what the message and event pages hold is taken. */
	interrupt(cpu = 0): void {
		if (this.#crash !== null) return;
		this.#synic.interrupt(cpu);
		this.#core.scheduler.run();
	}

	/**
	 * Where HvPostMessage's input is to be placed (gpa) before the call of `ports.post` is made by plain hypercall or tdcall: a page
	 * that the other side may read. -1: the guest has set none aside.
	 */
	inputGpa(cpu = 0): Gpa {
		return this.#synic.inputGpa(cpu);
	}

	/** A channel message, past the SynIC's pages. @param payload up to 240 bytes */
	message(payload: Uint8Array): void {
		const slot = new Uint8Array(SLOT_BYTES);
		new DataView(slot.buffer).setUint32(0, SYNIC_MESSAGE_TYPE, true);
		slot[SLOT_SIZE] = Math.min(payload.length, 255);
		slot.set(payload.subarray(0, MAX_MESSAGE_BYTES), SLOT_PAYLOAD);
		onSlot(this.#core, slot);
		this.#core.scheduler.run();
	}

	/** An event flag, past the SynIC's pages. */
	event(flag: number): void {
		traffic.onEvent(this.#core, flag)?.();
		this.#core.scheduler.run();
	}

	/** Ends waits that have lasted too long by the ports' clock. Call it now and then. */
	tick(): void {
		this.#core.scheduler.expire();
	}

	/** Sends one packet. With a requestor, `id` of the options stands behind the id it gets. */
	send(relid: number, payload: Uint8Array, options: SendOptions = {}): GuestStatus {
		const channel = this.#runner.find(relid);
		return channel === null ? "not-found" : traffic.send(this.#core, channel, payload, options);
	}

	/** Sends a packet that names guest memory. */
	sendGpaDirect(
		relid: number,
		ranges: readonly GpaRange[],
		payload: Uint8Array,
		options: SendOptions = {},
	): GuestStatus {
		const channel = this.#runner.find(relid);
		if (channel === null) return "not-found";
		return traffic.sendGpaDirect(this.#core, channel, ranges, payload, options);
	}

	/** The packets that are there. Return value: why there are no more; "ok" for an empty ring. */
	packets(relid: number): Generator<ReceivedPacket, GuestStatus> {
		const channel = this.#runner.find(relid);
		return channel === null ? nothing("not-found") : traffic.packets(this.#core, channel);
	}

	/**
	 * The next packet, or null. @param maxBytes room for its payload; a longer one stays
	 * @param raw the room is for its header as well
	 */
	receive(relid: number, maxBytes = 2 ** 19, raw = false): traffic.Received {
		const channel = this.#runner.find(relid);
		if (channel === null) return { status: "not-found", packet: null };
		return traffic.receiveOne(this.#core, channel, maxBytes, raw);
	}

	/**
	 * Ends the request that a completion names. @param only end it only if it was sent with this value
	 * @returns the value it was sent with, or null for an id that is not live
	 */
	endRequest(relid: number, id: bigint, only?: bigint): bigint | null {
		const channel = this.#runner.find(relid);
		return channel === null ? null : traffic.endRequest(this.#core, channel, id, only);
	}

	/** Gives the last pages back. The guest is not to be used again. */
	dispose(): void {
		this.#synic.freeInputs();
	}
}

// biome-ignore lint/correctness/useYield: there is nothing to yield
function* nothing(status: GuestStatus): Generator<never, GuestStatus> {
	return status;
}
