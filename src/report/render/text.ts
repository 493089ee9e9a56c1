/** Reports for a terminal. What needs a page is left out: charts, whose figures stand in the tables, the method and the options. */
import type { VerdictKind } from "../../study/verdict.ts";
import type { Block, Report, Row, Said, Section, Table, Value, Words } from "../model.ts";
import { labelText, plainText, valueText } from "./words.ts";

interface TextOptions {
	/** Whether headings are bold and verdicts coloured. */
	readonly color: boolean;
	/** Where sentences are broken (characters). Default: nowhere, the terminal does it. */
	readonly width?: number;
}

/** Characters of a matrix's first column, of its others, and between them: eight fit into 160. */
const LABEL_WIDTH = 23;
const CELL_WIDTH = 15;
const MATRIX_COLUMNS = 8;
const GAP = "  ";

/** Escape codes of ECMA-48, select graphic rendition. */
const BOLD = "1";
const COLORS: Readonly<Record<VerdictKind, string>> = {
	BREACH: "31;1",
	crash: "31",
	undefined: "31",
	refused: "35",
	exposed: "33",
	hidden: "36",
	private: "32",
	"not applicable": "2",
};

/** Control characters of somebody else's text, made visible; a space where the words keep a number and its unit together. */
function printable(text: string): string {
	return text
		.replaceAll("\u00a0", " ")
		.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => `\\u${(c.codePointAt(0) as number).toString(16).padStart(4, "0")}`);
}

/** Broken at spaces and behind "-"; a longer word where the line ends, but an address nowhere. */
function wrap(text: string, width: number): string[] {
	const lines: string[] = [];
	let line = "";
	for (const piece of printable(text).match(/<https:[^ >]*>[^ -]*[- ]?|[^ -]*[- ]|[^ -]+/g) ?? []) {
		if (line !== "" && (line + piece.trimEnd()).length > width) {
			lines.push(line.trimEnd());
			line = "";
		}
		line += piece;
		while (line.trimEnd().length > width && !piece.startsWith("<https:")) {
			lines.push(line.slice(0, width));
			line = line.slice(width);
		}
	}
	if (line.trim() !== "") lines.push(line.trimEnd());
	return lines;
}

/** Lines of texts in columns, the first to the left. */
export function aligned(rows: readonly (readonly string[])[], others: "left" | "right"): string[] {
	const shown = rows.map((cells) => cells.map(printable));
	const count = Math.max(0, ...shown.map((cells) => cells.length));
	const widths = Array.from({ length: count }, (_, c) => Math.max(...shown.map((cells) => cells[c]?.length ?? 0)));
	return shown.map((cells) =>
		cells
			.map((cell, c) =>
				c === 0 || others === "left" ? cell.padEnd(widths[c] as number) : cell.padStart(widths[c] as number),
			)
			.join(GAP)
			.trimEnd(),
	);
}

class TextRenderer {
	readonly #color: boolean;
	readonly #width: number;

	constructor({ color, width = Number.POSITIVE_INFINITY }: TextOptions) {
		this.#color = color;
		this.#width = width;
	}

