/** The process of tasks: task.ts forks it. It answers one call after the other, and ends when its parent lets it go. */
import type { TaskCall } from "./task.ts";
import { answerTo, type TaskAnswer } from "./task-answer.ts";
import { TASKS } from "./tasks.ts";

process.on("message", ({ task, args }: TaskCall) => {
	const work = TASKS[task] as (...args: readonly unknown[]) => Promise<unknown>;
	void work(...args)
		.then((result): TaskAnswer => ({ result }), answerTo)
		.then((answer) => process.connected && process.send?.(answer));
});
