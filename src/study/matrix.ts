/** Policies by scenarios: every cell is run, none is written down. */

import { type PlatformName, platformNamed } from "../coco/platform/platform.ts";
import type { KernelName } from "../coco/rules/kernel.ts";
import type { Acceptance, Policy } from "../coco/rules/policy.ts";
import type { Reference } from "../coco/rules/reference.ts";
import { ASKED, changesOf, type PolicyChange } from "../policy/changes.ts";
import { PRESETS } from "../policy/presets.ts";
import { SCENARIOS, type Scenario, scenarioNamed } from "../policy/scenarios.ts";
import type { PolicySetup } from "../policy/setup.ts";
import { GuestArena } from "./arena.ts";
import { type Cell, runCell } from "./cell.ts";
import { measureCost } from "./cell-cost.ts";
import { setupFrom } from "./subject.ts";
import { runVmbusRows, type VmbusCell } from "./vmbus-rows.ts";

/** What stands above a policy's cells. */
export interface PolicyHeader {
	/** With its modifiers. */
	readonly name: string;
	readonly title: string;
	readonly kernel: KernelName;
	readonly acceptance: Acceptance;
	/** What is asked about a device's being trusted, as the kernel or the patch calls it; null: nothing is. */
	readonly asks: string | null;
	readonly source: string;
	/** Mails, commits and pages that it is from, as far as they are known. */
	readonly references: readonly Reference[];
	/** What it changes of the kernel, with the file and function of each. */
	readonly changes: readonly PolicyChange[];
	/** Presets of one of its mails that ask the same about a device. */
	readonly asksAlike: readonly string[];
	/** What was added to it by name, each with its own source. */
	readonly modifiers: readonly NamedModifier[];
}

/** A modifier, as it is named in a header. */
export interface NamedModifier {
	readonly name: string;
	readonly title: string;
	readonly source: string;
	readonly references: readonly Reference[];
}

/** With who ran it, docs/schema/policies.2.json is its form in JSON. */
export interface Matrix {
	readonly schema: "coco-dma/policies/2";
	readonly scenarios: readonly { readonly name: string; readonly title: string; readonly platform: string }[];
	readonly rows: readonly { readonly policy: PolicyHeader; readonly cells: readonly Cell[] }[];
	/** Memory of VMBus channels, by what becomes of the confidential connection under the policies. */
	readonly vmbus: readonly VmbusCell[];
}

/** Presets with modifiers that show what a modifier does to them. */
const SHOWN = [
	"force-bounce+force",
	"force-bounce+zero-on-free",
	"null-pool+force",
	"driver-flag+strict",
	"cc-accepted+force",
	"cc-accepted+strict",
	"cc-accepted+advisory",
	"cc-accepted+pool-wins",
	"cc-accepted+non-coherent",
	"cc-accepted+mask-32",
	"cc-accepted+mmio-shared",
	"cc-accepted-bus+fallback",
	"cc-accepted-bus+no-fallback",
	"pool-wins+request-wins",
	"linux-7.3+accepted",
	"linux-7.3+share-in-place",
	"force-bounce+keep-present",
	"force-warned+force",
	"force-bounce+pool-undecrypted",
	"linux-7.3+pool-undecrypted",
	"driver-flag+flag-flips",
	"driver-flag-misuse+flag-flips",
	"cc-accepted-bus+evidence-pending",
	"static-pool+evidence-pending",
	"linux-7.3+no-driver",
	"linux-7.3+no-secrets",
	"cc-accepted+external-facing",
	"one-property+external-facing",
	"linux-7.3+pre-shared",
] as const;

/** The policies of the whole list. */
const ALL: readonly string[] = [...PRESETS.map(({ name }) => name), ...SHOWN];

/** Presets that come from one mail with a policy, and ask the same about a device. */
function asksAlike({ name, acceptance, references = [] }: Policy): string[] {
	const asks = ASKED[acceptance];
	// a thread of several authors is no one mail
	const mails = references.filter(({ kind, by = "" }) => kind === "mail" && !by.includes(", "));
	if (asks === null) return [];
	return PRESETS.filter(
		(other) =>
			other.name !== name &&
			ASKED[other.acceptance] === asks &&
			other.references?.some((reference) => mails.includes(reference)),
	).map((other) => other.name);
}

/** What a policy's header says. */
export function headerOf({ name, policy, modifiers }: PolicySetup): PolicyHeader {
	const { title, kernel, acceptance, source, references = [] } = policy;
	return {
		name,
		title,
		kernel,
		acceptance,
		asks: ASKED[acceptance],
		source,
		references,
		changes: changesOf(policy),
		asksAlike: asksAlike(policy),
		modifiers,
	};
}

/** What a matrix does next, by name. */
export interface MatrixStep {
	readonly policy: string;
	readonly scenario: string;
}

export interface MatrixOptions {
	/** Presets' names with modifiers, policies, or policies with their modifiers. Default: every preset, and modifiers on some. */
	readonly policies?: readonly (string | Policy | PolicySetup)[];
	/** Default: all. */
	readonly scenarios?: readonly (string | Scenario)[];
	/** Measures what mappings cost, on the release build. Default true. */
	readonly cost?: boolean;
	/** Runs every cell on this platform. Default: on the scenario's, and parts of it on its others. */
	readonly platform?: PlatformName;
	/** Told what runs now. */
	readonly progress?: (step: MatrixStep) => void;
}

/**
 * Runs policies on scenarios.
 * @throws RangeError that names the option and lists what it may be, before anything runs; as runCell
 */
export async function runMatrix(options: MatrixOptions = {}): Promise<Matrix> {
	if (Array.isArray(options))
		throw new RangeError("runMatrix: expected options such as { policies: [...] }, not a list of policies");
	const { cost = true, progress } = options;
	const platform = options.platform === undefined ? undefined : (platformNamed(options.platform).name as PlatformName);
	const policies = await Promise.all((options.policies ?? ALL).map((policy) => setupFrom(policy)));
	const scenarios = (options.scenarios ?? SCENARIOS).map((each) =>
		typeof each === "string" ? scenarioNamed(each) : each,
	);
	const where = { arena: new GuestArena(), ...(platform === undefined ? {} : { place: { platform, encoded: true } }) };
	const measured = { ...where, cost: (setup: PolicySetup, scenario: Scenario) => measureCost(setup, scenario, where) };
	const cellOptions = cost ? measured : where;
	const [first] = scenarios;
	// once for nothing: the first figure of a process is that of cold code
	if (cost && policies[0] !== undefined && first !== undefined) await measureCost(policies[0], first, where);
	const rows: { policy: PolicyHeader; cells: Cell[] }[] = [];
	for (const setup of policies) {
		const cells: Cell[] = [];
		for (const scenario of scenarios) {
			progress?.({ policy: setup.name, scenario: scenario.name });
			cells.push(await runCell(setup, scenario, cellOptions));
		}
		rows.push({ policy: headerOf(setup), cells });
	}
	const vmbus: VmbusCell[] = [];
	for (const connection of new Set(policies.map((setup) => setup.connection)))
		for (const scenario of scenarios) vmbus.push(...(await runVmbusRows(connection, scenario)));
	return {
		schema: "coco-dma/policies/2",
		scenarios: scenarios.map(({ name, title, platform: own }) => ({ name, title, platform: platform ?? own })),
		rows,
		vmbus,
	};
}
