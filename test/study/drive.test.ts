import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine.ts";
import { auditWorkload } from "../../src/study/audit.ts";
import { compareWorkload } from "../../src/study/compare.ts";
import type { RunResult } from "../../src/study/run.ts";
import { Direction } from "../../src/types.ts";
import { SMALL, type Step, workloadOf } from "../helpers/workload.ts";

const { ToDevice } = Direction;
const step = (read: boolean, depth = 0): Step => ({ read, bytes: 4096, depth, ns: 1000 });

/** Bytes that do not arrive of one request, on TDX, where a conversion leaves nothing of a page's contents. */
async function wrongBytes(policy: string, read: boolean) {
	const { drive } = await auditWorkload(workloadOf([step(read)]), {
		policy,
		scenario: "tdisp-nvme",
		platform: "tdx",
		...SMALL,
	});
	return [drive?.wrongBytes, drive?.undelivered.map(({ cause, count }) => [cause.what, count])];
}

describe("a drive", () => {
	it("counts the bytes of a write that the device does not get as they were sent", async () => {
		const [bytes, undelivered] = await wrongBytes("linux-7.3+share-in-place", false);
		expect(undelivered).toEqual([["device-gets", 1]]);
		// noise has a byte in common with what was sent now and then
		expect(bytes).toBeGreaterThan(4000);
		expect(bytes).toBeLessThanOrEqual(4096);
	});

	it("counts the bytes of a read that the driver does not get as the device wrote them", async () => {
		expect(await wrongBytes("linux-7.3+share-in-place", true)).toEqual([4096, [["write-lost", 1]]]);
	});

	it.each(["force-bounce", "cc-accepted"])("counts none where all arrives: %s", async (policy) => {
		for (const read of [false, true]) expect(await wrongBytes(policy, read)).toEqual([0, []]);
	});
});

describe("a mode", () => {
	it.each([
		["bounce", {}],
		["direct", { trusted: true }],
	] as const)("does what a bare Engine does with the same mappings: %s", async (mode, trust) => {
		const depths = [1, 2, 3, 0, 0];
		const options = { ...SMALL, contiguity: 1, repeat: 1, modes: [mode] };
		const { results } = await compareWorkload(workloadOf(depths.map((depth) => step(false, depth))), options);
		const { directMaps, bouncedMaps, bytesCopiedIn, bytesCopiedBack, pool } = results[0] as RunResult;
		const engine = await Engine.create({ ram: "16M", swiotlb: "2048,1" });
		const device = engine.addDevice({ minAlignMask: 0xfff, segBoundaryMask: 0xffffffffn, ...trust });
		const live: number[] = [];
		for (const [i, depth] of depths.entries()) {
			while (live.length > depth) device.unmap(live.shift() as number, 4096, ToDevice);
			live.push(device.map(i * 4096, 4096, ToDevice));
		}
		for (const dma of live) device.unmap(dma, 4096, ToDevice);
		const { counters } = device;
		expect({ directMaps, bouncedMaps, bytesCopiedIn, bytesCopiedBack }).toEqual({
			directMaps: counters.directMaps,
			bouncedMaps: counters.bouncedMaps,
			bytesCopiedIn: counters.bytesIn,
			bytesCopiedBack: counters.bytesBack,
		});
		if (mode === "bounce") expect(pool?.hiwaterSlots).toBe(engine.pools[0]?.hiwater);
	});
});
