/**
 * One side's server with its echo devices: what it is asked to do is done on that side's SynIC, connections and memory. A host
 * has one; a paravisor may have another, and in front of it a relay of the host's channels.
 */
import type { Engine } from "../../engine.ts";
import { MAX_CONNECTION_ID } from "../../synic/connections.ts";
import type { SynicParty } from "../../synic/interrupts.ts";
import type { SynicMachine } from "../../synic/machine.ts";
import type { MessagePort } from "../../synic/port.ts";
import { VMBUS_SINT } from "../../synic/registers.ts";
import { HvStatus } from "../../synic/status.ts";
import { EchoDevice } from "../devices/echo.ts";
import type { RelayAction, VmbusRelay } from "../relay/relay.ts";
import type { OpenAction, SendAction, ServerAction, ServerCompletion } from "../server/actions.ts";
import { pagesView } from "../server/memory-view.ts";
import type { OfferOptions, OfferRefusal } from "../server/offers.ts";
import type { VmbusServer } from "../server/server.ts";
import { SYNIC_MESSAGE_TYPE } from "../wire/messages.ts";
import { STATUS_UNSUCCESSFUL } from "../wire/values.ts";
import { ConnectionId } from "../wire/versions.ts";
import { ACTORS, type FlagEvent, type Recorder, type ServedEvent } from "./events.ts";

interface VspOptions {
	readonly engine: Engine;
	readonly machine: SynicMachine;
	readonly party: SynicParty;
	readonly server: VmbusServer;
	readonly record: Recorder;
	/** Does a piece of a device's work now or, in its turn, later. */
	readonly later: (work: () => void) => void;
	/** The paravisor's only: a relay in front of the server, and the host that it talks to. */
	readonly relay?: { readonly relay: VmbusRelay; readonly host: () => Vsp };
	/** The host's only: its messages go to the paravisor's relay and not to the guest. */
	readonly toRelay?: (payload: Uint8Array) => void;
}

/** An open channel: where the guest signals it, and where it signals the guest. */
interface OpenChannel {
	readonly connectionId: number;
	readonly eventFlag: number;
	vp: number;
}

export class Vsp {
	readonly server: VmbusServer;
	readonly party: SynicParty;
	readonly #options: VspOptions;
	readonly #devices = new Map<number, EchoDevice>();
	readonly #open = new Map<number, OpenChannel>();
	readonly #ports = new Map<string, MessagePort>();
	/** The server holds messages back until the ports are empty. */
	#held = false;
	readonly #queue: RelayAction[] = [];
	#performing = false;

	constructor(options: VspOptions) {
		this.#options = options;
		this.server = options.server;
		this.party = options.party;
	}

	/** Takes the guest's posts, contacts of both kinds included. */
	listen(): void {
		const { machine } = this.#options;
		for (const id of [ConnectionId.Message, ConnectionId.Message4]) {
			machine.connections[this.party].bindMessages(id, {
				post: (_, payload, { trusted }) => this.post(id, payload, trusted),
			});
		}
	}

	/** Takes a message. @returns the status of the hypercall */
	post(connectionId: number, payload: Uint8Array, trusted: boolean): HvStatus {
		const { status, actions } = this.server.post({ connectionId, payload, trusted });
		this.perform(actions);
		return status;
	}

	/** Offers an echo device. @returns the offer's number, or why not @throws RangeError that names the field */
	offer(options: OfferOptions): number | OfferRefusal {
		const offered = this.server.offer(options);
		if (typeof offered === "string") return offered;
		const { offerId, actions } = offered;
		const { engine } = this.#options;
		// a host cannot read what is private
		const isPrivate = this.party === "paravisor" ? pagesView(engine, "private") : null;
		const views = { shared: pagesView(engine, "shared"), private: isPrivate };
		const onSignal = () => this.#signalGuest(offerId);
		this.#devices.set(offerId, new EchoDevice({ engine, offerId, views, onSignal }));
		this.perform(actions);
		return offerId;
	}

	/** Takes a device away, whatever it is doing. */
	revoke(offerId: number): void {
		this.#end(offerId);
		this.#devices.get(offerId)?.revoked();
		this.#devices.delete(offerId);
		this.perform(this.server.revoke(offerId));
	}

	/** Does what the server asks for. */
	perform(actions: readonly ServerAction[]): void {
		const { relay } = this.#options;
		this.performRelayed(relay === undefined ? actions : relay.relay.handle(actions));
	}

	/** Does what has passed the relay, or comes from it: one thing after the other, also when one brings the next. */
	performRelayed(actions: readonly RelayAction[]): void {
		this.#queue.push(...actions);
		if (this.#performing) return;
		this.#performing = true;
		try {
			for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) this.#do(next);
		} finally {
			this.#performing = false;
		}
	}

	#do(action: RelayAction): void {
		const { record, machine, relay } = this.#options;
		switch (action.type) {
			case "send":
				if (!this.#send(action)) this.#hold(action);
				break;
			case "hostPost": {
				const { connectionId, payload } = action;
				record({ kind: "relay", from: "paravisor", connectionId, payload });
				relay?.host().post(connectionId, payload, false);
				break;
			}
			case "relaySint":
				machine.proxy?.relay(action.sint);
				this.note(`lets the hypervisor's interrupts of SINT ${action.sint} through, for relayed channels`);
				break;
			case "relayDown":
				this.note(`relays no channels: ${action.reason}`);
				break;
			case "rejected":
				this.note(`refuses: ${action.text} (${action.reason})`);
				break;
			default:
				this.#ask(action);
		}
	}

