/** Files that a command writes: checked before its work, so that no result is lost when it is done. */
import {
	accessSync,
	chmodSync,
	constants,
	realpathSync,
	renameSync,
	rmSync,
	type Stats,
	statSync,
	writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { InputError, shown } from "../input-error.ts";
import { UsageError } from "./usage.ts";

/** Paths by the option that names them; "-" is standard output. */
type Wanted = Readonly<Record<string, string | undefined>>;

/** What tells one file from another, whatever its path; null: there is none. */
function identity(path: string): string | null {
	const found = statSync(path, { throwIfNoEntry: false });
	return found === undefined ? null : `${found.dev}:${found.ino}`;
}

/** As identity; of a file that is not there yet, its folder and name. */
function place(path: string): string {
	return identity(path) ?? `${identity(dirname(resolve(path)))}/${basename(path)}`;
}

function code(error: unknown): string | undefined {
	return (error as NodeJS.ErrnoException).code;
}

/** @throws InputError for a path that cannot be written */
function checkPath(option: string, path: string): void {
	const say = (why: string) => new InputError(`${path}: cannot be written: ${why} (--${option})`);
	let found: Stats | undefined;
	try {
		found = statSync(path, { throwIfNoEntry: false });
		if (found?.isDirectory()) throw say("it is a folder");
		const folder = dirname(resolve(path));
		if (found === undefined && statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true)
			throw say(`there is no folder ${folder}`);
		accessSync(found === undefined ? folder : path, constants.W_OK);
	} catch (error) {
		throw error instanceof InputError ? error : say(String(code(error)));
	}
}

/**
 * Refuses outputs that could not be written, would overwrite an input, or each other.
 * @param inputs paths that the command reads
 * @throws UsageError, InputError that name the option
 */
export function checkOutputs(wanted: Wanted, inputs: readonly string[] = []): void {
	const taken = new Map<string, string>();
	for (const input of inputs) {
		const found = identity(input);
		if (found !== null) taken.set(found, `is an input too`);
	}
	for (const [option, path] of Object.entries(wanted)) {
		if (path === undefined) continue;
		if (path === "") throw new UsageError(`--${option}: expected a file, found an empty name`);
		if (path !== "-") checkPath(option, path);
		const where = path === "-" ? "-" : place(path);
		const other = taken.get(where);
		// what is no regular file takes both, one behind the other
		if (other !== undefined && (path === "-" || isReplaced(path)))
			throw new UsageError(`--${option}: ${shown(path)} ${other}`);
		taken.set(where, `is what --${option} writes`);
	}
}

/** Whether a file comes whole in the place of the old one: not a pipe, a terminal or a device. */
function isReplaced(path: string): boolean {
	return statSync(path, { throwIfNoEntry: false })?.isFile() !== false;
}

/** Writes a file: a regular one is replaced as a whole. @throws InputError that names it */
export function writeOutput(path: string, content: string | Uint8Array): void {
	try {
		if (isReplaced(path)) replace(path, content);
		else writeFileSync(path, content);
	} catch (error) {
		throw new InputError(`${path}: cannot be written (${code(error)})`);
	}
}

function replace(path: string, content: string | Uint8Array): void {
	const old = statSync(path, { throwIfNoEntry: false });
	// a link stays one
	const target = old === undefined ? resolve(path) : realpathSync(path);
	const staged = join(dirname(target), `.${basename(target)}.${process.pid}`);
	try {
		writeFileSync(staged, content);
		if (old !== undefined) chmodSync(staged, old.mode & 0o7777);
		renameSync(staged, target);
	} catch (error) {
		rmSync(staged, { force: true });
		// a folder that takes no new file, but lets this one be written
		if (old === undefined || !["EACCES", "EPERM", "EROFS"].includes(code(error) ?? "")) throw error;
		writeFileSync(target, content);
	}
}

/** Writes JSON to a file, or alone to standard output for "-". Numbers are exact. */
export function writeJson<Document extends { readonly schema: string }>(path: string, document: Document): void {
	const text = `${JSON.stringify(document, null, 2)}\n`;
	if (path === "-") process.stdout.write(text);
	else writeOutput(path, text);
}

/** Says where files went, unless standard output is JSON. */
export function sayWritten({
	json,
	html,
}: {
	readonly json?: string | undefined;
	readonly html?: string | undefined;
}): void {
	if (json === "-") return;
	if (json !== undefined) process.stdout.write(`JSON: ${resolve(json)}\n`);
	if (html !== undefined) process.stdout.write(`Report: ${resolve(html)}\n`);
}
