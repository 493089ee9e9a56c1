import { InputError, shown } from "./input-error.ts";

/** One line of a file, split at spaces, whose fields are read with checks. */
export class Fields {
	readonly #path: string;
	readonly #fields: string[];
	readonly line: number;

	constructor(path: string, line: number, text: string) {
		this.#path = path;
		this.line = line;
		this.#fields = text.trim().split(/\s+/);
	}

	get count(): number {
		return this.#fields.length;
	}

	/** The error that this line's field does not hold what was expected. */
	error(field: string, expected: string, found?: string): InputError {
		return new InputError(
			`${this.#path}:${this.line}: ${field}: expected ${expected}${found === undefined ? "" : `, found ${shown(found)}`}`,
		);
	}

	/** @throws InputError when the line ends before the field */
	text(index: number, name: string): string {
		const text = this.#fields[index];
		if (text === undefined) throw this.error(name, "a value", "end of line");
		return text;
	}

	/** The fields from `index` on, joined by a space. */
	rest(index: number): string {
		return this.#fields.slice(index).join(" ");
	}

	/** A decimal whole number in [min, max]. */
	decimal(index: number, name: string, min: number, max: number): number {
		const text = this.text(index, name);
		const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
		if (!(value >= min && value <= max)) throw this.error(name, `a whole number from ${min} to ${max}`, text);
		return value;
	}

	/** A 0x number up to 2^64 - 1. */
	hex64(index: number, name: string): bigint {
		const text = this.text(index, name);
		if (!/^0x[0-9a-f]{1,16}$/i.test(text)) throw this.error(name, "a 0x number of up to 16 digits", text);
		return BigInt(text);
	}

	/** A 0x number up to 2^32 - 1. */
	hex32(index: number, name: string): number {
		const value = this.hex64(index, name);
		if (value > 0xffffffffn) throw this.error(name, "a 0x number up to 2^32 - 1", this.text(index, name));
		return Number(value);
	}

	/** A 0x address below 2^52. */
	address(index: number, name: string): number {
		const value = this.hex64(index, name);
		if (value >= 1n << 52n) throw this.error(name, "an address below 2^52", this.text(index, name));
		return Number(value);
	}
}
