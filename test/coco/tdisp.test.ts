import { describe, expect, it } from "vitest";
import { TrustError, type TrustStatus, trustText } from "../../src/coco/trust/error.ts";
import { offerFlags, trustOfOffer } from "../../src/coco/trust/offer.ts";
import {
	DeviceTrust,
	type DeviceTrustOptions,
	type Evidence,
	type TdispRequest,
	TdispState,
	type TdispStep,
	tdispStateName,
} from "../../src/coco/trust/tdisp.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";

const { Unlocked, Locked, Run, Error: Failed } = TdispState;
const STATES = [Unlocked, Locked, Run, Failed];
const NONE = { mappings: 0, bounceSlots: 0, coherentBuffers: 0 };
const EVIDENCE: Evidence = {
	interfaceReport: Uint8Array.of(1, 2, 3),
	measurements: Uint8Array.of(4, 5),
	digest: "00ff",
};
printSeed("tdisp");

/** A device whose ports the test can change under way. */
function device(ports: Partial<DeviceTrustOptions> = {}) {
	const steps: TdispStep[] = [];
	const open = { ...NONE };
	const trust = new DeviceTrust({
		device: "nvme0",
		evidence: () => EVIDENCE,
		policy: () => ({ accept: true }),
		holds: () => open,
		...ports,
	});
	trust.onChange((step) => steps.push(step));
	return { trust, steps, open };
}

/** Brings a fresh device into a state, with evidence where there can be some. */
function inState(state: TdispState, ports: Partial<DeviceTrustOptions> = {}) {
	const it = device(ports);
	if (state !== Unlocked) {
		it.trust.lock();
		it.trust.collectEvidence();
	}
	if (state === Run) it.trust.start();
	if (state === Failed) it.trust.fault("IDE_FAILURE");
	expect(it.trust.state).toBe(state);
	it.steps.length = 0;
	return it;
}

function ask(trust: DeviceTrust, request: TdispRequest): string {
	const calls: Record<TdispRequest, () => unknown> = {
		lock: () => trust.lock(),
		report: () => trust.collectEvidence(),
		accept: () => trust.accept(),
		reject: () => trust.reject("not needed"),
		start: () => trust.start(),
		stop: () => trust.stop(),
		fault: () => trust.fault("PROTOCOL_VIOLATION"),
	};
	try {
		calls[request]();
	} catch (error) {
		expect(error).toBeInstanceOf(TrustError);
		return (error as TrustError).status;
	}
	return "ok";
}

/** Answer and next state of every request in every state. */
const RULES: readonly [TdispRequest, readonly [string, TdispState][]][] = [
	[
		"lock",
		[
			["ok", Locked],
			["INVALID_LOCK", Unlocked],
			["INVALID_LOCK", Unlocked],
			["INVALID_LOCK", Failed],
		],
	],
	[
		"report",
		[
			["INVALID_REPORT", Unlocked],
			["ok", Locked],
			["ok", Run],
			["INVALID_REPORT", Failed],
		],
	],
	[
		"accept",
		[
			["NOT_LOCKED", Unlocked],
			["ok", Locked],
			["ok", Run],
			["NOT_LOCKED", Failed],
		],
	],
	[
		"reject",
		[
			["NOT_LOCKED", Unlocked],
			["ok", Unlocked],
			["ok", Unlocked],
			["NOT_LOCKED", Failed],
		],
	],
	[
		"start",
		[
			["INVALID_START", Unlocked],
			["ok", Run],
			["INVALID_START", Unlocked],
			["INVALID_START", Failed],
		],
	],
	[
		"stop",
		[
			["ok", Unlocked],
			["ok", Unlocked],
			["ok", Unlocked],
			["ok", Unlocked],
		],
	],
	[
		"fault",
		[
			["ok", Unlocked],
			["ok", Failed],
			["ok", Failed],
			["ok", Failed],
		],
	],
];

