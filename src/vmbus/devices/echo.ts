/**
 * A device that answers: a whole VMBus channel without a real device's protocol.
 *
 * A packet that asks for a completion gets one; an in-band one without comes back as an in-band packet. The payload is the same,
 * unless it is a command: {u32 ECHO, u32 EchoCommand, ...}, whose answer is {u32 EchoStatus, u32 bytes}.
 *   in-band {.., Buffer, u32 gpadl, u32 set}   the GPADL is where the device sends transfer pages from, as page set `set`
 *   in-band {.., Transfer, bytes to the end}   come back in a transfer-page packet; complete it to give its pages back
 *   GPA-direct {.., Take}                      the device reads the packet's ranges and keeps the bytes
 *   GPA-direct {.., Give}                      it writes what it keeps into the packet's ranges
 */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { Engine } from "../../engine.ts";
import type { GpaRange } from "../../ring/packet.ts";
import { DmaError } from "../../status.ts";
import type { OpenAction, ServerAction, ServerCompletion } from "../server/actions.ts";
import { type MemoryView, ringPagesOf } from "../server/memory-view.ts";
import type { PageKind } from "../server/types.ts";
import { STATUS_UNSUCCESSFUL } from "../wire/values.ts";
import { EchoChannel, type EchoTurn } from "./echo-channel.ts";

export { ECHO, EchoCommand, EchoStatus, type EchoTurn } from "./echo-channel.ts";

export interface EchoOptions {
	readonly engine: Engine;
	/** The number that the server gave the device's offer. */
	readonly offerId: number;
	/** What the device may touch; null: no pages of that kind. A host has no view of private pages. */
	readonly views: Readonly<Record<PageKind, MemoryView | null>>;
	/** Called when the guest is to be signalled. */
	readonly onSignal: () => void;
	/** Longest packet, header included (bytes); it takes twice as much of the engine's spare context. Default 4096. */
	readonly maxPacketBytes?: number;
}

export class EchoDevice {
	readonly #options: EchoOptions;
	readonly #gpadls = new Map<number, readonly GpaRange[]>();
	#channel: EchoChannel | null = null;
	#ringGpadl = -1;

	constructor(options: EchoOptions) {
		this.#options = options;
	}

	get isOpen(): boolean {
		return this.#channel !== null;
	}

	/** Does what a server asks of the device; actions for others are nothing to it. @returns what to tell the server, or null */
	handle(action: ServerAction): ServerCompletion | null {
		const { offerId } = this.#options;
		if (!("offerId" in action) || action.offerId !== offerId) return null;
		switch (action.type) {
			case "gpadl":
				this.#gpadls.set(action.gpadl, action.ranges);
				return { type: "gpadl", offerId, gpadl: action.gpadl, status: 0 };
			case "gpadlTeardown":
				this.#forget(action.gpadl);
				return { type: "gpadlTeardown", offerId, gpadl: action.gpadl };
			case "open":
				return { type: "open", offerId, status: this.#open(action) ? 0 : STATUS_UNSUCCESSFUL };
			case "close":
				this.#close();
				return { type: "close", offerId };
			case "modify":
				return { type: "modify", offerId, status: 0 };
			default:
				this.revoked();
				return null;
		}
	}

	/** The channel is the device's no more: its rings and GPADLs are not touched again. */
	revoked(): void {
		this.#close();
		this.#gpadls.clear();
	}

	/** Answers what the guest sent: to be called when it signals, and again while there is more. Never throws for what a guest does. */
	service(): EchoTurn {
		return this.#channel?.service() ?? { packets: 0, more: false, broken: null };
	}

	#open({ request, ringPages, externalPages }: OpenAction): boolean {
		const { engine, views, onSignal, maxPacketBytes = 4096 } = this.#options;
		const { ringGpadl, downstreamPage } = request;
		const rings = views[ringPages];
		const pages = ringPagesOf(this.#gpadls.get(ringGpadl) ?? [], downstreamPage);
		if (rings === null || pages === null || this.#channel !== null) return false;
		if (pages.some((gpa) => rings.refusal(gpa, PAGE_SIZE) !== null)) return false;
		const external = views[externalPages];
		try {
			this.#channel = new EchoChannel({
				engine,
				pages,
				downstreamPage,
				rings,
				external,
				gpadls: this.#gpadls,
				onSignal,
				maxPacketBytes,
			});
		} catch (error) {
			if (error instanceof DmaError) return false;
			throw error;
		}
		this.#ringGpadl = ringGpadl;
		return true;
	}

	#close(): void {
		this.#channel?.detach();
		this.#channel = null;
	}

	#forget(gpadl: number): void {
		this.#gpadls.delete(gpadl);
		this.#channel?.forget(gpadl);
		// the guest takes the rings away from under an open channel
		if (gpadl === this.#ringGpadl) this.#channel?.stop("RING_CLOSED");
	}
}
