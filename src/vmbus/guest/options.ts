/** What the guest side is given, and what it answers. */

import type { Engine } from "../../engine.ts";
import type { GuestPages } from "../../synic/guest-pages.ts";
import type { SynicParty } from "../../synic/interrupts.ts";
import type { CallPath, Isolation } from "../../synic/modes.ts";
import type { Gpa } from "../../types.ts";
import type { GuestChannel, OpenOptions } from "./channel.ts";

/**
 * How the guest behaves where Linux is weak: `safe` refuses or ends; `linux-6.12` does what Linux 6.12 does, byte for byte, up
 * to where Linux would never return. docs/vmbus-guest.md lists each difference.
 */
export type GuestBehaviour = "safe" | "linux-6.12";

/** How a command ended. */
export type GuestStatus =
	| "ok"
	/** The host accepts no version that both know. */
	| "no-version"
	/** The host's version is older than an isolated VM accepts. */
	| "version-too-old"
	| "not-connected"
	| "bad-argument"
	/** There is no such channel, GPADL or device. */
	| "not-found"
	/** The channel is not in the state that the command needs. */
	| "bad-state"
	/** The version or the features of the connection do not have it. */
	| "unsupported"
	| "no-memory"
	/** A page's conversion failed: its state is unknown and it is leaked. */
	| "conversion-failed"
	| "post-failed"
	/** The host took the channel away. */
	| "rescinded"
	/** The host answered with a failure. */
	| "refused"
	/** The host did not answer in time. */
	| "timed-out"
	/** The connection ended meanwhile. */
	| "cancelled"
	| "ring-full"
	| "requestor-full"
	/** The peer broke the ring: fatal to the channel. */
	| "ring-corrupt"
	/** The packet is longer than the buffer. */
	| "too-small"
	/** Channels of an earlier suspend have not come back. */
	| "busy"
	/** Linux would read on for ever here. */
	| "livelock";

/** The embedder's side. No port calls back into the guest but `post`, during which messages may already come in. */
export interface GuestPorts {
	/**
	 * HvPostMessage. @param connectionId 24 bits @param type SynIC message type, 1
	 * @param payload up to 240 bytes, the callee's own
	 * @returns HvStatus
	 */
	post(connectionId: number, type: number, payload: Uint8Array, path: CallPath): number;
	/** HvSignalEvent: input connection id and flag number. */
	signal(connectionId: number, flag: number, path: CallPath): void;
	/** A bit that the guest has set in its RAM instead of a signal: `bit` counts from byte `gpa`. */
	bitSet?(gpa: Gpa, bit: number): void;
	/** End of message, to the SynIC that delivers the next. */
	eom?(cpu: number, party: SynicParty): void;
	/** Writes a SynIC register. @returns false when that faults */
	writeMsr?(cpu: number, party: SynicParty, msr: number, value: bigint): boolean;
	/** Reads a SynIC register: SIMP and SIEFP that the paravisor or host has placed. */
	readMsr?(cpu: number, party: SynicParty, msr: number): bigint;
	/** A post is tried again after so many µs. Default: at once. */
	delay?(us: number, sleeps: boolean): void;
	/** The embedder's clock (ns). Default: stands at 0, so that no wait times out. */
	now?(): number;
	/** A channel came, or its relid was given back. `device`: a primary channel's device. */
	channelAdded?(channel: GuestChannel): void;
	channelRemoved?(channel: GuestChannel): void;
	/** The channel has data, or its `pending` wait may be over. Read with VmbusGuest.receive or packets. */
	callback?(channel: GuestChannel): void;
	/** linux-6.12: the channel's callback is where Linux would never return from; it is not called again. */
	livelock?(channel: GuestChannel): void;
	/** A command is over. */
	finished?(command: GuestCommand): void;
	/** A driver's work on its device is over: the open after an offer. */
	probed?(channel: GuestChannel, status: GuestStatus): void;
	/** Something refused or odd, for people. */
	warn?(text: string): void;
}

/** A command given: over when `status` is set. */
export interface GuestCommand<T = unknown> {
	readonly number: number;
	readonly name: string;
	/** The channel's, of a command on one. */
	readonly relid: number | undefined;
	status: GuestStatus | undefined;
	/** What a command that ended well made. */
	result: T | undefined;
}

/** Memory of the embedder's that the host is told of. After a conversion that failed, its state is unknown: do not use it again. */
export interface BufferMemory {
	/** Multiple of 4096. */
	readonly gpa: Gpa;
	/** 1 .. 8190 */
	readonly pages: number;
	/** The embedder has shared it with the host himself, and ends that himself. Default false. */
	readonly decrypted?: boolean;
}

/** What a driver does with a channel that is offered. */
export interface DriverPlan {
	readonly open: OpenOptions;
	/** Open the device's sub-channels alike when they come. */
	readonly subChannels?: boolean;
}

/** How the guest learns whether its connection can be confidential. */
export type ConfidentialDiscovery =
	/** As merged into Linux: EAX of CPUID leaf 0x40000082, bit 3. A connection that fails is an error. */
	| { readonly how: "cpuid"; readonly eax: number }
	/** As first designed: try, and on failure begin anew without. */
	| { readonly how: "try-then-fallback" };

export interface VmbusGuestOptions {
	readonly engine: Engine;
	readonly ports: GuestPorts;
	/** Default "safe". */
	readonly behaviour?: GuestBehaviour;
	/** Default "none". */
	readonly isolation?: Isolation;
	/** Whether a paravisor stands between guest and host. Default false. */
	readonly paravisor?: boolean;
	/** Bit of the shared alias of RAM (vTOM), or 0. Default 0. */
	readonly sharedGpaBoundary?: number;
	/** The VTL that the guest runs in, 0 or 2. Default 0. */
	readonly vtl?: number;
	/** Processors, 1 .. 2048. Default 1. */
	readonly cpus?: number;
	/** VP index of a processor. Default: its number. */
	readonly vpIndex?: (cpu: number) => number;
	/** Highest version offered. Default 6.0; 5.3 as linux-6.12. */
	readonly maxVersion?: number;
	/** Feature flags to ask for in 6.0, besides ConfidentialChannels. Default 0. */
	readonly features?: number;
	/** Asked for with Feature.ClientId. */
	readonly clientId?: string;
	/** Default: none, never confidential. */
	readonly confidential?: ConfidentialDiscovery;
	/** Device types allowed in an isolated VM (interface GUIDs). Default: Linux's list. */
	readonly allowedInIsolated?: readonly string[];
	/** Longest wait for an answer of the host (ns), safe only. Default 100 s. */
	readonly waitLimitNs?: number;
	/** Where pages come from and how they change state. Default: EnginePages over all of the engine's RAM. */
	readonly pages?: GuestPages;
	/** What a device's driver does when it is offered. Default: nothing; the embedder opens channels by command. */
	readonly driver?: (channel: GuestChannel) => DriverPlan | null;
}
