/** Bad input: one line for a person, naming file, line and field where they are known. */
export class InputError extends Error {
	override readonly name = "InputError";
}
