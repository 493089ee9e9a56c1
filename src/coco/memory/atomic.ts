/** Linux's pools for coherent memory where nothing may sleep (kernel/dma/pool.c, `coherent_pool=`); transient bounce pools use them too. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { BAD_SIZE } from "../../../assembly/layout/status.ts";
import { MAX_BLOCK_BYTES, orderOf, type PageAllocator, PageError } from "../../memory/allocator.ts";
import { PageState, type Ram } from "../../memory/ram.ts";
import { DmaError, hex } from "../../status.ts";
import type { Gpa } from "../../types.ts";
import { convertBlock, type PageConverter } from "../platform/convert.ts";
import type { Kernel } from "../rules/kernel.ts";

export type AtomicZone = "DMA" | "DMA32" | "Normal";
/** Zones from the highest to the lowest; belowGpa: their exclusive end. */
export const ZONES = [
	{ zone: "Normal", belowGpa: Number.POSITIVE_INFINITY, gfp: "GFP_KERNEL" },
	{ zone: "DMA32", belowGpa: 2 ** 32, gfp: "GFP_KERNEL|GFP_DMA32" },
	{ zone: "DMA", belowGpa: 2 ** 24, gfp: "GFP_KERNEL|GFP_DMA" },
] as const;

/** Bytes of each pool that Linux makes: 128 KiB per GiB of RAM, at least 128 KiB, at most 4 MiB. */
export function atomicPoolBytes(ramBytes: number): number {
	const pages = Math.floor(ramBytes / PAGE_SIZE / 8192);
	return Math.min(Math.max(pages * PAGE_SIZE, 128 * 1024), MAX_BLOCK_BYTES);
}

interface AtomicPoolsOptions {
	readonly ram: Pick<Ram, "fill">;
	readonly allocator: PageAllocator;
	readonly converter: Pick<PageConverter, "convert">;
	/** Size of each pool at first, and the free bytes below which it grows: a whole number from 1. */
	readonly bytes: number;
	/** Whether memory is encrypted: then the pools are decrypted (cc_shared). */
	readonly encrypted: boolean;
	readonly kernel: Kernel;
}

interface AtomicRequest {
	readonly device: string;
	/** Where to look first. Default Normal. */
	readonly zone?: AtomicZone;
	/** Whether the device reaches the block; a pool whose first fit it does not reach is passed over. Default: always. */
	readonly fits?: (gpa: Gpa, bytes: number) => boolean;
	/** Whether shared memory is asked for; not every kernel looks at it. */
	readonly ccShared: boolean;
}

type AtomicAllocation =
	| { readonly ok: true; readonly gpa: Gpa; readonly bytes: number }
	| { readonly ok: false; readonly status: "POOL_EXHAUSTED" | "NO_SUITABLE_POOL"; readonly message: string };

interface AtomicPool {
	readonly place: (typeof ZONES)[number];
	/** Newest first, each with one byte a page. */
	readonly chunks: { gpa: Gpa; used: Uint8Array }[];
	bytes: number;
	freeBytes: number;
}

export class AtomicPools {
	readonly #options: AtomicPoolsOptions;
	readonly #pools: AtomicPool[] = [];
	readonly #live = new Map<Gpa, { pool: AtomicPool; used: Uint8Array; first: number; pages: number }>();
	#growing = false;
	/** What Linux logs about the pools. */
	readonly messages: string[] = [];

	/** @throws RangeError for a size outside its range */
	constructor(options: AtomicPoolsOptions) {
		const { bytes } = options;
		if (!(Number.isSafeInteger(bytes) && bytes > 0))
			throw new RangeError(`atomic pools: bytes must be a whole number from 1, not ${bytes}`);
		this.#options = options;
		for (const place of ZONES) {
			const pool: AtomicPool = { place, chunks: [], bytes: 0, freeBytes: 0 };
			if (this.#expand(pool, bytes) === 0) {
				this.messages.push(`DMA: failed to allocate ${bytes / 1024} KiB ${place.gfp} pool for atomic allocation`);
				continue;
			}
			this.#pools.push(pool);
			this.messages.push(`DMA: preallocated ${pool.bytes / 1024} KiB ${place.gfp} pool for atomic allocations`);
		}
	}

	/** Whether the pools' pages are shared. */
	get ccShared(): boolean {
		return this.#options.encrypted;
	}

	get pools(): readonly { readonly zone: AtomicZone; readonly bytes: number; readonly freeBytes: number }[] {
		return this.#pools.map(({ place, bytes, freeBytes }) => ({ zone: place.zone, bytes, freeBytes }));
	}

