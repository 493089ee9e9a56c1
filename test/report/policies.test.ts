import { describe, expect, it } from "vitest";
import { environment } from "../../src/node/environment.ts";
import { policiesHtml } from "../../src/report/policies-html.ts";
import { policiesText } from "../../src/report/policies-text.ts";
import { shortLines } from "../../src/report/policies-words.ts";
import type { Cell, CellPart } from "../../src/study/cell.ts";
import type { Matrix } from "../../src/study/matrix.ts";
import { cellOf, partOf } from "../helpers/verdicts.ts";

const HOSTILE = `<script>alert("1")</script>&\u001b[31m\u202e`;

function hostilePart(): CellPart {
	const cause = { what: "crash", where: HOSTILE, why: HOSTILE } as const;
	const because = [{ predicate: HOSTILE, value: HOSTILE, why: HOSTILE }];
	return partOf({ part: HOSTILE, platform: HOSTILE, cause }, { because });
}

function matrix(text: string, cells: readonly Cell[]): Matrix {
	const policy = { name: text, title: text, kernel: "linux-6.12", acceptance: "none", source: text } as const;
	return { scenarios: [{ name: "s", title: text, platform: "snp" }], rows: [{ policy, cells }], vmbus: [] };
}

describe("a cell in short", () => {
	it("ends with the cost, and its conversions where it has any", () => {
		const texts = (fields: Partial<Cell>) => shortLines(cellOf([partOf()], fields)).map(({ text }) => text);
		expect(texts({ nsPer4KiB: 1234.4 })).toEqual(["private", "1,234 ns"]);
		expect(texts({ nsPer4KiB: 7, conversionsPer4KiB: 2 })).toEqual(["private", "7 ns", "+ 2 conversions"]);
	});
});

describe("the page of policies", () => {
	it("escapes whatever a policy's file says", () => {
		const html = policiesHtml(matrix(HOSTILE, [cellOf([hostilePart()])]), environment(), "0".repeat(16));
		expect(html).not.toContain("<script");
		expect(html.split("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;").length).toBeGreaterThan(8);
	});

	it("says in words what it colours, each cell by the worst that it says", () => {
		const html = policiesHtml(
			matrix("p", [
				cellOf([partOf(), partOf({ bytes: 64 }, { group: "small" })]),
				cellOf([partOf({ cause: { what: "status", status: "POOL_STATE" } })]),
			]),
			environment(),
			"0".repeat(16),
		);
		expect(html).toMatch(
			/<td class="cell BREACH"><span class="first">private<\/span><span class="">small: BREACH 64\u00a0B/,
		);
		expect(html).toContain('<td class="cell refused"><span class="first">refused: POOL_STATE</span>');
		expect(html.match(/<details>/g)).toHaveLength(2);
		expect(html).toContain("prefers-color-scheme: dark");
	});
});

describe("the text of policies", () => {
	it.each([true, false])("prints no control characters of a policy's file, opened: %s", (open) => {
		const twice = matrix(HOSTILE, [cellOf([hostilePart()])]);
		for (const rows of [twice.rows, [...twice.rows, ...twice.rows]]) {
			const text = policiesText({ ...twice, rows }, { open, color: false });
			expect(text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
			expect(text).toContain("\\u001b");
		}
	});

	it("colours verdicts on request, and is the same without the colours", () => {
		const one = matrix("p", [cellOf([partOf({ bytes: 4096 })])]);
		const both = { ...one, rows: [...one.rows, ...one.rows] };
		const colored = policiesText(both, { open: false, color: true });
		expect(colored).toContain("\u001b[31m");
		// biome-ignore lint/suspicious/noControlCharactersInRegex: colours are what is taken away
		expect(colored.replace(/\u001b\[\d+m/g, "").replace(/ +$/gm, "")).toBe(
			policiesText(both, { open: false, color: false }),
		);
	});
});
