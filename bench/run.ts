/** `coco-dma bench`: runs suites, prints tables, writes JSON. */
import { type ChildProcess, fork } from "node:child_process";
import { readFileSync, realpathSync, writeFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadModule } from "../src/wasm.ts";
import type { Answer, Order } from "./child.ts";
import { type Case, median, type Suite, type Target } from "./suite.ts";
import { suites } from "./suites.ts";
import { formatReport } from "./table.ts";

/** One variant's part in a case. */
export interface Measured {
	/** Median over the rounds of each round's median (the case's unit: ns per operation, or bytes). */
	readonly value: number;
	/** Fastest and slowest round. */
	readonly min: number;
	readonly max: number;
	readonly samples: number;
	readonly opsPerSample: number;
}

export interface Judged {
	readonly target: Target;
	readonly value: number;
	readonly pass: boolean;
}

export interface CaseResult {
	readonly name: string;
	readonly unit: "ns" | "bytes";
	/** Payload of one operation, where there is one. */
	readonly payloadBytes?: number;
	readonly variants: Readonly<Record<string, Measured>>;
	readonly targets: readonly Judged[];
}

export interface SuiteResult {
	readonly suite: string;
	readonly about: string;
	readonly cases: readonly CaseResult[];
	readonly summary?: string;
}

/** Plain data: what --json writes. */
export interface BenchReport {
	readonly version: string;
	readonly date: string;
	readonly node: string;
	readonly v8: string;
	readonly hardware: {
		readonly cpu: string;
		readonly cores: number;
		readonly memoryBytes: number;
		readonly loadAverage: readonly number[];
	};
	/** First 16 hex digits of the SHA-256 of each build that was timed. */
	readonly engineHashes: Readonly<Record<string, string>>;
	/** Smallest step of the clock that was seen (ns). */
	readonly timerResolutionNs: number;
	readonly options: { readonly suites: readonly string[]; readonly rounds: number; readonly msPerRound: number };
	readonly suites: readonly SuiteResult[];
	/** Whether every target was met. */
	readonly pass: boolean;
}

export interface BenchOptions {
	/** Times each variant is timed, one after the other in turn. Default 3. */
	readonly rounds?: number;
	/** Milliseconds of samples a round, after half as long of warm-up. Default 60. */
	readonly msPerRound?: number;
	/** Called with what is being done now. */
	readonly progress?: (what: string) => void;
}

/** A variant in its own process. */
class Variant {
	readonly name: string;
	readonly #child: ChildProcess;
	readonly values: number[][] = [];

	constructor(suite: Suite, name: string) {
		this.name = name;
		const child = new URL("./child.js", import.meta.url);
		this.#child = fork(child, [suite.name, name], { execArgv: [...(suite.flags?.(name) ?? [])] });
	}

	ask(order: Order): Promise<Answer> {
		return new Promise((resolve, reject) => {
			const died = (code: number | null) => reject(new Error(`bench: ${this.name}: process ended with ${code}`));
			this.#child.once("exit", died);
			this.#child.once("message", (answer: Answer) => {
				this.#child.off("exit", died);
				if (answer.error === undefined) resolve(answer);
				else reject(new Error(`bench: ${this.name}: ${answer.error}`));
			});
			this.#child.send(order);
		});
	}

	end(): void {
		this.#child.disconnect();
		this.#child.kill();
	}
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

