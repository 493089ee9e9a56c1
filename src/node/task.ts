/** Tasks in processes of their own, so that none warms or deoptimises another. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { endWithUs } from "./children.ts";
import { errorOf, type TaskAnswer } from "./task-answer.ts";
import type { Tasks } from "./tasks.ts";

/** A call as it is sent, by structured clone. */
export interface TaskCall {
	readonly task: keyof Tasks;
	readonly args: readonly unknown[];
}

// this file runs as src/node/task.ts under the tests; the process needs the built module
const CHILD = new URL(
	import.meta.url.endsWith(".ts") ? "../../build/src/node/task-child.js" : "./task-child.js",
	import.meta.url,
);

/** A process that is called again and again, one call after the other, and keeps what earlier calls made. */
export class TaskProcess {
	readonly #child: ChildProcess;
	/** How the call under way ends, or null. */
	#waits: { readonly resolve: (result: unknown) => void; readonly reject: (error: Error) => void } | null = null;
	/** Why it takes no call any more, or null. */
	#ended: Error | null = null;

	constructor() {
		this.#child = fork(fileURLToPath(CHILD), {
			stdio: ["ignore", "ignore", "inherit", "ipc"],
			serialization: "advanced",
		});
		endWithUs(this.#child);
		this.#child.on("message", (answer: TaskAnswer) => {
			const waits = this.#waits;
			this.#waits = null;
			if ("result" in answer) waits?.resolve(answer.result);
			else waits?.reject(errorOf(answer));
		});
		this.#child.once("error", (error) => this.#fail(error));
		this.#child.once("exit", (code, signal) =>
			this.#fail(new Error(`the process of a task ended early (${signal ?? `exit code ${code}`})`)),
		);
	}

	#fail(error: Error): void {
		this.#ended ??= error;
		this.#waits?.reject(this.#ended);
		this.#waits = null;
	}

	/**
	 * Calls a task. Arguments and result are plain data.
	 * @throws InputError, RangeError, DmaError as the task; Error when its process ends early
	 */
	call<Name extends keyof Tasks>(
		task: Name,
		...args: Parameters<Tasks[Name]>
	): Promise<Awaited<ReturnType<Tasks[Name]>>> {
		return new Promise((resolve, reject) => {
			if (this.#ended !== null) {
				reject(this.#ended);
				return;
			}
			this.#waits = { resolve: resolve as (result: unknown) => void, reject };
			const call: TaskCall = { task, args };
			this.#child.send(call, (error) => {
				if (error !== null) this.#fail(error);
			});
		});
	}

	/** Lets the process end. */
	end(): void {
		if (this.#child.connected) this.#child.disconnect();
	}
}

/** Runs a task in a process of its own. @throws as TaskProcess.call */
export async function runTask<Name extends keyof Tasks>(
	task: Name,
	...args: Parameters<Tasks[Name]>
): Promise<Awaited<ReturnType<Tasks[Name]>>> {
	const process = new TaskProcess();
	try {
		return await process.call(task, ...args);
	} finally {
		process.end();
	}
}
