/** Policies compared as one HTML file that opens from disk: cost and exposure in one chart, and all figures. */

import type { PolicyComparison, PolicyResult } from "../study/compare.ts";
import { headerLine } from "./audit-text.ts";
import { STYLE } from "./compare-page.ts";
import { describeEnvironment, type Environment } from "./environment.ts";
import { escapeHtml } from "./html.ts";
import { exposureWord, policyRows } from "./policy-rows.ts";
import { formatNumber } from "./table.ts";

const POLICY_STYLE = `
.pair { display: grid; grid-template-columns: minmax(9rem, 17rem) 1fr 1fr; gap: .35rem 1.2rem; align-items: center; margin: 1rem 0; }
.pair .head { font-weight: 600; } .pair .bar { margin: 0; } .pair .bar .value { width: 10.5rem; white-space: nowrap; }
.pair > span { overflow-wrap: anywhere; } .wide { overflow-x: auto; } .wide tbody tr:not(.group) th { position: sticky; left: 0; background: var(--back); }
i.cost { background: var(--direct); } i.BREACH, i.crash { background: #c23a3a; } i.exposed { background: var(--bounce); } i.private, i.refused { background: var(--device); }
.names { color: var(--faint); font-size: .9rem; } .names b { color: var(--text); }
`;

function bar(kind: string, share: number, text: string): string {
	return `<div class="bar"><span class="track"><i class="${kind}" style="width:${(share * 100).toFixed(2)}%"></i></span><span class="value">${escapeHtml(text)}</span></div>`;
}

/** Two bars a policy: what it costs, and what the host could read. */
function chart(results: readonly PolicyResult[]): string {
	const ns = (result: PolicyResult) => result.cost?.dmaNsPerRequest ?? 0;
	const bytes = ({ exposure }: PolicyResult) =>
		exposure.breachedBytes + exposure.exposedBytes + exposure.neighbourBytes;
	const mostNs = Math.max(1, ...results.map(ns));
	const mostBytes = Math.max(1, ...results.map(bytes));
	const rows = results.map((result) => {
		const word = exposureWord(result);
		const cost = result.cost === null ? "refused" : `${formatNumber(ns(result))} ns`;
		const amount = bytes(result) === 0 ? word : `${word} ${formatNumber(bytes(result))} B`;
		return `<span>${escapeHtml(result.policy)}</span>${bar("cost", ns(result) / mostNs, cost)}${bar(word, bytes(result) / mostBytes, amount)}`;
	});
	return `<div class="pair"><span></span><span class="head">DMA layer, ns per request (release build)</span><span class="head">Bytes the host could read (audit build)</span>${rows.join("")}</div>`;
}

function table(results: readonly PolicyResult[]): string {
	const head = ["", ...results.map(({ policy }) => policy)].map((text) => `<th>${escapeHtml(text)}</th>`).join("");
	const rows = policyRows(results).map(({ label, cells, group }) => {
		const above =
			group === undefined ? "" : `<tr class="group"><th colspan="${cells.length + 1}">${escapeHtml(group)}</th></tr>`;
		return `${above}<tr><th>${escapeHtml(label)}</th>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join("")}</tr>`;
	});
	return `<div class="wide"><table><thead><tr>${head}</tr></thead><tbody>${rows.join("")}</tbody></table></div>`;
}

function section(results: readonly PolicyResult[]): string {
	const [first] = results;
	if (first === undefined) return "";
	const { scenario, platform, device, requests } = first.exposure;
	const names = results.map(({ exposure }) => {
		const [name, ...rest] = headerLine(exposure).split(": ");
		return `<li><b>${escapeHtml(name as string)}</b>: ${escapeHtml(rest.join(": "))}. <i>${escapeHtml(exposure.policy.source)}</i></li>`;
	});
	return `<section><h2>${escapeHtml(first.workload)}</h2>
<p class="note">${formatNumber(requests)} requests on ${escapeHtml(device)} (${escapeHtml(scenario)}) on ${escapeHtml(platform)}.</p>
<ul class="names">${names.join("")}</ul>
<h3>Cost and exposure</h3>${chart(results)}
<h3>All figures</h3>${table(results)}</section>`;
}

/** The whole page. It loads nothing. */
export function policyHtml(
	results: readonly PolicyResult[],
	env: Environment,
	options: PolicyComparison["options"],
): string {
	const files = [...new Set(results.map(({ workload }) => workload))];
	const { policies: _, ...flat } = options;
	const optionList = Object.entries(flat)
		.map(([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(String(value))}</td></tr>`)
		.join("");
	const hash = results.find(({ cost }) => cost !== null)?.cost?.engineHash ?? "";
	return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>coco-dma: policies compared</title>
<style>${STYLE}${POLICY_STYLE}</style></head>
<body><h1>What a DMA policy costs, and what it leaks</h1>
<p class="note">${escapeHtml(describeEnvironment(env))}, engine ${escapeHtml(hash)}</p>
${files.map((file) => section(results.filter(({ workload }) => workload === file))).join("\n")}
<section><h2>How it was measured</h2>
<p>Cost is timed on the release build, each policy in a process of its own: medians of passes without clocks. Exposure is counted on the audit
build, which keeps a label for each byte of RAM, over the same requests with the same seed: bytes of private origin each time that they reach a
page that the host reads. <b>Exposed</b>: of a device that is not trusted, as designed. <b>BREACH</b>: of a device whose offer or accepted state
says that its data is confidential, whatever the policy believes.</p>
<table class="options"><tbody>${optionList}</tbody></table></section>
</body></html>
`;
}
