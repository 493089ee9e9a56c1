/** Style and script of pages. */

/** Light and dark; figures to the right, words to the left, a matrix over the whole width, cells in the colour of their verdict. */
export const STYLE = `
:root { --direct: #2f6fde; --bounce: #d9662b; --device: #9aa3ad; --text: #1c2126; --faint: #667; --line: #dde1e6; --back: #fff; --bad: #c23a3a;
	--BREACH: #ffd9d6; --crash: #f3d3ea; --exposed: #ffedc9; --undefined: #f3d3ea; --refused: #e6e8ec; --hidden: #d5eef5; --private: #d7f0dc; }
@media (prefers-color-scheme: dark) {
	:root { --direct: #6aa1ff; --bounce: #f0915c; --device: #6b737c; --text: #e6e9ec; --faint: #9aa3ad; --line: #333a42; --back: #15181b; --bad: #e06464;
		--BREACH: #5c2320; --crash: #4d2444; --exposed: #4d3b14; --undefined: #4d2444; --refused: #2b3036; --hidden: #173f4a; --private: #1b4327; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
body.matrix { max-width: none; margin: 1.5rem 2rem; padding: 0; }
h1 { margin: 0; } h2 { margin: 2.2rem 0 .5rem; font-size: 1.25rem; } h3 { margin: 1.6rem 0 .5rem; font-size: 1rem; }
.lead { font-size: 1.1rem; max-width: 48rem; } .note { color: var(--faint); font-size: .85rem; margin: .3rem 0; max-width: 60rem; }
ul { color: var(--faint); font-size: .9rem; padding-left: 1.2rem; } ul b { color: var(--text); }
small { display: block; font-weight: normal; color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .9rem .15rem 0; text-align: right; border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; } tbody th { font-weight: normal; text-align: left; white-space: nowrap; } th.deeper { padding-left: 1rem; }
.group th { font-weight: 600; padding-top: .9rem; }
.figures tbody tr:not(.group) th { position: sticky; left: 0; background: var(--back); }
.words th, .words td { text-align: left; vertical-align: top; padding: .2rem .7rem .2rem 0; }
.said { border-radius: 3px; padding: .2rem .5rem; } .said span { display: block; } .said .cost { color: var(--faint); }
.words .said { min-width: 11rem; padding: .2rem .5rem; }
.matrix .wide { overflow-x: visible; }
table.matrix { border-collapse: separate; border-spacing: 3px; table-layout: fixed; width: 100%; min-width: 92rem; }
table.matrix > * > tr > th, table.matrix > * > tr > td { text-align: left; vertical-align: top; border: 0; padding: .35rem .5rem; white-space: normal; overflow-wrap: anywhere; }
table.matrix > thead > tr > th { position: sticky; top: 0; background: var(--back); z-index: 1; }
table.matrix > thead > tr > th:first-child { width: 21rem; } table.matrix > tbody > tr > th { font-weight: 600; }
table.matrix > tbody > tr > .said { font-size: .85rem; border-radius: 4px; } table.matrix .said .first { font-weight: 600; }
details summary { cursor: pointer; list-style: none; } summary::-webkit-details-marker { display: none; }
summary::after { content: "parts"; color: var(--faint); text-decoration: underline; }
details[open] > summary::after { content: "close"; }
details > div { position: absolute; left: 2rem; right: 2rem; margin-top: .4rem; padding: .8rem 1rem; background: var(--back); border: 1px solid var(--faint); border-radius: 6px; box-shadow: 0 8px 30px rgb(0 0 0 / 30%); z-index: 2; overflow-x: auto; }
details table { width: 100%; font-size: .82rem; }
.BREACH { background: var(--BREACH); } .crash { background: var(--crash); } .exposed { background: var(--exposed); }
.undefined { background: var(--undefined); } .refused { background: var(--refused); } .hidden { background: var(--hidden); } .private { background: var(--private); }
.legend th { width: 7rem; padding: .2rem .6rem; font-weight: 600; } .legend td { text-align: left; padding-left: .8rem; }
.bars { display: grid; grid-template-columns: minmax(4rem, 17rem) 1fr; gap: .35rem 1.2rem; align-items: center; margin: 1rem 0; }
.bars.of2 { grid-template-columns: minmax(9rem, 17rem) 1fr 1fr; }
.bars > span { overflow-wrap: anywhere; } .bars .head { font-weight: 600; }
.bar { display: flex; align-items: center; gap: .8rem; } .bar .track { flex: 1; display: flex; height: 1.3rem; }
.bar .value { min-width: 10.5rem; white-space: nowrap; font-variant-numeric: tabular-nums; }
i.direct, i.cost { background: var(--direct); } i.bounce, i.exposed { background: var(--bounce); }
i.device, i.private, i.refused, i.hidden { background: var(--device); } i.BREACH, i.crash, i.undefined { background: var(--bad); }
.key { color: var(--faint); font-size: .85rem; } .key i { display: inline-block; width: .8rem; height: .8rem; margin: 0 .15rem 0 .6rem; }
figure { display: inline-block; margin: 1.5rem 2rem 0 0; } figcaption { font-weight: 600; margin-bottom: .4rem; }
.u-legend { text-align: left; }
`;

/** Draws CURVES, each into its element. */
export const CHART_SCRIPT = `
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (v) => v == null ? "-" : v >= 100 ? Math.round(v).toLocaleString("en-US") : v.toFixed(1);
const bytes = (v) => v >= 1048576 ? v / 1048576 + " MiB" : v >= 1024 ? v / 1024 + " KiB" : v + " B";
const LABELS = {
	bytes: (b) => "to " + bytes(b),
	share: (q) => q === 0 ? "min" : q === 1 ? "max" : +(q * 100).toFixed(2) + " %",
};
const axis = { stroke: css("--faint"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 } };
CURVES.forEach(({ axis: kind, at, lines }, n) => {
	const label = LABELS[kind];
	new uPlot({
		width: 510, height: 330, padding: [12, 34, 0, 0],
		scales: { x: { time: false }, y: { distr: 3 } },
		legend: { live: true },
		axes: [
			{ ...axis, splits: () => at.map((_, i) => i), values: (u, ticks) => ticks.map((i) => at[i] === undefined ? "" : label(at[i])), rotate: -40, size: 70 },
			{ ...axis, size: 76, values: (u, ticks) => ticks.map((v) => v == null ? "" : number(v)) },
		],
		series: [
			{ label: "at", value: (u, i) => i == null ? "" : label(at[i]) },
			...lines.map(({ name, tone }) => ({ label: name + ", ns", stroke: css("--" + tone), width: 2, points: { show: true, size: 7 }, value: (u, v) => number(v) })),
		],
	}, [at.map((_, i) => i), ...lines.map(({ ns }) => ns)], document.getElementById("curves-" + n));
});
`;
