/** Medians and their spread, ratios and what noise leaves of them, percentiles, and the clock's own cost. */

/** Samples of one figure, in their unit: the median, and the quartiles around it. */
export interface Spread {
	readonly median: number;
	readonly lower: number;
	readonly upper: number;
}

/** One figure by another, measured in turns. */
export interface Ratio {
	/** Median by median. */
	readonly value: number;
	/** Where the ratio may lie, given the samples' spread and what two processes of the same work differ by. */
	readonly low: number;
	readonly high: number;
	/** Whether that takes in 1: no difference was measured. */
	readonly isEqual: boolean;
}

/** Of each figure: null where it is below the clock, not above what reading the clock around a request costs. */
export interface Percentiles {
	readonly p50Ns: number | null;
	readonly p99Ns: number | null;
	readonly p999Ns: number | null;
	readonly maxNs: number | null;
	/** The whole curve: share of requests (0 to 1) and ns. */
	readonly curve: readonly { readonly quantile: number; readonly ns: number | null }[];
}

/** Requests of one size. */
export interface SizeClass {
	readonly bytes: number;
	readonly requests: number;
	/** Null: below the clock. */
	readonly medianNs: number | null;
}

/** Points of the curve, denser towards the tail. */
const QUANTILES = [0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1];

/**
 * Two processes that do the same differ by up to this share however often each is timed: where their memory lies decides it
 * (test/slow/same-work.test.ts prints by how much).
 */
const PROCESS_NOISE = 0.1;
/** With fewer samples than this no spread is known, and a ratio is taken to be off by this share. */
const ENOUGH_SAMPLES = 6;
const UNKNOWN_NOISE = 0.25;

/** The value below which the share `quantile` of sorted values lies (nearest rank). */
function quantileOf(sorted: Float64Array, quantile: number): number {
	const rank = Math.ceil(quantile * sorted.length);
	return sorted[Math.min(Math.max(rank, 1), sorted.length) - 1] as number;
}

function ascending(values: readonly number[] | Float64Array): Float64Array {
	return Float64Array.from(values).sort();
}

export function median(values: readonly number[] | Float64Array): number {
	return quantileOf(ascending(values), 0.5);
}

/** @param values one or more */
export function spreadOf(values: readonly number[]): Spread {
	const sorted = ascending(values);
	return { median: quantileOf(sorted, 0.5), lower: quantileOf(sorted, 0.25), upper: quantileOf(sorted, 0.75) };
}

/**
 * Ranks between which the median of what `count` samples are drawn from lies, 99 times in 100 or as often as so few can tell, by
 * the binomial distribution. From 1 on.
 */
function medianRanks(count: number): readonly [number, number] {
	let [below, chance] = [0, 0.5 ** count];
	for (let next = chance; below < Math.floor((count - 1) / 2); below++) {
		next = (next * (count - below)) / (below + 1);
		if (chance + next > 0.005) break;
		chance += next;
	}
	return [below + 1, count - below];
}

/** Where the median lies that samples are drawn from (see medianRanks). */
function medianRange(values: readonly number[]): readonly [number, number] {
	const sorted = ascending(values);
	const [first, last] = medianRanks(sorted.length);
	return [sorted[first - 1] as number, sorted[last - 1] as number];
}

/**
 * Compares samples that were taken in turns: sample i of the one beside sample i of the other.
 * @param base what is divided by
 * @param value the ratio of the figures that are shown. Default: of the samples' medians
 * @returns null without samples, or by a median of 0
 */
export function ratioOf(
	values: readonly number[],
	base: readonly number[],
	value = medians(values, base),
): Ratio | null {
	const pairs = Array.from({ length: Math.min(values.length, base.length) }, (_, i) => i).filter(
		(i) => (base[i] as number) > 0,
	);
	if (pairs.length === 0 || !Number.isFinite(value)) return null;
	const [low, high] = medianRange(pairs.map((i) => (values[i] as number) / (base[i] as number)));
	const noise = value * (pairs.length < ENOUGH_SAMPLES ? UNKNOWN_NOISE : PROCESS_NOISE);
	const range = { low: Math.min(low, value - noise), high: Math.max(high, value + noise) };
	return { value, ...range, isEqual: range.low <= 1 && range.high >= 1 };
}

/** Median by median; not finite by a median of 0, or without samples. */
function medians(values: readonly number[], base: readonly number[]): number {
	const pairs = Math.min(values.length, base.length);
	return pairs === 0 ? Number.NaN : median(values.slice(0, pairs)) / median(base.slice(0, pairs));
}

/** Whether differences, sample by sample, are nothing that was measured. @param scale what they are a part of */
export function isNoise(differences: readonly number[], scale: number): boolean {
	const [low, high] = medianRange(differences);
	const share = differences.length < ENOUGH_SAMPLES ? UNKNOWN_NOISE : PROCESS_NOISE;
	return (low <= 0 && high >= 0) || Math.abs(median(differences)) <= scale * share;
}

/** Above the clock, or null. */
function seen(ns: number, leastNs: number): number | null {
	return ns > leastNs ? ns : null;
}

/**
 * @param values one or more
 * @param leastNs what is not above this is below the clock
 */
export function percentiles(values: Float64Array, leastNs: number): Percentiles {
	const sorted = ascending(values);
	const at = (quantile: number) => seen(quantileOf(sorted, quantile), leastNs);
	return {
		p50Ns: at(0.5),
		p99Ns: at(0.99),
		p999Ns: at(0.999),
		maxNs: at(1),
		curve: QUANTILES.map((quantile) => ({ quantile, ns: at(quantile) })),
	};
}

/**
 * Median ns for each power of two of request size that occurs, in ascending order; a class holds sizes up to its bytes.
 * @param times of each request
 * @param leastNs what is not above this is below the clock
 */
export function sizeClasses(
	requests: readonly { readonly bytes: number }[],
	times: Float64Array,
	leastNs: number,
): SizeClass[] {
	const classes = new Map<number, number[]>();
	for (const [i, { bytes }] of requests.entries()) {
		const limit = 2 ** Math.ceil(Math.log2(bytes));
		const list = classes.get(limit);
		if (list === undefined) classes.set(limit, [times[i] as number]);
		else list.push(times[i] as number);
	}
	return [...classes]
		.sort(([a], [b]) => a - b)
		.map(([bytes, list]) => ({ bytes, requests: list.length, medianNs: seen(median(list), leastNs) }));
}

/** The median of each column. @param rows of one length, one or more */
export function columnMedians(rows: readonly Float64Array[]): Float64Array {
	return Float64Array.from(rows[0] as Float64Array, (_, i) => median(rows.map((row) => row[i] as number)));
}

/**
 * What timing one call adds to it (ns): the median of calls that do nothing, timed in the same way; at least the clock's step.
 * @param empty calls what is timed, with nothing to do
 */
export function clockCostNs(empty: () => void): number {
	const samples = new Float64Array(20001);
	for (let i = 0; i < samples.length; i++) {
		const start = performance.now();
		empty();
		samples[i] = (performance.now() - start) * 1e6;
	}
	const step = samples.reduce((least, ns) => (ns > 0 ? Math.min(least, ns) : least), Number.POSITIVE_INFINITY);
	return Math.max(median(samples), Number.isFinite(step) ? step : 0);
}
