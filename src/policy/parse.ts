/** Policies by name: a preset and its modifiers, joined by "+". */
import { advised, MODIFIERS } from "./modifiers.ts";
import { PRESETS } from "./presets.ts";
import { type PolicySetup, setupOf } from "./setup.ts";

/**
 * Reads a preset's name, alone or with modifiers: `cc-accepted+force+mask-32`.
 * @throws RangeError in one line that lists the names, or names a modifier that is given twice
 */
export function parsePolicy(text: string): PolicySetup {
	const [name = "", ...modifiers] = text.split("+");
	const policy = PRESETS.find((preset) => preset.name === name);
	if (policy === undefined)
		throw new RangeError(
			`policy: expected one of ${namesOf(PRESETS)}, or a path that ends in .ts, .js or .mjs, not "${name}"`,
		);
	return modify(setupOf(policy), modifiers);
}

/** Applies modifiers by name. @throws RangeError as parsePolicy */
export function modify(setup: PolicySetup, names: readonly string[]): PolicySetup {
	let changed = setup;
	const applied: PolicySetup["modifiers"][number][] = [];
	for (const [i, name] of names.entries()) {
		const modifier = MODIFIERS.find((candidate) => candidate.name === name);
		if (modifier === undefined)
			throw new RangeError(`policy: expected modifiers out of ${namesOf(MODIFIERS)}, not "${name}"`);
		const other = EXCLUSIVE.get(name);
		if (names.indexOf(name) !== i || (other !== undefined && names.includes(other)))
			throw new RangeError(
				`policy: ${other !== undefined && names.includes(other) ? `${name} and ${other} exclude each other` : `${name} is given twice`}`,
			);
		changed = modifier.apply(changed);
		const { title, source, references } = modifier;
		applied.push({ name, title, source, references });
	}
	// last, so that it reaches what the others refuse
	const policy = changed.advisory ? advised(changed.policy) : changed.policy;
	return { ...changed, policy, modifiers: applied, name: [setup.name, ...names].join("+") };
}

const EXCLUSIVE = new Map([
	["pool-wins", "request-wins"],
	["request-wins", "pool-wins"],
	["fallback", "no-fallback"],
	["no-fallback", "fallback"],
]);

function namesOf(list: readonly { readonly name: string }[]): string {
	return list.map(({ name }) => name).join(", ");
}
