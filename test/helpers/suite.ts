/**
 * Two suites. A property whose full count takes long runs a part of it in the quick suite; a file of test/slow imports its
 * file and runs all of it (vitest.config.ts sets COCO_SUITE).
 */
const SLOW = process.env.COCO_SUITE === "slow";

/** What the suite that runs takes: a count of cases, or the cases. */
export function bySuite<T>(of: { readonly quick: T; readonly slow: T }): T {
	return SLOW ? of.slow : of.quick;
}
