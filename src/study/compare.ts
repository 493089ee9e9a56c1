/** Modes or policies compared on one workload: same input, same seed, same buffers. */
import type { PlatformName } from "../coco/platform/platform.ts";
import type { Policy } from "../coco/rules/policy.ts";
import type { PolicySetup } from "../policy/setup.ts";
import { type WorkloadSource, workloadOf } from "../workload/read.ts";
import type { AuditReport } from "./audit.ts";
import type { Cause } from "./cause.ts";
import { checkRepeat, DEFAULT_REPEAT, type SizedGuest, sizedGuest } from "./layout.ts";
import type { RunOptions, RunResult } from "./run.ts";
import { localRunner, type Runner } from "./runner.ts";
import { DEFAULT_DEVICE, MODES, type Mode, type PolicyChoice, type Subject, subjectOf } from "./subject.ts";
import { type AgainstFirst, type TimedResult, timeInTurns } from "./turns.ts";

/** What a comparison does next. */
export interface ComparisonStep {
	readonly workload: string;
	/** The mode, or the policy as it was given. */
	readonly subject: string;
	/** cost: the release build, timed. exposure: the audit build. */
	readonly what: "cost" | "exposure";
}

/** How a comparison is conducted. */
export interface Conduct {
	/** Who does the runs. Default: this thread, one after the other. */
	readonly runner?: Runner;
	/** Told what runs now. */
	readonly progress?: (step: ComparisonStep) => void;
}

export interface CompareOptions extends RunOptions, Conduct {
	/** Default: both. */
	readonly modes?: readonly Mode[];
	/** A device preset's name. Default "nvme". */
	readonly device?: string;
}

/** What one mode did. */
export interface ModeResult extends RunResult {
	/** The workload's name. */
	readonly workload: string;
	readonly mode: Mode;
	/** Against the first mode; null: it is the first, or one of the two refused commands, so that they did not do the same. */
	readonly againstFirst: AgainstFirst | null;
}

/** Modes on a workload. */
export interface Comparison {
	readonly schema: "coco-dma/compare/2";
	readonly options: SizedGuest & {
		readonly modes: readonly Mode[];
		readonly device: string;
		readonly repeat: number;
	};
	/** In the order of the modes. */
	readonly results: readonly ModeResult[];
}

/**
 * Runs a workload in each mode on the release build, timed in turns.
 * @throws RangeError that names the option and what it may be; InputError for a workload that does not fit
 */
export async function compareWorkload(source: WorkloadSource, options: CompareOptions = {}): Promise<Comparison> {
	if (Array.isArray(options))
		throw new RangeError("compareWorkload: expected options such as { modes: [...] }, not a list of modes");
	const { modes = MODES, device = DEFAULT_DEVICE, runner = localRunner(), progress } = options;
	const settings = runSettings(options);
	// refused before any work is done
	for (const mode of modes) await subjectOf({ mode, device });
	const workload = await workloadOf(source);
	const { repeat: passes, ...size } = settings;
	const begins = (i: number) => progress?.({ workload: workload.name, subject: modes[i] as Mode, what: "cost" });
	const choices = modes.map((mode) => ({ mode, device }));
	const timed = await timeInTurns(runner, workload, choices, { passes, size, begins });
	const results = timed.map((result, i): ModeResult => {
		const mode = modes[i] as Mode;
		if ("what" in result) throw new Error(`${workload.name}: ${mode}: the device does not come about (${result.what})`);
		const { cost, againstFirst } = result;
		if (cost.wrongBytes > 0)
			throw new Error(`${workload.name}: ${mode}: ${cost.wrongBytes} bytes did not arrive as sent`);
		return { workload: workload.name, mode, ...cost, againstFirst };
	});
	return { schema: "coco-dma/compare/2", options: { modes, device, ...settings }, results };
}

