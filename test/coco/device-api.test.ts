import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GuestDevice, type GuestDeviceOptions } from "../../src/coco/guest/device.ts";
import type { Guest } from "../../src/coco/guest/guest.ts";
import { KernelCrash, type Policy } from "../../src/coco/rules/policy.ts";
import { DmaApi } from "../../src/dma/api.ts";
import { Device } from "../../src/dma/device.ts";
import { PageState } from "../../src/memory/ram.ts";
import { DmaError, statusName } from "../../src/status.ts";
import { Attr, Direction, type DmaAddr, type Gpa } from "../../src/types.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { acceptedDevice, KERNEL_NAMES, MIB, NAMES, OFFER, smallGuest, takePages } from "../helpers/trust-guest.ts";

const { ToDevice, FromDevice, Bidirectional } = Direction;
const PAGE = 4096;
printSeed("device-api");

function policy(fields: Partial<Policy>): Policy {
	return { name: "mine", title: "a test's", source: "a test", kernel: "linux-7.3", acceptance: "any", ...fields };
}

/** A guest whose devices share in place what would bounce. */
function sharingGuest(): Promise<Guest> {
	const mechanism = { accepted: "share-in-place", others: "share-in-place" } as const;
	return smallGuest({ platform: "snp", policy: policy({ mechanism }) });
}

function states({ engine }: Guest, gpa: Gpa, pages: number): string {
	return Array.from({ length: pages }, (_, i) => "SPHTL"[engine.ram.pageState(gpa + i * PAGE)]).join("");
}

/** The status of a call that throws. */
function refusal(call: () => unknown): string {
	try {
		call();
	} catch (error) {
		return error instanceof DmaError ? error.status : String(error);
	}
	return "ok";
}

describe("a guest's device", () => {
	it("has every method of the engine's, but for what gives that one its record", () => {
		const methods = [DmaApi, Device].flatMap(({ prototype }) => Object.getOwnPropertyNames(prototype));
		expect(methods).toContain("tryUnmapSg");
		expect(methods.filter((name) => !(name in GuestDevice.prototype))).toEqual(["configure"]);
	});

	it("answers a status in the try forms and throws the same by its name in the others", async () => {
		const guest = await smallGuest({ platform: "snp", swiotlb: "512,1" });
		const device = guest.addDevice({ name: "nvme0" });
		const gpa = takePages(guest, 1);
		const dma = device.map(gpa, 100, Bidirectional);
		expect(statusName(device.tryUnmap(dma, 99, Bidirectional))).toBe("MISMATCH");
		expect(statusName(device.trySyncForCpu(dma + 4096, 8, ToDevice))).toBe("NOT_MAPPED");
		expect(statusName(device.trySyncForDevice(dma, 8, 7 as Direction))).toBe("BAD_DIRECTION");
		expect(statusName(device.tryMapSg([], [], ToDevice))).toBe("BAD_SIZE");
		expect(statusName(device.tryUnmapSg([], ToDevice))).toBe("BAD_SIZE");
		expect(() => device.unmap(dma, 99, Bidirectional)).toThrow(
			/^unmap\(0x[0-9a-f]+, 99 bytes, BIDIRECTIONAL\) on nvme0: /,
		);
		expect(() => device.syncForCpu(dma + 4096, 8, ToDevice)).toThrow(/ on nvme0: NOT_MAPPED/);
		expect(() => device.syncForDevice(dma, 0, ToDevice)).toThrow(/ on nvme0: BAD_SIZE/);
		expect(() => device.mapSg([], ToDevice)).toThrow(/^a scatter-gather list has 1 to \d+ segments, not 0$/);
		expect(() => device.unmapSg([], ToDevice)).toThrow(RangeError);
		const list = [
			{ gpa, bytes: 8 },
			{ gpa: 2 ** 40, bytes: 8 },
		];
		expect(() => device.mapSg(list, ToDevice)).toThrow(/^mapSg\(2 segments, TO_DEVICE\) on nvme0: OUTSIDE_RAM/);
		expect(() => device.unmapSg([{ dma, bytes: 7 }], Bidirectional)).toThrow(
			/^unmapSg\(1 segments, BIDIRECTIONAL\) on nvme0: MISMATCH/,
		);
		expect(device.tryUnmap(dma, 100, Bidirectional)).toBe(100);
		expect(device.holds()).toEqual({ mappings: 0, bounceSlots: 0, coherentBuffers: 0 });
	});

	it("syncs what it bounced, to the device and back", async () => {
		const guest = await smallGuest({ platform: "tdx" });
		const device = guest.addDevice();
		const gpa = takePages(guest, 1);
		const dma = device.map(gpa, 64, Bidirectional);
		guest.engine.ram.fill(gpa, 64, 5);
		expect(device.syncForDevice(dma, 64, Bidirectional)).toBe(64);
		expect(device.read(dma, 1)[0]).toBe(5);
		device.write(dma, Uint8Array.of(6));
		expect(device.trySyncForCpu(dma, 1, FromDevice)).toBe(1);
		expect([...guest.engine.ram.read(gpa, 2)]).toEqual([6, 5]);
		device.resetCounters();
		device.unmap(dma, 64, Bidirectional);
		expect(device.counters).toMatchObject({ bouncedMaps: 0, bytesIn: 0, bytesBack: 64 });
	});

	it("is promised by its record how much it may map at once", async () => {
		const guest = await smallGuest({ platform: "snp" });
		expect(guest.addDevice({ minAlignMask: 4095 }).maxMappingBytes(8 * MIB - 1)).toBe(256 * 1024 - 4096);
		const sharing = await sharingGuest();
		// nothing bounces, so that slots limit nothing
		expect(sharing.addDevice().maxMappingBytes(8 * MIB - 1)).toBe(Number.POSITIVE_INFINITY);
	});
});

