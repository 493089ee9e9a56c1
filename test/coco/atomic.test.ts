import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AtomicPools, atomicPoolBytes } from "../../src/coco/memory/atomic.ts";
import { PageConverter } from "../../src/coco/platform/convert.ts";
import { PLATFORMS, type Platform, type PlatformName, platformNamed } from "../../src/coco/platform/platform.ts";
import { KERNELS, type KernelName, type ZoneName } from "../../src/coco/rules/kernel.ts";
import { Engine } from "../../src/engine.ts";
import { PageAllocator } from "../../src/memory/allocator.ts";
import { PageState } from "../../src/memory/ram.ts";
import { otherPoolsShared } from "../helpers/kernel-facts.ts";
import { printSeed, SEED } from "../helpers/random.ts";

const PAGE = 4096;
const MIB = 2 ** 20;
const { Shared, Private, Leaked, InTransition } = PageState;
printSeed("atomic pools");

/** A megabyte in each zone. */
const RAM = [4 * MIB, 64 * MIB, 2 ** 32].map((gpa) => ({ gpa, bytes: MIB }));
const TOTAL_PAGES = (3 * MIB) / PAGE;

interface Plan {
	readonly platform?: PlatformName | Platform;
	readonly kernel?: KernelName;
	readonly pages?: number;
	readonly ram?: typeof RAM;
	readonly prepare?: (converter: PageConverter, allocator: PageAllocator) => void;
}

async function makePools({ platform: asked = "snp", kernel = "linux-7.3", pages = 8, ram = RAM, prepare }: Plan = {}) {
	const platform = typeof asked === "string" ? platformNamed(asked) : asked;
	const engine = await Engine.create({ ram, swiotlb: null, coco: platform.hostRead !== "plain" });
	const converter = new PageConverter(engine, platform);
	const allocator = new PageAllocator(ram);
	prepare?.(converter, allocator);
	const encrypted = otherPoolsShared(platform.name);
	const options = { ram: engine.ram, allocator, converter, bytes: pages * PAGE, kernel: KERNELS[kernel] };
	const pools = new AtomicPools(options);
	const take = (n: number, zone: ZoneName = "Normal") => {
		const got = pools.alloc(n * PAGE, { device: "nvme0", zone, ccShared: encrypted });
		if (!got.ok) throw new Error(got.message);
		return got.gpa;
	};
	return { engine, ram: engine.ram, converter, allocator, pools, take };
}

/** The status of the error that a call throws. */
function refusal(call: () => unknown): string {
	try {
		call();
	} catch (error) {
		return (error as { status: string }).status;
	}
	return "none";
}

