import { describe, expect, it } from "vitest";
import { RingFuzz } from "./fuzz-cases.ts";

/** Cases a build; `npm run fuzz` asks for a million. */
const CASES = Number(process.env.FUZZ_CASES ?? 4000);
const FIRST_SEED = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000_000);

/** Seeds that once failed. */
const KEPT: readonly number[] = [];

describe.each(["engine", "engine.threads"] as const)("a hostile peer against %s", (build) => {
	it(`breaks nothing in ${CASES} cases from seed ${FIRST_SEED} on`, { timeout: 3_600_000 }, async () => {
		console.log(`fuzz: ${build}, ${CASES} cases, FUZZ_SEED=${FIRST_SEED}`);
		const fuzz = await RingFuzz.create(build);
		for (let i = 0; i < CASES; i++) fuzz.run(FIRST_SEED + i);
		// the cases are worth something only while they reach the answers that matter
		for (const answer of ["write ok", "next ok", "read ok", "readBurst ok", "complete ok", "range ok", "reserve ok"])
			expect(fuzz.seen.get(answer) ?? 0, answer).toBeGreaterThan(CASES / 50);
	});

	it("breaks nothing in the cases that once failed", async () => {
		const fuzz = await RingFuzz.create(build);
		for (const seed of KEPT) fuzz.run(seed);
		for (let seed = 0; seed < 100; seed++) fuzz.run(seed);
	});
});
