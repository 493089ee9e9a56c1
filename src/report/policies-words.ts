/** What the text and the HTML form of the matrix both say. */

import type { KernelName } from "../coco/rules/kernel.ts";
import type { Acceptance } from "../coco/rules/policy.ts";
import type { Cell } from "../study/cell.ts";
import type { Matrix, PolicyHeader } from "../study/matrix.ts";
import type { VerdictKind } from "../study/verdict.ts";
import type { VmbusCell } from "../study/vmbus-rows.ts";
import { formatNumber } from "./table.ts";
import { cellLines } from "./verdict.ts";

const KERNEL_WORDS: Readonly<Record<KernelName, string>> = {
	"linux-6.12": "rules of Linux 6.12",
	"linux-7.3": "rules after the 7.3 merge",
};

const ACCEPTANCE_WORDS: Readonly<Record<Acceptance, string>> = {
	none: "no acceptance",
	offer: "acceptance from the offer",
	tdisp: "acceptance from TDISP",
	any: "acceptance from the offer or TDISP",
	driver: "acceptance by the driver's own word",
};

/** Whose rules, and what acceptance it knows. */
export function rulesLine({ kernel, acceptance }: PolicyHeader): string {
	return `${KERNEL_WORDS[kernel]}; ${ACCEPTANCE_WORDS[acceptance]}`;
}

/** A line of what a cell says. */
export interface CellLine {
	readonly text: string;
	/** null: no verdict. */
	readonly kind: VerdictKind | null;
}

/** What a cell says in short: its first part, what differs from it without the reasons, and what it costs. */
export function shortLines(cell: Cell): CellLine[] {
	return [...cellLines(cell), ...costLines(cell).map((text) => ({ text, kind: null }))];
}

/** What 4 KiB cost, in the pieces of a line; none: not measured. */
export function costLines({ nsPer4KiB, conversionsPer4KiB }: Cell): string[] {
	if (nsPer4KiB === null) return [];
	const ns = `${formatNumber(Math.round(nsPer4KiB))} ns`;
	return conversionsPer4KiB === 0 ? [ns] : [ns, `+ ${conversionsPer4KiB} conversions`];
}

/** What becomes of the confidential VMBus connection. */
const CONNECTION_WORDS = {
	confidential: "confidential connection",
	fallback: "connection failed, fell back",
	"no-fallback": "connection failed, no fallback",
} as const;

/** The kinds of memory that do not pass through the DMA API, a row for each and for each fate of the connection. */
export function vmbusRows({ vmbus, scenarios }: Matrix): { name: string; row: (VmbusCell | null)[] }[] {
	const names = [...new Set(vmbus.map(({ row, connection }) => `${row}: ${CONNECTION_WORDS[connection]}`))];
	return names.map((name) => ({
		name,
		row: scenarios.map(
			(scenario) =>
				vmbus.find(
					(cell) => cell.scenario === scenario.name && `${cell.row}: ${CONNECTION_WORDS[cell.connection]}` === name,
				) ?? null,
		),
	}));
}

/** What stands above the VMBus rows. */
export const VMBUS_TITLE =
	"Memory of a VMBus channel, on SNP under a paravisor: it does not pass through the DMA API, no policy reaches it";

/** The words of verdicts, for a legend. */
export const VERDICT_LEGEND: readonly (readonly [VerdictKind | "confidential", string])[] = [
	["private", "the host read none of it, and it worked"],
	["hidden", "on pages that are decrypted but that the host does not map: weaker than encryption"],
	["exposed", "the host could read n bytes of a device that is not confidential, as designed"],
	[
		"BREACH",
		"the host could read n bytes of a confidential device, also if the call then failed or they lie in a freed slot",
	],
	["refused", "it did not work, and why: a status of the DMA layer, or what the device met"],
	["crash", "where the guest's kernel ends"],
	[
		"confidential",
		"is what the offer (ring and external memory apart) or the accepted TDISP state says, never what the policy believes",
	],
];

/** How cells came about. */
export const CELL_NOTE =
	"A cell begins with a 4 KiB TO_DEVICE mapping on its platform. Where another direction, a small, high or coherent buffer or another platform comes to something else, that follows; --open shows all. B: bytes.";

/** How the costs came about. */
export const COST_NOTE =
	"ns: map and unmap of 4 KiB TO_DEVICE from TypeScript on the release build, warm, median. Page conversions are counted, not timed: they are hypercalls.";
