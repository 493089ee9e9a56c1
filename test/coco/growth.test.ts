import { afterEach, describe, expect, it, vi } from "vitest";
import type { GuestDevice } from "../../src/coco/guest/device.ts";
import { Guest, type GuestOptions } from "../../src/coco/guest/guest.ts";
import { loadCipher } from "../../src/coco/platform/ciphertext.ts";
import { PLATFORMS } from "../../src/coco/platform/platform.ts";
import { PageState } from "../../src/memory/ram.ts";
import { statusName } from "../../src/status.ts";
import { Direction } from "../../src/types.ts";
import { defaultPoolShared, otherPoolsShared, reachesSharedOnly } from "../helpers/kernel-facts.ts";
import { bitsOf, KERNEL_NAMES, MIB, NAMES, smallGuest, takePages } from "../helpers/trust-guest.ts";

const { ToDevice, FromDevice } = Direction;
const { Private, Shared } = PageState;
const SLEEPS = "SLEEPING_IN_ATOMIC";
const RUNS = NAMES.flatMap((platform) => KERNEL_NAMES.map((kernel) => ({ platform, kernel })));

interface Full {
	readonly guest: Guest;
	readonly device: GuestDevice;
	readonly buffer: number;
	/** What fills the default pool. */
	readonly held: readonly number[];
}

/** A guest whose default pool is full, and a device that bounces. */
async function full(options: Partial<GuestOptions> & Pick<GuestOptions, "platform">): Promise<Full> {
	const guest = await smallGuest({ swiotlb: "512,1,force", growthSlabs: 4096, ...options });
	const device = guest.addDevice();
	const buffer = takePages(guest, 64);
	guest.engine.ram.fill(buffer, 64 * 4096, 7);
	const count = (guest.pools[0]?.pool.bytes ?? 0) / 262144;
	const held = Array.from({ length: count }, () => device.map(buffer, 262144, ToDevice) as number);
	expect(guest.pools[0]?.growing?.used).toBe(count * 128);
	return { guest, device, buffer, held };
}

const hazards = (guest: Guest) => guest.hazards.map(({ what }) => what);

