import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { MUTATE_LABELS } from "../../assembly/layout/audit.ts";
import { Guest } from "../../src/coco/guest/guest.ts";
import type { Policy } from "../../src/coco/rules/policy.ts";
import { environment } from "../../src/node/environment.ts";
import { acceptedIn } from "../../src/policy/choice.ts";
import { parsePolicy } from "../../src/policy/parse.ts";
import { type Matrix, runMatrix } from "../../src/study/matrix.ts";
import {
	firstDifference,
	firstWithoutReason,
	formatGolden,
	type Golden,
	parseGolden,
	updated,
} from "../helpers/policy-golden.ts";
import { schemaErrors } from "../helpers/schema.ts";

const FILE = fileURLToPath(new URL("../golden/policies.txt", import.meta.url));
const golden = (): Golden => parseGolden(readFileSync(FILE, "utf8"));

/** Runs a policy on a scenario, with fields of it replaced. */
async function mutant(name: string, scenario: string, fields: Partial<Policy> = {}): Promise<Matrix> {
	const setup = parsePolicy(name);
	const changed = { ...setup, policy: { ...setup.policy, ...fields } };
	return await runMatrix({ policies: [changed], scenarios: [scenario], cost: false });
}

describe("the golden file of the policies", () => {
	let matrix: Matrix;
	beforeAll(async () => {
		matrix = await runMatrix({ cost: false });
		if (process.env.UPDATE_GOLDEN === "1") writeFileSync(FILE, formatGolden(updated(golden(), matrix)));
	}, 180_000);

	it("says what a fresh run says, cell by cell and part by part", () => {
		expect(firstDifference(golden(), matrix)).toBeNull();
	});

	it("is compared with a run that has the form of its schema", () => {
		const data = { ...matrix, command: "policies", environment: environment(), engineHash: "0".repeat(16) };
		expect(schemaErrors("policies", JSON.parse(JSON.stringify(data)))).toEqual([]);
	});

	it("has a reason for each cell", () => {
		expect(firstWithoutReason(golden())).toBeNull();
	});

	it("names a cell that it lacks, has twice, has beyond the matrix, or has no reason for", () => {
		const { header, groups } = golden();
		const at = groups.findIndex(({ section, names }) => section === "tdisp-nvme" && names.includes("cc-accepted"));
		const group = groups[at] as (typeof groups)[number];
		const others = groups.filter((_, i) => i !== at);
		const lacks = {
			header,
			groups: [...others, { ...group, names: group.names.filter((name) => name !== "cc-accepted") }],
		};
		expect(firstDifference(lacks, matrix)).toBe('cc-accepted on tdisp-nvme: not in the file; the run says "private"');
		const twice = { header, groups: [...groups, { ...group, names: ["cc-accepted"] }] };
		expect(firstDifference(twice, matrix)).toBe("cc-accepted on tdisp-nvme: 2 times in the file");
		const beyond = { header, groups: [...groups, { ...group, names: ["nobody"] }] };
		expect(firstDifference(beyond, matrix)).toBe("nobody on tdisp-nvme: in the file, not in the run");
		expect(firstWithoutReason({ header, groups: [...groups, { ...group, names: ["x"], reason: " " }] })).toBe(
			"x on tdisp-nvme",
		);
	});

	it("loses the reason of a cell that changed, and of no other, when it is updated", () => {
		const { header, groups } = golden();
		const stale = groups.map((group) =>
			group.section === "tdisp-nvme" && group.names.includes("t-fixed")
				? { ...group, verdict: "refused: stale" }
				: group,
		);
		const next = updated({ header, groups: stale }, matrix);
		const empty = next.groups.filter(({ reason }) => reason === "");
		expect(empty.map(({ section, names }) => [section, names])).toEqual([["tdisp-nvme", ["t-fixed"]]]);
		expect(firstDifference(next, matrix)).toBeNull();
		expect(parseGolden(formatGolden(next))).toEqual(next);
	});
});

describe("the comparison with the golden file sees", () => {
	afterEach(() => vi.restoreAllMocks());

	it("a predicate that is broken", async () => {
		const broken = await mutant("cc-accepted", "tdisp-nvme", { predicates: { forceDmaUnencrypted: () => true } });
		expect(firstDifference(golden(), broken)).toBe(
			'cc-accepted on tdisp-nvme: the file says "private", the run "BREACH 4,096 bytes"',
		);
	});

	it("a private pool that is shared", async () => {
		const shared = await mutant("two-allocators", "tdisp-non-coherent", {
			pools: [{ kind: "bus", size: "1M" }],
			pool: acceptedIn("bus"),
		});
		expect(firstDifference(golden(), shared)).toMatch(
			/^two-allocators on tdisp-non-coherent: the file says "private; atomic .*", the run "private; small BREACH 64 bytes/,
		);
	});

	it("labels that the engine's copies do not move", async () => {
		const create = Guest.create.bind(Guest);
		vi.spyOn(Guest, "create").mockImplementation(async (options) => {
			const guest = await create(options);
			if (guest.engine.audit !== null) guest.engine.audit.mutations = MUTATE_LABELS;
			return guest;
		});
		expect(firstDifference(golden(), await mutant("rfc-v3", "storvsc-full"))).toMatch(
			/^rfc-v3 on storvsc-full: the file says "BREACH 4,096 bytes", the run "/,
		);
	});

	it("a part that differs under the same verdict", async () => {
		const late = await mutant("t-fixed", "tdisp-nvme", { transitions: "checked" });
		expect(firstDifference(golden(), late)).toMatch(
			/^t-fixed on tdisp-nvme: "private", but of its parts the file says ".*DRIVER_WAS_BOUND.*", the run ".*BUSY/,
		);
	});
});
