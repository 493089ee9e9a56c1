import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
	type Bars,
	type Block,
	type Curves,
	figure,
	list,
	MISSING,
	paragraph,
	type Report,
	report,
	row,
	said,
	table,
	text,
	type Words,
} from "../../src/report/model.ts";
import { renderHtml } from "../../src/report/render/html.ts";
import { renderText } from "../../src/report/render/text.ts";
import { BYTES, COUNT, NS_PER_REQUEST, TIMES } from "../../src/report/units.ts";
import { printSeed, SEED } from "../helpers/random.ts";

printSeed("report-render");

const LIBRARY = { script: "const uPlot = class {};", style: "" };
const oneSection = (...blocks: readonly Block[]) => report("R", [{ title: "S", blocks }]);
const plain = (of: Report) => renderText(of, { color: false }).split("\n");

const FIGURES = table(
	"figures",
	[
		{
			title: "Counts",
			rows: [
				row("requests", [figure(12345, COUNT), figure(7, COUNT), null]),
				row("of them bounced", [figure(0, COUNT), MISSING, null], { depth: 1 }),
				row("refused", [
					{ value: "counts", counts: {} },
					{ value: "counts", counts: { POOL_FULL: 1200, NO_POOL: 1 } },
					null,
				]),
			],
		},
		{
			title: "Costs",
			rows: [
				row("DMA layer", [figure(1.5, NS_PER_REQUEST), figure(-1000, NS_PER_REQUEST, true), figure(2, TIMES)], {
					unit: NS_PER_REQUEST,
				}),
			],
		},
	],
	{ columns: ["direct", "bounce", "ratio"] },
);

describe("a report as text", () => {
	it("has figures at the right under their columns, groups with a heading, and the unit in the label", () => {
		expect(plain(oneSection(FIGURES))).toEqual([
			"S",
			"",
			"                             direct                      bounce  ratio",
			"Counts",
			"  requests                   12,345                           7",
			"    of them bounced               0                           -",
			"  refused                      none  1,200 POOL_FULL, 1 NO_POOL",
			"Costs",
			"  DMA layer, ns per request    1.50                      -1,000     2x",
		]);
	});

	it("sets tables, titled lists and the answer apart, and nothing else", () => {
		const blocks = [
			paragraph("one"),
			paragraph(["two ", { strong: "strong" }, " ", { code: "code" }]),
			list("A list:", ["x", { words: "y", under: ["why"] }]),
			paragraph("a note", "note"),
			paragraph("the answer", "answer"),
		];
		expect(plain(oneSection(list("", ["first"]), ...blocks))).toEqual([
			"S",
			"  first",
			"",
			"one",
			"two strong code",
			"",
			"A list:",
			"  x",
			"  y",
			"    why",
			"",
			"a note",
			"",
			"the answer",
		]);
	});

	it("leaves out charts, the method and the options, and ends with the notes and where it ran", () => {
		const bars: Bars = { block: "bars", title: "bars", measures: [""], rows: [], key: [] };
		const curves: Curves = { block: "curves", title: "curves", axis: "share", at: [], lines: [] };
		const all = report("R", [{ title: "S", blocks: [bars, paragraph("p"), curves] }], {
			legend: [{ word: "w", kind: null, meaning: "m" }],
			notes: ["n"],
			method: ["how"],
			options: [["o", "1"]],
			ranOn: "here",
		});
		expect(plain(all)).toEqual(["S", "p", "", "  w  m", "", "n", "", "here"]);
	});

	it("breaks sentences at its width alone, and opens rows below themselves", () => {
		const inner = table("words", [{ title: "", rows: [row("part", [text("x")])] }]);
		const rows = [row("a", [said("private", "private")], { opened: inner }), row("b", [text("2")], { opened: inner })];
		const opened = report("R", [{ title: "aa bb-cc dd", blocks: [table("words", [{ title: "", rows }])] }]);
		expect(renderText(opened, { color: false, width: 6 }).split("\n")).toEqual([
			"aa bb-",
			"  cc dd",
			"",
			"a  private",
			"  part  x",
			"",
			"b  2",
			"  part  x",
		]);
	});
});

