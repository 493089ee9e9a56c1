import { describe, expect, it } from "vitest";
import { POOL_FULL } from "../../assembly/layout/status.ts";
import { InputError } from "../../src/input-error.ts";
import { processRunner } from "../../src/node/runner.ts";
import { answerTo, errorOf, type TaskAnswer } from "../../src/node/task-answer.ts";
import { DmaError } from "../../src/status.ts";
import { temporaryFile } from "../helpers/cli.ts";
import { SMALL, workloadOf } from "../helpers/workload.ts";

const WORK = workloadOf([{ read: false, bytes: 4096, depth: 0, ns: 1000 }]);

/** What an audit in a process of its own throws, with its message. */
async function thrown(policy: string): Promise<Error> {
	return processRunner.audit(WORK, { policy }, SMALL).then(
		() => expect.fail("it was audited"),
		(error: Error) => error,
	);
}

const ends = (how: string) =>
	temporaryFile(
		"ends.ts",
		`export default { name: "ends", title: "t", source: "s", kernel: "linux-6.12", acceptance: "none",
	predicates: { forceBounce: () => { ${how}; return true; } } };`,
	);

describe("an error in a process of its own", () => {
	it("arrives as the error that was thrown: its class and its message", async () => {
		const unknown = await thrown("nobody");
		expect([unknown.constructor, unknown.message]).toEqual([RangeError, expect.stringContaining('"nobody"')]);
		const missing = await thrown("/no/such/policy.ts");
		expect([missing.constructor, missing.message]).toEqual([InputError, "/no/such/policy.ts: no such file"]);
		const nonsense = await thrown(ends("return 7"));
		expect([nonsense.constructor, nonsense.message]).toEqual([
			InputError,
			expect.stringContaining("expected true or false, answered 7"),
		]);
	});

	it("of the DMA layer keeps its status", () => {
		const error = new DmaError("map(0x1000)", POOL_FULL, "all of it");
		const answer = structuredClone(answerTo(error)) as Exclude<TaskAnswer, { readonly result: unknown }>;
		const received = errorOf(answer);
		expect(received).toBeInstanceOf(DmaError);
		expect(received).toMatchObject({ name: "DmaError", status: "POOL_FULL", message: error.message });
	});

	it("that nobody expects has its stack, since it is a bug", () => {
		const answer = answerTo(new TypeError("x is not a function"));
		expect(answer).toEqual({
			thrown: "other",
			message: expect.stringMatching(/^TypeError: x is not a function\n +at /),
		});
	});

	it.each([
		["process.exit(3)", "exit code 3"],
		['process.kill(process.pid, "SIGKILL")', "SIGKILL"],
	])("that ends the process is one line: %s", async (how, why) => {
		const error = await thrown(ends(how));
		expect(error.message).toBe(`the process of a task ended early (${why})`);
	});
});
