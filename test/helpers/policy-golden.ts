/** The golden file of the policies' verdicts: read, written, compared with a run. */
import { causeText, cellText, verdictText } from "../../src/report/verdict.ts";
import type { Cell, CellPart } from "../../src/study/cell.ts";
import type { Matrix } from "../../src/study/matrix.ts";
import { causeKind } from "../../src/study/verdict.ts";

/** What a cell comes to: its verdict, and its parts in short, a line for the platforms where they are the same. */
export interface Outcome {
	readonly verdict: string;
	readonly parts: readonly string[];
}

/** Cells of one section that come to the same for the same reason. */
export interface Group extends Outcome {
	readonly section: string;
	readonly names: readonly string[];
	readonly reason: string;
}

export interface Golden {
	/** The lines that explain the file. */
	readonly header: readonly string[];
	readonly groups: readonly Group[];
}

const CODES = new Map([
	["4 KiB TO_DEVICE", "4K>"],
	["4 KiB FROM_DEVICE", "4K<"],
	["4 KiB BIDIRECTIONAL", "4K<>"],
	["4 KiB FROM_DEVICE, synced", "sync<"],
	["32 B FROM_DEVICE", "32<"],
	["96 B TO_DEVICE", "96>"],
	["4 KiB TO_DEVICE above 4 GiB", "high>"],
	["512 KiB TO_DEVICE", "512K>"],
	["4 KiB TO_DEVICE, REQUIRE_COHERENT", "coh!>"],
	["coherent 4 KiB", "coherent"],
	["coherent 4 KiB, may not sleep", "atomic"],
	["a peer's page, by map_page", "p2p"],
	["a peer's MMIO", "mmio"],
	["trust changes under a mapping", "trust"],
]);

function partCode(part: CellPart): string {
	const { how, verdict, conversions } = part;
	const { part: name, confidential, bytes, atOnceBytes, hiddenBytes, neighbourBytes, cause, hazards } = verdict;
	const most = atOnceBytes !== null && atOnceBytes < bytes ? `/${atOnceBytes}` : "";
	const said = [
		bytes > 0 ? `${confidential ? "B" : "E"}${bytes}${most}` : "",
		hiddenBytes > 0 ? `H${hiddenBytes}` : "",
		neighbourBytes > 0 ? `N${neighbourBytes}` : "",
		conversions > 0 ? `C${conversions}` : "",
		cause === null ? "" : `${causeKind(cause)}(${causeText(cause)})`,
		...hazards.map((hazard) => `!${hazard}`),
	].filter((text) => text !== "");
	return [CODES.get(name) ?? name, how, ...(said.length === 0 ? ["ok"] : said)].join(" ");
}

function outcomeOf(cell: Cell): Outcome {
	const byLine = new Map<string, string[]>();
	const placeOf = ({ verdict: { platform, encoded } }: CellPart) => (encoded ? platform : `${platform} plain`);
	for (const on of new Set(cell.parts.map(placeOf))) {
		const line = cell.parts
			.filter((part) => placeOf(part) === on)
			.map(partCode)
			.join("; ");
		byLine.set(line, [...(byLine.get(line) ?? []), on]);
	}
	return { verdict: cellText(cell), parts: [...byLine].map(([line, ons]) => `${ons.join(", ")}: ${line}`) };
}

/** Every cell of a run: section, name, outcome. */
export function outcomesOf(matrix: Matrix): Map<string, Map<string, Outcome>> {
	const sections = new Map<string, Map<string, Outcome>>();
	const add = (section: string, name: string, outcome: Outcome) => {
		if (!sections.has(section)) sections.set(section, new Map());
		sections.get(section)?.set(name, outcome);
	};
	for (const { name } of matrix.scenarios)
		for (const { policy, cells } of matrix.rows)
			for (const cell of cells) if (cell.scenario === name) add(name, policy.name, outcomeOf(cell));
	for (const { scenario, connection, verdict } of matrix.vmbus)
		add(`${scenario}: ${verdict.part}`, connection, { verdict: verdictText(verdict), parts: [] });
	return sections;
}

