/** Why something did not work, as a value: its words are made in report/ alone. */
import type { CoherentRefusal } from "../coco/memory/coherent.ts";
import { CipherUnavailable } from "../coco/platform/ciphertext.ts";
import { AccessFault, type AccessResult, type ViolationName } from "../coco/platform/violations.ts";
import type { KernelCrash } from "../coco/rules/policy.ts";
import type { TrustError, TrustStatus } from "../coco/trust/error.ts";
import type { StatusName } from "../status.ts";

export type Cause =
	/** What the DMA layer, or the kernel's allocator of coherent memory, answered. */
	| { readonly what: "status"; readonly status: StatusName | CoherentRefusal["status"] }
	/** The kernel ends: in which function, and why. */
	| { readonly what: "crash"; readonly where: string; readonly why: string }
	/** What the device read in place of the bytes that were sent: other bytes where it broke no rule. */
	| { readonly what: "device-gets"; readonly result: AccessResult | "other bytes" }
	/** The device's access did not happen, by the rule that it broke. */
	| { readonly what: "device-stopped"; readonly violation: ViolationName }
	/** The device's write met private memory and corrupted it. */
	| { readonly what: "write-corrupts" }
	/** The driver does not read what the device wrote, after the unmap. */
	| { readonly what: "write-lost" }
	/** The conversion of the buffer's pages did not keep their contents. */
	| { readonly what: "contents-lost" }
	/** The address of a peer's MMIO has the private form, and the peer answers to shared addresses. */
	| { readonly what: "private-form" }
	/** The guest has no memory of the kind that the part is about. */
	| { readonly what: "no-such-memory" }
	/** The device could not be accepted again under a mapping. */
	| { readonly what: "transition"; readonly status: TrustStatus }
	/** A step of the set-up that trust rules out: the step as a person reads it, and more facts ("" where there are none). */
	| { readonly what: "trust"; readonly step: string; readonly status: TrustStatus; readonly detail: string }
	/** The confidential VMBus connection failed, and the guest does without the device. */
	| { readonly what: "no-fallback" }
	/** The device is a VMBus channel's, which its offer speaks for: it has no TDISP interface. */
	| { readonly what: "no-tdisp" };

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

export function crashCause({ where, why }: KernelCrash): Cause {
	return { what: "crash", where, why };
}

export function trustCause({ step, status, detail }: TrustError): Cause {
	return { what: "trust", step, status, detail };
}

/** What stopped a device's access. @throws the error, if it is none that an access meets */
export function accessCause(error: unknown): Cause {
	if (error instanceof AccessFault) return { what: "device-stopped", violation: error.violation.what };
	if (error instanceof CipherUnavailable) return { what: "device-gets", result: "ciphertext" };
	throw error;
}
