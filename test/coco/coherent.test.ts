import { describe, expect, it } from "vitest";
import { PageError } from "../../src/memory/allocator.ts";
import { PageState } from "../../src/memory/ram.ts";
import { coherentGuest, MIB, PAGE, slotsAt } from "../helpers/coherent.ts";

const { Shared, Private, Leaked } = PageState;
const PLATFORMS = ["snp", "tdx", "pkvm", "none"] as const;
const CONVERTING = ["snp", "tdx", "pkvm"] as const;
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

describe("a coherent buffer", () => {
	it("is shared, zeroed and addressed so for a device that needs it, and private again for the next owner", async () => {
		for (const platform of PLATFORMS) {
			for (const kernel of KERNELS) {
				const guest = await coherentGuest({ platform, kernel });
				const { ram, allocator, coherent } = guest;
				const before = ram.pageState(0);
				const device = guest.device();
				const buffer = guest.take(device, 2 * PAGE + 1);
				expect(buffer).toMatchObject({ bytes: 3 * PAGE, source: "pages", dma: device.encode(buffer.gpa, true) });
				expect(ram.read(buffer.gpa, buffer.bytes)).toEqual(ZEROS(buffer.bytes));
				// the block has a fourth page, which nobody was promised
				const states = [0, 1, 2, 3].map((page) => ram.pageState(buffer.gpa + page * PAGE));
				expect(states).toEqual([Shared, Shared, Shared, before]);
				expect([coherent.live(device), allocator.usedPages]).toEqual([1, 4]);
				expect(coherent.free(device, buffer)).toEqual({ ok: true });
				expect(ram.pageState(buffer.gpa)).toBe(before);
				expect([coherent.live(device), allocator.usedPages, allocator.freePages]).toEqual([0, 0, 1024]);
				expect(guest.hazards).toEqual([]);
			}
		}
	});

	it("of a trusted device is private, zeroed and never converted", async () => {
		for (const platform of CONVERTING) {
			const guest = await coherentGuest({ platform });
			const device = guest.device({ needsShared: false });
			const buffer = guest.take(device, PAGE, { atomic: true });
			expect(guest.ram.pageState(buffer.gpa)).toBe(Private);
			expect(buffer.dma).toBe(device.encode(buffer.gpa, false));
			expect(guest.ram.read(buffer.gpa, PAGE)).toEqual(ZEROS(PAGE));
			guest.coherent.free(device, buffer, { atomic: true });
			expect([guest.converter.conversions, guest.hazards.length]).toEqual([0, 0]);
		}
	});

	it("without a kernel mapping is a cookie that keeps its bytes, unless it has to be decrypted or is a pool's", async () => {
		const guest = await coherentGuest({ platform: "snp" });
		const request = { noKernelMapping: true };
		const cookie = guest.take(guest.device({ needsShared: false, coherent: false }), PAGE, request);
		expect(cookie.source).toBe("cookie");
		expect(guest.ram.read(cookie.gpa, PAGE)).toEqual(ZEROS(PAGE).fill(0xa5));
		expect(guest.coherent.free(guest.device({ needsShared: false }), cookie)).toEqual({ ok: true });
		expect(guest.take(guest.device(), PAGE, request).source).toBe("pages");
		const slots = slotsAt(8 * PAGE, 2 * PAGE, false);
		expect(guest.take(guest.device({ needsShared: false, slots }), PAGE, request).source).toBe("slots");
	});

	it("of a non-coherent device stays private on 6.12, a page-state hazard, and is decrypted on 7.3", async () => {
		for (const platform of CONVERTING) {
			for (const kernel of KERNELS) {
				const guest = await coherentGuest({ platform, kernel });
				const device = guest.device({ coherent: false });
				const buffer = guest.take(device, PAGE);
				expect(guest.ram.pageState(buffer.gpa)).toBe(kernel === "linux-6.12" ? Private : Shared);
				expect(buffer.dma).toBe(device.encode(buffer.gpa, true));
				const expected = kernel === "linux-6.12" ? [{ what: "PAGE_STATE", device: "device 0" }] : [];
				expect(guest.hazards).toMatchObject(expected);
				guest.coherent.free(device, buffer);
				expect(guest.ram.pageState(buffer.gpa)).toBe(Private);
			}
		}
	});
});

