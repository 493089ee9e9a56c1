/** A process of its own for one policy's cost or exposure: compare.ts of this room forks it. */

import { type Place, scenarioNamed } from "../policy/scenarios.ts";
import { type AuditReport, auditWorkload } from "../study/audit.ts";
import type { Cause } from "../study/cause.ts";
import { runPolicy } from "../study/policy-cost.ts";
import type { ReplayOptions } from "../study/replay-stage.ts";
import type { ModeResult } from "../study/run.ts";
import { readBlockTrace } from "../workload/ftrace.ts";
import { loadPolicy } from "./policy-file.ts";
import { serveTask } from "./task.ts";

export interface PolicyTask {
	/** cost: the release build, timed. exposure: the audit build. */
	readonly what: "cost" | "exposure";
	readonly trace: string;
	/** A name with modifiers, or a file. */
	readonly policy: string;
	readonly scenario: string;
	readonly options: Omit<ReplayOptions, "place"> & { readonly place?: Place };
	readonly repeat: number;
}

export type PolicyAnswer = ModeResult | AuditReport | Cause;

serveTask<PolicyTask, PolicyAnswer>(async ({ what, trace, policy, scenario, options, repeat }) => {
	const setup = await loadPolicy(policy);
	const workload = readBlockTrace(trace);
	return what === "cost"
		? runPolicy(workload, setup, scenarioNamed(scenario), options, repeat)
		: auditWorkload(workload, setup, scenarioNamed(scenario), options);
});
