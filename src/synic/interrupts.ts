/** Interrupts on their way to the guest's processors: one callback, which is never entered twice. */

/** Whose SynIC. */
export type SynicParty = "hypervisor" | "paravisor";

export interface SynicInterrupt {
	readonly vp: number;
	readonly vector: number;
	readonly sint: number;
	/** The SynIC that asserted it. */
	readonly source: SynicParty;
	/** The hypervisor's SynIC asserted it, and the paravisor let it through. */
	readonly proxied: boolean;
	/** The interrupt needs no EOI at the interrupt controller. */
	readonly autoEoi: boolean;
}

/**
 * Holds interrupts until the operation that raised them is complete, then hands them over in order. What the callback
 * raises in turn follows when it has returned.
 */
export class InterruptQueue {
	readonly #onInterrupt: (interrupt: SynicInterrupt) => void;
	readonly #queue: SynicInterrupt[] = [];
	#operations = 0;
	#draining = false;

	constructor(onInterrupt: (interrupt: SynicInterrupt) => void) {
		this.#onInterrupt = onInterrupt;
	}

	raise(interrupt: SynicInterrupt): void {
		this.#queue.push(interrupt);
		if (this.#operations === 0) this.#drain();
	}

	/** Runs an operation of several steps; its interrupts come after it. */
	during<T>(operation: () => T): T {
		this.#operations++;
		try {
			return operation();
		} finally {
			this.#operations--;
			if (this.#operations === 0) this.#drain();
		}
	}

	#drain(): void {
		if (this.#draining) return;
		this.#draining = true;
		try {
			for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) this.#onInterrupt(next);
		} finally {
			this.#draining = false;
		}
	}
}
