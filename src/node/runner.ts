/** A runner of studies whose runs have a process each. */
import { availableParallelism } from "node:os";
import type { Runner } from "../study/runner.ts";
import type { SubjectChoice } from "../study/subject.ts";
import { loadPolicy } from "./policy-file.ts";
import { runTask, TaskProcess } from "./task.ts";

/** Takes policies by name or as a file's path: a policy's functions cannot leave this process. */
export const processRunner: Runner = {
	loadPolicy,
	open: async (workload, choice, size) => {
		const process = new TaskProcess();
		try {
			const cause = await process.call("open", workload, sent(choice), size);
			if (cause === null)
				return { pass: () => process.call("pass"), result: () => process.call("result"), end: () => process.end() };
			process.end();
			return cause;
		} catch (error) {
			process.end();
			throw error;
		}
	},
	audit: async (workload, choice, size) => runTask("audit", workload, sent(choice), size),
	auditsAtOnce: Math.min(availableParallelism(), 4),
};

/** @throws RangeError for a policy that is not text */
function sent<Choice extends SubjectChoice>(choice: Choice): Choice {
	if ("policy" in choice && typeof choice.policy !== "string")
		throw new RangeError("policy: expected a name or a file: the functions of a policy cannot go to another process");
	return choice;
}
