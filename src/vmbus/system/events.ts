/** What happens in a system, as it happens: plain data. */

import type { SynicParty } from "../../synic/interrupts.ts";
import type { CallPath } from "../../synic/modes.ts";
import type { HvStatus } from "../../synic/status.ts";
import type { Gpa } from "../../types.ts";
import type { PageKind } from "../server/types.ts";

type Actor = "guest" | "host" | "paravisor";

/** The server on a SynIC's side. */
export const ACTORS: Readonly<Record<SynicParty, Actor>> = { hypervisor: "host", paravisor: "paravisor" };

/** A guest's hypercall; who took it, null: nobody. */
export interface CallEvent {
	readonly kind: "post" | "signal";
	readonly from: "guest";
	readonly path: CallPath;
	readonly connectionId: number;
	/** A post's message; none of a signal. */
	readonly payload: Uint8Array;
	by: SynicParty | null;
	/** The call trapped to the paravisor: the host neither sees nor forges it. */
	trusted: boolean;
	status: HvStatus | null;
}

/** A message on its way to a slot of the guest. */
export interface MessageEvent {
	readonly kind: "message";
	readonly from: Actor;
	readonly synic: SynicParty;
	readonly vp: number;
	readonly sint: number;
	readonly payload: Uint8Array;
	/** SUCCESS also of one that waits for the slot. */
	readonly status: HvStatus;
	/** Whether it has to wait for the slot. */
	readonly queued: boolean;
}

/** A message between paravisor and host: the guest sees none of it. */
export interface RelayEvent {
	readonly kind: "relay";
	readonly from: "host" | "paravisor";
	/** Of a post to the host. */
	readonly connectionId: number;
	readonly payload: Uint8Array;
}

/** An event flag set in the guest's event page. */
export interface FlagEvent {
	readonly kind: "flag";
	readonly from: Actor;
	readonly synic: SynicParty;
	readonly vp: number;
	readonly flag: number;
	status: HvStatus | null;
}

/** A write to a register of a SynIC. */
export interface RegisterEvent {
	readonly kind: "register";
	readonly from: "guest";
	readonly path: CallPath;
	readonly synic: SynicParty;
	readonly vp: number;
	/** MSR number. */
	readonly msr: number;
	readonly value: bigint;
	/** false: the write faulted. */
	done: boolean;
}

/** Pages that changed their state. */
export interface PagesEvent {
	readonly kind: "pages";
	readonly from: "guest";
	readonly change: "decrypt" | "encrypt" | "leak";
	readonly gpa: Gpa;
	readonly pages: number;
	readonly purpose: string;
	/** States before and after. */
	readonly before: string;
	after: string;
	/** false: the conversion failed. */
	done: boolean;
}

/** A packet in a ring. */
export interface PacketEvent {
	readonly kind: "packet";
	readonly from: Actor;
	readonly relid: number;
	/** Header and payload, of a sent one also the trailer. */
	bytes: Uint8Array;
	readonly ring: PageKind;
	/** How a send ended; a packet that was received: "ok". */
	status: string;
}

/** A device was signalled: it reads packets, and answers what it can. */
export interface ServedEvent {
	readonly kind: "served";
	readonly from: Actor;
	/** As the device's own server numbers its channels. */
	readonly relid: number;
	packets: number;
	/** Why the device uses the channel no more, or null. */
	broken: string | null;
}

/** A command of the guest begins or ends; or something for people. */
export interface NoteEvent {
	readonly kind: "note";
	readonly from: Actor;
	readonly text: string;
}

export type SystemEvent = (
	| CallEvent
	| MessageEvent
	| RelayEvent
	| FlagEvent
	| RegisterEvent
	| PagesEvent
	| PacketEvent
	| ServedEvent
	| NoteEvent
) & {
	/** The system's clock (ns). */
	readonly timeNs: number;
};

/** An event without its time. */
export type NewEvent = SystemEvent extends infer E ? (E extends SystemEvent ? Omit<E, "timeNs"> : never) : never;

/** Takes an event. Fields that are not known yet are filled in later. @returns it, with its time */
export type Recorder = <E extends NewEvent>(event: E) => E;
