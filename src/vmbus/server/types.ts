/** What a VMBus server holds: plain data only, so that its state can be saved as it is. */
import type { GpaRange } from "../../ring/packet.ts";
import type { Gpa } from "../../types.ts";

/** Where a message goes: VP index and SINT. */
export interface MessageTarget {
	readonly vp: number;
	readonly sint: number;
}

/** Which guest pages serve a purpose: encrypted ones, or those that the host can read. */
export type PageKind = "private" | "shared";

/** A channel as a device offers it; all fields given, `userData` of 120 bytes. */
export interface Offer {
	readonly interfaceId: string;
	readonly instanceId: string;
	readonly subChannelIndex: number;
	/** OfferFlag bits. */
	readonly flags: number;
	readonly mmioMegabytes: number;
	readonly mmioMegabytesOptional: number;
	readonly userData: Uint8Array;
	/** Place among the offers of one interface type: lower ones come first. */
	readonly order: number;
	/** Which of the 128 bits of the monitor page the guest may signal with: a fixed one, any, or none. */
	readonly monitorId: number | "any" | null;
	/** Whether the channel's interrupts are its own, as they are from 1.1 on. */
	readonly dedicatedInterrupt: boolean;
	/** The only relid and connection id that the channel may have; null: the server chooses. */
	readonly relid: number | null;
	readonly connectionId: number | null;
}

/** What the guest sees a channel as, from its offer to the release of its relid. */
export interface ChannelInfo {
	readonly relid: number;
	readonly connectionId: number;
	readonly monitorId: number | null;
}

/** What OPENCHANNEL, or OPEN_RESERVED_CHANNEL, asks for. */
export interface OpenRequest {
	readonly openId: number;
	readonly ringGpadl: number;
	readonly targetVp: number;
	/** Pages of the guest-to-host ring. */
	readonly downstreamPage: number;
	readonly userData: Uint8Array;
	/** Guest-specified signal parameters; null: the offer's connection id, and the relid as event flag. */
	readonly signal: { readonly connectionId: number; readonly eventFlag: number } | null;
	readonly redirectInterrupt: boolean;
}

/** A MODIFYCHANNEL that the device has not answered; before 5.3 the last one that came meanwhile waits. */
export interface Modifying {
	readonly pendingVp: number | null;
}

/** Whose a reserved channel is: it outlives the connection that opened it. */
export interface Reservation {
	readonly target: MessageTarget;
	/** Whether that connection has ended: then no guest knows the channel's relid by an offer. */
	readonly orphaned: boolean;
}

/** OpenVMM vmbus_server/src/channels.rs, ChannelState. */
export type ServerChannelState =
	| { readonly name: "ClientReleased" | "Closed" | "Revoked" | "Reoffered" }
	| { readonly name: "ClosingClientRelease" | "OpeningClientRelease" }
	| { readonly name: "Opening" | "Closing"; readonly request: OpenRequest; readonly reserved: Reservation | null }
	| {
			readonly name: "Open";
			readonly request: OpenRequest;
			readonly reserved: Reservation | null;
			readonly modifying: Modifying | null;
	  }
	| {
			readonly name: "ClosingReopen";
			readonly request: OpenRequest;
			/** Who waits for the end of a reserved channel. */
			readonly reserved: Reservation | null;
			readonly next: OpenRequest;
	  };

export interface Channel {
	readonly offerId: number;
	offer: Offer;
	state: ServerChannelState;
	/** There if and only if the guest has not released the channel. */
	info: ChannelInfo | null;
}

export type GpadlState = "InProgress" | "Offered" | "OfferedTearingDown" | "Accepted" | "TearingDown";

export interface ServerGpadl {
	readonly offerId: number;
	readonly gpadl: number;
	readonly rangeCount: number;
	/** Quadwords of all ranges together. */
	readonly quadwords: number;
	/** Those that arrived, while InProgress; then none. */
	received: bigint[];
	ranges: readonly GpaRange[];
	state: GpadlState;
}

/** INITIATE_CONTACT as the server reads it. */
export interface ContactRequest {
	readonly version: number;
	readonly featureFlags: number;
	readonly targetVp: number;
	/** Before 2.4: the page whose bits tell which channels are signalled. */
	readonly interruptPage: Gpa | null;
	/** Parent to child, child to parent; "invalid" when exactly one is 0. */
	readonly monitorPages: readonly [Gpa, Gpa] | "invalid" | null;
	readonly clientId: string | null;
	readonly trusted: boolean;
}

export interface ConnectionInfo {
	readonly version: number;
	readonly features: number;
	readonly trusted: boolean;
	readonly interruptPage: Gpa | null;
	readonly monitorPages: readonly [Gpa, Gpa] | null;
	/** Whether the monitor pages are the server's own. */
	readonly serverMonitorPages: boolean;
	readonly clientId: string | null;
	readonly offersSent: boolean;
	readonly paused: boolean;
	/** A MODIFY_CONNECTION that is not answered. */
	readonly modifying: boolean;
}

/** What follows when the last channel of a connection is released. A later one replaces it. */
export type NextStep =
	| { readonly name: "Reset" }
	| { readonly name: "UnloadResponse"; readonly respond: boolean }
	| { readonly name: "Contact"; readonly request: ContactRequest };

export type ServerConnection =
	| { readonly name: "Disconnected" }
	| { readonly name: "Connecting"; readonly info: ConnectionInfo; readonly next: NextStep | null }
	| { readonly name: "Connected"; readonly info: ConnectionInfo }
	| { readonly name: "Disconnecting"; readonly version: number; readonly trusted: boolean; readonly next: NextStep };

/** Whether the guest holds no reference to the channel. */
export function isReleased({ state: { name } }: Channel): boolean {
	return name === "ClientReleased" || name === "ClosingClientRelease" || name === "OpeningClientRelease";
}

/** Whether the device has taken the channel back and the guest has not released it. */
export function isRevoked({ state: { name } }: Channel): boolean {
	return name === "Revoked" || name === "Reoffered";
}

/** Whose the channel is, when OPEN_RESERVED_CHANNEL opened it. */
export function reservationOf({ state }: Channel): Reservation | null {
	return "reserved" in state ? state.reserved : null;
}
