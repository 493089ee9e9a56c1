import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KernelCrash, type Policy } from "../../src/coco/rules/policy.ts";
import { PageState } from "../../src/memory/ram.ts";
import { parsePolicy } from "../../src/policy/parse.ts";
import { setupOf } from "../../src/policy/setup.ts";
import { auditWorkload } from "../../src/study/audit.ts";
import { comparePolicies, compareWorkload } from "../../src/study/compare.ts";
import { Drive } from "../../src/study/drive.ts";
import type { GuestSize } from "../../src/study/layout.ts";
import { makeReplay } from "../../src/study/replay.ts";
import type { RunResult } from "../../src/study/run.ts";
import { subjectOf } from "../../src/study/subject.ts";
import { Direction } from "../../src/types.ts";
import type { Workload } from "../../src/workload/workload.ts";
import { printSeed, SEED } from "../helpers/random.ts";
import { runSubject } from "../helpers/run.ts";
import { bySuite } from "../helpers/suite.ts";
import { anyWorkload, SMALL, type Step, shortPgbench, shownByBouncing, workloadOf } from "../helpers/workload.ts";

printSeed("replay");

const read = (bytes: number, more: Partial<Step> = {}): Step => ({ read: true, bytes, depth: 0, ns: 1000, ...more });
const write = (bytes: number, more: Partial<Step> = {}): Step => ({ ...read(bytes, more), read: false });

async function stageOf(
	workload: Workload,
	policy: string,
	scenario: string,
	options: GuestSize = SMALL,
	build = "engine.audit",
) {
	const subject = await subjectOf({ policy, scenario });
	const on = await makeReplay(workload, subject, options, { build: build as "engine" });
	if ("what" in on) throw new Error(JSON.stringify(on));
	return { ...on, subject };
}

function audited(workload: Workload, policy: string, scenario: string, options: GuestSize = SMALL) {
	return auditWorkload(workload, { policy, scenario, ...options });
}

/** What virtio-blk writes of a request in its queue: three descriptors of 16 bytes, and a used element of 8. */
const QUEUED_BYTES = 3 * 16 + 8;
const CLEAN = { refused: {}, crash: null, undelivered: [] };

