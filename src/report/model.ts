/**
 * A result as rows and words: each noun of this room builds one, and each format of render/ writes it. Texts are plain, and may
 * be anybody's: a renderer escapes them for its format. U+00A0 stands between a number and its unit where both belong in one
 * line.
 */
import type { VerdictKind } from "../study/verdict.ts";
import type { Unit } from "./units.ts";

/** A sentence, in parts where some are set off. link: an address that begins with https, under its own text. */
export type Words =
	| string
	| readonly (
			| string
			| { readonly strong: string }
			| { readonly code: string }
			| { readonly text: string; readonly link: string }
	  )[];

/** What a command says. */
export interface Report {
	readonly title: string;
	/** What ran it and where, in a line; "": said nowhere. */
	readonly ranOn: string;
	readonly sections: readonly Section[];
	/** What the words of its cells mean, and how the cells came about. */
	readonly legend: readonly LegendEntry[];
	readonly notes: readonly Words[];
	/** How the figures came about, and what they were measured with. */
	readonly method: readonly Words[];
	readonly options: readonly (readonly [name: string, value: string])[];
}

export interface LegendEntry {
	readonly word: string;
	/** Whose colour the word has, or null. */
	readonly kind: VerdictKind | null;
	readonly meaning: string;
}

export interface Section {
	/** "": none. */
	readonly title: string;
	readonly blocks: readonly Block[];
}

export type Block = Paragraph | List | Table | Bars | Curves;

export interface Paragraph {
	readonly block: "paragraph";
	readonly words: Words;
	/** lead, answer: what the section comes to, before its figures and after them. note: what a reader may skip. */
	readonly role: "lead" | "plain" | "note" | "answer";
}

export interface List {
	readonly block: "list";
	/** "": none. */
	readonly title: string;
	/** Each with what follows from it, a line each. */
	readonly items: readonly { readonly words: Words; readonly under: readonly Words[] }[];
}

/** Rows of values. figures: numbers in columns. words: texts in columns. matrix: cells of several lines. */
export interface Table {
	readonly block: "table";
	readonly layout: "figures" | "words" | "matrix";
	/** "": none. */
	readonly title: string;
	/** What stands above the labels, and above the other columns. All "": the table has no head. */
	readonly corner: string;
	readonly columns: readonly Column[];
	readonly groups: readonly RowGroup[];
}

interface Column {
	readonly title: string;
	/** A short line and a longer one below the title; "": none. */
	readonly brief: string;
	readonly about: string;
}

interface RowGroup {
	/** "": none. */
	readonly title: string;
	readonly rows: readonly Row[];
}

export interface Row {
	readonly label: string;
	/** The unit of its figures where the label says it, else null. */
	readonly unit: Unit | null;
	/** 1: part of the row above. */
	readonly depth: 0 | 1;
	/** A short line below the label, and longer ones in its place where there is room. */
	readonly brief: string;
	readonly about: readonly Words[];
	/** A value a column; null: nothing belongs there. */
	readonly values: readonly (Value | null)[];
	/** What the row is opened into, or null. */
	readonly opened: Table | null;
}

export type Value = Figure | Rounded | Range | TextValue | Counts | Said | Equal | BelowClock | Missing;

export interface Figure {
	readonly value: "figure";
	readonly number: number;
	readonly unit: Unit;
	/** Whether it is a difference, and has a sign. */
	readonly signed: boolean;
}

/** A figure that is known within half a width: it is written with no digit below that. */
interface Rounded {
	readonly value: "rounded";
	readonly number: number;
	readonly halfWidth: number;
	readonly unit: Unit;
	readonly signed: boolean;
}

/** Between which two a figure lies. */
interface Range {
	readonly value: "range";
	readonly low: number;
	readonly high: number;
	readonly unit: Unit;
}

/** No difference was measured. */
interface Equal {
	readonly value: "equal";
}

/** A time that is not above what timing it costs. */
interface BelowClock {
	readonly value: "below-clock";
}

interface TextValue {
	readonly value: "text";
	readonly text: string;
}

