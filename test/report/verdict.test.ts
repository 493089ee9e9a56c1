import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { HazardName } from "../../src/coco/memory/hazard.ts";
import { TrustError } from "../../src/coco/trust/error.ts";
import { causeText, cellLines, cellText, verdictText } from "../../src/report/verdict.ts";
import type { Cause } from "../../src/study/cause.ts";
import { VERDICT_KINDS, type Verdict } from "../../src/study/verdict.ts";
import { printSeed, SEED } from "../helpers/random.ts";
import { schemaErrors } from "../helpers/schema.ts";
import { cellOf, type Facts, partOf } from "../helpers/verdicts.ts";

printSeed("verdicts");

const BEYOND_MASK = { what: "status", status: "BEYOND_MASK" } as const;
const texts = (parts: Parameters<typeof cellOf>[0]) => cellLines(cellOf(parts)).map(({ text }) => text);

/** One of each cause: a cause that the compiler knows and that is missing here is a type error. */
const CAUSES: { readonly [K in Cause["what"]]: Extract<Cause, { what: K }> } = {
	status: { what: "status", status: "POOL_STATE" },
	crash: { what: "crash", where: "is_swiotlb_for_alloc", why: "NULL" },
	"device-gets": { what: "device-gets", result: "zeros" },
	"device-stopped": { what: "device-stopped", violation: "wrong-encoding" },
	"write-corrupts": { what: "write-corrupts" },
	"write-lost": { what: "write-lost" },
	"contents-lost": { what: "contents-lost" },
	"private-form": { what: "private-form" },
	undefined: { what: "undefined", where: "container_of", why: "no hv_device" },
	"refuses-to-bounce": { what: "refuses-to-bounce" },
	"over-max": { what: "over-max", bytes: 524288, maxBytes: 262144 },
	"not-applicable": { what: "not-applicable", needs: "memory" },
	"sync-lost": { what: "sync-lost" },
	transition: { what: "transition", status: "BUSY" },
	trust: { what: "trust", step: "offer", status: "EXTERNAL_WITHOUT_RING", detail: "" },
	"no-fallback": { what: "no-fallback" },
	"no-driver": { what: "no-driver" },
};

describe("a verdict", () => {
	it("has the worst of its facts as its kind, and the others beside it", () => {
		const kinds = (facts: Facts) => {
			const { kind, also } = partOf(facts).verdict;
			return [kind, ...also];
		};
		expect(kinds({})).toEqual(["private"]);
		expect(kinds({ bytes: 1, cause: BEYOND_MASK })).toEqual(["BREACH", "refused"]);
		expect(kinds({ bytes: 1, confidential: false, cause: CAUSES.crash })).toEqual(["crash", "exposed"]);
		expect(kinds({ bytes: 1, hiddenBytes: 2, neighbourBytes: 3 })).toEqual(["BREACH", "hidden"]);
		expect(kinds({ confidential: false, neighbourBytes: 1, bytes: 1 })).toEqual(["BREACH", "exposed"]);
		expect(kinds({ cause: CAUSES.undefined })).toEqual(["undefined"]);
		expect(kinds({ cause: CAUSES["not-applicable"] })).toEqual(["not applicable"]);
		expect(kinds({ hiddenBytes: 2 })).toEqual(["hidden"]);
	});

	it("is said in a line: what became of bytes first, and then whether it worked", () => {
		const text = (facts: Facts) => verdictText(partOf(facts).verdict);
		expect(text({})).toBe("private");
		expect(text({ bytes: 4096, cause: BEYOND_MASK })).toBe("BREACH 4,096 bytes, refused: BEYOND_MASK");
		expect(text({ bytes: 32, confidential: false, neighbourBytes: 4064 })).toBe(
			"exposed 32 bytes, BREACH 4,064 bytes of neighbours",
		);
		expect(text({ bytes: 8192, atOnceBytes: 4096, generations: 2 })).toBe(
			"BREACH 8,192 bytes (2 generations of content, 4,096 bytes at one look)",
		);
		expect(text({ bytes: 4096, atOnceBytes: 4096, generations: 1 })).toBe("BREACH 4,096 bytes");
		expect(text({ hazards: ["SLEEPING_IN_ATOMIC"] })).toBe("private, hazard: sleeps where it may not");
		expect(text({ cause: CAUSES["refuses-to-bounce"] })).toBe("refused: the policy refuses to bounce");
		expect(text({ cause: CAUSES["not-applicable"] })).toBe("not applicable: the guest has no such memory");
		expect(text({ hiddenBytes: 4096 })).toBe("private (4,096 bytes hidden from the host)");
		expect(text({ cause: CAUSES.crash })).toBe("crash: is_swiotlb_for_alloc: NULL");
	});

	it("says of a trust error what the error says", () => {
		for (const detail of ["", "2 mappings held"]) {
			const error = new TrustError("accept of device nvme0", "BUSY", detail);
			expect(causeText({ what: "trust", step: error.step, status: error.status, detail: error.detail })).toBe(
				error.message,
			);
		}
	});

	it("has the form of its schema, and no other: with each cause, and with none", () => {
		for (const cause of [null, ...Object.values(CAUSES)]) {
			const { verdict } = partOf({ cause });
			expect([cause, schemaErrors("policies.2#Verdict", verdict)]).toEqual([cause, []]);
		}
		const { verdict } = partOf();
		expect(schemaErrors("policies.2#Verdict", { ...verdict, kind: "secret" })).not.toEqual([]);
		expect(schemaErrors("policies.2#Verdict", { ...verdict, more: 1 })).not.toEqual([]);
		expect(schemaErrors("policies.2#Verdict", { ...verdict, cause: { what: "unknown" } })).not.toEqual([]);
		for (const kind of VERDICT_KINDS) expect(schemaErrors("policies.2#VerdictKind", kind)).toEqual([]);
	});

	it("has words of its own for each cause", () => {
		const words = Object.values(CAUSES).map(causeText);
		expect(new Set(words).size).toBe(words.length);
	});
});