describe("a report as a page", () => {
	it("draws bars against the longest of their measure", () => {
		const bars: Bars = {
			block: "bars",
			title: "t",
			measures: ["ns", "bytes"],
			rows: [
				{
					label: "a",
					bars: [
						{
							pieces: [
								{ tone: "direct", length: 3 },
								{ tone: "device", length: 1 },
							],
							text: "4",
						},
						{ pieces: [], text: "0" },
					],
				},
				{
					label: "b",
					bars: [
						{ pieces: [{ tone: "bounce", length: 2 }], text: "2" },
						{ pieces: [{ tone: "BREACH", length: 9 }], text: "9" },
					],
				},
			],
			key: [{ tones: ["direct", "bounce"], text: "DMA layer" }],
		};
		const html = renderHtml(oneSection(bars));
		const widths = [...html.matchAll(/<i class="(\w+)" style="width:([\d.]+)%">/g)].map(([, tone, width]) => [
			tone,
			Number(width),
		]);
		expect(widths).toEqual([
			["direct", 75],
			["device", 25],
			["bounce", 50],
			["BREACH", 100],
		]);
	});

	it("draws curves where the chart library is given, each in its place, and has none without it", () => {
		const curves = (title: string): Curves => ({
			block: "curves",
			title,
			axis: "bytes",
			at: [512],
			lines: [{ name: "</script>", tone: "direct", ns: [1] }],
		});
		const page = oneSection(curves("one"), curves("two"));
		const html = renderHtml(page, LIBRARY);
		for (const id of ["curves-0", "curves-1"]) expect(html.split(`<div id="${id}">`)).toHaveLength(2);
		expect(html.match(/<\/script>/g)).toHaveLength(2);
		const [, data = ""] = /const CURVES = (\[.*?\]);\n/.exec(html) ?? [];
		expect(JSON.parse(data)).toMatchObject([{ at: [512] }, { lines: [{ name: "</script>", ns: [1] }] }]);
		expect(renderHtml(page)).not.toMatch(/script|curves-/);
	});

	it("shows every figure and label that the text shows", () => {
		const html = renderHtml(oneSection(FIGURES));
		for (const shown of ["12,345", "1,200 POOL_FULL, 1 NO_POOL", "DMA layer, ns per request", "-1,000", "2x", "Costs"])
			expect(html).toContain(shown);
	});
});

/** A report with one text everywhere where a text may stand. */
function reportOf(word: string): Report {
	const words: Words = [word, { strong: word }, { code: word }];
	const inner = table("words", [{ title: word, rows: [row(word, [text(word)])] }], {
		title: word,
		corner: word,
		columns: [word],
	});
	const cell = {
		value: "said" as const,
		worst: "BREACH" as const,
		lines: [{ text: word, kind: "BREACH" as const }],
		costs: [figure(1, BYTES)],
		opened: { title: word, table: inner },
	};
	const rows = [
		row(word, [cell], { brief: word, about: [word] }),
		row(word, [{ value: "counts", counts: { [word]: 1 } }]),
		row(word, [text(word)], { opened: inner }),
	];
	const columns = [{ title: word, brief: word, about: word }];
	const blocks: Block[] = [
		paragraph(words, "lead"),
		list(word, [words, { words, under: [words] }]),
		...(["figures", "words", "matrix"] as const).map((layout) =>
			table(layout, [{ title: word, rows }], { title: word, corner: word, columns }),
		),
		{
			block: "bars",
			title: word,
			measures: [word],
			rows: [{ label: word, bars: [{ pieces: [{ tone: "cost", length: 1 }], text: word }] }],
			key: [{ tones: ["cost"], text: word }],
		},
		{ block: "curves", title: word, axis: "bytes", at: [1], lines: [{ name: word, tone: "direct", ns: [null] }] },
	];
	return report(word, [{ title: word, blocks }], {
		ranOn: word,
		legend: [{ word, kind: "BREACH", meaning: word }],
		notes: [words],
		method: [words],
		options: [[word, word]],
	});
}

/** A page's tags, in order, without the chart data. */
function tagsOf(html: string): string[] {
	return html.replace(/const CURVES = .*\n/, "").match(/<[^>]*>/g) ?? [];
}

describe("whatever a text says", () => {
	const hostile = fc.oneof(
		fc.string({ unit: "binary" }),
		fc
			.array(
				fc.constantFrom(
					"<",
					">",
					"&",
					'"',
					"'",
					"</script>",
					"<!--",
					"\u0000",
					"\u001b[2J",
					"\n",
					"\r",
					"\u202e",
					"\u2028",
					"x",
				),
			)
			.map((parts) => parts.join("")),
	);

	it("a page has the same elements, and none of the text's own", () => {
		const expected = tagsOf(renderHtml(reportOf("x"), LIBRARY));
		fc.assert(
			fc.property(
				hostile.filter((word) => word !== ""),
				(word) => {
					expect(tagsOf(renderHtml(reportOf(word), LIBRARY))).toEqual(expected);
				},
			),
			{ seed: SEED, numRuns: 300 },
		);
	});

	it("text has no control characters but its own line ends and colours", () => {
		fc.assert(
			fc.property(hostile, fc.boolean(), (word, color) => {
				const out = renderText(reportOf(word), { color });
				// biome-ignore lint/suspicious/noControlCharactersInRegex: our own colours
				expect(out.replace(/\u001b\[[\d;]*m/g, "").replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
				if (!color) expect(out).not.toContain("\u001b");
			}),
			{ seed: SEED, numRuns: 300 },
		);
	});
});
