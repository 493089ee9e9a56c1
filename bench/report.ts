/** What a run of benchmarks answers: plain data. */
import type { Environment } from "../src/report/environment.ts";
import type { RingReport } from "./ring-report.ts";
import type { AgainstRow, Judged, Measured } from "./suite.ts";

export interface CaseResult {
	readonly name: string;
	readonly unit: "ns" | "bytes";
	/** Payload of one operation, where there is one. */
	readonly payloadBytes?: number;
	readonly variants: Readonly<Record<string, Measured>>;
	readonly targets: readonly Judged[];
}

export interface SuiteResult {
	readonly suite: string;
	readonly about: string;
	readonly cases: readonly CaseResult[];
	readonly summary?: string;
}

export interface AgainstSuite {
	readonly suite: string;
	readonly rows: readonly AgainstRow[];
}

/** Plain data: what --against writes as JSON. */
export interface AgainstReport {
	readonly schema: "coco-dma/bench-against/1";
	readonly command: "bench";
	readonly environment: Environment;
	/** The other clone, and the first 16 hex digits of the SHA-256 of both builds "bench". */
	readonly against: { readonly folder: string; readonly before: string; readonly now: string };
	readonly options: { readonly suites: readonly string[]; readonly rounds: number; readonly msPerRound: number };
	readonly suites: readonly AgainstSuite[];
}

/** Plain data: what --json writes. */
export interface BenchReport {
	readonly schema: "coco-dma/bench/1";
	readonly command: "bench";
	readonly environment: Environment;
	/** First 16 hex digits of the SHA-256 of each build that was timed. */
	readonly engineHashes: Readonly<Record<string, string>>;
	/** Smallest step of the clock that was seen (ns). */
	readonly timerResolutionNs: number;
	readonly options: { readonly suites: readonly string[]; readonly rounds: number; readonly msPerRound: number };
	readonly suites: readonly SuiteResult[];
	readonly ring?: RingReport;
	/** Whether every target was met. */
	readonly pass: boolean;
}
