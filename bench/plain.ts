/**
 * The baseline without WebAssembly: the same slot rule in plain TypeScript, on a bitmap of 32-bit words, and buffers copied
 * with copyWithin. One area, aligned originals, strides of 1 or 2 slots, no boundary: what the suites need.
 */
import { PAGE_SIZE } from "../assembly/layout/context.ts";
import { SEED } from "./stage.ts";

const SEGMENT = 128;

/** Each slot, or every second one of a word: the starts that an alignment of 1 or 2 slots allows. */
const STARTS = [0, -1, 0x55555555] as const;

/** The lowest set bit of a word that is not 0. */
function lowestBit(word: number): number {
	return 31 - Math.clz32(word & -word);
}

/** The best that we can write without WebAssembly: words instead of slots wherever a slot would do. */
export class PlainSlots {
	readonly #free: Int32Array;
	/** Upper bound of each segment's longest free run, less 1: 0 to 127. */
	readonly #bound: Uint8Array;
	/** The same, four to a word. */
	readonly #bounds: Int32Array;
	readonly #slots: number;
	readonly #count: Uint8Array;
	#index = 0;
	#used = 0;
	/** Upper bound of the longest free run of all segments. */
	#most = SEGMENT;
	/** Whether the last search met a run that was long enough, wherever it starts. */
	#met = false;

	constructor(slots: number) {
		this.#slots = slots;
		this.#free = new Int32Array(slots / 32).fill(-1);
		this.#bound = new Uint8Array(Math.ceil(slots / SEGMENT / 4) * 4).fill(SEGMENT - 1);
		this.#bounds = new Int32Array(this.#bound.buffer);
		this.#count = new Uint8Array(slots);
	}

