/** Options of commands that replay a workload. */
import { PLATFORMS, type PlatformName } from "../coco/platform/platform.ts";
import { scenarioNamed } from "../policy/scenarios.ts";
import { type GuestSize, sizedGuest } from "../study/layout.ts";
import { DEFAULT_SCENARIO } from "../study/subject.ts";
import type { ReadTraceOptions } from "../workload/read.ts";
import { parseSize } from "./sizes.ts";
import { UsageError, wholeNumber } from "./usage.ts";

/** Options that audits and comparisons share; scenario and platform go with a policy. */
export const REPLAY_OPTIONS = {
	scenario: { type: "string" },
	platform: { type: "string" },
	ram: { type: "string" },
	pool: { type: "string" },
	areas: { type: "string" },
	contiguity: { type: "string" },
	seed: { type: "string" },
	iodepth: { type: "string" },
} as const;

type Values = Partial<Record<keyof typeof REPLAY_OPTIONS, string>>;

/** Memory, pool and buffers of a replay. @throws UsageError, RangeError that name the option */
export function guestSize(values: Values): GuestSize {
	const ramBytes = parseSize("ram", values.ram);
	const poolBytes = parseSize("pool", values.pool);
	const areas = wholeNumber("areas", values.areas);
	const seed = wholeNumber("seed", values.seed);
	return sizedGuest({
		...(ramBytes === undefined ? {} : { ramBytes }),
		...(poolBytes === undefined ? {} : { poolBytes }),
		...(areas === undefined ? {} : { areas }),
		...(seed === undefined ? {} : { seed }),
		...(values.contiguity === undefined ? {} : { contiguity: Number(values.contiguity) }),
	});
}

/** How a trace is read. @throws UsageError */
export function traceOptions(values: Values): Pick<ReadTraceOptions, "iodepth"> {
	const iodepth = wholeNumber("iodepth", values.iodepth);
	return iodepth === undefined ? {} : { iodepth };
}

/** What goes with a policy. @throws UsageError, RangeError that name the option */
export function policyPlace({ scenario = DEFAULT_SCENARIO, platform }: Values): {
	readonly scenario: string;
	readonly platform: PlatformName;
} {
	const found = scenarioNamed(scenario);
	const name = Object.keys(PLATFORMS).find((known) => known === (platform ?? found.platform));
	if (name === undefined)
		throw new UsageError(`--platform: expected one of ${Object.keys(PLATFORMS).join(", ")}, not "${platform}"`);
	return { scenario: found.name, platform: name as PlatformName };
}
