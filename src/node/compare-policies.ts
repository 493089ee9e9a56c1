/** Policies on traces: what each costs on the release build, and what it exposes on the audit build, same input and seed. */
import { availableParallelism } from "node:os";
import type { AuditReport } from "../study/audit.ts";
import type { ReplayOptions } from "../study/replay-stage.ts";
import type { ModeResult } from "../study/run.ts";
import type { PolicyAnswer, PolicyTask } from "./policy-child.ts";
import { runTask } from "./task.ts";

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
	const entry = new URL("./policy-child.js", import.meta.url);
	for (const trace of files) {
		const run = (what: PolicyTask["what"], policy: string): Promise<PolicyAnswer> => {
			progress(`${trace}: ${policy}: ${what}`);
			const task: PolicyTask = { what, trace, policy, scenario, options, repeat };
			return runTask<PolicyTask, PolicyAnswer>(entry, task, `policy ${policy}`);
		};
		// what is timed has the machine for itself; what is counted may share it
		const costs: PolicyAnswer[] = [];
		for (const policy of policies) costs.push(await run("cost", policy));
		const exposures = await atOnce(Math.min(availableParallelism(), 4), policies, (policy) => run("exposure", policy));
		for (const [i, cost] of costs.entries()) {
			const exposure = exposures[i] as AuditReport;
			results.push({
				file: trace,
				policy: exposure.policy.name,
				cost: "what" in cost ? null : (cost as ModeResult),
				exposure,
			});
		}
	}
	return results;
}

/** Works on a list, at most `most` at once. @returns results in the list's order @throws what the first failure throws; then none begins any more */
async function atOnce<T, R>(most: number, list: readonly T[], work: (one: T) => Promise<R>): Promise<R[]> {
	const results: R[] = [];
	let next = 0;
	const worker = async () => {
		for (let i = next++; i < list.length; i = next++) {
			try {
				results[i] = await work(list[i] as T);
			} catch (error) {
				next = list.length;
				throw error;
			}
		}
	};
	await Promise.all(Array.from({ length: most }, worker));
	return results;
}
