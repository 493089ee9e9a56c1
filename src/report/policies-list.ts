/** Presets and modifiers, without a run: what each does, whose rules it changes and where it is from. */
import { MODIFIERS } from "../policy/modifiers.ts";
import { PRESETS, ROWS } from "../policy/presets.ts";
import { setupOf } from "../policy/setup.ts";
import { headerOf } from "../study/matrix.ts";
import type { PoliciesListDocument } from "./documents.ts";
import { list, type Report, report, type Section } from "./model.ts";
import { policyLines, policyTitle } from "./policy.ts";

/** Rows of the list of proposals that a name stands for. */
function rowsOf(name: string): string[] {
	return Object.entries(ROWS).flatMap(([row, names]) => ((names as readonly string[]).includes(name) ? [row] : []));
}

/** The list as data. */
export function policiesList(): PoliciesListDocument {
	return {
		schema: "coco-dma/policies-list/1",
		command: "policies",
		policies: PRESETS.map((preset) => ({ ...headerOf(setupOf(preset)), rows: rowsOf(preset.name) })),
		modifiers: MODIFIERS.map(({ name, title, source }) => ({ name, title, source, rows: rowsOf(name) })),
	};
}

/** The list for people. */
export function policiesListReport(): Report {
	const { policies, modifiers } = policiesList();
	const section = (title: string, lines: readonly string[], rows: readonly string[]): Section => ({
		title,
		blocks: [list("", rows.length === 0 ? lines : [...lines, `rows of the list: ${rows.join(", ")}`])],
	});
	return report("DMA policies and modifiers", [
		...policies.map((policy) => section(policyTitle(policy), policyLines(policy), policy.rows)),
		{ title: "Modifiers, behind a policy's name with +:", blocks: [] },
		...modifiers.map(({ name, title, source, rows }) => section(`+${name}: ${title}`, [`source: ${source}`], rows)),
	]);
}
