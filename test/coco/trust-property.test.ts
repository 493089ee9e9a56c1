import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";
import { CONFIDENTIAL, KERNEL_NAMES, NAMES, OFFER, smallGuest, TDISP } from "../helpers/trust-guest.ts";
import { History } from "../helpers/trust-history.ts";

const STEPS = [
	"alloc",
	"alloc",
	"free",
	"convert",
	"map",
	"map",
	"fill",
	"unmap",
	"touch",
	"touch",
	"trust",
	"trust",
	"coherent",
	"tick",
] as const;
printSeed("trust");

const met = new Map<string, number>();

const shape = fc.record({
	platform: fc.constantFrom(...NAMES),
	kernel: fc.constantFrom(...KERNEL_NAMES),
	force: fc.boolean(),
	privatePool: fc.boolean(),
	atomicPools: fc.boolean(),
	zeroOnFree: fc.boolean(),
	seed: fc.integer(),
	steps: fc.array(fc.constantFrom(...STEPS), { minLength: 40, maxLength: 250, size: "max" }),
});

/** Histories, and the part of the hard cases that they must meet. */
const { done, reached } = bySuite({ quick: { done: 16, reached: 1 / 16 }, slow: { done: 120, reached: 1 } });

describe("any history of a guest", () => {
	it("keeps pages, pools and trust in order", async () => {
		await fc.assert(
			fc.asyncProperty(
				shape,
				async ({ platform, kernel, force, privatePool, atomicPools, zeroOnFree, seed, steps }) => {
					const random = new Random(seed);
					const guest = await smallGuest({
						platform,
						kernel,
						atomicPools,
						zeroOnFree,
						swiotlb: force ? "128,1,force" : "128,1",
						growthSlabs: random.oneIn(2) ? 1024 : 0,
						seed,
						pools: [
							{ kind: "restricted", size: "256K" },
							...(privatePool && CONFIDENTIAL.includes(platform) ? [{ kind: "private", size: "256K" } as const] : []),
						],
					});
					const restricted = guest.pools.filter(({ kind }) => kind === "restricted");
					const devices = [
						guest.addDevice({ tdisp: TDISP }),
						guest.addDevice({ tdisp: TDISP, coherent: false, minAlignMask: 0xfff }),
						guest.addDevice({ tdisp: TDISP, dmaMask: BigInt(random.pick([2 ** 23, 2 ** 32, 2 ** 47])) - 1n }),
						guest.addDevice({ offer: OFFER, busLimit: 2n ** 52n - 1n }),
						guest.addDevice({ pools: restricted }),
						guest.addDevice({ tdisp: TDISP, encoded: false }),
					];
					const history = new History(guest, devices, random, met);
					for (let i = 0; i < 4; i++) history.alloc();
					for (const step of steps) {
						history[step]();
						history.check();
					}
					history.end();
				},
			),
			{ seed: SEED, numRuns: done, endOnFailure: true },
		);
	});

	it("came to every hard case", () => {
		const rare = Object.entries(FLOORS).filter(
			([name, floor]) => !((met.get(name) ?? 0) >= Math.floor(reached * floor)),
		);
		expect(rare, JSON.stringify([...met])).toEqual([]);
	});
});

/** How often each hard case has to have come up. */
const FLOORS = {
	converted: 100,
	"looked into a transition": 100,
	"failed to become shared": 20,
	"failed to become private": 3,
	direct: 100,
	bounce: 100,
	BLOCKED_PAGES: 10,
	SLOTS_BEYOND_MASK: 10,
	POOL_STATE: 10,
	"forced, accepted: POOL_STATE": 3,
	"accepted device's data in a shared pool": 10,
	"bounced in a private pool": 3,
	BUSY: 20,
	"held across": 20,
	"judge ok": 3,
	"T=1": 100,
	"host stopped": 50,
	"device stopped": 20,
	"coherent private": 10,
	"coherent shared": 10,
	grew: 1,
	"transient pool freed": 1,
};
