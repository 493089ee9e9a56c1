/** What a relay holds. */

import { VMBUS_SINT } from "../../synic/registers.ts";
import type { ServerAction } from "../server/actions.ts";
import type { VmbusServer } from "../server/server.ts";
import { encodeMessage } from "../wire/codec.ts";
import type { Message } from "../wire/messages.ts";
import { ConnectionId } from "../wire/versions.ts";

export interface RelayOptions {
	/** Where the host's messages to the paravisor go. Default: VP 0, SINT 7, VTL 2. */
	readonly vp?: number;
	readonly sint?: number;
	readonly vtl?: number;
	/** Where to contact the host. Default 4. */
	readonly connectionId?: number;
	/** SINT of the guest's channels. Default 2. */
	readonly guestSint?: number;
}

/** What a relay asks of its embedder, besides the actions of the server that are not for its channels. */
export type RelayAction =
	| ServerAction
	/** Post a message to the host. */
	| { readonly type: "hostPost"; readonly connectionId: number; readonly payload: Uint8Array }
	/** Signal the host: the guest did, and the hypervisor does not know the connection id. */
	| { readonly type: "hostSignal"; readonly connectionId: number }
	/** Set a flag of the guest's event page: the host signalled the paravisor in its place. */
	| { readonly type: "guestEvent"; readonly vp: number; readonly eventFlag: number }
	/** The hypervisor's interrupts of this SINT are the guest's, though its SynIC there is the paravisor's. */
	| { readonly type: "relaySint"; readonly sint: number }
	/** There will be no relayed channels. */
	| { readonly type: "relayDown"; readonly reason: RelayDownReason };

/** Why no channel is relayed: the host refuses 6.0, lacks a feature that a relay needs, or was given up. */
export type RelayDownReason = "version-refused" | "missing-features" | "disconnected";

/** A channel of the host that the guest's server offers again. */
export interface HostChannel {
	/** The number of the server's offer, and the host's relid. */
	readonly offerId: number;
	readonly relid: number;
	state: "closed" | "opening" | "open";
	modifying: boolean;
	/** How both sides signal while it is open: what the server gave the guest, told to the host when it was opened. */
	signal: HostSignal | null;
}
export interface HostSignal {
	readonly connectionId: number;
	readonly eventFlag: number;
	readonly vp: number;
}

/** A guest's GPADL under the id that the host has for it. */
export interface HostGpadl {
	readonly hostGpadl: number;
	readonly offerId: number;
	readonly gpadl: number;
	state: "creating" | "created" | "tearing-down";
}

export type RelayState = "idle" | "contacting" | "connected" | "down";

export class RelayCore {
	readonly server: VmbusServer;
	readonly options: Required<RelayOptions>;
	state: RelayState = "idle";
	/** Granted by the host. */
	features = 0;
	messageConnectionId: number = ConnectionId.Message;
	readonly byOffer = new Map<number, HostChannel>();
	readonly byRelid = new Map<number, HostChannel>();
	readonly gpadls = new Map<number, HostGpadl>();
	/** The same, by the guest's channel and id. */
	readonly #byGuest = new Map<string, HostGpadl>();
	nextGpadl = 1;
	#actions: RelayAction[] = [];

	constructor(server: VmbusServer, options: RelayOptions) {
		this.server = server;
		this.options = { vp: 0, sint: 7, vtl: 2, connectionId: ConnectionId.Message4, guestSint: VMBUS_SINT, ...options };
	}

	act(action: RelayAction): void {
		this.#actions.push(action);
	}

	/** The actions since the last call. */
	takeActions(): RelayAction[] {
		const actions = this.#actions;
		this.#actions = [];
		return actions;
	}

	/** Sends to the host. */
	post(message: Message): void {
		this.act({ type: "hostPost", connectionId: this.messageConnectionId, payload: encodeMessage(message) });
	}

	add(channel: HostChannel): void {
		this.byOffer.set(channel.offerId, channel);
		this.byRelid.set(channel.relid, channel);
	}

	/** Forgets a channel of the host and the GPADLs that were made for it. */
	drop(channel: HostChannel): void {
		this.byOffer.delete(channel.offerId);
		this.byRelid.delete(channel.relid);
		for (const gpadl of this.gpadls.values()) if (gpadl.offerId === channel.offerId) this.dropGpadl(gpadl);
	}

	addGpadl(gpadl: HostGpadl): void {
		this.gpadls.set(gpadl.hostGpadl, gpadl);
		this.#byGuest.set(`${gpadl.offerId} ${gpadl.gpadl}`, gpadl);
	}

	dropGpadl(gpadl: HostGpadl): void {
		this.gpadls.delete(gpadl.hostGpadl);
		this.#byGuest.delete(`${gpadl.offerId} ${gpadl.gpadl}`);
	}

	/**
	 * The id that the host gets for a guest's GPADL: the same, for devices' packets name it and a relay does not see them; only
	 * where the host has that one already, for a buffer of another channel, one that it has not.
	 */
	takeGpadlId(wanted: number): number {
		if (wanted !== 0 && !this.gpadls.has(wanted)) return wanted;
		while (this.gpadls.has(this.nextGpadl)) this.nextGpadl = nextId(this.nextGpadl);
		const id = this.nextGpadl;
		this.nextGpadl = nextId(id);
		return id;
	}

	/** What the host has of a guest's GPADL. */
	findGpadl(offerId: number, gpadl: number): HostGpadl | undefined {
		return this.#byGuest.get(`${offerId} ${gpadl}`);
	}
}

/** GPADL ids are 1 .. 2^32 - 1 and begin again. */
function nextId(id: number): number {
	return (id % 0xffffffff) + 1;
}
