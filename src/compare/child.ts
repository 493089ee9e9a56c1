/** A process of its own for one mode: compare.ts forks it and it answers with one message. */
import { InputError } from "../input.ts";
import { readBlockTrace } from "../workload/ftrace.ts";
import type { CompareOptions, Mode } from "./options.ts";
import { type ModeResult, runMode } from "./run.ts";

export interface ChildTask {
	readonly trace: string;
	readonly mode: Mode;
	readonly options: CompareOptions;
}

export type ChildAnswer =
	| { readonly result: ModeResult }
	| { readonly inputError: string }
	| { readonly rangeError: string };

async function answer(task: ChildTask): Promise<ChildAnswer> {
	try {
		return { result: await runMode(readBlockTrace(task.trace), task.mode, task.options) };
	} catch (error) {
		if (error instanceof InputError) return { inputError: error.message };
		if (error instanceof RangeError) return { rangeError: error.message };
		throw error;
	}
}

process.once("message", (task: ChildTask) => {
	void answer(task).then((message) => process.send?.(message, () => process.disconnect()));
});
