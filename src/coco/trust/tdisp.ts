/**
 * A device interface that may become trusted (TDISP), and the guest's decision about it (cc_accepted, as posted in
 * March 2026). Requests to the device follow its state machine; an illegal one resets it to CONFIG_UNLOCKED, as in
 * OpenVMM's emulator, except in ERROR, which only stop leaves. The guest's own decisions are refused without any change.
 */
import { TrustError, type TrustStatus, trustText } from "./error.ts";

export type TdispRequest = "lock" | "report" | "accept" | "reject" | "start" | "stop" | "fault";

/** What a request comes to. refusal: why it is refused, or null: it is legal. */
interface Outcome<State extends string = string> {
	readonly to: State;
	readonly refusal: TrustStatus | null;
}

/** A state: what each request comes to in it, and what it means. */
interface StateRow {
	/** The specification's number and name. */
	readonly number: number;
	readonly title: string;
	readonly requests: Readonly<Record<TdispRequest, Outcome>>;
	/** Whether what the device said about itself still holds. */
	readonly keepsEvidence: boolean;
	/** Whether a device that was accepted is trusted in it. */
	readonly isTrusted: boolean;
}

function to<State extends string>(state: State): Outcome<State> {
	return { to: state, refusal: null };
}

function refused<State extends string>(refusal: TrustStatus, state: State): Outcome<State> {
	return { to: state, refusal };
}

/**
 * The states, and every step between them. Evidence that is rejected ends as `reject` does. Where nothing else is said, PCI
 * Express 6.1, chapter 11 (TDISP), and OpenVMM's emulator, which resets an interface that is asked for something illegal.
 */
const STATES = {
	Unlocked: {
		number: 0,
		title: "CONFIG_UNLOCKED",
		requests: {
			lock: to("Locked"),
			report: refused("INVALID_REPORT", "Unlocked"),
			accept: refused("NOT_LOCKED", "Unlocked"),
			reject: refused("NOT_LOCKED", "Unlocked"),
			start: refused("INVALID_START", "Unlocked"),
			stop: to("Unlocked"),
			// there is nothing to lose
			fault: to("Unlocked"),
		},
		keepsEvidence: false,
		isTrusted: false,
	},
	Locked: {
		number: 1,
		title: "CONFIG_LOCKED",
		requests: {
			lock: refused("INVALID_LOCK", "Unlocked"),
			report: to("Locked"),
			accept: to("Locked"),
			reject: to("Unlocked"),
			start: to("Run"),
			stop: to("Unlocked"),
			fault: to("Error"),
		},
		keepsEvidence: true,
		isTrusted: false,
	},
	Run: {
		number: 2,
		title: "RUN",
		requests: {
			lock: refused("INVALID_LOCK", "Unlocked"),
			report: to("Run"),
			accept: to("Run"),
			reject: to("Unlocked"),
			start: refused("INVALID_START", "Unlocked"),
			stop: to("Unlocked"),
			fault: to("Error"),
		},
		keepsEvidence: true,
		isTrusted: true,
	},
	// only stop leaves it
	Error: {
		number: 3,
		title: "ERROR",
		requests: {
			lock: refused("INVALID_LOCK", "Error"),
			report: refused("INVALID_REPORT", "Error"),
			accept: refused("NOT_LOCKED", "Error"),
			reject: refused("NOT_LOCKED", "Error"),
			start: refused("INVALID_START", "Error"),
			stop: to("Unlocked"),
			fault: to("Error"),
		},
		keepsEvidence: false,
		isTrusted: false,
	},
} as const satisfies Readonly<Record<string, StateRow>>;

type StateName = keyof typeof STATES;

/** States of a TDISP interface, numbered as in the specification. */
export const TdispState = Object.fromEntries(Object.entries(STATES).map(([name, { number }]) => [name, number])) as {
	readonly [Name in StateName]: (typeof STATES)[Name]["number"];
};
export type TdispState = (typeof TdispState)[StateName];

/** The specification's name of a state. */
export function tdispStateName(state: TdispState): string {
	return Object.values(STATES).find(({ number }) => number === state)?.title ?? String(state);
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
	/** When the guest may decide. Default "checked". */
	readonly transitions?: Transitions;
}

/**
 * When a guest may decide about a device. checked: only while no driver is bound and nothing is held (EBUSY). anytime: whenever
 * somebody asks, mappings held or not: a hazard. before-driver: as checked, and never again once a driver was bound.
 */
export const TRANSITIONS = ["checked", "anytime", "before-driver"] as const;
export type Transitions = (typeof TRANSITIONS)[number];

