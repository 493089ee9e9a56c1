/** A guest's free pages: what grown pools, coherent buffers and rings are made of. Cold path. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { hex } from "../status.ts";
import type { Gpa } from "../types.ts";

/** Largest block: MAX_PAGE_ORDER of x86, 4 MiB. */
const MAX_ORDER = 10;
const MAX_BLOCK_PAGES = 1 << MAX_ORDER;
export const MAX_BLOCK_BYTES = MAX_BLOCK_PAGES * PAGE_SIZE;
/** Nodes of one block's tree: node 1 is the block, nodes 2n and 2n + 1 the halves of node n. */
const TREE_NODES = 2 * MAX_BLOCK_PAGES;
/** A node none of whose pages is free. */
const NONE_FREE = -1;

const TEXTS = {
	DOUBLE_FREE: "the pages are free already",
	FOREIGN_FREE: "no live allocation starts there",
	SIZE_MISMATCH: "the size is not that of the allocation",
	LEAKED_PAGES: "the pages are leaked: their state is unknown and they stay out of use",
} as const;

/** A page given back that is not the caller's to give: the call with its arguments, and why. */
export class PageError extends Error {
	override readonly name = "PageError";
	readonly status: keyof typeof TEXTS;

	constructor(call: string, status: keyof typeof TEXTS) {
		super(`${call}: ${status}: ${TEXTS[status]}`);
		this.status = status;
	}
}

/** Where a block may lie. */
export interface BlockLimits {
	/** The block ends at or below this gpa. Default: anywhere. */
	readonly belowGpa?: Gpa;
	/** The block's gpa is a multiple of this many pages, a power of two up to 1024. A block is aligned to its own size anyway. */
	readonly alignPages?: number;
}

/** Smallest order whose block holds `pages` (Linux get_order, in pages). */
export function orderOf(pages: number): number {
	return Math.ceil(Math.log2(pages));
}

/**
 * A buddy allocator: blocks are found by the power of two that holds them, and only the pages asked for are taken
 * (alloc_pages_exact). Deterministic: the highest free block within the limits, so that low memory lasts.
 */
export class PageAllocator {
	/** Numbers of the 4 MiB blocks that hold RAM, ascending, and the order of the largest free block under each node. */
	readonly #blocks: readonly number[];
	readonly #largest: Int8Array;
	readonly #indexOf: ReadonlyMap<number, number>;
	readonly #live = new Map<number, number>();
	readonly #leaked = new Map<number, number>();
	#freePages = 0;
	#leakedPages = 0;
	#failIn = 0;

	/**
	 * @param ram stretches that do not overlap; gpa and bytes: multiples of 4096
	 * @param reserved ranges that are never handed out (the kernel's image, pools made at boot); they may overlap
	 * @throws RangeError for a range that is not page-aligned, or reserved outside RAM
	 */
	constructor(
		ram: readonly { readonly gpa: Gpa; readonly bytes: number }[],
		reserved: readonly { readonly gpa: Gpa; readonly bytes: number }[] = [],
	) {
		const numbers = new Set<number>();
		for (const { gpa, bytes } of [...ram, ...reserved]) {
			if (!(gpa >= 0 && bytes > 0 && gpa % PAGE_SIZE === 0 && bytes % PAGE_SIZE === 0))
				throw new RangeError(`pages: gpa ${hex(gpa)} and ${bytes} bytes must be multiples of 4096`);
		}
		for (const { gpa, bytes } of ram) {
			const last = Math.floor((gpa + bytes - 1) / MAX_BLOCK_BYTES);
			for (let n = Math.floor(gpa / MAX_BLOCK_BYTES); n <= last; n++) numbers.add(n);
		}
		this.#blocks = [...numbers].sort((a, b) => a - b);
		this.#indexOf = new Map(this.#blocks.map((number, index) => [number, index]));
		this.#largest = new Int8Array(this.#blocks.length * TREE_NODES).fill(NONE_FREE);
		for (const { gpa, bytes } of ram) this.#mark(gpa, bytes / PAGE_SIZE, true);
		for (const { gpa, bytes } of reserved) {
			const inside = ram.some((stretch) => gpa >= stretch.gpa && gpa + bytes <= stretch.gpa + stretch.bytes);
			if (!inside) throw new RangeError(`pages: the reserved range at gpa ${hex(gpa)} of ${bytes} bytes is not in RAM`);
			this.#mark(gpa, bytes / PAGE_SIZE, false);
		}
		this.#freePages = this.#blocks.reduce((sum, _, i) => sum + this.#countFree(i * TREE_NODES, 1, MAX_ORDER), 0);
	}