	/** The guest's slot has no room: the server keeps this message and all later ones. */
	#hold(first: SendAction): void {
		const sends = this.#queue.filter((action): action is SendAction => action.type === "send");
		const others = this.#queue.filter(({ type }) => type !== "send");
		this.#queue.splice(0, this.#queue.length, ...others);
		this.#held = true;
		this.server.hold([first, ...sends]);
	}

	/** Writes something down for people. */
	note(text: string): void {
		this.#options.record({ kind: "note", from: ACTORS[this.party], text });
	}

	/** Sends a message. @returns false when its queue is full */
	#send({ target: { vp, sint }, payload, queued }: SendAction): boolean {
		const { machine, record, toRelay } = this.#options;
		if (toRelay !== undefined) {
			record({ kind: "relay", from: "host", connectionId: 0, payload });
			toRelay(payload);
			return true;
		}
		if (vp >= machine.vps) {
			this.note(`has no processor ${vp} for a message`);
			return true;
		}
		const port = this.#port(vp, sint);
		if (!queued && port.waiting > 0) return true;
		const from = ACTORS[this.party];
		const { party: synic } = machine.route(this.party)(vp, sint);
		return machine.interrupts.during(() => {
			const status = port.post(SYNIC_MESSAGE_TYPE, payload);
			if (status === HvStatus.INSUFFICIENT_BUFFERS) return false;
			record({ kind: "message", from, synic, vp, sint, payload, status, queued: port.waiting > 0 });
			return true;
		});
	}

	#port(vp: number, sint: number): MessagePort {
		const key = `${vp} ${sint}`;
		const known = this.#ports.get(key);
		if (known !== undefined) return known;
		const { machine } = this.#options;
		const port = machine.guestPort(this.party, vp, sint);
		this.#ports.set(key, port);
		// behind the port's own wish to try again
		for (const synic of [machine.hypervisor, machine.paravisor]) synic?.whenFree(vp, () => this.#retry());
		return port;
	}

	/** The server's messages go on when those before them have gone. */
	#retry(): void {
		if (!this.#held || [...this.#ports.values()].some(({ waiting }) => waiting > 0)) return;
		this.#held = false;
		this.perform(this.server.retry());
	}

	/** Has devices do what the server asks, and the system what concerns the whole connection. */
	#ask(action: RelayAction): void {
		const { later, relay } = this.#options;
		if (action.type === "connect") {
			const features = relay?.relay.features;
			const relayFeatures = features === undefined ? {} : { relayFeatures: features };
			later(() => this.#complete({ type: "connect", state: 0, ...relayFeatures }));
		} else if (action.type === "modifyConnection") later(() => this.#complete({ type: "modifyConnection", state: 0 }));
		else if ("offerId" in action) this.#askDevice(action);
	}

	#askDevice(action: Extract<ServerAction, { offerId: number }>): void {
		const { offerId } = action;
		this.#options.later(() => {
			const device = this.#devices.get(offerId);
			if (device === undefined) return;
			if (action.type === "close" || action.type === "revoked") this.#end(offerId);
			const channel = this.#open.get(offerId);
			if (action.type === "modify" && channel !== undefined) channel.vp = action.targetVp;
			const completion = action.type === "open" && !this.#begin(action) ? refusal(offerId) : device.handle(action);
			if (completion === null) return;
			if (completion.type === "open" && completion.status !== 0) this.#end(offerId);
			this.#complete(completion);
		});
	}

	#complete(completion: ServerCompletion): void {
		this.perform(this.server.complete(completion));
	}

	/** Makes the guest's signals reach a channel. @returns false for a connection id that is taken: guests may choose it */
	#begin({ offerId, connectionId, eventFlag, request }: OpenAction): boolean {
		const connections = this.#options.machine.connections[this.party];
		if (connections.has(connectionId) || connectionId > MAX_CONNECTION_ID || this.#open.has(offerId)) return false;
		this.#open.set(offerId, { connectionId, eventFlag, vp: request.targetVp });
		connections.bindEvents(connectionId, { signal: () => this.#options.later(() => this.#service(offerId)) });
		return true;
	}

	#end(offerId: number): void {
		const channel = this.#open.get(offerId);
		if (channel === undefined) return;
		this.#open.delete(offerId);
		this.#options.machine.connections[this.party].unbind(channel.connectionId);
	}

	#service(offerId: number): void {
		const device = this.#devices.get(offerId);
		const relid = this.server.channel(offerId)?.info?.relid;
		if (device?.isOpen !== true || relid === undefined) return;
		const { record, later } = this.#options;
		const from = ACTORS[this.party];
		const event = record<ServedEvent>({ kind: "served", from, relid, packets: 0, broken: null });
		const { packets, broken, more } = device.service();
		event.packets = packets;
		event.broken = broken;
		if (more) later(() => this.#service(offerId));
	}

	/** Sets the channel's flag in the guest's event page. */
	#signalGuest(offerId: number): void {
		const channel = this.#open.get(offerId);
		if (channel === undefined) return;
		const { machine, record } = this.#options;
		const { vp, eventFlag: flag } = channel;
		// a guest may name any processor and any flag
		const { party: synic } = machine.route(this.party)(vp, VMBUS_SINT);
		const event: FlagEvent = { kind: "flag", from: ACTORS[this.party], synic, vp, flag, status: null };
		record(event);
		event.status = machine.signalGuest(this.party, vp, VMBUS_SINT, flag);
	}
}

function refusal(offerId: number): ServerCompletion {
	return { type: "open", offerId, status: STATUS_UNSUCCESSFUL };
}
