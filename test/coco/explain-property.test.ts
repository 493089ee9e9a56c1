import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { GuestDeviceOptions } from "../../src/coco/guest/device.ts";
import { explain, exposes, type Readers } from "../../src/coco/guest/explain.ts";
import type { Guest } from "../../src/coco/guest/guest.ts";
import { PLATFORMS } from "../../src/coco/platform/platform.ts";
import { PageState } from "../../src/memory/ram.ts";
import { Attr, Direction } from "../../src/types.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";
import { acceptedDevice, KERNEL_NAMES, MIB, NAMES, OFFER, smallGuest, takePages } from "../helpers/trust-guest.ts";
import { deviceSees, formOf, hostSees, outcomeOf, statesOf } from "../helpers/trust-model.ts";

const { ToDevice, FromDevice, Bidirectional } = Direction;
const BUFFER_PAGES = 96;
printSeed("explain, property");

interface Stage {
	readonly guest: Guest;
	readonly buffer: number;
}

/** The rows of readers that an outcome has. */
const ROWS: Record<string, string[]> = {
	direct: ["before buffer", "mapped buffer", "after buffer"],
	bounce: ["before buffer", "mapped buffer", "mapped slots", "after buffer", "after slots"],
	copied: ["before buffer", "after buffer", "after slots"],
	refused: ["before buffer", "after buffer"],
};
/** What has to come up at least 30 times, and at least once. */
const RUNS = bySuite({ quick: 250, slow: 1000 });
/** In three cases of a hundred at least. */
const OFTEN = [
	"direct",
	"bounce",
	"copied",
	"refused",
	"BOUNCE_REFUSED",
	"mixed",
	"hidden",
	"exposed",
	"accepted, bounced",
];
const ONCE = [
	"POOL_STATE",
	"NEEDS_SHARED",
	"NOT_COHERENT",
	"OVER_MAX_MAPPING",
	"POOL_FULL",
	"wrong form",
	"own private pool",
	"plain addresses",
];

const stages = new Map<string, Promise<Stage>>();

/** One guest for each platform, kernel and command line; cases share it. */
function stageOf(platform: (typeof NAMES)[number], kernel: (typeof KERNEL_NAMES)[number], swiotlb: string | null) {
	const key = `${platform} ${kernel} ${swiotlb}`;
	const made = stages.get(key) ?? open();
	stages.set(key, made);
	return made;
	async function open(): Promise<Stage> {
		const reserved = [
			{ kind: "restricted", size: "256K" },
			{ kind: "bus", size: "1M", areas: 2 },
			...(PLATFORMS[platform].hostRead === "plain" ? [] : [{ kind: "private", size: "512K" } as const]),
		] as const;
		const guest = await smallGuest({ platform, kernel, swiotlb, pools: reserved, maxDevices: 256 });
		return { guest, buffer: takePages(guest, BUFFER_PAGES) };
	}
}

/** Gives a stretch of the buffer another state, where the platform lets it. */
function convertSome({ guest, buffer }: Stage, random: Random): void {
	const page = random.below(BUFFER_PAGES);
	const first = buffer + page * 4096;
	const pages = random.oneIn(2) ? 1 : Math.min(BUFFER_PAGES - page, random.between(2, 24));
	const to = random.pick([PageState.Private, PageState.Shared, PageState.Hidden]);
	if (guest.platform.hostRead === "plain" || (to === PageState.Hidden && !guest.platform.hiddenPages)) return;
	for (let i = 0; i < pages; i++)
		if (guest.engine.ram.pageState(first + i * 4096) !== to) guest.converter.convert(first + i * 4096, 4096, to);
}

/** A device of any kind: masks, trust, pools. */
function anyDevice({ guest }: Stage, random: Random) {
	const ofKind = (kind: string) => guest.pools.filter((pool) => pool.kind === kind);
	const pools = random.pick([
		undefined,
		undefined,
		ofKind("restricted"),
		ofKind("bus"),
		[...ofKind("private"), ...ofKind("bus")],
	]);
	const bits = random.pick([12, 22, 23, 24, 32, 46, 47, 48, 51, 52, 64, 64, 64, 64]);
	const options: GuestDeviceOptions = {
		dmaMask: 2n ** BigInt(bits) - 1n,
		busLimit: random.oneIn(6) ? BigInt(random.pick([0, 4 * MIB - 1, 2 ** 40])) : 0n,
		coherent: !random.oneIn(4),
		minAlignMask: random.pick([0, 0, 511, 4095]),
		...(pools === undefined ? {} : { pools }),
		...(random.oneIn(4) ? { encoded: false } : {}),
	};
	const trust = random.below(4);
	if (trust === 0) return acceptedDevice(guest, options);
	return guest.addDevice(trust === 1 ? { ...options, offer: OFFER } : options);
}

function sameBytes({ engine }: Guest, a: number, b: number, bytes: number): boolean {
	return Buffer.from(engine.ram.read(a, bytes)).equals(engine.ram.read(b, bytes));
}

