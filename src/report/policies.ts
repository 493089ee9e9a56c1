/** The matrix of policies and scenarios: all of it in one table, or each policy with a line a scenario. */
import type { Cell, CellPart } from "../study/cell.ts";
import type { Matrix, PolicyHeader } from "../study/matrix.ts";
import type { VmbusCell } from "../study/vmbus-rows.ts";
import {
	type Figure,
	figure,
	type LegendEntry,
	list,
	MISSING,
	type Report,
	type Row,
	report,
	row,
	type Said,
	type Section,
	said,
	type Table,
	table,
	text,
} from "./model.ts";
import { policyLines, policyTitle, rulesBrief } from "./policy.ts";
import { CALL_NS, CONVERSIONS, COUNT } from "./units.ts";
import { becauseText, cellLines, cellText, placeText, verdictLines, verdictText } from "./verdict.ts";

const TITLE = "DMA policies: what the host could read, and what it costs";

/** What stands above the memory that does not pass through the DMA API. */
const VMBUS_TITLE =
	"Memory of a VMBus channel, on SNP under a paravisor: it does not pass through the DMA API, no policy reaches it";

/** What becomes of the confidential VMBus connection. */
const CONNECTIONS: Readonly<Record<VmbusCell["connection"], string>> = {
	confidential: "confidential connection",
	fallback: "connection failed, fell back",
	"no-fallback": "connection failed, no fallback",
};

const kindEntry = (kind: Exclude<LegendEntry["kind"], null>, meaning: string): LegendEntry => ({
	word: kind,
	kind,
	meaning,
});

const LEGEND: readonly LegendEntry[] = [
	kindEntry("private", "the host read none of it, and it worked"),
	kindEntry("hidden", "on pages that are decrypted but that the host does not map: weaker than encryption"),
	kindEntry("exposed", "the host could read n bytes of a device that is not confidential, as designed"),
	kindEntry(
		"BREACH",
		"the host could read n bytes of a confidential device, or of neighbours in a shared page; also if the call failed or the slot is free",
	),
	kindEntry("refused", "it did not work, and why: a status of the DMA layer, or what the device met"),
	kindEntry("crash", "where the guest's kernel ends"),
	kindEntry("undefined", "where the guest's kernel takes memory for what it is not, and anything may follow"),
	kindEntry("not applicable", "the scenario cannot set it up there: nothing was tried, and nothing refused"),
	{
		word: "at one look",
		kind: null,
		meaning: "the most that stood there at one moment, where several contents went through one buffer",
	},
	{ word: "hazard", kind: null, meaning: "the kernel did what it may not do there, or lost track of what is true" },
	{
		word: "confidential",
		kind: null,
		meaning:
			"is what the offer (ring and external memory apart) or the accepted TDISP state says, never what the policy believes",
	},
];

const CELL_NOTE =
	"A cell begins with a 4 KiB TO_DEVICE mapping on its platform. Where another direction, a small, high or coherent buffer or another platform comes to something else, that follows; a cell that is opened (--open, or its parts on the page) shows all. Its colour is that of the worst that it says. B: bytes.";

const COST_NOTE =
	"ns: map and unmap of 4 KiB TO_DEVICE from TypeScript on the release build, warm, median. Page conversions are counted, not timed: they are hypercalls.";

/** What both forms have around their sections. */
function around({ rows }: Matrix, ranOn: string, sections: readonly Section[]): Report {
	const measured = rows.some(({ cells }) => cells.some(({ nsPer4KiB }) => nsPer4KiB !== null));
	return report(TITLE, sections, { ranOn, legend: LEGEND, notes: [CELL_NOTE, ...(measured ? [COST_NOTE] : [])] });
}

/** What 4 KiB cost: ns, and conversions where there are any; none: not measured. */
function costs({ nsPer4KiB, conversionsPer4KiB }: Cell): Figure[] {
	if (nsPer4KiB === null) return [];
	const ns = figure(nsPer4KiB, CALL_NS);
	return conversionsPer4KiB === 0 ? [ns] : [ns, figure(conversionsPer4KiB, CONVERSIONS)];
}

function partRow({ how, verdict, conversions, because }: CellPart): Row {
	const { part, hazards } = verdict;
	return row(part, [
		text(placeText(verdict)),
		text(how),
		said(verdict.kind, verdictText(verdict)),
		figure(conversions, COUNT),
		hazards.length === 0 ? MISSING : text(hazards.join(", ")),
		because.length === 0 ? MISSING : text(becauseText(because)),
	]);
}