	#paint(text: string, code: string): string {
		return this.#color && text !== "" ? `\u001b[${code}m${text}\u001b[0m` : text;
	}

	/** A sentence in lines, the first at an indent and the others two further in. */
	#lines(words: Words, indent = 0): string[] {
		return wrap(plainText(words), this.#width).map((line, i) => `${" ".repeat(i === 0 ? indent : indent + 2)}${line}`);
	}

	report({ sections, legend, notes, ranOn }: Report): string {
		const below = [
			...(legend.length === 0
				? []
				: [
						aligned(
							legend.map(({ word, meaning }) => [`  ${word}`, meaning]),
							"left",
						).join("\n"),
					]),
			...(notes.length === 0 ? [] : [notes.flatMap((note) => wrap(plainText(note), this.#width)).join("\n")]),
			...(ranOn === "" ? [] : [printable(ranOn)]),
		];
		return [...sections.map((section) => this.#section(section)), ...below].join("\n\n");
	}

	#section({ title, blocks }: Section): string {
		const lines = title === "" ? [] : this.#lines(title).map((line) => this.#paint(line, BOLD));
		let before: Block | null = null;
		for (const block of blocks) {
			const text = this.#block(block);
			if (text === null) continue;
			if (lines.length > 0 && isApart(before, block)) lines.push("");
			lines.push(...text);
			before = block;
		}
		return lines.join("\n");
	}

	#block(block: Block): string[] | null {
		switch (block.block) {
			case "paragraph":
				return this.#lines(block.words);
			case "list":
				return [
					...(block.title === "" ? [] : [printable(block.title)]),
					...block.items.flatMap(({ words, under }) => [
						...this.#lines(words, 2),
						...under.flatMap((line) => this.#lines(line, 4)),
					]),
				];
			case "table":
				return this.#table(block);
			case "bars":
			case "curves":
				return null;
		}
	}

	#table(table: Table): string[] {
		const lines = table.layout === "matrix" ? this.#matrix(table) : this.#columns(table);
		return table.title === "" ? lines : [printable(table.title), ...lines];
	}

	/** Tables whose rows are lines: figures to the right, words to the left. */
	#columns({ layout, corner, columns, groups }: Table): string[] {
		const indented = groups.some(({ title }) => title !== "") ? 1 : 0;
		const head = [corner, ...columns.map(({ title }) => title)];
		const hasHead = head.some((title) => title !== "");
		const rows = groups.flatMap((group) => group.rows);
		const texts = rows.map((row) => [
			`${"  ".repeat(indented + row.depth)}${labelText(row)}`,
			...row.values.map((value) => (value === null ? "" : valueText(value))),
		]);
		const [first = "", ...others] = aligned(hasHead ? [head, ...texts] : texts, layout === "words" ? "left" : "right");
		const lines = hasHead ? others : [first, ...others];
		const opens = rows.some(({ opened }) => opened !== null);
		let at = 0;
		const body = groups.flatMap((group) => [
			...(group.title === "" ? [] : [this.#paint(printable(group.title), BOLD)]),
			...group.rows.flatMap((row) => [...(opens && at > 0 ? [""] : []), lines[at++] as string, ...this.#opened(row)]),
		]);
		return hasHead ? [first, ...body] : body;
	}

	#opened({ opened }: Row): string[] {
		return opened === null ? [] : this.#table(opened).map((line) => `  ${line}`);
	}

	/** Cells side by side, each of several lines; what does not fit beside each other is below each other. */
	#matrix(table: Table): string[] {
		const { columns, groups } = table;
		const lines: string[] = [];
		for (let at = 0; at < columns.length; at += MATRIX_COLUMNS) {
			if (at > 0) lines.push("");
			const part = { ...table, columns: columns.slice(at, at + MATRIX_COLUMNS) };
			const cut = groups.map((group) => ({
				...group,
				rows: group.rows.map((row) => ({ ...row, values: row.values.slice(at, at + MATRIX_COLUMNS) })),
			}));
			// rows of which nothing stands in these columns
			const shown = cut
				.map((group) => ({ ...group, rows: group.rows.filter(({ values }) => values.some(isThere)) }))
				.filter(({ rows }) => rows.length > 0);
			lines.push(...this.#columnsOfMatrix({ ...part, groups: shown }));
		}
		return lines;
	}

	#columnsOfMatrix({ corner, columns, groups }: Table): string[] {
		const rule = "-".repeat(LABEL_WIDTH + columns.length * (CELL_WIDTH + GAP.length));
		const plain = (...texts: readonly string[]) =>
			texts.filter((text) => text !== "").map((text) => ({ text, kind: null }));
		const head = this.#beside([plain(corner), ...columns.map(({ title, brief }) => plain(title, brief))]);
		const body = groups.flatMap(({ title, rows }) => [
			...(title === "" ? [] : [printable(title)]),
			rule,
			...rows.flatMap((row) => [
				...this.#beside([
					plain(...nameLines(row.label), row.brief),
					...row.values.map((value) =>
						value?.value === "said" ? saidLines(value) : plain(value === null ? "" : valueText(value)),
					),
				]),
				"",
			]),
		]);
		return [...head, ...body.slice(0, -1)];
	}

	#beside(cells: readonly (readonly { readonly text: string; readonly kind: VerdictKind | null }[])[]): string[] {
		const widthOf = (column: number) => (column === 0 ? LABEL_WIDTH : CELL_WIDTH);
		const wrapped = cells.map((lines, c) =>
			lines.flatMap(({ text, kind }) => wrap(text, widthOf(c)).map((line) => ({ line, kind }))),
		);
		const height = Math.max(...wrapped.map((lines) => lines.length));
		return Array.from({ length: height }, (_, i) =>
			wrapped
				.map((lines, c) => {
					const { line = "", kind = null } = lines[i] ?? {};
					const padded = line.padEnd(widthOf(c));
					return kind === null ? padded : this.#paint(padded, COLORS[kind]);
				})
				.join(GAP)
				.trimEnd(),
		);
	}
}

function isThere(value: Value | null): boolean {
	return value !== null && value.value !== "missing";
}

/** Whether an empty line stands between a block and the one before it, or the section's title. */
function isApart(before: Block | null, block: Block): boolean {
	if (block.block === "table") return true;
	if (block.block === "list") return block.title !== "";
	return (before !== null && before.block !== "paragraph") || (block.block === "paragraph" && block.role === "answer");
}

/** A long policy's name with its modifiers on lines of their own. */
function nameLines(name: string): string[] {
	return name.length <= LABEL_WIDTH ? [name] : name.split(/(?=\+)/);
}

function saidLines(said: Said): { text: string; kind: VerdictKind | null }[] {
	return [...said.lines, ...said.costs.map((cost) => ({ text: valueText(cost), kind: null }))];
}

/** A report as text, without a line's end behind it. */
export function renderText(report: Report, options: TextOptions): string {
	return new TextRenderer(options).report(report);
}
