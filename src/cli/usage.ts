/** What the commands share: options, errors, and where output goes. */
import { statSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { type ParseArgsConfig, parseArgs } from "node:util";
import { InputError } from "../input-error.ts";

/** A wrong call of the command: one line, exit code 2. */
export class UsageError extends Error {
	override readonly name = "UsageError";
}

type Options = NonNullable<ParseArgsConfig["options"]>;

/** parseArgs with errors in this project's words. @throws UsageError that names the option */
export function parseOptions<T extends Options>(
	args: readonly string[],
	options: T,
): ReturnType<typeof parseArgs<{ options: T; allowPositionals: true; strict: true }>> {
	try {
		return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
	} catch (error) {
		throw new UsageError((error as Error).message.split(/\.\s/)[0] as string);
	}
}

/** A whole number option. @throws UsageError */
export function wholeNumber(name: string, text: string | undefined): number | undefined {
	if (text === undefined) return undefined;
	if (!/^\d+$/.test(text)) throw new UsageError(`--${name}: expected a whole number, not "${text}"`);
	return Number(text);
}

/** Refuses an output file whose folder is not there, before any work is done. @throws InputError */
export function checkWritable(path: string | undefined): void {
	if (path === undefined || path === "-") return;
	const folder = dirname(resolve(path));
	if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
		throw new InputError(`${path}: cannot be written: there is no folder ${folder}`);
	}
	if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) throw new InputError(`${path}: is a folder`);
}

/** Writes a file. @throws InputError that names it */
export function writeOutput(path: string, content: string | Uint8Array): void {
	try {
		writeFileSync(path, content);
	} catch (error) {
		throw new InputError(`${path}: cannot be written (${(error as NodeJS.ErrnoException).code})`);
	}
}

/** Writes JSON to a file, or alone to standard output for "-". Numbers are exact. */
export function writeJson<Document extends { readonly schema: string }>(path: string, document: Document): void {
	const text = `${JSON.stringify(document, null, 2)}\n`;
	if (path === "-") process.stdout.write(text);
	else writeOutput(path, text);
}

/** Whether text for people may be coloured: a terminal, and no NO_COLOR. */
export function mayColor(): boolean {
	return process.stdout.isTTY === true && (process.env.NO_COLOR ?? "") === "";
}

/** Shows what runs now on standard error, only on a terminal; an empty text clears it. */
export function progress(text: string): void {
	if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
