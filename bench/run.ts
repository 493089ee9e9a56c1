/** `coco-dma bench`: runs suites, prints tables, writes JSON. */
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build, SETS } from "../build.ts";
import { checkOutputs, writeJson } from "../src/cli/outputs.ts";
import { mayColor, parseOptions, progress, UsageError, wholeNumber } from "../src/cli/usage.ts";
import { InputError } from "../src/input-error.ts";
import { environment } from "../src/node/environment.ts";
import { loadModule } from "../src/wasm.ts";
import type { Answer } from "./child.ts";
import type { BenchReport, CaseResult, SuiteResult } from "./report.ts";
import { type Case, judge, type Measured, median, type Suite } from "./suite.ts";
import { suites } from "./suites.ts";
import { formatAgainst, formatList, formatReport, formatTargets } from "./table.ts";
import { Variant } from "./variant.ts";

interface BenchOptions {
	/** Times each variant is timed, one after the other in turn. Default 7: fewer than 6 tell no spread. */
	readonly rounds?: number;
	/** Milliseconds of samples a round, after half as long of warm-up. Default 30. */
	readonly msPerRound?: number;
	/** Called with what is being done now. */
	readonly progress?: (what: string) => void;
}

/** Has each variant do every case once; all that take part must answer the same. @throws Error that names the case */
async function checkAgreement(suite: Suite, variants: readonly Variant[], progress: (what: string) => void) {
	for (const [index, of] of suite.cases.entries()) {
		progress(`${suite.name}: check: ${of.name}`);
		const answers = await Promise.all(
			variants.map(async (variant) => ({
				variant,
				digest: (await variant.ask({ what: "check", index, ms: 0 })).digest,
			})),
		);
		const taking = answers.filter(({ digest }) => digest !== undefined);
		if (new Set(taking.map(({ digest }) => digest)).size > 1) {
			const list = taking.map(({ variant, digest }) => `${variant.name}: ${digest}`).join("; ");
			throw new Error(`bench: ${suite.name}: ${of.name}: the variants disagree, nothing is timed: ${list}`);
		}
	}
}

async function timeCase(
	suite: Suite,
	index: number,
	variants: readonly Variant[],
	rounds: number,
	ms: number,
): Promise<CaseResult> {
	const of = suite.cases[index] as Case;
	const answers = new Map<string, Answer[]>();
	// in turn, so that a change of the machine's load meets all variants
	for (let round = 0; round < rounds; round++) {
		for (const variant of variants) {
			const answer = await variant.ask({ what: "time", index, ms });
			if (answer.value !== undefined) answers.set(variant.name, [...(answers.get(variant.name) ?? []), answer]);
		}
	}
	const measured: Record<string, Measured> = {};
	for (const [name, list] of answers) {
		const values = list.map(({ value }) => value as number);
		measured[name] = {
			...(of.unit === "bytes"
				? { bytes: median(values), roundsBytes: values }
				: { nsPerOp: median(values), roundsNsPerOp: values }),
			samples: list.reduce((sum, { samples }) => sum + (samples ?? 0), 0),
			opsPerSample: list[0]?.opsPerSample ?? 0,
		};
	}
	return {
		name: of.name,
		unit: of.unit ?? "ns",
		...(of.bytes === undefined ? {} : { payloadBytes: of.bytes }),
		variants: measured,
		targets: (of.targets ?? []).map((target) => judge(target, of.unit ?? "ns", measured)),
	};
}

async function runSuite(suite: Suite, rounds: number, ms: number, progress: (what: string) => void) {
	const variants = suite.variants.map((name) => new Variant(suite, name));
	try {
		await checkAgreement(suite, variants, progress);
		const cases: CaseResult[] = [];
		for (const [index, of] of suite.cases.entries()) {
			progress(`${suite.name}: ${index + 1}/${suite.cases.length}: ${of.name}`);
			cases.push(await timeCase(suite, index, variants, rounds, ms));
		}
		const value = (name: string, variant: string) => cases.find((one) => one.name === name)?.variants[variant]?.nsPerOp;
		const summary = suite.summary?.(value);
		return { suite: suite.name, about: suite.about, cases, ...(summary === undefined ? {} : { summary }) };
	} finally {
		for (const variant of variants) variant.end();
	}
}

function timerResolutionNs(): number {
	let best = Number.POSITIVE_INFINITY;
	for (let i = 0; i < 10_000; i++) {
		const step = -Number(process.hrtime.bigint() - process.hrtime.bigint());
		if (step > 0) best = Math.min(best, step);
	}
	return best;
}

/** Suite ring, or undefined without ringbuf.js unless it is asked for. @throws RangeError that says what is missing */
async function loadRing(wanted: boolean): Promise<typeof import("./ring.ts").runRing | undefined> {
	try {
		return (await import("./ring.ts")).runRing;
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw error;
		if (!wanted) return undefined;
		throw new RangeError("suite ring compares with ringbuf.js, which only a clone installs: npm install ringbuf.js");
	}
}

/** @returns all suites' names. @throws RangeError for one that is none of them */
function checkSuites(names: readonly string[]): string[] {
	const known = [...suites.map((suite) => suite.name), "ring"];
	for (const name of names) {
		if (!known.includes(name)) throw new RangeError(`unknown suite "${name}": expected ${known.join(", ")}`);
	}
	return known;
}