/** How often what happened. */
interface Counts {
	readonly value: "counts";
	readonly counts: Readonly<Record<string, number>>;
}

/** A verdict in words. */
export interface Said {
	readonly value: "said";
	/** The worst that is said. */
	readonly worst: VerdictKind;
	readonly lines: readonly { readonly text: string; readonly kind: VerdictKind }[];
	/** What it cost. */
	readonly costs: readonly Figure[];
	/** What the cell is opened into, or null. */
	readonly opened: { readonly title: string; readonly table: Table } | null;
}

/** A value that could be there, and was not measured or does not apply. */
interface Missing {
	readonly value: "missing";
}

/** Bars of one length each a measure; the figures stand in the section's table too. */
export interface Bars {
	readonly block: "bars";
	readonly title: string;
	/** Above the bars of each measure; "": nothing. */
	readonly measures: readonly string[];
	readonly rows: readonly {
		readonly label: string;
		/** A bar a measure, in pieces that add up, and what it says. */
		readonly bars: readonly { readonly pieces: readonly BarPiece[]; readonly text: string }[];
	}[];
	/** What the tones stand for; none: the measures say it. */
	readonly key: readonly { readonly tones: readonly Tone[]; readonly text: string }[];
}

type Tone = "direct" | "bounce" | "device" | "cost" | VerdictKind;

interface BarPiece {
	readonly tone: Tone;
	/** In the measure's unit, 0 or more. */
	readonly length: number;
}

/** Lines over an axis, on a logarithmic scale of ns; their figures are in the JSON. */
export interface Curves {
	readonly block: "curves";
	readonly title: string;
	/** bytes: sizes of requests. share: shares of the requests, 0 to 1. */
	readonly axis: "bytes" | "share";
	readonly at: readonly number[];
	readonly lines: readonly { readonly name: string; readonly tone: Tone; readonly ns: readonly (number | null)[] }[];
}

/** A report with nothing but what is named. */
export function report(title: string, sections: readonly Section[], more: Partial<Report> = {}): Report {
	return { ranOn: "", legend: [], notes: [], method: [], options: [], ...more, title, sections };
}

export function paragraph(words: Words, role: Paragraph["role"] = "plain"): Paragraph {
	return { block: "paragraph", words, role };
}

export function list(title: string, items: readonly (Words | List["items"][number])[]): List {
	const isItem = (item: Words | List["items"][number]): item is List["items"][number] =>
		typeof item === "object" && "words" in item;
	return { block: "list", title, items: items.map((item) => (isItem(item) ? item : { words: item, under: [] })) };
}

export function table(
	layout: Table["layout"],
	groups: readonly RowGroup[],
	head: { readonly title?: string; readonly corner?: string; readonly columns?: readonly (string | Column)[] } = {},
): Table {
	const { title = "", corner = "", columns = [] } = head;
	const full = columns.map((column) => (typeof column === "string" ? { title: column, brief: "", about: "" } : column));
	return { block: "table", layout, title, corner, columns: full, groups };
}

export function row(label: string, values: Row["values"], more: Partial<Row> = {}): Row {
	return { unit: null, depth: 0, brief: "", about: [], opened: null, ...more, label, values };
}

export const MISSING: Missing = { value: "missing" };
export const EQUAL: Equal = { value: "equal" };
export const BELOW_CLOCK: BelowClock = { value: "below-clock" };

export function rounded(number: number, halfWidth: number, unit: Unit, signed = false): Rounded {
	return { value: "rounded", number, halfWidth, unit, signed };
}

export function range(low: number, high: number, unit: Unit): Range {
	return { value: "range", low, high, unit };
}

export function text(text: string): TextValue {
	return { value: "text", text };
}

export function figure(number: number, unit: Unit, signed = false): Figure {
	return { value: "figure", number, unit, signed };
}

/** A verdict in a line. */
export function said(worst: VerdictKind, line: string): Said {
	return { value: "said", worst, lines: [{ text: line, kind: worst }], costs: [], opened: null };
}
