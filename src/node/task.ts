/** Tasks in processes of their own, so that none warms or deoptimises another. */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { InputError } from "../input-error.ts";
import { DmaError } from "../status.ts";
import { endWithUs } from "./children.ts";
import type { Tasks } from "./tasks.ts";

/** A task as it is sent, by structured clone. */
export interface TaskCall {
	readonly task: keyof Tasks;
	readonly args: readonly unknown[];
}

/** What its process answers: the result, or what was thrown. */
export type TaskAnswer =
	| { readonly result: unknown }
	| { readonly thrown: "input" | "range" | "other"; readonly message: string };

/** What was thrown, as an answer says it. */
export function answerTo(error: unknown): TaskAnswer {
	if (error instanceof InputError) return { thrown: "input", message: error.message };
	if (error instanceof RangeError || error instanceof DmaError) return { thrown: "range", message: error.message };
	return { thrown: "other", message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

// this file runs as src/node/task.ts under the tests; the process needs the built module
const CHILD = new URL(
	import.meta.url.endsWith(".ts") ? "../../build/src/node/task-child.js" : "./task-child.js",
	import.meta.url,
);

/**
 * Runs a task in a process of its own. Arguments and result are plain data.
 * @throws InputError, RangeError as the task; Error when its process ends early
 */
export function runTask<Name extends keyof Tasks>(
	task: Name,
	...args: Parameters<Tasks[Name]>
): Promise<Awaited<ReturnType<Tasks[Name]>>> {
	return new Promise((resolve, reject) => {
		const child = fork(fileURLToPath(CHILD), {
			stdio: ["ignore", "ignore", "inherit", "ipc"],
			serialization: "advanced",
		});
		endWithUs(child);
		let answered = false;
		child.once("message", (answer: TaskAnswer) => {
			answered = true;
			if ("result" in answer) resolve(answer.result as Awaited<ReturnType<Tasks[Name]>>);
			else if (answer.thrown === "input") reject(new InputError(answer.message));
			else reject(answer.thrown === "range" ? new RangeError(answer.message) : new Error(answer.message));
		});
		child.once("error", reject);
		child.once("exit", (code, signal) => {
			if (!answered) reject(new Error(`the process of ${task} ended early (${signal ?? `exit code ${code}`})`));
		});
		const call: TaskCall = { task, args };
		child.send(call, (error) => {
			if (error !== null) reject(error);
		});
	});
}
