import { describe, expect, it } from "vitest";
import type { PageError } from "../../src/memory/allocator.ts";
import { PageState } from "../../src/memory/ram.ts";
import { coherentGuest, MIB, PAGE, slotsAt } from "../helpers/coherent.ts";

const { Private, Shared } = PageState;
const KERNELS = ["linux-6.12", "linux-7.3"] as const;
const ZEROS = (bytes: number) => new Uint8Array(bytes);

/** The status of the error that a call throws. */
function refusal(call: () => unknown): string {
	try {
		call();
	} catch (error) {
		return (error as PageError).status;
	}
	return "none";
}

describe("coherent memory where nothing may sleep", () => {
	it("is the atomic pools' where it would be decrypted or remapped, and converts nothing", async () => {
		for (const kernel of KERNELS) {
			for (const coherent of [true, false]) {
				const guest = await coherentGuest({ platform: "snp", kernel, atomicBytes: 8 * PAGE });
				const device = guest.device({ coherent });
				const { conversions } = guest.converter;
				const buffer = guest.take(device, 2 * PAGE, { atomic: true });
				expect(buffer.source).toBe("atomic");
				expect(guest.ram.pageState(buffer.gpa)).toBe(Shared);
				expect(guest.ram.read(buffer.gpa, buffer.bytes)).toEqual(ZEROS(buffer.bytes));
				guest.coherent.free(device, buffer, { atomic: true });
				expect([guest.converter.conversions, guest.hazards.length]).toEqual([conversions, 0]);
				expect(refusal(() => guest.coherent.free(device, buffer))).toBe("DOUBLE_FREE");
				expect(guest.coherent.live(device)).toBe(0);
			}
		}
	});

	it("is refused without pools, with the wrong kind of pool, and when they are exhausted", async () => {
		const none = await coherentGuest({ platform: "tdx" });
		expect(none.coherent.alloc(none.device(), PAGE, { atomic: true })).toMatchObject({ status: "NO_ATOMIC_POOLS" });
		const guest = await coherentGuest({ platform: "tdx", atomicBytes: 8 * PAGE });
		const trusted = guest.device({ needsShared: false, coherent: false });
		expect(guest.coherent.alloc(trusted, PAGE, { atomic: true })).toMatchObject({
			status: "NO_SUITABLE_POOL",
			message: "Failed to get suitable pool for device 0",
		});
		expect(guest.coherent.alloc(guest.device(), 9 * PAGE, { atomic: true })).toMatchObject({
			status: "POOL_EXHAUSTED",
			message: "DMA pool exhausted for device 0",
		});
		expect(guest.hazards).toEqual([]);
	});

	it("of 6.12's atomic pools may be shared for a device that is not given shared addresses: a page-state hazard", async () => {
		const guest = await coherentGuest({ platform: "snp", kernel: "linux-6.12", atomicBytes: 8 * PAGE });
		const device = guest.device({ needsShared: false, coherent: false });
		expect(guest.take(device, PAGE, { atomic: true }).source).toBe("atomic");
		expect(guest.hazards).toMatchObject([{ what: "PAGE_STATE" }]);
	});

	it("asks the pool of the zone that its mask allows", async () => {
		const ram = [
			{ gpa: 8 * MIB, bytes: 64 * PAGE },
			{ gpa: 64 * MIB, bytes: 64 * PAGE },
		];
		const guest = await coherentGuest({ platform: "none", ram, atomicBytes: 8 * PAGE });
		const free = () => guest.atomic?.pools.map(({ zone, freeBytes }) => `${zone} ${freeBytes / PAGE}`);
		for (const [mask, left] of [
			[2 ** 52 - 1, ["Normal 7", "DMA32 8", "DMA 8"]],
			[2 ** 32 - 1, ["Normal 7", "DMA32 7", "DMA 8"]],
			[16 * MIB - 1, ["Normal 7", "DMA32 7", "DMA 7"]],
		] as const) {
			guest.take(guest.device({ needsShared: false, coherent: false, mask }), PAGE, { atomic: true });
			expect(free()).toEqual(left);
		}
	});

	it("is a lower zone's pool's when the device does not reach what its own pool has, and never a higher one's", async () => {
		const ram = [64 * MIB, 2 ** 33].map((gpa) => ({ gpa, bytes: 64 * PAGE }));
		const guest = await coherentGuest({ platform: "cca", ram, atomicBytes: 8 * PAGE });
		const bit = 2 ** 47;
		expect(guest.take(guest.device({ mask: bit + 2 ** 33 - 1 }), PAGE, { atomic: true }).gpa).toBeLessThan(2 ** 32);
		const low = await coherentGuest({ platform: "none", atomicBytes: 8 * PAGE });
		const device = low.device({ needsShared: false, coherent: false, mask: 16 * MIB - 1 });
		low.take(device, PAGE, { atomic: true });
		expect(low.atomic?.pools.map(({ freeBytes }) => freeBytes / PAGE)).toEqual([8, 8, 7]);
	});

	it("is no hazard to give back as a cookie, which is neither remapped nor decrypted", async () => {
		const guest = await coherentGuest({ platform: "tdx" });
		const device = guest.device({ needsShared: false, coherent: false });
		const cookie = guest.take(device, PAGE, { noKernelMapping: true, atomic: true });
		guest.coherent.free(device, cookie, { atomic: true });
		expect([cookie.source, guest.hazards.length]).toEqual(["cookie", 0]);
	});

	it("is encrypted again and unmapped all the same when it is freed there, and the hazard is told by name", async () => {
		for (const [plan, texts] of [
			[{}, ["encrypts pages again"]],
			[{ coherent: false }, ["unmaps remapped pages", "encrypts pages again"]],
			[{ needsShared: false, coherent: false }, ["unmaps remapped pages"]],
			[{ needsShared: false }, []],
		] as const) {
			const guest = await coherentGuest({ platform: "tdx" });
			const device = guest.device(plan);
			guest.coherent.free(device, guest.take(device, PAGE), { atomic: true });
			const sleeping = (text: string) => ({ what: "SLEEPING_IN_ATOMIC", detail: expect.stringContaining(text) });
			expect(guest.hazards).toMatchObject(texts.map(sleeping));
			expect(guest.hazards).toHaveLength(texts.length);
		}
	});
});

