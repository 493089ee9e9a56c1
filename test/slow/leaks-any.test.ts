import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PLATFORMS } from "../../src/coco/platform/platform.ts";
import type { PropertyName } from "../../src/leaks/properties.ts";
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
const KEPT: readonly PropertyName[] = [
	"from-device-starts-as-copy",
	"slot-has-one-owner",
	"lists-consistent",
	"alignment-kept",
	"address-within-mask",
	"t1-only-in-run",
	"leaked-never-reused",
	"force-never-redirects-accepted",
	"fallback-claims-nothing",
	"external-needs-ring",
	"write-beyond-mapping",
	"counters-return-to-zero",
	"paravisor-page-unmapped",
];
/** What else comes up in such histories. */
const MET: readonly PropertyName[] = [
	"private-stays-private",
	"residue-in-freed-slots",
	"initial-copy-shows-old-contents",
	"encoding-equals-state",
	"nothing-held-across-trust-change",
	"no-touch-in-transition",
	"sync-ordering",
	"accepted-coherent-private",
];
printSeed("leaks-any");

describe("any history of a guest, drivers and host at their worst", () => {
	it("breaks none of the rules that the engine itself keeps, and pool-state-equals-need after the 7.3 merge", async () => {
		const met = new Map<string, number>();
		const found = new Set<PropertyName>();
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
						...(PLATFORMS[platform].hostRead === "plain" ? [] : [{ kind: "private", size: "256K" } as const]),
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
				const late: readonly PropertyName[] = kernel === "linux-7.3" ? ["pool-state-equals-need"] : [];
				for (const { property } of monitor.findings) found.add(property);
				expect(monitor.findings.filter(({ property }) => [...KEPT, ...late].includes(property))).toEqual([]);
				expect(monitor.notes).toEqual([]);
			}),
			{ seed: SEED, numRuns: 60, endOnFailure: true },
		);
		// the others did come up
		expect(MET.filter((property) => !found.has(property))).toEqual([]);
	});
});
