/** The header of op-by-op recordings: a comment, lines `key value`, then a line `--`. */
import { Fields } from "../fields.ts";
import { InputError } from "../input-error.ts";

interface KeyedHeader {
	/** The line of a key. @throws InputError when there is none */
	key(name: string): Fields;
	has(name: string): boolean;
	/** Index of the first line behind the header. */
	readonly first: number;
}

/** @throws InputError for a header without end */
export function readKeyedHeader(path: string, lines: readonly string[]): KeyedHeader {
	const end = lines.indexOf("--");
	if (end < 0) throw new InputError(`${path}: expected a line "--" after the header`);
	const found = new Map<string, Fields>();
	for (let i = 1; i < end; i++) {
		const fields = new Fields(path, i + 1, lines[i] as string);
		found.set(fields.text(0, "key"), fields);
	}
	return {
		key: (name) => {
			const fields = found.get(name);
			if (fields === undefined) throw new InputError(`${path}: header: expected a line "${name} ..."`);
			return fields;
		},
		has: (name) => found.has(name),
		first: end + 1,
	};
}
