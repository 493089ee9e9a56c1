/** What a kernel does that would go wrong on real hardware: told, never mended. */

/**
 * PAGE_STATE: a page is not in the state that its user takes it for. SLEEPING_IN_ATOMIC: a call that may sleep where
 * nothing may. TRUST_CHANGED: a device's trust changed while it held memory. POOL_STATE_UNKNOWN: a pool is used though
 * its conversion failed.
 */
export type HazardName = "PAGE_STATE" | "SLEEPING_IN_ATOMIC" | "TRUST_CHANGED" | "POOL_STATE_UNKNOWN";

/** What a kernel does that it may not do there, or what would go wrong on real hardware. */
export interface Hazard {
	readonly what: HazardName;
	/** Name of the device that it concerns, or null: no single one. */
	readonly device: string | null;
	readonly detail: string;
}
