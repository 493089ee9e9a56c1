/** What a process of its own answers: plain data, errors too. */
import { InputError } from "../input-error.ts";
import { DmaError, receivedError, type StatusName } from "../status.ts";

/** What a process answers: the result, or what was thrown. */
export type TaskAnswer =
	| { readonly result: unknown }
	| { readonly thrown: "input" | "range" | "other"; readonly message: string }
	| { readonly thrown: "dma"; readonly message: string; readonly status: StatusName };

/** What was thrown, as an answer says it. */
export function answerTo(error: unknown): TaskAnswer {
	if (error instanceof InputError) return { thrown: "input", message: error.message };
	if (error instanceof DmaError) return { thrown: "dma", message: error.message, status: error.status };
	if (error instanceof RangeError) return { thrown: "range", message: error.message };
	return { thrown: "other", message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

/** The error of an answer: of the class that was thrown, with its message. */
export function errorOf(answer: Exclude<TaskAnswer, { readonly result: unknown }>): Error {
	switch (answer.thrown) {
		case "input":
			return new InputError(answer.message);
		case "range":
			return new RangeError(answer.message);
		case "dma":
			return receivedError(answer.message, answer.status);
		case "other":
			return new Error(answer.message);
	}
}