describe("coherent memory of a restricted pool", () => {
	it("is slots aligned to the block that holds it, zeroed, and given back", async () => {
		const guest = await coherentGuest({ platform: "pkvm", reserved: [{ gpa: 0, bytes: 32 * PAGE }] });
		guest.converter.convert(0, 32 * PAGE, Shared);
		const slots = slotsAt(0, 8 * PAGE);
		const device = guest.device({ slots });
		const buffer = guest.take(device, 4 * PAGE + 1, { atomic: true });
		expect(slots.calls).toEqual([{ bytes: 5 * PAGE, mask: 8 * PAGE - 1 }]);
		expect(buffer).toMatchObject({ gpa: 0, dma: 0, bytes: 5 * PAGE, source: "slots" });
		expect(guest.ram.read(0, 5 * PAGE)).toEqual(ZEROS(5 * PAGE));
		expect(guest.coherent.alloc(device, 4 * PAGE)).toMatchObject({ status: "POOL_FULL" });
		expect(guest.coherent.free(device, buffer)).toEqual({ ok: true });
		expect(slots.freed).toEqual([{ tlb: 0, bytes: 5 * PAGE }]);
		expect(refusal(() => guest.coherent.free(device, buffer))).toBe("FOREIGN_FREE");
		expect([guest.allocator.usedPages, guest.coherent.live(device), guest.hazards.length]).toEqual([0, 0, 0]);
	});

	it("is refused when the slots are not page-aligned or beyond the mask, and they go back", async () => {
		const guest = await coherentGuest({ platform: "none" });
		const unaligned = slotsAt(0x1800, 8 * PAGE);
		expect(guest.coherent.alloc(guest.device({ slots: unaligned }), PAGE)).toMatchObject({
			status: "UNALIGNED_SLOTS",
			message: "Cannot allocate pages from non page-aligned swiotlb addr 0x1800",
		});
		const high = slotsAt(2 * MIB, 8 * PAGE);
		const device = guest.device({ slots: high, mask: MIB });
		expect(guest.coherent.alloc(device, PAGE)).toMatchObject({ status: "BEYOND_MASK" });
		expect([unaligned.freed, high.freed]).toEqual([[{ tlb: 0x1800, bytes: PAGE }], [{ tlb: 2 * MIB, bytes: PAGE }]]);
		expect(guest.coherent.live(device)).toBe(0);
	});

	it("would be decrypted twice by 6.12 under memory encryption and encrypted on free; 7.3 leaves it alone", async () => {
		for (const platform of ["snp", "tdx"] as const) {
			for (const kernel of KERNELS) {
				for (const atomic of [false, true]) {
					const guest = await coherentGuest({ platform, kernel });
					guest.converter.convert(0, 8 * PAGE, Shared);
					const device = guest.device({ slots: slotsAt(0, 8 * PAGE) });
					const buffer = guest.take(device, PAGE, { atomic });
					expect(guest.ram.pageState(0)).toBe(Shared);
					guest.coherent.free(device, buffer, { atomic });
					// a private page is left in the shared pool
					expect(guest.ram.pageState(0)).toBe(kernel === "linux-6.12" ? Private : Shared);
					const twice = atomic ? ["PAGE_STATE", "SLEEPING_IN_ATOMIC"] : ["PAGE_STATE"];
					const expected = kernel === "linux-6.12" ? [...twice, ...twice] : [];
					expect(guest.hazards.map(({ what }) => what)).toEqual(expected);
				}
			}
		}
	});

	it("that is remapped is not decrypted twice by 6.12, but may sleep both ways", async () => {
		const guest = await coherentGuest({ platform: "snp", kernel: "linux-6.12" });
		guest.converter.convert(0, 8 * PAGE, Shared);
		const device = guest.device({ slots: slotsAt(0, 8 * PAGE), coherent: false });
		guest.coherent.free(device, guest.take(device, PAGE, { atomic: true }), { atomic: true });
		const details = guest.hazards.map(({ what, detail }) => `${what}: ${detail}`);
		expect(details).toEqual([
			"SLEEPING_IN_ATOMIC: remaps pool pages where it may not sleep",
			"SLEEPING_IN_ATOMIC: unmaps remapped pages where it may not sleep",
		]);
	});

	it("is encrypted on 6.12's free by what the device needs then", async () => {
		const guest = await coherentGuest({ platform: "snp", kernel: "linux-6.12" });
		guest.converter.convert(0, 8 * PAGE, Shared);
		const slots = slotsAt(0, 8 * PAGE);
		const buffer = guest.take(guest.device({ slots }), PAGE);
		guest.coherent.free(guest.device({ slots, needsShared: false }), buffer);
		expect(guest.hazards.map(({ what }) => what)).toEqual(["PAGE_STATE", "TRUST_CHANGED"]);
	});

	it("is shared on pKVM without a hazard, though 6.12 does not know that its device needs that", async () => {
		const guest = await coherentGuest({ platform: "pkvm", kernel: "linux-6.12" });
		guest.converter.convert(0, 8 * PAGE, Shared);
		const device = guest.device({ slots: slotsAt(0, 8 * PAGE), needsShared: false });
		guest.coherent.free(device, guest.take(device, PAGE));
		expect(guest.hazards).toEqual([]);
	});

	it("is beyond a mask below the address bit", async () => {
		const guest = await coherentGuest({ platform: "cca" });
		guest.converter.convert(0, 8 * PAGE, Shared);
		const device = guest.device({ slots: slotsAt(0, 8 * PAGE), mask: 2 ** 40 - 1 });
		expect(guest.coherent.alloc(device, PAGE)).toMatchObject({ status: "BEYOND_MASK" });
	});

	it("is never a shared pool's for a trusted device on 7.3, nor a private one's for another", async () => {
		for (const ccShared of [true, false]) {
			const guest = await coherentGuest({ platform: "snp" });
			const slots = slotsAt(0, 8 * PAGE, ccShared);
			const device = guest.device({ needsShared: !ccShared, slots });
			expect(guest.coherent.alloc(device, PAGE)).toMatchObject({ ok: false, status: "POOL_STATE" });
			expect(slots.calls).toEqual([]);
		}
	});
});
