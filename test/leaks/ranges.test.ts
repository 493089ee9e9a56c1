import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bytesOf, RangeSet } from "../../src/leaks/ranges.ts";
import { printSeed, SEED } from "../helpers/random.ts";

printSeed("ranges");

const LENGTH = 64;
const bound = fc.integer({ min: 0, max: LENGTH });
const step = fc.record({ add: fc.boolean(), from: bound, to: bound });

/** Disjoint ranges of the bytes that are set. */
function rangesOf(set: readonly boolean[], from: number, to: number, wanted: boolean): [number, number][] {
	const ranges: [number, number][] = [];
	for (let at = from; at < to; at++) {
		if (set[at] !== wanted) continue;
		const last = ranges.at(-1);
		if (last !== undefined && last[1] === at) last[1] = at + 1;
		else ranges.push([at, at + 1]);
	}
	return ranges;
}

describe("a set of ranges", () => {
	it("holds what was added and not removed, byte for byte", () => {
		fc.assert(
			fc.property(fc.array(step, { maxLength: 40 }), bound, bound, (steps, from, to) => {
				const set = new RangeSet();
				const bytes = new Array<boolean>(LENGTH).fill(false);
				for (const { add, from, to } of steps) {
					if (add) set.add(from, to);
					else set.remove(from, to);
					for (let at = from; at < to; at++) bytes[at] = add;
				}
				expect(set.ranges).toEqual(rangesOf(bytes, 0, LENGTH, true));
				expect(set.within(from, to)).toEqual(rangesOf(bytes, from, to, true));
				expect(set.missing(from, to)).toEqual(rangesOf(bytes, from, to, false));
				expect(bytesOf(set.ranges)).toBe(bytes.filter(Boolean).length);
			}),
			{ seed: SEED, numRuns: 2000 },
		);
	});
});
