import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { explain } from "../../src/coco/guest/explain.ts";
import { parsePolicy } from "../../src/policy/parse.ts";
import { PRESETS } from "../../src/policy/presets.ts";
import { SCENARIOS } from "../../src/policy/scenarios.ts";
import { makeStage } from "../../src/study/stage.ts";
import { Direction } from "../../src/types.ts";
import { printSeed, SEED } from "../helpers/random.ts";

printSeed("policy-explain");

describe("explain under a policy", () => {
	it("says what the engine does, whatever the preset, the scenario and the modifiers", async () => {
		await fc.assert(
			fc.asyncProperty(
				fc.constantFrom(...PRESETS.map(({ name }) => name)),
				fc.constantFrom(...SCENARIOS),
				fc.subarray(["force", "strict", "share-in-place", "mask-32", "non-coherent", "advisory"], { maxLength: 3 }),
				async (preset, scenario, modifiers) => {
					const stage = await makeStage(parsePolicy([preset, ...modifiers].join("+")), scenario);
					if (stage.refused !== null) return;
					const { guest, device } = stage;
					const gpa = guest.pages.alloc(1);
					for (const [bytes, dir] of [
						[4096, Direction.ToDevice],
						[16, Direction.FromDevice],
					] as const) {
						// throws where the rules say otherwise than what the engine did
						const { steps } = explain(guest, device, { gpa, bytes, dir });
						expect(steps.length).toBeGreaterThan(2);
					}
				},
			),
			{ seed: SEED, numRuns: 200 },
		);
	});

	it("names the policy where that decides", async () => {
		const stage = await makeStage(
			parsePolicy("cc-accepted+share-in-place"),
			SCENARIOS[0] as (typeof SCENARIOS)[number],
		);
		if (stage.refused !== null) throw new Error(JSON.stringify(stage.refused));
		const { guest, device } = stage;
		const explanation = explain(guest, device, { gpa: guest.pages.alloc(1), bytes: 200, dir: Direction.ToDevice });
		expect(explanation.decision).toBe("direct");
		const step = explanation.steps.find(({ predicate }) => predicate.startsWith("policy"));
		expect(step).toMatchObject({ value: "share-in-place", why: "policy cc-accepted" });
		expect(explanation.readers.map(({ when, host }) => [when, host])).toEqual([
			["before", "ciphertext"],
			["mapped", "plain"],
			["after", "ciphertext"],
		]);
	});
});