describe("a workload under a policy", () => {
	const mixed = workloadOf([
		write(8192, { depth: 2 }),
		read(8192),
		write(300 * 1024),
		read(300 * 1024, { depth: 1 }),
		write(512),
		read(512),
	]);

	it.each([
		["force-bounce", "legacy-virtio"],
		["force-bounce", "storvsc-full"],
		["rfc-v3", "storvsc-full"],
		["cc-accepted-bus", "storvsc-full"],
		["paravisor-bounce", "storvsc-full"],
		["private-pool", "tdisp-nvme-32"],
		["linux-7.3", "tdisp-nvme"],
		["linux-7.3", "tdisp-non-coherent"],
		["pool-wins", "restricted-pool"],
		["linux-7.3+pre-shared", "legacy-virtio"],
		["linux-7.3+share-in-place", "restricted-pool"],
	])("delivers every byte both ways: %s on %s", async (policy, scenario) => {
		const options = { ...SMALL, ramBytes: 64 * 2 ** 20 };
		const { drive, requests, bytes } = await audited(mixed, policy, scenario, options);
		expect(drive).toMatchObject(CLEAN);
		expect([requests, bytes]).toEqual([6, 2 * (8192 + 300 * 1024 + 512)]);
	});

	it("has the scenario's limits: storvsc sends 300 KiB in two commands, virtio-blk maps a header and a status with each", async () => {
		const storvsc = await stageOf(workloadOf([write(300 * 1024)]), "force-bounce", "storvsc-plain");
		expect(storvsc.subject.preset.name).toBe("storvsc");
		expect(storvsc.plan.commands.length).toBe(2);
		const virtio = await stageOf(workloadOf([write(4096)]), "force-bounce", "legacy-virtio");
		expect(virtio.plan.entries.map(({ bytes }) => bytes)).toEqual([16, 4096, 1]);
		const nvme = await stageOf(workloadOf([write(300 * 1024)]), "force-bounce", "tdisp-nvme");
		expect([nvme.subject.preset.name, nvme.plan.commands.length]).toEqual(["nvme", 2]);
	});

	it("has the default pool of the size that was asked for, and others as large", async () => {
		const { stage } = await stageOf(mixed, "private-pool", "tdisp-nvme", { ...SMALL, ramBytes: 64 * 2 ** 20 });
		expect(stage.guest.pools.map(({ kind, pool }) => [kind, pool.bytes])).toEqual([
			["default", 2 ** 20],
			["private", 2 ** 20],
		]);
	});

	it("refuses a command as a whole when one of its maps finds no slot, and shows what was copied until then", async () => {
		// 256 slots: a command of 252 KiB fits alone, and none beside it
		const options = { ...SMALL, poolBytes: 512 * 1024, contiguity: 1 };
		const work = workloadOf([
			write(252 * 1024, { depth: 9 }),
			write(252 * 1024, { depth: 9 }),
			write(64 * 1024, { depth: 9 }),
		]);
		const on = await stageOf(work, "force-bounce", "legacy-virtio", options);
		const drive = new Drive(on).run();
		expect(drive).toMatchObject({ refused: { POOL_FULL: 1 }, crash: null, undelivered: [] });
		expect(on.stage.device.holds()).toMatchObject({ mappings: 0, bounceSlots: 0 });
		expect(on.stage.device.pool?.pool.used).toBe(0);
		const report = await audited(work, "force-bounce", "legacy-virtio", options);
		const whole = shownByBouncing(on, false);
		expect(report.verdict.bytes).toBeLessThan(whole.sent + whole.initial);
		// the pages of the refused command that found slots were shown all the same
		const answered = work.requests.reduce((sum, { bytes }) => sum + bytes, 0) - 64 * 1024;
		expect(report.verdict.bytes).toBeGreaterThan(answered);
	});

	it("ends where the kernel crashes, and says where", async () => {
		const policy: Policy = {
			name: "crashes",
			title: "a test's",
			source: "a test",
			kernel: "linux-6.12",
			acceptance: "none",
			predicates: {
				forceBounce: () => {
					throw new KernelCrash("is_swiotlb_force_bounce", "NULL pointer dereference");
				},
			},
		};
		const report = await auditWorkload(mixed, { policy, scenario: "storvsc-full", ...SMALL });
		const crash = { what: "crash", where: "is_swiotlb_force_bounce", why: "NULL pointer dereference" };
		expect(report.drive?.crash).toEqual(crash);
		expect(report).toMatchObject({ directMaps: 0, bouncedMaps: 0, verdict: { kind: "crash", bytes: 0, cause: crash } });
		const subject = await subjectOf({ policy: setupOf(policy), scenario: "storvsc-full" });
		expect(await runSubject(mixed, subject, SMALL)).toEqual(crash);
	});

	it("does not run what a platform or an offer refuses, and says why", async () => {
		const report = await audited(mixed, "cc-accepted-bus+no-fallback", "storvsc-full");
		expect(report).toMatchObject({ drive: null, requests: 6 });
		expect(report.verdict).toMatchObject({ kind: "refused", bytes: 0, cause: { what: "no-fallback" } });
		const setup = parsePolicy("cc-accepted-bus+no-fallback");
		expect(await runSubject(mixed, await subjectOf({ policy: setup }), SMALL)).toEqual(report.verdict.cause);
	});

	it("takes the share of its buffers that the policy says from memory that is shared for good", async () => {
		const many = workloadOf(Array.from({ length: 50 }, (_, i) => (i % 2 === 0 ? write(4096) : read(4096))));
		const { plan, stage } = await stageOf(many, "linux-7.3+pre-shared", "storvsc-plain");
		const { ram } = stage.guest.engine;
		const shared = plan.commands.filter(({ attrs, first }) => {
			const state = ram.pageState(plan.entries[first]?.gpa ?? -1);
			expect(state === PageState.Shared).toBe(attrs !== 0);
			return attrs !== 0;
		});
		expect(shared.length).toBe(45);
		const report = await audited(many, "linux-7.3+pre-shared", "storvsc-plain");
		expect([report.directMaps, report.bouncedMaps]).toEqual([45, 5]);
	});

	it("shares pages in place for the time of a mapping: all are private again at the end", async () => {
		const on = await stageOf(mixed, "linux-7.3+share-in-place", "storvsc-plain");
		const { ram } = on.stage.guest.engine;
		const before = ram.pagesInState(PageState.Shared);
		const drive = new Drive(on).run();
		expect(ram.pagesInState(PageState.Shared)).toBe(before);
		const pages = mixed.requests.reduce((sum, { bytes }) => sum + Math.ceil(bytes / 4096), 0);
		expect(drive.sharedInPlace).toBe(2 * pages);
		expect(on.stage.device.dma.counters).toMatchObject({ bouncedMaps: 0 });
	});

	it("shows with a page shared in place what stands on it, where the platform keeps contents, and nothing where it scrambles them", async () => {
		const work = workloadOf([write(512), write(512)]);
		const kept = await audited(work, "linux-7.3+share-in-place", "restricted-pool");
		// two buffers, and twice the header on the page of the driver's structures; the queue is coherent memory of the pool
		const bytes = 2 * (512 + 16) + 2 * QUEUED_BYTES;
		expect(kept).toMatchObject({ platform: "pkvm", verdict: { kind: "exposed", bytes }, drive: CLEAN });
		expect(kept.owners.find(({ convertedBytes }) => convertedBytes > 0)).toMatchObject({
			convertedBytes: 2 * (512 + 16),
			standingBytes: 0,
		});
		const scrambled = await audited(work, "linux-7.3+share-in-place", "legacy-virtio");
		// the queue's pages alone, which are shared for as long as it lives
		const queued = { kind: "exposed", bytes: 2 * QUEUED_BYTES };
		expect(scrambled).toMatchObject({ platform: "snp", verdict: queued });
		expect(scrambled.drive?.undelivered).toEqual([
			{ cause: { what: "device-gets", result: "other bytes" }, count: 4 },
			// the status, scrambled again when its page becomes private
			{ cause: { what: "write-lost" }, count: 2 },
		]);
	});

	it("has a clock that never steps back, whatever the trace's does", async () => {
		const back = workloadOf([write(4096, { ns: 9000 }), write(4096, { ns: -50_000 }), write(4096, { ns: 10 })]);
		const { owners } = await audited(back, "force-bounce", "storvsc-plain");
		for (const owner of owners) {
			expect(owner.oldestResidueNs).toBeGreaterThanOrEqual(0);
			expect(owner.longestResidueNs).toBeGreaterThanOrEqual(0);
			expect(owner.oldestResidueNs).toBeLessThanOrEqual(9100);
		}
	});
});

