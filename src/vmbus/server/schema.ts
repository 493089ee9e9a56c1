/** Plain data and back, by one description: what is loaded may be anything. */

/** How a value is saved as JSON can hold it, and loaded again. */
export interface Schema<T> {
	save(value: T): unknown;
	/** @throws RangeError that names the path */
	load(value: unknown, path: string): T;
}

/** A schema of anything. */
interface AnySchema {
	save(value: never): unknown;
	load(value: unknown, path: string): unknown;
}

export type SchemaFields<T> = { readonly [K in keyof T]-?: Schema<T[K]> };

/** The error that a saved value is not what it must be. */
export function wrong(path: string, expected: string): RangeError {
	return new RangeError(`${path}: expected ${expected}`);
}

export function whole(least: number, most: number): Schema<number> {
	return {
		save: (value) => value,
		load: (value, path) => {
			if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most)
				throw wrong(path, `a whole number from ${least} to ${most}`);
			return value;
		},
	};
}

export const flag: Schema<boolean> = {
	save: (value) => value,
	load: (value, path) => {
		if (typeof value !== "boolean") throw wrong(path, "true or false");
		return value;
	},
};

/** One of some texts, or a text that passes a test. */
export function text<T extends string>(expected: string, test: (value: string) => boolean): Schema<T> {
	return {
		save: (value) => value,
		load: (value, path) => {
			if (typeof value !== "string" || !test(value)) throw wrong(path, expected);
			return value as T;
		},
	};
}

/** Bytes as hex digits. */
export function bytes(least: number, most: number): Schema<Uint8Array> {
	return {
		save: (value) => Array.from(value, (byte) => byte.toString(16).padStart(2, "0")).join(""),
		load: (value, path) => {
			if (typeof value !== "string" || !/^([0-9a-f]{2})*$/.test(value)) throw wrong(path, "bytes as hex digits");
			const length = value.length / 2;
			if (length < least || length > most) throw wrong(path, `${least} to ${most} bytes`);
			return Uint8Array.from({ length }, (_, i) => Number.parseInt(value.slice(2 * i, 2 * i + 2), 16));
		},
	};
}

/** A u64 as hex digits. */
export const quadword: Schema<bigint> = {
	save: (value) => value.toString(16),
	load: (value, path) => {
		if (typeof value !== "string" || !/^[0-9a-f]{1,16}$/.test(value)) throw wrong(path, "up to 16 hex digits");
		return BigInt(`0x${value}`);
	},
};

export function nullable<T>(schema: Schema<T>): Schema<T | null> {
	return {
		save: (value) => (value === null ? null : schema.save(value)),
		load: (value, path) => (value === null ? null : schema.load(value, path)),
	};
}

export function list<T>(schema: Schema<T>, most: number): Schema<T[]> {
	return {
		save: (values) => values.map((value) => schema.save(value)),
		load: (value, path) => {
			if (!Array.isArray(value) || value.length > most) throw wrong(path, `a list of at most ${most}`);
			return Array.from(value, (one, i) => schema.load(one, `${path}[${i}]`));
		},
	};
}

function isObject(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An object of these fields and no others. */
export function record<T extends object>(fields: SchemaFields<T>): Schema<T> {
	const names = Object.keys(fields) as (keyof T & string)[];
	return {
		save: (value) => Object.fromEntries(names.map((name) => [name, fields[name].save(value[name])])),
		load: (value, path) => {
			if (!isObject(value)) throw wrong(path, `an object of ${names.join(", ")}`);
			const other = Object.keys(value).find((name) => !Object.hasOwn(fields, name));
			if (other !== undefined) throw wrong(`${path}.${other}`, `nothing but ${names.join(", ")}`);
			return Object.fromEntries(names.map((name) => [name, fields[name].load(value[name], `${path}.${name}`)])) as T;
		},
	};
}

/** One of several objects, told apart by `name`. The table has the other fields of each. */
export function variants<T extends { readonly name: string }>(
	table: Readonly<Record<T["name"], Readonly<Record<string, AnySchema>>>>,
): Schema<T> {
	const names = Object.keys(table) as T["name"][];
	const schemas = new Map<unknown, Schema<object>>(
		names.map((name) => [name, record({ name: text<string>(`"${name}"`, (one) => one === name), ...table[name] })]),
	);
	return {
		save: (value) => schemas.get(value.name)?.save(value),
		load: (value, path) => {
			const schema = isObject(value) ? schemas.get(value.name) : undefined;
			if (schema === undefined) throw wrong(`${path}.name`, `one of ${names.join(", ")}`);
			return schema.load(value, path) as T;
		},
	};
}
