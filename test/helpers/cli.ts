import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { expect } from "vitest";

/** The built command. */
export const MAIN = fileURLToPath(new URL("../../build/src/cli/main.js", import.meta.url));
const RUN = new URL("../../build/src/cli/run.js", import.meta.url).href;

/** The recorded database workload. */
export const PGBENCH = fileURLToPath(new URL("../../bench/traces/pgbench.block.ftrace.txt.gz", import.meta.url));

export interface CliResult {
	readonly code: number | null;
	readonly out: string;
	readonly err: string;
}

/** Runs the built command line as a process. */
export function cocoProcess(...args: string[]): CliResult {
	const done = spawnSync(process.execPath, [MAIN, ...args], {
		encoding: "utf8",
		env: { ...process.env, NO_COLOR: "1" },
	});
	return { code: done.status, out: done.stdout, err: done.stderr };
}

/** Takes over a stream's writes. @returns what was written, and the way back */
function captured(stream: NodeJS.WriteStream): { readonly text: () => string; readonly restore: () => void } {
	const { write } = stream;
	let text = "";
	stream.write = ((chunk: string | Uint8Array) => {
		text += typeof chunk === "string" ? chunk : Buffer.from(chunk).toString();
		return true;
	}) as typeof write;
	return {
		text: () => text,
		restore: () => {
			stream.write = write;
		},
	};
}

/** Runs the built command line in this process, which saves the start of one. One at a time. */
export async function coco(...args: string[]): Promise<CliResult> {
	const { run } = (await import(RUN)) as typeof import("../../src/cli/run.ts");
	const [out, err] = [captured(process.stdout), captured(process.stderr)];
	try {
		return { code: await run(args), out: out.text(), err: err.text() };
	} finally {
		out.restore();
		err.restore();
	}
}

/** A new folder for a test's files. */
export function temporaryFolder(): string {
	return mkdtempSync(join(tmpdir(), "coco-dma-"));
}

/** Writes a file into a new folder. @returns its path */
export function temporaryFile(name: string, content: string | Uint8Array): string {
	const path = join(temporaryFolder(), name);
	writeFileSync(path, content);
	return path;
}

/** The first `lines` lines of the database recording, as a file. @returns its path */
export function shortTrace(lines = 3000): string {
	const text = gunzipSync(readFileSync(PGBENCH)).toString().split("\n").slice(0, lines).join("\n");
	return temporaryFile("short.txt", text);
}

/** One clear line, exit code 2, nothing on standard output. */
export function expectRefused(result: CliResult, ...parts: string[]): void {
	expect(result.err.trimEnd().split("\n")).toHaveLength(1);
	for (const part of parts) expect(result.err).toContain(part);
	expect(result.err).not.toMatch(/\bat .*:\d+:\d+/);
	expect(result.out).toBe("");
	expect(result.code).toBe(2);
}
