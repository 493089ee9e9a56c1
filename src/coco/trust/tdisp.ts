/**
 * A device interface that may become trusted (TDISP), and the guest's decision about it (cc_accepted, as posted in
 * March 2026). Requests to the device follow its state machine; an illegal one resets it to CONFIG_UNLOCKED, as in
 * OpenVMM's emulator, except in ERROR, which only stop leaves. The guest's own decisions are refused without any change.
 */
import { TrustError, type TrustStatus, trustText } from "./error.ts";

/** States of a TDISP interface, numbered as in the specification. */
export const TdispState = { Unlocked: 0, Locked: 1, Run: 2, Error: 3 } as const;
export type TdispState = (typeof TdispState)[keyof typeof TdispState];

/** The specification's name of a state. */
export function tdispStateName(state: TdispState): string {
	return ["CONFIG_UNLOCKED", "CONFIG_LOCKED", "RUN", "ERROR"][state] as string;
}

/** What a locked interface says about itself. The host carried the bytes: nothing in them is known to be true. */
export interface Evidence {
	readonly interfaceReport: Uint8Array;
	readonly measurements: Uint8Array;
	/** What the platform's trusted module says is the digest of the bytes that the device gave, in hex. */
	readonly digest: string;
}

/** A policy's answer. */
export type EvidenceDecision = { readonly accept: true } | { readonly accept: false; readonly reason: string };

/** What a device holds of the guest's memory now. */
export interface Holds {
	readonly mappings: number;
	readonly bounceSlots: number;
	readonly coherentBuffers: number;
}

export type TdispRequest = "lock" | "report" | "accept" | "reject" | "start" | "stop" | "fault";

/** What ends a locked or running interface without being asked for. */
export type TdispFault = Extract<TrustStatus, "CONFIGURATION_CHANGED" | "IDE_FAILURE" | "PROTOCOL_VIOLATION">;

/** One step, for observers and people. */
export interface TdispStep {
	/** Counts all steps of the device from 1. */
	readonly number: number;
	readonly request: TdispRequest;
	readonly from: TdispState;
	readonly to: TdispState;
	/** Why the request was refused or trust ended; null: the step was legal. */
	readonly reason: TrustStatus | null;
	readonly detail: string;
	/** Whether the device is accepted after the step. */
	readonly accepted: boolean;
	/** What the device went on holding while its state or acceptance changed under it: a hazard. Null: nothing. */
	readonly heldAcross: (Holds & { readonly driverBound: boolean }) | null;
}

export interface DeviceTrustOptions {
	readonly device: string;
	/** Asks the device for its evidence. */
	readonly evidence: () => Evidence;
	/** The guest's judgement of evidence. */
	readonly policy: (evidence: Evidence) => EvidenceDecision;
	readonly holds: () => Holds;
	/** When the guest may decide (Policy.transitions). Default "checked". */
	readonly transitions?: "checked" | "anytime" | "before-driver";
}

const { Unlocked, Locked, Run, Error: Failed } = TdispState;
/** Steps that the history keeps. */
const HISTORY_STEPS = 64;

/** The trust state of one device interface. */
export class DeviceTrust {
	readonly #options: DeviceTrustOptions;
	readonly #observers = new Set<(step: TdispStep) => void>();
	readonly #history: TdispStep[] = [];
	#steps = 0;
	#state: TdispState = Unlocked;
	#evidence: Evidence | null = null;
	#verdict = false;
	#driverBound = false;
	#everBound = false;

	constructor(options: DeviceTrustOptions) {
		this.#options = options;
	}

	/** Whether a driver is bound to the device; set by whoever binds it. */
	get driverBound(): boolean {
		return this.#driverBound;
	}

	set driverBound(bound: boolean) {
		this.#driverBound = bound;
		this.#everBound ||= bound;
	}

	get state(): TdispState {
		return this.#state;
	}

	/** Whether the DMA rules may treat the device as trusted: it runs, and the guest accepted what it runs. */
	get accepted(): boolean {
		return this.#verdict && this.#state === Run;
	}

	/** The T bit that the platform lets through on the device's requests: 1 (private memory) only while accepted in RUN. */
	get t(): 0 | 1 {
		return this.accepted ? 1 : 0;
	}

	/** Evidence collected since the lock. */
	get evidence(): Evidence | null {
		return this.#evidence;
	}

	/** The last 64 steps, oldest first. */
	get history(): readonly TdispStep[] {
		return this.#history;
	}

	/** Calls `observer` after each step that changed the state or the acceptance. @returns what ends that */
	onChange(observer: (step: TdispStep) => void): () => void {
		this.#observers.add(observer);
		return () => this.#observers.delete(observer);
	}

