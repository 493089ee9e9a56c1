/** Reading files that somebody else wrote: plain or gzip text, with errors that name the file. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { InputError } from "../input-error.ts";

/** No input unpacks to more than this (bytes). */
const MAX_INPUT_BYTES = 256 * 2 ** 20;

/** The text of a file, unpacked if it is gzip. @throws InputError that names the file */
export function readText(path: string): string {
	let bytes: Uint8Array;
	try {
		bytes = readFileSync(path);
	} catch (error) {
		const code = (error as NodeJS.ErrnoException).code;
		throw new InputError(
			`${path}: ${code === "ENOENT" ? "no such file" : code === "EISDIR" ? "is a folder" : `cannot be read (${code})`}`,
		);
	}
	if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
		try {
			bytes = gunzipSync(bytes, { maxOutputLength: MAX_INPUT_BYTES });
		} catch (error) {
			const { code, message } = error as NodeJS.ErrnoException;
			if (code === "ERR_BUFFER_TOO_LARGE")
				throw new InputError(`${path}: unpacks to more than ${MAX_INPUT_BYTES} bytes`);
			throw new InputError(`${path}: torn or damaged gzip (${message})`);
		}
	}
	if (bytes.length > MAX_INPUT_BYTES) throw new InputError(`${path}: is larger than ${MAX_INPUT_BYTES} bytes`);
	return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
}
