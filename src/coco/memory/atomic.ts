/** Linux's pools for coherent memory where nothing may sleep (kernel/dma/pool.c, `coherent_pool=`); transient bounce pools use them too. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { BAD_SIZE } from "../../../assembly/layout/status.ts";
import { MAX_BLOCK_BYTES, orderOf, type PageAllocator, PageError } from "../../memory/allocator.ts";
import { PageState, type Ram } from "../../memory/ram.ts";
import { DmaError, hex } from "../../status.ts";
import type { Gpa } from "../../types.ts";
import { convertBlock, type PageConverter } from "../platform/convert.ts";
import type { Platform } from "../platform/platform.ts";
import type { Kernel, ZoneName } from "../rules/kernel.ts";

/** A zone of the page allocator, and how its atomic pool is asked for. */
interface Zone {
	readonly zone: ZoneName;
	/** Exclusive end. */
	readonly belowGpa: Gpa;
	readonly gfp: string;
}

/** What pages are asked of, from the highest zone to the lowest: DMA32 also where there is no such zone. */
export function zonesOf({ architecture }: Platform): readonly Zone[] {
	return [
		{ zone: "Normal", belowGpa: Number.POSITIVE_INFINITY, gfp: "GFP_KERNEL" },
		{ zone: "DMA32", belowGpa: 2 ** 32, gfp: "GFP_KERNEL|GFP_DMA32" },
		{ zone: "DMA", belowGpa: architecture.dmaZoneEnd, gfp: "GFP_KERNEL|GFP_DMA" },
	];
}

/**
 * The zone that memory for a limit is asked of first. Linux kernel/dma/direct.c, dma_direct_optimal_gfp_mask
 * @param limit highest gpa that the device reaches, inclusive
 */
export function zoneFor(platform: Platform, limit: bigint): ZoneName {
	if (limit < BigInt(platform.architecture.dmaZoneEnd)) return "DMA";
	return limit < 2n ** 32n ? "DMA32" : "Normal";
}

/** Bytes of each pool that Linux makes: 128 KiB per GiB of RAM, at least 128 KiB, at most 4 MiB. */
export function atomicPoolBytes(ramBytes: number): number {
	const pages = Math.floor(ramBytes / PAGE_SIZE / 8192);
	return Math.min(Math.max(pages * PAGE_SIZE, 128 * 1024), MAX_BLOCK_BYTES);
}

interface AtomicPoolsOptions {
	readonly ram: Pick<Ram, "fill">;
	readonly allocator: PageAllocator;
	readonly converter: Pick<PageConverter, "convert" | "platform">;
	/** Size of each pool at first, and the free bytes below which it grows: a whole number. 0: no pool was made. */
	readonly bytes: number;
	readonly kernel: Kernel;
}

interface AtomicRequest {
	readonly device: string;
	/** Where to look first. Default Normal. */
	readonly zone?: ZoneName;
	/** Whether the device reaches the block; a pool whose first fit it does not reach is passed over. Default: always. */
	readonly fits?: (gpa: Gpa, bytes: number) => boolean;
	/** Whether shared memory is asked for; not every kernel looks at it. */
	readonly ccShared: boolean;
}

type AtomicAllocation =
	| { readonly ok: true; readonly gpa: Gpa; readonly bytes: number; readonly zone: ZoneName }
	| { readonly ok: false; readonly status: "POOL_EXHAUSTED" | "NO_SUITABLE_POOL"; readonly message: string };

interface AtomicPool {
	readonly place: Zone;
	/** Whether its pages are shared. */
	readonly ccShared: boolean;
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
		if (!(Number.isSafeInteger(bytes) && bytes >= 0))
			throw new RangeError(`atomic pools: bytes must be a whole number from 0, not ${bytes}`);
		this.#options = options;
		if (bytes === 0) return;
		const { platform } = options.converter;
		const ccShared = this.ccShared;
		for (const place of zonesOf(platform)) {
			if (place.zone === "DMA32" && !platform.architecture.hasDma32) continue;
			const pool: AtomicPool = { place, ccShared, chunks: [], bytes: 0, freeBytes: 0 };
			if (this.#expand(pool, bytes) === 0) {
				this.messages.push(`DMA: failed to allocate ${bytes / 1024} KiB ${place.gfp} pool for atomic allocation`);
				continue;
			}
			this.#pools.push(pool);
			this.messages.push(`DMA: preallocated ${pool.bytes / 1024} KiB ${place.gfp} pool for atomic allocations`);
		}
	}

	/** Whether the pools' pages are decrypted as they are made. */
	get ccShared(): boolean {
		const { converter, kernel } = this.#options;
		const { hostRead, protection } = converter.platform;
		return hostRead !== "plain" && kernel.rules.decryptsOtherPools.is.includes(protection);
	}

	/** The pools, from the highest zone's to the lowest's. ranges: their memory, the newest first */
	get pools(): readonly {
		readonly zone: ZoneName;
		readonly bytes: number;
		readonly freeBytes: number;
		readonly ranges: readonly { readonly gpa: Gpa; readonly bytes: number }[];
	}[] {
		return this.#pools.map(({ place, bytes, freeBytes, chunks }) => ({
			zone: place.zone,
			bytes,
			freeBytes,
			ranges: chunks.map(({ gpa, used }) => ({ gpa, bytes: used.length * PAGE_SIZE })),
		}));
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
		const suitable = this.#inOrder(zone).filter((pool) => !this.#asksState || pool.ccShared === ccShared);
		for (const pool of suitable) {
			const gpa = this.#take(pool, pages, fits);
			if (gpa < 0) continue;
			this.#options.ram.fill(gpa, pages * PAGE_SIZE);
			return { ok: true, gpa, bytes: pages * PAGE_SIZE, zone: pool.place.zone };
		}
		if (suitable.length > 0)
			return { ok: false, status: "POOL_EXHAUSTED", message: `DMA pool exhausted for ${device}` };
		return { ok: false, status: "NO_SUITABLE_POOL", message: `Failed to get suitable pool for ${device}` };
	}

	get #asksState(): boolean {
		return this.#options.kernel.rules.atomicChecksPool.is;
	}

	/** The pools that serve a zone: the one that it begins with, and those of lower zones. */
	#inOrder(zone: ZoneName): AtomicPool[] {
		const { converter, kernel } = this.#options;
		const { hasDma32 } = converter.platform.architecture;
		const firstOf = (asked: ZoneName) =>
			kernel.rules.atomicFallback.is[asked].flatMap((name) =>
				this.#pools.filter(({ place }) => place.zone === name),
			)[0];
		// where there is no such zone, nobody looks for its pool
		const first = firstOf(zone) ?? (zone === "DMA32" && !hasDma32 ? firstOf("Normal") : undefined);
		return first === undefined ? [] : this.#pools.slice(this.#pools.indexOf(first));
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
		const { allocator, converter } = this.#options;
		for (let pages = 2 ** orderOf(Math.min(bytes, MAX_BLOCK_BYTES) / PAGE_SIZE); pages >= 1; pages /= 2) {
			const gpa = allocator.alloc(pages, { belowGpa: pool.place.belowGpa });
			if (gpa < 0) continue;
			const bytesOfBlock = pages * PAGE_SIZE;
			if (pool.ccShared && !convertBlock(allocator, converter, { gpa, pages }, bytesOfBlock, PageState.Shared))
				return 0;
			pool.chunks.unshift({ gpa, used: new Uint8Array(pages) });
			pool.bytes += bytesOfBlock;
			pool.freeBytes += bytesOfBlock;
			return bytesOfBlock;
		}
		return 0;
	}
}
