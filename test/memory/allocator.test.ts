import { describe, expect, it } from "vitest";
import { PageAllocator, PageError } from "../../src/memory/allocator.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";

const PAGE = 4096;
const MIB = 2 ** 20;
printSeed("allocator");

/** The status of the PageError that a call throws. */
function refusal(call: () => void): string {
	try {
		call();
	} catch (error) {
		expect(error).toBeInstanceOf(PageError);
		return (error as PageError).status;
	}
	return "none";
}

describe("the page allocator", () => {
	it("hands out the highest block within the limit, aligned to its size", () => {
		const pages = new PageAllocator([{ gpa: 0, bytes: 16 * MIB }]);
		expect(pages.freePages).toBe(4096);
		expect(pages.alloc(1)).toBe(16 * MIB - PAGE);
		expect(pages.alloc(2)).toBe(16 * MIB - 4 * PAGE);
		expect(pages.alloc(1024)).toBe(8 * MIB);
		expect(pages.alloc(1, { belowGpa: 5 * PAGE })).toBe(4 * PAGE);
		expect(pages.alloc(4, { belowGpa: 7 * PAGE })).toBe(0);
		expect(pages.alloc(1, { belowGpa: 4096 })).toBe(-1);
		expect(pages.freePages).toBe(4096 - 1 - 2 - 1024 - 1 - 4);
	});

	it("takes exactly the pages asked for, out of the power of two that holds them", () => {
		const pages = new PageAllocator([{ gpa: 0, bytes: 4 * MIB }]);
		const gpa = pages.alloc(5);
		expect(gpa % (8 * PAGE)).toBe(0);
		expect(pages.freePages).toBe(1024 - 5);
		expect(pages.isFree(gpa + 4 * PAGE)).toBe(false);
		expect(pages.isFree(gpa + 5 * PAGE)).toBe(true);
		pages.free(gpa, 5);
		expect(pages.alloc(1024)).toBe(0);
	});

	it("aligns to more than the block's size when asked to", () => {
		const pages = new PageAllocator([{ gpa: 0, bytes: 8 * MIB }]);
		expect(pages.alloc(1, { alignPages: 512 })).toBe(6 * MIB);
		expect(pages.freePages).toBe(2047);
		expect(pages.alloc(1)).toBe(8 * MIB - PAGE);
	});

	it("never hands out reserved pages or pages outside RAM", () => {
		const pages = new PageAllocator(
			[
				{ gpa: 0, bytes: 0xa0000 },
				{ gpa: MIB, bytes: 2 * MIB },
			],
			[
				{ gpa: 0, bytes: PAGE },
				{ gpa: 2 * MIB, bytes: MIB },
			],
		);
		expect(pages.freePages).toBe(0xa0 - 1 + 256);
		const seen = new Set<number>();
		for (let gpa = pages.alloc(1); gpa >= 0; gpa = pages.alloc(1)) seen.add(gpa);
		expect(seen.size).toBe(0xa0 - 1 + 256);
		expect(seen.has(0)).toBe(false);
		for (const gpa of seen) expect(gpa < 0xa0000 || (gpa >= MIB && gpa < 2 * MIB)).toBe(true);
	});

	it("has no block above 4 MiB, whatever is free", () => {
		const pages = new PageAllocator([{ gpa: 0, bytes: 64 * MIB }]);
		expect(pages.alloc(1025)).toBe(-1);
		expect(pages.alloc(1024)).toBe(60 * MIB);
	});

	it("takes runs above 4 MiB from adjoining free blocks, the highest that end within the limit", () => {
		const pages = new PageAllocator([
			{ gpa: MIB, bytes: 31 * MIB },
			{ gpa: 64 * MIB, bytes: 16 * MIB },
		]);
		expect(pages.allocRun(1024)).toBe(76 * MIB);
		// the blocks below 76 MiB adjoin, those at 28 and 64 MiB do not
		expect(pages.allocRun(3 * 1024)).toBe(64 * MIB);
		expect(pages.allocRun(3 * 1024 + 1, { belowGpa: 30 * MIB })).toBe(16 * MIB);
		expect(pages.allocRun(4 * 1024)).toBe(-1);
		expect(pages.allocRun(1025, { belowGpa: 12 * MIB })).toBe(4 * MIB);
		expect(pages.usedPages).toBe(1024 + 3 * 1024 + 3 * 1024 + 1 + 1025);
		pages.free(16 * MIB, 3 * 1024 + 1);
		expect(refusal(() => pages.free(16 * MIB, 3 * 1024 + 1))).toBe("DOUBLE_FREE");
		pages.failNext();
		expect(pages.allocRun(3 * 1024)).toBe(-1);
		expect(pages.allocRun(3 * 1024)).toBe(20 * MIB);
		expect(() => pages.allocRun(2000.5)).toThrow(/pages must be/);
	});

	it("refuses a double, foreign or partial free by name, and changes nothing", () => {
		const pages = new PageAllocator([{ gpa: 0, bytes: 4 * MIB }], [{ gpa: 0, bytes: PAGE }]);
		const gpa = pages.alloc(4);
		expect(refusal(() => pages.free(gpa, 3))).toBe("SIZE_MISMATCH");
		expect(refusal(() => pages.free(gpa + PAGE, 3))).toBe("FOREIGN_FREE");
		expect(refusal(() => pages.free(0, 1))).toBe("FOREIGN_FREE");
		expect(refusal(() => pages.free(2 ** 40, 1))).toBe("FOREIGN_FREE");
		expect(pages.usedPages).toBe(4);
		pages.free(gpa, 4);
		expect(refusal(() => pages.free(gpa, 4))).toBe("DOUBLE_FREE");
		expect(pages.freePages).toBe(1023);
	});

	it("keeps leaked pages out of use for ever, and counts them", () => {
		const pages = new PageAllocator([{ gpa: 0, bytes: 4 * MIB }]);
		const gpa = pages.alloc(512);
		pages.leak(gpa, 512);
		expect(refusal(() => pages.free(gpa, 512))).toBe("LEAKED_PAGES");
		expect([pages.freePages, pages.usedPages, pages.leakedPages]).toEqual([512, 0, 512]);
		expect(pages.alloc(512)).toBe(0);
		expect(pages.alloc(1)).toBe(-1);
	});

	it("fails the nth next allocation when told to, and only that one", () => {
		const pages = new PageAllocator([{ gpa: 0, bytes: 4 * MIB }]);
		pages.failNext(2);
		expect(pages.alloc(1)).toBeGreaterThan(0);
		expect(pages.alloc(1)).toBe(-1);
		expect(pages.alloc(1)).toBeGreaterThan(0);
		pages.failNext();
		expect(pages.alloc(1)).toBe(-1);
	});

	it("names an argument outside its range", () => {
		const pages = new PageAllocator([{ gpa: 0, bytes: 4 * MIB }]);
		expect(() => pages.alloc(0)).toThrow(/pages must be/);
		expect(() => pages.alloc(1.5)).toThrow(/pages must be/);
		expect(() => pages.alloc(1, { alignPages: 3 })).toThrow(/alignPages/);
		expect(() => pages.alloc(1, { alignPages: 2048 })).toThrow(/alignPages/);
		expect(() => pages.alloc(1, { belowGpa: Number.NaN })).toThrow(/belowGpa/);
		expect(() => pages.failNext(-1)).toThrow(/nth/);
		expect(() => new PageAllocator([{ gpa: 1, bytes: 4096 }])).toThrow(/multiples of 4096/);
		expect(() => new PageAllocator([{ gpa: 0, bytes: 4096 }], [{ gpa: 4096, bytes: 4096 }])).toThrow(/not in RAM/);
	});

	it("agrees with a map of pages over random histories: no page twice, none lost, and blocks join again", () => {
		const random = new Random(SEED);
		for (let round = 0; round < 20; round++) {
			const ram = [
				{ gpa: 0x9000, bytes: random.between(1, 700) * PAGE },
				{ gpa: 4 * MIB, bytes: random.between(1, 3000) * PAGE },
				{ gpa: 2 ** 32, bytes: random.between(1, 2000) * PAGE },
			];
			const total = ram.reduce((sum, { bytes }) => sum + bytes / PAGE, 0);
			const pages = new PageAllocator(ram);
			const owner = new Map<number, number>();
			const live: { gpa: number; pages: number }[] = [];
			let leaked = 0;
			const free = (gpa: number) =>
				!owner.has(gpa) && ram.some((each) => gpa >= each.gpa && gpa < each.gpa + each.bytes);
			for (let step = 0; step < 400; step++) {
				if (random.oneIn(3) && live.length > 0) {
					const block = live.splice(random.below(live.length), 1)[0] as { gpa: number; pages: number };
					if (random.oneIn(12)) {
						pages.leak(block.gpa, block.pages);
						leaked += block.pages;
						continue;
					}
					pages.free(block.gpa, block.pages);
					for (let i = 0; i < block.pages; i++) owner.delete(block.gpa + i * PAGE);
					continue;
				}
				const want = random.oneIn(4) ? random.between(1, 300) : random.between(1, 6);
				const alignPages = random.pick([1, 1, 2, 16, 128]);
				const belowGpa = random.pick([Number.POSITIVE_INFINITY, 2 ** 32, 5 * MIB + 12345, 2 ** 32 + 777 * PAGE]);
				const gpa = pages.alloc(want, { alignPages, belowGpa });
				const size = 2 ** Math.ceil(Math.log2(Math.max(want, alignPages))) * PAGE;
				if (gpa < 0) {
					// really none: every aligned block within the limit holds a page that is not free
					for (const each of ram) {
						const end = Math.min(each.gpa + each.bytes, belowGpa);
						for (let at = Math.ceil(each.gpa / size) * size; at + size <= end; at += size) {
							let all = true;
							for (let page = at; all && page < at + size; page += PAGE) all = free(page);
							expect(all).toBe(false);
						}
					}
					continue;
				}
				expect(gpa % size).toBe(0);
				expect(gpa + want * PAGE).toBeLessThanOrEqual(belowGpa);
				for (let i = 0; i < want; i++) {
					expect(free(gpa + i * PAGE)).toBe(true);
					owner.set(gpa + i * PAGE, gpa);
				}
				live.push({ gpa, pages: want });
			}
			expect(pages.freePages).toBe(total - owner.size);
			expect(pages.usedPages).toBe(live.reduce((sum, block) => sum + block.pages, 0));
			for (const block of live) pages.free(block.gpa, block.pages);
			expect([pages.usedPages, pages.leakedPages, pages.freePages]).toEqual([0, leaked, total - leaked]);
		}
	});

	it("joins everything into whole blocks again when nothing is in use", () => {
		const random = new Random(SEED + 1);
		const pages = new PageAllocator([{ gpa: 0, bytes: 16 * MIB }]);
		const live: [number, number][] = [];
		for (let i = 0; i < 200; i++) {
			const want = random.between(1, 20);
			live.push([pages.alloc(want), want]);
		}
		for (const [gpa, want] of live.sort(() => (random.oneIn(2) ? 1 : -1))) pages.free(gpa, want);
		for (let i = 4; i > 0; i--) expect(pages.alloc(1024)).toBe((i - 1) * 4 * MIB);
	});
});
