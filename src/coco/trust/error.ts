/** Refusals of what would change whom the guest trusts. */
const TEXTS = {
	INVALID_LOCK: "lock is legal in CONFIG_UNLOCKED only",
	INVALID_START: "start is legal in CONFIG_LOCKED only",
	INVALID_REPORT: "evidence exists in CONFIG_LOCKED and RUN only",
	NOT_LOCKED: "the guest decides about an interface in CONFIG_LOCKED or RUN only",
	NO_EVIDENCE: "no evidence was collected since the interface was locked",
	BAD_EVIDENCE: "the evidence has no interface report, no measurements or no digest",
	STALE_EVIDENCE: "the interface left its state while the policy looked at the evidence",
	EVIDENCE_REJECTED: "the policy rejected the evidence",
	GUEST_REJECTED: "the guest gave the interface up",
	BUSY: "a driver is bound, or mappings, bounce slots or coherent buffers are held",
	DRIVER_WAS_BOUND: "trust is settled for good once a driver was bound",
	CONFIGURATION_CHANGED: "a locked configuration was changed",
	IDE_FAILURE: "the encrypted link (IDE) failed",
	PROTOCOL_VIOLATION: "the interface broke the protocol",
	EXTERNAL_WITHOUT_RING: "confidential external memory needs a confidential ring",
	CONNECTION_NOT_CONFIDENTIAL: "the connection is not confidential, so no channel may claim to be",
	NO_PRIVATE_MEMORY: "the platform has no memory that the host cannot read",
	NO_HIDDEN_MEMORY: "only a bus pool under a paravisor lies on pages that the host does not map",
	VERSION_TOO_OLD: "confidential channels need VMBus version 6.0",
} as const;

/** Why trust was refused or ended, as a name that programs may compare. */
export type TrustStatus = keyof typeof TEXTS;

/** What a status says to a person. */
export function trustText(status: TrustStatus): string {
	return TEXTS[status];
}

/** A refused step: what was asked for, and why not. */
export class TrustError extends Error {
	override readonly name = "TrustError";
	readonly step: string;
	readonly status: TrustStatus;
	readonly detail: string;

	/**
	 * @param step as a person reads it, e.g. `accept of device nvme0 in RUN`
	 * @param detail more facts, such as what is held
	 */
	constructor(step: string, status: TrustStatus, detail = "") {
		super(`${step}: ${status}: ${TEXTS[status]}${detail === "" ? "" : ` (${detail})`}`);
		this.step = step;
		this.status = status;
		this.detail = detail;
	}
}
