/** A guest's page allocator as the DMA layer sees it: buffers of runs of physically adjacent pages, from a seed. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import type { Gpa } from "../types.ts";

/** A stretch of physically adjacent pages. */
export interface PageStretch {
	readonly gpa: Gpa;
	readonly bytes: number;
}

/** A small generator with 32 bits of state (mulberry32, Tommy Ettinger, public domain). Numbers from 0 to below 1. */
function randomFrom(seed: number): () => number {
	let state = seed >>> 0;
	return () => {
		state = (state + 0x6d2b79f5) >>> 0;
		let x = Math.imul(state ^ (state >>> 15), state | 1);
		x = (x + Math.imul(x ^ (x >>> 7), x | 61)) ^ x;
		return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
	};
}

export class BufferAllocator {
	readonly #used: Uint8Array;
	readonly #stretches: readonly PageStretch[];
	readonly #contiguity: number;
	readonly #random: () => number;
	#free: number;

	/**
	 * @param stretches page-aligned memory to allocate from
	 * @param contiguity mean run of physically adjacent pages, 1 or more
	 */
	constructor(stretches: readonly PageStretch[], contiguity: number, seed: number) {
		this.#stretches = stretches;
		this.#contiguity = contiguity;
		this.#random = randomFrom(seed);
		this.#free = stretches.reduce((sum, { bytes }) => sum + bytes / PAGE_SIZE, 0);
		this.#used = new Uint8Array(this.#free);
	}

	/** Runs whose sizes add up to `bytes`, all starting on a page; or undefined when memory is out. */
	take(bytes: number): PageStretch[] | undefined {
		let left = Math.ceil(bytes / PAGE_SIZE);
		if (left > this.#free) return undefined;
		const runs: PageStretch[] = [];
		let taken = 0;
		let avoid = -1;
		while (left > 0) {
			const page = this.#freePage(avoid);
			const pages = this.#claim(page, Math.min(left, this.#runLength()));
			const size = Math.min(pages * PAGE_SIZE, bytes - taken);
			runs.push({ gpa: this.#gpa(page), bytes: size });
			taken += size;
			left -= pages;
			avoid = page + pages;
		}
		return runs;
	}

	/** Gives the pages of runs back. */
	give(runs: readonly PageStretch[]): void {
		for (const run of runs) {
			const first = this.#page(run.gpa);
			const pages = Math.ceil(run.bytes / PAGE_SIZE);
			this.#used.fill(0, first, first + pages);
			this.#free += pages;
		}
	}

	/** A geometric run length with the mean that was asked for. */
	#runLength(): number {
		if (this.#contiguity <= 1) return 1;
		return 1 + Math.floor(Math.log(1 - this.#random()) / Math.log(1 - 1 / this.#contiguity));
	}

	/** A free page from a random place on, and not the one that would join the previous run unless nothing else is free. */
	#freePage(avoid: number): number {
		const start = Math.floor(this.#random() * this.#used.length);
		let page = this.#used.indexOf(0, start);
		if (page < 0) page = this.#used.indexOf(0);
		if (page !== avoid) return page;
		const next = this.#used.indexOf(0, page + 1);
		return next < 0 ? this.#used.indexOf(0) : next;
	}

	/** Marks up to `pages` free pages from `page` on, inside one stretch. @returns how many */
	#claim(page: number, pages: number): number {
		const end = Math.min(page + pages, this.#stretchEnd(page));
		let at = page;
		while (at < end && this.#used[at] === 0) this.#used[at++] = 1;
		this.#free -= at - page;
		return at - page;
	}

	#stretchEnd(page: number): number {
		let end = 0;
		for (const { bytes } of this.#stretches) {
			end += bytes / PAGE_SIZE;
			if (page < end) return end;
		}
		return end;
	}

	#gpa(page: number): Gpa {
		let first = 0;
		for (const { gpa, bytes } of this.#stretches) {
			const pages = bytes / PAGE_SIZE;
			if (page < first + pages) return gpa + (page - first) * PAGE_SIZE;
			first += pages;
		}
		throw new RangeError(`no page ${page}`);
	}

	#page(address: Gpa): number {
		let first = 0;
		for (const { gpa, bytes } of this.#stretches) {
			if (address >= gpa && address < gpa + bytes) return first + (address - gpa) / PAGE_SIZE;
			first += bytes / PAGE_SIZE;
		}
		throw new RangeError(`no page at ${address}`);
	}
}
