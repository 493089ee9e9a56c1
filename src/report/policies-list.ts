/** Presets and modifiers, without a run: what each does, whose rules it changes and where it is from. */
import { MODIFIERS } from "../policy/modifiers.ts";
import { PRESETS } from "../policy/presets.ts";
import { setupOf } from "../policy/setup.ts";
import { headerOf } from "../study/matrix.ts";
import type { PoliciesListDocument } from "./documents.ts";
import { list, type Report, report, type Section, type Words } from "./model.ts";
import { modifierLines, policyLines, policyTitle } from "./policy.ts";

/** The list as data. */
export function policiesList(): PoliciesListDocument {
	return {
		schema: "coco-dma/policies-list/2",
		command: "policies",
		policies: PRESETS.map((preset) => headerOf(setupOf(preset))),
		modifiers: MODIFIERS.map(({ name, title, source, references }) => ({ name, title, source, references })),
	};
}

/** The list for people. */
export function policiesListReport(): Report {
	const { policies, modifiers } = policiesList();
	const section = (title: string, lines: readonly Words[]): Section => ({ title, blocks: [list("", lines)] });
	return report("DMA policies and modifiers", [
		...policies.map((policy) => section(policyTitle(policy), policyLines(policy))),
		{ title: "Modifiers, behind a policy's name with +:", blocks: [] },
		...modifiers.map((modifier) => section(`+${modifier.name}: ${modifier.title}`, modifierLines(modifier))),
	]);
}
