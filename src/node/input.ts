/** Files that somebody else wrote, as sources: errors name the file. */
import { createReadStream } from "node:fs";
import { InputError } from "../input-error.ts";
import { textOf } from "../source.ts";
import { readTrace } from "../workload/read.ts";
import type { Workload } from "../workload/workload.ts";

/** The bytes of a file, as they come. @throws InputError that names it */
export async function* fileBytes(path: string): AsyncGenerator<Uint8Array> {
	try {
		for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) yield chunk as Uint8Array;
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		throw new InputError(
			`${path}: ${code === "ENOENT" ? "no such file" : code === "EISDIR" ? "is a folder" : `cannot be read (${code})`}`,
		);
	}
}

/** The text of a file, unpacked if it is gzip. @throws InputError that names the file */
export function readText(path: string): Promise<string> {
	return textOf(fileBytes(path), path);
}

/** The workload of a trace's file. @throws InputError as readTrace */
export function readTraceFile(path: string): Promise<Workload> {
	return readTrace(fileBytes(path), { name: path });
}