describe("a scatter-gather list of a guest's device", () => {
	it("is shared in place as a whole, or not at all", async () => {
		const guest = await sharingGuest();
		const device = guest.addDevice();
		const gpa = guest.pages.alloc(4);
		const good = [
			{ gpa: gpa + 100, bytes: 200 },
			{ gpa: gpa + 3 * PAGE, bytes: PAGE },
		];
		const addresses = device.mapSg(good, ToDevice);
		expect(states(guest, gpa, 4)).toBe("SPPS");
		const bad = [...good, { gpa: gpa + PAGE, bytes: 0 }];
		expect(refusal(() => device.mapSg(bad, ToDevice))).toBe("BAD_SIZE");
		expect(states(guest, gpa, 4)).toBe("SPPS");
		device.unmapSg(
			good.map(({ bytes }, i) => ({ dma: addresses[i] as DmaAddr, bytes })),
			ToDevice,
		);
		expect(states(guest, gpa, 4)).toBe("PPPP");
		expect(refusal(() => device.mapSg(bad, ToDevice))).toBe("BAD_SIZE");
		expect([states(guest, gpa, 4), device.holds().mappings, device.conversions]).toEqual(["PPPP", 0, 8]);
	});

	it("takes transient pools where the allocator grows, and gives all of them back", async () => {
		const guest = await smallGuest({ platform: "tdx", ram: 24 * MIB, swiotlb: "128,1", growthSlabs: 512 });
		const device = guest.addDevice();
		const gpa = guest.pages.alloc(64);
		const list = [65536, 131072, 65536, 4096, 2048].map((bytes, i) => ({ gpa: gpa + 8 * i, bytes }));
		const addresses = device.mapSg(list, FromDevice);
		expect(guest.pools[0]?.growing?.transients.length).toBe(2);
		for (const [i, dma] of addresses.entries()) device.write(dma, Uint8Array.of(i + 1));
		device.unmapSg(
			list.map(({ bytes }, i) => ({ dma: addresses[i] as DmaAddr, bytes })),
			FromDevice,
		);
		expect(list.map((segment) => guest.engine.ram.read(segment.gpa, 1)[0])).toEqual([1, 2, 3, 4, 5]);
		// all or nothing there too: the last segment is none
		expect(refusal(() => device.mapSg([...list, { gpa, bytes: -1 }], FromDevice))).toBe("BAD_SIZE");
		guest.tick();
		expect(guest.pools[0]?.growing).toMatchObject({ used: 0, transients: [] });
	});

	it("unmaps what it has where its policy crashes, and answers the first refusal of its end", async () => {
		const crash = () => {
			throw new KernelCrash("there", "because");
		};
		const guest = await smallGuest({ platform: "snp", policy: policy({ predicates: { active: crash } }) });
		const device = acceptedDevice(guest, { dmaMask: 2n ** 52n - 1n });
		const gpa = guest.pages.alloc(2);
		const untrusted = guest.addDevice();
		expect(() => untrusted.mapSg([{ gpa, bytes: 8 }], ToDevice)).toThrow(KernelCrash);
		const dma = device.mapSg([{ gpa, bytes: 8 }], ToDevice)[0] as DmaAddr;
		const ends = [
			{ dma, bytes: 8 },
			{ dma: 2 ** 40, bytes: 8 },
			{ dma, bytes: 0 },
		];
		expect(statusName(device.tryUnmapSg(ends, ToDevice))).toBe("OUTSIDE_RAM");
		expect(untrusted.holds().mappings + device.holds().mappings).toBe(0);
	});

	it("leaves no page shared that no live mapping needs, whatever fails on the way", async () => {
		const random = new Random(SEED);
		const guest = await sharingGuest();
		const device = guest.addDevice();
		const pages = 10;
		const gpa = guest.pages.alloc(pages);
		const live: { dma: DmaAddr; first: number; bytes: number }[][] = [];
		let failures = 0;
		for (let step = 0; step < 300; step++) {
			if (live.length > 0 && random.oneIn(2))
				device.unmapSg(live.splice(random.below(live.length), 1)[0] ?? [], ToDevice);
			else {
				const list = Array.from({ length: random.between(1, 4) }, () => {
					const first = random.below(pages * PAGE - 1);
					return { first, bytes: random.between(1, Math.min(2 * PAGE, pages * PAGE - first)) };
				});
				const fails = random.oneIn(3);
				const segments = list.map(({ first, bytes }) => ({ gpa: gpa + first, bytes }));
				if (fails) segments.splice(random.below(list.length + 1), 0, { gpa: 2 ** 40, bytes: 1 });
				const addresses: DmaAddr[] = [];
				const status = device.tryMapSg(segments, addresses, ToDevice);
				expect(status < 0).toBe(fails);
				if (fails) failures++;
				else live.push(list.map((segment, i) => ({ ...segment, dma: addresses[i] as DmaAddr })));
			}
			const shared = (page: number) =>
				live.flat().some(({ first, bytes }) => first < (page + 1) * PAGE && first + bytes > page * PAGE);
			const expected = Array.from({ length: pages }, (_, page) => (shared(page) ? "S" : "P")).join("");
			expect(states(guest, gpa, pages), `step ${step}`).toBe(expected);
			expect(device.holds().mappings).toBe(live.flat().length);
		}
		expect(failures).toBeGreaterThan(20);
	});
});

