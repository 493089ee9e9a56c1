import { describe, expect, it } from "vitest";
import { matrixReport, policySections } from "../../src/report/policies.ts";
import { renderHtml } from "../../src/report/render/html.ts";
import { renderText } from "../../src/report/render/text.ts";
import type { Cell, CellPart } from "../../src/study/cell.ts";
import type { Matrix } from "../../src/study/matrix.ts";
import { VERDICT_KINDS } from "../../src/study/verdict.ts";
import { headerOf } from "../helpers/results.ts";
import { cellOf, partOf } from "../helpers/verdicts.ts";

const HOSTILE = `<script>alert("1")</script>&'\u001b[31m\u202e\u2028`;
const RAN_ON = "coco-dma 0.0.0 on a machine";

function hostilePart(): CellPart {
	const cause = { what: "crash", where: HOSTILE, why: HOSTILE } as const;
	const because = [{ predicate: HOSTILE, value: HOSTILE, why: HOSTILE }];
	return partOf({ part: HOSTILE, platform: HOSTILE, cause }, { because });
}

function matrixOf(text: string, cells: readonly Cell[]): Matrix {
	const policy = headerOf(text, text, text);
	const scenarios = cells.map((_, i) => ({ name: i === 0 ? "s" : `s${i}`, title: text, platform: "snp" }));
	return { schema: "coco-dma/policies/2", scenarios, rows: [{ policy, cells }], vmbus: [] };
}

const page = (matrix: Matrix) => renderHtml(matrixReport(matrix, RAN_ON));
const lines = (matrix: Matrix) => renderText(matrixReport(matrix, RAN_ON), { color: false, width: 158 }).split("\n");

describe("the matrix of policies", () => {
	it("ends each cell with its cost, and its conversions where it has any", () => {
		const cells = [
			cellOf([partOf()], { nsPer4KiB: 1234.4 }),
			cellOf([partOf()], { nsPer4KiB: 7, conversionsPer4KiB: 2 }),
		];
		const squeezed = lines(matrixOf("p", cells)).map((line) => line.replace(/ +/g, " "));
		expect(squeezed.slice(3, 6)).toEqual(["p private private", "6.12, none 1,234 ns 7 ns", " + 2 conversions"]);
		expect(renderText(policySections(matrixOf("p", cells), RAN_ON, false), { color: false })).toMatch(
			/^s +on snp +1,234 ns +private\ns +on snp +7 ns +\+ 2 conversions +private$/m,
		);
	});

	it("says what the words mean, how cells came about, and where it ran", () => {
		const text = lines(matrixOf("p", [cellOf([partOf()])])).join("\n");
		for (const word of [...VERDICT_KINDS, "confidential", "hazard", "at one look"])
			expect(text).toMatch(new RegExp(`^  ${word} +\\S`, "m"));
		expect(text).toContain("A cell begins with a 4 KiB TO_DEVICE mapping");
		expect(text.endsWith(`\n${RAN_ON}`)).toBe(true);
	});

	it("has a long name's modifiers on lines of their own", () => {
		const [first, second, third] = lines(matrixOf("cc-accepted-bus+no-fallback", [cellOf([partOf()])])).slice(3);
		expect([first, second, third]).toEqual(["cc-accepted-bus          private", "+no-fallback", "6.12, none"]);
	});
});

describe("the page of policies", () => {
	it("escapes whatever a policy's file says", () => {
		const html = page(matrixOf(HOSTILE, [cellOf([hostilePart()])]));
		expect(html).not.toContain("<script");
		expect(html.split("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;").length).toBeGreaterThan(8);
	});

	it("says in words what it colours, each cell by the worst that it says", () => {
		const html = page(
			matrixOf("p", [
				cellOf([partOf(), partOf({ bytes: 64 }, { group: "small" })]),
				cellOf([partOf({ cause: { what: "status", status: "POOL_STATE" } })]),
			]),
		);
		expect(html).toContain(
			'<td class="said BREACH"><span class="first">private</span><span class="">small: BREACH 64\u00a0B',
		);
		expect(html).toContain('<td class="said refused"><span class="first">refused: POOL_STATE</span>');
		expect(html.match(/<details>/g)).toHaveLength(2);
		expect(html).toContain("prefers-color-scheme: dark");
	});

	it("loads nothing", () => {
		expect(page(matrixOf("p", [cellOf([partOf()])]))).not.toMatch(/(src|href)=|@import|url\(/);
	});

	it("links to nothing but https, whatever a policy's file says", () => {
		const urls = ["javascript:alert(1)", "https://lore.kernel.org/all/x@y/"];
		const references = urls.map((url) => ({ kind: "page", title: "a page", url }) as const);
		const matrix = matrixOf("p", [cellOf([partOf()])]);
		const rows = matrix.rows.map((row) => ({ ...row, policy: { ...row.policy, references } }));
		const html = page({ ...matrix, rows });
		expect([...html.matchAll(/href="([^"]*)"/g)].map(([, url]) => url)).toEqual(urls.slice(1));
	});
});

describe("the text of policies", () => {
	it.each([true, false])("prints no control characters of a policy's file, opened: %s", (open) => {
		const matrix = matrixOf(HOSTILE, [cellOf([hostilePart()])]);
		const reports = [policySections(matrix, RAN_ON, open), ...(open ? [] : [matrixReport(matrix, RAN_ON)])];
		for (const report of reports) {
			const text = renderText(report, { color: false });
			expect(text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}]/u);
			expect(text).toContain("\\u001b");
		}
	});

	it("colours verdicts on request, and is the same without the colours", () => {
		const report = matrixReport(matrixOf("p", [cellOf([partOf({ bytes: 4096 })])]), RAN_ON);
		const colored = renderText(report, { color: true });
		expect(colored).toContain("\u001b[31;1m");
		// biome-ignore lint/suspicious/noControlCharactersInRegex: colours are what is taken away
		const without = colored.replace(/\u001b\[[\d;]+m/g, "").replace(/ +$/gm, "");
		expect(without).toBe(renderText(report, { color: false }));
	});
});
