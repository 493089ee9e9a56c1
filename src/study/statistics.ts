/** Medians, percentiles and the clock's own cost. */

export interface Percentiles {
	readonly p50Ns: number;
	readonly p99Ns: number;
	readonly p999Ns: number;
	readonly maxNs: number;
	/** The whole curve: share of requests (0 to 1) and ns. */
	readonly curve: readonly { readonly quantile: number; readonly ns: number }[];
}

/** Requests of one size. */
export interface SizeClass {
	readonly bytes: number;
	readonly requests: number;
	readonly medianNs: number;
}

/** Points of the curve, denser towards the tail. */
const QUANTILES = [0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1];

/** The value below which the share `quantile` of sorted values lies (nearest rank). */
function quantileOf(sorted: Float64Array, quantile: number): number {
	const rank = Math.ceil(quantile * sorted.length);
	return sorted[Math.min(Math.max(rank, 1), sorted.length) - 1] as number;
}

export function median(values: readonly number[] | Float64Array): number {
	return quantileOf(Float64Array.from(values).sort(), 0.5);
}

export function percentiles(values: Float64Array): Percentiles {
	const sorted = Float64Array.from(values).sort();
	return {
		p50Ns: quantileOf(sorted, 0.5),
		p99Ns: quantileOf(sorted, 0.99),
		p999Ns: quantileOf(sorted, 0.999),
		maxNs: quantileOf(sorted, 1),
		curve: QUANTILES.map((quantile) => ({ quantile, ns: quantileOf(sorted, quantile) })),
	};
}

/** Median ns for each power of two of request size that occurs, in ascending order; a class holds sizes up to its bytes. */
export function sizeClasses(requests: readonly { readonly bytes: number }[], times: Float64Array): SizeClass[] {
	const classes = new Map<number, number[]>();
	for (const [i, { bytes }] of requests.entries()) {
		const limit = 2 ** Math.ceil(Math.log2(bytes));
		const list = classes.get(limit);
		if (list === undefined) classes.set(limit, [times[i] as number]);
		else list.push(times[i] as number);
	}
	return [...classes]
		.sort(([a], [b]) => a - b)
		.map(([bytes, list]) => ({ bytes, requests: list.length, medianNs: median(list) }));
}

/** What one reading of performance.now() adds to an interval: the median of intervals with nothing in them (ns). */
export function clockCostNs(): number {
	const samples = new Float64Array(20001);
	for (let i = 0; i < samples.length; i++) {
		const start = performance.now();
		samples[i] = (performance.now() - start) * 1e6;
	}
	return median(samples);
}
