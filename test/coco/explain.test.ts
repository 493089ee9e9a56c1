import { describe, expect, it } from "vitest";
import { type Explanation, explain, exposes } from "../../src/coco/guest/explain.ts";
import { PageState } from "../../src/memory/ram.ts";
import { Attr, Direction } from "../../src/types.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { acceptedDevice, bitsOf, MIB, smallGuest, takePages } from "../helpers/trust-guest.ts";

const { ToDevice, FromDevice, Bidirectional } = Direction;
printSeed("explain");

describe("explain", () => {
	it("tells what a map that was refused after its copy left for the host to read", async () => {
		const guest = await smallGuest({ platform: "cca" });
		const device = guest.addDevice({ dmaMask: 2n ** 32n - 1n });
		const buffer = takePages(guest, 2);
		guest.engine.ram.fill(buffer, 8192, 0x5a);
		const explained = explain(guest, device, { gpa: buffer, bytes: 5000, dir: ToDevice });
		expect(explained).toMatchObject({ decision: "bounce", status: "SLOTS_BEYOND_MASK", dma: null });
		expect(explained.bounce).toMatchObject({ pool: "default", tlb: 7 * MIB, firstSlot: 0, slots: 3 });
		expect(exposes(explained)).toBe(true);
		expect(guest.parties.host.read(7 * MIB + 4999, 1)).toEqual(Uint8Array.of(0x5a));
		expect(explained.steps.at(-1)).toMatchObject({
			value: "false",
			why: expect.stringContaining("copied into the slots"),
		});
	});

	it("finds that residue wherever it lies: a whole area, a search that wraps, the second area", async () => {
		for (const areas of [1, 2]) {
			const guest = await smallGuest({ platform: "cca", swiotlb: `256,${areas}` });
			const device = guest.addDevice({ dmaMask: 2n ** 32n - 1n });
			const reaching = guest.addDevice();
			const buffer = takePages(guest, 64);
			const random = new Random(SEED);
			for (let i = 0; i < 60; i++) {
				const bytes = random.pick([262144, 131072, 65536, 4096, 2048, 100]);
				const held = random.oneIn(2) ? reaching.dma.tryMap(buffer, 65536, ToDevice, random.below(2)) : -1;
				guest.engine.ram.write(buffer, random.bytes(bytes));
				const cpu = random.below(2);
				const { status, bounce } = explain(guest, device, { gpa: buffer, bytes, dir: ToDevice, cpu });
				if (status !== "POOL_FULL") {
					expect([status, bounce === null]).toEqual(["SLOTS_BEYOND_MASK", false]);
					const left = Buffer.from(guest.engine.ram.read(bounce?.tlb as number, bytes));
					expect(left.equals(guest.engine.ram.read(buffer, bytes))).toBe(true);
				}
				if (held >= 0) reaching.unmap(held, 65536, ToDevice);
			}
		}
	});

	it("knows transient pools, which are gone with their mapping", async () => {
		const guest = await smallGuest({ platform: "tdx", swiotlb: "128,1", growthSlabs: 512 });
		const device = guest.addDevice({ name: "nic0" });
		const buffer = takePages(guest, 64);
		const held = device.map(buffer, 262144, ToDevice);
		const explained = explain(guest, device, { gpa: buffer, bytes: 4096, dir: FromDevice });
		expect(explained).toMatchObject({ decision: "bounce", status: null, bounce: { slots: 2, transient: true } });
		expect(explained.bounce?.tlb).toBe((explained.dma as number) - bitsOf("tdx", "shared"));
		expect(explained.readers.map(({ when, where }) => `${when} ${where}`)).toEqual([
			"before buffer",
			"mapped buffer",
			"mapped slots",
			"after buffer",
		]);
		expect(exposes(explained)).toBe(true);
		device.unmap(held, 262144, ToDevice);
		guest.tick();
		expect(guest.pools[0]?.growing).toMatchObject({ used: 0, transients: [] });
	});

	it("finds residue in a transient pool too, before its memory goes back", async () => {
		const guest = await smallGuest({ platform: "cca", swiotlb: "128,1", growthSlabs: 512 });
		const buffer = takePages(guest, 64);
		guest.addDevice().map(buffer, 262144, ToDevice);
		// the atomic pools ask for the coherent mask, and are passed
		const masks = { dmaMask: 2n ** 32n - 1n, coherentDmaMask: 2n ** 64n - 1n };
		const device = guest.addDevice({ ...masks, minAlignMask: 0x7ff });
		guest.engine.ram.fill(buffer + 100, 4096, 0x77);
		const explained = explain(guest, device, { gpa: buffer + 100, bytes: 4096, dir: ToDevice });
		expect(explained).toMatchObject({ status: "SLOTS_BEYOND_MASK", bounce: { slots: 3, transient: true } });
		expect(exposes(explained)).toBe(true);
		expect(guest.parties.host.read(explained.bounce?.tlb as number, 4096).every((byte) => byte === 0x77)).toBe(true);
	});

	it.each([
		[Attr.CcShared, "linux-7.3", "direct", null],
		[Attr.CcShared, "linux-6.12", "bounce", null],
		[Attr.RequireCoherent, "linux-7.3", "refused", "NEEDS_SHARED"],
		[Attr.RequireCoherent, "linux-6.12", "bounce", null],
		[Attr.CcShared | Attr.RequireCoherent, "linux-7.3", "direct", null],
	] as const)("asks for attributes %i as %s does: %s", async (attrs, kernel, decision, status) => {
		const guest = await smallGuest({ platform: "cca", kernel });
		const buffer = takePages(guest, 1);
		guest.converter.convert(buffer, 4096, PageState.Shared);
		const explained: Explanation = explain(guest, guest.addDevice(), { gpa: buffer, bytes: 64, dir: ToDevice, attrs });
		expect(explained).toMatchObject({ decision, status });
		expect(exposes(explained)).toBe(false);
	});

	it("bounces a small buffer of a device whose DMA is not coherent, in the pool that its trust allows", async () => {
		const guest = await smallGuest({
			platform: "tdx",
			kernel: "linux-7.3",
			pools: [{ kind: "private", size: "256K" }],
		});
		const device = acceptedDevice(guest, { coherent: false });
		const buffer = takePages(guest, 1);
		const decided = (bytes: number, dir: Direction) => {
			const explained = explain(guest, device, { gpa: buffer, bytes, dir });
			expect(exposes(explained)).toBe(false);
			return explained.bounce?.pool ?? explained.decision;
		};
		expect([48, 64, 96].map((bytes) => decided(bytes, FromDevice))).toEqual(["direct", "direct", "private"]);
		expect([8, 32, 33].map((bytes) => decided(bytes, Bidirectional))).toEqual(["private", "private", "direct"]);
		expect(decided(8, ToDevice)).toBe("direct");
	});

	it.each([
		[2n ** 23n - 1n, undefined, "direct"],
		[2n ** 64n - 1n, 0xfffn, "refused"],
		[0xfffn, 2n ** 23n - 1n, "refused"],
		[0n, 2n ** 23n - 1n, "direct"],
		[2n ** 23n - 1n, 0n, "direct"],
	])(
		"takes the smaller of mask %s and bus limit %s that is not 0, as the engine does: %s",
		async (dmaMask, busLimit, decision) => {
			const guest = await smallGuest({ platform: "none", swiotlb: "noforce" });
			const device = guest.addDevice({ dmaMask, ...(busLimit === undefined ? {} : { busLimit }) });
			const explained = explain(guest, device, { gpa: takePages(guest, 1), bytes: 64, dir: ToDevice });
			expect(explained.decision).toBe(decision);
		},
	);

	it("refuses by name what no kernel decides about", async () => {
		const guest = await smallGuest({ platform: "none" });
		const device = guest.addDevice();
		const ask =
			(gpa: number, bytes: number, dir: number, attrs = 0) =>
			() =>
				explain(guest, device, { gpa, bytes, dir: dir as Direction, attrs });
		expect(ask(8 * MIB, 1, ToDevice)).toThrow(/OUTSIDE_RAM/);
		expect(ask(4096, 0, ToDevice)).toThrow(/BAD_SIZE/);
		expect(ask(4096, 1, 7)).toThrow(/BAD_DIRECTION/);
		expect(ask(4096, 1, ToDevice, Attr.Mmio)).toThrow(/MMIO/);
	});
});