	/**
	 * Takes a block.
	 * @param pages 1 or more; above 1024 there is no such block
	 * @returns its gpa, or -1: no memory (really, or as failNext said)
	 * @throws RangeError for an argument outside its range
	 */
	alloc(pages: number, limits: BlockLimits = {}): Gpa {
		const { belowGpa = Number.POSITIVE_INFINITY, alignPages = 1 } = limits;
		if (!(Number.isSafeInteger(pages) && pages > 0))
			throw new RangeError(`pages must be a whole number from 1, not ${pages}`);
		if (!(Number.isInteger(Math.log2(alignPages)) && alignPages >= 1 && alignPages <= MAX_BLOCK_PAGES))
			throw new RangeError(`alignPages must be a power of two from 1 to ${MAX_BLOCK_PAGES}, not ${alignPages}`);
		if (Number.isNaN(belowGpa)) throw new RangeError("belowGpa must be a number");
		if (this.#failIn > 0 && --this.#failIn === 0) return -1;
		const order = orderOf(Math.max(pages, alignPages));
		if (order > MAX_ORDER) return -1;
		for (let i = this.#blocks.length - 1; i >= 0; i--) {
			const start = (this.#blocks[i] as number) * MAX_BLOCK_BYTES;
			const limit = Math.floor((belowGpa - start) / PAGE_SIZE);
			const page = this.#find(i * TREE_NODES, 1, MAX_ORDER, 0, order, limit);
			if (page < 0) continue;
			return this.#take(start + page * PAGE_SIZE, pages);
		}
		return -1;
	}

	/**
	 * Takes pages in one run, also more than the largest block holds: then from adjoining free blocks (alloc_contig_pages).
	 * @returns the run's gpa, or -1: there is none
	 * @throws RangeError as alloc
	 */
	allocRun(pages: number, limits: Pick<BlockLimits, "belowGpa"> = {}): Gpa {
		if (!(pages > MAX_BLOCK_PAGES)) return this.alloc(pages, limits);
		const blocks = Math.ceil(pages / MAX_BLOCK_PAGES);
		const { belowGpa = Number.POSITIVE_INFINITY } = limits;
		if (!Number.isSafeInteger(pages)) throw new RangeError(`pages must be a whole number from 1, not ${pages}`);
		if (this.#failIn > 0 && --this.#failIn === 0) return -1;
		let run = 0;
		for (let i = this.#blocks.length - 1; i >= 0; i--) {
			const number = this.#blocks[i] as number;
			const whole = this.#largest[i * TREE_NODES + 1] === MAX_ORDER && number * MAX_BLOCK_BYTES < belowGpa;
			run = !whole ? 0 : run > 0 && this.#blocks[i + 1] === number + 1 ? run + 1 : 1;
			const gpa = number * MAX_BLOCK_BYTES;
			if (run >= blocks && gpa + pages * PAGE_SIZE <= belowGpa) return this.#take(gpa, pages);
		}
		return -1;
	}

	#take(gpa: Gpa, pages: number): Gpa {
		this.#mark(gpa, pages, false);
		this.#freePages -= pages;
		this.#live.set(gpa, pages);
		return gpa;
	}

	/** Gives a block back, as a whole. @throws PageError DOUBLE_FREE, FOREIGN_FREE, SIZE_MISMATCH, LEAKED_PAGES; then nothing has changed */
	free(gpa: Gpa, pages: number): void {
		this.#end("free", gpa, pages);
		this.#mark(gpa, pages, true);
		this.#freePages += pages;
	}

	/** Ends a block that must never be used again: its pages' state is unknown. @throws PageError as free */
	leak(gpa: Gpa, pages: number): void {
		this.#end("leak", gpa, pages);
		this.#leaked.set(gpa, pages);
		this.#leakedPages += pages;
	}

	/** The nth next alloc finds no memory; 0: none does. @throws RangeError unless nth is a whole number from 0 */
	failNext(nth = 1): void {
		if (!(Number.isSafeInteger(nth) && nth >= 0)) throw new RangeError(`nth must be a whole number from 0, not ${nth}`);
		this.#failIn = nth;
	}

	get freePages(): number {
		return this.#freePages;
	}

	/** Pages of blocks that were leaked. */
	get leakedPages(): number {
		return this.#leakedPages;
	}

	/** Pages of blocks in use. */
	get usedPages(): number {
		let pages = 0;
		for (const each of this.#live.values()) pages += each;
		return pages;
	}

	/** Whether the page that holds `gpa` is free; false outside RAM. */
	isFree(gpa: Gpa): boolean {
		const index = this.#indexOf.get(Math.floor(gpa / MAX_BLOCK_BYTES));
		if (index === undefined) return false;
		const page = Math.floor((gpa % MAX_BLOCK_BYTES) / PAGE_SIZE);
		for (let order = MAX_ORDER; ; order--) {
			const largest = this.#largest[index * TREE_NODES + ((MAX_BLOCK_PAGES + page) >> order)];
			if (largest === order) return true;
			if (largest === NONE_FREE) return false;
		}
	}

	#end(call: string, gpa: Gpa, pages: number): void {
		const text = `${call}(gpa ${hex(gpa)}, ${pages} pages)`;
		const live = this.#live.get(gpa);
		if (live === undefined) {
			if (this.#leaked.has(gpa)) throw new PageError(text, "LEAKED_PAGES");
			throw new PageError(text, this.isFree(gpa) ? "DOUBLE_FREE" : "FOREIGN_FREE");
		}
		if (live !== pages) throw new PageError(`${text} of ${live}`, "SIZE_MISMATCH");
		this.#live.delete(gpa);
	}

	/** Marks a range of RAM free or used, block by block. */
	#mark(gpa: Gpa, pages: number, free: boolean): void {
		for (let at = gpa; at < gpa + pages * PAGE_SIZE; ) {
			const number = Math.floor(at / MAX_BLOCK_BYTES);
			const from = (at % MAX_BLOCK_BYTES) / PAGE_SIZE;
			const to = Math.min(MAX_BLOCK_PAGES, from + (gpa + pages * PAGE_SIZE - at) / PAGE_SIZE);
			this.#markNode((this.#indexOf.get(number) as number) * TREE_NODES, 1, MAX_ORDER, 0, from, to, free);
			at = (number + 1) * MAX_BLOCK_BYTES;
		}
	}

	/** Marks pages from .. to - 1 of a block under one node, whose first page is `first`. */
	#markNode(base: number, node: number, order: number, first: number, from: number, to: number, free: boolean): void {
		const tree = this.#largest;
		if (from <= first && first + (1 << order) <= to) {
			tree[base + node] = free ? order : NONE_FREE;
			return;
		}
		const left = base + 2 * node;
		// a node that is free or used as a whole says nothing about the nodes under it: tell them before they differ
		const whole = tree[base + node];
		if (whole === order || whole === NONE_FREE) {
			const half = whole === NONE_FREE ? NONE_FREE : order - 1;
			tree[left] = half;
			tree[left + 1] = half;
		}
		const middle = first + (1 << (order - 1));
		if (from < middle) this.#markNode(base, 2 * node, order - 1, first, from, to, free);
		if (to > middle) this.#markNode(base, 2 * node + 1, order - 1, middle, from, to, free);
		const [a, b] = [tree[left] as number, tree[left + 1] as number];
		tree[base + node] = a === order - 1 && b === order - 1 ? order : Math.max(a, b);
	}

	/** First page of the highest free run of 2^want pages, aligned and ending at or below page `limit`; or -1. */
	#find(base: number, node: number, order: number, first: number, want: number, limit: number): number {
		const largest = this.#largest[base + node] as number;
		const pages = 1 << want;
		if (largest < want || first + pages > limit) return -1;
		if (largest === order) {
			const end = Math.min(limit - first, 1 << order);
			return first + end - (end % pages) - pages;
		}
		const high = this.#find(base, 2 * node + 1, order - 1, first + (1 << (order - 1)), want, limit);
		return high >= 0 ? high : this.#find(base, 2 * node, order - 1, first, want, limit);
	}

	#countFree(base: number, node: number, order: number): number {
		const largest = this.#largest[base + node];
		if (largest === order) return 1 << order;
		if (largest === NONE_FREE) return 0;
		return this.#countFree(base, 2 * node, order - 1) + this.#countFree(base, 2 * node + 1, order - 1);
	}
}
