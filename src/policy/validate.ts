/** Policies that come from somebody else's file: every field is read once, checked and copied. */
import { parseBytes } from "../bytes.ts";
import { KERNELS } from "../coco/rules/kernel.ts";
import { ACCEPTANCES, FLAG_SETTERS, MECHANISMS, type Policy, type PolicyPredicate } from "../coco/rules/policy.ts";
import { type GuestPoolOptions, RESERVED_KINDS } from "../coco/rules/pool.ts";
import { PREDICATES, type PredicateName } from "../coco/rules/predicate.ts";
import { REFERENCE_KINDS, type Reference } from "../coco/rules/reference.ts";
import { TRANSITIONS } from "../coco/trust/tdisp.ts";
import { InputError, shown, thrown } from "../input-error.ts";

/** Reads one value. @throws InputError that names the file and the field */
type Reader<T> = (value: unknown, at: string) => T;
type Readers<T> = { readonly [K in keyof T]-?: Reader<Exclude<T[K], undefined>> };

function wrong(at: string, expected: string, value: unknown): InputError {
	return new InputError(`${at}: expected ${expected}, found ${shown(value)}`);
}

const line: Reader<string> = (value, at) => {
	if (typeof value !== "string" || value.trim() === "" || /[\r\n]/.test(value) || value.length > 500)
		throw wrong(at, "a line of text of up to 500 characters", value);
	return value;
};

const word: Reader<string> = (value, at) => {
	if (typeof value !== "string" || !/^[a-z0-9.]+(-[a-z0-9.]+)*$/.test(value) || value.length > 60)
		throw wrong(at, 'lower-case words joined by "-"', value);
	return value;
};

const yesNo: Reader<boolean> = (value, at) => {
	if (typeof value !== "boolean") throw wrong(at, "true or false", value);
	return value;
};

/** A whole number in [min, max]. */
function whole(min: number, max: number): Reader<number> {
	return (value, at) => {
		if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max)
			throw wrong(at, `a whole number from ${min} to ${max}`, value);
		return value;
	};
}

function oneOf<T extends string>(...names: readonly T[]): Reader<T> {
	return (value, at) => {
		const found = names.find((name) => name === value);
		if (found === undefined) throw wrong(at, names.map((name) => `"${name}"`).join(", "), value);
		return found;
	};
}

function keysOf<K extends string>(record: Readonly<Record<K, unknown>>): K[] {
	return Object.keys(record) as K[];
}

/** A function; what it answers is checked when it is asked. */
function code<T>(what: string): Reader<T> {
	return (value, at) => {
		if (typeof value !== "function") throw wrong(at, `a function that answers ${what}`, value);
		return value as T;
	};
}

function listOf<T>(reader: Reader<T>): Reader<readonly T[]> {
	return (value, at) => {
		if (!Array.isArray(value) || value.length > 16) throw wrong(at, "an array of up to 16 entries", value);
		return Array.from(value, (entry, i) => reader(entry, `${at}[${i}]`));
	};
}

/** A record with the fields that have readers, and no others. */
function recordOf<T>(readers: Readers<T>, required: readonly (keyof T & string)[] = []): Reader<T> {
	return (value, at) => {
		if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(at, "a record", value);
		const names = Object.keys(readers);
		const found: Record<string, unknown> = {};
		for (const [name, entry] of Object.entries(value)) {
			if (!Object.hasOwn(readers, name))
				throw new InputError(`${at}: expected the fields ${names.join(", ")}, found ${shown(name)}`);
			if (entry !== undefined) found[name] = readers[name as keyof T](entry, `${at}: ${name}`);
		}
		for (const name of required)
			if (!Object.hasOwn(found, name)) throw new InputError(`${at}: expected the field ${name}, found none`);
		return found as T;
	};
}

const size: Reader<number | string> = (value, at) => {
	if (typeof value !== "number" && typeof value !== "string") throw wrong(at, 'bytes, or text such as "1M"', value);
	try {
		parseBytes(value);
	} catch (error) {
		throw new InputError(`${at}: ${thrown(error)}`);
	}
	return value;
};

const pool = recordOf<GuestPoolOptions>(
	{
		kind: oneOf(...RESERVED_KINDS),
		name: line,
		size,
		areas: whole(1, 8192),
		belowGpa: whole(1, 2 ** 52),
		start: whole(0, 2 ** 52),
		zeroOnFree: yesNo,
		hidden: yesNo,
	},
	["kind", "size"],
);

/** What becomes a link must be one. */
const httpsUrl: Reader<string> = (value, at) => {
	const text = line(value, at);
	if (!/^https:\/\/[^\s"'<>]+$/.test(text)) throw wrong(at, "an address that begins with https://", value);
	return text;
};

const reference = recordOf<Reference>(
	{
		kind: oneOf(...REFERENCE_KINDS),
		title: line,
		by: line,
		date: line,
		lists: listOf(line),
		messageId: line,
		url: httpsUrl,
	},
	["kind", "title"],
);

const predicate = code<PolicyPredicate>("true or false");
const mechanism = oneOf(...MECHANISMS);

const policy = recordOf<Policy>(
	{
		name: word,
		title: line,
		source: line,
		references: listOf(reference),
		kernel: oneOf(...keysOf(KERNELS)),
		acceptance: oneOf(...keysOf(ACCEPTANCES)),
		predicates: recordOf<Partial<Record<PredicateName, PolicyPredicate>>>(
			Object.fromEntries(PREDICATES.map(({ name }) => [name, predicate])) as Record<PredicateName, typeof predicate>,
		),
		pools: listOf(pool),
		pool: code<NonNullable<Policy["pool"]>>("one of its pools, or null"),
		mechanism: recordOf<NonNullable<Policy["mechanism"]>>({ accepted: mechanism, others: mechanism }),
		checksPoolState: yesNo,
		decryptsRestricted: yesNo,
		plainAddresses: yesNo,
		flagSetBy: oneOf(...FLAG_SETTERS),
		allocates: yesNo,
		syncs: yesNo,
		fixesPool: yesNo,
		warnsForce: yesNo,
		preSharedPercent: whole(0, 100),
		transitions: oneOf(...TRANSITIONS),
		messages: listOf(line),
	},
	["name", "title", "source", "kernel", "acceptance"],
);

/**
 * Checks what a file exports.
 * @param file its path, as errors name it
 * @returns a copy
 * @throws InputError in one line: the file, the field, and what was expected there
 */
export function policyFrom(value: unknown, file: string): Policy {
	try {
		return policy(value, file);
	} catch (error) {
		if (error instanceof InputError) throw error;
		throw new InputError(`${file}: reading the policy threw ${thrown(error)}`);
	}
}