	/** Whether the page that holds `gpa` is a free one of a pool. */
	isFree(gpa: Gpa): boolean {
		for (const { chunks } of this.#pools) {
			for (const { gpa: start, used } of chunks)
				if (gpa >= start && gpa < start + used.length * PAGE_SIZE)
					return used[Math.floor((gpa - start) / PAGE_SIZE)] === 0;
		}
		return false;
	}

	/**
	 * Takes zeroed pages from the zone's pool or a lower one, aligned to the power of two that holds them.
	 * @param bytes 1 .. 2^31 - 1
	 * @throws DmaError BAD_SIZE
	 */
	alloc(bytes: number, request: AtomicRequest): AtomicAllocation {
		const { device, zone = "Normal", fits = () => true, ccShared } = request;
		if (!(bytes > 0 && bytes === (bytes | 0)))
			throw new DmaError(`alloc(${bytes} bytes) from the atomic pools for ${device}`, BAD_SIZE);
		const pages = Math.ceil(bytes / PAGE_SIZE);
		const from = ZONES.findIndex((place) => place.zone === zone);
		const matches = !this.#options.kernel.rules.atomicChecksPool.is || ccShared === this.ccShared;
		const suitable = matches ? this.#pools.filter(({ place }) => ZONES.indexOf(place) >= from) : [];
		for (const pool of suitable) {
			const gpa = this.#take(pool, pages, fits);
			if (gpa < 0) continue;
			this.#options.ram.fill(gpa, pages * PAGE_SIZE);
			return { ok: true, gpa, bytes: pages * PAGE_SIZE };
		}
		if (suitable.length > 0)
			return { ok: false, status: "POOL_EXHAUSTED", message: `DMA pool exhausted for ${device}` };
		return { ok: false, status: "NO_SUITABLE_POOL", message: `Failed to get suitable pool for ${device}` };
	}

	/**
	 * Gives an allocation back, as a whole.
	 * @throws PageError DOUBLE_FREE, FOREIGN_FREE, SIZE_MISMATCH; then nothing has changed
	 */
	free(gpa: Gpa, bytes: number): void {
		const live = this.#live.get(gpa);
		const call = `free(gpa ${hex(gpa)}, ${bytes} bytes) to the atomic pools`;
		if (live === undefined) throw new PageError(call, this.isFree(gpa) ? "DOUBLE_FREE" : "FOREIGN_FREE");
		if (!Number.isSafeInteger(bytes) || live.pages !== Math.ceil(bytes / PAGE_SIZE))
			throw new PageError(call, "SIZE_MISMATCH");
		this.#live.delete(gpa);
		live.used.fill(0, live.first, live.first + live.pages);
		live.pool.freeBytes += live.pages * PAGE_SIZE;
	}

	/** Does the growth that is due, by doubling. @returns bytes added */
	tick(): number {
		if (!this.#growing) return 0;
		this.#growing = false;
		let added = 0;
		for (const pool of this.#pools) if (pool.freeBytes < this.#options.bytes) added += this.#expand(pool, pool.bytes);
		return added;
	}

	/** gen_pool_first_fit_order_align: the first run of the newest chunk that has one. @returns its gpa, or -1 */
	#take(pool: AtomicPool, pages: number, fits: (gpa: Gpa, bytes: number) => boolean): Gpa {
		const align = 2 ** orderOf(pages);
		for (const { gpa: start, used } of pool.chunks) {
			for (let first = 0; first + pages <= used.length; first += align) {
				if (used.subarray(first, first + pages).includes(1)) continue;
				const gpa = start + first * PAGE_SIZE;
				if (!fits(gpa, pages * PAGE_SIZE)) return -1;
				used.fill(1, first, first + pages);
				pool.freeBytes -= pages * PAGE_SIZE;
				this.#live.set(gpa, { pool, used, first, pages });
				if (pool.freeBytes < this.#options.bytes) this.#growing = true;
				return gpa;
			}
		}
		return -1;
	}

	/** Adds the largest block up to `bytes` that there is; one that cannot be decrypted is leaked. @returns its bytes */
	#expand(pool: AtomicPool, bytes: number): number {
		const { allocator, converter, encrypted } = this.#options;
		for (let pages = 2 ** orderOf(Math.min(bytes, MAX_BLOCK_BYTES) / PAGE_SIZE); pages >= 1; pages /= 2) {
			const gpa = allocator.alloc(pages, { belowGpa: pool.place.belowGpa });
			if (gpa < 0) continue;
			const bytesOfBlock = pages * PAGE_SIZE;
			if (encrypted && !convertBlock(allocator, converter, { gpa, pages }, bytesOfBlock, PageState.Shared)) return 0;
			pool.chunks.unshift({ gpa, used: new Uint8Array(pages) });
			pool.bytes += bytesOfBlock;
			pool.freeBytes += bytesOfBlock;
			return bytesOfBlock;
		}
		return 0;
	}
}