describe("a TDISP interface", () => {
	for (const [request, answers] of RULES) {
		for (const state of STATES) {
			const [answer, next] = answers[state] as [string, TdispState];
			it(`${request} in ${tdispStateName(state)}: ${answer}, then ${tdispStateName(next)}`, () => {
				const { trust, steps } = inState(state);
				expect(ask(trust, request)).toBe(answer);
				expect(trust.state).toBe(next);
				const last = trust.history.at(-1) as TdispStep;
				expect(last).toMatchObject({ request, from: state, to: next });
				if (answer !== "ok") expect(last.reason).toBe(answer);
				expect(steps.length).toBe(state !== next || (request === "accept" && state === Run) ? 1 : 0);
			});

			it(`${request} in an accepted device that was brought to ${tdispStateName(state)} keeps T=1 to RUN`, () => {
				const { trust } = inState(Run);
				trust.accept();
				expect([trust.accepted, trust.t]).toEqual([true, 1]);
				if (state === Locked) {
					trust.stop();
					trust.lock();
				}
				if (state === Unlocked) trust.stop();
				if (state === Failed) trust.fault("CONFIGURATION_CHANGED");
				expect(trust.accepted).toBe(state === Run);
				ask(trust, request);
				const keeps = state === Run && (request === "report" || request === "accept");
				expect([trust.accepted, trust.t]).toEqual(keeps ? [true, 1] : [false, 0]);
			});
		}
	}

	it("says in a refusal where the request is legal, as the table has it", () => {
		for (const [request, answers] of RULES) {
			const refusal = answers.find(([answer]) => answer !== "ok")?.[0];
			if (refusal === undefined) continue;
			const legal = STATES.filter((state) => answers[state]?.[0] === "ok").map(tdispStateName);
			const named = STATES.map(tdispStateName).filter((name) => trustText(refusal as TrustStatus).includes(name));
			expect(named, request).toEqual(legal);
		}
	});

	it("is accepted before or after start, and from RUN on only", () => {
		const { trust, steps } = inState(Locked);
		trust.accept();
		expect([trust.accepted, trust.t]).toEqual([false, 0]);
		trust.start();
		expect([trust.accepted, trust.t]).toEqual([true, 1]);
		expect(steps).toMatchObject([{ request: "start", from: Locked, to: Run, accepted: true, heldAcross: null }]);
		const late = inState(Run);
		late.trust.accept();
		expect(late.trust.accepted).toBe(true);
		expect(late.steps).toMatchObject([{ request: "accept", from: Run, to: Run, accepted: true }]);
	});

	it("gives the policy a copy of what the device said once, and rejects with the policy's reason", () => {
		const measurements = Uint8Array.of(9, 9);
		let seen: Evidence | null = null;
		const { trust } = inState(Locked, {
			evidence: () => ({ ...EVIDENCE, measurements }),
			policy: (evidence) => {
				seen = evidence;
				return { accept: false, reason: "unknown firmware" };
			},
		});
		measurements.fill(0);
		expect(trust.accept()).toEqual({ accept: false, reason: "unknown firmware" });
		expect(seen).toMatchObject({ measurements: Uint8Array.of(9, 9), digest: "00ff" });
		expect(trust.state).toBe(Unlocked);
		expect(trust.history.at(-1)).toMatchObject({ reason: "EVIDENCE_REJECTED", detail: "unknown firmware" });
	});

	it("refuses to accept without evidence, also when the evidence was of an earlier lock", () => {
		const { trust } = inState(Locked);
		trust.stop();
		trust.lock();
		expect(ask(trust, "accept")).toBe("NO_EVIDENCE");
		expect(trust.state).toBe(Locked);
	});

	it("drops a verdict that has not taken effect when new evidence is collected", () => {
		const { trust } = inState(Locked);
		trust.accept();
		trust.collectEvidence();
		trust.start();
		expect(trust.accepted).toBe(false);
	});

	it.each([
		["no report", { ...EVIDENCE, interfaceReport: new Uint8Array() }],
		["no measurements", { ...EVIDENCE, measurements: new Uint8Array() }],
		["bytes that are none", { ...EVIDENCE, measurements: "4, 5" as unknown as Uint8Array }],
		["a digest that is no hex", { ...EVIDENCE, digest: "0xff" }],
		["no digest", { ...EVIDENCE, digest: "" }],
	])("goes to ERROR for evidence with %s", (_, evidence) => {
		const { trust } = device({ evidence: () => evidence });
		trust.lock();
		expect(ask(trust, "report")).toBe("BAD_EVIDENCE");
		expect(trust.state).toBe(Failed);
		expect(trust.evidence).toBeNull();
	});

	it.each(["mappings", "bounceSlots", "coherentBuffers", "driver"] as const)(
		"is not accepted, rejected or started into acceptance while it holds: %s",
		(what) => {
			for (const state of [Locked, Run]) {
				for (const request of ["accept", "reject"] as const) {
					const { trust, open, steps } = inState(state);
					if (what === "driver") trust.driverBound = true;
					else open[what] = 1;
					expect(ask(trust, request)).toBe("BUSY");
					expect([trust.state, trust.accepted, steps.length]).toEqual([state, false, 0]);
					trust.driverBound = false;
					Object.assign(open, NONE);
					expect(ask(trust, request)).toBe("ok");
				}
			}
			const { trust, open } = inState(Locked);
			trust.accept();
			if (what === "driver") trust.driverBound = true;
			else open[what] = 1;
			expect(ask(trust, "start")).toBe("BUSY");
			expect(trust.state).toBe(Locked);
			trust.driverBound = false;
			Object.assign(open, NONE);
			trust.start();
			expect(trust.accepted).toBe(true);
		},
	);

	it("tells what an accepted device held when it was stopped, failed or reset under its driver", () => {
		for (const request of ["stop", "fault", "lock", "start"] as const) {
			const { trust, open, steps } = inState(Run);
			trust.accept();
			trust.driverBound = true;
			open.mappings = 3;
			ask(trust, request);
			expect(trust.accepted).toBe(false);
			expect(steps.at(-1)).toMatchObject({
				request,
				accepted: false,
				heldAcross: { driverBound: true, mappings: 3, bounceSlots: 0, coherentBuffers: 0 },
			});
		}
	});

	it("refuses an acceptance whose policy stopped the device or mapped something meanwhile", () => {
		let meanwhile: () => void = () => {};
		const { trust, open } = inState(Run, {
			policy: () => {
				meanwhile();
				return { accept: true };
			},
		});
		meanwhile = () => {
			open.mappings = 1;
		};
		expect(ask(trust, "accept")).toBe("BUSY");
		open.mappings = 0;
		meanwhile = () => {
			trust.stop();
			trust.lock();
			trust.collectEvidence();
			trust.start();
		};
		expect(ask(trust, "accept")).toBe("STALE_EVIDENCE");
		expect([trust.state, trust.accepted]).toEqual([Run, false]);
	});

	it("does not keep evidence of a device that stopped while it was asked", () => {
		const { trust } = device({
			evidence: () => {
				trust.stop();
				return EVIDENCE;
			},
		});
		trust.lock();
		expect(ask(trust, "report")).toBe("STALE_EVIDENCE");
		expect(trust.evidence).toBeNull();
	});

	it("takes nothing but true for an acceptance", () => {
		const { trust } = inState(Run, { policy: () => ({ accept: 1, reason: "" }) as never });
		trust.accept();
		expect([trust.state, trust.accepted]).toEqual([Unlocked, false]);
	});

	it("keeps the last 64 steps and says how many there were; an observer can leave", () => {
		const { trust } = device();
		let told = 0;
		const leave = trust.onChange(() => told++);
		for (let i = 0; i < 50; i++) {
			trust.lock();
			trust.stop();
		}
		expect(trust.history.length).toBe(64);
		expect(trust.history.at(-1)?.number).toBe(100);
		expect(told).toBe(100);
		leave();
		trust.lock();
		expect(told).toBe(100);
	});

	it("names the device, its state and the reason in a refusal", () => {
		const { trust } = inState(Run);
		expect(() => trust.lock()).toThrow(
			"lock of device nvme0 in RUN: INVALID_LOCK: lock is legal in CONFIG_UNLOCKED only",
		);
	});
});

