/** Refuses what is no bytes: an ArrayBuffer, a string or a Uint16Array would be taken as other bytes. @throws TypeError */
export function expectBytes(name: string, value: unknown): asserts value is Uint8Array {
	// by its tag: one of another realm, such as a frame's, is as good
	const tag = ArrayBuffer.isView(value) ? (value as Partial<Uint8Array>)[Symbol.toStringTag] : undefined;
	if (tag === "Uint8Array") return;
	const found = value === null ? "null" : typeof value === "object" ? value.constructor?.name : typeof value;
	throw new TypeError(`${name}: expected a Uint8Array, found ${found}`);
}

const UNITS: Record<string, number> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/**
 * Reads a size: a whole number of bytes, or one with K, M, G or T (powers of 1024; KiB and KB as well, in any case).
 * @throws RangeError that quotes the text
 */
export function parseBytes(size: number | string): number {
	const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?$/i.exec(String(size).trim());
	const bytes = match === null ? Number.NaN : Number(match[1]) * (UNITS[(match[2] as string).toUpperCase()] as number);
	if (!Number.isSafeInteger(bytes)) throw new RangeError(`expected a size such as 4096, 64K or 1.5G, not "${size}"`);
	return bytes;
}

/** A size for people: 1.5 GiB, 64 KiB, 12 B. */
export function formatBytes(bytes: number): string {
	let value = bytes;
	for (const unit of ["B", "KiB", "MiB", "GiB"]) {
		if (value < 1024 || unit === "GiB") return `${Number.isInteger(value) ? value : value.toFixed(1)} ${unit}`;
		value /= 1024;
	}
	return `${bytes} B`;
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Bytes as lower-case hex digits. */
export function hexOf(bytes: Uint8Array): string {
	let text = "";
	for (const byte of bytes) text += HEX[byte];
	return text;
}

/** The bytes of hex digits, two a byte. */
export function bytesOfHex(digits: string): Uint8Array {
	return Uint8Array.from({ length: digits.length >> 1 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}