/**
 * Runs suites (all when none are named): first every case in every variant, which must agree to the byte, then the timing.
 * @throws RangeError for an unknown suite; Error when variants disagree
 */
async function runSuites(names: readonly string[], options: BenchOptions = {}): Promise<BenchReport> {
	const known = checkSuites(names);
	const chosen = suites.filter((suite) => names.length === 0 || names.includes(suite.name));
	const { rounds = 7, msPerRound = 30, progress = () => {} } = options;
	await build(SETS.benchmarks);
	const builds = ["bench", "bench.bare", "bench.threads", "bench.reference", "engine", "engine.audit"] as const;
	const hashes = await Promise.all(builds.map(async (build) => [build, (await loadModule(build)).hash] as const));
	const measuredOn = environment();
	const results: SuiteResult[] = [];
	for (const suite of chosen) results.push(await runSuite(suite, rounds, msPerRound, progress));
	const runRing = names.length === 0 || names.includes("ring") ? await loadRing(names.includes("ring")) : undefined;
	const ring = await runRing?.(rounds, msPerRound < 10, progress);
	return {
		schema: "coco-dma/bench/1",
		command: "bench",
		environment: measuredOn,
		engineHashes: Object.fromEntries(hashes),
		timerResolutionNs: timerResolutionNs(),
		options: { suites: known.filter((name) => names.length === 0 || names.includes(name)), rounds, msPerRound },
		suites: results,
		...(ring === undefined ? {} : { ring }),
		pass:
			results.every(({ cases }) => cases.every(({ targets }) => targets.every(({ pass }) => pass))) &&
			(ring?.targets.every(({ met }) => met) ?? true),
	};
}

const HELP = `Usage: coco-dma bench [SUITE...] [options]

Times the engine against the kernel's list algorithm, plain TypeScript and bare memory.copy, all in this run.
All variants must first agree on every address and byte. Each runs in its own process, in turn.

Suites (default: all):
  slots   slot allocation and release alone
  copy    copy kernels by size, cache-hot and walking
  map     bounced and direct mappings with their copies; two workers
  calls   the cost of calling from TypeScript
  vmbus   VMBus's control plane: connecting, messages, packets there and back
  audit   what the labels and the log of the audit build cost
  ring    VMBus rings: one thread and two workers, against plain TypeScript, ringbuf.js and bare copies

Options:
  --json FILE|-   write the results as JSON; "-": JSON alone on standard output
  --rounds N      times each variant is timed (1 to 100, default 7); the median counts
  --ms N          milliseconds a round (1 to 10000, default 30)
  --check         the project's targets too, met or not; exit code 1 when one is missed
  --list          the suites and their rows, and nothing is timed
  --against DIR   instead of all that: this build against the one in DIR, a built clone of another commit, row by row and
                  in turn (default suites: slots, map, ring)
  --help          this text
`;

/** @throws UsageError */
function within(name: string, text: string | undefined, fallback: number, most: number): number {
	const value = wholeNumber(name, text) ?? fallback;
	if (!(value >= 1 && value <= most)) throw new UsageError(`--${name}: expected 1 to ${most}, not "${text}"`);
	return value;
}

/** The command. @returns the exit code: 0, 1 when variants disagree, a run breaks or a target is missed, 2 for a wrong argument */
async function main(args: readonly string[]): Promise<number> {
	try {
		const { values, positionals } = parseOptions(args, {
			json: { type: "string" },
			rounds: { type: "string" },
			ms: { type: "string" },
			against: { type: "string" },
			check: { type: "boolean" },
			list: { type: "boolean" },
			help: { type: "boolean" },
		});
		if (values.help) {
			process.stdout.write(HELP);
			return 0;
		}
		if (values.check && values.against !== undefined)
			throw new UsageError(
				"--check: does not go with --against, which compares with another build and not with targets",
			);
		checkOutputs({ json: values.json });
		checkSuites(positionals);
		if (values.list) {
			const chosen = suites.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
			const ring = { name: "ring", about: "VMBus rings, one thread and two workers", cases: [] };
			const shown = positionals.length === 0 || positionals.includes("ring") ? [...chosen, ring] : chosen;
			process.stdout.write(formatList(shown));
			return 0;
		}
		const options = {
			rounds: within("rounds", values.rounds, 7, 100),
			msPerRound: within("ms", values.ms, 30, 10_000),
			progress,
		};
		const finish = <T extends { readonly schema: string }>(
			report: T,
			format: (report: T, color: boolean) => string,
		) => {
			progress("");
			if (values.json !== undefined) writeJson(values.json, report);
			if (values.json !== "-") process.stdout.write(format(report, mayColor()));
		};
		if (values.against !== undefined) {
			const { runAgainst } = await import("./against.ts");
			finish(await runAgainst(values.against, positionals, options), formatAgainst);
			return 0;
		}
		const report = await runSuites(positionals, options);
		finish(report, (of, color) => `${formatReport(of)}${values.check ? `\n${formatTargets(of, color)}` : ""}`);
		return values.check && !report.pass ? 1 : 0;
	} catch (error) {
		progress("");
		const { message } = error as Error;
		process.stderr.write(`coco-dma bench: ${message.split("\n")[0]}\n`);
		return error instanceof RangeError || error instanceof UsageError || error instanceof InputError ? 2 : 1;
	}
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
	process.exitCode = await main(process.argv.slice(2));
}
