/** The matrix of policies as one HTML file that opens from disk: coloured cells, each with its parts inside. */

import type { Cell, CellPart } from "../study/cell.ts";
import type { Matrix } from "../study/matrix.ts";
import { describeEnvironment, type Environment } from "./environment.ts";
import { escapeHtml } from "./html.ts";
import { PAGE_STYLE } from "./page-style.ts";
import {
	CELL_NOTE,
	COST_NOTE,
	rulesLine,
	shortLines,
	VERDICT_LEGEND,
	VMBUS_TITLE,
	vmbusRows,
} from "./policies-words.ts";
import { becauseText, placeText, verdictText } from "./verdict.ts";

const STYLE = `${PAGE_STYLE}
:root { --BREACH: #ffd9d6; --crash: #f3d3ea; --exposed: #ffedc9; --refused: #e6e8ec; --hidden: #d5eef5; --private: #d7f0dc; }
@media (prefers-color-scheme: dark) {
	:root { --BREACH: #5c2320; --crash: #4d2444; --exposed: #4d3b14; --refused: #2b3036; --hidden: #173f4a; --private: #1b4327; }
}
body { max-width: none; margin: 1.5rem 2rem; }
.lead, .note, .legend { max-width: 60rem; }
.matrix { border-collapse: separate; border-spacing: 3px; table-layout: fixed; width: 100%; min-width: 92rem; }
.matrix th, .matrix td { text-align: left; vertical-align: top; border: 0; padding: .35rem .5rem; white-space: normal; overflow-wrap: anywhere; }
.matrix thead th { position: sticky; top: 0; background: var(--back); z-index: 1; }
.matrix thead th:first-child { width: 21rem; }
.matrix tbody th { font-weight: 600; } .matrix small { display: block; font-weight: normal; color: var(--faint); }
.matrix .section th { padding-top: 1.2rem; }
td.cell { font-size: .85rem; border-radius: 4px; }
td.cell span { display: block; } td.cell .first { font-weight: 600; } td.cell .cost { color: var(--faint); }
summary { cursor: pointer; list-style: none; } summary::-webkit-details-marker { display: none; }
summary::after { content: "parts"; color: var(--faint); text-decoration: underline; }
details[open] > summary::after { content: "close"; }
details > div { position: absolute; left: 2rem; right: 2rem; margin-top: .4rem; padding: .8rem 1rem; background: var(--back); border: 1px solid var(--faint); border-radius: 6px; box-shadow: 0 8px 30px rgb(0 0 0 / 30%); z-index: 2; overflow-x: auto; }
.parts { width: 100%; font-size: .82rem; } .matrix .parts th, .matrix .parts td { overflow-wrap: normal; text-align: left; vertical-align: top; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid var(--line); white-space: normal; }
.matrix .parts thead th { position: static; width: auto; } .matrix .parts tbody th { white-space: nowrap; font-weight: normal; } .matrix .parts td:nth-child(3) { white-space: nowrap; }
.matrix .parts td.verdict { padding: .2rem .5rem; border-radius: 3px; min-width: 11rem; }
.BREACH { background: var(--BREACH); } .crash { background: var(--crash); } .exposed { background: var(--exposed); }
.refused { background: var(--refused); } .hidden { background: var(--hidden); } .private { background: var(--private); }
.legend th { width: 7rem; padding: .2rem .6rem; font-weight: 600; } .legend td { text-align: left; padding-left: .8rem; }
`;

function partRow({ how, verdict, conversions, because }: CellPart): string {
	const texts = [placeText(verdict), how].map((text) => `<td>${escapeHtml(text)}</td>`).join("");
	const rest = [conversions === 0 ? "" : String(conversions), verdict.hazards.join(", "), becauseText(because)];
	return `<tr><th>${escapeHtml(verdict.part)}</th>${texts}<td class="verdict ${verdict.kind}">${escapeHtml(verdictText(verdict))}</td>${rest
		.map((text) => `<td>${escapeHtml(text)}</td>`)
		.join("")}</tr>`;
}

function cellHtml(cell: Cell): string {
	const lines = shortLines(cell);
	const said = lines.map(({ text, kind }, i) => {
		const name = i === 0 ? "first" : kind === null ? "cost" : "";
		return `<span class="${name}">${escapeHtml(text.replace(/(\d) B\b/g, "$1\u00a0B"))}</span>`;
	});
	const head = ["part", "on", "how", "verdict", "conversions", "hazards", "because"];
	const title = `${cell.policy} on ${cell.scenario}, ${cell.platform}${cell.confidential ? "; the device is confidential" : ""}`;
	return `<td class="cell ${cell.kind}">${said.join("")}<details><summary></summary><div><b>${escapeHtml(title)}</b>
<table class="parts"><thead><tr>${head.map((text) => `<th>${text}</th>`).join("")}</tr></thead><tbody>${cell.parts.map(partRow).join("")}</tbody></table></div></details></td>`;
}

function vmbusHtml(matrix: Matrix): string {
	const rows = vmbusRows(matrix).map(({ name, row }) => {
		const cells = row.map((cell) =>
			cell === null
				? "<td></td>"
				: `<td class="cell ${cell.verdict.kind}"><span class="first">${escapeHtml(verdictText(cell.verdict))}</span></td>`,
		);
		return `<tr><th>${escapeHtml(name)}</th>${cells.join("")}</tr>`;
	});
	const above = `<tr class="section"><th colspan="${matrix.scenarios.length + 1}">${VMBUS_TITLE}</th></tr>`;
	return rows.length === 0 ? "" : above + rows.join("\n");
}

/** The whole page. It loads nothing: style and data are inside. */
export function policiesHtml(matrix: Matrix, env: Environment, engineHash: string): string {
	const { scenarios, rows } = matrix;
	const measured = rows.some(({ cells }) => cells.some(({ nsPer4KiB }) => nsPer4KiB !== null));
	const head = scenarios.map(
		({ name, title, platform }) =>
			`<th>${escapeHtml(name)}<small>on ${escapeHtml(platform)}: ${escapeHtml(title)}</small></th>`,
	);
	const body = rows.map(({ policy, cells }) => {
		const { name, title, source } = policy;
		const about = [title, rulesLine(policy), `Source: ${source}`]
			.map((text) => `<small>${escapeHtml(text)}</small>`)
			.join("");
		return `<tr><th>${escapeHtml(name)}${about}</th>${cells.map(cellHtml).join("")}</tr>`;
	});
	const legend = VERDICT_LEGEND.map(
		([word, meaning]) => `<tr><th class="${word}">${word}</th><td>${escapeHtml(meaning)}</td></tr>`,
	);
	return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>coco-dma: DMA policies</title>
<style>${STYLE}</style></head>
<body><h1>DMA policies: what the host could read, and what it costs</h1>
<p class="note">${escapeHtml(describeEnvironment(env))}, engine ${escapeHtml(engineHash)}</p>
<table class="legend"><tbody>${legend.join("")}</tbody></table>
<p class="note">${escapeHtml(CELL_NOTE.replace("--open shows all", "a cell's parts show all"))}${measured ? ` ${escapeHtml(COST_NOTE)}` : ""} A cell has the colour of the worst that it says.</p>
<table class="matrix"><thead><tr><th>policy</th>${head.join("")}</tr></thead>
<tbody>${body.join("\n")}
${vmbusHtml(matrix)}</tbody></table>
</body></html>
`;
}