function judge(target: Target, variants: Readonly<Record<string, Measured>>): Judged {
	const of = variants[target.of]?.value ?? Number.NaN;
	const over = target.over === undefined ? 1 : (variants[target.over]?.value ?? Number.NaN);
	const minus = target.minus === undefined ? 0 : (variants[target.minus]?.value ?? Number.NaN);
	const value = of / over - minus;
	const pass =
		value >= (target.atLeast ?? Number.NEGATIVE_INFINITY) && value <= (target.atMost ?? Number.POSITIVE_INFINITY);
	return { target, value, pass };
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
			value: median(values),
			min: Math.min(...values),
			max: Math.max(...values),
			samples: list.reduce((sum, { samples }) => sum + (samples ?? 0), 0),
			opsPerSample: list[0]?.opsPerSample ?? 0,
		};
	}
	return {
		name: of.name,
		unit: of.unit ?? "ns",
		...(of.bytes === undefined ? {} : { payloadBytes: of.bytes }),
		variants: measured,
		targets: (of.targets ?? []).map((target) => judge(target, measured)),
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
		const value = (name: string, variant: string) => cases.find((one) => one.name === name)?.variants[variant]?.value;
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

/**
 * Runs suites (all when none are named): first every case in every variant, which must agree to the byte, then the timing.
 * @throws RangeError for an unknown suite; Error when variants disagree
 */
export async function runSuites(names: readonly string[], options: BenchOptions = {}): Promise<BenchReport> {
	for (const name of names) {
		if (!suites.some((suite) => suite.name === name)) {
			throw new RangeError(`unknown suite "${name}": expected ${suites.map((suite) => suite.name).join(", ")}`);
		}
	}
	const chosen = suites.filter((suite) => names.length === 0 || names.includes(suite.name));
	const { rounds = 3, msPerRound = 60, progress = () => {} } = options;
	const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
	const builds = ["bench", "bench.bare", "bench.threads", "bench.reference"] as const;
	const hashes = await Promise.all(builds.map(async (build) => [build, (await loadModule(build)).hash] as const));
	const loadAverage = loadavg();
	const results: SuiteResult[] = [];
	for (const suite of chosen) results.push(await runSuite(suite, rounds, msPerRound, progress));
	return {
		version,
		date: new Date().toISOString(),
		node: process.version,
		v8: process.versions.v8,
		hardware: { cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length, memoryBytes: totalmem(), loadAverage },
		engineHashes: Object.fromEntries(hashes),
		timerResolutionNs: timerResolutionNs(),
		options: { suites: chosen.map(({ name }) => name), rounds, msPerRound },
		suites: results,
		pass: results.every(({ cases }) => cases.every(({ targets }) => targets.every(({ pass }) => pass))),
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

Options:
  --json FILE|-   write the results as JSON; "-": JSON alone on standard output
  --rounds N      times each variant is timed (1 to 100, default 3); the median counts
  --ms N          milliseconds a round (1 to 10000, default 60)
  --help          this text
`;

function whole(text: string | undefined, option: string, fallback: number, most: number): number {
	if (text === undefined) return fallback;
	const value = /^\d+$/.test(text) ? Number(text) : 0;
	if (!(value >= 1 && value <= most))
		throw new RangeError(`${option}: expected a whole number from 1 to ${most}, not "${text}"`);
	return value;
}

/** The command. @returns the exit code: 0, 1 when variants disagree or a run breaks, 2 for a wrong argument */
export async function main(args: readonly string[]): Promise<number> {
	const clear = () => process.stderr.isTTY && process.stderr.write("\r\x1b[K");
	try {
		const { values, positionals } = parseArgs({
			args: [...args],
			allowPositionals: true,
			options: {
				json: { type: "string" },
				rounds: { type: "string" },
				ms: { type: "string" },
				help: { type: "boolean", short: "h" },
			},
		});
		if (values.help) {
			process.stdout.write(HELP);
			return 0;
		}
		const report = await runSuites(positionals, {
			rounds: whole(values.rounds, "--rounds", 3, 100),
			msPerRound: whole(values.ms, "--ms", 60, 10_000),
			progress: (what) => process.stderr.isTTY && process.stderr.write(`\r\x1b[K${what}`),
		});
		clear();
		const json = `${JSON.stringify(report, null, "\t")}\n`;
		if (values.json === "-") process.stdout.write(json);
		else {
			if (values.json !== undefined) writeFileSync(values.json, json);
			const color = process.stdout.isTTY === true && !process.env.NO_COLOR;
			process.stdout.write(formatReport(report, color));
		}
		return 0;
	} catch (error) {
		clear();
		const { message, code } = error as NodeJS.ErrnoException;
		process.stderr.write(`coco-dma bench: ${message.split("\n")[0]}\n`);
		return error instanceof RangeError || code?.startsWith("ERR_PARSE_ARGS") ? 2 : 1;
	}
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
	process.exitCode = await main(process.argv.slice(2));
}
