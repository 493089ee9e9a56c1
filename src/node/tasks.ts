/** What a process of its own can do. */
import type { Cause } from "../study/cause.ts";
import type { GuestSize } from "../study/layout.ts";
import { Run, type RunResult } from "../study/run.ts";
import { localRunner } from "../study/runner.ts";
import { type SubjectChoice, subjectOf } from "../study/subject.ts";
import type { Workload } from "../workload/workload.ts";
import { loadPolicy } from "./policy-file.ts";

const { audit } = localRunner(loadPolicy);

/** CPU time of this process, in user and kernel mode (ms). */
function cpuMs(): number {
	const { user, system } = process.cpuUsage();
	return (user + system) / 1000;
}

/** The one run of this process. */
let run: Run | null = null;

function opened(): Run {
	if (run === null) throw new Error("no run was opened");
	return run;
}

/** Arguments and results are plain data. */
export const TASKS = {
	audit,
	/** Opens this process's run. @returns why there is none, or null */
	open: async (workload: Workload, choice: SubjectChoice, size: GuestSize): Promise<Cause | null> => {
		const made = await Run.open(workload, await subjectOf(choice, loadPolicy), size, cpuMs);
		if (!(made instanceof Run)) return made;
		run = made;
		return null;
	},
	pass: async (): Promise<void> => opened().pass(),
	result: async (): Promise<RunResult> => opened().result(),
};
export type Tasks = typeof TASKS;
