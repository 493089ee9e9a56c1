import { describe, expect, it } from "vitest";
import type { GuestDevice } from "../../src/coco/guest/device.ts";
import type { Guest } from "../../src/coco/guest/guest.ts";
import type { PlatformName } from "../../src/coco/platform/platform.ts";
import { PageState } from "../../src/memory/ram.ts";
import { parsePolicy } from "../../src/policy/parse.ts";
import { scenarioNamed } from "../../src/policy/scenarios.ts";
import { statusName } from "../../src/status.ts";
import { makeStage, type StageOptions } from "../../src/study/stage.ts";
import { Attr, Direction } from "../../src/types.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";

printSeed("policy-sharing");

const { ToDevice, FromDevice, Bidirectional } = Direction;
const PAGE = 4096;

async function sharing(
	options: Partial<StageOptions> = {},
	policy = "force-bounce",
	scenario = "legacy-virtio",
): Promise<{ guest: Guest; device: GuestDevice }> {
	const stage = await makeStage(parsePolicy(`${policy}+share-in-place`), scenarioNamed(scenario), options);
	if (stage.refused !== null) throw new Error(JSON.stringify(stage.refused));
	return stage;
}

/** The states of pages from a gpa on, as letters. */
function states({ engine }: Guest, gpa: number, pages: number): string {
	const letters = ["S", "P", "H", "T", "L"];
	return Array.from({ length: pages }, (_, i) => letters[engine.ram.pageState(gpa + i * PAGE)]).join("");
}

