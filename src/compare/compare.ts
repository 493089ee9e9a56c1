/** Compares modes on traces: one process a mode, so that neither warms or deoptimises the other. */
import { fork } from "node:child_process";
import { InputError } from "../input.ts";
import type { ChildAnswer, ChildTask } from "./child.ts";
import { type CompareOptions, checkOptions, type Mode } from "./options.ts";
import type { ModeResult } from "./run.ts";

export interface TraceResult extends ModeResult {
	/** The trace file. */
	readonly file: string;
}

function runInChild(task: ChildTask): Promise<ModeResult> {
	return new Promise((resolve, reject) => {
		const child = fork(new URL("./child.js", import.meta.url), { stdio: ["ignore", "ignore", "inherit", "ipc"] });
		let answered = false;
		child.once("message", (answer: ChildAnswer) => {
			answered = true;
			if ("result" in answer) resolve(answer.result);
			else if ("inputError" in answer) reject(new InputError(answer.inputError));
			else reject(new RangeError(answer.rangeError));
		});
		child.once("error", reject);
		child.once("exit", (code, signal) => {
			if (!answered)
				reject(new Error(`the process of mode ${task.mode} ended early (${signal ?? `exit code ${code}`})`));
		});
		child.send(task);
	});
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
			const result = await runInChild({ trace: file, mode, options });
			if (result.wrongBytes > 0) throw new Error(`${file}: ${mode}: ${result.wrongBytes} bytes did not arrive as sent`);
			results.push({ file, ...result });
		}
	}
	return results;
}
