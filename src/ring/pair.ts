import * as layout from "../../assembly/layout/ring.ts";
import type { Engine } from "../engine.ts";
import { shown } from "../input-error.ts";
import { orThrow } from "../status.ts";
import type { Gpa } from "../types.ts";
import { Doorbell } from "./doorbell.ts";
import { RingReader } from "./reader.ts";
import { RingWriter } from "./writer.ts";

/** One end of a channel's rings. */
export interface RingPairOptions {
	/** gpas of all pages of the GPADL, both header pages included: first the guest's outgoing ring, then its incoming one. */
	readonly pages: readonly Gpa[];
	/** Number of pages of the guest's outgoing ring: `downstream page offset` of OPENCHANNEL. Default: half of them. */
	readonly downstreamPage?: number;
	/** Whose end this is: the guest writes the first ring, the device the second. */
	readonly side: "guest" | "device";
	/**
	 * Toward a broken peer: "clamp" never answers an error (Linux's guest), "strict" closes the ring with a named corruption
	 * status. Default: clamp for the guest, strict for the device.
	 */
	readonly behaviour?: "clamp" | "strict";
	/** Write empty headers first. Default: true for the guest, whose memory it is. */
	readonly init?: boolean;
	/** Longest packet that is read or built, header included (bytes). Default 4096, as in Linux. */
	readonly maxPacketBytes?: number;
	/** Ids of the requestor; 0: none. Default 0. */
	readonly requests?: number;
	/** Called when the peer is to be signalled: the engine itself signals nobody. */
	readonly onSignal?: () => void;
}

/** What another worker needs to drive a pair: may be posted to it, with the engine's handle. */
export interface RingPairHandle {
	readonly writer: number;
	readonly reader: number;
	readonly scratch: number;
	readonly scratchBytes: number;
	/** Doorbells of this end and of its peer, if the pair has them. */
	readonly bells: { readonly own: number; readonly peer: number } | null;
}

/** One end of a channel: a ring to write, a ring to read. */
export class RingPair {
	readonly #engine: Engine;
	readonly #handle: RingPairHandle;
	readonly writer: RingWriter;
	readonly reader: RingReader;
	/** What the peer rings for this end, and this end for the peer; null without doorbells. */
	readonly bell: Doorbell | null;
	readonly peerBell: Doorbell | null;

	private constructor(engine: Engine, handle: RingPairHandle, onSignal: (() => void) | undefined) {
		this.#engine = engine;
		this.#handle = handle;
		this.bell = handle.bells === null ? null : new Doorbell(engine.memory, handle.bells.own);
		const peerBell = handle.bells === null ? null : new Doorbell(engine.memory, handle.bells.peer);
		this.peerBell = peerBell;
		const signal = onSignal ?? (() => peerBell?.ring());
		this.writer = new RingWriter(engine, handle.writer, handle.scratch, handle.scratchBytes, signal);
		this.reader = new RingReader(engine, handle.reader, signal);
	}

	/**
	 * Attaches one end. The pages are checked here, once.
	 * @throws RangeError that names the option; DmaError OUTSIDE_RAM, BLOCKED_PAGES, OVERLAP (a page twice), BAD_ARGUMENT,
	 *   CONTEXT_FULL (ask for more spareBytes), RING_BAD_INDEX
	 */
	static attach(engine: Engine, options: RingPairOptions): RingPair {
		return new RingPair(engine, attachPair(engine, options, null), options.onSignal);
	}

	/** Attaches both ends with doorbells: a guest and a device over the same pages, on "engine.threads" for two workers. @throws as attach */
	static connect(
		engine: Engine,
		options: Omit<RingPairOptions, "side" | "onSignal">,
	): { guest: RingPair; device: RingPair } {
		const bells = engine.scratch(128);
		const guest = attachPair(engine, { ...options, side: "guest" }, { own: bells, peer: bells + 64 });
		const device = attachPair(
			engine,
			{ ...options, side: "device", init: false, requests: 0 },
			{ own: bells + 64, peer: bells },
		);
		return { guest: new RingPair(engine, guest, undefined), device: new RingPair(engine, device, undefined) };
	}

