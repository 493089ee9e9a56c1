/** Every policy that was proposed, by name. */
import type { Policy } from "../coco/rules/policy.ts";
import { ACCEPTANCE_PRESETS } from "./presets/acceptance.ts";
import { POOL_PRESETS } from "./presets/pools.ts";
import { VMBUS_PRESETS } from "./presets/vmbus.ts";

/** The policies, each with its source. What reviewers found wrong in them is as it was proposed. */
export const PRESETS: readonly Policy[] = [...VMBUS_PRESETS, ...ACCEPTANCE_PRESETS, ...POOL_PRESETS];

/** The rows of the list of proposals, and the presets and modifiers that each is reached by. */
export const ROWS = {
	P1: ["force-bounce"],
	P2: ["driver-flag"],
	P3: ["bus-ops"],
	P4: ["null-pool", "null-pool-early", "null-pool-restricted"],
	P5: ["rfc-v3"],
	P6: ["force"],
	P7: ["accepted-three", "accepted-five"],
	P8: ["two-allocators", "two-allocators-default"],
	P9: ["private-pool"],
	P10: ["cc-accepted", "cc-accepted-bus"],
	P11: ["advisory"],
	P12: ["strict"],
	P13: ["request-wins"],
	P14: ["pool-wins", "request-wins"],
	P15: ["pool-matcher"],
	P16: ["capable-codes", "capable-codes-shared"],
	P17: ["share-in-place"],
	P18: ["t-fixed"],
	P19: ["private-pool", "non-coherent"],
	P20: ["linux-7.3"],
	P21: ["c-bit-decrypted", "c-bit-fail"],
	P22: ["mmio-shared"],
	P23: ["fallback", "no-fallback"],
	P24: ["paravisor-bounce"],
	P25: ["keep-present"],
	P26: ["share-in-place"],
	P27: ["pre-shared"],
	P28: ["bus-pool"],
} as const satisfies Record<string, readonly string[]>;