describe("a cell", () => {
	it("says in its line what its first part says, and what the others of another kind say, each with its place", () => {
		const cell = cellOf([
			partOf({ bytes: 4096 }),
			partOf({ part: "4 KiB FROM_DEVICE" }, { dir: "FROM_DEVICE", told: false }),
			partOf({ part: "4 KiB BIDIRECTIONAL", cause: BEYOND_MASK }, { dir: "BIDIRECTIONAL" }),
			partOf({ part: "coherent 4 KiB", cause: CAUSES.crash }, { group: "coherent" }),
			partOf({ platform: "tdx", encoded: false, hiddenBytes: 1 }, { group: "above 4 GiB" }),
		]);
		expect(cellText(cell)).toBe(
			"BREACH 4,096 bytes; 4 KiB BIDIRECTIONAL refused: BEYOND_MASK; coherent crash: is_swiotlb_for_alloc: NULL; above 4 GiB on tdx, plain addresses private (1 bytes hidden from the host)",
		);
		expect(cellLines(cell).map(({ text }) => text)).toEqual([
			"BREACH 4,096\u00a0B",
			"BIDIRECTIONAL: refused",
			"coherent: crash",
			"above 4 GiB on tdx, plain: private (1\u00a0B hidden from the host)",
		]);
	});

	it("says the error beside the breach in a line of its own, and commas and amounts of a reason stay as they are", () => {
		expect(texts([partOf({ bytes: 4096, cause: BEYOND_MASK })])).toEqual([
			"BREACH 4,096\u00a0B",
			"refused: BEYOND_MASK",
		]);
		const cause = { what: "crash", where: "it failed, and so on", why: "1 bytes, exposed 2 bytes" } as const;
		expect(texts([partOf({ cause })])).toEqual(["crash: it failed, and so on: 1 bytes, exposed 2 bytes"]);
	});

	it("names the part of everything that it adds to its first one, on whatever platform", () => {
		const tdx = { platform: "tdx" };
		expect(
			texts([
				partOf(),
				partOf({ ...tdx, bytes: 4096, cause: BEYOND_MASK }),
				partOf({ ...tdx, cause: CAUSES.status }, { group: "coherent" }),
				partOf({ neighbourBytes: 4064 }, { group: "small" }),
				partOf({ hazards: ["SLEEPING_IN_ATOMIC"] }, { group: "atomic" }),
			]),
		).toEqual([
			"private",
			"TO_DEVICE on tdx: BREACH 4,096\u00a0B + refused",
			"coherent on tdx: refused",
			"small: BREACH 4,064\u00a0B of neighbours",
			"atomic: private + hazard: sleeps in atomic",
		]);
	});

	it("gives each line the worst kind of what it says", () => {
		const parts = [
			partOf({ bytes: 1, confidential: false }),
			partOf({ part: "x", bytes: 1, cause: BEYOND_MASK }, { group: "small" }),
		];
		expect(cellLines(cellOf(parts)).map(({ kind }) => kind)).toEqual(["exposed", "BREACH"]);
	});
});

const bytes = fc.oneof(fc.constant(0), fc.nat({ max: 2 ** 31 }));
const said = {
	confidential: fc.boolean(),
	bytes,
	hiddenBytes: bytes,
	neighbourBytes: bytes,
	hazards: fc.constantFrom<readonly HazardName[]>([], ["SLEEPING_IN_ATOMIC"], ["PAGE_STATE", "TRUST_CHANGED"]),
	cause: fc.constantFrom<Cause | null>(null, ...Object.values(CAUSES)),
};
const facts = fc.record(said);
/** Two verdicts that differ in some of their facts, or in none. */
const pairs = fc
	.tuple(facts, fc.record(said, { requiredKeys: [] }))
	.map(([one, changes]) => [partOf(one).verdict, partOf({ ...one, ...changes }).verdict]) as fc.Arbitrary<
	[Verdict, Verdict]
>;

/** What of a verdict is said: whose bytes they are matters where there are any. */
function meaning({ confidential, bytes, hiddenBytes, neighbourBytes, cause, hazards }: Verdict) {
	return JSON.stringify([bytes > 0 && confidential, bytes, hiddenBytes, neighbourBytes, cause, hazards]);
}

describe("the words of verdicts", () => {
	it("differ exactly where the values do", () => {
		fc.assert(
			fc.property(pairs, ([a, b]) => {
				expect(verdictText(a) === verdictText(b)).toBe(meaning(a) === meaning(b));
			}),
			{ seed: SEED, numRuns: 2000 },
		);
	});

	it("say each kind of the verdict, and no other", () => {
		fc.assert(
			fc.property(facts, (one) => {
				const part = partOf(one);
				const { kind, also } = part.verdict;
				const said = new Set(cellLines(cellOf([part])).map((line) => line.kind));
				expect(VERDICT_KINDS.filter((each) => said.has(each))).toEqual([kind, ...also]);
			}),
			{ seed: SEED, numRuns: 1000 },
		);
	});
});
