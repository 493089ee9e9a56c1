/** Verdicts, parts and cells of tests: what a test does not name is harmless. */
import type { Cell, CellPart } from "../../src/study/cell.ts";
import { verdictOf, worstKind } from "../../src/study/verdict.ts";

/** What a verdict is made of. */
export type Facts = Partial<Parameters<typeof verdictOf>[0]>;

/** A part, told. */
export function partOf(facts: Facts = {}, fields: Partial<Omit<CellPart, "verdict">> = {}): CellPart {
	return {
		group: "streaming",
		dir: "TO_DEVICE",
		bufferBytes: 4096,
		how: "bounce",
		conversions: 0,
		because: [],
		told: true,
		...fields,
		verdict: verdictOf({
			part: "4 KiB TO_DEVICE",
			platform: "snp",
			encoded: true,
			confidential: true,
			bytes: 0,
			atOnceBytes: null,
			generations: 0,
			hiddenBytes: 0,
			neighbourBytes: 0,
			cause: null,
			hazards: [],
			...facts,
		}),
	};
}

export function cellOf(parts: readonly CellPart[], fields: Partial<Cell> = {}): Cell {
	return {
		policy: "p",
		scenario: "s",
		platform: "snp",
		confidential: true,
		kind: worstKind(parts.map(({ verdict }) => verdict)),
		breachedBytes: 0,
		exposedBytes: 0,
		parts,
		messages: [],
		nsPer4KiB: null,
		conversionsPer4KiB: 0,
		...fields,
	};
}
