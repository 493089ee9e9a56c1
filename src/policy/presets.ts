/** Every policy that was proposed, by name. */
import type { Policy } from "../coco/rules/policy.ts";
import { ACCEPTANCE_PRESETS } from "./presets/acceptance.ts";
import { POOL_PRESETS } from "./presets/pools.ts";
import { VMBUS_PRESETS } from "./presets/vmbus.ts";

/** The policies, each with its source. What reviewers found wrong in them is as it was proposed. */
export const PRESETS: readonly Policy[] = [...VMBUS_PRESETS, ...ACCEPTANCE_PRESETS, ...POOL_PRESETS];
