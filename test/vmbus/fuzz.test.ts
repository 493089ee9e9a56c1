import { describe, expect, it } from "vitest";
import { bySuite } from "../helpers/suite.ts";
import { FuzzFailure, hostileGuest, hostileHost, type Seen, STEPS } from "./fuzz-cases.ts";
import { KINDS } from "./pair-machine.ts";

/** Steps altogether of each kind of peer; `npm run fuzz` asks for a million. */
const ALL_STEPS = Number(process.env.FUZZ_CASES ?? bySuite({ quick: 2_800, slow: 14_000 }));
const FIRST_SEED = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000_000);
/** Seeds that once failed. */
const KEPT: readonly number[] = [230378119, 230378136];

const kinds = Object.keys(KINDS);
const cases = Math.ceil(ALL_STEPS / STEPS / kinds.length);

describe.each([
	["host", hostileHost, ["connect ok", "open ok", "open rescinded", "close ok", "gpadl ok", "unload ok"]],
	["guest", hostileGuest, ["Connected", "Disconnected", "channel Closed", "channel Open"]],
] as const)("a hostile %s over the SynICs", (who, run, reached) => {
	const seen: Seen = new Map();

	it.each(kinds)("breaks nothing and leaves nothing: %s", { timeout: 3_600_000 }, async (kind) => {
		console.log(`fuzz: hostile ${who}, ${kind}, ${cases} cases of ${STEPS} steps, FUZZ_SEED=${FIRST_SEED}`);
		for (const seed of [...KEPT, ...Array.from({ length: cases }, (_, i) => FIRST_SEED + i)]) {
			try {
				await run(kind, seed, seen);
			} catch (error) {
				const text = error instanceof FuzzFailure ? error.message : (error as Error).stack;
				expect.fail(`FUZZ_SEED=${seed}: ${text}`);
			}
		}
	});

	it("reaches what matters: without that, the cases are worth nothing", () => {
		for (const what of reached) expect(seen.get(what) ?? 0, what).toBeGreaterThan(cases / 20);
	});
});
