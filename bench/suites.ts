import { audit } from "./audit.ts";
import { calls } from "./calls.ts";
import { copy } from "./copy.ts";
import { map } from "./map.ts";
import { slots } from "./slots.ts";
import type { Case, Suite } from "./suite.ts";
import { vmbus } from "./vmbus.ts";

/** All suites, in the order in which they run. */
export const suites: readonly Suite[] = [slots, copy, map, calls, vmbus, audit] as readonly Suite<Case>[] as Suite[];
