import { describe, expect, it } from "vitest";
import { compareReport } from "../../src/report/compare.ts";
import type { Curves } from "../../src/report/model.ts";
import { renderHtml } from "../../src/report/render/html.ts";
import { renderText } from "../../src/report/render/text.ts";
import type { ModeResult } from "../../src/study/compare.ts";
import { comparisonOf } from "../helpers/results.ts";

const POOL = { slabs: 2048, areas: 1, bytes: 4 * 2 ** 20, hiwaterSlots: 932, hiwaterBytes: 932 * 2048 };
const DIRECT = { mode: "direct", bouncedMaps: 0, directMaps: 20, bytesCopiedIn: 0, bytesCopiedBack: 0 } as const;
const BOUNCE = {
	mode: "bounce",
	pool: POOL,
	dmaNsPerRequest: 250,
	totalNs: 10000,
	failures: { POOL_FULL: 1200, NO_POOL: 1 },
	hostReadablePages: 1024,
	hostReadableBytes: 4 * 2 ** 20,
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
		expect(cells(lines, "DMA layer, ns per request")).toEqual(["100", "250", "+150", "2.50x"]);
		expect(cells(lines, "of them bounced")).toEqual(["0", "20"]);
		expect(cells(lines, "high-water mark, slots")).toEqual(["-", "932"]);
		expect(cells(lines, "pool")).toEqual(["-", "4 MiB"]);
		expect(cells(lines, "refused commands")).toEqual(["none", "1,200 POOL_FULL, 1 NO_POOL"]);
	});

	it("says first what bouncing comes to, and then what the trace's reader saw", () => {
		expect(linesOf(DIRECT, BOUNCE).slice(0, 3)).toEqual([
			"w on nvme",
			"Bouncing makes the DMA layer 2.50 times as expensive: 100 ns a request become 250 ns. With the device's own moves the whole takes 2 times as long. The host can read 4 MiB of the guest then, and 0 B otherwise.",
			"12 issued, 10 move data, 2 without data, 1 zero-length completions, 3 completions without issue, 4 issued again while live, 5 live at the end, 6 malformed lines",
		]);
	});

	it("compares nothing where one mode ran, and nothing by a cost of 0", () => {
		const alone = linesOf(BOUNCE);
		expect(alone.join("\n")).not.toContain("bounce - direct");
		expect(alone.join("\n")).not.toContain("Bouncing makes");
		expect(cells(alone, "p50, ns")).toEqual(["90"]);
		const free = linesOf({ ...DIRECT, dmaNsPerRequest: 0 }, BOUNCE);
		expect(cells(free, "DMA layer, ns per request")).toEqual(["0", "250", "+250"]);
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
