import { describe, expect, it } from "vitest";
import { comparePoliciesReport } from "../../src/report/compare-policies.ts";
import type { Bars } from "../../src/report/model.ts";
import { renderText } from "../../src/report/render/text.ts";
import type { PolicyComparison, PolicyResult } from "../../src/study/compare.ts";
import { against, auditOf, policyResultOf, runOf } from "../helpers/results.ts";

const NO_FALLBACK = { what: "no-fallback" } as const;
const RESULTS = [
	policyResultOf("leaks", runOf(), auditOf({ bytes: 4096, neighbourBytes: 10 })),
	policyResultOf(
		"shows",
		runOf({ dmaNsPerRequest: 50 }),
		auditOf({ bytes: 512, confidential: false }),
		against(0.5, 0.8),
	),
	policyResultOf("hides", runOf({ driver: "typescript" }), auditOf({ hiddenBytes: 7 }), against(1, 1)),
	policyResultOf("without", null, auditOf({ cause: NO_FALLBACK, confidential: false }, { drive: null })),
];

function comparison(results: readonly PolicyResult[]): PolicyComparison {
	const options = {
		policies: results.map(({ policy }) => policy),
		scenario: "storvsc-full",
		platform: "snp",
		repeat: 5,
		ramBytes: 2 ** 30,
		seed: 1,
		contiguity: 4,
	} as const;
	return { schema: "coco-dma/compare-policies/2", options, results };
}

const REPORT = comparePoliciesReport([comparison(RESULTS)], "here");
const LINES = renderText(REPORT, { color: false }).split("\n");

/** The cells behind a label. */
function cells(label: string): string[] {
	const line = LINES.find((text) => text.trim().startsWith(label)) ?? "";
	return line.trim().split(/ {2,}/).slice(1);
}

describe("the report of compared policies", () => {
	it("has a policy's cost from one build and its exposure from the other, each under its heading", () => {
		expect(LINES).toContain("Cost: release build, timed");
		expect(LINES).toContain("Exposure: audit build, same input and seed");
		expect(cells("DMA layer, ns per request")).toEqual(["100", "50", "100", "-"]);
		expect(cells("against the first")).toEqual(["1x", "0.50x", "equal within noise", "-"]);
		expect(cells("quartiles")).toEqual(["99 to 102", "99 to 102", "99 to 102", "-"]);
		expect(cells("driven from")).toEqual(["WebAssembly", "WebAssembly", "TypeScript", "-"]);
	});

	it("tells of a policy that refused commands what it did not serve, and compares it with none", () => {
		const firstRefused = { request: 3, line: 9, bytes: 4096, status: "NO_POOL", pool: null, why: null } as const;
		const refused = runOf({
			served: { requests: 4, commands: 5, bytes: 16384 },
			failures: { NO_POOL: 6 },
			firstRefused,
		});
		const results = [policyResultOf("serves", runOf(), auditOf()), policyResultOf("refuses", refused, auditOf())];
		const lines = renderText(comparePoliciesReport([comparison(results)], "here"), { color: false });
		expect(lines).toContain(
			"refuses: 6 of 10 requests failed (commands refused: 6 NO_POOL). The first was request 3 (line 9 of the trace), 4,096 bytes, NO_POOL. It has no pool that could be larger.",
		);
		expect(lines).toContain("the columns are not comparable");
		expect(lines).toMatch(/against the first +1x +-\n/);
		expect(lines).toMatch(/data refused +0 B +24 KiB\n/);
	});

	it("says each verdict's worst kind, and bytes as breached where they are confidential, else as exposed", () => {
		expect(cells("verdict")).toEqual(["BREACH", "exposed", "hidden", "refused"]);
		expect(cells("breached")).toEqual(["4,096 B", "0 B", "0 B", "0 B"]);
		expect(cells("exposed, as designed")).toEqual(["0 B", "512 B", "0 B", "0 B"]);
		expect(cells("neighbours in shared pages")).toEqual(["10 B", "0 B", "0 B", "0 B"]);
		expect(cells("hidden from the host")).toEqual(["0 B", "0 B", "7 B", "0 B"]);
	});

	it("says of each policy what it is and who proposed it, and of one that ended why", () => {
		expect(LINES.slice(0, 3)).toEqual([
			"w: 10 requests on storvsc (storvsc-full) on snp",
			"  p: a title (rules of Linux 6.12; no acceptance)",
			"    source: somebody",
		]);
		expect(LINES).toContain("  without: refused: the confidential connection failed, and the guest does not fall back");
	});

	it("draws cost beside what the host could read, in the colour of the verdict", () => {
		const chart = REPORT.sections[0]?.blocks.find((block): block is Bars => block.block === "bars");
		const bars = chart?.rows.map(({ bars: [cost, read] }) => [
			cost?.pieces[0]?.length,
			read?.pieces[0]?.tone,
			read?.text,
		]);
		expect(bars).toEqual([
			[100, "BREACH", "BREACH 4,106\u00a0B"],
			[50, "exposed", "exposed 512\u00a0B"],
			[100, "hidden", "hidden"],
			[0, "refused", "refused"],
		]);
	});
});
