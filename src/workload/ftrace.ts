/** Reads ftrace text with `block_rq_issue` and `block_rq_complete` (Linux include/trace/events/block.h). */
import { InputError } from "../input-error.ts";
import { readText } from "../node/input.ts";
import type { Request, TraceCounters, Workload } from "./workload.ts";

/** More malformed lines than this share of the event lines is an error. */
const MAX_MALFORMED_SHARE = 0.01;
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
/** Preflush, operation, then flags. Discards and zone commands move no data of the request's size. */
const RWBS = /^F?(WFS?|DE|D|W|R|N|F|Z)?[A-Z]*$/;

class Malformed extends Error {}

function sectors(text: string, field: string): number {
	const n = Number(text);
	if (!(n >= 0 && n * SECTOR_BYTES <= MAX_REQUEST_BYTES)) {
		throw new Malformed(`${field}: expected 0 to ${MAX_REQUEST_BYTES / SECTOR_BYTES} sectors, found "${text}"`);
	}
	return n;
}

function sectorNumber(text: string): bigint {
	const sector = BigInt(text);
	if (sector < 0n || sector >= 1n << 64n) throw new Malformed(`sector: expected 0 to 2^64 - 1, found "${text}"`);
	return sector;
}

/** R, W, or undefined for an operation without data of its own. */
function dataOperation(rwbs: string): "R" | "W" | undefined {
	const match = RWBS.exec(rwbs);
	if (match === null) throw new Malformed(`rwbs: expected letters such as R, WS or FF, found "${rwbs}"`);
	const op = rwbs.replace(/^F(?=[WRDN])/, "")[0];
	return op === "R" || op === "W" ? op : undefined;
}

