import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { readTraceFile } from "../../src/node/input.ts";
import { comparePolicies, compareWorkload } from "../../src/study/compare.ts";
import type { DriveResult } from "../../src/study/drive.ts";
import type { FirstRefusal } from "../../src/study/refusal.ts";
import type { RunResult } from "../../src/study/run.ts";
import { subjectOf } from "../../src/study/subject.ts";
import type { Workload } from "../../src/workload/workload.ts";
import { runSubject } from "../helpers/run.ts";
import { SMALL, type Step, workloadOf } from "../helpers/workload.ts";

/** 400 reads of 128 KiB, 64 of them in flight. */
const BURST = fileURLToPath(new URL("../golden/block/read-burst.ftrace.txt.gz", import.meta.url));
const KIB = 1024;

const write = (bytes: number, depth = 0): Step => ({ read: false, bytes, depth, ns: 1000 });

async function resultOf(workload: Workload, policy: string, scenario: string, options = SMALL): Promise<RunResult> {
	const result = await runSubject(workload, await subjectOf({ policy, scenario }), { ...options, repeat: 1 });
	if ("what" in result) throw new Error(result.what);
	return result;
}

describe("figures where commands were refused", () => {
	it("are over the bytes and requests that were served: a full pool makes bouncing no faster than direct DMA", async () => {
		const burst = await readTraceFile(BURST);
		const { results } = await compareWorkload(burst, { ramBytes: 2 ** 29, poolBytes: 256 * KIB, repeat: 2 });
		const direct = results[0] as RunResult;
		const bounce = results[1] as RunResult;
		expect(direct).toMatchObject({
			failures: {},
			firstRefused: null,
			served: { requests: 400, bytes: 400 * 128 * KIB },
		});
		const refused = bounce.failures.POOL_FULL as number;
		expect(refused).toBeGreaterThan(300);
		const served = 400 - refused;
		expect(bounce.served).toEqual({ requests: served, commands: served, bytes: served * 128 * KIB });
		expect(bounce.bytesCopiedBack).toBe(served * 128 * KIB);
		expect(bounce.gigabytesPerSecond).toBeCloseTo((served * 128 * KIB) / bounce.totalNs, 9);
		expect(bounce.dmaNsPerKiB).toBeCloseTo(bounce.dmaNs / (served * 128), 9);
		expect(bounce.dmaNsPerRequest).toBeCloseTo(bounce.dmaNs / served, 9);
		expect(bounce.sizeClasses).toMatchObject([{ bytes: 128 * KIB, requests: served }]);
		// each request that was served costs more than a direct one, whatever was refused beside it
		expect(bounce.dmaNsPerRequest).toBeGreaterThan(direct.dmaNsPerRequest as number);
		expect(results.map(({ againstFirst }) => againstFirst)).toEqual([null, null]);
	});

	it.each(["nvme", "virtio-blk", "ahci"])(
		"tell the first that was refused, as the pool was then, and the pool that serves all: %s",
		async (device) => {
			const burst = await readTraceFile(BURST);
			const options = { device, modes: ["bounce"] as const, ramBytes: 2 ** 28, areas: 1, repeat: 1 };
			const [bounce] = (await compareWorkload(burst, { ...options, poolBytes: 512 * KIB })).results;
			const { firstRefused, servingPool, served } = bounce as RunResult;
			expect(firstRefused).toMatchObject({ bytes: 128 * KIB, status: "POOL_FULL", pool: { slots: 256 } });
			// the first three take 64 slots each, and more where they start in the middle of one
			expect(firstRefused?.request).toBeGreaterThan(3);
			expect(firstRefused?.line).toBe(firstRefused?.request);
			const { wantedSlots = 0, usedSlots = 0, longestFreeRunSlots = 128 } = firstRefused?.pool ?? {};
			expect(wantedSlots).toBeGreaterThan(longestFreeRunSlots);
			expect(usedSlots).toBeGreaterThanOrEqual(256 - 64 - 2);
			expect(served.requests).toBeLessThan(400);
			const poolBytes = servingPool?.bytes as number;
			expect(Math.log2(poolBytes) % 1).toBe(0);
			const tried = async (bytes: number) => {
				const [result] = (await compareWorkload(burst, { ...options, poolBytes: bytes })).results;
				return result?.firstRefused;
			};
			expect(await tried(poolBytes)).toBeNull();
			expect(await tried(poolBytes / 2)).not.toBeNull();
		},
	);

	it("say that no pool serves all, up to the largest that fits into the guest, or that none larger fits", async () => {
		// 20 requests of 252 KiB in flight; 24 MiB hold 6 of buffers, 16 of the kernel's own, 1 of drivers' structures, 1 of a pool
		const work = workloadOf(Array.from({ length: 20 }, () => write(252 * KIB, 20)));
		const guest = { ...SMALL, ramBytes: 24 * 2 ** 20, contiguity: 63 };
		const half = await resultOf(work, "force-bounce", "tdisp-nvme", { ...guest, poolBytes: 512 * KIB });
		expect(half.firstRefused).toMatchObject({ status: "POOL_FULL", line: null });
		expect(half.servingPool).toEqual({ bytes: null, triedBytes: 2 ** 20 });
		const all = await resultOf(work, "force-bounce", "tdisp-nvme", { ...guest, poolBytes: 2 ** 20 });
		expect(all.servingPool).toEqual({ bytes: null, triedBytes: null });
	});

	it("are of the same refusals in the audit, which drives the commands from TypeScript, and under every policy", async () => {
		const work = workloadOf([write(64 * KIB, 9), ...Array.from({ length: 9 }, () => write(252 * KIB, 9))]);
		const options = { ...SMALL, poolBytes: 512 * KIB, contiguity: 1 };
		const inside = await resultOf(work, "force-bounce", "legacy-virtio", options);
		const { results } = await comparePolicies(work, {
			policies: ["force-bounce", "cc-accepted-bus"],
			scenario: "legacy-virtio",
			...options,
			repeat: 1,
		});
		for (const { cost, againstFirst, exposure } of results) {
			expect(cost).toMatchObject({ served: inside.served, firstRefused: inside.firstRefused });
			// the loop sees why from the command's end, the drive at the mapping
			const { why, ...first } = (exposure.drive as DriveResult).firstRefused as FirstRefusal;
			expect(inside.firstRefused).toMatchObject(first);
			expect(why).toMatchObject({ status: "POOL_FULL", message: { class: "FULL" } });
			expect(why?.broken.at(-1)?.rule).toBe("free-run");
			expect(againstFirst).toBeNull();
		}
	});

	it("are none where nothing was served", async () => {
		const work = workloadOf([write(4096), write(4096)]);
		const result = await resultOf(work, "cc-accepted+strict+force", "tdisp-nvme");
		expect(result).toMatchObject({
			served: { requests: 0, commands: 0, bytes: 0 },
			firstRefused: { request: 1, line: null, bytes: 4096, pool: null },
			servingPool: { bytes: null },
			dmaNsPerRequest: null,
			dmaNsPerKiB: null,
			gigabytesPerSecond: null,
			latency: null,
			sizeClasses: [],
		});
		expect(Object.values(result.failures)).toEqual([2]);
	});
});

describe("lost completions", () => {
	it("are kept out of the high-water mark, which stands beside that of holding them", async () => {
		const live = { ...workloadOf([write(32 * KIB, 0), write(32 * KIB, 0), write(4096, 0)]) };
		const heldEvents = Uint32Array.of(0, 2, 4, 5, 1, 3);
		const { pool } = await resultOf({ ...live, heldEvents }, "force-bounce", "tdisp-nvme");
		// 16 slots and one more where a run does not start at a slot's begin
		expect(pool?.hiwaterSlots).toBeLessThanOrEqual(18);
		expect(pool?.heldHiwaterSlots).toBeGreaterThanOrEqual(34);
		const { pool: without } = await resultOf(live, "force-bounce", "tdisp-nvme");
		expect(without?.heldHiwaterSlots).toBeNull();
	});
});