export interface ComparePoliciesOptions extends RunOptions, Conduct, Omit<PolicyChoice, "policy"> {
	/** Presets' names with modifiers, policies, or policies with their modifiers. */
	readonly policies: readonly (string | Policy | PolicySetup)[];
}

/** What one policy cost, and what it laid open. */
export interface PolicyResult {
	/** The workload's name. */
	readonly workload: string;
	readonly policy: string;
	/** Null: the device does not come about, or its kernel ends; nothing was timed. */
	readonly cost: RunResult | null;
	/** Against the first policy that has a cost; null: it is that one, it has none, or one of the two refused commands. */
	readonly againstFirst: AgainstFirst | null;
	readonly exposure: AuditReport;
}

/** Policies on a workload. */
export interface PolicyComparison {
	readonly schema: "coco-dma/compare-policies/2";
	readonly options: SizedGuest & {
		/** By name. */
		readonly policies: readonly string[];
		readonly scenario: string;
		readonly platform: PlatformName;
		readonly repeat: number;
	};
	/** In the order of the policies. */
	readonly results: readonly PolicyResult[];
}

/**
 * Runs a workload under each policy: what it costs on the release build, and what it exposes on the audit build.
 * @throws RangeError that names the option and what it may be; InputError for a workload or a policy that does not fit
 */
export async function comparePolicies(
	source: WorkloadSource,
	{ policies, runner = localRunner(), progress, scenario, platform, encoded, ...run }: ComparePoliciesOptions,
): Promise<PolicyComparison> {
	const settings = runSettings(run);
	const { repeat, ...size } = settings;
	const where = {
		...(scenario === undefined ? {} : { scenario }),
		...(platform === undefined ? {} : { platform }),
		...(encoded === undefined ? {} : { encoded }),
	};
	const choices = policies.map((policy): PolicyChoice => ({ policy, ...where }));
	// refused before any work is done
	const subjects: Subject[] = [];
	for (const choice of choices) subjects.push(await subjectOf(choice, runner.loadPolicy));
	const [first] = subjects;
	if (first === undefined) throw new RangeError("policies: expected at least one policy");
	const workload = await workloadOf(source);
	const begins = (what: ComparisonStep["what"], i: number) =>
		progress?.({ workload: workload.name, subject: subjects[i]?.setup.name as string, what });
	const costs = await timeInTurns(runner, workload, choices, {
		passes: repeat,
		size,
		begins: (i) => begins("cost", i),
	});
	const exposures = await atOnce(runner.auditsAtOnce, choices, (choice, i) => {
		begins("exposure", i);
		return runner.audit(workload, choice, size);
	});
	return {
		schema: "coco-dma/compare-policies/2",
		options: {
			policies: subjects.map(({ setup }) => setup.name),
			scenario: first.scenario.name,
			platform: first.place.platform,
			...settings,
		},
		results: exposures.map((exposure, i) => {
			const timed = costs[i] as TimedResult | Cause;
			const { cost, againstFirst } = "what" in timed ? { cost: null, againstFirst: null } : timed;
			return { workload: workload.name, policy: exposure.policy.name, cost, againstFirst, exposure };
		}),
	};
}

/** The options of runs, checked, defaults filled in. @throws RangeError that names the option */
function runSettings({ repeat = DEFAULT_REPEAT, ...size }: RunOptions): SizedGuest & { readonly repeat: number } {
	checkRepeat(repeat);
	return { ...sizedGuest(size), repeat };
}

/** Works on a list, at most `most` at once. @returns results in the list's order @throws what the first failure throws; then none begins any more */
async function atOnce<T, R>(
	most: number,
	list: readonly T[],
	work: (one: T, index: number) => Promise<R>,
): Promise<R[]> {
	const results: R[] = [];
	let next = 0;
	const worker = async () => {
		for (let i = next++; i < list.length; i = next++) {
			try {
				results[i] = await work(list[i] as T, i);
			} catch (error) {
				next = list.length;
				throw error;
			}
		}
	};
	await Promise.all(Array.from({ length: most }, worker));
	return results;
}
