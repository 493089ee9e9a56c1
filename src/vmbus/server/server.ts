/**
 * The server side of VMBus's control plane: messages and device completions in, actions out; no clock, no I/O, no callback.
 * A host runs one; a paravisor runs another, with `confidential` and, before it, a relay (relay.ts).
 * Source of the rules: OpenVMM vmbus_server/src/channels.rs.
 */
import { HvStatus } from "../../synic/status.ts";
import { MAX_MESSAGE_BYTES } from "../../synic/synic.ts";
import { DecodeError, decodeMessage } from "../wire/codec.ts";
import { hasMessage, type Message, MessageType } from "../wire/messages.ts";
import { STATUS_CONNECTION_REFUSED } from "../wire/values.ts";
import type { SendAction, ServerAction, ServerCompletion } from "./actions.ts";
import { CHANNEL_HANDLERS, completeClose, completeModify, completeOpen, revoke } from "./channels.ts";
import { fullConfig, type ServerConfig } from "./config.ts";
import { CONNECTION_HANDLERS, completeConnect, completeModifyConnection, isResetting, reset } from "./connection.ts";
import { type Arrival, type Handlers, MAX_OUTGOING, type ServerChannel, ServerCore } from "./core.ts";
import { completeGpadl, completeGpadlTeardown, GPADL_HANDLERS } from "./gpadls.ts";
import {
	areFlagsLegal,
	fullOffer,
	isRelidTaken,
	MAX_CHANNELS,
	type OfferOptions,
	type OfferRefusal,
	offerToGuest,
	sameChannel,
} from "./offers.ts";
import { restoreCore, type SavedServer, saveCore } from "./save.ts";
import type { Channel, ServerConnection, ServerGpadl } from "./types.ts";

const HANDLERS: Handlers = { ...CONNECTION_HANDLERS, ...CHANNEL_HANDLERS, ...GPADL_HANDLERS };
/** By the message's type. */
const HANDLER_OF = new Map<number, Handlers[keyof Handlers]>(
	(Object.keys(HANDLERS) as (keyof Handlers)[]).map((name) => [MessageType[name], HANDLERS[name]]),
);

/** A message as it arrives with HvPostMessage. */
export interface ServerPost {
	readonly connectionId: number;
	/** A copy that the guest cannot change any more. */
	readonly payload: Uint8Array;
	/** Whether no untrusted party can have made it or seen it: at a paravisor, a plain hypercall. Default false. */
	readonly trusted?: boolean;
}

export class VmbusServer {
	readonly #core: ServerCore;

	/** @throws RangeError that names the option */
	constructor(config: ServerConfig = {}) {
		this.#core = new ServerCore(fullConfig(config));
	}

	/** Goes on where the state was saved; every completion that was due then is still due. @throws RangeError that names what is wrong */
	static restore(config: ServerConfig, saved: unknown): VmbusServer {
		const server = new VmbusServer(config);
		restoreCore(server.#core, saved);
		return server;
	}

	/** Everything that the server knows, as JSON can hold it. */
	save(): SavedServer {
		return saveCore(this.#core);
	}

	/**
	 * Takes a message.
	 * @returns what is to be done, and the status of the hypercall: INVALID_CONNECTION_ID for an id that is no port,
	 * INVALID_PARAMETER beyond 240 bytes, INSUFFICIENT_BUFFERS while 64 messages wait for the guest's slot
	 */
	post({ connectionId, payload, trusted = false }: ServerPost): { status: HvStatus; actions: ServerAction[] } {
		const core = this.#core;
		const port = core.config.ports.find((one) => one.connectionId === connectionId);
		if (port === undefined) return { status: HvStatus.INVALID_CONNECTION_ID, actions: [] };
		if (payload.length > MAX_MESSAGE_BYTES) return { status: HvStatus.INVALID_PARAMETER, actions: [] };
		const paused = core.connected?.paused === true;
		if (core.outgoing.length >= MAX_OUTGOING && !paused) return { status: HvStatus.INSUFFICIENT_BUFFERS, actions: [] };
		this.#take({ payload, multiclient: port.multiclient, trusted });
		return { status: HvStatus.SUCCESS, actions: core.takeActions() };
	}

	#take(arrival: Arrival): void {
		const core = this.#core;
		const { connection, version } = core;
		const features = "info" in connection ? connection.info.features : 0;
		const message = decodeMessage(arrival.payload, { version, features, direction: "guest" });
		if (isResetting(core)) core.reject("resetting", "a message during a reset");
		else if (trustOf(connection) && !arrival.trusted)
			core.reject("untrusted", "an untrusted message on a trusted connection");
		else if (message instanceof DecodeError) {
			const closed = message.error === "not-in-version" && connection.name === "Disconnected";
			core.reject(closed ? "not-connected" : "malformed", message.text);
		} else this.#handle(message, arrival);
	}

	#handle(message: Message, arrival: Arrival): void {
		const core = this.#core;
		const handler = HANDLER_OF.get(message.type);
		const isPaused = core.connected?.paused === true;
		if (core.connected === null && handler?.unconnected !== true)
			core.reject("not-connected", `message ${message.type} while ${core.connection.name}`);
		else if (isPaused && handler?.paused !== true) core.reject("paused", `message ${message.type} while paused`);
		else handler?.take(core, message as never, arrival);
	}