const request = fc.record({
	platform: fc.constantFrom(...NAMES),
	kernel: fc.constantFrom(...KERNEL_NAMES),
	swiotlb: fc.constantFrom("512,1", "512,2", "512,1,force", "noforce"),
	seed: fc.integer(),
	offset: fc.oneof(fc.integer({ min: 0, max: 4095 }), fc.integer({ min: 0, max: 32 * 4096 })),
	bytes: fc.oneof(
		fc.integer({ min: 1, max: 130 }),
		fc.integer({ min: 1, max: 9000 }),
		fc.integer({ min: 1, max: 9000 }),
		fc.integer({ min: 259_000, max: 262_200 }),
	),
	dir: fc.constantFrom(ToDevice, FromDevice, Bidirectional),
	attrs: fc.constantFrom(
		0,
		0,
		0,
		Attr.CcShared,
		Attr.RequireCoherent,
		Attr.SkipCpuSync,
		Attr.CcShared | Attr.RequireCoherent,
	),
});

describe("explain", () => {
	it("says what the rules say, the engine does and each party sees, and leaves nothing behind", async () => {
		const met: Record<string, number> = {};
		const count = (name: string, yes = true) => {
			if (yes) met[name] = (met[name] ?? 0) + 1;
		};
		await fc.assert(
			fc.asyncProperty(request, async ({ platform: name, kernel, swiotlb, seed, offset, bytes, dir, attrs }) => {
				const stage = await stageOf(name, kernel, swiotlb);
				const { guest } = stage;
				const random = new Random(seed);
				convertSome(stage, random);
				const device = anyDevice(stage, random);
				const gpa = stage.buffer + offset;
				guest.engine.ram.write(gpa, random.bytes(bytes));
				const before = Buffer.from(guest.engine.ram.read(gpa, bytes));
				const wanted = { gpa, bytes, dir, attrs };
				const violations = guest.parties.violations.total;
				const explained = explain(guest, device, wanted);
				const { decision, status, dma, bounce, readers } = explained;
				const outcome = outcomeOf(guest, device, wanted, bounce?.tlb ?? 0);
				expect([decision, status]).toEqual([outcome.what === "copied" ? "bounce" : outcome.what, outcome.status]);
				const place = outcome.what === "direct" ? gpa : bounce?.tlb;
				expect(dma).toBe(status === null ? Number(BigInt(place as number) + outcome.bits) : null);
				if (outcome.what === "copied") expect(sameBytes(guest, bounce?.tlb as number, gpa, bytes)).toBe(true);
				if (bounce !== null) {
					const pool = guest.pools.find((one) => one.name === bounce.pool)?.pool;
					expect(Math.floor((bounce.tlb - (pool?.start as number)) / 2048)).toBe(bounce.firstSlot);
				}

				const states = statesOf(guest, gpa, bytes);
				const encoded = device.options.encoded ?? true;
				const form = formOf(guest.platform, encoded, outcome.bits);
				for (const row of readers) {
					const at = row.where === "buffer" ? states : statesOf(guest, bounce?.tlb as number, bytes);
					const given =
						outcome.what === "direct" ? row.when === "mapped" : outcome.what === "bounce" && row.where === "slots";
					expect({ ...row, pages: "" }).toEqual({
						when: row.when,
						where: row.where,
						pages: "",
						guest: "plain",
						paravisor: guest.platform.hiddenPages ? "plain" : null,
						host: hostSees(guest.platform, at),
						device: given ? deviceSees(guest.platform, at, device.t, form) : null,
					} satisfies Record<keyof Readers, unknown>);
				}
				expect(readers.map(({ when, where }) => `${when} ${where}`)).toEqual(ROWS[outcome.what]);

				expect(guest.parties.violations.total).toBe(violations);
				expect(device.holds()).toEqual({ mappings: 0, bounceSlots: 0, coherentBuffers: 0 });
				expect(guest.engine.pools.every(({ used }) => used === 0)).toBe(true);
				expect(before.equals(guest.engine.ram.read(gpa, bytes))).toBe(true);

				count(outcome.what);
				count(outcome.status ?? "mapped");
				count("mixed", new Set(states).size > 1);
				count("hidden", states.includes(PageState.Hidden));
				count("exposed", exposes(explained));
				count("accepted, bounced", device.accepted && outcome.what === "bounce");
				count(
					"wrong form",
					readers.some((row) => ["garbage", "fault"].includes(row.device ?? "")),
				);
				count("own private pool", bounce?.pool === "private");
				count("plain addresses", !encoded && guest.platform.dmaBit !== null && status === null);
			}),
			{ seed: SEED, numRuns: RUNS },
		);
		const rare = [
			...OFTEN.filter((name) => !((met[name] ?? 0) >= 0.03 * RUNS)),
			...ONCE.filter((name) => met[name] === undefined),
		];
		expect(rare, JSON.stringify(met)).toEqual([]);
	});
});