describe("what an audit counts", () => {
	it.each([
		["storvsc-plain", false],
		["legacy-virtio", false],
		["storvsc-full", true],
	] as const)("equals a count from the plan alone, when everything bounces: %s", async (scenario, accepted) => {
		let [initial, answered] = [0, 0];
		await fc.assert(
			fc.asyncProperty(anyWorkload, async (work) => {
				const report = await audited(work, "force-bounce", scenario);
				expect(report.drive).toMatchObject(CLEAN);
				const shown = shownByBouncing(await stageOf(work, "force-bounce", scenario, SMALL, "engine"), accepted);
				const queued = scenario === "legacy-virtio" ? (report.drive?.commands ?? 0) : 0;
				const all = shown.sent + shown.initial + shown.answered + queued * QUEUED_BYTES;
				const { verdict } = report;
				expect([verdict.confidential, verdict.bytes, verdict.neighbourBytes]).toEqual([accepted, all, 0]);
				const initials = report.owners
					.filter(({ owner }) => !owner.endsWith(" queue"))
					.map((owner) => owner.initialBytes);
				expect(initials).toEqual(all === 0 ? [] : [shown.initial]);
				const ever = report.pages.reduce((sum, page) => sum + page.everBytes, 0);
				if (report.pagesEver <= 8 && report.pagesStanding === report.pagesEver) expect(ever).toBe(all);
				initial += shown.initial;
				answered += shown.answered;
			}),
			{ seed: SEED, numRuns: bySuite({ quick: 5, slow: 25 }), endOnFailure: true },
		);
		// the hard cases were met: buffers that are used again, and answers that count
		expect(initial).toBeGreaterThan(4096);
		if (accepted) expect(answered).toBeGreaterThan(4096);
	});

	it("is nothing, when nothing is bounced, whatever the workload", async () => {
		await fc.assert(
			fc.asyncProperty(anyWorkload, async (work) => {
				const report = await audited(work, "cc-accepted-bus", "storvsc-full");
				expect(report).toMatchObject({
					verdict: { kind: "private", bytes: 0, hiddenBytes: 0, neighbourBytes: 0 },
					owners: [],
					pages: [],
					findings: [],
					first: null,
				});
				expect(report.drive).toMatchObject(CLEAN);
			}),
			{ seed: SEED, numRuns: bySuite({ quick: 3, slow: 8 }), endOnFailure: true },
		);
	});

	it("of what stays in freed slots equals a model that follows each slot", async () => {
		let ended = 0;
		await fc.assert(
			fc.asyncProperty(anyWorkload, async (work) => {
				const report = await audited(work, "force-bounce", "storvsc-full");
				const model = await residueOf(work, "force-bounce", "storvsc-full");
				const [owner] = report.owners;
				if (owner === undefined) return;
				expect({
					residueBytes: owner.residueBytes,
					oldestResidueNs: owner.oldestResidueNs,
					endedResidueBytes: owner.endedResidueBytes,
					longestResidueNs: owner.longestResidueNs,
				}).toEqual(model.residue);
				expect(owner.meanResidueNs).toBeCloseTo(model.meanNs, 6);
				expect(owner.standingBytes).toBe(owner.residueBytes);
				ended += model.residue.endedResidueBytes;
			}),
			{ seed: SEED + 1, numRuns: bySuite({ quick: 5, slow: 25 }), endOnFailure: true },
		);
		expect(ended).toBeGreaterThan(4096);
	});

	it("as standing at the end is what the host's own eyes find there", async () => {
		await fc.assert(
			fc.asyncProperty(anyWorkload, async (work) => {
				const on = await stageOf(work, "force-bounce", "storvsc-full");
				const { guest } = on.stage;
				const { ram } = guest.engine;
				const found = () => {
					let bytes = 0;
					for (const region of ram.regions)
						for (let page = region.gpa; page < region.gpa + region.bytes; page += 4096)
							if (ram.pageState(page) === PageState.Shared)
								bytes += guest.parties.host.read(page, 4096).filter((byte) => byte !== 0).length;
					return bytes;
				};
				// atomic pools hold noise; a fresh pool holds zeros, and no byte that a drive carries is 0
				const noise = found();
				new Drive(on).run();
				const { owners } = await audited(work, "force-bounce", "storvsc-full");
				expect(owners.reduce((sum, owner) => sum + owner.standingBytes, 0)).toBe(found() - noise);
			}),
			{ seed: SEED + 2, numRuns: bySuite({ quick: 3, slow: 8 }), endOnFailure: true },
		);
	});

	it("starts with the first byte, and how it came there", async () => {
		const work = workloadOf([write(4096), read(4096)]);
		const breach = await audited(work, "rfc-v3", "storvsc-full");
		expect(breach.first).toMatchObject({ what: "breach" });
		expect(breach.first?.history.steps.map(({ role }) => role)).toEqual(["write", "map", "copy"]);
		const reading = await audited(workloadOf([read(4096)]), "rfc-v3", "storvsc-full");
		expect(reading.first?.history.steps.map(({ role }) => role)).toEqual(["map", "write", "unmap"]);
		const [map] = reading.first?.history.steps ?? [];
		expect(map).toMatchObject({ bouncedTo: expect.any(Number), event: { timeNs: 1000 } });
		const exposure = await audited(work, "rfc-v3", "storvsc-plain");
		expect(exposure.first).toMatchObject({ what: "exposure", gpa: breach.first?.gpa });
	});
});

