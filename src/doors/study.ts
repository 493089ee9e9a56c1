/** `coco-dma/study`: what is run and answered. Typed results, no text. */
export { type AuditReport, auditWorkload, type OwnerReport } from "../study/audit.ts";
export type { Cause } from "../study/cause.ts";
export type { Cell, CellPart } from "../study/cell.ts";
export { allPolicies, type Matrix, type MatrixOptions, type PolicyHeader, runMatrix } from "../study/matrix.ts";
export { makeStage, type Stage, type StageOptions } from "../study/stage.ts";
export { VERDICT_KINDS, type Verdict, type VerdictKind } from "../study/verdict.ts";
