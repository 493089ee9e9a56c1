import * as layout from "../../assembly/layout/ring.ts";
import { RING_EMPTY } from "../../assembly/layout/status.ts";
import type { Engine } from "../engine.ts";
import { orThrow } from "../status.ts";
import type { EngineExports, Instance } from "../wasm.ts";
import { Deadline, type Doorbell } from "./doorbell.ts";
import { type Packet, packetInHand } from "./packet.ts";

/**
 * The reading end. The plain calls (try…, next, advance, release) never throw and allocate nothing; a result below 0 is a
 * status. receive() and packets() are for people: they copy, answer null at the end, and throw a DmaError for all else.
 */
export class RingReader {
	readonly #instance: Instance;
	readonly #exports: EngineExports;
	readonly #onSignal: () => void;
	/** The engine's number of this ring. */
	readonly number: number;

	/** Made by RingPair. */
	constructor(engine: Engine, number: number, onSignal: () => void) {
		this.#instance = engine.instance;
		this.#exports = engine.instance.exports;
		this.number = number;
		this.#onSignal = onSignal;
	}

	/**
	 * Takes the next packet into your buffer and publishes. @param raw 1: with its header; 0: payload only
	 * @returns 2 * bytes + 1 to signal the peer, or a status (RING_EMPTY is flow control; RING_TOO_SMALL leaves the packet)
	 */
	tryRead(raw: number, to: number, bufferBytes: number): number {
		return this.#exports.ringRead(this.number, raw, to, bufferBytes);
	}

	/** Takes up to `max` packets, headers included, one behind the other, and publishes once. @returns 2 * packets + signal, or a status */
	tryReadBurst(to: number, bufferBytes: number, max: number): number {
		return this.#exports.ringReadBurst(this.number, to, bufferBytes, max);
	}

	/** Consumes the packet in hand and takes the next. @param inPlace 1: leave it in the ring where it can be @returns payload bytes or a status */
	next(inPlace: number): number {
		return this.#exports.ringNext(this.number, inPlace);
	}

	/** ptr of the packet in hand (header first), until the next call or memory growth. */
	get packetPtr(): number {
		return this.#exports.ringPacket(this.number);
	}

	/** ptr of the record that describes the packet in hand: assembly/layout/ring.ts, RING_PACKET_*. */
	get recordPtr(): number {
		return this.#exports.ringPtr(this.number);
	}

	/** Consumes the packet in hand. */
	advance(): number {
		return this.#exports.ringAdvance(this.number);
	}

	/** Publishes what was consumed. @returns 1 to signal the peer, 0, or a status */
	release(): number {
		return this.#exports.ringRelease(this.number);
	}

	/** Whether a reader with the clamp behaviour stopped because its peer broke the ring: treat it as fatal to the channel. */
	get stopped(): boolean {
		return this.#instance.u32(this.recordPtr + layout.RING_STOPPED) !== 0;
	}

	/** Goes on after a stop, as Linux would. */
	resume(): void {
		orThrow(this.#exports.ringResume(this.number), () => "resume()");
	}

	#take(): Packet | null {
		const bytes = this.next(0);
		if (bytes === RING_EMPTY) return null;
		orThrow(bytes, () => "receive()");
		return packetInHand(this.#instance, this.number);
	}

	/** Consumes what is in hand, publishes, and signals a peer that waits. */
	#publish(call: string): void {
		orThrow(this.advance(), () => call);
		if (orThrow(this.release(), () => call) === 1) this.#onSignal();
	}

	/** The next packet, or null. Allocates. @throws DmaError for a closed ring and corruption; a packet with bad ranges is consumed first */
	receive(): Packet | null {
		let packet: Packet | null = null;
		try {
			packet = this.#take();
		} finally {
			this.#publish("receive()");
		}
		return packet;
	}

	/** Up to `max` packets, the read index published once at the end. Each packet handed out is consumed, also when you stop early. Allocates. */
	*packets(max = Number.POSITIVE_INFINITY): Generator<Packet> {
		try {
			for (let n = 0; n < max; n++) {
				const packet = this.#take();
				if (packet === null) return;
				yield packet;
			}
		} finally {
			this.#publish("packets()");
		}
	}

	/** Masks the peer's signals: Linux's hv_begin_read. */
	beginRead(): void {
		orThrow(this.#exports.ringMask(this.number, 1), () => "beginRead()");
	}

	/** Unmasks them and looks again: Linux's hv_end_read. @returns bytes to read; above 0, begin again */
	endRead(): number {
		return orThrow(this.#exports.ringEndRead(this.number), () => "endRead()");
	}

	/**
	 * Publishes, unmasks and sleeps until there is something to read; then masks again.
	 * @param bell the one that the writer rings for this end
	 * @returns false when the time was up. A closed or corrupt ring counts as something to read: the next call says what.
	 */
	waitForData(bell: Doorbell, timeoutMs = Number.POSITIVE_INFINITY): boolean {
		const deadline = new Deadline(timeoutMs);
		while (true) {
			const seen = bell.count;
			if (this.#dataNow()) return true;
			if (!bell.wait(seen, deadline.leftMs)) return this.#timedOut();
		}
	}

	/** As waitForData, for threads that may not block. */
	async waitForDataAsync(bell: Doorbell, timeoutMs = Number.POSITIVE_INFINITY): Promise<boolean> {
		const deadline = new Deadline(timeoutMs);
		while (true) {
			const seen = bell.count;
			if (this.#dataNow()) return true;
			if (!(await bell.waitAsync(seen, deadline.leftMs))) return this.#timedOut();
		}
	}

	#dataNow(): boolean {
		// consumed but unpublished bytes would make the writer believe that the ring was not empty
		const consumed = this.advance();
		const signal = consumed < 0 ? consumed : this.release();
		if (signal === 1) this.#onSignal();
		if (signal >= 0 && this.#exports.ringEndRead(this.number) === 0) return false;
		return this.#masked(true);
	}

	#timedOut(): boolean {
		return this.#masked(this.#exports.ringAvailable(this.number) !== 0);
	}

	/** Masks the peer's signals again. A ring that is closed has none, and counts as something to read. */
	#masked(there: boolean): boolean {
		return this.#exports.ringMask(this.number, 1) < 0 || there;
	}
}
