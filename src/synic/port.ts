/** Where a server posts messages to a guest: a queue in front of one slot of a message page. */
import type { InterruptQueue } from "./interrupts.ts";
import { SINTS, SintBit } from "./registers.ts";
import { HvStatus } from "./status.ts";
import { MAX_MESSAGE_BYTES, type Synic, type SynicMessage } from "./synic.ts";

/** Messages that may wait for a slot (OpenVMM's depth). */
const QUEUE_MESSAGES = 64;

/**
 * The SynIC through which a paravisor reaches its guest: its own, unless the guest left that SINT to the hypervisor's.
 * OpenVMM openhcl/virt_mshv_vtl/src/lib.rs
 */
export function paravisorRoute(paravisor: Synic, hypervisor: Synic): (vp: number, sint: number) => Synic {
	return (vp, sint) => ((paravisor.sint(vp, sint) & SintBit.Proxy) !== 0 ? hypervisor : paravisor);
}

interface MessagePortOptions {
	/** The SynIC for a processor's SINT, looked up for each message. */
	readonly route: (vp: number, sint: number) => Synic;
	/** Every SynIC that `route` may name. */
	readonly synics: readonly Synic[];
	readonly interrupts: InterruptQueue;
	readonly vp: number;
	readonly sint: number;
	/** Default 64. */
	readonly depth?: number;
}

/** A FIFO of messages to one SINT of one processor. None is lost, doubled or overtaken. */
export class MessagePort {
	readonly #options: MessagePortOptions;
	readonly #queue: SynicMessage[] = [];
	readonly #ends: readonly (() => void)[];

	/** @throws RangeError for a SINT that is none */
	constructor(options: MessagePortOptions) {
		if (!(options.sint >= 0 && options.sint < SINTS)) throw new RangeError(`a SINT is 0 to 15, not ${options.sint}`);
		this.#options = options;
		this.#ends = options.synics.map((synic) => synic.whenFree(options.vp, () => this.#flush()));
	}

	/** Messages that wait. */
	get waiting(): number {
		return this.#queue.length;
	}

	/**
	 * Sends a message, or queues a copy of it behind those that wait.
	 * @returns SUCCESS; INSUFFICIENT_BUFFERS when the queue is full; INVALID_SYNIC_STATE when nothing waits and the guest has
	 * not set up the SINT; INVALID_VP_INDEX; INVALID_PARAMETER for a type of 0 or too long a payload
	 */
	post(type: number, payload: Uint8Array, sender = 0n): HvStatus {
		if (type === 0 || payload.length > MAX_MESSAGE_BYTES) return HvStatus.INVALID_PARAMETER;
		const { interrupts, depth = QUEUE_MESSAGES } = this.#options;
		return interrupts.during(() => {
			this.#flush();
			if (this.#queue.length >= depth) return HvStatus.INSUFFICIENT_BUFFERS;
			if (this.#queue.length === 0) {
				const status = this.#deliver({ type, payload, sender });
				if (status !== HvStatus.OBJECT_IN_USE) return status;
			}
			this.#queue.push({ type, payload: payload.slice(), sender });
			return HvStatus.SUCCESS;
		});
	}

	/** Drops what waits, and waits for slots no more. */
	close(): void {
		for (const end of this.#ends) end();
		this.#queue.length = 0;
	}

	#deliver(message: SynicMessage): HvStatus {
		const { route, vp, sint } = this.#options;
		return route(vp, sint).deliver(vp, sint, message);
	}

	/** Sends what waits until a slot is taken; that sets the pending flag of the message in it. */
	#flush(): void {
		for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
			if (this.#deliver(next) !== HvStatus.SUCCESS) return;
			this.#queue.shift();
		}
	}
}
