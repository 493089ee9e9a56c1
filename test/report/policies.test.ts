import { describe, expect, it } from "vitest";
import { environment } from "../../src/node/environment.ts";
import { policiesHtml } from "../../src/report/policies-html.ts";
import { policiesText } from "../../src/report/policies-text.ts";
import { shortLines } from "../../src/report/policies-words.ts";
import type { Cell, CellPart } from "../../src/study/cell.ts";
import { kindsOf } from "../../src/study/cell.ts";
import type { Matrix } from "../../src/study/matrix.ts";

const HOSTILE = `<script>alert("1")</script>&\u001b[31m\u202e`;

function part(fields: Partial<CellPart>): CellPart {
	return {
		name: "4 KiB TO_DEVICE",
		group: "streaming",
		on: "snp",
		how: "bounce",
		verdict: "private",
		because: "",
		sharedBytes: 0,
		hiddenBytes: 0,
		neighbourBytes: 0,
		refused: null,
		crash: null,
		hazards: [],
		conversions: 0,
		...fields,
	};
}

function cell(parts: readonly CellPart[], fields: Partial<Cell> = {}): Cell {
	const [first] = parts;
	return {
		policy: "p",
		scenario: "s",
		platform: "snp",
		confidential: true,
		verdict: first?.verdict ?? "",
		breachedBytes: 0,
		exposedBytes: 0,
		parts,
		nsPer4KiB: null,
		conversionsPer4KiB: 0,
		...fields,
	};
}

function matrix(text: string, cells: readonly Cell[]): Matrix {
	const policy = { name: text, title: text, kernel: "linux-6.12", acceptance: "none", source: text } as const;
	return { scenarios: [{ name: "s", title: text, platform: "snp" }], rows: [{ policy, cells }], vmbus: [] };
}

const texts = (parts: readonly CellPart[], fields: Partial<Cell> = {}) =>
	shortLines(cell(parts, fields)).map(({ text }) => text);

describe("a cell in short", () => {
	it("says what its first part says, and in a word what is of another kind", () => {
		expect(
			texts([
				part({ verdict: "BREACH 4,096 bytes" }),
				part({ name: "4 KiB FROM_DEVICE", verdict: "BREACH 8,192 bytes" }),
				part({ group: "coherent", verdict: "crash: is_swiotlb_for_alloc: NULL" }),
				part({ group: "mmio", verdict: "private" }),
				part({ on: "snp, plain addresses", verdict: "private" }),
			]),
		).toEqual(["BREACH 4,096 B", "coherent: crash", "snp, plain: private"]);
	});

	it("says the error beside the breach, and commas of a reason stay in it", () => {
		expect(texts([part({ verdict: "BREACH 4,096 bytes, refused: BEYOND_MASK" })])).toEqual([
			"BREACH 4,096 B",
			"refused: BEYOND_MASK",
		]);
		expect(texts([part({ verdict: "refused: it failed, and so on: 1M bytes" })])).toEqual([
			"refused: it failed, and so on: 1M bytes",
		]);
	});

	it("ends with the cost, and its conversions where it has any", () => {
		expect(texts([part({})], { nsPer4KiB: 1234.4 })).toEqual(["private", "1,234 ns"]);
		expect(texts([part({})], { nsPer4KiB: 7, conversionsPer4KiB: 2 })).toEqual(["private", "7 ns", "+ 2 conversions"]);
	});

	it("takes a verdict's kind from its beginning, not from a word in its reason", () => {
		expect(kindsOf("refused: the device is stopped: private-page")).toEqual(["refused"]);
		expect(kindsOf("exposed 32 bytes, 4,064 bytes of neighbours exposed")).toEqual(["exposed"]);
		expect(kindsOf("BREACH 1 bytes, crash: x, private (4,096 bytes hidden from the host)")).toEqual([
			"BREACH",
			"crash",
			"hidden",
		]);
	});
});

describe("the page of policies", () => {
	it("escapes whatever a policy's file says", () => {
		const html = policiesHtml(
			matrix(HOSTILE, [cell([part({ name: HOSTILE, on: HOSTILE, verdict: `refused: ${HOSTILE}`, because: HOSTILE })])]),
			environment(),
			"0".repeat(16),
		);
		expect(html).not.toContain("<script");
		expect(html.split("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;").length).toBeGreaterThan(8);
	});

	it("says in words what it colours, each cell by the worst that it says", () => {
		const html = policiesHtml(
			matrix("p", [
				cell([part({ verdict: "private" }), part({ group: "small", verdict: "BREACH 64 bytes" })]),
				cell([part({ verdict: "refused: POOL_STATE" })]),
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
		const twice = matrix(HOSTILE, [cell([part({ verdict: `refused: ${HOSTILE}`, because: HOSTILE })])]);
		for (const rows of [twice.rows, [...twice.rows, ...twice.rows]]) {
			const text = policiesText({ ...twice, rows }, { open, color: false });
			expect(text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
			expect(text).toContain("\\u001b");
		}
	});

	it("colours verdicts on request, and is the same without the colours", () => {
		const one = matrix("p", [cell([part({ verdict: "BREACH 4,096 bytes" })])]);
		const both = { ...one, rows: [...one.rows, ...one.rows] };
		const colored = policiesText(both, { open: false, color: true });
		expect(colored).toContain("\u001b[31m");
		// biome-ignore lint/suspicious/noControlCharactersInRegex: colours are what is taken away
		expect(colored.replace(/\u001b\[\d+m/g, "").replace(/ +$/gm, "")).toBe(
			policiesText(both, { open: false, color: false }),
		);
	});
});
