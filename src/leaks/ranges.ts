/** Sets of bytes as ranges. */

/** Bytes [from, to) of a number line, in disjoint ranges. */
export class RangeSet {
	/** Ascending, none touching the next. */
	#ranges: (readonly [number, number])[] = [];

	add(from: number, to: number): void {
		if (from >= to) return;
		const apart = this.#ranges.filter(([start, end]) => end < from || start > to);
		const met = this.#ranges.filter(([start, end]) => end >= from && start <= to);
		const whole = [Math.min(from, ...met.map(([start]) => start)), Math.max(to, ...met.map(([, end]) => end))] as const;
		this.#ranges = [...apart, whole].sort((a, b) => a[0] - b[0]);
	}

	remove(from: number, to: number): void {
		this.#ranges = this.#ranges
			.flatMap(([start, end]): [number, number][] => [
				[start, Math.min(end, from)],
				[Math.max(start, to), end],
			])
			.filter(([start, end]) => start < end);
	}

	/** The parts of [from, to) that are in the set. */
	within(from: number, to: number): [number, number][] {
		return this.#ranges
			.map(([start, end]): [number, number] => [Math.max(start, from), Math.min(end, to)])
			.filter(([start, end]) => start < end);
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
