/** A guest's hand on a server, for the tests: posts messages, answers for the devices, collects what comes out. */

import type { OpenAction, Rejection, ServerAction, ServerCompletion } from "../../src/vmbus/server/actions.ts";
import type { ServerConfig } from "../../src/vmbus/server/config.ts";
import type { OfferOptions } from "../../src/vmbus/server/offers.ts";
import { VmbusServer } from "../../src/vmbus/server/server.ts";
import { DecodeError, decodeMessage, encodeMessage } from "../../src/vmbus/wire/codec.ts";
import { type Message, MessageType } from "../../src/vmbus/wire/messages.ts";
import { Version } from "../../src/vmbus/wire/versions.ts";

export const INTERFACE = "f8615163-df3e-46c5-913f-f2d2f965ed0e";
export const MESSAGE_PORT = 1;
export const CONTACT_PORT = 4;

/** The n-th device of the tests. */
export function device(n: number, more: Partial<OfferOptions> = {}): OfferOptions {
	return {
		interfaceId: INTERFACE,
		instanceId: `abc00000-0000-4000-8000-${n.toString(16).padStart(12, "0")}`,
		...more,
	};
}

/** What one step brought. */
export interface Step {
	readonly status: number;
	readonly actions: readonly ServerAction[];
	/** Messages to the guest, in order. */
	readonly sent: readonly Message[];
	readonly rejected: readonly Rejection[];
}

/** The completion that an action asks for, or null. */
export function completionOf(action: ServerAction, status = 0): ServerCompletion | null {
	switch (action.type) {
		case "open":
		case "modify":
			return { type: action.type, offerId: action.offerId, status };
		case "close":
			return { type: "close", offerId: action.offerId };
		case "gpadl":
			return { type: "gpadl", offerId: action.offerId, gpadl: action.gpadl, status };
		case "gpadlTeardown":
			return { type: "gpadlTeardown", offerId: action.offerId, gpadl: action.gpadl };
		case "connect":
			return { type: "connect", state: status };
		case "modifyConnection":
			return { type: "modifyConnection", state: status };
		default:
			return null;
	}
}

export class TestGuest {
	readonly server: VmbusServer;
	/** Whether devices answer at once. */
	eager = true;
	/** What the devices owe. */
	due: ServerAction[] = [];

	constructor(config: ServerConfig = {}) {
		this.server = new VmbusServer(config);
	}

	/** Collects the actions of a call and answers them, if eager. */
	step(first: readonly ServerAction[], status = 0): Step {
		const actions: ServerAction[] = [];
		const queue = [...first];
		for (let action = queue.shift(); action !== undefined; action = queue.shift()) {
			actions.push(action);
			const completion = completionOf(action);
			if (completion === null) continue;
			if (this.eager || action.type === "connect") queue.push(...this.server.complete(completion));
			else this.due.push(action);
		}
		const sent = actions.flatMap((action) => {
			if (action.type !== "send") return [];
			const message = decodeMessage(action.payload, { direction: "server" });
			if (message instanceof DecodeError) throw new Error(message.text);
			return [message];
		});
		const rejected = actions.flatMap((action) => (action.type === "rejected" ? [action.reason] : []));
		return { status, actions, sent, rejected };
	}

	bytes(payload: Uint8Array, { connectionId = MESSAGE_PORT, trusted = false } = {}): Step {
		const { status, actions } = this.server.post({ connectionId, payload, trusted });
		return this.step(actions, status);
	}

	post(message: Message, options: { connectionId?: number; trusted?: boolean } = {}): Step {
		return this.bytes(encodeMessage(message), options);
	}

	contact(version: number, features = 0, { trusted = false, sint = 2, vtl = 0, more = {} } = {}): Step {
		return this.post(contact(version, features, { sint, vtl, ...more }), { connectionId: CONTACT_PORT, trusted });
	}

	/** Contact and REQUESTOFFERS. */
	connect(version: number = Version.V6_0, features = 0, trusted = false): Step {
		this.contact(version, features, { trusted });
		return this.post({ type: MessageType.RequestOffers }, { trusted });
	}

	/** Offers a device. @returns its number */
	offer(options: OfferOptions): number {
		const offered = this.server.offer(options);
		if (typeof offered === "string") throw new Error(offered);
		this.step(offered.actions);
		return offered.offerId;
	}

	/** The oldest action of a type that waits for its completion is completed. */
	complete(type: ServerCompletion["type"], status = 0): Step {
		const at = this.due.findIndex((action) => action.type === type);
		const [action] = this.due.splice(at, 1);
		const completion = at < 0 || action === undefined ? null : completionOf(action, status);
		if (completion === null) throw new Error(`no ${type} is due`);
		return this.step(this.server.complete(completion));
	}

	/** Creates a GPADL of contiguous pages in one message. */
	gpadl(relid: number, gpadl: number, pages: number): Step {
		return this.post(gpadlHeader(relid, gpadl, pages));
	}

	open(relid: number, ringGpadl: number, more: Partial<Extract<Message, { type: 5 }>> = {}): Step {
		return this.post(openChannel(relid, ringGpadl, more));
	}

	state(offerId: number): string {
		return this.server.channel(offerId)?.state.name ?? "gone";
	}
}

export function contact(version: number, features: number, more: object = {}): Message {
	const base = {
		type: MessageType.InitiateContact,
		version,
		targetVp: 0,
		monitorPages: [0x1000, 0x2000] as [number, number],
	};
	const { sint = 2, vtl = 0, ...rest } = more as { sint?: number; vtl?: number };
	return {
		...base,
		...(version < Version.V5_0 ? { interruptPage: 0x3000 } : { sint, vtl }),
		...(version >= Version.V6_0 ? { featureFlags: features } : {}),
		...rest,
	};
}

export function gpadlHeader(relid: number, gpadl: number, pages: number, firstPfn = 0x100): Message {
	const head = BigInt(pages * 4096);
	const pfns = Array.from({ length: Math.min(pages, 26) }, (_, i) => BigInt(firstPfn + i));
	const rangeBytes = (8 + 8 * pages) & 0xffff;
	return { type: MessageType.GpadlHeader, relid, gpadl, rangeBytes, rangeCount: 1, ranges: [head, ...pfns] };
}

export function gpadlBody(gpadl: number, firstPfn: number, pages: number): Message {
	const ranges = Array.from({ length: pages }, (_, i) => BigInt(firstPfn + i));
	return { type: MessageType.GpadlBody, messageNumber: 0, gpadl, ranges };
}

export function openChannel(
	relid: number,
	ringGpadl: number,
	more: Partial<Extract<Message, { type: 5 }>> = {},
): Message {
	const userData = new Uint8Array(120);
	return {
		type: MessageType.OpenChannel,
		relid,
		openId: relid,
		ringGpadl,
		targetVp: 0,
		downstreamPage: 2,
		userData,
		...more,
	};
}

/** The open action of a step. */
export function opened(step: Step): OpenAction {
	const action = step.actions.find((one): one is OpenAction => one.type === "open");
	if (action === undefined) throw new Error("nothing was opened");
	return action;
}

/** Types of the messages of a step. */
export function types(step: Step): number[] {
	return step.sent.map(({ type }) => type);
}
