/** How long a wait lasts, from its beginning on, however often it looks again. */
export class Deadline {
	readonly #endMs: number;

	/** @param timeoutMs Infinity: none */
	constructor(timeoutMs: number) {
		this.#endMs = performance.now() + timeoutMs;
	}

	/** Milliseconds that are left, 0 at the end. */
	get leftMs(): number {
		return Math.max(0, this.#endMs - performance.now());
	}
}

/** A doorbell: a counter in shared memory that one side rings and the other sleeps on. Stands in for an interrupt. */
export class Doorbell {
	readonly #memory: WebAssembly.Memory;
	#word: Int32Array;
	readonly ptr: number;

	/** @param ptr of an i32, a multiple of 4 */
	constructor(memory: WebAssembly.Memory, ptr: number) {
		this.#memory = memory;
		this.#word = new Int32Array(memory.buffer, ptr, 1);
		this.ptr = ptr;
	}

	/** The counter, wherever a memory.grow has put it. */
	get #counter(): Int32Array {
		if (this.#word.buffer !== this.#memory.buffer) this.#word = new Int32Array(this.#memory.buffer, this.ptr, 1);
		return this.#word;
	}

	/** How often it was rung (mod 2^32): read it before the last look at what it stands for. */
	get count(): number {
		return Atomics.load(this.#counter, 0);
	}

	ring(): void {
		Atomics.add(this.#counter, 0, 1);
		Atomics.notify(this.#counter, 0);
	}

	/** Sleeps until it was rung after `seen`. Not on a browser's main thread. @returns false when the time was up */
	wait(seen: number, timeoutMs = Number.POSITIVE_INFINITY): boolean {
		return Atomics.wait(this.#counter, 0, seen, timeoutMs) !== "timed-out";
	}

	/** As wait, for threads that may not block. */
	async waitAsync(seen: number, timeoutMs = Number.POSITIVE_INFINITY): Promise<boolean> {
		const { value } = (Atomics as unknown as AtomicsWithWaitAsync).waitAsync(this.#counter, 0, seen, timeoutMs);
		if (typeof value === "string") return value !== "timed-out";
		// Node ends a worker that has nothing to do but such a wait
		const alive = setInterval(() => {}, 2 ** 30);
		try {
			return (await value) !== "timed-out";
		} finally {
			clearInterval(alive);
		}
	}
}

/** ES2024, which the compiler's library setting does not know yet. */
interface AtomicsWithWaitAsync {
	waitAsync(
		words: Int32Array,
		index: number,
		value: number,
		timeoutMs: number,
	): { value: Promise<"ok" | "timed-out"> | "not-equal" | "timed-out" };
}
