/** Runs timed in turns: what the machine does besides meets all of them alike. */
import type { Workload } from "../workload/workload.ts";
import type { Cause } from "./cause.ts";
import type { GuestSize } from "./layout.ts";
import type { RunResult } from "./run.ts";
import type { Runner, TimedRun } from "./runner.ts";
import { type Ratio, ratioOf } from "./statistics.ts";
import type { SubjectChoice } from "./subject.ts";

/** Runs that are open at once: each holds its guest's memory. */
const MOST_AT_ONCE = 8;

/** A run by the first one that came about, measured in turns with it. */
export interface AgainstFirst {
	/** The DMA layer alone, and both together. */
	readonly dma: Ratio | null;
	readonly total: Ratio | null;
	/** Percentiles of requests; null: one of the two is below the clock. */
	readonly p50: Ratio | null;
	readonly p99: Ratio | null;
	readonly p999: Ratio | null;
	readonly max: Ratio | null;
}

/** A run's figures and how they compare. */
export interface TimedResult {
	readonly cost: RunResult;
	/**
	 * Null: it is the first one itself, or the two did not serve the same: one of them refused commands, and a pass without them is
	 * another workload.
	 */
	readonly againstFirst: AgainstFirst | null;
}

/** What is told of a subject before it is made ready, and before the passes in which it takes its turns. */
type Begins = (subject: number) => void;

/**
 * Opens a run for each choice and times them in turns, pass by pass: A B A B, the first to go another one each round. Of many, the
 * first takes its turns with a few others at a time.
 * @param passes timed passes of each run, 1 or more
 * @returns in the order of the choices: figures, or why there was nothing to time
 */
export async function timeInTurns(
	{ open }: Pick<Runner, "open">,
	workload: Workload,
	choices: readonly SubjectChoice[],
	{ passes, size, begins }: { readonly passes: number; readonly size: GuestSize; readonly begins: Begins },
): Promise<(TimedResult | Cause)[]> {
	const results: (TimedResult | Cause)[] = [];
	/** The first one that came about; its passes so far. */
	const firsts: { readonly run: TimedRun; readonly number: number; passes: number }[] = [];
	const opened = new Set<TimedRun>();
	const firstOf: { readonly number: number; readonly from: number }[] = [];
	try {
		for (let next = 0; next < choices.length; ) {
			const group: { readonly run: TimedRun; readonly number: number }[] = [...firsts];
			for (; next < choices.length && group.length < MOST_AT_ONCE; next++) {
				begins(next);
				const run = await open(workload, choices[next] as SubjectChoice, size);
				if ("what" in run) {
					results[next] = run;
					continue;
				}
				opened.add(run);
				group.push({ run, number: next });
				if (firsts.length === 0) firsts.push({ run, number: next, passes: 0 });
			}
			const [first] = firsts;
			if (first === undefined || (group.length === 1 && first.passes > 0)) continue;
			for (let pass = 0; pass < passes; pass++)
				for (let i = 0; i < group.length; i++) await group[(i + pass) % group.length]?.run.pass();
			const from = first.passes;
			first.passes += passes;
			for (const { run, number } of group) {
				if (number === first.number) continue;
				firstOf.push({ number, from });
				results[number] = { cost: await run.result(), againstFirst: null };
				run.end();
				opened.delete(run);
			}
		}
		const [first] = firsts;
		if (first === undefined) return results;
		const cost = await first.run.result();
		results[first.number] = { cost, againstFirst: null };
		for (const { number, from } of firstOf) {
			const result = results[number] as TimedResult;
			results[number] = { ...result, againstFirst: comparedWith(cost, result.cost, from) };
		}
		return results;
	} finally {
		for (const run of opened) run.end();
	}
}

/** @param from the first's pass that was taken beside the other's first one */
function comparedWith(first: RunResult, other: RunResult, from: number): AgainstFirst | null {
	if (first.firstRefused !== null || other.firstRefused !== null) return null;
	const percentile = (name: "p50Ns" | "p99Ns" | "p999Ns" | "maxNs"): Ratio | null => {
		const [a, b] = [first.latency, other.latency];
		if (a === null || b === null || a[name] === null || b[name] === null) return null;
		return ratioOf(b.passes[name], a.passes[name], b[name] / a[name]);
	};
	return {
		dma: ratioOf(other.passes.dmaNs, first.passes.dmaNs.slice(from)),
		total: ratioOf(other.passes.totalNs, first.passes.totalNs.slice(from)),
		p50: percentile("p50Ns"),
		p99: percentile("p99Ns"),
		p999: percentile("p999Ns"),
		max: percentile("maxNs"),
	};
}
