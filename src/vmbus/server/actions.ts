/** What a VMBus server asks of its embedder, and what it is told back: plain data both ways. */

import type { GpaRange } from "../../ring/packet.ts";
import type { Gpa } from "../../types.ts";
import type { ContactRequest, MessageTarget, OpenRequest, PageKind } from "./types.ts";

/** Why a message, or a device's call, changed nothing. */
export type Rejection =
	/** Bytes that are no message, or none of this version, these features or this direction. */
	| "malformed"
	/** An untrusted message on a connection that a trusted contact made. */
	| "untrusted"
	| "not-connected"
	| "paused"
	| "resetting"
	| "offers-already-sent"
	| "unknown-relid"
	| "already-open"
	| "not-open"
	| "invalid-channel-state"
	| "channel-reserved"
	| "channel-not-reserved"
	| "unknown-gpadl"
	| "duplicate-gpadl"
	| "invalid-gpadl"
	| "invalid-gpadl-state"
	/** The guest's GPADLs would name more pages than ServerConfig.maxGpadlPages. */
	| "too-many-pages"
	| "modify-in-progress"
	| "invalid-monitor-pages"
	| "unexpected-completion";

/** A message to the guest. Those that are not `queued` are lost when their slot is busy. */
export interface SendAction {
	readonly type: "send";
	readonly target: MessageTarget;
	readonly payload: Uint8Array;
	readonly queued: boolean;
}

/** Open the rings and answer with a completion "open". */
export interface OpenAction {
	readonly type: "open";
	readonly offerId: number;
	readonly relid: number;
	readonly request: OpenRequest;
	/** Where the guest signals the device: a connection id. */
	readonly connectionId: number;
	/** What the device sets in the guest's event page. */
	readonly eventFlag: number;
	/** The pages that the rings, and the buffers that packets name, must be of. */
	readonly ringPages: PageKind;
	readonly externalPages: PageKind;
	readonly reserved: boolean;
}

export type ServerAction =
	| SendAction
	| OpenAction
	/** Close the rings and answer with a completion "close". */
	| { readonly type: "close"; readonly offerId: number }
	/** Move the channel's interrupts and answer with a completion "modify". */
	| { readonly type: "modify"; readonly offerId: number; readonly targetVp: number }
	/** Take the GPADL and answer with a completion "gpadl". */
	| {
			readonly type: "gpadl";
			readonly offerId: number;
			readonly gpadl: number;
			readonly ranges: readonly GpaRange[];
	  }
	/** Let go of the GPADL and answer with a completion "gpadlTeardown". */
	| { readonly type: "gpadlTeardown"; readonly offerId: number; readonly gpadl: number }
	/** The server took a sub-channel back because its primary went: no completion for it counts any more. */
	| { readonly type: "revoked"; readonly offerId: number }
	/** A guest wants to connect: prepare what it brings and answer with a completion "connect". */
	| { readonly type: "connect"; readonly request: ContactRequest; readonly features: number }
	/** Other monitor pages (null: none): answer with a completion "modifyConnection". */
	| { readonly type: "modifyConnection"; readonly monitorPages: readonly [Gpa, Gpa] | null }
	/** The connection ended and no channel of it is left: its pages are the guest's again. */
	| { readonly type: "disconnected" }
	/** What reset() began is done. */
	| { readonly type: "resetDone" }
	/** The guest wants an hvsock channel; see VmbusServer.tlConnectFailed. */
	| {
			readonly type: "tlConnect";
			readonly endpointId: string;
			readonly serviceId: string;
			readonly siloId: string | null;
	  }
	/** A contact for another VTL's server. */
	| { readonly type: "forward"; readonly vtl: number; readonly payload: Uint8Array; readonly trusted: boolean }
	| { readonly type: "rejected"; readonly reason: Rejection; readonly text: string };

/** The end of something that an action began. Status 0 is success. */
export type ServerCompletion =
	| { readonly type: "open"; readonly offerId: number; readonly status: number }
	| { readonly type: "close"; readonly offerId: number }
	| { readonly type: "modify"; readonly offerId: number; readonly status: number }
	| { readonly type: "gpadl"; readonly offerId: number; readonly gpadl: number; readonly status: number }
	| { readonly type: "gpadlTeardown"; readonly offerId: number; readonly gpadl: number }
	| {
			readonly type: "connect";
			/** ConnectionState of VERSION_RESPONSE; "unsupported" when a host behind a relay does not know the version. */
			readonly state: number | "unsupported";
			/** Features of the host behind a relay; left out without one. */
			readonly relayFeatures?: number;
			/** The server's own monitor pages (gpas), for a guest that takes them. */
			readonly monitorPages?: readonly [Gpa, Gpa];
	  }
	| { readonly type: "modifyConnection"; readonly state: number };
