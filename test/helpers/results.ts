/** Results of studies, as reports take them: what a test does not name is a small harmless run. */
import type { AuditReport } from "../../src/study/audit.ts";
import type { Comparison, ModeResult, PolicyResult } from "../../src/study/compare.ts";
import type { PolicyHeader } from "../../src/study/matrix.ts";
import type { RunResult } from "../../src/study/run.ts";
import type { Ratio } from "../../src/study/statistics.ts";
import type { AgainstFirst } from "../../src/study/turns.ts";
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
	outlived: 2,
	longestNs: 14e6,
	iodepth: null,
	lossMarkers: 0,
	lostEvents: 0,
	overwrittenEvents: 0,
	isLowerBound: false,
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
		served: { requests: 10, commands: 11, bytes: 40960 },
		servingPool: null,
		dmaNs: 1000,
		deviceNs: 3000,
		totalNs: 5000,
		spread: {
			dmaNs: { median: 1000, lower: 990, upper: 1020 },
			deviceNs: { median: 3000, lower: 2900, upper: 3100 },
			totalNs: { median: 5000, lower: 4900, upper: 5200 },
		},
		interaction: { ns: 1000, isNoise: false },
		dmaNsPerRequest: 100,
		deviceNsPerRequest: 300,
		totalNsPerRequest: 500,
		dmaNsPerKiB: 25,
		gigabytesPerSecond: 8.192,
		passes: { dmaNs: [1000], deviceNs: [3000], totalNs: [5000] },
		cpuShare: 1,
		isBusy: false,
		latency: {
			p50Ns: 90,
			p99Ns: 200,
			p999Ns: 300,
			maxNs: 400,
			curve: [{ quantile: 0.5, ns: 90 }],
			passes: { p50Ns: [90], p99Ns: [200], p999Ns: [300], maxNs: [400] },
		},
		clockNs: 20,
		sizeClasses: [{ bytes: 4096, requests: 10, medianNs: 90 }],
		pool: null,
		failures: {},
		firstRefused: null,
		hostReadablePages: 0,
		hostReadableBytes: 0,
		wrongBytes: 0,
		trace: COUNTERS,
		...fields,
	};
}

/** A ratio that is known within a tenth of it. */
export function ratio(value: number): Ratio {
	const [low, high] = [value * 0.9, value * 1.1];
	return { value, low, high, isEqual: low <= 1 && high >= 1 };
}

/** The DMA layer and both together against the first; percentiles as the DMA layer. */
export function against(dma: number, total: number): AgainstFirst {
	const [layer, both] = [ratio(dma), ratio(total)];
	return { dma: layer, total: both, p50: layer, p99: layer, p999: layer, max: layer };
}

export function comparisonOf(results: readonly (Partial<ModeResult> & Pick<ModeResult, "mode">)[]): Comparison {
	return {
		schema: "coco-dma/compare/2",
		options: {
			modes: results.map(({ mode }) => mode),
			device: "nvme",
			repeat: 5,
			ramBytes: 2 ** 30,
			seed: 1,
			contiguity: 4,
		},
		results: results.map(({ mode, workload = "w", againstFirst = null, ...fields }) => ({
			workload,
			mode,
			...runOf(fields),
			againstFirst,
		})),
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
		drive: {
			commands: 11,
			refused: {},
			firstRefused: null,
			crash: null,
			undelivered: [],
			wrongBytes: 0,
			sharedInPlace: 0,
		},
		owners: [],
		pages: [],
		pagesEver: 0,
		pagesStanding: 0,
		first: null,
		events: 0,
		findings: [],
		notes: [],
		trace: COUNTERS,
		queue: null,
		total: null,
		...fields,
	};
}

export function policyResultOf(
	policy: string,
	cost: RunResult | null,
	exposure: AuditReport,
	againstFirst: AgainstFirst | null = null,
): PolicyResult {
	return { workload: "w", policy, cost, againstFirst, exposure };
}
