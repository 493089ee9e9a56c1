/** Options of commands that replay a workload under a policy. */
import { PLATFORMS } from "../coco/platform.ts";
import { checkOptions, DEFAULTS } from "../compare/options.ts";
import { type Place, scenarioNamed } from "../policy/scenarios.ts";
import type { ReplayOptions } from "../replay/stage.ts";
import { parseSize } from "./sizes.ts";
import { UsageError, wholeNumber } from "./usage.ts";

/** The scenario that audits and comparisons of policies take unless they are told another. */
export const DEFAULT_SCENARIO = "storvsc-full";

/** Options that audits and comparisons of policies share. */
export const REPLAY_OPTIONS = {
	scenario: { type: "string" },
	platform: { type: "string" },
	ram: { type: "string" },
	pool: { type: "string" },
	areas: { type: "string" },
	contiguity: { type: "string" },
	seed: { type: "string" },
} as const;

/** Reads them. @throws UsageError, RangeError that name the option */
export function replayOptions(
	values: Partial<Record<keyof typeof REPLAY_OPTIONS, string>>,
): ReplayOptions & { readonly scenario: string } {
	const scenario = scenarioNamed(values.scenario ?? DEFAULT_SCENARIO);
	const platform = Object.values(PLATFORMS).find(({ name }) => name === (values.platform ?? scenario.platform));
	if (platform === undefined)
		throw new UsageError(`--platform: expected one of ${Object.keys(PLATFORMS).join(", ")}, not "${values.platform}"`);
	const poolBytes = parseSize("pool", values.pool);
	const areas = wholeNumber("areas", values.areas);
	const place: Place = { platform: platform.name as Place["platform"], encoded: true };
	const options = {
		ramBytes: parseSize("ram", values.ram) ?? DEFAULTS.ramBytes,
		seed: wholeNumber("seed", values.seed) ?? DEFAULTS.seed,
		contiguity: values.contiguity === undefined ? DEFAULTS.contiguity : Number(values.contiguity),
		...(poolBytes === undefined ? {} : { poolBytes }),
		...(areas === undefined ? {} : { areas }),
	};
	checkOptions({ ...DEFAULTS, ...options });
	return { ...options, place, scenario: scenario.name };
}
