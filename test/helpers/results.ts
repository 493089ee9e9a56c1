/** Results of studies, as reports take them: what a test does not name is a small harmless run. */
import type { AuditReport } from "../../src/study/audit.ts";
import type { Comparison, ModeResult, PolicyResult } from "../../src/study/compare.ts";
import type { PolicyHeader } from "../../src/study/matrix.ts";
import type { RunResult } from "../../src/study/run.ts";
import { type Facts, partOf } from "./verdicts.ts";

const COUNTERS = {
	eventLines: 25,
	completions: 11,
	otherLines: 0,
	issues: 12,
	issuesWithoutData: 2,
	dataRequests: 10,
	zeroLengthCompletions: 1,
	unmatchedCompletions: 3,
	reissues: 4,
	drained: 5,
	malformedLines: 6,
};

export function runOf(fields: Partial<RunResult> = {}): RunResult {
	return {
		driver: "wasm",
		engineHash: "0".repeat(16),
		requests: 10,
		commands: 11,
		directMaps: 0,
		bouncedMaps: 20,
		bytes: 40960,
		bytesCopiedIn: 40960,
		bytesCopiedBack: 4096,
		dmaNs: 1000,
		deviceNs: 3000,
		totalNs: 5000,
		dmaNsPerRequest: 100,
		dmaNsPerKiB: 25,
		gigabytesPerSecond: 8.192,
		passes: { dmaNs: [1000], deviceNs: [3000], totalNs: [5000] },
		latency: { p50Ns: 90, p99Ns: 200, p999Ns: 300, maxNs: 400, curve: [{ quantile: 0.5, ns: 90 }] },
		clockNs: 20,
		sizeClasses: [{ bytes: 4096, requests: 10, medianNs: 90 }],
		pool: null,
		failures: {},
		hostReadablePages: 0,
		hostReadableBytes: 0,
		wrongBytes: 0,
		trace: COUNTERS,
		...fields,
	};
}

export function comparisonOf(results: readonly (Partial<ModeResult> & Pick<ModeResult, "mode">)[]): Comparison {
	return {
		schema: "coco-dma/compare/1",
		options: {
			modes: results.map(({ mode }) => mode),
			device: "nvme",
			repeat: 5,
			ramBytes: 2 ** 30,
			seed: 1,
			contiguity: 4,
		},
		results: results.map(({ mode, workload = "w", ...fields }) => ({ workload, mode, ...runOf(fields) })),
	};
}

/** A policy's header that says nothing more than this. */
export function headerOf(name: string, title: string, source: string): PolicyHeader {
	const empty = { references: [], changes: [], asksAlike: [], modifiers: [] };
	return { name, title, kernel: "linux-6.12", acceptance: "none", asks: null, source, ...empty };
}

export function auditOf(facts: Facts = {}, fields: Partial<AuditReport> = {}): AuditReport {
	return {
		schema: "coco-dma/audit/1",
		workload: "w",
		policy: headerOf("p", "a title", "somebody"),
		scenario: "storvsc-full",
		platform: "snp",
		device: "storvsc",
		verdict: partOf({ part: "workload", ...facts }).verdict,
		requests: 10,
		bytes: 40960,
		directMaps: 1,
		bouncedMaps: 2000,
		drive: { commands: 11, refused: {}, crash: null, undelivered: [], wrongBytes: 0, sharedInPlace: 0 },
		owners: [],
		pages: [],
		pagesEver: 0,
		pagesStanding: 0,
		first: null,
		events: 0,
		findings: [],
		notes: [],
		trace: COUNTERS,
		...fields,
	};
}

export function policyResultOf(policy: string, cost: RunResult | null, exposure: AuditReport): PolicyResult {
	return { workload: "w", policy, cost, exposure };
}
