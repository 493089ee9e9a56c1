/** Pool sizes as Linux 6.12 computes them (kernel/dma/swiotlb.c; arch/x86/mm/mem_encrypt.c for confidential guests). */
import { IO_TLB_SEGSIZE, IO_TLB_SIZE } from "../../assembly/layout/pool.ts";

/** 64 MiB: the pool that Linux makes when nothing else is said. */
const DEFAULT_POOL_BYTES = 64 * 2 ** 20;
const DEFAULT_SLABS = DEFAULT_POOL_BYTES / IO_TLB_SIZE;
const COCO_MAX_BYTES = 2 ** 30;
const COCO_PERCENT = 6;

/** Fewer are not worth having: 1 MiB. */
const IO_TLB_MIN_SLABS = 512;

/** Slots and areas of a pool. */
export interface PoolSize {
	readonly slabs: number;
	readonly areas: number;
}

/** What a `swiotlb=` boot option says; what it leaves out is undefined. */
export interface SwiotlbOption {
	readonly slabs?: number;
	readonly areas?: number;
	readonly force?: boolean;
	/** Whether an allocator's use and high-water mark are counted (Linux 7.3). */
	readonly trackHiwater?: boolean;
}

function roundUpPowerOfTwo(n: number): number {
	return 2 ** Math.ceil(Math.log2(n));
}

function isPowerOfTwo(n: number): boolean {
	return Number.isInteger(Math.log2(n));
}

function roundUp(n: number, to: number): number {
	return Math.ceil(n / to) * to;
}

/** C's strtoul with base 0: decimal, 0x hexadecimal or 0 octal. */
function parseCount(text: string): number {
	return Number.parseInt(text, /^0x/i.test(text) ? 16 : /^0\d/.test(text) ? 8 : 10);
}

/**
 * Reads `[<slabs>][,<areas>][,force|noforce][,track_hiwater]`, the value of Linux's `swiotlb=` (setup_io_tlb_npages; the
 * last word is 7.3's). Each piece may be left out.
 * @throws RangeError that names the part that does not fit
 */
export function parseSwiotlbOption(text: string): SwiotlbOption {
	const tracks = /(^|,)track_hiwater$/.test(text);
	const parts = tracks ? text.slice(0, -"track_hiwater".length).replace(/,$/, "").split(",") : text.split(",");
	const option: { slabs?: number; areas?: number; force?: boolean; trackHiwater?: boolean } = {};
	if (tracks) option.trackHiwater = true;
	for (const [i, part] of parts.entries()) {
		if (part === "force" || part === "noforce") {
			if (i !== parts.length - 1) throw new RangeError(`swiotlb=${text}: "${part}" must come last`);
			option.force = part === "force";
		} else if (/^(0x[0-9a-f]+|\d+)$/i.test(part) && i < 2) {
			const count = parseCount(part);
			if (!(count <= 2 ** 20)) throw new RangeError(`swiotlb=${text}: "${part}" is more than 1048576 slots (2 GiB)`);
			if (i === 0) option.slabs = count;
			else option.areas = count;
		} else if (part !== "" || i > 1) {
			throw new RangeError(
				`swiotlb=${text}: expected [<slabs>][,<areas>][,force|noforce][,track_hiwater], not "${part}"`,
			);
		}
	}
	return option;
}

export interface SizingOptions extends SwiotlbOption {
	/** Nominal RAM of the guest (bytes); needed for a confidential guest's default. */
	readonly ramBytes?: number;
	/** Whether the guest is confidential: then 6 % of RAM, 64 MiB to 1 GiB, unless slabs are given. Default false. */
	readonly coco?: boolean;
	/** Possible CPUs: the areas when none are given. Default 1. */
	readonly cpus?: number;
}

/**
 * The pool that Linux would make. Slabs are rounded up to 128, then to a power of two and to at least 128 an area;
 * areas to a power of two and down to slabs / 128.
 * @throws RangeError that names the option
 */
export function poolSize(options: SizingOptions = {}): PoolSize {
	for (const name of ["slabs", "areas", "ramBytes", "cpus"] as const) {
		const value = options[name];
		const max = name === "ramBytes" ? Number.MAX_SAFE_INTEGER : 2 ** 20;
		if (value !== undefined && !(Number.isInteger(value) && value >= 0 && value <= max)) {
			throw new RangeError(`${name} must be a whole number from 0 to ${max}, not ${value}`);
		}
	}
	let slabs = options.slabs === undefined ? DEFAULT_SLABS : roundUp(options.slabs, IO_TLB_SEGSIZE);
	if (options.coco && options.ramBytes !== undefined && slabs === DEFAULT_SLABS) {
		const share = Math.floor((options.ramBytes * COCO_PERCENT) / 100);
		const bytes = Math.min(Math.max(share, DEFAULT_POOL_BYTES), COCO_MAX_BYTES);
		slabs = roundUp(roundUp(bytes, IO_TLB_SIZE) / IO_TLB_SIZE, IO_TLB_SEGSIZE);
	}
	let areas = roundUpPowerOfTwo(Math.max(1, options.areas ?? options.cpus ?? 1));
	if (slabs < areas * IO_TLB_SEGSIZE) slabs = areas * IO_TLB_SEGSIZE;
	else if (!isPowerOfTwo(slabs)) slabs = roundUpPowerOfTwo(slabs);
	areas = Math.min(areas, slabs / IO_TLB_SEGSIZE);
	return { slabs, areas };
}

/**
 * The sizes that boot tries one after the other, as memory runs out: halves down to 512 slots, never below.
 * Linux 6.12 kernel/dma/swiotlb.c, swiotlb_init_remap and limit_nareas.
 */
export function bootSizes({ slabs, areas }: PoolSize): PoolSize[] {
	const sizes = [{ slabs, areas }];
	for (let n = slabs; n > IO_TLB_MIN_SLABS; ) {
		n = roundUp(n / 2, IO_TLB_SEGSIZE);
		if (n >= IO_TLB_MIN_SLABS) sizes.push({ slabs: n, areas: Math.min(areas, n / IO_TLB_SEGSIZE) });
	}
	return sizes;
}

/** Most slots that an allocator grows by at once: MAX_PAGE_ORDER pages, 4 MiB. */
const MAX_GROWTH_SLABS = 2048;

/**
 * The sizes that growth tries one after the other, as memory runs out: the default pool's, at most 4 MiB, then halves down
 * to 1 MiB. Linux 6.12 kernel/dma/swiotlb.c, swiotlb_dyn_alloc, swiotlb_alloc_pool and limit_nareas.
 * @param slabs, areas of the default pool
 */
export function growthSizes(slabs: number, areas: number): PoolSize[] {
	const sizes: PoolSize[] = [];
	for (let n = Math.min(slabs, MAX_GROWTH_SLABS); ; ) {
		sizes.push({ slabs: n, areas: Math.min(areas, Math.max(1, Math.floor(n / IO_TLB_SEGSIZE))) });
		if (n <= IO_TLB_MIN_SLABS) return sizes;
		n = roundUp(n / 2, IO_TLB_SEGSIZE);
	}
}
