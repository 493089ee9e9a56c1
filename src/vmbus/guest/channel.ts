/** A channel as the guest knows it: its offer, its device, its rings and the buffers that it shares with the host. */
import type { RingPair } from "../../ring/pair.ts";
import type { Gpa } from "../../types.ts";
import type { MessageOf } from "../wire/messages.ts";
import { OfferFlag } from "../wire/versions.ts";
import type { Completion, Mutex } from "./scheduler.ts";

/** How a channel's callback runs (Linux enum hv_callback_mode). */
export type CallbackMode = "batched" | "direct" | "isr";

export interface OpenOptions {
	/** Pages of the guest's outgoing ring, its header page included: 2 or more. */
	readonly sendPages: number;
	/** Pages of its incoming ring. */
	readonly receivePages: number;
	/** Up to 120 bytes for the device. */
	readonly userData?: Uint8Array;
	/** Ids of the requestor; 0: none. Default 0. */
	readonly requests?: number;
	/** Longest packet that is read (bytes). Default 4096. */
	readonly maxPacketBytes?: number;
	/** Default "batched". */
	readonly mode?: CallbackMode;
	/** Signal by hypercall even where a monitor page is allotted. Default false. */
	readonly lowLatency?: boolean;
	/** Signal parameters of the guest's own choice: needs Feature.GuestSpecifiedSignalParameters. */
	readonly signal?: { readonly connectionId: number; readonly eventFlag: number };
	/** Interrupts go to the paravisor first: needs Feature.ChannelInterruptRedirection. */
	readonly redirectInterrupt?: boolean;
}

/** Linux enum vmbus_channel_state; `closing`: safe only; `broken`: an end that the host never confirmed, so that it cannot be opened again. */
export type GuestChannelState = "offered" | "opening" | "opened" | "closing" | "broken";

/** A relid that stands for none, between suspend and the offer anew (Linux INVALID_RELID). */
export const NO_RELID = 0xffffffff;

/** The memory of a channel's rings: one run, the outgoing ring first. */
export interface RingMemory {
	readonly gpa: Gpa;
	readonly pages: number;
	readonly sendPages: number;
}

/** A packet's copy: nothing of it is in the host's reach any more. */
export interface ReceivedPacket {
	/** Header and payload; the header's lengths are the checked ones. */
	readonly bytes: Uint8Array;
	readonly type: number;
	readonly id: bigint;
	/** Where the payload starts in `bytes`. */
	readonly offset: number;
}

/** Where a reader is that has believed a write index beyond the data: its own index, and the bytes of the packet in hand. */
export interface TamperedReader {
	at: number;
	held: number;
}

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

/** The device behind a primary channel: what a driver is bound to. */
export class VmbusDevice {
	readonly channel: GuestChannel;
	/** Held while a driver is bound or unbound, and by commands that stand for its work. */
	readonly lock: Mutex;
	/** Whether a driver is bound, from the first good open on, so that a removal closes the channel and its buffers. */
	bound = false;
	readonly instanceId: string;

	constructor(channel: GuestChannel, lock: Mutex) {
		this.channel = channel;
		this.lock = lock;
		this.instanceId = channel.offer.instanceId;
	}
}

export class GuestChannel {
	/** The offer as last received. */
	offer: MessageOf<"OfferChannel">;
	state: GuestChannelState = "offered";
	/** The channel that this is a sub-channel of, or null. */
	primary: GuestChannel | null = null;
	readonly subChannels: GuestChannel[] = [];
	/** Device of a primary channel, once it is registered. */
	device: VmbusDevice | null = null;
	/** The processor that its interrupts go to. */
	targetCpu = 0;
	/** Whether the offer's handling is over. */
	probeDone = false;
	/** The host has taken it away. */
	rescinded = false;
	/** A rescind is being handled: later ones are ignored. */
	rescindSeen = false;
	/** Tells the closer of a rescinded sub-channel that it may remove it. */
	readonly rescindEvent: Completion;
	/** Whether ring buffers and GPADL buffers stay private: latched when it is offered. */
	readonly confidentialRing: boolean;
	readonly confidentialMemory: boolean;
	/** Whether callbacks reach the driver: from open to close. */
	callbacks = false;
	/** Open options of the last open. */
	options: OpenOptions | null = null;
	ring: RingMemory | null = null;
	ringGpadl: GuestGpadl | null = null;
	rings: RingPair | null = null;
	/** Buffers shared with the host, by GPADL handle, in the order in which they were made. */
	readonly gpadls = new Map<number, GuestGpadl>();
	/** Called when a sub-channel comes. */
	openSubChannels: OpenOptions | null = null;
	/** A packet that was read and did not fit its reader's buffer: it comes again. */
	kept: ReceivedPacket | null = null;
	/** linux-6.12: where a reader is whose host has broken the write index, or null. */
	tampered: TamperedReader | null = null;
	/** A linux-6.12 reader that Linux would never let go is stopped: its callback does not end. */
	stuck = false;
	/** Given back: no command may use it. */
	removed = false;

	constructor(offer: MessageOf<"OfferChannel">, rescindEvent: Completion, confidential: boolean) {
		this.offer = offer;
		this.rescindEvent = rescindEvent;
		this.confidentialRing = confidential && (offer.flags & OfferFlag.ConfidentialRingBuffer) !== 0;
		this.confidentialMemory = confidential && (offer.flags & OfferFlag.ConfidentialExternalMemory) !== 0;
	}

	get relid(): number {
		return this.offer.relid;
	}

	get isHvSocket(): boolean {
		return (this.offer.flags & OfferFlag.TlnpiProvider) !== 0;
	}

	/** Hvsock channels and sub-channels do not survive a suspend. */
	get endsAtSuspend(): boolean {
		return this.isHvSocket || this.offer.subChannelIndex !== 0;
	}

	get mode(): CallbackMode {
		return this.options?.mode ?? "batched";
	}

	/** The device that the channel belongs to, a sub-channel to its primary's. */
	get owner(): VmbusDevice | null {
		return (this.primary ?? this).device;
	}
}
