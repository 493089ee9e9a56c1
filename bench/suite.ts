/** What a benchmark suite is made of. */

/** What a case's times have to fulfil: a ratio or a difference of two variants' medians. */
export interface Target {
	readonly of: string;
	readonly over?: string;
	readonly minus?: string;
	readonly atLeast?: number;
	readonly atMost?: number;
}

/** One row: the same work done by each variant. */
export interface Case {
	readonly name: string;
	/** Payload of one operation (bytes), for GB/s. */
	readonly bytes?: number;
	/** "ns" (per operation) unless said otherwise. */
	readonly unit?: "ns" | "bytes";
	readonly targets?: readonly Target[];
}

/** A case in one variant, set up in its own process. */
export interface Runner {
	/** Runs a fixed piece of the work from the start and answers a digest of every address and byte. */
	check(): string;
	/** Runs `ops` operations. */
	batch(ops: number): void;
	/** A batch lasts at least this long (ns), so that its start does not count. Default 100,000. */
	readonly sampleNs?: number;
	/** Instead of timing batches: one measurement in the case's unit. */
	measure?(): number;
	close?(): void;
}

export interface Suite<C extends Case = Case> {
	readonly name: string;
	/** What is timed and what it is compared with; printed above the table. */
	readonly about: string;
	readonly variants: readonly string[];
	readonly cases: readonly C[];
	/** The runner of a case, or null when the variant has no part in it. */
	open(variant: string, of: C): Promise<Runner | null>;
	/** Flags of the variant's process. */
	flags?(variant: string): readonly string[];
	/** A line about all rows together. */
	summary?(ns: (caseName: string, variant: string) => number | undefined): string;
}

/** Median of numbers; NaN of none. */
export function median(values: readonly number[]): number {
	const sorted = [...values].sort((a, b) => a - b);
	const middle = sorted.length >> 1;
	const upper = sorted[middle] ?? Number.NaN;
	return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}
