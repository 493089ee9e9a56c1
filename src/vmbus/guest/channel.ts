/** A channel as the guest knows it. */

import type { RingPair } from "../../ring/pair.ts";
import type { Gpa } from "../../types.ts";
import type { MessageOf } from "../wire/messages.ts";
import { OfferFlag } from "../wire/versions.ts";
import type { VmbusDevice } from "./device.ts";
import type { GuestGpadl } from "./gpadl.ts";
import type { TamperedReader } from "./linux-ring.ts";
import type { Completion } from "./scheduler.ts";
import type { ReceivedPacket } from "./traffic.ts";
import type { CallbackMode, OpenOptions } from "./types.ts";

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