/** Collects requests and events as the lines come. */
class Reader {
	readonly requests: Request[] = [];
	readonly events: number[] = [];
	readonly timesNs: number[] = [];
	#timeNs = 0;
	readonly #live = new Map<string, number>();
	readonly #count = {
		eventLines: 0,
		issues: 0,
		completions: 0,
		dataRequests: 0,
		issuesWithoutData: 0,
		zeroLengthCompletions: 0,
		unmatchedCompletions: 0,
		reissues: 0,
		malformedLines: 0,
		otherLines: 0,
	};
	firstMalformed: { line: number; reason: string } | undefined;
	cpus = 1;

	line(number: number, text: string): void {
		if (text === "" || text.startsWith("#")) return;
		try {
			this.#event(text);
		} catch (error) {
			if (!(error instanceof Malformed)) throw error;
			this.#count.malformedLines++;
			this.firstMalformed ??= { line: number, reason: error.message };
		}
	}

	#event(text: string): void {
		const match = LINE.exec(text);
		if (match === null) throw new Malformed("line: expected TASK-PID [CPU] FLAGS TIME: EVENT: ...");
		const [, cpuText, seconds, fraction, event, body] = match as unknown as [
			string,
			string,
			string,
			string,
			string,
			string,
		];
		this.#timeNs = Number(seconds) * 1e9 + Number(fraction.slice(0, 9).padEnd(9, "0"));
		if (event !== "block_rq_issue" && event !== "block_rq_complete") {
			this.#count.otherLines++;
			return;
		}
		const cpu = Number(cpuText);
		if (cpu > MAX_CPU) throw new Malformed(`cpu: expected 0 to ${MAX_CPU}, found "${cpuText}"`);
		if (event === "block_rq_issue") this.#issue(cpu, body);
		else this.#complete(body);
		this.#count.eventLines++;
	}

	#issue(cpu: number, body: string): void {
		const match = ISSUE.exec(body);
		if (match === null) {
			throw new Malformed("block_rq_issue: expected MAJOR,MINOR RWBS BYTES (CMD) SECTOR + SECTORS [COMM]");
		}
		const [, device, rwbs, bytesText, sectorText, sectorsText] = match as unknown as string[] as [
			string,
			string,
			string,
			string,
			string,
			string,
		];
		const op = dataOperation(rwbs);
		const sector = sectorNumber(sectorText);
		const bytes = sectors(sectorsText, "sectors") * SECTOR_BYTES;
		if (op !== undefined && bytes > 0 && Number(bytesText) !== bytes) {
			throw new Malformed(`bytes: expected ${bytes}, 512 times the sectors, found "${bytesText}"`);
		}
		this.#count.issues++;
		if (op === undefined || bytes === 0) {
			this.#count.issuesWithoutData++;
			return;
		}
		const key = `${device} ${sectorText}`;
		const old = this.#live.get(key);
		if (old !== undefined) {
			this.#count.reissues++;
			this.#happened(old * 2 + 1);
		}
		const number = this.requests.length;
		this.requests.push({ read: op === "R", bytes, sector: Number(BigInt.asUintN(40, sector)), cpu });
		this.#happened(number * 2);
		this.#live.set(key, number);
		this.#count.dataRequests++;
		this.cpus = Math.max(this.cpus, cpu + 1);
	}

	#complete(body: string): void {
		const match = COMPLETE.exec(body);
		if (match === null) {
			throw new Malformed("block_rq_complete: expected MAJOR,MINOR RWBS (CMD) SECTOR + SECTORS [ERROR]");
		}
		const [, device, rwbs, sectorText, sectorsText] = match as unknown as string[] as [
			string,
			string,
			string,
			string,
			string,
		];
		const op = dataOperation(rwbs);
		sectorNumber(sectorText);
		const n = sectors(sectorsText, "sectors");
		this.#count.completions++;
		if (n === 0) {
			this.#count.zeroLengthCompletions++;
			return;
		}
		if (op === undefined) return;
		const key = `${device} ${sectorText}`;
		const number = this.#live.get(key);
		if (number === undefined) {
			this.#count.unmatchedCompletions++;
			return;
		}
		this.#live.delete(key);
		this.#happened(number * 2 + 1);
	}

	#happened(event: number): void {
		this.events.push(event);
		this.timesNs.push(this.#timeNs);
	}

	/** Completes what is still live, in order of issue. */
	drain(): TraceCounters {
		for (const number of this.#live.values()) this.#happened(number * 2 + 1);
		return { ...this.#count, drained: this.#live.size };
	}
}

/** Whether a text looks like ftrace output with block events. */
function isBlockFtrace(text: string): boolean {
	return /:\s+block_rq_(issue|complete):\s/.test(text.slice(0, 1 << 20));
}

/**
 * Reads a block trace: plain or gzip ftrace text.
 * @throws InputError for a file of another format, one without a request, or one with more than 1 % malformed lines
 */
export function readBlockTrace(path: string): Workload {
	const text = readText(path);
	if (!isBlockFtrace(text)) {
		throw new InputError(
			`${path}:1: unknown format: expected ftrace text with block_rq_issue and block_rq_complete events`,
		);
	}
	const reader = new Reader();
	let number = 0;
	for (const line of text.split("\n")) reader.line(++number, line.trimEnd());
	const counters = reader.drain();
	const lines = counters.eventLines + counters.malformedLines + counters.otherLines;
	if (counters.malformedLines > lines * MAX_MALFORMED_SHARE && reader.firstMalformed !== undefined) {
		const { line, reason } = reader.firstMalformed;
		throw new InputError(
			`${path}:${line}: ${reason} (${counters.malformedLines} of ${lines} lines are malformed, more than 1 %)`,
		);
	}
	if (reader.requests.length === 0) throw new InputError(`${path}: holds no request that moves data`);
	const first = reader.timesNs[0] as number;
	return {
		name: path,
		requests: reader.requests,
		events: Uint32Array.from(reader.events),
		timesNs: Float64Array.from(reader.timesNs, (ns) => ns - first),
		counters,
		cpus: reader.cpus,
	};
}
