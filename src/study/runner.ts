/** Who does the runs of a study: here, or in processes of their own. */
import { parsePolicy } from "../policy/parse.ts";
import type { Workload } from "../workload/workload.ts";
import { type AuditReport, auditSubject } from "./audit.ts";
import type { Cause } from "./cause.ts";
import type { GuestSize } from "./layout.ts";
import { Run, type RunResult } from "./run.ts";
import { type PolicyChoice, type PolicyLoader, type SubjectChoice, subjectOf } from "./subject.ts";

/** A run under way on the release build, which is timed pass by pass: others have their turns between. */
export interface TimedRun {
	/** One more timed pass. */
	pass(): Promise<void>;
	/** What it came to. After one pass or more. */
	result(): Promise<RunResult>;
	/** Lets go of what it holds. */
	end(): void;
}

export interface Runner {
	readonly loadPolicy: PolicyLoader;
	/** Counts on the release build, and is ready for timing. @returns why there is nothing to time, or the run @throws as Run.open */
	open(workload: Workload, choice: SubjectChoice, size: GuestSize): Promise<TimedRun | Cause>;
	/** Audits. @throws as auditSubject */
	audit(workload: Workload, choice: PolicyChoice, size: GuestSize): Promise<AuditReport>;
	/** How many audits it does at once. What is timed has the machine for itself. */
	readonly auditsAtOnce: number;
}

/** A runner in this very thread, one run after the other. @param loadPolicy default: presets by name */
export function localRunner(loadPolicy: PolicyLoader = parsePolicy): Runner {
	return {
		loadPolicy,
		open: async (workload, choice, size) => {
			const run = await Run.open(workload, await subjectOf(choice, loadPolicy), size);
			if (!(run instanceof Run)) return run;
			return { pass: async () => run.pass(), result: async () => run.result(), end: () => {} };
		},
		audit: async (workload, choice, size) => auditSubject(workload, await subjectOf(choice, loadPolicy), size),
		auditsAtOnce: 1,
	};
}
