import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as layout from "../../assembly/layout/device.ts";
import type { GuestDevice } from "../../src/coco/guest/device.ts";
import type { Guest } from "../../src/coco/guest/guest.ts";
import { PLATFORMS } from "../../src/coco/platform/platform.ts";
import { parsePolicy } from "../../src/policy/parse.ts";
import { PRESETS } from "../../src/policy/presets.ts";
import { SCENARIOS, type Scenario } from "../../src/policy/scenarios.ts";
import { makeStage } from "../../src/study/stage.ts";
import { believes, type ModelCase, type ModelRecord, recordByModel } from "../helpers/policy-model.ts";
import { printSeed, SEED } from "../helpers/random.ts";

printSeed("policy-record");

/** The record as it stands in the engine's memory. */
function recordOf({ engine, pools }: Guest, { dma }: GuestDevice): ModelRecord {
	const at = engine.instance.exports.devicePtr(dma.index) >>> 0;
	const flags = engine.instance.u32(at + layout.DEVICE_FLAGS);
	const context = engine.instance.exports.poolPtr(0) >>> 0;
	const kindAt = (offset: number) =>
		pools.find(({ pool }) => (engine.instance.exports.poolPtr(pool.index) >>> 0) - context === offset - first(engine))
			?.kind;
	const privateOffset = engine.instance.u32(at + layout.DEVICE_PRIVATE_POOL);
	const pool = pools.find((each) => each.pool === dma.pool)?.kind ?? "none";
	return {
		force: (flags & layout.DEVICE_FORCE_BOUNCE) !== 0,
		needsShared: (flags & layout.DEVICE_NEEDS_SHARED) !== 0,
		checksState: (flags & layout.DEVICE_CHECKS_STATE) !== 0,
		pool: privateOffset === 0 ? pool : `${pool}/${kindAt(privateOffset)}`,
		plain: [layout.DEVICE_PRIVATE_BITS, layout.DEVICE_SHARED_BITS].every(
			(field) => engine.instance.u64(at + field) === 0,
		),
	};
}

/** Offset in the context of the first pool's record, which a device of that pool holds. */
function first(engine: Guest["engine"]): number {
	const probe = engine.addDevice({ pool: engine.pools[0] ?? null });
	return engine.instance.u32((engine.instance.exports.devicePtr(probe.index) >>> 0) + layout.DEVICE_POOL_RECORD);
}

interface Run {
	readonly preset: string;
	readonly scenario: Scenario;
	readonly place: number;
	readonly modifiers: readonly string[];
}

/** Whether the interface runs and is accepted: one that comes late, if the policy lets it. */
function isValidated({ trust }: Scenario, preset: string, modifiers: readonly string[]): boolean {
	if (trust.by !== "tdisp") return modifiers.includes("accepted");
	if (trust.reached === "late") return preset === "static-pool";
	return trust.reached === "run";
}

/** Compares one stage with the model. @returns what was compared, or null for a stage that is refused */
async function compare({ preset, scenario, place, modifiers }: Run): Promise<ModelRecord | null> {
	const places = [{ platform: scenario.platform, encoded: true }, ...scenario.others];
	const { platform, encoded } = places[place % places.length] as (typeof places)[number];
	const stage = await makeStage(parsePolicy([preset, ...modifiers].join("+")), scenario, { platform, encoded });
	if (stage.refused !== null) {
		const hidden = preset === "paravisor-bounce" && !PLATFORMS[platform].hiddenPages;
		const offer =
			scenario.trust.by === "offer" &&
			(modifiers.some((name) => name === "accepted" || name === "no-fallback") ||
				(scenario.trust.flags.coExternalMemory && !scenario.trust.flags.coRingBuffer));
		expect(hidden || offer, JSON.stringify(stage.refused)).toBe(true);
		return null;
	}
	const flags = scenario.trust.by === "offer" ? scenario.trust.flags : null;
	const one: ModelCase = {
		preset,
		platform,
		encoded,
		offered: flags?.coExternalMemory === true && !modifiers.includes("fallback"),
		validated: isValidated(scenario, preset, modifiers),
		acceptedAtBind:
			scenario.trust.by === "tdisp"
				? ["run", "error"].includes(scenario.trust.reached)
				: modifiers.includes("accepted") || (flags?.coExternalMemory === true && !modifiers.includes("fallback")),
		external: scenario.device.externalFacing === true,
		vmbus: scenario.trust.by === "offer",
		restricted: scenario.restricted,
		maskBits: modifiers.includes("mask-32") || scenario.device.dmaMask !== undefined ? 32 : 64,
		forced: modifiers.includes("force"),
		strict: modifiers.includes("strict"),
		shares: modifiers.includes("share-in-place"),
	};
	const { guest, device } = stage;
	expect(device.accepted).toBe(one.offered || one.validated);
	expect(device.believed).toBe(believes(one));
	const record = recordOf(guest, device);
	const bare = PLATFORMS[platform].dmaBit === null;
	expect(record).toEqual({ ...recordByModel(one), ...(bare ? { plain: true } : {}) });
	return record;
}

describe("the decision record of a policy", () => {
	it.each(PRESETS.map(({ name }) => name))(
		"is the model's for %s in every scenario, accepted or not",
		async (preset) => {
			for (const scenario of SCENARIOS)
				for (const modifiers of [[], ["accepted"]]) await compare({ preset, scenario, place: 0, modifiers });
		},
	);

	it("is the model's under modifiers, on every platform and encoding", async () => {
		const seen = new Set<string>();
		await fc.assert(
			fc.asyncProperty(
				fc.record({
					preset: fc.constantFrom(...PRESETS.map(({ name }) => name)),
					scenario: fc.constantFrom(...SCENARIOS),
					place: fc.nat(5),
					modifiers: fc.subarray([
						"force",
						"strict",
						"share-in-place",
						"accepted",
						"mask-32",
						"fallback",
						"non-coherent",
					]),
				}),
				async (run) => {
					const record = await compare(run);
					if (record !== null) seen.add(JSON.stringify(record));
				},
			),
			{ seed: SEED, numRuns: 150 },
		);
		expect(seen.size).toBeGreaterThan(15);
	});
});