/** @throws Error that names the line */
export function parseGolden(text: string): Golden {
	const lines = text.trimEnd().split("\n");
	const header = lines.filter((line) => line.startsWith("#"));
	const groups: (Group & { names: string[]; parts: string[] })[] = [];
	let section = "";
	for (const [i, line] of lines.entries()) {
		if (line === "" || line.startsWith("#")) continue;
		if (line.startsWith("== ")) section = line.slice(3);
		else if (!line.startsWith("  "))
			groups.push({ section, names: line.split(" "), reason: "", verdict: "", parts: [] });
		else {
			const [, field, value = ""] = /^ {2}(why|verdict|on):(?: (.*))?$/.exec(line) ?? [];
			const group = groups.at(-1);
			if (field === undefined || group === undefined) throw new Error(`line ${i + 1}: "${line}"`);
			if (field === "on") group.parts.push(value);
			else groups[groups.length - 1] = { ...group, [field === "why" ? "reason" : "verdict"]: value };
		}
	}
	return { header, groups };
}

export function formatGolden({ header, groups }: Golden): string {
	const sections = [...new Set(groups.map(({ section }) => section))];
	const body = sections.flatMap((section) => [
		"",
		`== ${section}`,
		...groups
			.filter((group) => group.section === section)
			.flatMap(({ names, reason, verdict, parts }) => [
				names.join(" "),
				`  why: ${reason}`.trimEnd(),
				`  verdict: ${verdict}`,
				...parts.map((line) => `  on: ${line}`),
			]),
	]);
	return `${[...header, ...body].join("\n")}\n`;
}

const same = (a: Outcome, b: Outcome) => a.verdict === b.verdict && a.parts.join("\n") === b.parts.join("\n");

/** A run written over a golden file: reasons stay where nothing changed, and have to be written anew elsewhere. */
export function updated({ header, groups }: Golden, matrix: Matrix): Golden {
	const next: (Group & { names: string[] })[] = [];
	for (const [section, cells] of outcomesOf(matrix)) {
		for (const [name, outcome] of cells) {
			const before = groups.find((group) => group.section === section && group.names.includes(name));
			const reason = before !== undefined && same(before, outcome) ? before.reason : "";
			const alike = next.find((group) => group.section === section && group.reason === reason && same(group, outcome));
			if (alike === undefined) next.push({ section, names: [name], reason, ...outcome });
			else alike.names.push(name);
		}
	}
	return { header, groups: next };
}

/** The first cell in which a run and the file differ, in a line, or null. */
export function firstDifference({ groups }: Golden, matrix: Matrix): string | null {
	const run = outcomesOf(matrix);
	for (const [section, cells] of run) {
		for (const [name, outcome] of cells) {
			const at = `${name} on ${section}`;
			const known = groups.filter((group) => group.section === section && group.names.includes(name));
			const [group] = known;
			if (group === undefined) return `${at}: not in the file; the run says "${outcome.verdict}"`;
			if (known.length > 1) return `${at}: ${known.length} times in the file`;
			if (group.verdict !== outcome.verdict)
				return `${at}: the file says "${group.verdict}", the run "${outcome.verdict}"`;
			const part = outcome.parts.findIndex((line, i) => line !== group.parts[i]);
			if (part >= 0 || outcome.parts.length !== group.parts.length)
				return `${at}: "${outcome.verdict}", but of its parts the file says "${group.parts[part] ?? "nothing"}", the run "${outcome.parts[part] ?? "nothing"}"`;
		}
	}
	for (const { section, names } of groups)
		for (const name of names)
			if (!run.get(section)?.has(name)) return `${name} on ${section}: in the file, not in the run`;
	return null;
}

/** A cell without a reason, or null. */
export function firstWithoutReason({ groups }: Golden): string | null {
	const group = groups.find(({ reason }) => reason.trim() === "");
	return group === undefined ? null : `${group.names[0]} on ${group.section}`;
}