	/** The end of what an action began. One that is not due changes nothing. @throws RangeError for a connect without a child-to-parent page */
	complete(completion: ServerCompletion): ServerAction[] {
		const core = this.#core;
		switch (completion.type) {
			case "open":
				completeOpen(core, completion.offerId, completion.status);
				break;
			case "close":
				completeClose(core, completion.offerId);
				break;
			case "modify":
				completeModify(core, completion.offerId, completion.status);
				break;
			case "gpadl":
				completeGpadl(core, completion.offerId, completion.gpadl, completion.status);
				break;
			case "gpadlTeardown":
				completeGpadlTeardown(core, completion.offerId, completion.gpadl);
				break;
			case "connect":
				completeConnect(core, completion);
				break;
			case "modifyConnection":
				completeModifyConnection(core, completion.state);
		}
		return core.takeActions();
	}

	/**
	 * Offers a channel. One that was revoked and that the guest has not released is the same one again, offered on its release.
	 * @returns its number for all later calls, or why not @throws RangeError that names the field
	 */
	offer(options: OfferOptions): { offerId: number; actions: ServerAction[] } | OfferRefusal {
		const core = this.#core;
		const offer = fullOffer(options);
		if (!core.config.oldOfferFlags && !areFlagsLegal(offer.flags))
			throw new RangeError("flags: confidential external memory (0x4) needs a confidential ring buffer (0x2)");
		for (const channel of core.channels.values()) {
			if (!sameChannel(channel.offer, offer)) continue;
			if (channel.state.name !== "Revoked") return "already-offered";
			if (offer.relid !== null && offer.relid !== channel.info?.relid) return "relid-taken";
			channel.offer = offer;
			channel.state = { name: "Reoffered" };
			return { offerId: channel.offerId, actions: [] };
		}
		if (core.channels.size >= MAX_CHANNELS) return "too-many-channels";
		if (offer.relid !== null && isRelidTaken(core, offer.relid)) return "relid-taken";
		const offerId = core.nextOfferId++;
		const channel: ServerChannel = { offerId, offer, state: { name: "ClientReleased" }, info: null, gpadls: new Map() };
		core.channels.set(offerId, channel);
		if (core.connected?.offersSent === true) offerToGuest(core, channel);
		return { offerId, actions: core.takeActions() };
	}

	/** Takes a channel back, its sub-channels first; nothing else is asked of its device. A number that is unknown changes nothing. */
	revoke(offerId: number): ServerAction[] {
		const channel = this.#core.channels.get(offerId);
		if (channel !== undefined) revoke(this.#core, channel);
		return this.#core.takeActions();
	}

	/** The whole VM resets: releases all channels, reserved ones too; ends with the action "resetDone". */
	reset(): ServerAction[] {
		reset(this.#core);
		return this.#core.takeActions();
	}

	/** Answers the action "tlConnect" when there will be no channel; success has no answer but the offer. */
	tlConnectFailed(endpointId: string, serviceId: string): ServerAction[] {
		const core = this.#core;
		const { TlConnectResult: type } = MessageType;
		if (hasMessage(core.connected?.version ?? 0, "TlConnectResult"))
			core.send({ type, endpointId, serviceId, status: STATUS_CONNECTION_REFUSED });
		return core.takeActions();
	}

	/** Keeps messages that the guest's slot did not take, and all later ones, until retry(). */
	hold(unsent: readonly SendAction[]): void {
		const core = this.#core;
		core.slotBusy = true;
		core.outgoing.unshift(...unsent.filter(({ queued }) => queued).map(({ payload }) => payload));
	}

	/** The slot may be free again. @returns what waited, to be sent in order */
	retry(): ServerAction[] {
		this.#core.slotBusy = false;
		this.#core.flush();
		return this.#core.takeActions();
	}

	get connection(): ServerConnection {
		return this.#core.connection;
	}

	/** Messages that wait for the guest's slot or its RESUME. */
	get waiting(): number {
		return this.#core.outgoing.length;
	}

	/** The channels, in the order of their offers. */
	get channels(): readonly Readonly<Channel>[] {
		return [...this.#core.channels.values()];
	}

	/** A channel, or undefined when there is none of that number. */
	channel(offerId: number): Readonly<Channel> | undefined {
		return this.#core.channels.get(offerId);
	}

	/** The GPADLs of a channel. */
	gpadls(offerId: number): readonly Readonly<ServerGpadl>[] {
		return [...(this.#core.channels.get(offerId)?.gpadls.values() ?? [])];
	}
}

/** Whether a connection takes trusted messages only; also while it is being ended. */
function trustOf(connection: ServerConnection): boolean {
	if ("info" in connection) return connection.info.trusted;
	return connection.name === "Disconnecting" && connection.trusted;
}
