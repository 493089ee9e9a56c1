import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "../../src/input-error.ts";
import { readTraceFile } from "../../src/node/input.ts";
import { readTrace } from "../../src/workload/read.ts";
import { PGBENCH, temporaryFile } from "../helpers/cli.ts";

const ISSUE =
	"    postgres-10331   [001] .....   964.884743: block_rq_issue: 7,0 WS 8192 () 49768 + 16 be,0,4 [postgres]";
const COMPLETE =
	"     ksoftirqd/0-14      [000] ..s..   964.891266: block_rq_complete: 7,0 WS () 49768 + 16 be,0,4 [0]";

function read(...lines: string[]) {
	return readTrace(lines.join("\n"), { name: "t.ftrace.txt" });
}

/** The bytes of a file, a few at a time. */
async function* dripped(bytes: Uint8Array, size: number) {
	for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

describe("readTrace", () => {
	it("reads text, bytes and streams of either alike, plain or gzip", async () => {
		const packed = readFileSync(PGBENCH).subarray(0);
		const plain = gunzipSync(packed);
		const { requests, events, timesNs, counters, cpus } = await readTraceFile(PGBENCH);
		const stream = (bytes: Uint8Array) => new Blob([new Uint8Array(bytes)]).stream();
		for (const source of [
			plain.toString(),
			plain,
			packed,
			dripped(plain, 10_007),
			dripped(packed, 997),
			stream(packed),
		])
			expect(await readTrace(source)).toEqual({ name: "trace", requests, events, timesNs, counters, cpus });
	});

	it("lists the formats, where it is told one that it does not know", async () => {
		await expect(readTrace(ISSUE, { format: "blktrace" })).rejects.toThrow(
			'format: expected block-ftrace, not "blktrace"',
		);
		expect((await readTrace(ISSUE, { format: "block-ftrace" })).requests.length).toBe(1);
	});

	it("reads as the format that it is told, whatever the trace looks like", async () => {
		await expect(readTrace("hello", { format: "block-ftrace" })).rejects.toThrow("trace:1: line: expected TASK-PID");
	});
});

describe("the ftrace reader", () => {
	it("finds in the pgbench recording what its description says", async () => {
		const { requests, events, counters } = await readTraceFile(PGBENCH);
		expect(counters).toEqual({
			eventLines: 39999,
			issues: 18264,
			completions: 21735,
			dataRequests: 13990,
			issuesWithoutData: 4274,
			zeroLengthCompletions: 8238,
			unmatchedCompletions: 20,
			reissues: 230,
			drained: 283,
			malformedLines: 0,
			otherLines: 0,
		});
		expect(requests.length).toBe(13990);
		expect(events.length).toBe(2 * 13990);
	});

	it("issues and completes each request exactly once, the issue first", async () => {
		const { requests, events } = await readTraceFile(PGBENCH);
		const state = new Uint8Array(requests.length);
		for (const event of events) {
			expect(state[event >>> 1]).toBe(event & 1);
			state[event >>> 1] = (event & 1) + 1;
		}
		expect(state.every((s) => s === 2)).toBe(true);
	});

	it("reads gzip and plain text alike", async () => {
		const plain = temporaryFile("p.txt", gunzipSync(readFileSync(PGBENCH)));
		expect((await readTraceFile(plain)).events).toEqual((await readTraceFile(PGBENCH)).events);
	});

	it("takes direction, size, sector and CPU from the issue", async () => {
		const { requests, cpus } = await read(
			ISSUE,
			COMPLETE,
			ISSUE.replace("WS 8192", "RA 8192").replace("[001]", "[003]"),
		);
		expect(requests).toEqual([
			{ read: false, bytes: 8192, sector: 49768, cpu: 1 },
			{ read: true, bytes: 8192, sector: 49768, cpu: 3 },
		]);
		expect(cpus).toBe(4);
	});

	it("reads lines without ioprio, and tasks with spaces and dashes", async () => {
		const old = ISSUE.replace(" be,0,4", "").replace("postgres-10331", "kworker/u9:1-my task-7");
		expect((await read(old)).requests.length).toBe(1);
	});

	it("completes the old request when a live device and sector is issued again", async () => {
		const { events, counters } = await read(ISSUE, ISSUE, COMPLETE);
		expect([...events]).toEqual([0, 1, 2, 3]);
		expect(counters.reissues).toBe(1);
	});

	it("keeps devices apart", async () => {
		const { events, counters } = await read(ISSUE, ISSUE.replace("7,0", "8,16"));
		expect([...events]).toEqual([0, 2, 1, 3]);
		expect(counters.drained).toBe(2);
	});

	it("maps nothing for flushes, discards and zero lengths", async () => {
		const flush = ISSUE.replace("WS 8192 () 49768 + 16", "FF 0 () 0 + 0");
		const discard = ISSUE.replace("WS", "D");
		const done = COMPLETE.replace("WS () 49768 + 16", "FF () 18446744073709551615 + 0");
		const { requests, counters } = await read(flush, discard, done, ISSUE.replace("WS", "FWFS"));
		expect(requests.length).toBe(1);
		expect(counters).toMatchObject({ issuesWithoutData: 2, zeroLengthCompletions: 1, dataRequests: 1 });
	});

	it("counts completions without an issue apart", async () => {
		expect((await read(COMPLETE, ISSUE)).counters.unmatchedCompletions).toBe(1);
	});

	it("counts other events apart and skips comments", async () => {
		const other = ISSUE.replace("block_rq_issue", "sched_switch");
		expect((await read("# tracer: nop", other, ISSUE)).counters).toMatchObject({
			otherLines: 1,
			eventLines: 1,
			malformedLines: 0,
		});
	});

	it("counts up to 1 % malformed lines and goes on", async () => {
		const { counters } = await read(...Array(99).fill(ISSUE), "garbage");
		expect(counters.malformedLines).toBe(1);
	});

	it.each([
		["a line of no known form", "garbage", "line: expected TASK-PID"],
		["a negative size", ISSUE.replace("+ 16", "+ -16"), 'sectors: expected 0 to 131072 sectors, found "-16"'],
		["a huge size", ISSUE.replace("+ 16", "+ 99999999999999999999"), "sectors: expected 0 to 131072 sectors"],
		["a size that is not 512 times the sectors", ISSUE.replace("8192", "8191"), "bytes: expected 8192"],
		["a negative sector", ISSUE.replace("49768", "-1"), "sector: expected 0 to 2^64 - 1"],
		["a sector beyond 64 bits", ISSUE.replace("49768", "18446744073709551616"), "sector: expected 0 to 2^64 - 1"],
		["an absurd CPU", ISSUE.replace("[001]", "[99999]"), "cpu: expected 0 to 4095"],
		["a body of no known form", ISSUE.replace("49768 + 16", "49768"), "block_rq_issue: expected MAJOR,MINOR"],
		["unknown operation letters", ISSUE.replace("WS", "ws"), 'rwbs: expected letters such as R, WS or FF, found "ws"'],
	])("names file, line and field when %s is more than 1 %%", async (_, line, text) => {
		const path = temporaryFile("bad.txt", [ISSUE, line].join("\n"));
		await expect(readTraceFile(path)).rejects.toThrow(InputError);
		await expect(readTraceFile(path)).rejects.toThrow(`${path}:2: ${text}`);
	});

	it("says what it expected of a file of another format", async () => {
		const path = temporaryFile("x.txt", "hello");
		await expect(readTraceFile(path)).rejects.toThrow(`${path}:1: unknown format: expected ftrace text`);
	});

	it("says that a gzip is torn", async () => {
		const path = temporaryFile("torn.gz", readFileSync(PGBENCH).subarray(0, 5000));
		await expect(readTraceFile(path)).rejects.toThrow(`${path}: torn or damaged gzip`);
	});

	it("says that a trace holds no data request", async () => {
		await expect(read(ISSUE.replace("WS 8192 () 49768 + 16", "FF 0 () 0 + 0"))).rejects.toThrow(
			"holds no request that moves data",
		);
	});

	it("survives any damage to real lines with a workload or one InputError", async () => {
		const lines = gunzipSync(readFileSync(PGBENCH)).toString().split("\n").slice(11, 400);
		await fc.assert(
			fc.asyncProperty(
				fc.array(fc.tuple(fc.nat(lines.length - 1), fc.nat(120), fc.string({ maxLength: 6 })), { maxLength: 12 }),
				async (damage) => {
					const copy = [...lines];
					for (const [line, at, text] of damage) {
						const old = copy[line] as string;
						copy[line] = old.slice(0, at) + text + old.slice(at + text.length);
					}
					try {
						const { requests, events } = await read(...copy);
						expect(events.length).toBe(requests.length * 2);
					} catch (error) {
						expect(error).toBeInstanceOf(InputError);
						expect((error as Error).message).not.toContain("\n");
					}
				},
			),
			{ numRuns: 150 },
		);
	});
});
