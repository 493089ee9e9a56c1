/** Makes a workload of what a trace's reader finds: when a request begins and ends, whatever the format. */
import { InputError } from "../input-error.ts";
import type { Request, TraceCounters, Workload } from "./workload.ts";

/** More malformed lines than this share of the lines is an error. */
const MAX_MALFORMED_SHARE = 0.01;

/** A line that breaks its format's grammar: in a line, the field and what was expected there. */
export class MalformedLine extends Error {}

/**
 * Collects requests and events as the lines come. A request lives from its issue to its completion, which finds it by a key;
 * an issue on a live key completes the old request, and what is live at the end is completed there.
 */
export class WorkloadBuilder {
	readonly #name: string;
	readonly #requests: Request[] = [];
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
	};
	#lastNs = 0;
	#line = 0;
	#firstMalformed: { readonly line: number; readonly reason: string } | null = null;

	/** @param name of the trace, for errors and results */
	constructor(name: string) {
		this.#name = name;
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
			this.#happened(old * 2 + 1);
		}
		const number = this.#requests.length;
		this.#requests.push(request);
		this.#happened(number * 2);
		this.#live.set(key, number);
		this.#count.dataRequests++;
	}

	/** A request ends. @param moved whether it moved data: of "nothing" (no data by its kind) and of length "zero" no issue is sought */
	complete(timeNs: number, key: string, moved: "data" | "zero" | "nothing"): void {
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
		this.#live.delete(key);
		this.#happened(number * 2 + 1);
	}

	#happened(event: number): void {
		this.#events.push(event);
		this.#timesNs.push(this.#lastNs);
	}

	/**
	 * The workload.
	 * @throws InputError that names the first malformed line, where they are more than 1 %; or for a trace without a request
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
		if (this.#requests.length === 0) throw new InputError(`${this.#name}: holds no request that moves data`);
		const counters: TraceCounters = { ...this.#count, drained: this.#live.size };
		for (const number of this.#live.values()) this.#happened(number * 2 + 1);
		const first = this.#timesNs[0] as number;
		return {
			name: this.#name,
			requests: this.#requests,
			events: Uint32Array.from(this.#events),
			timesNs: Float64Array.from(this.#timesNs, (ns) => ns - first),
			counters,
			cpus: this.#requests.reduce((most, { cpu }) => Math.max(most, cpu + 1), 1),
		};
	}
}
