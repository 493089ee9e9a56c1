/** One process a task, so that none warms or deoptimises another. */
import { fork } from "node:child_process";
import { InputError } from "../input-error.ts";

/** What a process of a task answers: its result, or an error that is the caller's. */
export type TaskAnswer<Result> =
	| { readonly result: Result }
	| { readonly inputError: string }
	| { readonly rangeError: string };

/**
 * Runs a task in a process of its own.
 * @param entry the process's module: it calls serveTask
 * @param name of the task, for errors
 * @throws InputError, RangeError as the task
 */
export function runTask<Task extends object, Result>(entry: URL, task: Task, name: string): Promise<Result> {
	return new Promise((resolve, reject) => {
		const child = fork(entry, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
		let answered = false;
		child.once("message", (answer: TaskAnswer<Result>) => {
			answered = true;
			if ("result" in answer) resolve(answer.result);
			else if ("inputError" in answer) reject(new InputError(answer.inputError));
			else reject(new RangeError(answer.rangeError));
		});
		child.once("error", reject);
		child.once("exit", (code, signal) => {
			if (!answered) reject(new Error(`the process of ${name} ended early (${signal ?? `exit code ${code}`})`));
		});
		child.send(task);
	});
}

/** In the process: takes its one task and answers. */
export function serveTask<Task, Result>(work: (task: Task) => Promise<Result>): void {
	const answer = async (task: Task): Promise<TaskAnswer<Result>> => {
		try {
			return { result: await work(task) };
		} catch (error) {
			if (error instanceof InputError) return { inputError: error.message };
			if (error instanceof RangeError) return { rangeError: error.message };
			throw error;
		}
	};
	process.once("message", (task: Task) => {
		void answer(task).then((message) => process.send?.(message, () => process.disconnect()));
	});
}
