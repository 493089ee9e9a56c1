/** Every kind of bounce pool of a confidential guest: reserved at boot, their pages converted, then made; and what they grow by. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { IO_TLB_SEGSIZE, IO_TLB_SIZE } from "../../../assembly/layout/pool.ts";
import { parseBytes } from "../../bytes.ts";
import type { PageAllocator } from "../../memory/allocator.ts";
import { PageState } from "../../memory/ram.ts";
import { FOUR_GIB, placePool } from "../../memory/stretches.ts";
import type { PoolSize } from "../../swiotlb/sizing.ts";
import type { Gpa } from "../../types.ts";
import { convertBlock, type PageConverter } from "../platform/convert.ts";
import type { Platform } from "../platform/platform.ts";
import type { Kernel } from "../rules/kernel.ts";
import type { GuestPoolOptions, PoolKind, RuledPool } from "../rules/pool.ts";
import { TrustError } from "../trust/error.ts";
import type { AtomicPools } from "./atomic.ts";
import type { GrowingPools, PoolMemory } from "./growing.ts";
import type { Hazard } from "./hazard.ts";

/** A pool and what it is for. */
export interface GuestPool extends RuledPool {
	/** Whether its pages could not be converted: it serves nothing. */
	readonly disabled: boolean;
	/** Its allocator, if that grows. */
	readonly growing: GrowingPools | null;
}

/** A pool that is placed but not made. */
export interface PlannedPool {
	readonly kind: PoolKind;
	readonly name: string;
	readonly size: PoolSize;
	readonly start: Gpa;
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

/** What a guest's pools are planned from. */
interface PoolPlan {
	readonly platform: Platform;
	/** Stretches of RAM. */
	readonly regions: readonly { readonly gpa: Gpa; readonly bytes: number }[];
	/** The default pool, or null: none. */
	readonly fallback: { readonly size: PoolSize; readonly grows: boolean; readonly zeroOnFree: boolean } | null;
	readonly reserved: readonly GuestPoolOptions[];
	/** As Policy has it. Default true. */
	readonly decryptsRestricted?: boolean | undefined;
}

/**
 * Checks and places the pools of a guest, the default one first: from the top of the memory that they may lie in.
 * @throws RangeError for a size or place that is none; TrustError NO_PRIVATE_MEMORY, NO_HIDDEN_MEMORY
 */
export function planPools(plan: PoolPlan): PlannedPool[] {
	const { platform, regions, fallback, reserved, decryptsRestricted = true } = plan;
	const planned: PlannedPool[] = [];
	const place = (size: PoolSize, belowGpa: Gpa) => {
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
interface ConvertedPool {
	readonly ok: boolean;
	/** What Linux logs, or null. */
	readonly message: string | null;
}

/** Converts a pool's pages, if they have to be. A failure leaks them, and the pool is disabled. */
export function convertPool(converter: PageConverter, kernel: Kernel, pool: PlannedPool): ConvertedPool {
	const { ram } = converter.engine;
	if (ram.pageState(pool.start) === pool.state) return { ok: true, message: null };
	// a pool's pages are zeroed when it is made; an audit's log has that once
	const zero = converter.engine.audit === null;
	if (converter.convert(pool.start, pool.bytes, pool.state, { zero }).ok) return { ok: true, message: null };
	if (!kernel.rules.disablesUndecrypted.is) return { ok: false, message: null };
	const which = pool.kind === "restricted" ? "restricted DMA pool" : "default memory pool, disabling it";
	return { ok: false, message: `Failed to decrypt ${which}` };
}

interface PoolMemoryOptions {
	readonly allocator: PageAllocator;
	readonly converter: PageConverter;
	/** Null: the kernel has none (without CONFIG_DMA_COHERENT_POOL), and decrypts pages where it may not sleep. */
	readonly atomic: AtomicPools | null;
	readonly kernel: Kernel;
	/** The allocator's first pool: the others are like it. */
	readonly like: PlannedPool;
	/** Linux's phys_limit: a default pool's allocator stays below 4 GiB. */
	readonly belowGpa: Gpa;
	/** Most bytes that common pools may get together. */
	readonly growthBytes: number;
	readonly onHazard: (hazard: Hazard) => void;
	readonly onMessage: (message: string) => void;
}

/** Where a guest's growing allocator gets its memory. */
export class GuestPoolMemory implements PoolMemory {
	readonly #options: PoolMemoryOptions;
	/** Transient pools' memory by its first gpa: whether it came from the atomic pools. */
	readonly #fromAtomic = new Map<Gpa, boolean>();
	/** Bytes that common pools got: they never come back. */
	#grownBytes = 0;

	constructor(options: PoolMemoryOptions) {
		this.#options = options;
	}

	get #converts(): boolean {
		const { converter, like } = this.#options;
		return converter.platform.memEncrypt && like.state !== PageState.Private;
	}

	allocPool(bytes: number): Gpa {
		const { belowGpa, growthBytes } = this.#options;
		if (this.#grownBytes + bytes > growthBytes) return -1;
		const gpa = this.#alloc(bytes, belowGpa);
		if (gpa >= 0) this.#grownBytes += bytes;
		return gpa;
	}

	#alloc(bytes: number, belowGpa: Gpa): Gpa {
		const { allocator, converter, like } = this.#options;
		const pages = Math.ceil(bytes / PAGE_SIZE);
		const gpa = allocator.alloc(pages, { belowGpa });
		if (gpa < 0 || !this.#converts) return gpa;
		return convertBlock(allocator, converter, { gpa, pages }, pages * PAGE_SIZE, like.state) ? gpa : -1;
	}

	allocTransient(bytes: number, belowGpa: Gpa): Gpa {
		const { atomic, onHazard, onMessage } = this.#options;
		const limit = Math.min(belowGpa, this.#options.belowGpa);
		if (this.#converts && atomic !== null) {
			const fits = (gpa: Gpa, length: number) => gpa + length <= limit;
			const got = atomic.alloc(bytes, { device: "a transient pool", fits, ccShared: true });
			if (!got.ok) {
				onMessage(got.message);
				return -1;
			}
			this.#fromAtomic.set(got.gpa, true);
			return got.gpa;
		}
		if (this.#converts)
			onHazard({ what: "SLEEPING_IN_ATOMIC", device: null, detail: "a transient pool's pages are decrypted in a map" });
		const gpa = this.#alloc(bytes, limit);
		if (gpa >= 0) this.#fromAtomic.set(gpa, false);
		return gpa;
	}

	freeTransient(gpa: Gpa, bytes: number): void {
		const { allocator, atomic, converter, kernel, onHazard } = this.#options;
		const fromAtomic = this.#fromAtomic.get(gpa);
		this.#fromAtomic.delete(gpa);
		if (fromAtomic === true) {
			atomic?.free(gpa, bytes);
			return;
		}
		const pages = Math.ceil(bytes / PAGE_SIZE);
		if (this.#converts) {
			if (!kernel.rules.freesTransientsInProcess.is) {
				const detail = "a transient pool's pages are encrypted again in an RCU callback";
				onHazard({ what: "SLEEPING_IN_ATOMIC", device: null, detail });
			}
			if (!convertBlock(allocator, converter, { gpa, pages }, pages * PAGE_SIZE, PageState.Private)) return;
		}
		allocator.free(gpa, pages);
	}
}