/** Follows the slots of an accepted device's drive, by the addresses that it is given: labels byte by byte, and when each 2 KiB was freed. */
async function residueOf(work: Workload, policy: string, scenario: string) {
	const on = await stageOf(work, policy, scenario, SMALL, "engine");
	const { device } = on.stage;
	/** Whether bytes are of private origin, of slots and of buffers, by 2 KiB. */
	const labels = new Map<number, Uint8Array>();
	const freedNs = new Map<number, number>();
	const sum = { ended: 0, byteNs: 0, longestNs: 0 };
	let now = 0;
	const at = (gpa: number): Uint8Array => {
		expect(gpa % 2048).toBe(0);
		const known = labels.get(gpa) ?? new Uint8Array(2048);
		labels.set(gpa, known);
		return known;
	};
	const privateBytes = (gpa: number) => at(gpa).reduce((total, label) => total + label, 0);
	/** Where the buffers of live mappings are, by address. */
	const buffers = new Map<number, number>();
	const [map, unmap] = [device.tryMap.bind(device), device.unmap.bind(device)];
	device.tryMap = (gpa, bytes, dir, cpu, attrs) => {
		const dma = map(gpa, bytes, dir, cpu, attrs);
		for (let offset = 0; offset < bytes; offset += 2048) {
			const [slot, length] = [dma + offset, Math.min(2048, bytes - offset)];
			const since = freedNs.get(slot);
			const stayed = privateBytes(slot);
			if (since !== undefined && stayed > 0) {
				sum.ended += stayed;
				sum.byteNs += stayed * (now - since);
				sum.longestNs = Math.max(sum.longestNs, now - since);
			}
			freedNs.delete(slot);
			if (dir === Direction.ToDevice) at(gpa + offset).fill(1, 0, length);
			at(slot).set(at(gpa + offset).subarray(0, length));
		}
		buffers.set(dma, gpa);
		return dma;
	};
	device.unmap = (dma, bytes, dir, attrs) => {
		unmap(dma, bytes, dir, attrs);
		for (let slot: number = dma; slot < dma + bytes; slot += 2048) freedNs.set(slot, now);
	};
	const write = device.write.bind(device);
	device.write = (dma, data) => {
		write(dma, data);
		for (let offset = 0; offset < data.length; offset += 2048) {
			const length = Math.min(2048, data.length - offset);
			at(dma + offset).fill(1, 0, length);
			const gpa = buffers.get(dma) as number;
			at(gpa + offset).fill(1, 0, length);
		}
	};
	new Drive(on, {
		onEvent: (_, ns) => {
			now = Math.max(now, ns);
		},
	}).run();
	const free = [...freedNs].map(([slot, ns]) => ({ bytes: privateBytes(slot), ns })).filter(({ bytes }) => bytes > 0);
	return {
		residue: {
			residueBytes: free.reduce((total, { bytes }) => total + bytes, 0),
			oldestResidueNs: Math.max(0, ...free.map(({ ns }) => now - ns)),
			endedResidueBytes: sum.ended,
			longestResidueNs: sum.longestNs,
		},
		meanNs: sum.ended === 0 ? 0 : sum.byteNs / sum.ended,
	};
}

