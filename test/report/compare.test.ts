import { describe, expect, it } from "vitest";
import { compareReport } from "../../src/report/compare.ts";
import type { Curves } from "../../src/report/model.ts";
import { renderHtml } from "../../src/report/render/html.ts";
import { renderText } from "../../src/report/render/text.ts";
import type { ModeResult } from "../../src/study/compare.ts";
import type { TraceCounters } from "../../src/workload/workload.ts";
import { against, comparisonOf } from "../helpers/results.ts";

const POOL = {
	slabs: 2048,
	areas: 1,
	bytes: 4 * 2 ** 20,
	hiwaterSlots: 932,
	hiwaterBytes: 932 * 2048,
	heldHiwaterSlots: 1500,
};
const DIRECT = { mode: "direct", bouncedMaps: 0, directMaps: 20, bytesCopiedIn: 0, bytesCopiedBack: 0 } as const;
const BOUNCE = {
	mode: "bounce",
	pool: POOL,
	dmaNsPerRequest: 250,
	totalNs: 10000,
	againstFirst: against(2.5, 2),
	hostReadablePages: 1024,
	hostReadableBytes: 4 * 2 ** 20,
} as const;
const REFUSED = {
	...BOUNCE,
	againstFirst: null,
	requests: 2000,
	served: { requests: 799, commands: 800, bytes: 3000 * 1024 },
	bytes: 8000 * 1024,
	failures: { POOL_FULL: 1200, NO_POOL: 1 },
	firstRefused: {
		request: 12,
		line: 34,
		bytes: 131072,
		status: "POOL_FULL",
		pool: { wantedSlots: 64, usedSlots: 2000, slots: 2048, longestFreeRunSlots: 33 },
		why: null,
	},
	servingPool: { bytes: 16 * 2 ** 20, triedBytes: 16 * 2 ** 20 },
} as const;

function linesOf(...results: readonly (Partial<ModeResult> & Pick<ModeResult, "mode">)[]): string[] {
	return renderText(compareReport([comparisonOf(results)], "here"), { color: false }).split("\n");
}

/** The cells behind a label. */
function cells(lines: readonly string[], label: string): string[] {
	const line = lines.find((text) => text.trim().startsWith(label)) ?? "";
	return line.trim().split(/ {2,}/).slice(1);
}

