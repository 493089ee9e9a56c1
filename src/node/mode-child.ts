/** A process of its own for one mode: compare.ts forks it. */

import type { CompareOptions, Mode } from "../study/options.ts";
import { type ModeResult, runMode } from "../study/run.ts";
import { readBlockTrace } from "../workload/ftrace.ts";
import { serveTask } from "./task.ts";

export interface ChildTask {
	readonly trace: string;
	readonly mode: Mode;
	readonly options: CompareOptions;
}

serveTask<ChildTask, ModeResult>(({ trace, mode, options }) => runMode(readBlockTrace(trace), mode, options));
