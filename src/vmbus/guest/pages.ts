/** Guest pages: where they come from, and how the host gets and loses sight of them. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { PageConverter } from "../../coco/platform/convert.ts";
import { PLATFORMS, type Platform } from "../../coco/platform/platform.ts";
import type { Engine } from "../../engine.ts";
import { PageAllocator } from "../../memory/allocator.ts";
import { PageState } from "../../memory/ram.ts";
import { DmaError } from "../../status.ts";
import type { GuestPages } from "../../synic/guest-pages.ts";
import type { Gpa } from "../../types.ts";

/** Pages of an engine's RAM, converted as its platform does it: Guest.pages and Guest.converter, or a guest side's own. */
export class EnginePages implements GuestPages {
	readonly #allocator: PageAllocator;
	readonly converter: PageConverter;

	constructor(allocator: PageAllocator, converter: PageConverter) {
		this.#allocator = allocator;
		this.converter = converter;
	}

	/**
	 * An allocator and a converter of its own over an engine's RAM.
	 * @param runs page-aligned stretches that are the guest side's own. Default: all RAM but page 0, which stands for
	 *   "none" in messages, and the bounce pools
	 * @param platform how pages convert. Default: SNP with vTOM
	 * @throws RangeError for a run that is not page-aligned or no RAM
	 */
	static over(
		engine: Engine,
		runs?: readonly { readonly gpa: Gpa; readonly bytes: number }[],
		platform: Platform = PLATFORMS["snp-vtom"],
	): EnginePages {
		const { regions } = engine.ram;
		const pools = engine.pools.map(({ start, bytes }) => ({ gpa: start, bytes }));
		const pageZero = regions.filter(({ gpa }) => gpa === 0).map(({ gpa }) => ({ gpa, bytes: PAGE_SIZE }));
		const allocator =
			runs === undefined ? new PageAllocator(regions, [...pageZero, ...pools]) : new PageAllocator(runs);
		return new EnginePages(allocator, new PageConverter(engine, platform));
	}

	/** Pages in use, leaked ones not counted. */
	get used(): number {
		return this.#allocator.usedPages;
	}

	/** Pages leaked so far. */
	get leaked(): number {
		return this.#allocator.leakedPages;
	}

	alloc(pages: number, _purpose: string): Gpa {
		const gpa = pages < 1 ? -1 : this.#allocator.allocRun(pages);
		if (gpa >= 0) this.converter.engine.ram.fill(gpa, pages * PAGE_SIZE);
		return gpa;
	}

	free(gpa: Gpa, pages: number): void {
		this.#allocator.free(gpa, pages);
	}

	/** What a conversion leaves is zeroed, so that nothing private shows. */
	#convert(gpa: Gpa, pages: number, state: PageState): boolean {
		try {
			return this.converter.convert(gpa, pages * PAGE_SIZE, state, { zero: true }).ok;
		} catch (error) {
			if (error instanceof DmaError) return false;
			throw error;
		}
	}

	decrypt(gpa: Gpa, pages: number): boolean {
		return this.#convert(gpa, pages, PageState.Shared);
	}

	encrypt(gpa: Gpa, pages: number): boolean {
		return this.#convert(gpa, pages, PageState.Private);
	}

	leak(gpa: Gpa, pages: number): void {
		const { ram } = this.converter.engine;
		this.#allocator.leak(gpa, pages);
		for (let at = gpa; at < gpa + pages * PAGE_SIZE; at += PAGE_SIZE)
			if (ram.pageState(at) !== PageState.Leaked) ram.convert(at, PAGE_SIZE, PageState.Leaked);
	}
}
