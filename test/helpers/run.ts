/** A run that is timed alone. */
import type { Cause } from "../../src/study/cause.ts";
import { Run, type RunOptions, type RunResult } from "../../src/study/run.ts";
import type { Subject } from "../../src/study/subject.ts";
import type { Workload } from "../../src/workload/workload.ts";

/** Runs a workload on a subject, by default with one timed pass. @returns why there is nothing to time, or the figures */
export async function runSubject(
	workload: Workload,
	subject: Subject,
	{ repeat = 1, ...size }: RunOptions = {},
): Promise<RunResult | Cause> {
	const run = await Run.open(workload, subject, size);
	if (!(run instanceof Run)) return run;
	for (let i = 0; i < repeat; i++) run.pass();
	return run.result();
}
