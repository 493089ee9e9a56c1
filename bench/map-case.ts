/** One row of suite map. */
import type { Direction } from "../src/types.ts";
import type { Case } from "./suite.ts";

export interface MapCase extends Case {
	readonly bytes: number;
	readonly dir: Direction;
	readonly poolBytes: number;
	readonly minAlignMask: number;
	/** Bytes between two originals. */
	readonly step: number;
	/** zeroing: a pool that zeroes slots when they are given back (zeroOnFree) beside one that does not. */
	readonly kind: "bounce" | "direct" | "workers" | "zeroing";
}
