/** One variant of one suite in its own process. The parent (bench/run.ts) tells it what to do, case by case. */
import { Bench, hrtimeNowTimestampProvider } from "tinybench";
import type { Runner, Suite } from "./suite.ts";
import { suites } from "./suites.ts";

/** What the parent asks: to check a case, or to time it for `ms` milliseconds. */
export interface Order {
	readonly what: "check" | "time";
	readonly index: number;
	readonly ms: number;
}

/** What the child answers. */
export interface Answer {
	/** Absent when the variant has no part in the case. */
	readonly digest?: string;
	/** Median of one operation, or the measurement (in the case's unit). */
	readonly value?: number;
	readonly samples?: number;
	readonly opsPerSample?: number;
	readonly error?: string;
}

/** A sample lasts at least this long (ns), so that reading the clock does not count. */
const SAMPLE_NS = 100_000;

function elapsedNs(work: () => void): number {
	const start = process.hrtime.bigint();
	work();
	return Number(process.hrtime.bigint() - start);
}

/** Warms up with many calls, then lets tinybench time batches. */
function timed(runner: Runner, ms: number): Answer {
	if (runner.measure !== undefined) return { value: runner.measure(), samples: 1, opsPerSample: 1 };
	let ops = 1;
	let spent = 0;
	let last = 0;
	while (spent < ms * 500_000 || last < (runner.sampleNs ?? SAMPLE_NS)) {
		const ns = elapsedNs(() => runner.batch(ops));
		last = ns;
		spent += ns;
		if (ns < (runner.sampleNs ?? SAMPLE_NS)) ops *= 2;
	}
	const bench = new Bench({ time: ms, iterations: 8, warmup: false, timestampProvider: hrtimeNowTimestampProvider });
	bench.add("batch", () => runner.batch(ops));
	const result = bench.runSync()[0]?.result;
	if (result?.state !== "completed") throw new Error(`tinybench: ${result?.state ?? "no result"}`);
	return { value: (result.latency.p50 * 1e6) / ops, samples: result.latency.samplesCount, opsPerSample: ops };
}

let open: { index: number; runner: Runner | null } | null = null;

async function carryOut(suite: Suite, variant: string, order: Order): Promise<Answer> {
	const of = suite.cases[order.index];
	if (of === undefined) throw new RangeError(`${suite.name} has no case ${order.index}`);
	if (open === null || order.what === "check" || open.index !== order.index) {
		open?.runner?.close?.();
		open = { index: order.index, runner: await suite.open(variant, of) };
	}
	const { runner } = open;
	if (runner === null) return {};
	if (order.what === "time") return timed(runner, order.ms);
	const digest = runner.check();
	runner.close?.();
	open = null;
	return { digest };
}

const [name, variant] = process.argv.slice(2);
const suite = suites.find((one) => one.name === name);
if (suite === undefined || variant === undefined) throw new RangeError("bench/child.js is started by bench/run.js");
process.on("message", async (order: Order) => {
	let answer: Answer;
	try {
		answer = await carryOut(suite, variant, order);
	} catch (error) {
		answer = { error: (error as Error).message };
	}
	process.send?.(answer);
});
