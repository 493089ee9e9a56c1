import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
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

const GOLDEN = (name: string) => fileURLToPath(new URL(`../golden/block/${name}`, import.meta.url));

function read(...lines: string[]) {
	return readTrace(lines.join("\n"), { name: "t.ftrace.txt" });
}

/** Of a trace without completions, whose requests are all in flight together. */
function readIssues(...lines: string[]) {
	return readTrace(lines.join("\n"), { name: "t.ftrace.txt", iodepth: 1000 });
}

/** The bytes of a file, a few at a time. */
async function* dripped(bytes: Uint8Array, size: number) {
	for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

describe("readTrace", () => {
	it("reads text, bytes and streams of either alike, plain or gzip", async () => {
		const packed = readFileSync(PGBENCH).subarray(0);
		const plain = gunzipSync(packed);
		const { name: _, ...read } = await readTraceFile(PGBENCH);
		const stream = (bytes: Uint8Array) => new Blob([new Uint8Array(bytes)]).stream();
		for (const source of [
			plain.toString(),
			plain,
			packed,
			dripped(plain, 10_007),
			dripped(packed, 997),
			stream(packed),
		])
			expect(await readTrace(source)).toEqual({ name: "trace", ...read });
	});

	it("lists the formats, where it is told one that it does not know", async () => {
		await expect(readTrace(ISSUE, { format: "blktrace" })).rejects.toThrow(
			'format: expected block-ftrace, not "blktrace"',
		);
		expect((await readTrace(ISSUE, { iodepth: 1, format: "block-ftrace" })).requests.length).toBe(1);
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
			outlived: 281,
			longestNs: 13_726_000,
			iodepth: null,
			malformedLines: 0,
			otherLines: 0,
			lossMarkers: 0,
			lostEvents: 0,
			overwrittenEvents: 1437,
			isLowerBound: true,
		});
		expect(requests.length).toBe(13990);
		expect(events.length).toBe(2 * 13990);
	});

	it("issues and completes each request exactly once, the issue first", async () => {
		const { requests, events, heldEvents } = await readTraceFile(PGBENCH);
		for (const each of [events, heldEvents as Uint32Array]) {
			const state = new Uint8Array(requests.length);
			for (const event of each) {
				expect(state[event >>> 1]).toBe(event & 1);
				state[event >>> 1] = (event & 1) + 1;
			}
			expect(state.every((s) => s === 2)).toBe(true);
		}
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
		expect((await readIssues(old)).requests.length).toBe(1);
	});

	it("completes the old request when a live device and sector is issued again", async () => {
		const { events, counters } = await read(ISSUE, ISSUE, COMPLETE);
		expect([...events]).toEqual([0, 1, 2, 3]);
		expect(counters.reissues).toBe(1);
	});

	/** A line at a time of its own (microseconds). */
	const at = (us: number, line: string, sector = 49768) =>
		line.replace(/964\.\d+/, `964.${String(us).padStart(6, "0")}`).replace("49768", String(sector));

	it("takes a request for one without a completion when its sector is issued again: it ends at once, or is held until then", async () => {
		const { events, heldEvents, timesNs, counters } = await read(
			at(0, ISSUE),
			at(1, ISSUE, 8),
			at(5, ISSUE),
			at(9, COMPLETE),
			at(9, COMPLETE, 8),
		);
		expect([...events]).toEqual([0, 1, 2, 4, 5, 3]);
		expect([...(heldEvents ?? [])]).toEqual([0, 2, 1, 4, 5, 3]);
		expect([...timesNs]).toEqual([0, 0, 1000, 5000, 9000, 9000]);
		expect(counters).toMatchObject({ reissues: 1, outlived: 0, drained: 0, longestNs: 8000 });
	});

	it("takes a request for one without a completion when it lives more than ten times as long as the longest completed one", async () => {
		const lines = [at(0, ISSUE, 8), at(10, ISSUE), at(20, COMPLETE), at(105, ISSUE, 16), at(110, ISSUE, 24)];
		const { events, heldEvents, counters } = await read(...lines);
		// issued at 0 us and live at 110: 11 times the 10 us of the one that completed
		expect(counters).toMatchObject({ drained: 3, outlived: 1, longestNs: 10_000 });
		expect([...events]).toEqual([0, 1, 2, 3, 4, 6, 5, 7]);
		expect([...(heldEvents ?? [])]).toEqual([0, 2, 3, 4, 6, 1, 5, 7]);
		const { counters: shorter, heldEvents: none } = await read(...lines.slice(0, 3), at(100, ISSUE, 16));
		expect(shorter).toMatchObject({ drained: 2, outlived: 0 });
		expect(none).toBeUndefined();
	});

	it("knows each request's line", async () => {
		const { lines } = await read("# a comment", ISSUE, COMPLETE, "", ISSUE);
		expect([...(lines ?? [])]).toEqual([2, 5]);
	});

	it("counts the events that the recorder says it lost, with a number or without, and takes them for no malformed lines", async () => {
		const { requests, counters } = await readTraceFile(GOLDEN("lost-events.ftrace.txt"));
		const bytes = (some: typeof requests) => some.reduce((sum, request) => sum + request.bytes, 0);
		expect([requests.length, bytes(requests), bytes(requests.filter(({ read }) => read))]).toEqual([
			40, 806_912, 446_464,
		]);
		expect(counters).toMatchObject({ lossMarkers: 4, lostEvents: 5022, malformedLines: 0, isLowerBound: true });
		const unknown = await read(ISSUE, "CPU:3 [LOST EVENTS]", COMPLETE);
		expect(unknown.counters).toMatchObject({ lossMarkers: 1, lostEvents: 0, isLowerBound: true });
		const whole = await read("# entries-in-buffer/entries-written: 20/20   #P:2", ISSUE, COMPLETE);
		expect(whole.counters).toMatchObject({ overwrittenEvents: 0, isLowerBound: false });
		const cut = await read("# entries-in-buffer/entries-written: 20/25   #P:2", ISSUE, COMPLETE);
		expect(cut.counters).toMatchObject({ overwrittenEvents: 5, isLowerBound: true });
	});

	it("refuses a trace without completions, and reads it with the depth that it is told", async () => {
		const file = GOLDEN("issue-only.ftrace.txt");
		await expect(readTraceFile(file)).rejects.toThrow(InputError);
		await expect(readTraceFile(file)).rejects.toThrow("holds no completion of any request (issued: 40)");
		for (const iodepth of [1, 4, 100]) {
			const { events, requests, counters, heldEvents } = await readTraceFile(file, { iodepth });
			expect([requests.length, counters.iodepth, heldEvents]).toEqual([40, iodepth, undefined]);
			let [live, most] = [0, 0];
			for (const event of events) {
				live += (event & 1) === 0 ? 1 : -1;
				most = Math.max(most, live);
			}
			expect(most).toBe(Math.min(iodepth, 40));
		}
	});

	it("takes no depth for a trace that says when its requests complete, and none that is no number", async () => {
		const text = [ISSUE, COMPLETE].join("\n");
		await expect(readTrace(text, { iodepth: 4 })).rejects.toThrow("iodepth: goes with a trace without completions");
		for (const iodepth of [0, 1.5, 65537])
			await expect(readTrace(text, { iodepth })).rejects.toThrow("iodepth: expected a whole number from 1 to 65536");
	});

	it("keeps devices apart", async () => {
		const { events, counters } = await readIssues(ISSUE, ISSUE.replace("7,0", "8,16"));
		expect([...events]).toEqual([0, 2, 1, 3]);
		expect(counters.drained).toBe(2);
	});

	it("maps nothing for flushes, discards and zero lengths", async () => {
		const flush = ISSUE.replace("WS 8192 () 49768 + 16", "FF 0 () 0 + 0");
		const discard = ISSUE.replace("WS", "D");
		const done = COMPLETE.replace("WS () 49768 + 16", "FF () 18446744073709551615 + 0");
		const { requests, counters } = await read(
			flush,
			discard,
			done,
			ISSUE.replace("WS", "FWFS"),
			COMPLETE.replace("WS", "FWFS"),
		);
		expect(requests.length).toBe(1);
		expect(counters).toMatchObject({ issuesWithoutData: 2, zeroLengthCompletions: 1, dataRequests: 1 });
	});

	it("counts completions without an issue apart", async () => {
		expect((await read(COMPLETE, ISSUE, COMPLETE)).counters.unmatchedCompletions).toBe(1);
	});

	it("counts other events apart and skips comments", async () => {
		const other = ISSUE.replace("block_rq_issue", "sched_switch");
		expect((await read("# tracer: nop", other, ISSUE, COMPLETE)).counters).toMatchObject({
			otherLines: 1,
			eventLines: 2,
			malformedLines: 0,
		});
	});

	it("counts up to 1 % malformed lines and goes on", async () => {
		const { counters } = await read(...Array(98).fill(ISSUE), COMPLETE, "garbage");
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
