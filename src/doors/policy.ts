/** `coco-dma/policy`: what a policy is, the presets, modifiers and scenarios; what the file of one's own policy imports. */

export type { Situation } from "../coco/rules/device.ts";
export {
	type Acceptance,
	KernelCrash,
	type Mechanism,
	type Policy,
	type PolicyPredicate,
	type PredicateInput,
} from "../coco/rules/policy.ts";
export {
	type CoherentRules,
	type MapRules,
	PREDICATES,
	type Predicate,
	type PredicateName,
	type PredicateValues,
} from "../coco/rules/predicate.ts";
export type { Transitions } from "../coco/trust/tdisp.ts";
export { acceptedIn, acceptedInNone, everyoneIn, kernelChoice } from "../policy/choice.ts";
export { MODIFIERS } from "../policy/modifiers.ts";
export { parsePolicy } from "../policy/parse.ts";
export { PRESETS } from "../policy/presets.ts";
export { type Place, SCENARIOS, type Scenario, scenarioNamed } from "../policy/scenarios.ts";
export type { Modifier, PolicySetup } from "../policy/setup.ts";