	/** Freezes the configuration: CONFIG_UNLOCKED to CONFIG_LOCKED. @throws TrustError INVALID_LOCK */
	lock(): void {
		if (this.#state !== Unlocked) this.#illegal("lock", "INVALID_LOCK");
		this.#step("lock", Locked);
	}

	/**
	 * Collects the device's evidence, and keeps a copy: later changes of the device's bytes change no decision.
	 * @throws TrustError INVALID_REPORT; STALE_EVIDENCE; BAD_EVIDENCE (then the interface is in ERROR)
	 */
	collectEvidence(): Evidence {
		if (this.#state !== Locked && this.#state !== Run) this.#illegal("report", "INVALID_REPORT");
		const steps = this.#steps;
		const { interfaceReport, measurements, digest } = this.#options.evidence();
		if (this.#steps !== steps) return this.#refuse("report", "STALE_EVIDENCE");
		const bytes = (value: unknown) => value instanceof Uint8Array && value.length > 0;
		if (!bytes(interfaceReport) || !bytes(measurements) || !/^([0-9a-f]{2})+$/i.test(String(digest))) {
			const error = this.#error("report", "BAD_EVIDENCE");
			this.fault("PROTOCOL_VIOLATION", trustText("BAD_EVIDENCE"));
			throw error;
		}
		this.#evidence = { interfaceReport: interfaceReport.slice(), measurements: measurements.slice(), digest };
		// a verdict that has not taken effect was about the old evidence
		this.#step("report", this.#state, null, "", this.accepted);
		return this.#evidence;
	}

	/**
	 * Lets the policy judge the evidence. Accepted in RUN the device is trusted at once, in CONFIG_LOCKED from start on;
	 * rejected it goes back to CONFIG_UNLOCKED.
	 * @throws TrustError NOT_LOCKED, NO_EVIDENCE, BUSY, DRIVER_WAS_BOUND, STALE_EVIDENCE; then nothing has changed
	 */
	accept(): EvidenceDecision {
		if (this.#state !== Locked && this.#state !== Run) this.#refuse("accept", "NOT_LOCKED");
		const evidence = this.#evidence;
		if (evidence === null) return this.#refuse("accept", "NO_EVIDENCE");
		this.#refuseBusy("accept");
		const steps = this.#steps;
		const verdict = this.#options.policy(evidence);
		// the policy is foreign code: it may have stopped the device or mapped something
		if (this.#steps !== steps) this.#refuse("accept", "STALE_EVIDENCE");
		this.#refuseBusy("accept");
		if (verdict.accept === true) this.#step("accept", this.#state, null, "", true);
		else this.#step("accept", Unlocked, "EVIDENCE_REJECTED", verdict.reason);
		return verdict;
	}

	/** The guest gives the device up: back to CONFIG_UNLOCKED. @throws TrustError NOT_LOCKED, BUSY, DRIVER_WAS_BOUND; then nothing has changed */
	reject(reason: string): void {
		if (this.#state !== Locked && this.#state !== Run) this.#refuse("reject", "NOT_LOCKED");
		this.#refuseBusy("reject");
		this.#step("reject", Unlocked, "GUEST_REJECTED", reason);
	}

	/**
	 * CONFIG_LOCKED to RUN. @throws TrustError INVALID_START; BUSY or DRIVER_WAS_BOUND when an accepted device holds
	 * something, since its rules would change under it; then nothing has changed
	 */
	start(): void {
		if (this.#state !== Locked) this.#illegal("start", "INVALID_START");
		if (this.#verdict) this.#refuseBusy("start");
		this.#step("start", Run, null, "", this.#verdict);
	}

	/** To CONFIG_UNLOCKED, from any state: the host may do it at any time. What is held then is told as heldAcross. */
	stop(): void {
		this.#step("stop", Unlocked);
	}

	/** Something that a locked or running interface does not survive: to ERROR. In the other states there is nothing to lose. */
	fault(fault: TdispFault, detail = ""): void {
		const exposed = this.#state === Locked || this.#state === Run;
		this.#step("fault", exposed ? Failed : this.#state, fault, detail);
	}

	#error(request: TdispRequest, status: TrustStatus, detail = ""): TrustError {
		return new TrustError(
			`${request} of device ${this.#options.device} in ${tdispStateName(this.#state)}`,
			status,
			detail,
		);
	}

	/** A request that the device does not take in its state. */
	#illegal(request: TdispRequest, status: TrustStatus): never {
		const error = this.#error(request, status);
		this.#step(request, this.#state === Failed ? Failed : Unlocked, status);
		throw error;
	}

	/** A decision that the guest may not take now. */
	#refuse(request: TdispRequest, status: TrustStatus, detail = ""): never {
		this.#step(request, this.#state, status, detail, this.#verdict);
		throw this.#error(request, status, detail);
	}

	#refuseBusy(request: TdispRequest): void {
		const { transitions = "checked" } = this.#options;
		if (transitions === "anytime") return;
		if (transitions === "before-driver" && this.#everBound) this.#refuse(request, "DRIVER_WAS_BOUND");
		const held = this.#held();
		if (held === null) return;
		const { driverBound, mappings, bounceSlots, coherentBuffers } = held;
		const detail = `${mappings} mappings, ${bounceSlots} bounce slots, ${coherentBuffers} coherent buffers`;
		this.#refuse(request, "BUSY", driverBound ? `driver bound, ${detail}` : detail);
	}

	#held(): TdispStep["heldAcross"] {
		const { mappings, bounceSlots, coherentBuffers } = this.#options.holds();
		const { driverBound } = this;
		if (!driverBound && mappings === 0 && bounceSlots === 0 && coherentBuffers === 0) return null;
		return { driverBound, mappings, bounceSlots, coherentBuffers };
	}

	#step(
		request: TdispRequest,
		to: TdispState,
		reason: TrustStatus | null = null,
		detail = "",
		verdict = this.#verdict && to === this.#state,
	): void {
		const from = this.#state;
		const before = this.accepted;
		const heldBefore = this.#held();
		this.#state = to;
		this.#verdict = verdict;
		if (to === Unlocked || to === Failed) this.#evidence = null;
		const changed = from !== to || before !== this.accepted;
		this.#steps++;
		const { accepted } = this;
		const heldAcross = changed ? heldBefore : null;
		const step = Object.freeze({ number: this.#steps, request, from, to, reason, detail, accepted, heldAcross });
		this.#history.push(step);
		if (this.#history.length > HISTORY_STEPS) this.#history.shift();
		if (changed) for (const observer of [...this.#observers]) observer(step);
	}
}