describe("coherent memory and addresses", () => {
	const ram = [
		{ gpa: 8 * MIB, bytes: 64 * PAGE },
		{ gpa: 64 * MIB, bytes: 64 * PAGE },
		{ gpa: 2 ** 32, bytes: 64 * PAGE },
	];

	it("comes from the highest zone that the coherent mask allows, and gives back what it cannot reach", async () => {
		const guest = await coherentGuest({ platform: "none", ram });
		for (const [mask, zone] of [
			[2 ** 52 - 1, 2 ** 32],
			[2 ** 32 - 1, 64 * MIB],
			[16 * MIB - 1, 8 * MIB],
		] as const) {
			const { gpa } = guest.take(guest.device({ mask }), PAGE);
			expect(gpa - (gpa % (64 * PAGE))).toBe(zone);
		}
		expect(guest.allocator.usedPages).toBe(3);
		expect(guest.coherent.alloc(guest.device({ mask: MIB }), PAGE)).toMatchObject({ ok: false, status: "BEYOND_MASK" });
		expect(guest.allocator.usedPages).toBe(3);
	});

	it("does not exist for a mask below the address bit, however low the pages lie", async () => {
		for (const [platform, needsShared] of [
			["snp", false],
			["cca", true],
		] as const) {
			const guest = await coherentGuest({ platform, ram });
			const low = { mask: 2 ** 40 - 1 };
			expect(guest.coherent.alloc(guest.device({ needsShared, ...low }), PAGE)).toMatchObject({
				status: "BEYOND_MASK",
			});
			expect(guest.coherent.alloc(guest.device({ needsShared: !needsShared, ...low }), PAGE).ok).toBe(true);
			expect(guest.allocator.usedPages).toBe(1);
		}
	});

	it("is reached to its last byte", async () => {
		const guest = await coherentGuest({ platform: "none" });
		const got = guest.coherent.alloc(guest.device({ mask: 4 * MIB - PAGE - 1 }), 2 * PAGE);
		expect(got).toMatchObject({ ok: false, status: "BEYOND_MASK" });
		expect(guest.coherent.alloc(guest.device({ mask: 4 * MIB - 1 }), 2 * PAGE).ok).toBe(true);
	});

	it("says when there is no memory, at once and in a lower zone, and holds nothing then", async () => {
		const guest = await coherentGuest({ platform: "snp", ram });
		// the zone that its limit asks for has pages that it reaches: with the C-bit none of them
		const private47 = { ...guest.device({ mask: 2 ** 47 - 1, needsShared: false }), fits: () => false };
		for (const nth of [1, 2, 3]) {
			guest.allocator.failNext(nth);
			const got = guest.coherent.alloc(private47, PAGE);
			expect(got).toMatchObject({ ok: false, status: "NO_MEMORY" });
			expect([guest.allocator.usedPages, guest.allocator.leakedPages]).toEqual([0, 0]);
		}
		expect(guest.coherent.alloc(guest.device(), 4 * MIB + 1)).toMatchObject({ status: "NO_MEMORY" });
	});
});