/** A cell opened into its parts. */
function partsTable({ parts }: Cell): Table {
	return table("words", [{ title: "", rows: parts.map(partRow) }], {
		corner: "part",
		columns: ["on", "how", "verdict", "conversions", "hazards", "because"],
	});
}

function cellValue(cell: Cell): Said {
	const { policy, scenario, platform, confidential, kind } = cell;
	const logged = cell.messages.map((message) => `; logs: ${message}`).join("");
	const title = `${policy} on ${scenario}, ${platform}${confidential ? "; the device is confidential" : ""}${logged}`;
	return {
		value: "said",
		worst: kind,
		lines: cellLines(cell),
		costs: costs(cell),
		opened: { title, table: partsTable(cell) },
	};
}

function vmbusLabel({ verdict, connection }: VmbusCell): string {
	return `${verdict.part}: ${CONNECTIONS[connection]}`;
}

function vmbusLabels(cells: readonly VmbusCell[]): string[] {
	return [...new Set(cells.map(vmbusLabel))];
}

/** The kinds of memory that do not pass through the DMA API, a row for each and for each fate of the connection. */
function vmbusRows({ vmbus, scenarios }: Matrix): Row[] {
	return vmbusLabels(vmbus).map((label) => {
		const cells = scenarios.map(({ name }) =>
			vmbus.find((cell) => cell.scenario === name && vmbusLabel(cell) === label),
		);
		return row(
			label,
			cells.map((cell) =>
				cell === undefined
					? MISSING
					: { value: "said", worst: cell.verdict.kind, lines: verdictLines(cell.verdict), costs: [], opened: null },
			),
		);
	});
}

/** Policies as rows, scenarios as columns. @param ranOn what ran it and where, in a line */
export function matrixReport(matrix: Matrix, ranOn: string): Report {
	const policies = matrix.rows.map(({ policy, cells }) =>
		row(policy.name, cells.map(cellValue), {
			brief: rulesBrief(policy),
			about: [policyTitle(policy), ...policyLines(policy)],
		}),
	);
	const channels = vmbusRows(matrix);
	const groups = [
		{ title: "", rows: policies },
		...(channels.length === 0 ? [] : [{ title: VMBUS_TITLE, rows: channels }]),
	];
	const columns = matrix.scenarios.map(({ name, title, platform }) => ({
		title: name,
		brief: `on ${platform}`,
		about: title,
	}));
	return around(matrix, ranOn, [{ title: "", blocks: [table("matrix", groups, { corner: "policy", columns })] }]);
}

function policySection({ scenarios }: Matrix, policy: PolicyHeader, cells: readonly Cell[], open: boolean): Section {
	const measured = cells.some(({ nsPer4KiB }) => nsPer4KiB !== null);
	const rows = cells.map((cell) => {
		const [ns = null, conversions = null] = costs(cell);
		return row(
			cell.scenario,
			[text(`on ${cell.platform}`), ...(measured ? [ns, conversions] : []), said(cell.kind, cellText(cell))],
			{ opened: open ? partsTable(cell) : null },
		);
	});
	const logged = [...new Set(cells.flatMap(({ messages }) => messages))].map((message) => `logs: ${message}`);
	const titles = scenarios.map(({ name, title }) => row(name, [text(title)], { depth: 1 }));
	return {
		title: policyTitle(policy),
		blocks: [
			list("", [...policyLines(policy), ...logged]),
			table("words", [{ title: "", rows }]),
			...(open ? [] : [table("words", [{ title: "", rows: titles }])]),
		],
	};
}

/** A section a policy, a line a scenario. @param open whether each scenario is opened into its parts */
export function policySections(matrix: Matrix, ranOn: string, open: boolean): Report {
	const { vmbus } = matrix;
	const channels = vmbusLabels(vmbus)
		.flatMap((label) => vmbus.filter((cell) => vmbusLabel(cell) === label))
		.map((cell) => row(vmbusLabel(cell), [text(cell.scenario), said(cell.verdict.kind, verdictText(cell.verdict))]));
	return around(matrix, ranOn, [
		...matrix.rows.map(({ policy, cells }) => policySection(matrix, policy, cells, open)),
		...(channels.length === 0
			? []
			: [{ title: "", blocks: [table("words", [{ title: "", rows: channels }], { title: VMBUS_TITLE })] }]),
	]);
}
