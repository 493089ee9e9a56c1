/** Benchmark results as text. */
import { formatBytes } from "../src/bytes.ts";
import { describeEnvironment } from "../src/report/environment.ts";
import type { BenchReport, CaseResult, Judged, SuiteResult } from "./report.ts";
import { formatRing } from "./ring-report.ts";
import { measuredValue } from "./suite.ts";

/** A number with three digits that count. */
function digits(value: number): string {
	if (!Number.isFinite(value)) return "-";
	if (value >= 1000) return Math.round(value).toLocaleString("en");
	return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function cell(of: CaseResult, variant: string, base: string): string {
	const measured = of.variants[variant];
	if (measured === undefined) return "";
	if (of.unit === "bytes") return formatBytes(Math.round(measuredValue(measured)));
	const baseline = of.variants[base];
	const ratio =
		variant === base || baseline === undefined
			? ""
			: ` (${digits(measuredValue(measured) / measuredValue(baseline))}x)`;
	return `${digits(measuredValue(measured))}${ratio}`;
}

function verdict({ target, ratio, nsPerOp, bytes, pass }: Judged, color: boolean): string {
	const value = ratio ?? nsPerOp ?? bytes ?? Number.NaN;
	const what =
		target.over !== undefined
			? `${target.of} / ${target.over}`
			: target.minus !== undefined
				? `${target.of} - ${target.minus}`
				: target.of;
	const bound = target.atLeast !== undefined ? `>= ${target.atLeast}` : `<= ${digits(target.atMost ?? Number.NaN)}`;
	const suffix = ratio !== undefined ? "" : bytes !== undefined ? " B" : " ns";
	const mark = pass ? "pass" : "FAIL";
	const shown = color ? `\x1b[${pass ? 32 : 31}m${mark}\x1b[0m` : mark;
	return `${what} ${digits(value)} ${bound}${suffix} ${shown}`;
}

function formatSuite({ suite, about, cases, summary }: SuiteResult, color: boolean): string {
	const variants = [...new Set(cases.flatMap((of) => Object.keys(of.variants)))];
	const base = variants[0] ?? "";
	const rows = [
		["ns per operation", ...variants.map((name) => (name === base ? name : `${name} (/ ${base})`)), "GB/s", "targets"],
		...cases.map((of) => {
			const ns = of.variants[base]?.nsPerOp;
			const rate = of.payloadBytes === undefined || ns === undefined ? "" : digits(of.payloadBytes / ns);
			const targets = of.targets.map((judged) => verdict(judged, color)).join("; ");
			return [of.name, ...variants.map((name) => cell(of, name, base)), rate, targets];
		}),
	];
	const used = (rows[0] as string[]).map(
		(_, column) => column === 0 || rows.slice(1).some((row) => row[column] !== ""),
	);
	const widths = (rows[0] as string[]).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
	const lines = rows.map((row) =>
		row
			.map((text, column) =>
				column === 0 || column === row.length - 1
					? text.padEnd(column === 0 ? (widths[0] ?? 0) : 0)
					: text.padStart(widths[column] ?? 0),
			)
			.filter((_, column) => used[column])
			.join("  ")
			.trimEnd(),
	);
	return [`${suite}: ${about}`, ...lines, ...(summary === undefined ? [] : [summary]), ""].join("\n");
}

/** The whole report: a table a suite, then what it was measured on. */
export function formatReport(report: BenchReport, color: boolean): string {
	const { options, engineHashes } = report;
	const builds = Object.entries(engineHashes).map(([build, hash]) => `${build} ${hash}`);
	const judged = [
		...report.suites.flatMap(({ cases }) => cases.flatMap(({ targets }) => targets.map(({ pass }) => pass))),
		...(report.ring?.targets.map((target) => target.met) ?? []),
	];
	const met = judged.filter((pass) => pass).length;
	return [
		...report.suites.map((suite) => formatSuite(suite, color)),
		...(report.ring === undefined ? [] : [formatRing(report.ring)]),
		`${met} of ${judged.length} targets met. Medians of ${options.rounds} rounds of ${options.msPerRound} ms; read ratios, not digits.`,
		`${describeEnvironment(report.environment)}; ${builds.join(", ")}; timer resolution ${report.timerResolutionNs} ns`,
		"",
	].join("\n");
}
