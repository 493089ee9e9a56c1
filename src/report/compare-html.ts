/** The comparison as one HTML file that opens from disk: charts, figures, options, model. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { formatBytes } from "../bytes.ts";
import type { Comparison } from "../study/compare.ts";
import { CHART_SCRIPT, STYLE } from "./compare-page.ts";
import type { TraceReport } from "./compare-rows.ts";
import { describeEnvironment, type Environment } from "./environment.ts";
import { escapeHtml } from "./html.ts";
import { formatNumber } from "./table.ts";

/** JSON that may stand inside a script element. */
function inlineJson(data: unknown): string {
	return JSON.stringify(data).replace(/</g, "\\u003c");
}

function library(file: string): string {
	return readFileSync(createRequire(import.meta.url).resolve(`uplot/dist/${file}`), "utf8");
}

function table(report: TraceReport): string {
	const both = report.results.length > 1;
	const head = ["", ...report.results.map(({ mode }) => mode), ...(both ? ["bounce − direct", "bounce / direct"] : [])];
	const width = head.length;
	const rows = report.rows().map((row) => {
		const group =
			row.group === undefined ? "" : `<tr class="group"><th colspan="${width}">${escapeHtml(row.group)}</th></tr>`;
		const cells = [...row.cells, ...(both ? [row.difference ?? "", row.ratio ?? ""] : [])];
		return `${group}<tr><th>${escapeHtml(row.label)}</th>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join("")}</tr>`;
	});
	return `<table><thead><tr>${head.map((text) => `<th>${escapeHtml(text)}</th>`).join("")}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

/** Stacked bars: where a request's time goes. */
function breakdown(report: TraceReport): string {
	const longest = Math.max(...report.results.map((r) => (r.dmaNs + r.deviceNs) / r.requests));
	const bars = report.results.map((r) => {
		const dma = r.dmaNs / r.requests;
		const device = r.deviceNs / r.requests;
		const width = (ns: number) => `${((ns / longest) * 100).toFixed(2)}%`;
		return `<div class="bar"><span class="name">${r.mode}</span><span class="track">
<i class="${r.mode}" style="width:${width(dma)}"></i><i class="device" style="width:${width(device)}"></i></span>
<span class="value">${formatNumber(Math.round(dma))} + ${formatNumber(Math.round(device))} ns</span></div>`;
	});
	return `<div class="bars">${bars.join("")}</div>
<p class="key"><i class="direct"></i><i class="bounce"></i> DMA layer (map, copies, unmap) <i class="device"></i> the device's own moves</p>`;
}

function headline(report: TraceReport): string {
	const direct = report.results.find(({ mode }) => mode === "direct");
	const bounce = report.results.find(({ mode }) => mode === "bounce");
	if (direct === undefined || bounce === undefined) return "";
	const times = formatNumber(bounce.dmaNsPerRequest / direct.dmaNsPerRequest);
	const total = formatNumber(bounce.totalNs / direct.totalNs);
	return `<p class="lead">Bouncing makes the DMA layer <b>${times} times</b> as expensive: ${formatNumber(direct.dmaNsPerRequest)} ns a request
become ${formatNumber(bounce.dmaNsPerRequest)} ns. With the device's own moves the whole takes ${total} times as long. The host can read
${formatBytes(bounce.hostReadableBytes)} of the guest then, and ${formatBytes(direct.hostReadableBytes)} otherwise.</p>`;
}

function section(report: TraceReport, index: number): string {
	return `<section><h2>${escapeHtml(report.file)}</h2>${headline(report)}
<p class="note">${escapeHtml(report.traceLine())}.</p>
<h3>Where a request's time goes</h3>${breakdown(report)}
<div class="charts"><figure><figcaption>DMA layer by size of the request: median ns</figcaption><div id="sizes-${index}"></div></figure>
<figure><figcaption>DMA layer by share of the requests: ns, the slowest at the right</figcaption><div id="curve-${index}"></div></figure></div>
<h3>All figures</h3>${table(report)}</section>`;
}

/** The whole page. It loads nothing: style, chart library and data are inside. */
export function compareHtml(reports: readonly TraceReport[], env: Environment, options: Comparison["options"]): string {
	const charts = reports.map(({ results }) =>
		results.map(({ mode, sizeClasses, latency }) => ({ mode, sizes: sizeClasses, curve: latency.curve })),
	);
	const optionList = Object.entries({ ...options, modes: options.modes.join(", ") })
		.map(([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(String(value))}</td></tr>`)
		.join("");
	return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>coco-dma: bounce against direct DMA</title>
<style>${library("uPlot.min.css")}${STYLE}</style></head>
<body><h1>Bounce against direct DMA</h1>
<p class="note">${escapeHtml(describeEnvironment(env))}, engine ${escapeHtml(reports[0]?.results[0]?.engineHash ?? "")}</p>
${reports.map(section).join("\n")}
<section><h2>How it was measured</h2>
<p>Recorded block requests go through Linux 6.12's DMA rules: <b>direct</b> is a trusted device on private pages, <b>bounce</b> an untrusted one
through the shared swiotlb pool. In both the device really moves the bytes. Totals are medians of passes without clocks; percentiles come from a
pass that reads the clock around each map and unmap, and the clock's cost is subtracted. Every byte was checked on both sides before the timed
passes. <code>coco-dma compare --help</code> states the model.</p>
<table class="options"><tbody>${optionList}</tbody></table></section>
<script>${library("uPlot.iife.min.js")}</script>
<script>const CHARTS = ${inlineJson(charts)};${CHART_SCRIPT}</script>
</body></html>
`;
}