describe("over random histories", () => {
	it("T=1 is let through in RUN only, after an acceptance of this lock's evidence with nothing held, and every change is told", () => {
		const random = new Random(SEED);
		for (let round = 0; round < 60; round++) {
			let verdict = true;
			let judged = false;
			const it = device({
				policy: () => {
					judged = true;
					return verdict ? { accept: true } : { accept: false, reason: "no" };
				},
			});
			const { trust, open, steps } = it;
			let mirror = { state: Unlocked as TdispState, accepted: false };
			trust.onChange((step) => {
				expect([step.from]).toEqual([mirror.state]);
				mirror = { state: step.to, accepted: step.accepted };
			});
			for (let i = 0; i < 150; i++) {
				const before = { state: trust.state, accepted: trust.accepted };
				verdict = !random.oneIn(3);
				open.mappings = random.oneIn(4) ? 1 : 0;
				open.coherentBuffers = random.oneIn(6) ? 2 : 0;
				trust.driverBound = random.oneIn(6);
				const held = open.mappings + open.coherentBuffers > 0 || trust.driverBound;
				const request = random.pick(["lock", "lock", "report", "accept", "accept", "start", "stop", "reject", "fault"]);
				ask(trust, request as TdispRequest);
				expect(mirror).toEqual({ state: trust.state, accepted: trust.accepted });
				expect(trust.t).toBe(trust.accepted ? 1 : 0);
				if (trust.accepted) expect([trust.state, judged]).toEqual([Run, true]);
				if (trust.accepted && !before.accepted) expect(held).toBe(false);
				if (trust.state === Unlocked || trust.state === Failed) {
					expect(trust.evidence).toBeNull();
					judged = false;
				}
				const step = steps.at(-1);
				if (step !== undefined && step === trust.history.at(-1)) expect(step.heldAcross !== null).toBe(held);
			}
		}
	});
});

