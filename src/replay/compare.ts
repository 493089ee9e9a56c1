/** Policies on traces: what each costs on the release build, and what it exposes on the audit build, same input and seed. */
import { runTask } from "../compare/fork.ts";
import type { ModeResult } from "../compare/run.ts";
import type { AuditReport } from "./audit.ts";
import type { PolicyAnswer, PolicyTask } from "./child.ts";
import type { ReplayOptions } from "./stage.ts";

/** One policy on one trace. */
export interface PolicyResult {
	readonly file: string;
	readonly policy: string;
	/** Null: the device does not come about, and nothing was timed. */
	readonly cost: ModeResult | null;
	readonly exposure: AuditReport;
}

/**
 * Runs every policy on every trace, cost and exposure in processes of their own.
 * @param policies names with modifiers, or files
 * @param repeat timed passes
 * @throws InputError, RangeError: then nothing has been reported
 */
export async function comparePolicies(
	files: readonly string[],
	policies: readonly string[],
	scenario: string,
	options: ReplayOptions,
	repeat: number,
	progress: (text: string) => void = () => {},
): Promise<PolicyResult[]> {
	const results: PolicyResult[] = [];
	const entry = new URL("./child.js", import.meta.url);
	for (const trace of files) {
		for (const policy of policies) {
			const run = (what: PolicyTask["what"]): Promise<PolicyAnswer> => {
				progress(`${trace}: ${policy}: ${what}`);
				const task: PolicyTask = { what, trace, policy, scenario, options, repeat };
				return runTask<PolicyTask, PolicyAnswer>(entry, task, `policy ${policy}`);
			};
			const cost = await run("cost");
			const exposure = (await run("exposure")) as AuditReport;
			results.push({
				file: trace,
				policy: exposure.policy.name,
				cost: typeof cost === "string" ? null : (cost as ModeResult),
				exposure,
			});
		}
	}
	return results;
}
