/** Options of commands that replay a workload. */
import { PLATFORMS } from "../coco/platform/platform.ts";
import { type Place, scenarioNamed } from "../policy/scenarios.ts";
import { type CompareOptions, checkOptions, DEFAULTS } from "../study/options.ts";
import type { ReplayOptions } from "../study/replay-stage.ts";
import { parseSize } from "./sizes.ts";
import { UsageError, wholeNumber } from "./usage.ts";

/** The scenario that audits and comparisons of policies take unless they are told another. */
export const DEFAULT_SCENARIO = "storvsc-full";

/** Options that audits and comparisons share; scenario and platform go with a policy. */
export const REPLAY_OPTIONS = {
	scenario: { type: "string" },
	platform: { type: "string" },
	ram: { type: "string" },
	pool: { type: "string" },
	areas: { type: "string" },
	contiguity: { type: "string" },
	seed: { type: "string" },
} as const;

type Values = Partial<Record<keyof typeof REPLAY_OPTIONS, string>>;

/** Memory, pool and buffers of a replay. @throws UsageError that names the option */
export function workloadOptions(values: Values): Omit<CompareOptions, "device" | "repeat"> {
	const poolBytes = parseSize("pool", values.pool);
	const areas = wholeNumber("areas", values.areas);
	return {
		ramBytes: parseSize("ram", values.ram) ?? DEFAULTS.ramBytes,
		seed: wholeNumber("seed", values.seed) ?? DEFAULTS.seed,
		contiguity: values.contiguity === undefined ? DEFAULTS.contiguity : Number(values.contiguity),
		...(poolBytes === undefined ? {} : { poolBytes }),
		...(areas === undefined ? {} : { areas }),
	};
}

/** All of them, for a replay under a policy. @throws UsageError, RangeError that name the option */
export function replayOptions(values: Values): ReplayOptions & { readonly scenario: string } {
	const scenario = scenarioNamed(values.scenario ?? DEFAULT_SCENARIO);
	const platform = Object.values(PLATFORMS).find(({ name }) => name === (values.platform ?? scenario.platform));
	if (platform === undefined)
		throw new UsageError(`--platform: expected one of ${Object.keys(PLATFORMS).join(", ")}, not "${values.platform}"`);
	const place: Place = { platform: platform.name as Place["platform"], encoded: true };
	const options = workloadOptions(values);
	checkOptions({ ...DEFAULTS, ...options });
	return { ...options, place, scenario: scenario.name };
}