describe("an allocator of a guest that is full", () => {
	it.each(RUNS)("serves from a transient pool, then grows ($platform, $kernel)", async ({ platform, kernel }) => {
		const { guest, device, buffer, held } = await full({ platform, kernel });
		const { hostRead } = PLATFORMS[platform];
		const isPlain = hostRead === "plain";
		const firstShared = defaultPoolShared(kernel, platform);
		// 6.12 asks for the device's need, 7.3 for the pools'
		const fromAtomic = kernel === "linux-6.12" ? reachesSharedOnly(kernel, platform) : firstShared;
		const growing = guest.pools[0]?.growing;
		const atomicFree = () => guest.atomic?.pools.reduce((sum, { freeBytes }) => sum + freeBytes, 0) ?? 0;
		const [free, pages] = [atomicFree(), guest.pages.freePages];
		const dma = device.map(buffer, 5000, FromDevice);
		const tlb = dma - bitsOf(platform, firstShared ? "shared" : "private");
		expect(guest.engine.pools.some((pool) => tlb >= pool.start && tlb < pool.start + pool.bytes)).toBe(false);
		expect(guest.engine.ram.pageState(tlb)).toBe(isPlain || otherPoolsShared(platform) ? Shared : Private);
		// encrypted memory would have to be decrypted, which may sleep
		expect([free - atomicFree(), pages - guest.pages.freePages]).toEqual(fromAtomic ? [8192, 0] : [0, 2]);
		expect([growing?.growthQueued, growing?.transientSlabs]).toEqual([true, 3]);
		expect(growing?.transients).toMatchObject([{ gpa: tlb, bytes: 8192 }]);
		// what a device would write: on pKVM the kernel's own pool is private, and no device reaches it
		guest.engine.ram.fill(tlb, 1, 9);
		const grown = guest.tick();
		expect(grown.growth.map(({ pool, failed }) => [pool?.slabs, failed])).toEqual([[512, false]]);
		expect(guest.engine.ram.pageState(grown.growth[0]?.pool?.start ?? 0)).toBe(guest.engine.ram.pageState(tlb));
		// the next one finds room there
		const next = device.map(buffer, 262144, ToDevice);
		expect([growing?.growthQueued, growing?.transientSlabs, growing?.slabs]).toEqual([false, 3, 1024]);
		device.unmap(dma, 5000, FromDevice);
		expect([0, 1, 4999].map((at) => guest.engine.ram.read(buffer + at, 1)[0])).toEqual([9, 7, 7]);
		expect([growing?.transientSlabs, growing?.transients.map(({ gpa }) => gpa)]).toEqual([0, [tlb]]);
		expect(guest.tick().growth).toEqual([{ pool: null, failed: false, freedTransients: 1 }]);
		expect(atomicFree() - free).toBe(grown.atomicBytes);
		expect([growing?.transients, pages - guest.pages.freePages]).toEqual([[], 256 + grown.atomicBytes / 4096]);
		for (const one of [...held, next]) device.unmap(one, 262144, ToDevice);
		// 7.3 counts it with track_hiwater alone
		const mark = kernel === "linux-6.12" ? 4 * 128 + 3 + 128 : 0;
		expect([growing?.used, growing?.hiwater, growing?.transientSlabs]).toEqual([0, mark, 0]);
		expect(device.holds()).toEqual({ mappings: 0, bounceSlots: 0, coherentBuffers: 0 });
		// pages of its own are decrypted in the map, and 6.12 encrypts them in a callback
		const converts = !fromAtomic && otherPoolsShared(platform);
		expect(hazards(guest)).toEqual(!converts ? [] : kernel === "linux-6.12" ? [SLEEPS, SLEEPS] : [SLEEPS]);
	});

	it("counts transient slots and a high-water mark as its kernel does, and as track_hiwater has it", async () => {
		const marks = async (kernel: (typeof KERNEL_NAMES)[number], swiotlb: string) => {
			const { guest, device, buffer, held } = await full({ platform: "tdx", kernel, swiotlb });
			const dma = device.map(buffer, 5000, ToDevice);
			const { used, hiwater } = guest.pools[0]?.growing ?? {};
			for (const one of held) device.unmap(one, 262144, ToDevice);
			device.unmap(dma, 5000, ToDevice);
			return [used, hiwater, guest.pools[0]?.growing?.used];
		};
		expect(await marks("linux-6.12", "512,1,force")).toEqual([515, 515, 0]);
		expect(await marks("linux-7.3", "512,1,force,track_hiwater")).toEqual([515, 515, 0]);
		expect(await marks("linux-7.3", "512,1,force")).toEqual([512, 0, 0]);
		await expect(marks("linux-6.12", "512,1,force,track_hiwater")).rejects.toThrow(
			"swiotlb=512,1,force,track_hiwater: Linux 6.12 has no word track_hiwater",
		);
	});

	it("grows by less when memory is short, and says so when there is none", async () => {
		for (const [failures, slabs] of [
			[0, 2048],
			[1, 1024],
			[2, 512],
			[3, undefined],
		] as const) {
			const { guest, device, buffer } = await full({ platform: "cca", ram: 24 * MIB, swiotlb: "2048,1" });
			expect(guest.pools[0]?.growing?.sizes.map((size) => size.slabs)).toEqual([2048, 1024, 512]);
			device.map(buffer, 2048, ToDevice);
			const alloc = guest.pages.alloc.bind(guest.pages);
			let left: number = failures;
			guest.pages.alloc = (pages, limits) => {
				if (left-- > 0) guest.pages.failNext(1);
				return alloc(pages, limits);
			};
			expect(guest.tick().growth.map(({ pool, failed }) => [pool?.slabs, failed])).toEqual([
				[slabs, slabs === undefined],
			]);
			expect(guest.messages.filter((message) => message.startsWith("Failed"))).toEqual(
				slabs === undefined ? ["Failed to allocate new pool"] : [],
			);
			// not due again before the next map that finds no room
			expect(guest.tick().growth.map(({ pool }) => pool)).toEqual([null]);
		}
	});

	it("grows no further than growthSlabs", async () => {
		const { guest, device, buffer } = await full({ platform: "tdx", growthSlabs: 1100 });
		const grown: (number | undefined)[] = [];
		for (let i = 0; i < 5; i++) {
			for (let dma = 0; dma >= 0; ) dma = device.dma.tryMap(buffer, 262144, ToDevice);
			device.map(buffer, 100, ToDevice);
			grown.push(guest.tick().growth[0]?.pool?.slabs);
		}
		expect(grown).toEqual([512, 512, undefined, undefined, undefined]);
		expect(guest.pools[0]?.growing?.slabs).toBe(512 + 1024);
		expect(guest.messages.at(-1)).toBe("Failed to allocate new pool");
	});

	it("leaks what it cannot decrypt, and tries less", async () => {
		const { guest, device, buffer } = await full({ platform: "tdx", ram: 24 * MIB, swiotlb: "2048,1" });
		device.map(buffer, 2048, ToDevice);
		guest.converter.failAt("host");
		expect(guest.tick().growth[0]?.pool?.slabs).toBe(1024);
		expect([guest.converter.leakedPages, guest.pages.leakedPages]).toEqual([1024, 1024]);
	});

	it("refuses what no transient pool can serve: too large for the atomic pools, or no memory", async () => {
		for (const kernel of KERNEL_NAMES) {
			const { guest, device, buffer } = await full({ platform: "snp", kernel });
			const said = guest.messages.length;
			expect(statusName(device.tryMap(buffer, 262144, ToDevice))).toBe("NEEDS_TRANSIENT");
			const told = kernel === "linux-7.3" ? ["DMA pool exhausted for a transient pool"] : [];
			expect(guest.messages.slice(said)).toEqual(told);
			expect(guest.pools[0]?.growing?.growthQueued).toBe(true);
		}
		const plain = await full({ platform: "pkvm" });
		plain.guest.pages.failNext();
		expect(statusName(plain.device.tryMap(plain.buffer, 100, ToDevice))).toBe("NEEDS_TRANSIENT");
		const none = await smallGuest({ platform: "snp", swiotlb: "128,1,force" });
		const bouncing = none.addDevice();
		bouncing.map(takePages(none, 64), 262144, ToDevice);
		expect(statusName(bouncing.tryMap(takePages(none, 1), 100, ToDevice))).toBe("POOL_FULL");
		expect(none.tick().growth).toEqual([]);
	});

	it.each(KERNEL_NAMES)("sleeps where it may not without atomic pools (%s)", async (kernel) => {
		const { guest, device, buffer } = await full({ platform: "snp-vtom", kernel, atomicPools: false });
		const pages = guest.pages.freePages;
		const dma = device.map(buffer, 5000, ToDevice);
		expect(hazards(guest)).toEqual([SLEEPS]);
		expect(guest.engine.ram.pageState(dma - bitsOf("snp-vtom", "shared"))).toBe(Shared);
		device.unmap(dma, 5000, ToDevice);
		guest.tick();
		// 7.3 frees transient pools in process context
		expect(hazards(guest)).toEqual(kernel === "linux-6.12" ? [SLEEPS, SLEEPS] : [SLEEPS]);
		expect(guest.engine.ram.pageState(dma - bitsOf("snp-vtom", "shared"))).toBe(Private);
		expect([guest.converter.leakedPages, pages - guest.pages.freePages]).toEqual([0, 256]);
	});

	it("leaks a transient pool's pages that cannot be encrypted again", async () => {
		const { guest, device, buffer } = await full({ platform: "cca", atomicPools: false });
		const dma = device.map(buffer, 5000, ToDevice);
		device.unmap(dma, 5000, ToDevice);
		guest.converter.failAt("host");
		guest.tick();
		expect([guest.converter.leakedPages, guest.pages.leakedPages]).toEqual([2, 2]);
		expect(guest.engine.ram.pageState(dma - bitsOf("cca", "shared"))).toBe(PageState.Leaked);
	});
});

