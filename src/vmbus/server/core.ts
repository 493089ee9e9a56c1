/** The server's state, and how its parts send messages, answer and look channels up. */
import { encodeMessage } from "../wire/codec.ts";
import type { GuestMessageName, Message, MessageOf } from "../wire/messages.ts";
import type { Rejection, ServerAction } from "./actions.ts";
import type { FullConfig } from "./config.ts";
import type { Channel, ConnectionInfo, MessageTarget, ServerConnection, ServerGpadl } from "./types.ts";

/** Messages that wait for the guest's slot; beyond that the server takes no more of its messages (HV_STATUS_INSUFFICIENT_BUFFERS). */
export const MAX_OUTGOING = 64;

export interface ServerChannel extends Channel {
	readonly gpadls: Map<number, ServerGpadl>;
}

/** How a message came in. */
export interface Arrival {
	readonly payload: Uint8Array;
	readonly multiclient: boolean;
	readonly trusted: boolean;
}

/** What is done with a message of the guest. */
interface Handler<N extends GuestMessageName> {
	take(core: ServerCore, message: MessageOf<N>, arrival: Arrival): void;
	/** Taken without a complete connection, too. */
	readonly unconnected?: boolean;
	/** Taken while the guest is paused, too. */
	readonly paused?: boolean;
}

/** By the message's name: a row of the table that has none here does not compile. */
export type Handlers = { readonly [N in GuestMessageName]: Handler<N> };

export class ServerCore {
	readonly config: FullConfig;
	connection: ServerConnection = { name: "Disconnected" };
	/** VP that takes the messages: that of the last contact. */
	targetVp = 0;
	readonly channels = new Map<number, ServerChannel>();
	readonly byRelid = new Map<number, ServerChannel>();
	readonly monitorIds = new Set<number>();
	/** GPADLs whose bodies are under way, by id: bodies name no channel. */
	readonly incomplete = new Map<number, ServerGpadl>();
	gpadlQuadwords = 0;
	nextOfferId = 1;
	/** Payloads that wait: the guest paused, or its slot was busy. */
	outgoing: Uint8Array[] = [];
	/** Whether the guest's slot was busy when last tried. */
	slotBusy = false;
	#actions: ServerAction[] = [];

	constructor(config: FullConfig) {
		this.config = config;
	}

	/** The guest's connection, when it is complete. */
	get connected(): ConnectionInfo | null {
		return this.connection.name === "Connected" ? this.connection.info : null;
	}

	/** The version of the connection, also while it begins or ends; 0: none. */
	get version(): number {
		const { connection } = this;
		if ("info" in connection) return connection.info.version;
		return connection.name === "Disconnecting" ? connection.version : 0;
	}

	/** Changes the guest's complete connection. */
	change(changes: Partial<ConnectionInfo>): void {
		const info = this.connected;
		if (info !== null) this.connection = { name: "Connected", info: { ...info, ...changes } };
	}

	/** Whether the guest's connection has a feature. */
	has(feature: number): boolean {
		return ((this.connected?.features ?? 0) & feature) !== 0;
	}

	act(action: ServerAction): void {
		this.#actions.push(action);
	}

	reject(reason: Rejection, text: string): void {
		this.#actions.push({ type: "rejected", reason, text });
	}

	/** The actions since the last call. */
	takeActions(): ServerAction[] {
		const actions = this.#actions;
		this.#actions = [];
		return actions;
	}

	/** Sends to the guest, in order. */
	send(message: Message): void {
		const payload = encodeMessage(message);
		if (this.slotBusy || this.outgoing.length > 0 || this.connected?.paused === true) this.outgoing.push(payload);
		else this.#actions.push({ type: "send", target: this.#target, payload, queued: true });
	}

	/** Sends what waits, unless the guest is paused. */
	flush(): void {
		if (this.slotBusy || this.connected?.paused === true) return;
		for (const payload of this.outgoing) this.act({ type: "send", target: this.#target, payload, queued: true });
		this.outgoing = [];
	}

	/** Sends to another target than the connection's; such messages are not queued. */
	sendTo(target: MessageTarget, message: Message): void {
		this.#actions.push({ type: "send", target, payload: encodeMessage(message), queued: false });
	}

	get #target(): MessageTarget {
		return { vp: this.targetVp, sint: this.config.sint };
	}

	/** The channel of a relid that the guest may name; rejects all others. */
	channelOf(relid: number): ServerChannel | undefined {
		const channel = this.byRelid.get(relid);
		if (channel === undefined) this.reject("unknown-relid", `relid ${relid} is not the guest's`);
		return channel;
	}

	/** The relid of a channel that has one. */
	relidOf(channel: Channel): number {
		if (channel.info === null) throw new Error(`channel ${channel.offerId} has no relid`);
		return channel.info.relid;
	}

	/** Forgets a GPADL. */
	dropGpadl(channel: ServerChannel, gpadl: ServerGpadl): void {
		channel.gpadls.delete(gpadl.gpadl);
		this.gpadlQuadwords -= gpadl.quadwords;
		this.endAssembly(gpadl);
	}

	/** A GPADL's bodies have come or will not: its id says nothing any more, unless it is another one's. */
	endAssembly(gpadl: ServerGpadl): void {
		if (this.incomplete.get(gpadl.gpadl) === gpadl) this.incomplete.delete(gpadl.gpadl);
	}
}
