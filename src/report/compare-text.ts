import { styleText } from "node:util";
import type { TraceReport } from "./compare-rows.ts";
import { formatNumber, textTable } from "./table.ts";

/** The comparison of one trace as a text table. @param color whether headings are bold */
export function compareText(report: TraceReport, device: string, color: boolean): string {
	const both = report.results.length > 1;
	const heading = (text: string) => (color ? styleText("bold", text, { validateStream: false }) : text);
	const lines: string[][] = [
		["", ...report.results.map(({ mode }) => mode), ...(both ? ["bounce - direct", "bounce / direct"] : [])],
	];
	const groups = new Map<number, string>();
	for (const row of report.rows()) {
		if (row.group !== undefined) groups.set(lines.length, row.group);
		lines.push([`  ${row.label}`, ...row.cells, ...(both ? [row.difference ?? "", row.ratio ?? ""] : [])]);
	}
	const table = textTable(lines).split("\n");
	const body = table.flatMap((line, i) => (groups.has(i) ? [heading(groups.get(i) as string), line] : [line]));
	const clocks = report.results.map(({ mode, clockNs }) => `${mode} ${formatNumber(clockNs)} ns`).join(", ");
	return [
		heading(`${report.file} on ${device}`),
		report.traceLine(),
		"",
		...body,
		"",
		`Totals come from passes without clocks; percentiles from a pass that reads the clock around each map and unmap, its cost subtracted (${clocks}).`,
		"Every byte was checked on both sides before the timed passes.",
	].join("\n");
}