describe("an offer's confidential flags", () => {
	const v6 = { confidential: true, version: 0x60000 };
	it.each([
		[0, { ring: "shared", externalMemory: "shared", accepted: false }],
		[2, { ring: "private", externalMemory: "shared", accepted: false }],
		[6, { ring: "private", externalMemory: "private", accepted: true }],
	] as const)("%i on a confidential 6.0 connection", (bits, trust) => {
		expect(trustOfOffer(offerFlags(bits), v6)).toEqual(trust);
	});

	it.each([
		[4, v6, "EXTERNAL_WITHOUT_RING"],
		[4, { confidential: false, version: 0x60000 }, "EXTERNAL_WITHOUT_RING"],
		[2, { confidential: false, version: 0x60000 }, "CONNECTION_NOT_CONFIDENTIAL"],
		[6, { confidential: false, version: 0x60000 }, "CONNECTION_NOT_CONFIDENTIAL"],
		[2, { confidential: true, version: 0x50003 }, "VERSION_TOO_OLD"],
		[6, { confidential: true, version: Number.NaN }, "VERSION_TOO_OLD"],
	] as const)("%i on %o are refused: %s", (bits, connection, status) => {
		expect(() => trustOfOffer(offerFlags(bits), connection)).toThrow(expect.objectContaining({ status }));
	});

	it("are none on any connection without them, however old: nothing is private", () => {
		const trust = trustOfOffer(offerFlags(0x1 | 0x10), { confidential: false, version: 0x40000 });
		expect(trust).toEqual({ ring: "shared", externalMemory: "shared", accepted: false });
	});
});
