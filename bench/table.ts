/** Benchmark results as text. */
import { formatBytes } from "../src/bytes.ts";
import { describeEnvironment } from "../src/report/environment.ts";
import type { AgainstReport, AgainstSuite, BenchReport, CaseResult, Judged, SuiteResult } from "./report.ts";
import { formatRing } from "./ring-report.ts";
import { type AgainstRow, measuredValue } from "./suite.ts";

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

function formatRows({ suite, rows }: AgainstSuite, color: boolean): string {
	const widest = Math.max(...rows.map(({ name }) => name.length), suite.length);
	const mark = ({ verdict }: AgainstRow) => {
		if (verdict === "same") return "";
		return color ? `\x1b[${verdict === "faster" ? 32 : 31}m${verdict}\x1b[0m` : verdict;
	};
	const lines = rows.map((row) => {
		const { name, beforeNs, nowNs, ratio, low, high } = row;
		const spread = `${ratio.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
		return `${name.padEnd(widest)}  ${digits(beforeNs).padStart(9)}  ${digits(nowNs).padStart(9)}  ${spread.padStart(24)}  ${mark(row)}`.trimEnd();
	});
	const together = Math.exp(rows.reduce((sum, { ratio }) => sum + Math.log(ratio), 0) / rows.length);
	const count = (verdict: string) => rows.filter((row) => row.verdict === verdict).length;
	return [
		`${suite.padEnd(widest)}  ${"before ns".padStart(9)}  ${"now ns".padStart(9)}  ${"now / before (quartiles)".padStart(24)}`,
		...lines,
		`${rows.length} rows: ${count("slower")} slower, ${count("faster")} faster; all together ${together.toFixed(3)} (geometric mean)`,
		"",
	].join("\n");
}

/** This build against another: a table a suite, then what it was measured on. */
export function formatAgainst({ against, environment, options, suites }: AgainstReport, color: boolean): string {
	return [
		...suites.map((suite) => formatRows(suite, color)),
		`before: bench ${against.before} in ${against.folder}; now: bench ${against.now}. ${options.rounds} rounds, each in new processes, both builds in turn; slower and faster: by more than 5 % and in three rounds of four.`,
		describeEnvironment(environment),
		"",
	].join("\n");
}