describe("a guest's atomic pools", () => {
	it("grow on a tick when they are short", async () => {
		const { guest, device, buffer } = await full({ platform: "tdx" });
		device.map(buffer, 65536, ToDevice);
		const { atomicBytes } = guest.tick();
		expect(atomicBytes).toBe(131072);
		expect(guest.tick().atomicBytes).toBe(0);
	});
});

describe("a guest in a memory of somebody else's", () => {
	it("needs as much context as contextBytes says, and touches nothing else", async () => {
		const options = {
			platform: "snp",
			kernel: "linux-7.3",
			swiotlb: "512,1",
			growthSlabs: 512,
			pools: [{ kind: "private", size: "256K" }],
		} as const;
		const ptr = 4 * 65536;
		const context = Guest.contextBytes({ ...options, ram: 8 * MIB });
		const ram = [{ gpa: MIB, bytes: 8 * MIB, ptr: ptr + MIB }];
		expect(context).toBeLessThan(MIB);
		const memory = new WebAssembly.Memory({ initial: 10 * 16 });
		const bytes = new Uint8Array(memory.buffer).fill(0xa5);
		const guest = await Guest.create({ ...options, ram, memory, context: { ptr, bytes: context } });
		expect(guest.engine.memory).toBe(memory);
		const device = guest.addDevice();
		const buffer = takePages(guest, 64);
		for (let i = 0; i < 4; i++) device.map(buffer, 262144, ToDevice);
		device.map(buffer, 2048, ToDevice);
		expect(guest.tick().growth[0]?.pool?.slabs).toBe(512);
		device.map(buffer, 262144, ToDevice);
		const outside = [bytes.subarray(0, ptr), bytes.subarray(ptr + context, ptr + MIB), bytes.subarray(ptr + 9 * MIB)];
		expect(outside.every((part) => part.every((byte) => byte === 0xa5))).toBe(true);
		const small = { ptr, bytes: context - 4096 };
		await expect(Guest.create({ ...options, ram, memory, context: small })).rejects.toThrow(/context/i);
	});
});

