/** Sets of bytes as ranges. */

type Range = readonly [from: number, to: number];

/** Bytes [from, to) of a number line, in disjoint ranges. */
export class RangeSet {
	/** Ascending, none touching the next. */
	readonly #ranges: Range[] = [];

	/** Index of the first range that ends at `at` or behind it. */
	#firstEndingAt(at: number): number {
		let low = 0;
		let high = this.#ranges.length;
		while (low < high) {
			const middle = (low + high) >> 1;
			if ((this.#ranges[middle] as Range)[1] < at) low = middle + 1;
			else high = middle;
		}
		return low;
	}

	/** Replaces the ranges that [from, to] meets or touches. */
	#replace(from: number, to: number, by: (met: readonly Range[]) => readonly Range[]): void {
		const first = this.#firstEndingAt(from);
		let end = first;
		while (end < this.#ranges.length && (this.#ranges[end] as Range)[0] <= to) end++;
		this.#ranges.splice(first, end - first, ...by(this.#ranges.slice(first, end)));
	}

	add(from: number, to: number): void {
		if (from >= to) return;
		this.#replace(from, to, (met) => [[Math.min(from, met[0]?.[0] ?? from), Math.max(to, met.at(-1)?.[1] ?? to)]]);
	}

	remove(from: number, to: number): void {
		if (from >= to) return;
		this.#replace(from, to, (met) =>
			met
				.flatMap(([start, end]): Range[] => [
					[start, Math.min(end, from)],
					[Math.max(start, to), end],
				])
				.filter(([start, end]) => start < end),
		);
	}

	/** The parts of [from, to) that are in the set. */
	within(from: number, to: number): [number, number][] {
		const parts: [number, number][] = [];
		if (from >= to) return parts;
		for (let i = this.#firstEndingAt(from); i < this.#ranges.length; i++) {
			const [start, end] = this.#ranges[i] as Range;
			if (start >= to) break;
			if (end > from) parts.push([Math.max(start, from), Math.min(end, to)]);
		}
		return parts;
	}

	/** The parts of [from, to) that are not in it. */
	missing(from: number, to: number): [number, number][] {
		const missing: [number, number][] = [];
		let at = from;
		for (const [start, end] of this.within(from, to)) {
			if (start > at) missing.push([at, start]);
			at = end;
		}
		if (at < to) missing.push([at, to]);
		return missing;
	}

	get ranges(): readonly (readonly [number, number])[] {
		return this.#ranges;
	}
}

/** Bytes of disjoint ranges together. */
export function bytesOf(ranges: readonly (readonly [number, number])[]): number {
	return ranges.reduce((sum, [from, to]) => sum + to - from, 0);
}
