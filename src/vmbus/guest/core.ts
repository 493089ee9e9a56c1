/** What all parts of the guest side share: the connection's state, its tables, locks and queues, and the ways to the host. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { Engine } from "../../engine.ts";
import { MAX_CONNECTION_ID } from "../../synic/connections.ts";
import type { GuestPages } from "../../synic/guest-pages.ts";
import { type CallPath, modeOf, postPath, type SynicMode, type SynicPlatform, signalPath } from "../../synic/modes.ts";
import { type PostError, PostRetry, postWithRetry } from "../../synic/retry.ts";
import { HvStatus } from "../../synic/status.ts";
import { EVENT_FLAGS } from "../../synic/synic.ts";
import type { Gpa } from "../../types.ts";
import { encodeMessage } from "../wire/codec.ts";
import { isGuid } from "../wire/guid.ts";
import { type Message, MessageType, SYNIC_MESSAGE_TYPE } from "../wire/messages.ts";
import { Feature, Version } from "../wire/versions.ts";
import { type GuestChannel, NO_RELID } from "./channel.ts";
import { CpuPlan } from "./cpus.ts";
import type { GuestPorts, VmbusGuestOptions } from "./options.ts";
import { EnginePages } from "./pages.ts";
import { PendingRequests } from "./pending.ts";
import { Completion, Mutex, Scheduler, WorkQueue } from "./scheduler.ts";

/** Relids are event flags. */
export const MAX_RELIDS = EVENT_FLAGS;
/** Linux's first GPADL handle. */
const FIRST_GPADL = 0xe1e10;
const DEFAULT_WAIT_LIMIT_NS = 100e9;
const MAX_CPUS = 2048;

export class GuestCore {
	readonly engine: Engine;
	readonly ports: GuestPorts;
	readonly options: VmbusGuestOptions;
	/** Whether it does as Linux 6.12 does where that is weak. */
	readonly linux: boolean;
	readonly platform: SynicPlatform;
	readonly cpus: number;
	readonly maxVersion: number;
	readonly pages: GuestPages;
	readonly scheduler: Scheduler;
	readonly pending: PendingRequests;
	/** Guards the lists of channels (Linux vmbus_connection.channel_mutex). */
	readonly mutex: Mutex;
	readonly queues: Readonly<Record<"offers" | "rescinds" | "primaries" | "subChannels", WorkQueue>>;
	readonly cpuPlan: CpuPlan;

	state: "disconnected" | "connecting" | "connected" = "disconnected";
	/** The version agreed on; 0: none yet. */
	version = 0;
	/** Features that both sides have. */
	features = 0;
	/** Whether the connection is to the paravisor. Set before the SynIC's pages are made, and kept as long as they live. */
	confidential = false;
	/** The connection's end is under way. */
	ending = false;
	/** The host has confirmed UNLOAD: it uses nothing of the guest any more. */
	hostGone = true;
	/** Connection id of messages. */
	connectionId = 0;
	/** Version of the contact under way: it tells which form of response is meant. */
	contactVersion = 0;
	/** gpas of the interrupt page and the monitor pages; -1: none. */
	interruptPage: Gpa = -1;
	monitorPages: [Gpa, Gpa] | null = null;
	/** gpa of the page that the guest sets monitor bits in: its own or the server's; -1: none. */
	triggerPage: Gpa = -1;

	readonly channels = new Map<number, GuestChannel>();
	/** Primary channels, oldest first. */
	readonly primaries: GuestChannel[] = [];
	/** Channels by the event flag that the host signals, where it is not the relid. */
	readonly eventFlags = new Map<number, GuestChannel>();
	offersInProgress = 0;
	/** Offers and rescinds are dropped: a suspend has begun. */
	ignoresOffers = false;
	nextGpadl = FIRST_GPADL;
	/** Target CPU changes under way. */
	modifying = 0;
	readonly unloaded: Completion;
	/** Channels that must end before a suspend, and those that must come back after. */
	endingAtSuspend = 0;
	comingBack = 0;
	readonly readyForSuspend: Completion;
	readonly readyForResume: Completion;
	#scratch = { ptr: 0, bytes: -1 };

	/** @throws RangeError that names the option */
	constructor(options: VmbusGuestOptions) {
		const { engine, ports, isolation = "none", cpus = 1 } = options;
		if (!Number.isInteger(cpus) || cpus < 1 || cpus > MAX_CPUS)
			throw new RangeError(`cpus must be a whole number from 1 to ${MAX_CPUS}, not ${cpus}`);
		this.linux = options.behaviour === "linux-6.12";
		if (this.linux && options.confidential !== undefined)
			throw new RangeError("confidential: Linux 6.12 knows no Confidential VMBus");
		if (options.clientId !== undefined && !isGuid(options.clientId))
			throw new RangeError(`clientId must be a GUID, not "${options.clientId}"`);
		this.engine = engine;
		this.ports = ports;
		this.options = options;
		const { paravisor = false, sharedGpaBoundary = 0 } = options;
		this.platform = { isolation, paravisor, sharedGpaBoundary };
		this.cpus = cpus;
		const highest = this.linux ? Version.V5_3 : Version.V6_0;
		this.maxVersion = Math.min(options.maxVersion ?? highest, highest);
		this.pages = options.pages ?? EnginePages.over(engine);
		const limit = this.linux ? null : (options.waitLimitNs ?? DEFAULT_WAIT_LIMIT_NS);
		this.scheduler = new Scheduler(() => ports.now?.() ?? 0, limit);
		this.pending = new PendingRequests(this.scheduler);
		this.mutex = new Mutex(this.scheduler);
		const queue = (name: string) => new WorkQueue(this.scheduler, name);
		this.queues = {
			offers: queue("offers"),
			rescinds: queue("rescinds"),
			primaries: queue("primary channels"),
			subChannels: queue("sub-channels"),
		};
		this.unloaded = new Completion(this.scheduler);
		this.readyForSuspend = new Completion(this.scheduler);
		this.readyForResume = new Completion(this.scheduler);
		this.cpuPlan = new CpuPlan(cpus, this.primaries);
	}

