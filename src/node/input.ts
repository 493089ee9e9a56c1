/** Files that somebody else wrote, as sources: errors name the file. */
import { createReadStream, existsSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { InputError } from "../input-error.ts";
import { textOf } from "../source.ts";
import type { VerifyResult } from "../verify/result.ts";
import { type VerifyOptions, verifyRecording } from "../verify/verify.ts";
import { type ReadTraceOptions, readTrace } from "../workload/read.ts";
import type { Workload } from "../workload/workload.ts";

/**
 * Refuses what never ends or is no file of anybody's: devices, sockets, and files of /proc and /sys, which have no size. Pipes
 * are read like standard input.
 */
function checkKind(path: string): void {
	const found = statSync(path);
	if (found.isDirectory()) throw new InputError(`${path}: is a folder`);
	if (!found.isFile() && !found.isFIFO()) throw new InputError(`${path}: expected a file or a pipe, found a device`);
	if (found.isFile() && /^\/(proc|sys)\//.test(realpathSync(path)))
		throw new InputError(`${path}: expected a file or a pipe, found one of the kernel's own: copy it first`);
}

/** The bytes of a file, or of standard input for "-", as they come. @throws InputError that names it */
async function* fileBytes(path: string): AsyncGenerator<Uint8Array> {
	if (path === "-") {
		yield* process.stdin as AsyncIterable<Uint8Array>;
		return;
	}
	try {
		checkKind(path);
		for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) yield chunk as Uint8Array;
	} catch (error) {
		if (error instanceof InputError) throw error;
		const { code } = error as NodeJS.ErrnoException;
		throw new InputError(`${path}: ${code === "ENOENT" ? "no such file" : `cannot be read (${code})`}`);
	}
}

/** The text of a file, unpacked if it is gzip. @throws InputError that names the file */
export function readText(path: string): Promise<string> {
	return textOf(fileBytes(path), path);
}

/** The workload of a trace's file. @throws InputError and RangeError as readTrace */
export function readTraceFile(path: string, options: Pick<ReadTraceOptions, "iodepth"> = {}): Promise<Workload> {
	return readTrace(fileBytes(path), { name: path, ...options });
}

/** Verifies a recording's file. An INDEX.tsv beside it says of transcripts whether the host is special. @throws InputError as verifyRecording */
export async function verifyFile(path: string, build?: VerifyOptions["build"]): Promise<VerifyResult> {
	const index = join(dirname(path), "INDEX.tsv");
	const rows = existsSync(index) ? (await readText(index)).split("\n").map((line) => line.split("\t")) : [];
	const row = rows.find(
		([name]) =>
			name ===
			basename(path)
				.replace(/\.gz$/, "")
				.replace(/\.txt$/, ""),
	);
	return verifyRecording(fileBytes(path), {
		name: path,
		...(build === undefined ? {} : { build }),
		...(row?.[1] === "special" ? { host: "special" } : {}),
	});
}