describe("a policy that shares in place", () => {
	it("shares the pages of a buffer for the time of its mapping, and no others", async () => {
		const { guest, device } = await sharing();
		const gpa = guest.pages.alloc(6);
		const dma = device.map(gpa + PAGE + 100, 2 * PAGE, ToDevice);
		expect(states(guest, gpa, 6)).toBe("PSSSPP");
		expect(device.dma.holds()).toEqual({ directMappings: 1, bouncedMappings: 0 });
		expect(device.conversions).toBe(3);
		device.unmap(dma, 2 * PAGE, ToDevice);
		expect(states(guest, gpa, 6)).toBe("PPPPPP");
		expect(device.conversions).toBe(6);
		expect(guest.pools[0]?.pool.used).toBe(0);
	});

	it("keeps a page shared until the last mapping of it ends, also one of another device", async () => {
		const { guest, device } = await sharing();
		const other = guest.addDevice({ name: "other" });
		const gpa = guest.pages.alloc(2);
		const first = device.map(gpa, 200, ToDevice);
		const same = device.map(gpa, 200, ToDevice);
		const second = other.map(gpa + 3000, 2000, FromDevice);
		expect(same).toBe(first);
		expect([device.conversions, other.conversions]).toEqual([1, 1]);
		device.unmap(first, 200, ToDevice);
		device.unmap(same, 200, ToDevice);
		expect(states(guest, gpa, 2)).toBe("SS");
		other.unmap(second, 2000, FromDevice);
		expect(states(guest, gpa, 2)).toBe("PP");
		expect([device.conversions, other.conversions]).toEqual([1, 3]);
	});

	it.each([
		["pkvm", "kept"],
		["snp", "lost"],
		["tdx", "lost"],
		["cca", "lost"],
	] as const)("leaves the bytes on %s as its conversions do: %s", async (platform, fate) => {
		const { guest, device } =
			platform === "pkvm" ? await sharing({ platform }, "linux-7.3", "restricted-pool") : await sharing({ platform });
		const gpa = guest.pages.alloc(1);
		const data = new Random(SEED).bytes(PAGE);
		guest.engine.ram.write(gpa, data);
		const dma = device.map(gpa, PAGE, Bidirectional);
		expect(Buffer.compare(device.read(dma, PAGE), data) === 0 ? "kept" : "lost").toBe(fate);
		device.write(dma, data);
		device.unmap(dma, PAGE, Bidirectional);
		expect(Buffer.compare(guest.engine.ram.read(gpa, PAGE), data) === 0 ? "kept" : "lost").toBe(fate);
	});

	it("leaves pages alone that were shared before", async () => {
		const { guest, device } = await sharing();
		const gpa = guest.pages.alloc(2);
		guest.converter.convert(gpa, PAGE, PageState.Shared);
		const dma = device.map(gpa, 2 * PAGE, ToDevice);
		device.unmap(dma, 2 * PAGE, ToDevice);
		expect(states(guest, gpa, 2)).toBe("SP");
		expect(device.conversions).toBe(2);
	});

	it("refuses a mapping whose pages cannot be converted: they are leaked, the others are private again", async () => {
		const { guest, device } = await sharing();
		const gpa = guest.pages.alloc(4);
		const held = device.map(gpa + PAGE, 16, ToDevice);
		guest.converter.failAt("host", 2);
		expect(statusName(device.tryMap(gpa, 3 * PAGE, ToDevice))).toBe("BLOCKED_PAGES");
		expect(states(guest, gpa, 4)).toBe("PSLP");
		device.unmap(held, 16, ToDevice);
		expect(states(guest, gpa, 4)).toBe("PPLP");
		expect(device.dma.holds().directMappings).toBe(0);
	});

	it("tells when pages do not become private again", async () => {
		const { guest, device } = await sharing();
		const gpa = guest.pages.alloc(1);
		const dma = device.map(gpa, PAGE, ToDevice);
		guest.converter.failAt("accept");
		device.unmap(dma, PAGE, ToDevice);
		expect(states(guest, gpa, 1)).toBe("L");
		expect(guest.hazards.map(({ what, device: name }) => [what, name])).toEqual([["PAGE_STATE", "legacy-virtio"]]);
	});

	it("shares nothing for what is mapped as it is, or refused for another reason", async () => {
		const { guest, device } = await sharing({}, "cc-accepted", "tdisp-nvme");
		const gpa = guest.pages.alloc(1);
		device.unmap(device.map(gpa, PAGE, ToDevice), PAGE, ToDevice);
		expect(statusName(device.tryMap(gpa, 0, ToDevice))).toBe("BAD_SIZE");
		expect(statusName(device.tryMap(2 ** 40, PAGE, ToDevice))).toBe("OUTSIDE_RAM");
		expect(device.conversions).toBe(0);
		// cache lines are not what sharing a page gives
		const small = await sharing({}, "cc-accepted", "tdisp-non-coherent");
		expect(statusName(small.device.tryMap(small.guest.pages.alloc(1), 8, FromDevice))).toBe("SHARES_CACHE_LINE");
	});

	it("goes back to private when the shared form is beyond the mask", async () => {
		const { guest, device } = await sharing({ platform: "tdx" }, "cc-accepted", "tdisp-nvme-32");
		const gpa = guest.pages.alloc(1);
		expect(gpa).toBeGreaterThan(2 ** 32);
		expect(statusName(device.tryMap(gpa, PAGE, ToDevice))).toBe("BEYOND_MASK");
		expect(states(guest, gpa, 1)).toBe("P");
		expect(device.dma.holds().directMappings).toBe(0);
	});

	it("takes a caller's word that memory is shared, on the rules that know it", async () => {
		const { guest, device } = await sharing({}, "linux-7.3");
		const gpa = guest.pages.alloc(1);
		guest.converter.convert(gpa, PAGE, PageState.Shared);
		const dma = device.map(gpa, PAGE, ToDevice, 0, Attr.CcShared);
		device.unmap(dma, PAGE, ToDevice, Attr.CcShared);
		expect([states(guest, gpa, 1), device.conversions]).toEqual(["S", 0]);
	});

	it("serves a restricted pool's coherent buffers from its slots all the same", async () => {
		const { guest, device } = await sharing({}, "linux-7.3", "restricted-pool");
		const got = device.allocCoherent(PAGE);
		expect(got.ok && got.source).toBe("slots");
		if (got.ok) expect(device.freeCoherent(got)).toEqual({ ok: true });
		expect(guest.pools.map(({ pool }) => pool.used)).toEqual([0, 0]);
	});

	it("keeps exactly the pages of live mappings shared, whatever the order", async () => {
		const random = new Random(SEED);
		for (const platform of ["snp", "tdx", "cca"] satisfies PlatformName[]) {
			const { guest, device } = await sharing({ platform });
			const devices = [device, guest.addDevice(), guest.addDevice()];
			const pages = 12;
			const gpa = guest.pages.alloc(pages);
			const live: { by: GuestDevice; dma: number; first: number; bytes: number }[] = [];
			for (let step = 0; step < 400; step++) {
				if (live.length === 0 || (live.length < 20 && random.oneIn(2))) {
					const first = random.below(pages * PAGE - 1);
					const bytes = random.between(1, Math.min(3 * PAGE, pages * PAGE - first));
					const by = random.pick(devices);
					live.push({ by, first, bytes, dma: by.map(gpa + first, bytes, ToDevice) });
				} else {
					const [gone] = live.splice(random.below(live.length), 1);
					gone?.by.unmap(gone.dma, gone.bytes, ToDevice);
				}
				const shared = (page: number) =>
					live.some(({ first, bytes }) => first < (page + 1) * PAGE && first + bytes > page * PAGE);
				const expected = Array.from({ length: pages }, (_, page) => (shared(page) ? "S" : "P")).join("");
				expect(states(guest, gpa, pages), `${platform}, step ${step}`).toBe(expected);
			}
			for (const { by, dma, bytes } of live) by.unmap(dma, bytes, ToDevice);
			expect(guest.engine.ram.pagesInState(PageState.Leaked)).toBe(0);
			expect(devices.reduce((sum, { conversions }) => sum + conversions, 0) % 2).toBe(0);
		}
	});
});
