/** The process of a task: task.ts forks it. It takes one task, answers and ends. */
import { answerTo, type TaskAnswer, type TaskCall } from "./task.ts";
import { TASKS } from "./tasks.ts";

process.once("message", ({ task, args }: TaskCall) => {
	const work = TASKS[task] as (...args: readonly unknown[]) => Promise<unknown>;
	void work(...args)
		.then((result): TaskAnswer => ({ result }), answerTo)
		.then((answer) => process.send?.(answer, () => process.disconnect()));
});