describe("coherent memory whose conversion fails", () => {
	it("at any step is leaked as a whole block, for ever, with what the kernel says", async () => {
		for (const platform of CONVERTING) {
			for (const kernel of KERNELS) {
				for (const to of [Shared, Private]) {
					const { converter } = await coherentGuest({ platform });
					for (const { step } of converter.steps(to === Shared ? Private : Shared, to)) {
						const guest = await coherentGuest({ platform, kernel, ram: [{ gpa: 0, bytes: 8 * PAGE }] });
						const device = guest.device();
						const kept = to === Private ? guest.take(device, 3 * PAGE) : null;
						guest.converter.failAt(step);
						const done = kept ? guest.coherent.free(device, kept) : guest.coherent.alloc(device, 3 * PAGE);
						const text = kept ? "leaking DMA memory that can't be re-encrypted" : "could not be decrypted";
						const status = kept ? "NOT_ENCRYPTED" : "NOT_DECRYPTED";
						expect(done).toMatchObject({ ok: false, status, message: expect.stringContaining(text) });
						const { allocator, ram } = guest;
						expect([allocator.leakedPages, ram.pagesInState(Leaked)]).toEqual([4, 3]);
						expect(guest.coherent.live(device)).toBe(0);
						if (kept) expect(refusal(() => guest.coherent.free(device, kept))).toBe("LEAKED_PAGES");
						// all that is left, and nothing of the leaked block
						for (let i = 0; i < 4; i++) expect(guest.take(device, PAGE).gpa).toBeLessThan(4 * PAGE);
						expect(guest.coherent.alloc(device, PAGE)).toMatchObject({ status: "NO_MEMORY" });
					}
				}
			}
		}
	});

	it("by an observer that throws is leaked too, and the caller hears of it", async () => {
		const guest = await coherentGuest({ platform: "snp" });
		const device = guest.device();
		const kept = guest.take(device, PAGE);
		guest.converter.onTransition = () => {
			throw new Error("observer");
		};
		expect(() => guest.coherent.alloc(device, PAGE)).toThrow("observer");
		expect(() => guest.coherent.free(device, kept)).toThrow("observer");
		expect([guest.allocator.leakedPages, guest.allocator.usedPages]).toEqual([2, 0]);
		expect(guest.coherent.live(device)).toBe(0);
	});
});

describe("giving coherent memory back", () => {
	it("after the device's need changed is told as a hazard, and the pages are private all the same", async () => {
		for (const kernel of KERNELS) {
			for (const needsShared of [true, false]) {
				const guest = await coherentGuest({ platform: "snp", kernel });
				const buffer = guest.take(guest.device({ needsShared }), PAGE);
				expect(guest.coherent.free(guest.device({ needsShared: !needsShared }), buffer)).toEqual({ ok: true });
				expect(guest.hazards).toMatchObject([{ what: "TRUST_CHANGED", device: "device 0" }]);
				expect(guest.ram.pageState(buffer.gpa)).toBe(Private);
			}
		}
	});

	it("twice, of another device, of another size or address is refused by name and changes nothing", async () => {
		const guest = await coherentGuest({ platform: "snp", atomicBytes: 8 * PAGE });
		const device = guest.device();
		const buffer = guest.take(device, 2 * PAGE);
		const pool = guest.take(device, PAGE, { atomic: true });
		const other = guest.device({ index: 1 });
		const free = (...call: Parameters<typeof guest.coherent.free>) => guest.coherent.free(...call);
		const used = guest.allocator.usedPages;
		for (const [from, given, status] of [
			[other, buffer, "FOREIGN_FREE"],
			[other, pool, "FOREIGN_FREE"],
			[device, { ...buffer, dma: buffer.gpa + PAGE }, "FOREIGN_FREE"],
			[device, { ...buffer, bytes: PAGE }, "SIZE_MISMATCH"],
			[device, { ...buffer, bytes: Number.NaN }, "SIZE_MISMATCH"],
			[device, { ...buffer, gpa: buffer.gpa + PAGE }, "FOREIGN_FREE"],
			[device, { ...buffer, gpa: 2 ** 40 }, "FOREIGN_FREE"],
			[device, { ...buffer, gpa: 2 * MIB }, "DOUBLE_FREE"],
		] as const)
			expect(refusal(() => free(from, given))).toBe(status);
		expect([guest.allocator.usedPages, guest.coherent.live(device), guest.hazards.length]).toEqual([used, 2, 0]);
		free(device, buffer);
		expect(refusal(() => free(device, buffer))).toBe("DOUBLE_FREE");
		expect(() => free(device, buffer)).toThrow(PageError);
		expect([guest.coherent.live(device), guest.coherent.live(other)]).toEqual([1, 0]);
	});

	it("is not asked for a size that no allocation has", async () => {
		const guest = await coherentGuest({ platform: "snp" });
		for (const bytes of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])
			expect(refusal(() => guest.coherent.alloc(guest.device(), bytes))).toBe("BAD_SIZE");
		expect(guest.allocator.usedPages).toBe(0);
	});
});
