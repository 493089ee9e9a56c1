/** What runs a replay, as often as it is asked to. */
import type { StatusName } from "../status.ts";
import type { FirstRefusal } from "./refusal.ts";

/** Who calls the DMA layer: the replay loop inside WebAssembly, or TypeScript, where a policy does more than the engine. */
export type DriverKind = "wasm" | "typescript";

/** What a run with every byte checked counts. */
export interface Checked {
	/** Bytes that did not arrive as sent. */
	readonly wrongBytes: number;
	/** Commands refused, by status. */
	readonly failures: Readonly<Partial<Record<StatusName, number>>>;
	/** The first of them, or null. */
	readonly firstRefused: FirstRefusal | null;
}

/** The same, and what became of each command. */
export interface CheckedRun extends Checked {
	/** A command a byte: 1 where it was refused. */
	readonly refused: Uint8Array;
}

/** Times of one run over the whole workload (ns): the DMA layer alone, the device's moves alone, both together. */
export interface Pass {
	readonly dmaNs: number;
	readonly deviceNs: number;
	readonly totalNs: number;
}

export interface Driver {
	readonly kind: DriverKind;
	checked(): CheckedRun;
	/** Runs the DMA layer alone. @returns whether it refuses a command */
	refuses(): boolean;
	/** Runs it for nothing: the first pass of a process is that of cold code. */
	warm(): void;
	/** Times each part: a workload that is short is run as often as its sample needs to last. */
	pass(): Pass;
	/** What timing one event adds to it (ns). */
	clockNs(): number;
	/** Runs the DMA layer alone. @returns ns around each event of the workload, the clock's own cost in them */
	eventTimes(): Float64Array;
}
