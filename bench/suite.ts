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
	/** Those that time this package itself, for --against. Default: the first. */
	readonly engine?: readonly string[];
	readonly cases: readonly C[];
	/** The runner of a case, or null when the variant has no part in it. */
	open(variant: string, of: C): Promise<Runner | null>;
	/** Flags of the variant's process. */
	flags?(variant: string): readonly string[];
	/** A line about all rows together. */
	summary?(ns: (caseName: string, variant: string) => number | undefined): string;
}

/** One variant's part in a case. */
export interface Measured {
	/** Median over the rounds of each round's median: ns per operation, or, in a case of bytes, bytes. */
	readonly nsPerOp?: number;
	readonly bytes?: number;
	/** The same of each round. */
	readonly roundsNsPerOp?: readonly number[];
	readonly roundsBytes?: readonly number[];
	readonly samples: number;
	readonly opsPerSample: number;
}

/** What was measured, in its unit; NaN of nothing. */
export function measuredValue(measured: Measured | undefined): number {
	return measured?.nsPerOp ?? measured?.bytes ?? Number.NaN;
}

/** A target, and what was found. */
export interface Judged {
	readonly target: Target;
	/** A ratio of two variants, or a difference or value in the case's unit. */
	readonly ratio?: number;
	readonly nsPerOp?: number;
	readonly bytes?: number;
	readonly pass: boolean;
}

/** Judges what was measured by a target. */
export function judge(target: Target, unit: "ns" | "bytes", variants: Readonly<Record<string, Measured>>): Judged {
	const of = measuredValue(variants[target.of]);
	const over = target.over === undefined ? 1 : measuredValue(variants[target.over]);
	const minus = target.minus === undefined ? 0 : measuredValue(variants[target.minus]);
	const value = of / over - minus;
	// a negative difference is noise, and meets nothing
	const pass = value >= (target.atLeast ?? 0) && value <= (target.atMost ?? Number.POSITIVE_INFINITY);
	if (target.over !== undefined) return { target, ratio: value, pass };
	return unit === "bytes" ? { target, bytes: value, pass } : { target, nsPerOp: value, pass };
}

/** The rounds of what was measured, in its unit. */
export function measuredRounds(measured: Measured | undefined): readonly number[] {
	return measured?.roundsNsPerOp ?? measured?.roundsBytes ?? [];
}

/** The q-quantile of numbers, 0 to 1, by linear interpolation; NaN of none. */
export function quantile(values: readonly number[], q: number): number {
	const sorted = [...values].sort((a, b) => a - b);
	const at = q * (sorted.length - 1);
	const [below, above] = [sorted[Math.floor(at)] ?? Number.NaN, sorted[Math.ceil(at)] ?? Number.NaN];
	return below + (above - below) * (at - Math.floor(at));
}

/** Median of numbers; NaN of none. */
export function median(values: readonly number[]): number {
	const sorted = [...values].sort((a, b) => a - b);
	const middle = sorted.length >> 1;
	const upper = sorted[middle] ?? Number.NaN;
	return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

/** A row that both builds have. */
export interface AgainstRow {
	readonly name: string;
	/** Medians over the rounds (ns an operation). */
	readonly beforeNs: number;
	readonly nowNs: number;
	/** Now / before of each round: median and quartiles. */
	readonly ratio: number;
	readonly low: number;
	readonly high: number;
	/** "slower" or "faster": by more than 5 %, and in three rounds of four. */
	readonly verdict: "slower" | "faster" | "same";
}

/** A median this far from 1 can be the machine's doing. */
const NOISE = 0.05;

/** What the rounds of a row say. A change counts when the median and three rounds of four say it. */
export function compareRounds(name: string, before: readonly number[], now: readonly number[]): AgainstRow {
	const ratios = now.map((ns, i) => ns / (before[i] as number));
	const ratio = median(ratios);
	const [low, high] = [quantile(ratios, 0.25), quantile(ratios, 0.75)];
	const verdict = ratio > 1 + NOISE && low > 1 ? "slower" : ratio < 1 - NOISE && high < 1 ? "faster" : "same";
	return { name, beforeNs: median(before), nowNs: median(now), ratio, low, high, verdict };
}