	get isIsolated(): boolean {
		return this.platform.isolation !== "none";
	}

	/** Whether channels may be opened, changed and told of memory; linux-6.12 does not ask. */
	get takesRequests(): boolean {
		return this.linux || this.state === "connected";
	}

	has(feature: number): boolean {
		return (this.features & feature) !== 0;
	}

	/** Whether offers may be confidential. */
	get takesConfidentialChannels(): boolean {
		return this.confidential && this.version >= Version.V6_0 && this.has(Feature.ConfidentialChannels);
	}

	vpIndex(cpu: number): number {
		return this.options.vpIndex?.(cpu) ?? cpu;
	}

	warn(text: string): void {
		this.ports.warn?.(text);
	}

	get #mode(): SynicMode {
		return modeOf(this.platform, this.confidential);
	}

	/** A path of the tables; where Linux has none in a guest that is not isolated, the plain one. */
	#pathOr(path: CallPath | null): CallPath | null {
		return path ?? (this.isIsolated || this.linux ? null : "direct");
	}

	/**
	 * Posts a message, again and again as Linux does while the host is short of room.
	 * @param maySleep false in a crash
	 * @returns why it was given up, or null
	 */
	post(message: Message, maySleep = true): PostError | null {
		const payload = encodeMessage(message);
		const path = this.#pathOr(postPath(this.platform, this.#mode));
		const post = () =>
			path === null
				? HvStatus.INVALID_PARAMETER
				: this.ports.post(this.connectionId & MAX_CONNECTION_ID, SYNIC_MESSAGE_TYPE, payload.slice(), path);
		const retry = new PostRetry(message.type === MessageType.InitiateContact, maySleep);
		const error = postWithRetry(post, retry, (us, sleeps) => this.ports.delay?.(us, sleeps));
		if (error !== null) this.warn(`message of type ${message.type} was not posted: ${error}`);
		return error;
	}

	/** Signals the host: always past the paravisor, also for confidential channels (Linux connection.c, vmbus_set_event). */
	signal(connectionId: number, flag: number): void {
		const path = this.#pathOr(signalPath(this.platform, this.#mode));
		if (path !== null) this.ports.signal(connectionId, flag, path);
	}

	/** Lets the host see pages; without isolation it sees all. @returns whether it worked */
	decrypt(gpa: Gpa, pages: number): boolean {
		return !this.isIsolated || this.pages.decrypt(gpa, pages);
	}

	encrypt(gpa: Gpa, pages: number): boolean {
		return !this.isIsolated || this.pages.encrypt(gpa, pages);
	}

	/** Room for a packet on its way to a ring. @returns its ptr, or -1 when the engine's context is full */
	scratch(bytes: number): number {
		if (bytes > this.#scratch.bytes) {
			const wanted = Math.max(8192, 2 * this.#scratch.bytes, (bytes + 63) & ~63);
			try {
				this.#scratch = { ptr: this.engine.scratch(wanted), bytes: wanted };
			} catch (error) {
				if (error instanceof RangeError) return -1;
				throw error;
			}
		}
		return this.#scratch.ptr;
	}

	/** Whether a page-aligned gpa is that of a page of RAM. */
	isRam(gpa: Gpa): boolean {
		return this.engine.ram.regions.some((region) => gpa >= region.gpa && gpa + PAGE_SIZE <= region.gpa + region.bytes);
	}

	/** Gives pages back if nobody else can see them, else gives them up. */
	release(gpa: Gpa, pages: number, isPrivate: boolean): void {
		if (isPrivate) this.pages.free(gpa, pages);
		else this.pages.leak(gpa, pages);
	}

	/** Enters a channel's relid in the table; Linux lets a relid that is in use change hands, and has no place for large ones. */
	mapRelid(channel: GuestChannel): void {
		if (channel.relid < MAX_RELIDS) this.channels.set(channel.relid, channel);
		else this.warn(`relid ${channel.relid} is too large: the channel can be neither signalled nor rescinded`);
	}

	unmapRelid(channel: GuestChannel): void {
		if (this.linux || this.channels.get(channel.relid) === channel) this.channels.delete(channel.relid);
	}

	/**
	 * Forgets a rescinded channel and gives its relid back to the host; the lock of all channels is held.
	 * Linux 6.12 drivers/hv/channel_mgmt.c, hv_process_channel_removal.
	 */
	removeChannel(channel: GuestChannel): void {
		const list = channel.primary?.subChannels ?? this.primaries;
		const at = list.indexOf(channel);
		if (at >= 0) list.splice(at, 1);
		this.cpuPlan.release(channel);
		channel.removed = true;
		if (channel.relid !== NO_RELID) {
			this.unmapRelid(channel);
			if (this.takesRequests) this.post({ type: MessageType.RelidReleased, relid: channel.relid });
		}
		this.ports.channelRemoved?.(channel);
	}
}
