/** Why something did not work, as a value: its words are made in report/ alone. */
import type { CoherentFree, CoherentRefusal } from "../coco/memory/coherent.ts";
import { CipherUnavailable } from "../coco/platform/ciphertext.ts";
import { AccessFault, type AccessResult, type ViolationName } from "../coco/platform/violations.ts";
import { type KernelCrash, UndefinedBehavior } from "../coco/rules/policy.ts";
import type { TrustError, TrustStatus } from "../coco/trust/error.ts";
import type { StatusName } from "../status.ts";

export type Cause =
	/** What the DMA layer, or the kernel's allocator of coherent memory, answered. */
	| {
			readonly what: "status";
			readonly status: StatusName | CoherentRefusal["status"] | Extract<CoherentFree, { ok: false }>["status"];
	  }
	/** The kernel ends: in which function, and why. */
	| { readonly what: "crash"; readonly where: string; readonly why: string }
	/** Nobody can foretell what happens: where, and why. */
	| { readonly what: "undefined"; readonly where: string; readonly why: string }
	/** The policy has an error in place of a bounce. */
	| { readonly what: "refuses-to-bounce" }
	/** A mapping larger than dma_max_mapping_size says. */
	| { readonly what: "over-max"; readonly bytes: number; readonly maxBytes: number }
	/** There is no such thing to run: what would have to be there. */
	| { readonly what: "not-applicable"; readonly needs: Needed }
	/** What the device read in place of the bytes that were sent: other bytes where it broke no rule. */
	| { readonly what: "device-gets"; readonly result: AccessResult | "other bytes" }
	/** The device's access did not happen, by the rule that it broke. */
	| { readonly what: "device-stopped"; readonly violation: ViolationName }
	/** The device's write met private memory and corrupted it. */
	| { readonly what: "write-corrupts" }
	/** The driver does not read what the device wrote, after the unmap. */
	| { readonly what: "write-lost" }
	/** The driver does not read what the device wrote, after dma_sync_*_for_cpu. */
	| { readonly what: "sync-lost" }
	/** The conversion of the buffer's pages did not keep their contents. */
	| { readonly what: "contents-lost" }
	/** The address of a peer's MMIO has the private form, and the peer answers to shared addresses. */
	| { readonly what: "private-form" }
	/** The device could not be accepted again under a mapping. */
	| { readonly what: "transition"; readonly status: TrustStatus }
	/** A step of the set-up that trust rules out: the step as a person reads it, and more facts ("" where there are none). */
	| { readonly what: "trust"; readonly step: string; readonly status: TrustStatus; readonly detail: string }
	/** The confidential VMBus connection failed, and the guest does without the device. */
	| { readonly what: "no-fallback" }
	/** User space does not load the device's driver. */
	| { readonly what: "no-driver" };

/**
 * What a scenario would need. memory: of the kind that the part is about. tdisp-interface: a VMBus channel's device has none,
 * its offer speaks for it. private-memory, hidden-pages: the platform has none. attribute: the kernel does not know it.
 */
export type Needed = "memory" | "tdisp-interface" | "private-memory" | "hidden-pages" | "attribute";

/** How often something did not work for one cause. */
export interface CauseCount {
	readonly cause: Cause;
	readonly count: number;
}

/** Causes, each once, in the order in which they were first met. */
export class CauseCounts {
	readonly #counts = new Map<string, { readonly cause: Cause; count: number }>();

	add(cause: Cause): void {
		const key = Object.values(cause).join("\n");
		const known = this.#counts.get(key);
		if (known === undefined) this.#counts.set(key, { cause, count: 1 });
		else known.count++;
	}

	/** Allocates. */
	get list(): readonly CauseCount[] {
		return [...this.#counts.values()].map(({ cause, count }) => ({ cause, count }));
	}
}

export function crashCause(error: KernelCrash): Cause {
	const { where, why } = error;
	return { what: error instanceof UndefinedBehavior ? "undefined" : "crash", where, why };
}

export function needs(needed: Needed): Cause {
	return { what: "not-applicable", needs: needed };
}

/** What trust rules out. What the platform has none of is no refusal. */
export function trustCause({ step, status, detail }: TrustError): Cause {
	if (status === "NO_PRIVATE_MEMORY") return needs("private-memory");
	if (status === "NO_HIDDEN_MEMORY") return needs("hidden-pages");
	return { what: "trust", step, status, detail };
}

/** What stopped a device's access. @throws the error, if it is none that an access meets */
export function accessCause(error: unknown): Cause {
	if (error instanceof AccessFault) return { what: "device-stopped", violation: error.violation.what };
	if (error instanceof CipherUnavailable) return { what: "device-gets", result: "ciphertext" };
	throw error;
}
