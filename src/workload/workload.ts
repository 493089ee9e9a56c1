/** A workload: what a trace says that devices were asked to do, in order. */

/** One request that moves data. */
export interface Request {
	/** True for a read: the device writes memory. */
	readonly read: boolean;
	/** Data bytes, above 0. */
	readonly bytes: number;
	/** First sector of 512 bytes on the device, modulo 2^40. */
	readonly sector: number;
	/** CPU that issued it. */
	readonly cpu: number;
}

/** What a reader saw besides the requests. */
export interface TraceCounters {
	/** Lines of the format's events. */
	readonly eventLines: number;
	readonly issues: number;
	readonly completions: number;
	/** Issues that move data: the workload's requests. */
	readonly dataRequests: number;
	/** Issues of flushes and other requests without data. */
	readonly issuesWithoutData: number;
	/** Completions of zero length. */
	readonly zeroLengthCompletions: number;
	/** Completions with data that no live issue has. */
	readonly unmatchedCompletions: number;
	/** Issues on a device and sector that are still live: the old one is completed. */
	readonly reissues: number;
	/** Requests still live at the end of the trace: completed there. */
	readonly drained: number;
	/** Lines that break the grammar. */
	readonly malformedLines: number;
	/** Well-formed lines of other events. */
	readonly otherLines: number;
}

export interface Workload {
	/** What errors and results call it: a trace's path, where it was read from a file. */
	readonly name: string;
	readonly requests: readonly Request[];
	/** In order: request number times 2, plus 1 for its completion. Each request is issued and completed once. */
	readonly events: Uint32Array;
	/** When each event happened, from the first on (ns). */
	readonly timesNs: Float64Array;
	readonly counters: TraceCounters;
	/** CPUs of the trace: one above the highest that issued. */
	readonly cpus: number;
}

/** Data bytes of all requests. */
export function totalBytes({ requests }: Pick<Workload, "requests">): number {
	return requests.reduce((sum, { bytes }) => sum + bytes, 0);
}
