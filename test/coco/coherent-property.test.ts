import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { CoherentBuffer } from "../../src/coco/memory/coherent.ts";
import type { KernelName } from "../../src/coco/rules/kernel.ts";
import { PageState } from "../../src/memory/ram.ts";
import { coherentGuest, PAGE, slotsAt } from "../helpers/coherent.ts";
import { otherPoolsShared, reportsEncryption } from "../helpers/kernel-facts.ts";
import { printSeed, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";

const { Shared, Private, Leaked, InTransition } = PageState;
printSeed("coherent memory");

/** Few pages, so that they run out; the first are a restricted pool's. */
const POOL_PAGES = 16;
const RAM_PAGES = 128;
const DEVICES = 4;

interface Step {
	readonly kind: "alloc" | "free" | "free twice" | "fail" | "throw" | "empty" | "tick" | "trust";
	readonly device: number;
	readonly n: number;
	readonly atomic: boolean;
	readonly noKernelMapping: boolean;
}

const steps = fc.array(
	fc.record({
		kind: fc.constantFrom<Step["kind"]>(
			...(["alloc", "alloc", "alloc", "alloc", "free", "free", "free"] as const),
			...(["free twice", "fail", "throw", "empty", "tick", "trust"] as const),
		),
		device: fc.integer({ min: 0, max: DEVICES - 1 }),
		n: fc.integer({ min: 1, max: 6 }),
		atomic: fc.boolean(),
		noKernelMapping: fc.boolean(),
	}),
	{ minLength: 1, maxLength: 80 },
);

interface Held {
	readonly buffer: CoherentBuffer;
	readonly device: number;
	readonly needsShared: boolean;
	readonly state: PageState;
}

async function history(platform: "snp" | "tdx" | "pkvm" | "none", kernel: KernelName, list: readonly Step[]) {
	const pool = { gpa: 0, bytes: POOL_PAGES * PAGE };
	const ram = [{ gpa: 0, bytes: RAM_PAGES * PAGE }];
	const guest = await coherentGuest({ platform, kernel, ram, reserved: [pool], atomicBytes: 4 * PAGE });
	const { converter, allocator, atomic, coherent, hazards } = guest;
	const pages = guest.ram;
	if (guest.platform.conversion.steps.toShared.length > 0) converter.convert(pool.gpa, pool.bytes, Shared);
	const start = pages.pageState(pool.bytes);
	// coherent, not coherent, trusted, and with a restricted pool
	const devices = [
		guest.device({ index: 0 }),
		guest.device({ index: 1, coherent: false }),
		guest.device({ index: 2, needsShared: false }),
		guest.device({ index: 3, slots: slotsAt(pool.gpa, pool.bytes) }),
	];
	const held: Held[] = [];
	const taken = new Set<number>();
	const leaked = new Set<number>();
	const pagesOf = ({ gpa, bytes }: CoherentBuffer) => Array.from({ length: bytes / PAGE }, (_, i) => gpa + i * PAGE);
	const noteLeaks = () => {
		for (let at = 0; at < RAM_PAGES * PAGE; at += PAGE) if (pages.pageState(at) === Leaked) leaked.add(at);
	};
	const noThrow = (call: () => void) => {
		try {
			call();
		} catch (error) {
			expect((error as Error).message).toBe("observer");
		}
		converter.onTransition = null;
	};
	const free = (index: number, isAtomic: boolean) => {
		const one = held.splice(index, 1)[0] as Held;
		for (const at of pagesOf(one.buffer)) taken.delete(at);
		const device = devices[one.device];
		if (device === undefined) return;
		const before = hazards.length;
		noThrow(() => coherent.free(device, one.buffer, { atomic: isAtomic }));
		const told = hazards.slice(before).map(({ what }) => what);
		expect(told.includes("TRUST_CHANGED")).toBe(device.needsShared !== one.needsShared);
	};
	const alloc = ({ device: index, n, atomic: isAtomic, noKernelMapping }: Step) => {
		const device = devices[index];
		if (device === undefined) return;
		const before = hazards.length;
		noThrow(() => {
			const got = coherent.alloc(device, n * PAGE - 7, { atomic: isAtomic, noKernelMapping });
			if (!got.ok) return;
			const { gpa, bytes, source, dma } = got;
			const { needsShared } = device;
			const state = pages.pageState(gpa);
			for (const at of pagesOf(got)) {
				expect([taken.has(at), leaked.has(at), pages.pageState(at)]).toEqual([false, false, state]);
				taken.add(at);
			}
			expect(dma).toBe(device.encode(gpa, needsShared));
			const zeroed = pages.read(gpa, bytes).every((byte) => byte === 0);
			if (source !== "cookie") expect(zeroed).toBe(true);
			// a trusted device's buffer is private wherever there is private memory, or the kernel says that it is not
			const wrong = start === Private && (state === Shared) !== needsShared;
			const told = hazards.slice(before).some(({ what }) => what === "PAGE_STATE");
			if (wrong && (needsShared || reportsEncryption(kernel, platform))) expect(told).toBe(true);
			if (kernel === "linux-7.3" && reportsEncryption(kernel, platform)) expect([wrong, told]).toEqual([false, false]);
			held.push({ buffer: got, device: index, needsShared, state });
		});
	};
	const check = () => {
		expect(allocator.freePages + allocator.usedPages + allocator.leakedPages).toBe(RAM_PAGES - POOL_PAGES);
		for (const { buffer, state } of held) for (const at of pagesOf(buffer)) expect(pages.pageState(at)).toBe(state);
		for (let at = pool.bytes; at < RAM_PAGES * PAGE; at += PAGE)
			if (allocator.isFree(at)) expect(pages.pageState(at)).toBe(start);
		for (const at of leaked) expect([pages.pageState(at), allocator.isFree(at)]).toEqual([Leaked, false]);
		expect(pages.pagesInState(InTransition)).toBe(0);
		for (const device of devices)
			expect(coherent.live(device)).toBe(held.filter(({ device: index }) => index === device.index).length);
	};
	for (const step of list) {
		const { kind, device, n } = step;
		if (kind === "alloc") alloc(step);
		else if (kind === "tick") atomic?.tick();
		else if (kind === "empty") allocator.failNext(n);
		else if (kind === "fail" && start === Private) {
			const to = step.atomic ? Shared : Private;
			const known = converter.steps(to === Shared ? Private : Shared, to);
			converter.failAt(known[n % known.length]?.step ?? "host");
		} else if (kind === "throw") {
			converter.onTransition = () => {
				throw new Error("observer");
			};
			if (n % 2 === 0 && held.length > 0) free(n % held.length, false);
			else alloc({ ...step, atomic: false });
		} else if (kind === "trust") {
			const one = devices[device];
			if (one !== undefined) one.needsShared = !one.needsShared;
		} else if (kind === "free" && held.length > 0) free(n % held.length, step.atomic);
		else if (kind === "free twice" && held.length > 0) {
			const { buffer, device: index } = held[n % held.length] as Held;
			free(n % held.length, step.atomic);
			const counts = () => [allocator.freePages, allocator.usedPages, allocator.leakedPages, hazards.length];
			const before = counts();
			expect(() => coherent.free(devices[index] as (typeof devices)[0], buffer)).toThrow(
				/DOUBLE_FREE|FOREIGN_FREE|LEAKED_PAGES/,
			);
			expect(counts()).toEqual(before);
		}
		noteLeaks();
		check();
	}
	while (held.length > 0) free(0, false);
	noteLeaks();
	check();
	const poolPages = atomic?.pools.reduce((sum, { bytes }) => sum + bytes / PAGE, 0) ?? 0;
	expect(allocator.usedPages).toBe(poolPages);
	for (const { bytes, freeBytes } of atomic?.pools ?? []) expect(freeBytes).toBe(bytes);
	const sharedByPools = otherPoolsShared(platform) ? poolPages : 0;
	let poolShared = 0;
	for (let at = pool.gpa; at < pool.gpa + pool.bytes; at += PAGE) if (pages.pageState(at) === Shared) poolShared++;
	// 6.12 encrypts a restricted pool's pages when they are given back
	if (kernel === "linux-7.3") expect(poolShared).toBe(POOL_PAGES);
	if (start === Private) expect(pages.pagesInState(Shared)).toBe(poolShared + sharedByPools);
}

describe("over random histories of allocations, frees, failures and changes of trust, coherent memory", () => {
	for (const platform of ["snp", "tdx", "pkvm", "none"] as const) {
		it(`on ${platform} is in one state, nobody else's, never leaked memory, and all accounted for`, async () => {
			for (const kernel of ["linux-6.12", "linux-7.3"] as const)
				await fc.assert(
					fc.asyncProperty(steps, (list) => history(platform, kernel, list)),
					{ seed: SEED, numRuns: bySuite({ quick: 10, slow: 40 }) },
				);
		});
	}
});
