/** Longest line that an error is. */
const LINE_CHARACTERS = 1000;

/** Characters that a terminal takes as orders, ends of lines, or writes from right to left. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: those are the ones
const ORDERS = /[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g;

/** Text of somebody else's, as one line that a terminal only shows; orders to it as \u{...}. */
export function oneLine(text: string): string {
	const cut = text.length > LINE_CHARACTERS ? `${text.slice(0, LINE_CHARACTERS)}...` : text;
	return cut.replace(ORDERS, (character) => `\\u{${character.charCodeAt(0).toString(16)}}`);
}

/** Bad input: one line for a person, naming file, line and field where they are known. */
export class InputError extends Error {
	override readonly name = "InputError";

	constructor(message: string) {
		super(oneLine(message));
	}
}

/** Longest part of somebody's own text that an error repeats. */
const SHOWN_CHARACTERS = 60;

/** A value as an error names what it found, whatever it is: no code of the value's runs. */
export function shown(value: unknown): string {
	if (value === null || value === undefined || typeof value === "boolean" || typeof value === "number")
		return String(value);
	if (typeof value === "string")
		return value.length > SHOWN_CHARACTERS
			? `${JSON.stringify(value.slice(0, SHOWN_CHARACTERS))}...`
			: JSON.stringify(value);
	if (Array.isArray(value)) return "an array";
	return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** What foreign code threw, in one line. */
export function thrown(error: unknown): string {
	try {
		const message = error instanceof Error ? String(error.message) : String(error);
		return (message.split(/\r?\n/)[0] as string).trim() || "an error without a message";
	} catch {
		return "something that has no text";
	}
}
