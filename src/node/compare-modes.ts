/** Compares modes on traces: one process a mode, so that neither warms or deoptimises the other. */

import { type CompareOptions, checkOptions, type Mode } from "../study/options.ts";
import type { ModeResult } from "../study/run.ts";
import type { ChildTask } from "./mode-child.ts";
import { runTask } from "./task.ts";

export interface TraceResult extends ModeResult {
	/** The trace file. */
	readonly file: string;
}

/**
 * Runs every trace in every mode, one after the other.
 * @param progress told what runs now
 * @throws InputError, RangeError: then nothing has been reported
 */
export async function compareTraces(
	files: readonly string[],
	modes: readonly Mode[],
	options: CompareOptions,
	progress: (text: string) => void = () => {},
): Promise<TraceResult[]> {
	checkOptions(options);
	const results: TraceResult[] = [];
	for (const file of files) {
		for (const mode of modes) {
			progress(`${file}: ${mode}`);
			const task: ChildTask = { trace: file, mode, options };
			const result = await runTask<ChildTask, ModeResult>(
				new URL("./mode-child.js", import.meta.url),
				task,
				`mode ${mode}`,
			);
			if (result.wrongBytes > 0) throw new Error(`${file}: ${mode}: ${result.wrongBytes} bytes did not arrive as sent`);
			results.push({ file, ...result });
		}
	}
	return results;
}
