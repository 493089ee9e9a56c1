/** Every kind of bounce pool of a confidential guest: reserved at boot, their pages converted, then made. */
import { IO_TLB_SEGSIZE, IO_TLB_SIZE } from "../../../assembly/layout/pool.ts";
import { parseBytes } from "../../bytes.ts";
import { PageState } from "../../memory/ram.ts";
import { FOUR_GIB, placePool } from "../../memory/stretches.ts";
import type { Pool } from "../../swiotlb/pool.ts";
import type { PoolSize } from "../../swiotlb/sizing.ts";
import type { PageConverter } from "../platform/convert.ts";
import type { Platform } from "../platform/platform.ts";
import type { Kernel, RuledPool } from "../rules/kernel.ts";
import { TrustError } from "../trust/error.ts";
import type { GrowingPools } from "./growing.ts";

/** What a mapping needs of a pool. */
export interface PoolNeed {
	/** Whether the buffer lies on private pages. */
	readonly isPrivate: boolean;
	/** Whether the device may reach private memory. */
	readonly accepted: boolean;
}

/**
 * default: the kernel's own, shared in a guest with memory encryption. private: its pages stay private, for trusted
 * devices with limited addresses. restricted: a reserved range whose devices bounce everything and allocate from it
 * (restricted-dma-pool). bus: a pool of one bus.
 */
export type PoolKind = "default" | "private" | "restricted" | "bus";

/** A pool and what it is for. */
export interface GuestPool extends RuledPool {
	readonly kind: PoolKind;
	readonly name: string;
	readonly pool: Pool;
	/** Whether its pages could not be converted: it serves nothing. */
	readonly disabled: boolean;
	/** Its allocator, if that grows. */
	readonly growing: GrowingPools | null;
}

/** A pool reserved at boot, beside the default one. */
export interface GuestPoolOptions {
	readonly kind: Exclude<PoolKind, "default">;
	/** Default: its kind. */
	readonly name?: string;
	/** Bytes, or text such as "16M": rounded up to whole segments of 256 KiB. */
	readonly size: number | string;
	/** Areas, a power of two. Default 1; a restricted pool has one. */
	readonly areas?: number;
	/** The pool ends at or below this gpa. Default: 4 GiB, as the default pool. */
	readonly belowGpa?: number;
	/** Zero slots when they are given back. Default false. */
	readonly zeroOnFree?: boolean;
	/** Pages that the host does not map, though they are decrypted: a paravisor's bounce pages. Bus pools only. Default false. */
	readonly hidden?: boolean;
}

/** A pool that is placed but not made. */
export interface PlannedPool {
	readonly kind: PoolKind;
	readonly name: string;
	readonly size: PoolSize;
	readonly start: number;
	readonly bytes: number;
	readonly state: PageState;
	readonly ccShared: boolean;
	readonly zeroOnFree: boolean;
	readonly grows: boolean;
}

function sizeOf(options: GuestPoolOptions): PoolSize {
	const bytes = parseBytes(options.size);
	const slabs = Math.ceil(bytes / IO_TLB_SIZE / IO_TLB_SEGSIZE) * IO_TLB_SEGSIZE;
	const areas = options.areas ?? 1;
	if (slabs === 0 || !Number.isInteger(Math.log2(areas)) || slabs < areas * IO_TLB_SEGSIZE)
		throw new RangeError(`pool: ${bytes} bytes are not 256 KiB and more in each of ${areas} areas, a power of two`);
	if (areas > 1 && !Number.isInteger(Math.log2(slabs)))
		throw new RangeError(`pool: ${slabs} slots are no power of two, and so no whole areas`);
	if (options.kind === "restricted" && areas !== 1) throw new RangeError("pool: a restricted pool has one area");
	return { slabs, areas };
}

/** The state of a reserved pool's pages. @throws TrustError for one that the platform cannot have */
function stateOf(platform: Platform, options: GuestPoolOptions, decryptsRestricted: boolean): PageState {
	const what = `${options.kind} pool of ${options.size} bytes on ${platform.name}`;
	if (options.kind === "private") {
		if (platform.hostRead === "plain") throw new TrustError(what, "NO_PRIVATE_MEMORY");
		return PageState.Private;
	}
	if (options.kind === "restricted" && !decryptsRestricted && !platform.memEncrypt && platform.hostRead !== "plain")
		return PageState.Private;
	if (options.hidden !== true) return PageState.Shared;
	if (options.kind !== "bus" || !platform.hiddenPages) throw new TrustError(what, "NO_HIDDEN_MEMORY");
	return PageState.Hidden;
}

/**
 * Checks and places the pools of a guest, the default one first: from the top of the memory that they may lie in.
 * @param fallback size of the default pool, or null for none
 * @param decryptsRestricted as Policy has it
 * @throws RangeError for a size or place that is none; TrustError NO_PRIVATE_MEMORY, NO_HIDDEN_MEMORY
 */
export function planPools(
	platform: Platform,
	regions: readonly { readonly gpa: number; readonly bytes: number }[],
	fallback: { readonly size: PoolSize; readonly grows: boolean; readonly zeroOnFree: boolean } | null,
	reserved: readonly GuestPoolOptions[],
	decryptsRestricted = true,
): PlannedPool[] {
	const planned: PlannedPool[] = [];
	const place = (size: PoolSize, belowGpa: number) => {
		const bytes = size.slabs * IO_TLB_SIZE;
		const within = regions
			.map(({ gpa, bytes: length }) => ({ gpa, bytes: Math.min(length, belowGpa - gpa) }))
			.filter(({ bytes: length }) => length > 0);
		return { size, bytes, start: placePool(within, planned, bytes) };
	};
	if (fallback !== null) {
		const { size, grows, zeroOnFree } = fallback;
		// without the attribute the kernel leaves its pool as RAM is
		const { memEncrypt, hostRead } = platform;
		const state = memEncrypt || hostRead === "plain" ? PageState.Shared : PageState.Private;
		const common = { kind: "default", name: "default", state, ccShared: memEncrypt, zeroOnFree, grows } as const;
		planned.push({ ...common, ...place(size, Number.POSITIVE_INFINITY) });
	}
	for (const options of reserved) {
		const { kind, name = kind, belowGpa = FOUR_GIB, zeroOnFree = false } = options;
		const state = stateOf(platform, options, decryptsRestricted);
		// where nothing is private, nothing is told apart
		const ccShared = platform.hostRead !== "plain" && state !== PageState.Private;
		const common = { kind, name, state, ccShared, zeroOnFree, grows: false };
		planned.push({ ...common, ...place(sizeOf(options), belowGpa) });
	}
	return planned;
}

/** What became of a pool's pages. */
export interface ConvertedPool {
	readonly ok: boolean;
	/** What Linux logs, or null. */
	readonly message: string | null;
}

/** Converts a pool's pages, if they have to be. A failure leaks them, and the pool is disabled. */
export function convertPool(converter: PageConverter, kernel: Kernel, pool: PlannedPool): ConvertedPool {
	const { ram } = converter.engine;
	if (ram.pageState(pool.start) === pool.state) return { ok: true, message: null };
	if (converter.convert(pool.start, pool.bytes, pool.state).ok) return { ok: true, message: null };
	if (!kernel.disablesPool) return { ok: false, message: null };
	const which = pool.kind === "restricted" ? "restricted DMA pool" : "default memory pool, disabling it";
	return { ok: false, message: `Failed to decrypt ${which}` };
}