	/** The same end in another worker, on that worker's engine. One worker writes and one reads; they may be the same. */
	static fromHandle(engine: Engine, handle: RingPairHandle, onSignal?: () => void): RingPair {
		return new RingPair(engine, handle, onSignal);
	}

	get handle(): RingPairHandle {
		return this.#handle;
	}

	/**
	 * Closes both rings of this end: later calls answer RING_CLOSED. Live requests can still be ended.
	 * @param options rescinded: whether the host took the channel away; then they answer RING_RESCINDED. Default false.
	 */
	close(options: { readonly rescinded?: boolean } = {}): void {
		for (const ring of [this.writer.number, this.reader.number])
			this.#engine.instance.exports.ringClose(ring, options.rescinded ? 1 : 0);
	}

	/** Forgets both rings; their records serve later ones. Do not use this pair again. */
	detach(): void {
		for (const ring of [this.writer.number, this.reader.number]) this.#engine.instance.exports.ringDetach(ring);
		giveScratch(this.#engine, this.#handle.scratch, this.#handle.scratchBytes);
	}
}

/** Scratch blocks of detached pairs: the context gives blocks out and takes none back. */
const spare = new WeakMap<Engine, { ptr: number; bytes: number }[]>();

function takeScratch(engine: Engine, bytes: number): { ptr: number; bytes: number } {
	const blocks = spare.get(engine) ?? [];
	const found = blocks.findIndex((block) => block.bytes >= bytes);
	return found < 0
		? { ptr: engine.scratch(bytes), bytes }
		: (blocks.splice(found, 1)[0] as { ptr: number; bytes: number });
}

function giveScratch(engine: Engine, ptr: number, bytes: number): void {
	spare.set(engine, [...(spare.get(engine) ?? []), { ptr, bytes }]);
}

/** @throws RangeError that lists what is expected */
function checkChoice(name: string, value: unknown, expected: readonly string[]): void {
	if (expected.includes(value as string)) return;
	throw new RangeError(`${name}: expected ${expected.map(shown).join(" or ")}, found ${shown(value)}`);
}

function attachPair(engine: Engine, options: RingPairOptions, bells: RingPairHandle["bells"]): RingPairHandle {
	const { pages, side } = options;
	const behaviour = options.behaviour ?? (side === "guest" ? "clamp" : "strict");
	checkChoice("side", side, ["guest", "device"]);
	checkChoice("behaviour", behaviour, ["clamp", "strict"]);
	const downstream = options.downstreamPage ?? pages.length / 2;
	if (!Number.isInteger(downstream) || downstream < 1 || downstream >= pages.length)
		throw new RangeError(`downstreamPage must be from 1 to ${pages.length - 1}, not ${downstream}`);
	const maxPacketBytes = options.maxPacketBytes ?? 4096;
	const upstreamPages = pages.slice(0, downstream);
	const downstreamPages = pages.slice(downstream);
	const init = options.init ?? side === "guest";
	const flags = (behaviour === "strict" ? layout.RING_STRICT : 0) | (init ? layout.RING_INIT : 0);
	const { ptr: scratch, bytes: scratchBytes } = takeScratch(engine, Math.max(maxPacketBytes + 1024, pages.length * 8));
	const attach = (ring: readonly Gpa[], end: number, requests: number) => {
		for (const [i, page] of ring.entries()) engine.instance.data.setFloat64(scratch + 8 * i, page, true);
		return orThrow(
			engine.instance.exports.ringAttach(scratch, ring.length, flags | end, maxPacketBytes, requests),
			() => `attach(${side}, ${ring.length} pages)`,
		);
	};
	const [outgoing, incoming] = side === "guest" ? [upstreamPages, downstreamPages] : [downstreamPages, upstreamPages];
	let writer = -1;
	try {
		writer = attach(outgoing, 0, options.requests ?? 0);
		const reader = attach(incoming, layout.RING_READER, 0);
		return { writer, reader, scratch, scratchBytes, bells };
	} catch (error) {
		if (writer >= 0) engine.instance.exports.ringDetach(writer);
		giveScratch(engine, scratch, scratchBytes);
		throw error;
	}
}
