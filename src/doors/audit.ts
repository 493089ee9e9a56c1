/** `coco-dma/audit`: where each byte came from, and the properties that a run must keep. */
export { Actor, type Audit, type Label, type LabelTotals } from "../audit/audit.ts";
export type { AuditEvent, EventKind } from "../audit/events.ts";
export type { ChannelClaim } from "../leaks/claims.ts";
export type { Finding, Occurrence } from "../leaks/findings.ts";
export {
	type ByteHistory,
	type HistoryOptions,
	type HistoryRole,
	type HistoryStep,
	historyOf,
} from "../leaks/history.ts";
export { LeakMonitor, type LeakMonitorOptions, type PropertyReport } from "../leaks/monitor.ts";
export { PROPERTIES, type Property, type PropertyKind, type PropertyName } from "../leaks/properties.ts";
export { type DeviceNames, historyText } from "../report/history.ts";
