/** Who does the runs of a study: here, or in processes of their own. */
import { parsePolicy } from "../policy/parse.ts";
import type { Workload } from "../workload/workload.ts";
import { type AuditReport, auditSubject } from "./audit.ts";
import type { Cause } from "./cause.ts";
import type { GuestSize } from "./layout.ts";
import { type RunOptions, type RunResult, runSubject } from "./run.ts";
import { type PolicyChoice, type PolicyLoader, type SubjectChoice, subjectOf } from "./subject.ts";

export interface Runner {
	readonly loadPolicy: PolicyLoader;
	/** Counts and times on the release build. @throws as runSubject */
	run(workload: Workload, choice: SubjectChoice, options: RunOptions): Promise<RunResult | Cause>;
	/** Audits. @throws as auditSubject */
	audit(workload: Workload, choice: PolicyChoice, size: GuestSize): Promise<AuditReport>;
	/** How many audits it does at once. What is timed has the machine for itself. */
	readonly auditsAtOnce: number;
}

/** A runner in this very thread, one run after the other. @param loadPolicy default: presets by name */
export function localRunner(loadPolicy: PolicyLoader = parsePolicy): Runner {
	return {
		loadPolicy,
		run: async (workload, choice, options) => runSubject(workload, await subjectOf(choice, loadPolicy), options),
		audit: async (workload, choice, size) => auditSubject(workload, await subjectOf(choice, loadPolicy), size),
		auditsAtOnce: 1,
	};
}
