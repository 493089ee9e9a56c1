/** Presets and modifiers, without a run: what each does, whose rules it changes and where it is from. */

import { MODIFIERS } from "../policy/modifiers.ts";
import { PRESETS, ROWS } from "../policy/presets.ts";
import { setupOf } from "../policy/setup.ts";
import { headerOf } from "../study/matrix.ts";
import { headerLines } from "./policies-text.ts";

/** Rows of the list of proposals that a name stands for. */
function rowsOf(name: string): string[] {
	return Object.entries(ROWS).flatMap(([row, names]) => ((names as readonly string[]).includes(name) ? [row] : []));
}

/** The list as data. */
export function policiesList() {
	return {
		policies: PRESETS.map((preset) => ({ ...headerOf(setupOf(preset)), rows: rowsOf(preset.name) })),
		modifiers: MODIFIERS.map(({ name, title, source }) => ({ name, title, source, rows: rowsOf(name) })),
	};
}

/** The list as text. */
export function policiesListText(): string {
	const { policies, modifiers } = policiesList();
	const rows = (names: readonly string[]) => (names.length === 0 ? [] : [`  rows of the list: ${names.join(", ")}`]);
	return [
		...policies.flatMap((policy) => [...headerLines(policy), ...rows(policy.rows), ""]),
		"Modifiers, behind a policy's name with +:",
		"",
		...modifiers.flatMap(({ name, title, source, rows: names }) => [
			`+${name}: ${title}`,
			`  source: ${source}`,
			...rows(names),
			"",
		]),
	]
		.join("\n")
		.trimEnd();
}
