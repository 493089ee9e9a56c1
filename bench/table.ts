/** Benchmark results as text. */
import { formatBytes } from "../src/bytes.ts";
import { describeEnvironment } from "../src/report/environment.ts";
import { formatRounded } from "../src/report/units.ts";
import { ratioOf } from "../src/study/statistics.ts";
import type { AgainstReport, AgainstSuite, BenchReport, CaseResult, SuiteResult } from "./report.ts";
import { formatRing } from "./ring-report.ts";
import {
	type AgainstRow,
	type Judged,
	type Measured,
	measuredRounds,
	measuredValue,
	quantile,
	type Suite,
} from "./suite.ts";

/** A line is no longer. */
const WIDTH = 100;
const INDENT = "    ";

/** A number with three digits that count. */
function digits(value: number): string {
	if (!Number.isFinite(value)) return "-";
	if (value >= 1000) return Math.round(value).toLocaleString("en");
	return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** A time or a size as a person reads it. */
function amount(value: number, unit: CaseResult["unit"]): string {
	if (!Number.isFinite(value)) return "-";
	if (unit === "bytes") return formatBytes(Math.round(value));
	if (value >= 1e9) return `${digits(value / 1e9)} s`;
	if (value >= 1e6) return `${digits(value / 1e6)} ms`;
	return value >= 1e4 ? `${digits(value / 1e3)} us` : `${digits(value)} ns`;
}

/** Half of the quartiles' distance, of the median; "" of one round. */
function spread(measured: Measured | undefined): string {
	const rounds = measuredRounds(measured);
	const middle = measuredValue(measured);
	if (rounds.length < 2 || !(middle > 0)) return "";
	const half = (quantile(rounds, 0.75) - quantile(rounds, 0.25)) / 2;
	return ` \u00b1${Math.ceil((half / middle) * 100)} %`;
}

/** Against the base, with the digits that both spreads allow. */
function against(measured: Measured, base: Measured | undefined): string {
	const ratio = ratioOf(measuredRounds(measured), measuredRounds(base), measuredValue(measured) / measuredValue(base));
	if (ratio === null) return "";
	return ratio.isEqual ? " (equal within noise)" : ` (${formatRounded(ratio.value, (ratio.high - ratio.low) / 2)}x)`;
}

/** Texts side by side in lines, broken between them. */
function wrapped(texts: readonly string[], between: string): string[] {
	const lines: string[] = [];
	let line = "";
	for (const text of texts) {
		const longer = line === "" ? text : `${line}${between}${text}`;
		if (line !== "" && INDENT.length + longer.length > WIDTH) {
			lines.push(line);
			line = text;
		} else line = longer;
	}
	return line === "" ? lines : [...lines, line];
}

function caseLines({ name, unit, payloadBytes, variants }: CaseResult, base: string): string[] {
	const first = variants[base];
	const cells = Object.entries(variants).map(([variant, measured]) => {
		const beside = variant === base ? "" : against(measured, first);
		return `${variant} ${amount(measuredValue(measured), unit)}${spread(measured)}${beside}`;
	});
	const rate =
		payloadBytes === undefined || first?.nsPerOp === undefined ? "" : `, ${digits(payloadBytes / first.nsPerOp)} GB/s`;
	return [`${name}${rate}`, ...wrapped(cells, "   ").map((line) => INDENT + line)];
}

function targetLine({ target, ratio, nsPerOp, bytes, pass }: Judged, of: CaseResult): string {
	const value = ratio ?? nsPerOp ?? bytes ?? Number.NaN;
	const shown = (number: number) => (ratio !== undefined ? `${digits(number)}x` : amount(Math.abs(number), of.unit));
	const what =
		target.over !== undefined
			? `${target.of} / ${target.over}`
			: target.minus !== undefined
				? `${target.of} - ${target.minus}`
				: target.of;
	const bound =
		target.atLeast !== undefined
			? `at least ${shown(target.atLeast)}`
			: `at most ${shown(target.atMost ?? Number.NaN)}`;
	const sign = value < 0 ? "-" : "";
	const why = value < 0 ? ", below 0: noise" : "";
	return `${pass ? "pass" : "FAIL"}  ${of.name}: ${what} ${sign}${shown(value)}, ${bound}${why}`;
}

function formatSuite({ suite, about, cases, summary }: SuiteResult): string {
	const base = Object.keys(cases[0]?.variants ?? {})[0] ?? "";
	return [
		...wrapped(`${suite}: ${about}`.split(" "), " "),
		"",
		...cases.flatMap((of) => caseLines(of, base)),
		...(summary === undefined ? [] : [summary]),
		"",
	].join("\n");
}

/** The whole report: a table a suite, then what it was measured on. */
export function formatReport(report: BenchReport): string {
	const { options, engineHashes } = report;
	const builds = Object.entries(engineHashes).map(([build, hash]) => `${build} ${hash}`);
	const machine = `${describeEnvironment(report.environment)}; ${builds.join(", ")}; timer resolution ${report.timerResolutionNs} ns`;
	return [
		...report.suites.map(formatSuite),
		...(report.ring === undefined ? [] : [formatRing(report.ring)]),
		...wrapped(
			`Times of one operation: medians of ${options.rounds} rounds of ${options.msPerRound} ms, the variants in turns, \u00b1 half the distance of the quartiles; in brackets the ratio to the first. Read ratios, not digits.`.split(
				" ",
			),
			" ",
		),
		...wrapped(machine.split(" "), " "),
		"",
	].join("\n");
}

/** The targets, met or not. */
export function formatTargets({ suites, ring }: BenchReport, color: boolean): string {
	const lines = [
		...suites.flatMap(({ suite, cases }) =>
			cases.flatMap((of) =>
				of.targets.map((judged) => ({ pass: judged.pass, line: `${suite}: ${targetLine(judged, of)}` })),
			),
		),
		...(ring?.targets ?? []).map(({ met, what, found, limit }) => ({
			pass: met,
			line: `ring: ${met ? "pass" : "FAIL"}  ${what} ${digits(Math.abs(found))}, target ${limit}${found < 0 ? ", below 0: noise" : ""}`,
		})),
	];
	const met = lines.filter(({ pass }) => pass).length;
	return [
		...lines.map(({ pass, line }) => (color ? `\x1b[${pass ? 32 : 31}m${line}\x1b[0m` : line)),
		`${met} of ${lines.length} targets met.`,
		"",
	].join("\n");
}

/** The suites with what they time and their rows. */
export function formatList(list: readonly Pick<Suite, "name" | "about" | "cases">[]): string {
	return list
		.map(({ name, about, cases }) =>
			[...wrapped(`${name}: ${about}`.split(" "), " "), ...cases.map((of) => `${INDENT}${of.name}`), ""].join("\n"),
		)
		.join("\n");
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
