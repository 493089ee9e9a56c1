/** Reads ftrace text with `block_rq_issue` and `block_rq_complete` (Linux include/trace/events/block.h). */
import type { Input } from "../source.ts";
import { type BuilderOptions, MalformedLine, WorkloadBuilder } from "./builder.ts";
import type { TraceFormat } from "./format.ts";
import type { Workload } from "./workload.ts";

/** A block request larger than this is malformed (bytes). */
const MAX_REQUEST_BYTES = 64 * 2 ** 20;
const SECTOR_BYTES = 512;
const MAX_CPU = 4095;

/** `TASK-PID [CPU] FLAGS SEC.USEC: EVENT: BODY`; a task may hold spaces and dashes. */
const LINE = /-\d+\s+(?:\(\s*[-\d]+\)\s+)?\[(\d+)\]\s+(?:\S{4,5}\s+)?(\d{1,12})\.(\d+):\s+(\w+):\s+(.*)$/;
/** `MAJOR,MINOR RWBS BYTES (CMD) SECTOR + SECTORS [IOPRIO] [COMM]`; kernels before 6.9 print no ioprio. */
const ISSUE = /^(\d+,\d+) (\S+) (-?\d+) \(.*?\) (-?\d+) \+ (-?\d+)(?: \S+,\d+,\d+)? \[.*\]$/;
/** `MAJOR,MINOR RWBS (CMD) SECTOR + SECTORS [IOPRIO] [ERROR]`. */
const COMPLETE = /^(\d+,\d+) (\S+) \(.*?\) (-?\d+) \+ (-?\d+)(?: \S+,\d+,\d+)? \[-?\d+\]$/;
/** What trace_pipe writes where a CPU's buffer ran over; the count is missing where the kernel does not know it. */
const LOST = /^CPU:\d+ \[LOST (?:(\d+) )?EVENTS\]$/;
/** In the head of a trace: entries that the buffers hold, and those that were ever written to them. */
const ENTRIES = /^# entries-in-buffer\/entries-written: (\d+)\/(\d+)\b/;
/** Preflush, operation, then flags. Discards and zone commands move no data of the request's size. */
const RWBS = /^F?(WFS?|DE|D|W|R|N|F|Z)?[A-Z]*$/;

function sectors(text: string, field: string): number {
	const n = Number(text);
	if (!(n >= 0 && n * SECTOR_BYTES <= MAX_REQUEST_BYTES)) {
		throw new MalformedLine(`${field}: expected 0 to ${MAX_REQUEST_BYTES / SECTOR_BYTES} sectors, found "${text}"`);
	}
	return n;
}

function sectorNumber(text: string): bigint {
	const sector = BigInt(text);
	if (sector < 0n || sector >= 1n << 64n) throw new MalformedLine(`sector: expected 0 to 2^64 - 1, found "${text}"`);
	return sector;
}

/** R, W, or undefined for an operation without data of its own. */
function dataOperation(rwbs: string): "R" | "W" | undefined {
	const match = RWBS.exec(rwbs);
	if (match === null) throw new MalformedLine(`rwbs: expected letters such as R, WS or FF, found "${rwbs}"`);
	const op = rwbs.replace(/^F(?=[WRDN])/, "")[0];
	return op === "R" || op === "W" ? op : undefined;
}

/** The groups of a match, all of which take part in it. */
type Groups<Count extends string[]> = readonly [all: string, ...groups: Count];

function readLine(builder: WorkloadBuilder, text: string): void {
	const match = LINE.exec(text) as Groups<[string, string, string, string, string]> | null;
	if (match === null) throw new MalformedLine("line: expected TASK-PID [CPU] FLAGS TIME: EVENT: ...");
	const [, cpuText, seconds, fraction, event, body] = match;
	const timeNs = Number(seconds) * 1e9 + Number(fraction.slice(0, 9).padEnd(9, "0"));
	if (event !== "block_rq_issue" && event !== "block_rq_complete") {
		builder.other(timeNs);
		return;
	}
	const cpu = Number(cpuText);
	if (cpu > MAX_CPU) throw new MalformedLine(`cpu: expected 0 to ${MAX_CPU}, found "${cpuText}"`);
	if (event === "block_rq_issue") readIssue(builder, timeNs, cpu, body);
	else readCompletion(builder, timeNs, body);
}

function readIssue(builder: WorkloadBuilder, timeNs: number, cpu: number, body: string): void {
	const match = ISSUE.exec(body) as Groups<[string, string, string, string, string]> | null;
	if (match === null)
		throw new MalformedLine("block_rq_issue: expected MAJOR,MINOR RWBS BYTES (CMD) SECTOR + SECTORS [COMM]");
	const [, device, rwbs, bytesText, sectorText, sectorsText] = match;
	const op = dataOperation(rwbs);
	const sector = sectorNumber(sectorText);
	const bytes = sectors(sectorsText, "sectors") * SECTOR_BYTES;
	if (op !== undefined && bytes > 0 && Number(bytesText) !== bytes)
		throw new MalformedLine(`bytes: expected ${bytes}, 512 times the sectors, found "${bytesText}"`);
	const movesData = op !== undefined && bytes > 0;
	const request = { read: op === "R", bytes, sector: Number(BigInt.asUintN(40, sector)), cpu };
	builder.issue(timeNs, `${device} ${sectorText}`, movesData ? request : null);
}

function readCompletion(builder: WorkloadBuilder, timeNs: number, body: string): void {
	const match = COMPLETE.exec(body) as Groups<[string, string, string, string]> | null;
	if (match === null)
		throw new MalformedLine("block_rq_complete: expected MAJOR,MINOR RWBS (CMD) SECTOR + SECTORS [ERROR]");
	const [, device, rwbs, sectorText, sectorsText] = match;
	const op = dataOperation(rwbs);
	sectorNumber(sectorText);
	const moved = sectors(sectorsText, "sectors") === 0 ? "zero" : op === undefined ? "nothing" : "data";
	builder.complete(timeNs, `${device} ${sectorText}`, moved);
}

/** A comment's facts. */
function readComment(builder: WorkloadBuilder, text: string): void {
	const entries = ENTRIES.exec(text);
	if (entries !== null) builder.overwritten(Math.max(0, Number(entries[2]) - Number(entries[1])));
}

async function readFtrace(input: Input, options: BuilderOptions): Promise<Workload> {
	const builder = new WorkloadBuilder(input.name, options);
	for await (const lines of input.lines()) {
		for (const line of lines) {
			const text = line.trimEnd();
			builder.line(() => {
				const lost = LOST.exec(text);
				if (lost !== null) builder.lost(Number(lost[1] ?? 0));
				else if (text.startsWith("#")) readComment(builder, text);
				else if (text !== "") readLine(builder, text);
			});
		}
	}
	return builder.finish();
}

export const BLOCK_FTRACE: TraceFormat = {
	name: "block-ftrace",
	expected: "ftrace text with block_rq_issue and block_rq_complete events",
	matches: ({ head }) => /:\s+block_rq_(issue|complete):\s/.test(head),
	read: readFtrace,
};
