/** The matrix of policies as people read it in a terminal. */
import { styleText } from "node:util";
import type { Cell } from "../study/cell.ts";
import type { Matrix, PolicyHeader } from "../study/matrix.ts";
import {
	CELL_NOTE,
	type CellLine,
	COST_NOTE,
	costLines,
	rulesLine,
	shortLines,
	VERDICT_LEGEND,
	VMBUS_TITLE,
	vmbusRows,
} from "./policies-words.ts";
import { leftTable } from "./table.ts";
import { becauseText, cellText, placeText, verdictText } from "./verdict.ts";

/** Characters of a policy's name, of a cell and of the page: eight scenarios fit into 160 columns. */
const NAME_WIDTH = 23;
const CELL_WIDTH = 15;
const PAGE_WIDTH = 158;

const COLORS = {
	BREACH: ["red", "bold"],
	crash: ["red"],
	exposed: ["yellow"],
	refused: ["magenta"],
	hidden: ["cyan"],
	private: ["green"],
} as const;

/** Control characters of somebody else's text, made visible. */
function printable(text: string): string {
	return text.replace(/[\p{Cc}\p{Cf}]/gu, (c) => `\\u${(c.codePointAt(0) as number).toString(16).padStart(4, "0")}`);
}

/** Wraps at spaces and behind "-". */
function wrap(text: string, width: number): string[] {
	const lines: string[] = [];
	let line = "";
	for (const piece of printable(text).split(/(?<=[- ])/)) {
		if (line !== "" && (line + piece.trimEnd()).length > width) {
			lines.push(line.trimEnd());
			line = "";
		}
		line += piece;
		while (line.trimEnd().length > width) {
			lines.push(line.slice(0, width));
			line = line.slice(width);
		}
	}
	if (line.trim() !== "") lines.push(line.trimEnd());
	return lines;
}

/** Columns side by side, each line in its colour. */
function columns(cells: readonly (readonly CellLine[])[], color: boolean): string[] {
	const wrapped = cells.map((lines, c) =>
		lines.flatMap(({ text, kind }) =>
			wrap(text, c === 0 ? NAME_WIDTH : CELL_WIDTH).map((line) => ({ text: line, kind })),
		),
	);
	const height = Math.max(...wrapped.map((lines) => lines.length));
	return Array.from({ length: height }, (_, i) =>
		wrapped
			.map((lines, c) => {
				const { text = "", kind = null } = lines[i] ?? {};
				const padded = text.padEnd(c === 0 ? NAME_WIDTH : CELL_WIDTH);
				return color && kind !== null ? styleText([...COLORS[kind]], padded, { validateStream: false }) : padded;
			})
			.join("  ")
			.trimEnd(),
	);
}

const plain = (...texts: readonly string[]): CellLine[] => texts.map((text) => ({ text, kind: null }));

/** A policy's name, its modifiers on lines of their own where it is long. */
function nameLines(name: string): string[] {
	return name.length <= NAME_WIDTH ? [name] : name.split(/(?=\+)/);
}

function overview(matrix: Matrix, color: boolean): string[] {
	const { scenarios, rows } = matrix;
	const head = columns(
		[plain("policy"), ...scenarios.map(({ name, platform }) => plain(name, `on ${platform}`))],
		false,
	);
	const rule = "-".repeat(NAME_WIDTH + scenarios.length * (CELL_WIDTH + 2));
	const body = rows.flatMap(({ policy, cells }) => [
		...columns(
			[
				plain(...nameLines(policy.name), `${policy.kernel.replace("linux-", "")}, ${policy.acceptance}`),
				...cells.map(shortLines),
			],
			color,
		),
		"",
	]);
	const channels = vmbusRows(matrix).flatMap(({ name, row }) =>
		columns(
			[
				plain(name),
				...row.map((cell) =>
					cell === null ? plain("-") : [{ text: verdictText(cell.verdict), kind: cell.verdict.kind }],
				),
			],
			color,
		),
	);
	const below = channels.length === 0 ? [] : [VMBUS_TITLE, rule, ...channels, ""];
	return [...head, rule, ...body, ...below];
}

/** A policy's header: what it does, whose rules it changes, what it knows of acceptance, where it is from. */
export function headerLines(policy: PolicyHeader): string[] {
	const { name, title, source } = policy;
	return [`${name}: ${title}`, `  ${rulesLine(policy)}`, `  source: ${source}`].flatMap((line, i) =>
		wrap(line, PAGE_WIDTH).map((text, k) => (k === 0 ? text : `${i === 0 ? "  " : "    "}${text}`)),
	);
}

function partsTable({ parts }: Cell): string {
	const head = ["part", "on", "how", "verdict", "conversions", "hazards", "because"];
	const rows = parts.map(({ how, verdict, conversions, because }) =>
		[
			verdict.part,
			placeText(verdict),
			how,
			verdictText(verdict),
			String(conversions),
			verdict.hazards.join(", ") || "-",
			becauseText(because) || "-",
		].map(printable),
	);
	return leftTable([head, ...rows]);
}

/** One policy: its header, and a line a scenario. @param open whether each scenario is opened into its parts */
function onePolicy(matrix: Matrix, { policy, cells }: Matrix["rows"][number], open: boolean): string[] {
	const lines = cells.map((cell) => [
		cell.scenario,
		`on ${cell.platform}`,
		costLines(cell).join(" "),
		printable(cellText(cell)),
	]);
	const measured = cells.some(({ nsPer4KiB }) => nsPer4KiB !== null);
	const table = leftTable(measured ? lines : lines.map(([a, b, , d]) => [a, b, d] as string[])).split("\n");
	const body = open
		? cells.flatMap((cell, i) => [
				"",
				table[i] as string,
				...partsTable(cell)
					.split("\n")
					.map((line) => `  ${line}`),
			])
		: table;
	const titles = new Map(matrix.scenarios.map(({ name, title }) => [name, title]));
	const about = open
		? []
		: [
				"",
				...leftTable(cells.map(({ scenario }) => [`  ${scenario}`, printable(titles.get(scenario) ?? "")])).split("\n"),
			];
	return [...headerLines(policy), "", ...body, ...about, ""];
}

function legend(measured: boolean): string[] {
	const words = leftTable(VERDICT_LEGEND.map(([word, meaning]) => [`  ${word}`, meaning])).split("\n");
	return [...words, "", ...[CELL_NOTE, ...(measured ? [COST_NOTE] : [])].flatMap((note) => wrap(note, PAGE_WIDTH))];
}

/** The whole output. @param open whether cells are opened into their parts; color: whether verdicts are coloured */
export function policiesText(matrix: Matrix, options: { readonly open: boolean; readonly color: boolean }): string {
	const { open, color } = options;
	const { rows } = matrix;
	const measured = rows.some(({ cells }) => cells.some(({ nsPer4KiB }) => nsPer4KiB !== null));
	if (rows.length > 1 && !open) return [...overview(matrix, color), ...legend(measured)].join("\n");
	const channels = vmbusRows(matrix).flatMap(({ name, row }) =>
		row.flatMap((cell) => (cell === null ? [] : [[name, cell.scenario, verdictText(cell.verdict)]])),
	);
	const below = channels.length === 0 ? [] : [VMBUS_TITLE, ...leftTable(channels).split("\n"), ""];
	return [...rows.flatMap((row) => onePolicy(matrix, row, open)), ...below, ...legend(measured)].join("\n");
}
