/** What runs a replay, as often as it is asked to. */
import type { StatusName } from "../status.ts";

/** Who calls the DMA layer: the replay loop inside WebAssembly, or TypeScript, where a policy does more than the engine. */
export type DriverKind = "wasm" | "typescript";

/** What a run with every byte checked counts. */
export interface Checked {
	/** Bytes that did not arrive as sent. */
	readonly wrongBytes: number;
	/** Commands refused, by status. */
	readonly failures: Readonly<Partial<Record<StatusName, number>>>;
}

/** Times of one run over the whole workload (ns): the DMA layer alone, the device's moves alone, both together. */
export interface Pass {
	readonly dmaNs: number;
	readonly deviceNs: number;
	readonly totalNs: number;
}

export interface Driver {
	readonly kind: DriverKind;
	checked(): Checked;
	/** Runs it for nothing: the first pass of a process is that of cold code. */
	warm(): void;
	pass(): Pass;
	/** Runs the DMA layer alone. @returns ns around each event of the workload, the clock's own cost in them */
	eventTimes(): Float64Array;
}
