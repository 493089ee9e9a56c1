import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { watched } from "../helpers/leaks.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { KERNEL_NAMES, NAMES, OFFER, TDISP } from "../helpers/trust-guest.ts";
import { History } from "../helpers/trust-history.ts";

const STEPS = [
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
	"coherent",
	"tick",
] as const;
/** What the engine and the guest keep whatever drivers, devices and the host do. */
const KEPT = [4, 8, 9, 10, 11, 15, 16, 22, 23, 24, 25, 26, 27];
printSeed("leaks-any");

describe("any history of a guest, drivers and host at their worst", () => {
	it("breaks none of the rules that the engine itself keeps, and 13 after the 7.3 merge", async () => {
		const met = new Map<string, number>();
		const found = new Set<number>();
		const shape = fc.record({
			platform: fc.constantFrom(...NAMES),
			kernel: fc.constantFrom(...KERNEL_NAMES),
			seed: fc.integer(),
			steps: fc.array(fc.constantFrom(...STEPS), { minLength: 40, maxLength: 200, size: "max" }),
		});
		await fc.assert(
			fc.asyncProperty(shape, async ({ platform, kernel, seed, steps }) => {
				const random = new Random(seed);
				const { guest, monitor } = await watched({
					platform,
					kernel,
					seed,
					zeroOnFree: random.oneIn(2),
					swiotlb: "128,1",
					growthSlabs: random.oneIn(2) ? 1024 : 0,
					pools: [
						{ kind: "restricted", size: "256K" },
						...(platform === "none" ? [] : [{ kind: "private", size: "256K" } as const]),
					],
				});
				const restricted = guest.pools.filter(({ kind }) => kind === "restricted");
				const devices = [
					guest.addDevice({ tdisp: TDISP, coherent: false, minAlignMask: 0xfff }),
					guest.addDevice({ tdisp: TDISP, dmaMask: BigInt(random.pick([2 ** 23, 2 ** 32, 2 ** 47])) - 1n }),
					guest.addDevice({ offer: OFFER }),
					guest.addDevice({ pools: restricted }),
				];
				const history = new History(guest, devices, random, met);
				for (let i = 0; i < 4; i++) history.alloc();
				for (const step of steps) {
					history[step]();
					if (random.oneIn(3)) monitor.look();
				}
				history.end();
				monitor.end();
				const late = kernel === "linux-7.3" ? [13] : [];
				for (const { property } of monitor.findings) found.add(property);
				expect(monitor.findings.filter(({ property }) => [...KEPT, ...late].includes(property))).toEqual([]);
				expect(monitor.notes).toEqual([]);
			}),
			{ seed: SEED, numRuns: 60, endOnFailure: true },
		);
		// the others did come up
		expect([1, 3, 5, 12, 14, 17, 19, 28].filter((property) => !found.has(property))).toEqual([]);
	});
});