describe("zeroOnFree", () => {
	it.each([true, false])("%s: what a host finds in freed slots, in pools that grow too", async (zeroOnFree) => {
		const { guest, device, buffer, held } = await full({
			platform: "tdx",
			zeroOnFree,
			pools: [{ kind: "bus", size: "256K", zeroOnFree }],
		});
		device.unmap(device.map(buffer, 100, ToDevice), 100, ToDevice);
		guest.tick();
		const grown = device.map(buffer, 4096, ToDevice);
		const bus = guest.addDevice({ pools: guest.pools.slice(1) });
		const third = bus.map(buffer, 4096, ToDevice);
		for (const dma of [held[0] as number, grown, third]) {
			const gpa = dma - bitsOf("tdx", "shared");
			expect(guest.parties.host.read(gpa, 1)[0]).toBe(7);
			if (dma === third) bus.unmap(dma, 4096, ToDevice);
			else device.unmap(dma, dma === grown ? 4096 : 262144, ToDevice);
			expect(guest.parties.host.read(gpa + 4095, 1)[0]).toBe(zeroOnFree ? 0 : 7);
		}
	});
});

describe("without node:crypto, as in a browser", () => {
	afterEach(() => {
		vi.restoreAllMocks();
	});

	it("a guest works, loadCipher says why not, and so does the host's read of encrypted memory", async () => {
		const cipher = await loadCipher(3);
		const builtin = process.getBuiltinModule.bind(process);
		vi.spyOn(process, "getBuiltinModule").mockImplementation((id: string) =>
			id === "node:crypto" ? undefined : builtin(id),
		);
		await expect(loadCipher()).rejects.toMatchObject({
			name: "CipherUnavailable",
			message: expect.stringContaining("as in a browser"),
		});
		const guest = await smallGuest({ platform: "snp" });
		const buffer = takePages(guest, 1);
		guest.engine.ram.fill(buffer, 64, 7);
		expect(() => guest.parties.host.read(buffer, 64)).toThrow(/^the host's view of encrypted memory needs AES-XTS/);
		expect(guest.parties.guest.read(buffer, 1)).toEqual(Uint8Array.of(7));
		const keyed = await smallGuest({ platform: "snp", cipher });
		keyed.engine.ram.fill(buffer, 64, 7);
		const seen = keyed.parties.host.read(buffer, 64);
		expect(seen.every((byte) => byte === 7)).toBe(false);
		expect(cipher.decrypt(buffer, seen).every((byte) => byte === 7)).toBe(true);
	});
});