/** What one call answered: a number, or an error's text without the device's name. */
function outcome(call: () => number | readonly number[] | undefined): unknown {
	try {
		return call();
	} catch (error) {
		return error instanceof DmaError ? `${error.status} ${error.message.replace(/ on [^:]*:/, "")}` : String(error);
	}
}

interface Step {
	readonly what: "map" | "unmap" | "toDevice" | "toCpu" | "mapSg" | "unmapSg" | "max";
	readonly throws: boolean;
	readonly offset: number;
	readonly bytes: number;
	readonly dir: Direction;
	readonly cpu: number;
	readonly attrs: number;
	readonly count: number;
	readonly pick: number;
}

const step: fc.Arbitrary<Step> = fc.record({
	what: fc.constantFrom("map", "map", "map", "unmap", "unmap", "toDevice", "toCpu", "mapSg", "mapSg", "unmapSg", "max"),
	throws: fc.boolean(),
	offset: fc.oneof({ weight: 8, arbitrary: fc.nat(31 * PAGE) }, { weight: 1, arbitrary: fc.constant(2 ** 40) }),
	bytes: fc.oneof(
		{ weight: 6, arbitrary: fc.integer({ min: 1, max: 9000 }) },
		{ weight: 1, arbitrary: fc.constantFrom(0, -1, 1.5, 262_144, 262_145) },
	),
	dir: fc.oneof(
		{ weight: 9, arbitrary: fc.constantFrom(ToDevice, FromDevice, Bidirectional) },
		{ weight: 1, arbitrary: fc.constant(3 as Direction) },
	),
	cpu: fc.nat(3),
	attrs: fc.constantFrom(0, 0, 0, Attr.SkipCpuSync, Attr.CcShared, Attr.RequireCoherent, Attr.Mmio),
	count: fc.nat(5),
	pick: fc.nat(),
});

