/** What the commands share: options, errors, and progress. */
import { type ParseArgsConfig, parseArgs } from "node:util";
import { shown } from "../input-error.ts";

/** A wrong call of the command: one line, exit code 2. */
export class UsageError extends Error {
	override readonly name = "UsageError";
}

type Options = NonNullable<ParseArgsConfig["options"]>;

/**
 * parseArgs with errors in this project's words. An option that is given twice is refused, but for those that are lists.
 * @throws UsageError that names the option
 */
export function parseOptions<T extends Options>(
	args: readonly string[],
	options: T,
): ReturnType<typeof parseArgs<{ options: T; allowPositionals: true; strict: true; tokens: true }>> {
	const { tokens } = parseArgs({ args: joinedValues(args, options), options, strict: false, tokens: true });
	const given = new Set<string>();
	for (const token of tokens) {
		if (token.kind !== "option") continue;
		const { name, rawName, value } = token;
		const option = Object.hasOwn(options, name) ? options[name] : undefined;
		if (option === undefined) throw new UsageError(`${unknownOption(rawName, Object.keys(options))}`);
		if (given.has(name) && option.multiple !== true) throw new UsageError(`${rawName}: given twice`);
		given.add(name);
		if (option.type === "string" && value === undefined) throw new UsageError(`${rawName}: expected a value`);
		if (option.type === "boolean" && value !== undefined)
			throw new UsageError(`${rawName}: expected no value, found ${shown(value)}`);
	}
	return parseArgs({ args: joinedValues(args, options), options, allowPositionals: true, strict: true, tokens: true });
}

/** A value that begins with "-", such as that of `--ram -1`, belongs to its option; "-" alone and "--more" do not. */
function joinedValues(args: readonly string[], options: Options): string[] {
	const out: string[] = [];
	for (let i = 0; i < args.length; i++) {
		const [arg, next] = [args[i] as string, args[i + 1]];
		if (arg === "--") return [...out, ...args.slice(i)];
		const takesValue =
			arg.startsWith("--") && Object.hasOwn(options, arg.slice(2)) && options[arg.slice(2)]?.type === "string";
		if (takesValue && next !== undefined && /^-[^-]/.test(next)) {
			out.push(`${arg}=${next}`);
			i++;
		} else out.push(arg);
	}
	return out;
}

function unknownOption(rawName: string, names: readonly string[]): string {
	return `Unknown option '${rawName}': expected ${names.map((name) => `--${name}`).join(", ")}`;
}

/** A list option: names with commas between them. @throws UsageError for an empty or a repeated name */
export function listOf(option: string, text: string): string[] {
	const names = text.split(",").map((name) => name.trim());
	if (names.includes(""))
		throw new UsageError(`--${option}: expected names with commas between them, not ${shown(text)}`);
	const twice = names.find((name, i) => names.indexOf(name) !== i);
	if (twice !== undefined) throw new UsageError(`--${option}: ${shown(twice)} is given twice`);
	return names;
}

/** A whole number option. @throws UsageError */
export function wholeNumber(name: string, text: string | undefined): number | undefined {
	if (text === undefined) return undefined;
	if (!/^\d+$/.test(text)) throw new UsageError(`--${name}: expected a whole number, not "${text}"`);
	return Number(text);
}

/** Whether text for people may be coloured: a terminal, and no NO_COLOR. */
export function mayColor(): boolean {
	return process.stdout.isTTY === true && (process.env.NO_COLOR ?? "") === "";
}

/** Shows what runs now on standard error, only on a terminal; an empty text clears it. */
export function progress(text: string): void {
	if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
