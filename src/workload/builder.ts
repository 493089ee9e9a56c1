/** Makes a workload of what a trace's reader finds: when a request begins and ends, whatever the format. */
import { InputError } from "../input-error.ts";
import { LOST_AFTER, type Request, type TraceCounters, type Workload } from "./workload.ts";

/** No queue of a device is deeper (NVMe: 64 Ki entries). */
const MAX_IODEPTH = 65536;
/** More malformed lines than this share of the lines is an error. */
const MAX_MALFORMED_SHARE = 0.01;

/** A line that breaks its format's grammar: in a line, the field and what was expected there. */
export class MalformedLine extends Error {}

/** What is told to a reader of traces besides the trace. */
export interface BuilderOptions {
	/**
	 * For a trace without completions: a request completes right before the one that is so many issues behind it, so that so many
	 * are in flight. 1 or more.
	 */
	readonly iodepth?: number;
}

/**
 * Collects requests and events as the lines come. A request lives from its issue to its completion, which finds it by a key.
 * An issue on a live key says that the old request's completion was lost; so does a life of more than LOST_AFTER times that of
 * the longest completed request. Nobody knows when those ended: they are completed at once, and held as long as they can have
 * lived in `heldEvents`. What else is live at the end is completed there.
 */
export class WorkloadBuilder {
	readonly #name: string;
	readonly #iodepth: number | null;
	readonly #requests: Request[] = [];
	readonly #lines: number[] = [];
	readonly #issuedNs: number[] = [];
	/** Numbers of the requests whose sector was issued again. */
	readonly #lost = new Set<number>();
	readonly #events: number[] = [];
	readonly #timesNs: number[] = [];
	/** Numbers of the live requests, in order of issue. */
	readonly #live = new Map<string, number>();
	readonly #count = {
		eventLines: 0,
		issues: 0,
		completions: 0,
		dataRequests: 0,
		issuesWithoutData: 0,
		zeroLengthCompletions: 0,
		unmatchedCompletions: 0,
		reissues: 0,
		malformedLines: 0,
		otherLines: 0,
		lossMarkers: 0,
		lostEvents: 0,
		overwrittenEvents: 0,
	};
	/** Completions that found their issue. */
	#matched = 0;
	#longestNs = 0;
	#lastNs = 0;
	#line = 0;
	#firstMalformed: { readonly line: number; readonly reason: string } | null = null;

	/**
	 * @param name of the trace, for errors and results
	 * @throws RangeError for an iodepth that is none
	 */
	constructor(name: string, { iodepth }: BuilderOptions = {}) {
		if (iodepth !== undefined && !(Number.isInteger(iodepth) && iodepth >= 1 && iodepth <= MAX_IODEPTH))
			throw new RangeError(`iodepth: expected a whole number from 1 to ${MAX_IODEPTH}, not ${iodepth}`);
		this.#name = name;
		this.#iodepth = iodepth ?? null;
	}

	/** Reads the next line. @param read tells what it says, and throws MalformedLine where it breaks the grammar */
	line(read: () => void): void {
		this.#line++;
		try {
			read();
		} catch (error) {
			if (!(error instanceof MalformedLine)) throw error;
			this.#count.malformedLines++;
			this.#firstMalformed ??= { line: this.#line, reason: error.message };
		}
	}

	/** A line of an event that is none of the format's. */
	other(timeNs: number): void {
		this.#lastNs = timeNs;
		this.#count.otherLines++;
	}

	/** The recorder lost events here. @param events how many, 0 where it does not say */
	lost(events: number): void {
		this.#count.lossMarkers++;
		this.#count.lostEvents += events;
	}

	/** The recorder overwrote events before the trace was read. @param events how many */
	overwritten(events: number): void {
		this.#count.overwrittenEvents += events;
	}

	/** A request begins. @param request null for one that moves no data */
	issue(timeNs: number, key: string, request: Request | null): void {
		this.#lastNs = timeNs;
		this.#count.eventLines++;
		this.#count.issues++;
		if (request === null) {
			this.#count.issuesWithoutData++;
			return;
		}
		const old = this.#live.get(key);
		if (old !== undefined) {
			this.#count.reissues++;
			if (this.#iodepth === null) this.#lost.add(old);
			this.#end(key, old);
		}
		if (this.#iodepth !== null && this.#live.size >= this.#iodepth)
			for (const [oldest, first] of this.#live) {
				this.#end(oldest, first);
				break;
			}
		const number = this.#requests.length;
		this.#requests.push(request);
		this.#lines.push(this.#line);
		this.#issuedNs.push(timeNs);
		this.#happened(number * 2);
		this.#live.set(key, number);
		this.#count.dataRequests++;
	}

	/** A request ends. @param moved whether it moved data: of "nothing" (no data by its kind) and of length "zero" no issue is sought */
	complete(timeNs: number, key: string, moved: "data" | "zero" | "nothing"): void {
		if (this.#iodepth !== null)
			throw new RangeError(
				`iodepth: goes with a trace without completions; ${this.#name}:${this.#line} says when a request completes`,
			);
		this.#lastNs = timeNs;
		this.#count.eventLines++;
		this.#count.completions++;
		if (moved === "zero") this.#count.zeroLengthCompletions++;
		if (moved !== "data") return;
		const number = this.#live.get(key);
		if (number === undefined) {
			this.#count.unmatchedCompletions++;
			return;
		}
		this.#matched++;
		this.#longestNs = Math.max(this.#longestNs, timeNs - (this.#issuedNs[number] as number));
		this.#end(key, number);
	}

	#end(key: string, number: number): void {
		this.#live.delete(key);
		this.#happened(number * 2 + 1);
	}

	#happened(event: number): void {
		this.#events.push(event);
		this.#timesNs.push(this.#lastNs);
	}

	/**
	 * The workload.
	 * @throws InputError that names the first malformed line, where they are more than 1 %; for a trace without a request, and
	 * for one without completions and no iodepth in their place
	 */
	finish(): Workload {
		const { eventLines, malformedLines, otherLines } = this.#count;
		const lines = eventLines + malformedLines + otherLines;
		if (malformedLines > lines * MAX_MALFORMED_SHARE && this.#firstMalformed !== null) {
			const { line, reason } = this.#firstMalformed;
			throw new InputError(
				`${this.#name}:${line}: ${reason} (${malformedLines} of ${lines} lines are malformed, more than 1 %)`,
			);
		}
		const { length } = this.#requests;
		if (length === 0) throw new InputError(`${this.#name}: holds no request that moves data`);
		if (this.#matched === 0 && this.#iodepth === null)
			throw new InputError(
				`${this.#name}: holds no completion of any request (issued: ${length}): how many requests are in flight, and so how much of the pool they use, cannot be told. Say it with --iodepth N, or record the completions (block_rq_complete) too`,
			);
		const drained = this.#live.size;
		const outlived = this.#iodepth === null ? this.#outlived() : [];
		for (const number of outlived) this.#lost.add(number);
		for (const number of this.#live.values()) this.#happened(number * 2 + 1);
		const { lossMarkers, overwrittenEvents } = this.#count;
		const counters: TraceCounters = {
			...this.#count,
			drained,
			outlived: outlived.length,
			longestNs: this.#longestNs,
			iodepth: this.#iodepth,
			isLowerBound: lossMarkers + overwrittenEvents > 0,
		};
		const first = this.#timesNs[0] as number;
		const { events, timesNs } = this.#endedAtOnce();
		return {
			name: this.#name,
			requests: this.#requests,
			events: Uint32Array.from(events),
			...(this.#lost.size === 0 ? {} : { heldEvents: Uint32Array.from(this.#events) }),
			timesNs: Float64Array.from(timesNs, (ns) => ns - first),
			lines: Uint32Array.from(this.#lines),
			counters,
			cpus: this.#requests.reduce((most, { cpu }) => Math.max(most, cpu + 1), 1),
		};
	}

	/** Numbers of the requests that are live at the end and have been for too long. */
	#outlived(): number[] {
		const limitNs = LOST_AFTER * this.#longestNs;
		return [...this.#live.values()].filter((number) => this.#lastNs - (this.#issuedNs[number] as number) > limitNs);
	}

	/** The events, those whose completion was lost completed where they are issued. */
	#endedAtOnce(): { readonly events: readonly number[]; readonly timesNs: readonly number[] } {
		const events: number[] = [];
		const timesNs: number[] = [];
		for (const [i, event] of this.#events.entries()) {
			const isLost = this.#lost.has(event >>> 1);
			const isIssue = (event & 1) === 0;
			if (isLost && !isIssue) continue;
			for (const happened of isLost ? [event, event + 1] : [event]) {
				events.push(happened);
				timesNs.push(this.#timesNs[i] as number);
			}
		}
		return { events, timesNs };
	}
}