describe("cost and exposure", () => {
	const pgbench = shortPgbench(1200);
	const options = { ...SMALL, ramBytes: 64 * 2 ** 20, poolBytes: 4 * 2 ** 20 };

	it("are of the same mappings: both builds plan the same, map the same and are given the same addresses", async () => {
		const work = await pgbench;
		for (const [policy, scenario] of [
			["force-bounce", "storvsc-full"],
			["linux-7.3+pre-shared", "legacy-virtio"],
			["private-pool", "tdisp-nvme-32"],
		] as const) {
			const addresses: string[] = [];
			const plans: unknown[] = [];
			for (const build of ["engine", "engine.audit"]) {
				const on = await stageOf(work, policy, scenario, options, build);
				const list: number[] = [];
				const { device } = on.stage;
				const map = device.tryMap.bind(device);
				device.tryMap = (...args) => {
					const dma = map(...args);
					list.push(dma);
					return dma;
				};
				new Drive(on).run();
				addresses.push(list.join());
				plans.push(on.plan);
			}
			expect(addresses[0]).toBe(addresses[1]);
			expect(plans[0]).toEqual(plans[1]);
		}
	});

	it("of a policy that bounces everything are those of the mode that does, and direct likewise", async () => {
		const work = await pgbench;
		const same = ({
			directMaps,
			bouncedMaps,
			commands,
			bytesCopiedIn,
			bytesCopiedBack,
			failures,
			wrongBytes,
		}: RunResult) => ({
			directMaps,
			bouncedMaps,
			commands,
			bytesCopiedIn,
			bytesCopiedBack,
			failures,
			wrongBytes,
		});
		// a pool that is too small, so that refusals are compared as well
		for (const poolBytes of [4 * 2 ** 20, 512 * 1024]) {
			const small = { ...options, poolBytes };
			for (const [mode, policy] of [
				["bounce", "force-bounce"],
				["direct", "cc-accepted-bus"],
			] as const) {
				const run = { ...small, repeat: 1 };
				const old = (await compareWorkload(work, { modes: [mode], device: "storvsc", ...run })).results[0];
				const [answer] = (await comparePolicies(work, { policies: [policy], scenario: "storvsc-full", ...run }))
					.results;
				const cost = answer?.cost;
				if (old === undefined || cost == null) throw new Error("nothing was run");
				expect(same(cost)).toEqual(same(old));
				if (mode === "bounce") {
					expect(cost.pool?.hiwaterSlots).toBe(old.pool?.hiwaterSlots);
					const report = await audited(work, policy, "storvsc-full", small);
					expect(report.drive?.refused).toEqual(old.failures);
					expect(report.bouncedMaps).toBe(old.bouncedMaps);
				}
			}
		}
	});
});
