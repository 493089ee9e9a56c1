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
	#detached = false;
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
		const [own, peer] = [BELLS.take(engine, BELL_BYTES), BELLS.take(engine, BELL_BYTES)];
		const made: RingPair[] = [];
		const attach = (more: Pick<RingPairOptions, "side" | "init" | "requests">, mine: Block, other: Block) => {
			const handle = attachPair(engine, { ...options, ...more }, { own: mine.ptr, peer: other.ptr });
			const pair = new RingPair(engine, handle, undefined);
			made.push(pair);
			return pair;
		};
		try {
			const guest = attach({ side: "guest" }, own, peer);
			const device = attach({ side: "device", init: false, requests: 0 }, peer, own);
			return { guest, device };
		} catch (error) {
			for (const bell of [own, peer].slice(made.length)) BELLS.give(engine, bell);
			for (const pair of made) pair.detach();
			throw error;
		}
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
		if (this.#detached) return;
		for (const ring of [this.writer.number, this.reader.number])
			orThrow(this.#engine.instance.exports.ringClose(ring, options.rescinded ? 1 : 0), () => "close()");
	}

	/**
	 * Forgets both rings; their records and this end's doorbell serve later ones. Do not use this pair again, nor its handle;
	 * a second detach does nothing.
	 */
	detach(): void {
		if (this.#detached) return;
		this.#detached = true;
		for (const ring of [this.writer.number, this.reader.number])
			orThrow(this.#engine.instance.exports.ringDetach(ring), () => "detach()");
		const { scratch, scratchBytes, bells } = this.#handle;
		BLOCKS.give(this.#engine, { ptr: scratch, bytes: scratchBytes });
		// a peer may still ring it: whoever has it next looks once too often
		if (bells !== null) BELLS.give(this.#engine, { ptr: bells.own, bytes: BELL_BYTES });
	}
}

interface Block {
	readonly ptr: number;
	readonly bytes: number;
}

/** Blocks of detached pairs, by engine: the context gives blocks out and takes none back. */
class SpareBlocks {
	readonly #spare = new WeakMap<Engine, Block[]>();

	take(engine: Engine, bytes: number): Block {
		const blocks = this.#spare.get(engine) ?? [];
		const found = blocks.findIndex((block) => block.bytes >= bytes);
		return found < 0 ? { ptr: engine.scratch(bytes), bytes } : (blocks.splice(found, 1)[0] as Block);
	}

	give(engine: Engine, block: Block): void {
		const blocks = this.#spare.get(engine);
		if (blocks === undefined) this.#spare.set(engine, [block]);
		else blocks.push(block);
	}
}

const BLOCKS = new SpareBlocks();
/** Apart from other blocks: a peer may ring a bell that was given back. */
const BELLS = new SpareBlocks();
/** A doorbell has a line of its own. */
const BELL_BYTES = 64;

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
	const { ptr: scratch, bytes: scratchBytes } = BLOCKS.take(engine, Math.max(maxPacketBytes + 1024, pages.length * 8));
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
		BLOCKS.give(engine, { ptr: scratch, bytes: scratchBytes });
		if (writer >= 0) orThrow(engine.instance.exports.ringDetach(writer), () => "detach()");
		throw error;
	}
}
