#!/usr/bin/env node
import { writeSync } from "node:fs";
import { oneLine, thrown } from "../input-error.ts";
import { run } from "./run.ts";

const FAILED = 2;

/** What the command answers; null while it is at work. */
let answer: number | null = null;

/** One line on standard error, written at once: the process may be about to end. */
function say(text: string): void {
	try {
		writeSync(2, `coco-dma: ${oneLine(text)}\n`);
	} catch {
		// nobody reads it
	}
}

process.stdout.on("error", ({ code }: NodeJS.ErrnoException) => {
	// a reader that has seen enough, such as head, is no failure, and changes no verdict
	if (code === "EPIPE") return;
	if (answer !== FAILED) say(`standard output: cannot be written (${code})`);
	answer = FAILED;
});
process.stderr.on("error", () => {});

// foreign code, such as a policy's file, may leave a promise behind, or end the process
for (const event of ["uncaughtException", "unhandledRejection"] as const) {
	process.on(event, (error: unknown) => {
		say(
			`${event === "unhandledRejection" ? "a promise was rejected" : "thrown outside of any call"}: ${thrown(error)}`,
		);
		answer = FAILED;
		process.exit(FAILED);
	});
}
process.on("exit", () => {
	if (answer === null) say("process.exit was called before the work was done");
	process.exitCode = answer ?? FAILED;
});

const code = await run(process.argv.slice(2));
answer ??= code;