	/** @returns the first slot, or -7 (POOL_FULL) or -8 (OVER_MAX_MAPPING) */
	take(bytes: number, minAlignMask: number): number {
		const n = (bytes + 2047) >> 11;
		if (n > SEGMENT) return -8;
		if (n > this.#slots - this.#used || n > this.#most) return -7;
		const mask = minAlignMask === 0 && bytes >= PAGE_SIZE ? PAGE_SIZE - 1 : minAlignMask;
		const period = (mask >> 11) + 1;
		const first = (this.#index + period - 1) & -period;
		this.#met = false;
		let slot = this.#fits(first, n) ? first : this.#search(first, this.#slots, period, n);
		if (slot < 0) slot = this.#search(0, this.#index, period, n);
		if (slot < 0) {
			if (!this.#met) this.#most = n - 1;
			return -7;
		}
		this.#take(slot, n);
		this.#count[slot] = n;
		this.#index = slot + n >= this.#slots ? 0 : slot + n;
		this.#used += n;
		return slot;
	}

	give(slot: number): void {
		const n = this.#count[slot] as number;
		const free = this.#free;
		const end = slot + n;
		let word = slot >> 5;
		const last = (end - 1) >> 5;
		const at = slot & 31;
		const head = -1 << at;
		const tail = -1 >>> (31 - ((end - 1) & 31));
		if (word === last) free[word] = (free[word] as number) | (head & tail);
		else {
			free[word] = (free[word] as number) | head;
			for (let full = word + 1; full < last; full++) free[full] = -1;
			free[last] = (free[last] as number) | tail;
		}
		this.#used -= n;
		// the free run that it joined, within its segment
		let run = n;
		const segment = slot >> 7;
		let below = at === 0 ? 0 : Math.clz32(~((free[word] as number) << (32 - at)));
		run += below;
		if (below === at)
			for (const firstWord = segment << 2; word > firstWord; ) {
				below = Math.clz32(~(free[--word] as number));
				run += below;
				if (below < 32) break;
			}
		const behind = end & 31;
		const endOfSegment = (segment + 1) << 2;
		word = end >> 5;
		if (word < endOfSegment) {
			const used = ~((free[word] as number) >>> behind);
			let above = used === 0 ? 32 : Math.min(lowestBit(used), 32 - behind);
			run += above;
			if (above === 32 - behind)
				for (word++; word < endOfSegment; word++) {
					const others = ~(free[word] as number);
					above = others === 0 ? 32 : lowestBit(others);
					run += above;
					if (above < 32) break;
				}
		}
		if (run > (this.#bound[segment] as number) + 1) this.#bound[segment] = run - 1;
		if (run > this.#most) this.#most = run;
	}

	forget(): void {
		this.#bound.fill(SEGMENT - 1);
		this.#most = SEGMENT;
	}

	/** Whether n slots from `slot` on are free, in one segment. */
	#fits(slot: number, n: number): boolean {
		const end = slot + n;
		if (slot >= this.#slots || slot >> 7 !== (end - 1) >> 7) return false;
		const free = this.#free;
		const word = slot >> 5;
		const last = (end - 1) >> 5;
		const head = -1 << (slot & 31);
		const tail = -1 >>> (31 - ((end - 1) & 31));
		if (word === last) return (~(free[word] as number) & head & tail) === 0;
		if ((~(free[word] as number) & head) !== 0 || (~(free[last] as number) & tail) !== 0) return false;
		for (let full = word + 1; full < last; full++) if (free[full] !== -1) return false;
		return true;
	}

	#take(slot: number, n: number): void {
		const free = this.#free;
		const end = slot + n;
		const word = slot >> 5;
		const last = (end - 1) >> 5;
		const head = -1 << (slot & 31);
		const tail = -1 >>> (31 - ((end - 1) & 31));
		if (word === last) {
			free[word] = (free[word] as number) & ~(head & tail);
			return;
		}
		free[word] = (free[word] as number) & ~head;
		for (let full = word + 1; full < last; full++) free[full] = 0;
		free[last] = (free[last] as number) & ~tail;
	}

	/** Lowest slot in [from, to) at a multiple of `period` at which n slots are free. */
	#search(from: number, to: number, period: number, n: number): number {
		if (from >= to) return -1;
		const free = this.#free;
		const bound = this.#bound;
		const allowed = STARTS[period as 1 | 2];
		const last = (to - 1) >> 7;
		const bounds = this.#bounds;
		const least = n - 1;
		const leastOfFour = least * 0x01010101;
		for (let segment = from >> 7; segment <= last; segment++) {
			if ((segment & 3) === 0) {
				// the high bit of a byte stays where its bound is no less than the least
				while (segment <= last && ((((bounds[segment >> 2] as number) | 0x80808080) - leastOfFour) & 0x80808080) === 0)
					segment += 4;
				if (segment > last) break;
			}
			if ((bound[segment] as number) < least) continue;
			const base = segment << 2;
			let a = free[base] as number;
			let b = free[base + 1] as number;
			let c = free[base + 2] as number;
			let d = free[base + 3] as number;
			for (let have = 1; have < n; ) {
				let step = Math.min(have, n - have);
				have += step;
				if (step >= 32) {
					// steps are at most 64: whole words, and what is left of them
					let [x, y, z] = [b, c, d];
					if (step >= 64) {
						x = c;
						y = d;
						z = 0;
					}
					step &= 31;
					if (step === 0) {
						a &= x;
						b &= y;
						c &= z;
						d = 0;
					} else {
						a &= (x >>> step) | (y << (32 - step));
						b &= (y >>> step) | (z << (32 - step));
						c &= z >>> step;
						d = 0;
					}
				} else {
					a &= (a >>> step) | (b << (32 - step));
					b &= (b >>> step) | (c << (32 - step));
					c &= (c >>> step) | (d << (32 - step));
					d &= d >>> step;
				}
				if ((a | b | c | d) === 0) break;
			}
			if ((a | b | c | d) === 0) {
				// n is 2 or more here, or the segment has no free slot
				bound[segment] = Math.max(n - 2, 0);
				continue;
			}
			this.#met = true;
			const lowest = from - (segment << 7);
			a &= allowed;
			b &= allowed;
			c &= allowed;
			d &= allowed;
			// below the first slot that counts
			if (lowest > 0) {
				if (lowest >= 96) {
					a = b = c = 0;
					d &= -1 << (lowest - 96);
				} else if (lowest >= 64) {
					a = b = 0;
					c &= -1 << (lowest - 64);
				} else if (lowest >= 32) {
					a = 0;
					b &= -1 << (lowest - 32);
				} else a &= -1 << lowest;
			}
			const start = segment << 7;
			const slot =
				a !== 0
					? start + lowestBit(a)
					: b !== 0
						? start + 32 + lowestBit(b)
						: c !== 0
							? start + 64 + lowestBit(c)
							: d !== 0
								? start + 96 + lowestBit(d)
								: to;
			if (slot < to) return slot;
		}
		return -1;
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
