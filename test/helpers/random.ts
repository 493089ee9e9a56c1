/** Seeded randomness for tests: COCO_SEED=<n> repeats a run, COCO_SEED=random takes a fresh one. */

/** The seed of this run. Printed by each file that uses it, so that a failure can be repeated. */
export const SEED: number = seedOf(process.env.COCO_SEED);

function seedOf(text: string | undefined): number {
	if (text === undefined || text === "") return 612_117;
	if (text === "random") return Date.now() % 2 ** 31;
	const seed = Number(text);
	if (!Number.isInteger(seed)) throw new RangeError(`COCO_SEED must be a whole number or "random", not "${text}"`);
	return seed | 0;
}

/** Prints how to repeat a run. */
export function printSeed(what: string): void {
	console.log(`${what}: COCO_SEED=${SEED}`);
}

/** A small fast generator (xorshift32 with a multiplied output). */
export class Random {
	#state: number;

	constructor(seed: number) {
		this.#state = Math.imul(seed ^ 0x5bf03635, 0x9e3779b1) | 1;
		for (let i = 0; i < 8; i++) this.u32();
	}

	/** 0 .. 2^32 - 1 */
	u32(): number {
		let x = this.#state;
		x ^= x << 13;
		x ^= x >>> 17;
		x ^= x << 5;
		this.#state = x;
		return Math.imul(x, 0x9e3779bb) >>> 0;
	}

	/** 0 .. n - 1 */
	below(n: number): number {
		return Math.floor((this.u32() / 2 ** 32) * n);
	}

	/** from .. to, both included */
	between(from: number, to: number): number {
		return from + this.below(to - from + 1);
	}

	/** True once in `n`. */
	oneIn(n: number): boolean {
		return this.below(n) === 0;
	}

	pick<T>(list: readonly T[]): T {
		return list[this.below(list.length)] as T;
	}

	bytes(n: number): Uint8Array {
		const out = new Uint8Array(n);
		for (let i = 0; i < n; i++) out[i] = this.u32() >>> 24;
		return out;
	}
}