/** The steps on one device, and what is left of them. */
function run(guest: Guest, device: DmaApi & Pick<Device, "counters">, buffer: Gpa, steps: readonly Step[]): unknown[] {
	const live: { dma: DmaAddr; bytes: number; dir: Direction; attrs: number }[] = [];
	const told: unknown[] = [];
	for (const { what, throws, offset, bytes, dir, cpu, attrs, count, pick } of steps) {
		const gpa = buffer + offset;
		const held = live[pick % Math.max(live.length, 1)] ?? { dma: buffer as number, bytes, dir, attrs };
		const segments = Array.from({ length: count }, (_, i) => ({ gpa: gpa + i * 5000, bytes: bytes + i }));
		const ends = live.slice(0, count).map((one) => ({ dma: one.dma, bytes: one.bytes }));
		const answer = outcome(() => {
			if (what === "max") return device.maxMappingBytes(8 * MIB - 1);
			if (what === "toDevice")
				return throws ? device.syncForDevice(held.dma, bytes, dir) : device.trySyncForDevice(held.dma, bytes, dir);
			if (what === "toCpu")
				return throws ? device.syncForCpu(held.dma, bytes, dir) : device.trySyncForCpu(held.dma, bytes, dir);
			if (what === "map") {
				const dma = throws ? device.map(gpa, bytes, dir, cpu, attrs) : device.tryMap(gpa, bytes, dir, cpu, attrs);
				if (dma >= 0) live.push({ dma, bytes, dir, attrs });
				return dma;
			}
			if (what === "unmap") {
				const done = throws
					? device.unmap(held.dma, held.bytes, held.dir, held.attrs)
					: device.tryUnmap(held.dma, held.bytes, held.dir, held.attrs);
				if (live.includes(held)) live.splice(live.indexOf(held), 1);
				return done ?? undefined;
			}
			if (what === "mapSg") {
				const addresses: DmaAddr[] = [];
				const status = throws ? 0 : device.tryMapSg(segments, addresses, dir, cpu, attrs);
				if (throws) addresses.push(...device.mapSg(segments, dir, cpu, attrs));
				if (status < 0) return status;
				for (const [i, dma] of addresses.entries()) live.push({ dma, bytes: bytes + i, dir, attrs });
				return addresses;
			}
			live.splice(0, count);
			return throws ? (device.unmapSg(ends, dir, attrs) ?? undefined) : device.tryUnmapSg(ends, dir, attrs);
		});
		told.push([what, answer]);
	}
	const { ram, pools } = guest.engine;
	const left = createHash("sha256").update(ram.read(buffer, 40 * PAGE));
	for (const pool of pools) left.update(Uint32Array.from(pool.list()));
	return [told, device.counters, left.digest("hex")];
}

describe("the DMA API of a guest's device", () => {
	it("is the engine's device's, call for call, to the counters, the bytes and the slots", async () => {
		let mapped = 0;
		await fc.assert(
			fc.asyncProperty(
				fc.constantFrom(...NAMES),
				fc.constantFrom(...KERNEL_NAMES),
				fc.constantFrom<GuestDeviceOptions>(
					{},
					{ coherent: false },
					{ minAlignMask: 4095, segBoundaryMask: 0xffffn },
					{ dmaMask: 2n ** 22n - 1n },
					{ offer: OFFER },
				),
				fc.boolean(),
				fc.array(step, { minLength: 5, maxLength: 60 }),
				async (platform, kernel, options, restricted, steps) => {
					const pools = restricted ? ([{ kind: "restricted", size: "256K" }] as const) : [];
					const ran: unknown[] = [];
					for (const own of [true, false]) {
						const guest = await smallGuest({ platform, kernel, swiotlb: "512,2", pools });
						const chosen = guest.pools.filter((pool) => pool.restricted);
						const device: GuestDevice = guest.addDevice({ ...options, ...(restricted ? { pools: chosen } : {}) });
						const buffer = takePages(guest, 40);
						guest.engine.ram.write(buffer, new Random(SEED).bytes(40 * PAGE));
						if (guest.platform.hostRead !== "plain")
							guest.converter.convert(buffer + 8 * PAGE, 4 * PAGE, PageState.Shared);
						const result = run(guest, own ? device : device.dma, buffer, steps);
						ran.push(result);
						mapped += device.counters.bouncedMaps + device.counters.directMaps;
					}
					expect(ran[0]).toEqual(ran[1]);
				},
			),
			{ seed: SEED, numRuns: 150 },
		);
		expect(mapped).toBeGreaterThan(1000);
	});
});
