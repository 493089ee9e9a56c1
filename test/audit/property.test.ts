import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { GuestDevice, GuestDeviceOptions } from "../../src/coco/guest/device.ts";
import { PLATFORMS } from "../../src/coco/platform/platform.ts";
import { PageState } from "../../src/memory/ram.ts";
import { AuditHistory } from "../helpers/audit-history.ts";
import { Twins } from "../helpers/audit-twins.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";
import { KERNEL_NAMES, NAMES, OFFER, TDISP, trustNow } from "../helpers/trust-guest.ts";

printSeed("audit-property");

const STEPS = [
	"alloc",
	"free",
	"cpu",
	"cpu",
	"pen",
	"others",
	"fill",
	"map",
	"map",
	"map",
	"crowd",
	"sync",
	"sync",
	"unmap",
	"unmap",
	"dma",
	"dma",
	"convert",
	"convert",
	"coherent",
	"ring",
	"tick",
	"trust",
] as const;
/** Steps between two looks, which spell labels out that stood for 2 KiB: often, seldom, or at the end alone. */
const STRIDES = [4, 12, 1000];

const shape = fc.record({
	platform: fc.constantFrom(...NAMES),
	kernel: fc.constantFrom(...KERNEL_NAMES),
	embedded: fc.boolean(),
	force: fc.boolean(),
	atomicPools: fc.boolean(),
	zeroOnFree: fc.oneof({ weight: 3, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
	growthSlabs: fc.constantFrom(0, 256, 512),
	seed: fc.integer(),
	steps: fc.array(fc.constantFrom(...STEPS), { minLength: 30, maxLength: 120, size: "max" }),
});
type Shape = typeof shape extends fc.Arbitrary<infer T> ? T : never;

/** Lives one history in both guests and looks at every byte of both. */
async function live(of: Shape, met: Map<string, number>, mutated = false): Promise<void> {
	const { platform, kernel, embedded, force, atomicPools, zeroOnFree, growthSlabs, seed, steps } = of;
	const random = new Random(seed);
	const { hiddenPages, hostRead } = PLATFORMS[platform];
	const twins = await Twins.create(
		{
			platform,
			kernel,
			atomicPools,
			zeroOnFree,
			growthSlabs,
			seed,
			swiotlb: force ? "128,1,force" : "128,1",
			pools: [
				{ kind: "restricted", size: "256K", zeroOnFree },
				...(hostRead === "plain" ? [] : [{ kind: "private", size: "256K" } as const]),
				{ kind: "bus", size: "256K", hidden: hiddenPages },
			],
		},
		embedded,
	);
	if (mutated) twins.mutate();
	const add = (options: (side: 0 | 1) => GuestDeviceOptions) =>
		([0, 1] as const).map((side) => twins.guests[side].addDevice(options(side))) as [GuestDevice, GuestDevice];
	const pools = (kind: string) => (side: 0 | 1) => ({
		pools: twins.guests[side].pools.filter((one) => one.kind === kind),
	});
	const mask = { dmaMask: 2n ** 32n - 1n };
	const devices = [
		add(() => ({ tdisp: TDISP })),
		add(() => ({ tdisp: TDISP, coherent: false, minAlignMask: 0xfff })),
		add(() => ({ tdisp: TDISP, ...mask })),
		add(() => ({ tdisp: TDISP, encoded: false, dmaMask: 2n ** 21n - 1n })),
		add(() => ({ offer: OFFER, busLimit: 2n ** 52n - 1n })),
		add(() => ({ minAlignMask: 0x7ff })),
		add((side) => ({ ...pools("restricted")(side), ...mask })),
		add((side) => ({ ...pools("bus")(side), offer: OFFER, minAlignMask: 0x1ff })),
		add((side) => ({ ...pools("bus")(side) })),
	];
	for (const pair of devices) if (random.oneIn(2)) for (const device of pair) trustNow(device);
	const history = new AuditHistory(twins, devices, random, met);
	for (let i = 0; i < 4; i++) history.alloc();
	const stride = random.pick(STRIDES);
	for (const [i, step] of steps.entries()) {
		history[step]();
		if (i % stride === stride - 1) twins.look(random, false);
	}
	twins.look(random, true);
	const count = (name: string, by: number) => met.set(name, (met.get(name) ?? 0) + by);
	count("bytes exposed", twins.exposed);
	for (const [name, state] of Object.entries(PageState))
		count(`secrets on ${name} pages`, twins.secretsOn.get(state) ?? 0);
}

/** Histories, and the part of the hard cases that they must meet. */
const { done, reached } = bySuite({ quick: { done: 16, reached: 1 / 16 }, slow: { done: 120, reached: 1 } });

describe("what the labels of the audit say", () => {
	const met = new Map<string, number>();

	it("is what the host can learn, byte for byte, over random histories of twins that differ in their secrets", async () => {
		await fc.assert(
			fc.asyncProperty(shape, (of) => live(of, met)),
			{ seed: SEED, numRuns: Number(process.env.AUDIT_RUNS ?? done), endOnFailure: true },
		);
	});

	it("came to every hard case", () => {
		const rare = Object.entries(FLOORS).filter(
			([name, floor]) => !((met.get(name) ?? 0) >= Math.floor(reached * floor)),
		);
		expect(rare, JSON.stringify([...met])).toEqual([]);
	});

	it("is refuted when copies leave labels behind: the proof can fail", async () => {
		const broken = await fc.check(
			fc.asyncProperty(shape, (of) => live(of, new Map(), true)),
			{ seed: SEED, numRuns: 10, endOnFailure: true },
		);
		expect(broken.failed).toBe(true);
		expect(String(broken.errorInstance)).toMatch(/its label does not say so|is labelled/);
	});
});

/** How often each hard case has to have come up. */
const FLOORS: Record<string, number> = {
	bounced: 3000,
	direct: 600,
	"refused after the copy": 400,
	"mapped across stretches": 20,
	"synced a part": 80,
	"a device wrote with T=0": 60,
	"a device wrote with T=1": 60,
	converted: 80,
	"scrambled to shared": 15,
	"zeroed to shared": 2,
	"kept to shared": 8,
	"coherent on shared pages": 30,
	"coherent on other pages": 20,
	POOL_STATE: 50,
	BLOCKED_PAGES: 40,
	grew: 1,
	"transient pool freed": 1,
	"ring: send": 30,
	"ring: gather": 30,
	"ring: ranges": 30,
	"ring: burst": 30,
	"ring: place": 30,
	"ring: write": 30,
	"bytes exposed": 1_000_000,
	"secrets on Private pages": 5_000_000,
	"secrets on Hidden pages": 400_000,
	"secrets on Leaked pages": 40_000,
};
