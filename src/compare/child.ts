/** A process of its own for one mode: compare.ts forks it. */
import { readBlockTrace } from "../workload/ftrace.ts";
import { serveTask } from "./fork.ts";
import type { CompareOptions, Mode } from "./options.ts";
import { type ModeResult, runMode } from "./run.ts";

export interface ChildTask {
	readonly trace: string;
	readonly mode: Mode;
	readonly options: CompareOptions;
}

serveTask<ChildTask, ModeResult>(({ trace, mode, options }) => runMode(readBlockTrace(trace), mode, options));
