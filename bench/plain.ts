/**
 * The baseline without WebAssembly: the same slot rule in plain TypeScript, on a Uint32Array bitmap, and buffers copied
 * with copyWithin. One area, aligned originals, no boundary: what the suites need.
 */
import { PAGE_SIZE } from "../assembly/layout/context.ts";
import { SEED } from "./stage.ts";

const SEGMENT = 128;

export class PlainSlots {
	readonly #free: Uint32Array;
	/** Upper bound of each segment's longest free run. */
	readonly #bound: Uint8Array;
	readonly #starts = new Uint32Array(8);
	readonly #slots: number;
	readonly #count: Uint8Array;
	#index = 0;
	#used = 0;

	constructor(slots: number) {
		this.#slots = slots;
		this.#free = new Uint32Array(slots / 32).fill(0xffffffff);
		this.#bound = new Uint8Array(slots / SEGMENT).fill(SEGMENT);
		this.#count = new Uint8Array(slots);
	}

	/** @returns the first slot, or -7 (POOL_FULL) or -8 (OVER_MAX_MAPPING) */
	take(bytes: number, minAlignMask: number): number {
		const n = (bytes + 2047) >> 11;
		if (n > SEGMENT) return -8;
		if (n > this.#slots - this.#used) return -7;
		const mask = minAlignMask === 0 && bytes >= PAGE_SIZE ? PAGE_SIZE - 1 : minAlignMask;
		const period = (mask >> 11) + 1;
		const first = (this.#index + period - 1) & -period;
		let slot = this.#search(first, this.#slots, period, n);
		if (slot < 0) slot = this.#search(0, this.#index, period, n);
		if (slot < 0) return -7;
		this.#mark(slot, n, false);
		this.#count[slot] = n;
		this.#index = slot + n >= this.#slots ? 0 : slot + n;
		this.#used += n;
		return slot;
	}

	give(slot: number): void {
		const n = this.#count[slot] as number;
		this.#mark(slot, n, true);
		this.#used -= n;
		const segment = slot >> 7;
		let from = slot;
		while (from > segment << 7 && this.#isFree(from - 1)) from--;
		let to = slot + n;
		while (to < (segment + 1) << 7 && this.#isFree(to)) to++;
		if (to - from > (this.#bound[segment] as number)) this.#bound[segment] = to - from;
	}

	forget(): void {
		this.#bound.fill(SEGMENT);
	}

	#isFree(slot: number): boolean {
		return (((this.#free[slot >> 5] as number) >>> (slot & 31)) & 1) === 1;
	}

	#mark(slot: number, n: number, free: boolean): void {
		for (let left = n; left > 0; ) {
			const at = slot & 31;
			const here = Math.min(left, 32 - at);
			const mask = (0xffffffff >>> (32 - here)) << at;
			const word = slot >> 5;
			this.#free[word] = free ? (this.#free[word] as number) | mask : (this.#free[word] as number) & ~mask;
			slot += here;
			left -= here;
		}
	}

	/** Lowest slot in [from, to) of from's residue at which n slots are free. */
	#search(from: number, to: number, period: number, n: number): number {
		if (from >= to) return -1;
		const last = (to - 1) >> 7;
		for (let segment = from >> 7; segment <= last; segment++) {
			if ((this.#bound[segment] as number) < n) continue;
			if (!this.#fold(segment, n)) {
				this.#bound[segment] = n - 1;
				continue;
			}
			for (let word = 0; word < 4; word++) {
				let hits = this.#starts[word] as number;
				while (hits !== 0) {
					const slot = (segment << 7) + (word << 5) + 31 - Math.clz32(hits & -hits);
					if (slot >= from && slot < to && (slot & (period - 1)) === 0) return slot;
					hits &= hits - 1;
				}
			}
		}
		return -1;
	}

	/** Slots of a segment at which n free ones start, in #starts. @returns whether there is any */
	#fold(segment: number, n: number): boolean {
		const starts = this.#starts;
		for (let i = 0; i < 4; i++) starts[i] = this.#free[(segment << 2) + i] as number;
		for (let have = 1; have < n; ) {
			const step = Math.min(have, n - have);
			const words = step >> 5;
			const bits = step & 31;
			for (let i = 0; i < 4; i++) {
				const low = starts[i + words] as number;
				const moved = bits === 0 ? low : (low >>> bits) | ((starts[i + words + 1] as number) << (32 - bits));
				starts[i] = (starts[i] as number) & moved;
			}
			have += step;
		}
		return ((starts[0] as number) | (starts[1] as number) | (starts[2] as number) | (starts[3] as number)) !== 0;
	}
}

/** Digest and random sequence: the same as assembly/bench/state.ts. */
export class PlainState {
	digest = 0;
	#seed = SEED;

	add(value: number): void {
		this.digest = Math.imul(this.digest ^ value, 0x01000193);
	}

	random(below: number): number {
		let x = this.#seed;
		x ^= x << 13;
		x ^= x >>> 17;
		x ^= x << 5;
		this.#seed = x;
		return (x >>> 0) % below;
	}
}
