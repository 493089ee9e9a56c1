/** Reports as one HTML page that opens from disk and loads nothing. */
import type { Bars, Block, Curves, List, Report, Row, Said, Section, Table, Value, Words } from "../model.ts";
import { CHART_SCRIPT, STYLE } from "./page.ts";
import { labelText, valueText } from "./words.ts";

/** HTML as it stands. Everything else that gets into a page is text, and escaped. */
class Markup {
	readonly html: string;

	constructor(html: string) {
		this.html = html;
	}
}

const ESCAPES: Readonly<Record<string, string>> = {
	"&": "&amp;",
	"<": "&lt;",
	">": "&gt;",
	'"': "&quot;",
	"'": "&#39;",
};

/** The one place where text gets into a page. */
function markup(
	parts: TemplateStringsArray,
	...values: readonly (string | number | Markup | readonly Markup[])[]
): Markup {
	const written = (value: (typeof values)[number]): string => {
		if (value instanceof Markup) return value.html;
		if (typeof value === "object") return value.map(({ html }) => html).join("");
		return String(value).replace(/[&<>"']/g, (c) => ESCAPES[c] as string);
	};
	return new Markup(parts.map((part, i) => (i === 0 ? part : written(values[i - 1] as string) + part)).join(""));
}

const NOTHING = new Markup("");

/** JSON that may stand inside a script element. */
function inlineJson(data: unknown): Markup {
	return new Markup(JSON.stringify(data).replace(/</g, "\\u003c"));
}

/** The chart library's own text: its script and its style. */
export interface ChartLibrary {
	readonly script: string;
	readonly style: string;
}

function partMarkup(part: Exclude<Words, string>[number]): Markup {
	if (typeof part === "string") return markup`${part}`;
	if ("strong" in part) return markup`<b>${part.strong}</b>`;
	if ("code" in part) return markup`<code>${part.code}</code>`;
	// whoever wrote the address: nothing but https gets into a page as one
	return part.link.startsWith("https://")
		? markup`<a href="${part.link}" rel="noreferrer">${part.text}</a>`
		: markup`${part.text}`;
}

function wordsMarkup(words: Words): Markup | string {
	return typeof words === "string" ? words : markup`${words.map(partMarkup)}`;
}

const PARAGRAPHS = { lead: "lead", plain: "note", note: "note", answer: "lead" } as const;

function listMarkup({ title, items }: List): Markup {
	const above = title === "" ? NOTHING : markup`<h3>${title}</h3>`;
	return markup`${above}<ul>${items.map(
		({ words, under }) =>
			markup`<li>${wordsMarkup(words)}${under.map((line) => markup`<br><i>${wordsMarkup(line)}</i>`)}</li>`,
	)}</ul>`;
}

function saidMarkup({ worst, lines, costs, opened }: Said): Markup {
	const said = lines.map(({ text }, i) => markup`<span class="${i === 0 ? "first" : ""}">${text}</span>`);
	const cost = costs.map((figure) => markup`<span class="cost">${valueText(figure)}</span>`);
	const parts =
		opened === null
			? NOTHING
			: markup`<details><summary></summary><div><b>${opened.title}</b>
${tableMarkup(opened.table)}</div></details>`;
	return markup`<td class="said ${worst}">${said}${cost}${parts}</td>`;
}

function valueMarkup(value: Value | null): Markup {
	if (value === null) return markup`<td></td>`;
	return value.value === "said" ? saidMarkup(value) : markup`<td>${valueText(value)}</td>`;
}

function rowMarkup(row: Row, width: number): Markup {
	const about = row.about.map((line) => markup`<small>${wordsMarkup(line)}</small>`);
	const opened =
		row.opened === null ? NOTHING : markup`<tr><td colspan="${width}">${tableMarkup(row.opened)}</td></tr>`;
	return markup`<tr><th class="${row.depth === 1 ? "deeper" : ""}">${labelText(row)}${about}</th>${row.values.map(valueMarkup)}</tr>${opened}`;
}

function tableMarkup({ layout, title, corner, columns, groups }: Table): Markup {
	const width = Math.max(...groups.flatMap(({ rows }) => rows.map(({ values }) => values.length))) + 1;
	const head = [corner, ...columns.map((column) => column.title)].every((text) => text === "")
		? NOTHING
		: markup`<thead><tr><th>${corner}</th>${columns.map(
				({ title: name, brief, about }) =>
					markup`<th>${name}${brief === "" && about === "" ? NOTHING : markup`<small>${[brief, about].filter((text) => text !== "").join(": ")}</small>`}</th>`,
			)}</tr></thead>`;
	const body = groups.map(
		({ title: group, rows }) =>
			markup`${group === "" ? NOTHING : markup`<tr class="group"><th colspan="${width}">${group}</th></tr>`}${rows.map((row) => rowMarkup(row, width))}`,
	);
	const above = title === "" ? NOTHING : markup`<h3>${title}</h3>`;
	return markup`${above}<div class="wide"><table class="${layout}">${head}<tbody>${body}</tbody></table></div>`;
}

/** A measure's longest bar fills its track. */
function barsMarkup({ title, measures, rows, key }: Bars): Markup {
	const lengthOf = (pieces: readonly { readonly length: number }[]) =>
		pieces.reduce((sum, { length }) => sum + length, 0);
	const longest = measures.map((_, m) => Math.max(0, ...rows.map(({ bars }) => lengthOf(bars[m]?.pieces ?? []))) || 1);
	const bars = rows.map(
		({ label, bars: own }) =>
			markup`<span>${label}</span>${own.map(
				({ pieces, text }, m) =>
					markup`<div class="bar"><span class="track">${pieces.map(
						({ tone, length }) =>
							markup`<i class="${tone}" style="width:${((length / (longest[m] as number)) * 100).toFixed(2)}%"></i>`,
					)}</span><span class="value">${text}</span></div>`,
			)}`,
	);
	const heads = measures.some((measure) => measure !== "")
		? markup`<span></span>${measures.map((measure) => markup`<span class="head">${measure}</span>`)}`
		: NOTHING;
	const below = key.map(({ tones, text }) => markup`${tones.map((tone) => markup`<i class="${tone}"></i>`)} ${text} `);
	return markup`<h3>${title}</h3><div class="bars of${measures.length}">${heads}${bars}</div>${key.length === 0 ? NOTHING : markup`<p class="key">${below}</p>`}`;
}

class Page {
	readonly #curves: Curves[] = [];

	section({ title, blocks }: Section): Markup {
		return markup`<section>${title === "" ? NOTHING : markup`<h2>${title}</h2>`}${blocks.map((block) => this.#block(block))}</section>`;
	}

	#block(block: Block): Markup {
		switch (block.block) {
			case "paragraph":
				return markup`<p class="${PARAGRAPHS[block.role]}">${wordsMarkup(block.words)}</p>`;
			case "list":
				return listMarkup(block);
			case "table":
				return tableMarkup(block);
			case "bars":
				return barsMarkup(block);
			case "curves": {
				const number = this.#curves.push(block) - 1;
				return markup`<figure><figcaption>${block.title}</figcaption><div id="curves-${number}"></div></figure>`;
			}
		}
	}

	/** Curves are drawn where the library is given. */
	script(library: ChartLibrary | undefined): Markup {
		if (library === undefined || this.#curves.length === 0) return NOTHING;
		const data = this.#curves.map(({ axis, at, lines }) => ({ axis, at, lines }));
		return markup`<script>${new Markup(library.script)}</script>
<script>const CURVES = ${inlineJson(data)};${new Markup(CHART_SCRIPT)}</script>
`;
	}
}

/** A report as a page. @param library draws its curves: not given, the page has none */
export function renderHtml(report: Report, library?: ChartLibrary): string {
	const { title, ranOn, sections, legend, notes, method, options } = report;
	const shown = sections.map(({ blocks, ...section }) => ({
		...section,
		blocks: library === undefined ? blocks.filter(({ block }) => block !== "curves") : blocks,
	}));
	const page = new Page();
	const body = shown.map((section) => page.section(section));
	const isMatrix = sections.some(({ blocks }) =>
		blocks.some((block) => block.block === "table" && block.layout === "matrix"),
	);
	const words = legend.map(
		({ word, kind, meaning }) => markup`<tr><th class="${kind ?? ""}">${word}</th><td>${meaning}</td></tr>`,
	);
	const how =
		method.length === 0
			? NOTHING
			: markup`<section><h2>How it was measured</h2>
${method.map((paragraph) => markup`<p>${wordsMarkup(paragraph)}</p>`)}
<table class="words"><tbody>${options.map(([name, value]) => markup`<tr><th>${name}</th><td>${value}</td></tr>`)}</tbody></table></section>`;
	return markup`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>coco-dma: ${title}</title>
<style>${library === undefined ? NOTHING : new Markup(library.style)}${new Markup(STYLE)}</style></head>
<body class="${isMatrix ? "matrix" : ""}"><h1>${title}</h1>
${ranOn === "" ? NOTHING : markup`<p class="note">${ranOn}</p>`}
${legend.length === 0 ? NOTHING : markup`<table class="legend"><tbody>${words}</tbody></table>`}
${notes.map((note) => markup`<p class="note">${wordsMarkup(note)}</p>`)}
${body}
${how}
${page.script(library)}</body></html>
`.html;
}