/** Steps that the history keeps. */
const HISTORY_STEPS = 64;

/** The trust state of one device interface. */
export class DeviceTrust {
	readonly #options: DeviceTrustOptions;
	readonly #observers = new Set<(step: TdispStep) => void>();
	readonly #history: TdispStep[] = [];
	#steps = 0;
	#state: StateName = "Unlocked";
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
		return STATES[this.#state].number;
	}

	/** Whether the DMA rules may treat the device as trusted: it runs, and the guest accepted what it runs. */
	get accepted(): boolean {
		return this.#verdict && STATES[this.#state].isTrusted;
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
		this.#step("lock", this.#legal("lock"));
	}

	/**
	 * Collects the device's evidence, and keeps a copy: later changes of the device's bytes change no decision.
	 * @throws TrustError INVALID_REPORT; STALE_EVIDENCE; BAD_EVIDENCE (then the interface is in ERROR)
	 */
	collectEvidence(): Evidence {
		const next = this.#legal("report");
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
		this.#step("report", next, null, "", this.accepted);
		return this.#evidence;
	}

	/**
	 * Lets the policy judge the evidence. Accepted in RUN the device is trusted at once, in CONFIG_LOCKED from start on;
	 * rejected it goes back to CONFIG_UNLOCKED.
	 * @throws TrustError NOT_LOCKED, NO_EVIDENCE, BUSY, DRIVER_WAS_BOUND, STALE_EVIDENCE; then nothing has changed
	 */
	accept(): EvidenceDecision {
		const next = this.#legal("accept");
		const evidence = this.#evidence;
		if (evidence === null) return this.#refuse("accept", "NO_EVIDENCE");
		this.#refuseBusy("accept");
		const steps = this.#steps;
		const verdict = this.#options.policy(evidence);
		// the policy is foreign code: it may have stopped the device or mapped something
		if (this.#steps !== steps) this.#refuse("accept", "STALE_EVIDENCE");
		this.#refuseBusy("accept");
		if (verdict.accept === true) this.#step("accept", next, null, "", true);
		else this.#step("accept", this.#legal("reject"), "EVIDENCE_REJECTED", verdict.reason);
		return verdict;
	}

	/** The guest gives the device up: back to CONFIG_UNLOCKED. @throws TrustError NOT_LOCKED, BUSY, DRIVER_WAS_BOUND; then nothing has changed */
	reject(reason: string): void {
		const next = this.#legal("reject");
		this.#refuseBusy("reject");
		this.#step("reject", next, "GUEST_REJECTED", reason);
	}

	/**
	 * CONFIG_LOCKED to RUN. @throws TrustError INVALID_START; BUSY or DRIVER_WAS_BOUND when an accepted device holds
	 * something, since its rules would change under it; then nothing has changed
	 */
	start(): void {
		const next = this.#legal("start");
		if (this.#verdict) this.#refuseBusy("start");
		this.#step("start", next, null, "", this.#verdict);
	}

	/** To CONFIG_UNLOCKED, from any state: the host may do it at any time. What is held then is told as heldAcross. */
	stop(): void {
		this.#step("stop", this.#legal("stop"));
	}

	/** Something that a locked or running interface does not survive: to ERROR. In the other states there is nothing to lose. */
	fault(fault: TdispFault, detail = ""): void {
		this.#step("fault", this.#legal("fault"), fault, detail);
	}

	#error(request: TdispRequest, status: TrustStatus, detail = ""): TrustError {
		return new TrustError(
			`${request} of device ${this.#options.device} in ${STATES[this.#state].title}`,
			status,
			detail,
		);
	}

	/** Where a request leads. @throws TrustError for one that is not legal, after the step that this is */
	#legal(request: TdispRequest): StateName {
		const { to: next, refusal } = STATES[this.#state].requests[request];
		return refusal === null ? next : this.#refuse(request, refusal, "", next);
	}

	/** Takes a refused step. @param next where it leads: nowhere, unless it was illegal @throws TrustError */
	#refuse(request: TdispRequest, status: TrustStatus, detail = "", next: StateName = this.#state): never {
		const error = this.#error(request, status, detail);
		this.#step(request, next, status, detail);
		throw error;
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
		next: StateName,
		reason: TrustStatus | null = null,
		detail = "",
		verdict = this.#verdict && next === this.#state,
	): void {
		const from = this.state;
		const before = this.accepted;
		const heldBefore = this.#held();
		this.#state = next;
		this.#verdict = verdict;
		if (!STATES[next].keepsEvidence) this.#evidence = null;
		const to = this.state;
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
