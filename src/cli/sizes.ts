import { parseBytes } from "../bytes.ts";
import { UsageError } from "./usage.ts";

/** A size option, such as "64M". @returns bytes @throws UsageError that names the option */
export function parseSize(name: string, text: string | undefined): number | undefined {
	if (text === undefined) return undefined;
	try {
		return parseBytes(text);
	} catch (error) {
		throw new UsageError(`--${name}: ${(error as Error).message}`);
	}
}