describe("the report of compared modes", () => {
	it("has a column a mode, and the difference and the ratio of what costs, but not of what was done", () => {
		const lines = linesOf(DIRECT, BOUNCE);
		expect(lines.find((line) => line.includes("direct   "))?.trim()).toMatch(
			/^direct +bounce +bounce - direct +bounce \/ direct$/,
		);
		expect(cells(lines, "DMA layer, ns per request")).toEqual(["100", "250", "+150", "2.5x"]);
		expect(cells(lines, "of them bounced")).toEqual(["0", "20"]);
		expect(cells(lines, "high-water mark, slots")).toEqual(["-", "932"]);
		expect(cells(lines, "pool")).toEqual(["-", "4 MiB"]);
		expect(cells(lines, "lost completions held")).toEqual(["-", "1,500"]);
		expect(cells(lines, "refused commands")).toEqual(["none", "none"]);
		expect(cells(lines, "quartiles")).toEqual(["99 to 102", "99 to 102"]);
	});

	it("tells how many of how many requests failed, the first of them, and the pool that would serve all; and compares nothing", () => {
		const lines = linesOf(DIRECT, REFUSED);
		expect(lines.slice(1, 3)).toEqual([
			"bounce: 1,201 of 2,000 requests failed (commands refused: 1,200 POOL_FULL, 1 NO_POOL). The first was request 12 (line 34 of the trace), 131,072 bytes, POOL_FULL: 64 slots wanted, longest free run 33, 2,000 of 2,048 slots used. A pool of 16 MiB would serve all of them.",
			"Figures are over what was served, and the columns are not comparable: they did not serve the same requests.",
		]);
		expect(lines.join("\n")).not.toContain("Bouncing makes");
		expect(cells(lines, "DMA layer, ns per request")).toEqual(["100", "250"]);
		expect(cells(lines, "both together, GB/s")).toEqual(["8.19", "8.19"]);
		expect(cells(lines, "data refused")).toEqual(["0 B", "4.9 MiB"]);
		expect(cells(lines, "refused commands")).toEqual(["none", "1,200 POOL_FULL, 1 NO_POOL"]);
		const html = renderHtml(compareReport([comparisonOf([DIRECT, REFUSED])], "here"));
		expect(html).toContain("1,201 of 2,000 requests failed");
		expect(html).toContain("the columns are not comparable");
	});

	it("says where no pool would serve all, and where there is no pool at all", () => {
		const none = linesOf(DIRECT, { ...REFUSED, servingPool: { bytes: null, triedBytes: 512 * 2 ** 20 } });
		expect(none[1]).toContain("No pool up to 512 MiB, the largest that fits into the guest, would serve all of them.");
		const first = { ...REFUSED.firstRefused, status: "BEYOND_MASK", line: null, pool: null } as const;
		const without = linesOf({
			...DIRECT,
			firstRefused: first,
			failures: { BEYOND_MASK: 1 },
			served: { requests: 9, commands: 10, bytes: 4096 },
		});
		expect(without[1]).toBe(
			"direct: 1 of 10 requests failed (commands refused: 1 BEYOND_MASK). The first was request 12, 131,072 bytes, BEYOND_MASK. It has no pool that could be larger.",
		);
		const nothing = { dmaNsPerRequest: null, dmaNsPerKiB: null, totalNsPerRequest: null, deviceNsPerRequest: null };
		const all = linesOf({
			...REFUSED,
			...nothing,
			gigabytesPerSecond: null,
			latency: null,
			served: { requests: 0, commands: 0, bytes: 0 },
		});
		expect(cells(all, "DMA layer, ns per request")).toEqual(["-"]);
		expect(cells(all, "p50, ns")).toEqual(["-"]);
	});

	it("writes a ratio with the digits that its spread allows, and none where there is no difference", () => {
		const lines = (dma: number) =>
			cells(linesOf(DIRECT, { ...BOUNCE, againstFirst: against(dma, 1) }), "DMA layer, ns per request");
		expect(lines(25.632)).toEqual(["100", "250", "+2,500", "26x"]);
		expect(lines(251.4)).toEqual(["100", "250", "+25,000", "250x"]);
		expect(lines(1.05)).toEqual(["100", "250", "equal within noise"]);
		expect(linesOf(DIRECT, { ...BOUNCE, againstFirst: against(1.05, 1) })[1]).toBe(
			"Bouncing makes no difference to the DMA layer beyond noise: 100 ns a request become 250 ns. With the device's own moves the whole takes the same time within noise. The host can read 4 MiB of the guest then, and 0 B otherwise.",
		);
	});

	it("says the same whichever mode comes first", () => {
		const lines = linesOf({ ...BOUNCE, againstFirst: null }, { ...DIRECT, againstFirst: against(0.4, 0.5) });
		expect(lines[1]).toContain("Bouncing makes the DMA layer 2.5 times as expensive: 100 ns a request become 250 ns.");
		expect(lines.join("\n")).toContain("direct - bounce  direct / bounce");
	});

	it("writes 'below the clock' for a time that is not above what timing it costs, and compares by no such time", () => {
		const latency = {
			p50Ns: null,
			p99Ns: 300,
			p999Ns: 300,
			maxNs: 300,
			curve: [],
			passes: { p50Ns: [1], p99Ns: [300], p999Ns: [300], maxNs: [300] },
		};
		const lines = linesOf({ ...DIRECT, latency }, { ...BOUNCE, againstFirst: { ...against(2.5, 2), p50: null } });
		expect(cells(lines, "p50, ns")).toEqual(["below the clock", "90"]);
		expect(cells(lines, "p99, ns")).toEqual(["300", "200", "+450", "2.5x"]);
	});

	it("warns when the machine was busy, and gives the reason where the parts do not add up", () => {
		const text = linesOf({ ...DIRECT, cpuShare: 0.514, isBusy: true }, BOUNCE).join("\n");
		expect(text).toContain("The machine was busy: a process that was timed had a CPU for only 51 % of its time.");
		expect(text).toContain("(direct 100 ns a request more, bounce 100 ns a request more)");
		const quiet = linesOf({ ...DIRECT, interaction: { ns: 5, isNoise: true } });
		expect(quiet.join("\n")).not.toMatch(/busy|other than the sum/);
		expect(cells(quiet, "more than its parts")).toEqual(["nothing beyond noise"]);
	});

	it("says what the trace lacks: lost completions, lost events, or all completions", () => {
		const trace = comparisonOf([DIRECT]).results[0]?.trace as TraceCounters;
		expect(linesOf(DIRECT)).toContain(
			"The completions of 6 requests were lost: of 4 whose sector was issued again while they were live, and of 2 of the 5 live at the end, for more than 10 times the longest completed one (14 ms). When they ended is not known; here they end at once, and the high-water mark is without them.",
		);
		const lost = { ...trace, reissues: 0, outlived: 0, lossMarkers: 4, lostEvents: 5022, isLowerBound: true };
		expect(linesOf({ ...DIRECT, trace: lost })).toContain(
			"The recorder lost 5,022 events in 4 places: every figure of this trace is a lower bound of what the machine did.",
		);
		const unknown = { ...lost, lossMarkers: 1, lostEvents: 0, overwrittenEvents: 7 };
		expect(linesOf({ ...DIRECT, trace: unknown })).toContain(
			"The recorder lost events in one place, and overwrote 7 of the oldest events before it was read: every figure of this trace is a lower bound of what the machine did.",
		);
		const without = linesOf({ ...DIRECT, trace: { ...trace, reissues: 0, outlived: 0, iodepth: 4 } });
		expect(without).toContain(
			"The trace has no completions. By --iodepth 4, a request completes right before the one 4 behind it is issued: the high-water mark follows from that number, not from the trace.",
		);
	});

	it("says first what bouncing comes to, and then what the trace's reader saw", () => {
		expect(linesOf(DIRECT, BOUNCE).slice(0, 3)).toEqual([
			"w on nvme",
			"Bouncing makes the DMA layer 2.5 times as expensive: 100 ns a request become 250 ns. With the device's own moves the whole takes 2.0 times as long. The host can read 4 MiB of the guest then, and 0 B otherwise.",
			"12 issued, 10 move data, 2 without data, 1 zero-length completions, 3 completions without issue, 4 issued again while live, 5 live at the end, 6 malformed lines",
		]);
	});

	it("compares nothing where one mode ran, and nothing by a cost of 0", () => {
		const alone = linesOf(BOUNCE);
		expect(alone.join("\n")).not.toContain("bounce - direct");
		expect(alone.join("\n")).not.toContain("Bouncing makes");
		expect(cells(alone, "p50, ns")).toEqual(["90"]);
		const free = linesOf(
			{ ...DIRECT, dmaNsPerRequest: 0 },
			{ ...BOUNCE, againstFirst: { ...against(2.5, 2), dma: null } },
		);
		expect(cells(free, "DMA layer, ns per request")).toEqual(["0", "250"]);
	});

	it("has a section a workload, and ends with where it ran", () => {
		const comparisons = ["a", "b"].map((workload) =>
			comparisonOf([
				{ ...DIRECT, workload },
				{ ...BOUNCE, workload },
			]),
		);
		const text = renderText(compareReport(comparisons, "here"), { color: false });
		expect(text.match(/^[ab] on nvme$/gm)).toEqual(["a on nvme", "b on nvme"]);
		expect(text.endsWith("\n\nhere")).toBe(true);
	});

	it("draws sizes that one mode alone has with a gap in the other's curve, and no 0 on its logarithmic scale", () => {
		const large = { bytes: 8192, requests: 1, medianNs: 0 };
		const { sections } = compareReport([comparisonOf([DIRECT, { ...BOUNCE, sizeClasses: [large] }])], "");
		const sizes = sections[0]?.blocks.find((block): block is Curves => block.block === "curves");
		expect(sizes).toMatchObject({
			axis: "bytes",
			at: [4096, 8192],
			lines: [
				{ name: "direct", ns: [90, null] },
				{ name: "bounce", ns: [null, 1] },
			],
		});
	});

	it("says on its page how it was measured, and with what", () => {
		const html = renderHtml(compareReport([comparisonOf([DIRECT, BOUNCE])], "here"));
		expect(html).toContain("<code>coco-dma compare --help</code> states the model.");
		expect(html).toContain("<tr><th>modes</th><td>direct, bounce</td></tr>");
		expect(html).toContain("<tr><th>ramBytes</th><td>1073741824</td></tr>");
	});
});
