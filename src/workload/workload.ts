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
	/** Issues on a device and sector that are still live: the old request's completion was lost. */
	readonly reissues: number;
	/** Requests still live at the end of the trace: completed there, but for those that outlived. */
	readonly drained: number;
	/** Of these: live for more than LOST_AFTER times the longest completed request, so that their completions were lost. */
	readonly outlived: number;
	/** The longest time from an issue to its own completion (ns); 0 where the trace has no completions. */
	readonly longestNs: number;
	/** Requests in flight, as it was asked for a trace without completions; null: the trace says when its requests complete. */
	readonly iodepth: number | null;
	/** Places at which the recorder says that it lost events, and how many it says that they were. */
	readonly lossMarkers: number;
	readonly lostEvents: number;
	/** Events that were overwritten before the trace was read, as its head says. */
	readonly overwrittenEvents: number;
	/** Whether events are missing by the recorder's own word: every figure of the trace is a lower bound then. */
	readonly isLowerBound: boolean;
	/** Lines that break the grammar. */
	readonly malformedLines: number;
	/** Well-formed lines of other events. */
	readonly otherLines: number;
}

/** A request that lives this many times as long as the longest completed one lost its completion: no slower device is to be thought of. */
export const LOST_AFTER = 10;

export interface Workload {
	/** What errors and results call it: a trace's path, where it was read from a file. */
	readonly name: string;
	readonly requests: readonly Request[];
	/**
	 * In order: request number times 2, plus 1 for its completion. Each request is issued and completed once; one whose completion
	 * was lost is completed at once.
	 */
	readonly events: Uint32Array;
	/** The same, but a request whose completion was lost is held until its sector is issued again, or to the end. Absent: none was lost. */
	readonly heldEvents?: Uint32Array;
	/** Line of each request's issue in its trace, from 1 on. Absent: it comes from no trace. */
	readonly lines?: Uint32Array;
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
