/** Style and script of the HTML report. */
import { PAGE_STYLE } from "./page-style.ts";

export const STYLE = `${PAGE_STYLE}.group th { font-weight: 600; padding-top: .9rem; } .options td { text-align: left; }
.charts { display: flex; flex-wrap: wrap; gap: 2rem; margin-top: 1.5rem; } figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: .4rem; }
.bar { display: flex; align-items: center; gap: .8rem; margin: .35rem 0; } .bar .name { width: 4rem; }
.bar .track { flex: 1; display: flex; height: 1.3rem; } .bar .value { width: 13rem; font-variant-numeric: tabular-nums; }
i.direct { background: var(--direct); } i.bounce { background: var(--bounce); } i.device { background: var(--device); }
.key { color: var(--faint); font-size: .85rem; } .key i { display: inline-block; width: .8rem; height: .8rem; margin: 0 .15rem 0 .6rem; }
.u-legend { text-align: left; }
`;

export const CHART_SCRIPT = `
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (v) => v == null ? "-" : v >= 100 ? Math.round(v).toLocaleString("en-US") : v.toFixed(1);
const bytes = (v) => v >= 1048576 ? v / 1048576 + " MiB" : v >= 1024 ? v / 1024 + " KiB" : v + " B";
const axis = { stroke: css("--faint"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 } };
function chart(id, xs, names, lines, label) {
	new uPlot({
		width: 510, height: 330, padding: [12, 34, 0, 0],
		scales: { x: { time: false }, y: { distr: 3 } },
		legend: { live: true },
		axes: [
			{ ...axis, splits: () => xs.map((_, i) => i), values: (u, at) => at.map((i) => xs[i] === undefined ? "" : label(xs[i])), rotate: -40, size: 70 },
			{ ...axis, size: 76, values: (u, at) => at.map((v) => v == null ? "" : number(v)) },
		],
		series: [
			{ label: "at", value: (u, i) => i == null ? "" : label(xs[i]) },
			...names.map((name) => ({ label: name + ", ns", stroke: css("--" + name), width: 2, points: { show: true, size: 7 }, value: (u, v) => number(v) })),
		],
	}, [xs.map((_, i) => i), ...lines], document.getElementById(id));
}
CHARTS.forEach((modes, n) => {
	const names = modes.map((m) => m.mode);
	const floor = (ns) => Math.max(ns, 1);
	const sizes = [...new Set(modes.flatMap((m) => m.sizes.map((s) => s.bytes)))].sort((a, b) => a - b);
	chart("sizes-" + n, sizes, names, modes.map((m) => sizes.map((b) => { const s = m.sizes.find((x) => x.bytes === b); return s ? floor(s.medianNs) : null; })), (b) => "to " + bytes(b));
	const shares = modes[0].curve.map((p) => p.quantile);
	chart("curve-" + n, shares, names, modes.map((m) => m.curve.map((p) => floor(p.ns))), (q) => q === 0 ? "min" : q === 1 ? "max" : +(q * 100).toFixed(2) + " %");
});
`;
