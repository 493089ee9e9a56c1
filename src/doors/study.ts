/** `coco-dma/study`: what is run and answered. Typed results, no text. */
export {
	type AuditOptions,
	type AuditReport,
	auditWorkload,
	type ExposureTotal,
	type OwnerReport,
	type PageReport,
} from "../study/audit.ts";
export type { Cause } from "../study/cause.ts";
export type { Cell, CellPart } from "../study/cell.ts";
export {
	type CompareOptions,
	type ComparePoliciesOptions,
	type Comparison,
	type ComparisonStep,
	type Conduct,
	comparePolicies,
	compareWorkload,
	type ModeResult,
	type PolicyComparison,
	type PolicyResult,
} from "../study/compare.ts";
export type { DriveResult } from "../study/drive.ts";
export type { DriverKind } from "../study/driver.ts";
export { type ExplainedUse, type ExplainOptions, type ExplainReport, explainMapping } from "../study/explain.ts";
export type { FirstByteReport } from "../study/first-byte.ts";
export type { GuestSize, SizedGuest } from "../study/layout.ts";
export { type Matrix, type MatrixOptions, type MatrixStep, type PolicyHeader, runMatrix } from "../study/matrix.ts";
export type { PartGroup, PartRun } from "../study/part.ts";
export type { FirstRefusal, Served } from "../study/refusal.ts";
export type { Latency, RunOptions, RunResult } from "../study/run.ts";
export { localRunner, type Runner, type TimedRun } from "../study/runner.ts";
export type { ServingPool } from "../study/serving-pool.ts";
export { makeStage, type Stage, type StageOptions } from "../study/stage.ts";
export type { Percentiles, Ratio, SizeClass, Spread } from "../study/statistics.ts";
export { MODES, type Mode, type PolicyChoice, type PolicyLoader, type SubjectChoice } from "../study/subject.ts";
export type { AgainstFirst } from "../study/turns.ts";
export { VERDICT_KINDS, type Verdict, type VerdictKind } from "../study/verdict.ts";
export type { VmbusCell } from "../study/vmbus-rows.ts";