describe("the atomic pools", () => {
	it("have 128 KiB for each GiB of RAM, at least 128 KiB and at most 4 MiB", () => {
		const sizes = [64 * MIB, 2 ** 30, 3 * 2 ** 30, 2 ** 35, 2 ** 40].map(atomicPoolBytes);
		expect(sizes).toEqual([131072, 131072, 393216, 4 * MIB, 4 * MIB]);
	});

	it.each(["linux-6.12", "linux-7.3"] as const)(
		"are one in each zone that has memory, shared wherever memory is kept from the host (%s)",
		async (kernel) => {
			for (const platform of ["snp", "tdx", "pkvm", "cca", "s390-pv", "sme", "arm64", "none"] as const) {
				const { pools, ram, allocator } = await makePools({ platform, kernel });
				// elsewhere ZONE_DMA reaches as far
				const isX86 = !["pkvm", "cca", "s390-pv", "arm64"].includes(platform);
				expect(pools.messages).toEqual([
					"DMA: preallocated 32 KiB GFP_KERNEL pool for atomic allocations",
					...(isX86 ? ["DMA: preallocated 32 KiB GFP_KERNEL|GFP_DMA32 pool for atomic allocations"] : []),
					"DMA: preallocated 32 KiB GFP_KERNEL|GFP_DMA pool for atomic allocations",
				]);
				expect(pools.pools.map(({ zone }) => zone)).toEqual(isX86 ? ["Normal", "DMA32", "DMA"] : ["Normal", "DMA"]);
				const pages = isX86 ? 24 : 16;
				const isPlain = platform === "none" || platform === "arm64";
				expect(pools.ccShared).toBe(!isPlain);
				expect(ram.pagesInState(Shared)).toBe(isPlain ? TOTAL_PAGES : pages);
				expect(allocator.usedPages).toBe(pages);
			}
		},
	);

	it.each([
		["linux-6.12", false, "Normal"],
		["linux-6.12", true, null],
		["linux-7.3", false, "DMA"],
		["linux-7.3", true, "DMA"],
	] as const)(
		"without a pool of the zone of 32 bits serve a request for it (%s, such a zone: %s) from %s",
		async (kernel, hasDma32, zone) => {
			const { snp } = PLATFORMS;
			const platform = { ...snp, architecture: { ...snp.architecture, hasDma32 } };
			// the pool of that zone is the second one
			const prepare = (each: PageConverter) => hasDma32 && each.failAt("host", 2);
			const { pools } = await makePools({ platform, kernel, prepare });
			expect(pools.pools.map((pool) => pool.zone)).toEqual(["Normal", "DMA"]);
			const got = pools.alloc(PAGE, { device: "nvme0", zone: "DMA32", ccShared: true });
			expect(got).toMatchObject(zone === null ? { status: "NO_SUITABLE_POOL" } : { ok: true, zone });
		},
	);

	it("do without a zone that has no memory, and say so", async () => {
		const { pools } = await makePools({ ram: RAM.slice(1) });
		expect(pools.pools.map(({ zone }) => zone)).toEqual(["Normal", "DMA32"]);
		expect(pools.messages.at(-1)).toBe("DMA: failed to allocate 32 KiB GFP_KERNEL|GFP_DMA pool for atomic allocation");
	});

	it("hand out zeroed blocks aligned to their power of two, from the zone that is asked for or a lower one", async () => {
		const { pools, ram, take } = await makePools();
		const one = take(1);
		const three = take(3);
		expect([one % PAGE, (three - one) / PAGE, three % (4 * PAGE)]).toEqual([0, 4, 0]);
		expect(one).toBeGreaterThanOrEqual(2 ** 32);
		expect(take(8)).toBeLessThan(2 ** 32);
		const low = take(2, "DMA");
		expect(low).toBeLessThan(2 ** 24);
		ram.fill(low, 2 * PAGE, 0xa5);
		pools.free(low, 2 * PAGE);
		expect(take(2, "DMA")).toBe(low);
		expect(ram.read(low, 2 * PAGE)).toEqual(new Uint8Array(2 * PAGE));
	});

	it("pass over a pool whose first fit the device does not reach", async () => {
		const { pools } = await makePools();
		const below = (limit: number) => (gpa: number, bytes: number) => gpa + bytes <= limit;
		for (const limit of [2 ** 32, 2 ** 24]) {
			const got = pools.alloc(PAGE, { device: "nvme0", fits: below(limit), ccShared: true });
			expect(got).toMatchObject({ ok: true });
			if (got.ok) expect(got.gpa).toBeLessThan(limit);
		}
		const none = pools.alloc(PAGE, { device: "nvme0", fits: below(MIB), ccShared: true });
		expect(none).toMatchObject({ status: "POOL_EXHAUSTED" });
		expect(pools.pools.map(({ freeBytes }) => freeBytes / PAGE)).toEqual([8, 7, 7]);
	});

	it("pass over a pool even if an older chunk of it would do, as gen_pool's first fit does not know the device", async () => {
		const { pools, take } = await makePools();
		const old = take(8);
		pools.tick();
		pools.free(old, 8 * PAGE);
		const fits = (gpa: number) => gpa === old || gpa < 2 ** 32;
		const got = pools.alloc(8 * PAGE, { device: "nvme0", fits, ccShared: true });
		expect(got.ok && got.gpa < 2 ** 32).toBe(true);
	});

	it("say when they are exhausted, and on 7.3 when none is of the kind that is asked for; 6.12 does not look", async () => {
		for (const kernel of ["linux-6.12", "linux-7.3"] as const) {
			const { pools } = await makePools({ kernel });
			const other = pools.alloc(PAGE, { device: "nvme0", ccShared: false });
			if (kernel === "linux-6.12") expect(other.ok).toBe(true);
			else
				expect(other).toMatchObject({ status: "NO_SUITABLE_POOL", message: "Failed to get suitable pool for nvme0" });
			const many = pools.alloc(9 * PAGE, { device: "nvme0", ccShared: true });
			expect(many).toMatchObject({ status: "POOL_EXHAUSTED", message: "DMA pool exhausted for nvme0" });
		}
		const empty = new PageAllocator([{ gpa: 0, bytes: PAGE }]);
		empty.alloc(1);
		const { engine, converter } = await makePools();
		const options = { ram: engine.ram, allocator: empty, converter, bytes: PAGE, encrypted: true } as const;
		const none = new AtomicPools({ ...options, kernel: KERNELS["linux-6.12"] });
		expect(none.alloc(PAGE, { device: "nvme0", ccShared: true })).toMatchObject({ status: "NO_SUITABLE_POOL" });
	});

	it("double at the next tick when less than the first size is free, and never shrink", async () => {
		const { pools, take, allocator } = await makePools();
		expect(pools.tick()).toBe(0);
		const first = take(8);
		expect(pools.alloc(PAGE, { device: "nvme0", ccShared: true }).ok).toBe(true);
		expect(pools.tick()).toBe(16 * PAGE);
		const sizes = () => pools.pools.map(({ bytes }) => bytes / PAGE);
		expect(sizes()).toEqual([16, 16, 8]);
		// the newest memory serves first
		expect(take(8)).not.toBe(first);
		expect([pools.tick(), pools.tick()]).toEqual([16 * PAGE, 0]);
		pools.free(first, 8 * PAGE);
		expect(pools.tick()).toBe(0);
		expect([sizes(), allocator.usedPages]).toEqual([[32, 16, 8], 56]);
		expect(take(8)).not.toBe(first);
	});

	it("grow by what there is, down to a page, and try again when there is nothing", async () => {
		const ram = [{ gpa: 4 * MIB, bytes: 26 * PAGE }];
		const { pools, take, allocator } = await makePools({ ram });
		expect([pools.tick(), take(8), allocator.freePages]).toEqual([0, expect.any(Number), 2]);
		expect(pools.tick()).toBe(2 * PAGE);
		take(1);
		expect([pools.tick(), allocator.freePages]).toEqual([0, 0]);
	});

	it("leak memory whose conversion fails, at creation and at growth, at every step", async () => {
		for (const platform of ["snp", "tdx", "snp-vtom"] as const) {
			const { converter } = await makePools({ platform });
			for (const { step } of converter.steps(Private, Shared)) {
				const guest = await makePools({ platform, prepare: (each) => each.failAt(step, 2) });
				expect(guest.pools.pools.map(({ zone }) => zone)).toEqual(["Normal", "DMA"]);
				expect(guest.pools.messages[1]).toContain("failed to allocate");
				guest.take(8);
				guest.converter.failAt(step);
				expect(guest.pools.tick()).toBe(0);
				expect(guest.pools.pools[0]).toMatchObject({ bytes: 8 * PAGE, freeBytes: 0 });
				expect([guest.allocator.leakedPages, guest.ram.pagesInState(Leaked)]).toEqual([16, 16]);
				// the queue is empty until the next allocation
				expect(guest.pools.tick()).toBe(0);
			}
		}
	});

	it("know their free pages", async () => {
		const { pools, take } = await makePools();
		const gpa = take(1);
		expect([pools.isFree(gpa), pools.isFree(gpa + PAGE), pools.isFree(gpa + 8 * PAGE)]).toEqual([false, true, false]);
	});

	it("refuse a size or a free that is none by name, and change nothing", async () => {
		const { pools, take } = await makePools();
		for (const bytes of [0, -1, 1.5, Number.NaN, 2 ** 31])
			expect(refusal(() => pools.alloc(bytes, { device: "nvme0", ccShared: true }))).toBe("BAD_SIZE");
		const gpa = take(2);
		for (const [at, bytes, status] of [
			[gpa, PAGE, "SIZE_MISMATCH"],
			[gpa, 1.5 * PAGE + 0.5, "SIZE_MISMATCH"],
			[gpa + PAGE, PAGE, "FOREIGN_FREE"],
			[gpa + 2 * PAGE, PAGE, "DOUBLE_FREE"],
			[2 ** 40, PAGE, "FOREIGN_FREE"],
		] as const)
			expect(refusal(() => pools.free(at, bytes))).toBe(status);
		expect(pools.pools[0]).toMatchObject({ freeBytes: 6 * PAGE });
		pools.free(gpa, PAGE + 1);
		expect(refusal(() => pools.free(gpa, 2 * PAGE))).toBe("DOUBLE_FREE");
		expect(pools.pools[0]).toMatchObject({ freeBytes: 8 * PAGE });
		await expect(makePools({ pages: -1 })).rejects.toThrow(/bytes must be/);
	});

	it("never give a page twice, lose none and keep every page's state over random histories", async () => {
		type Step = { kind: "take" | "free" | "tick" | "fail" | "empty"; n: number; zone: ZoneName };
		const steps = fc.array(
			fc.record({
				kind: fc.constantFrom<Step["kind"]>("take", "take", "take", "free", "free", "tick", "fail", "empty"),
				n: fc.integer({ min: 1, max: 9 }),
				zone: fc.constantFrom<ZoneName>("Normal", "DMA32", "DMA"),
			}),
			{ maxLength: 80 },
		);
		const history = async (platform: PlatformName, list: readonly Step[]) => {
			const { pools, allocator, converter, ram } = await makePools({ platform, pages: 4 });
			const held = new Set<number>();
			const live: { gpa: number; pages: number }[] = [];
			for (const { kind, n, zone } of list) {
				if (kind === "tick") pools.tick();
				else if (kind === "fail") converter.failAt("host");
				else if (kind === "empty") allocator.failNext();
				else if (kind === "free" && live.length > 0) {
					const { gpa, pages } = live.splice(n % live.length, 1)[0] as { gpa: number; pages: number };
					pools.free(gpa, pages * PAGE);
					for (let i = 0; i < pages; i++) held.delete(gpa + i * PAGE);
				} else if (kind === "take") {
					const got = pools.alloc(n * PAGE, { device: "nvme0", zone, ccShared: pools.ccShared });
					if (!got.ok) continue;
					live.push({ gpa: got.gpa, pages: n });
					for (let i = 0; i < n; i++) {
						expect(held.has(got.gpa + i * PAGE)).toBe(false);
						expect(ram.pageState(got.gpa + i * PAGE)).toBe(pools.ccShared ? Shared : Private);
						held.add(got.gpa + i * PAGE);
					}
				}
				const pages = (key: "bytes" | "freeBytes") => pools.pools.reduce((sum, pool) => sum + pool[key] / PAGE, 0);
				expect(pages("bytes") - pages("freeBytes")).toBe(held.size);
				expect(allocator.usedPages).toBe(pages("bytes"));
				expect(allocator.usedPages + allocator.freePages + allocator.leakedPages).toBe(TOTAL_PAGES);
				expect(ram.pagesInState(Leaked)).toBe(allocator.leakedPages);
				expect(ram.pagesInState(Shared)).toBe(pools.ccShared ? pages("bytes") : 0);
				expect(ram.pagesInState(InTransition)).toBe(0);
			}
			for (const { gpa, pages } of live) pools.free(gpa, pages * PAGE);
			for (const { bytes, freeBytes } of pools.pools) expect(freeBytes).toBe(bytes);
		};
		for (const platform of ["snp", "tdx", "pkvm"] as const)
			await fc.assert(
				fc.asyncProperty(steps, (list) => history(platform, list)),
				{ seed: SEED, numRuns: 60 },
			);
	});
});
