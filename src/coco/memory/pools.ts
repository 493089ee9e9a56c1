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
import { type AtomicPools, zoneFor, zonesOf } from "./atomic.ts";
import type { GrowingPools, PoolMemory, TransientMemory, TransientNeed } from "./growing.ts";
import type { Hazard } from "./hazard.ts";

/** A pool and what it is for. */
export interface GuestPool extends RuledPool {
	/** Whether its pages could not be decrypted and the kernel lets it serve nothing. */
	readonly disabled: boolean;
	/** Whether the kernel therefore attaches it to no device, which keeps the default pool: the error of that (errno), or null. */
	readonly attachError: number | null;
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
function stateOf({ rules }: Kernel, platform: Platform, options: GuestPoolOptions): PageState {
	const what = `${options.kind} pool of ${options.size} bytes on ${platform.name}`;
	if (options.kind === "private") {
		if (platform.hostRead === "plain") throw new TrustError(what, "NO_PRIVATE_MEMORY");
		return PageState.Private;
	}
	const decrypts = platform.hostRead === "plain" || rules.decryptsOtherPools.is.includes(platform.protection);
	if (options.kind === "restricted" && !decrypts) return PageState.Private;
	if (options.hidden !== true) return PageState.Shared;
	if (options.kind !== "bus" || !platform.hiddenPages) throw new TrustError(what, "NO_HIDDEN_MEMORY");
	return PageState.Hidden;
}

/** What a guest's pools are planned from. */
interface PoolPlan {
	readonly kernel: Kernel;
	readonly platform: Platform;
	/** Stretches of RAM. */
	readonly regions: readonly { readonly gpa: Gpa; readonly bytes: number }[];
	/** The default pool, or null: none. */
	readonly fallback: { readonly size: PoolSize; readonly grows: boolean; readonly zeroOnFree: boolean } | null;
	readonly reserved: readonly GuestPoolOptions[];
}

/**
 * Checks and places the pools of a guest, the default one first: from the top of the memory that they may lie in.
 * @throws RangeError for a size or place that is none; TrustError NO_PRIVATE_MEMORY, NO_HIDDEN_MEMORY
 */
export function planPools(plan: PoolPlan): PlannedPool[] {
	const { kernel, platform, regions, fallback, reserved } = plan;
	const fixed = reserved.flatMap((options) =>
		options.start === undefined ? [] : [{ start: options.start, bytes: sizeOf(options).slabs * IO_TLB_SIZE }],
	);
	const planned: PlannedPool[] = [];
	const place = (size: PoolSize, belowGpa: Gpa, anywhere = false) => {
		const bytes = size.slabs * IO_TLB_SIZE;
		const within = regions
			.map(({ gpa, bytes: length }) => ({ gpa, bytes: Math.min(length, belowGpa - gpa) }))
			.filter(({ bytes: length }) => length > 0);
		return { size, bytes, start: placePool(within, [...planned, ...fixed], bytes, anywhere) };
	};
	if (fallback !== null) {
		const { size, grows, zeroOnFree } = fallback;
		const isPlain = platform.hostRead === "plain";
		const decrypted = kernel.rules.decryptsDefaultPool.is.includes(platform.protection);
		const state = decrypted || isPlain ? PageState.Shared : PageState.Private;
		const ccShared = decrypted && !isPlain;
		const anywhere = kernel.rules.placesPoolAnywhere.is.includes(platform.protection);
		const common = { kind: "default", name: "default", state, ccShared, zeroOnFree, grows } as const;
		planned.push({ ...common, ...place(size, Number.POSITIVE_INFINITY, anywhere) });
	}
	for (const options of reserved) {
		const { kind, name = kind, belowGpa = FOUR_GIB, zeroOnFree = false } = options;
		const state = stateOf(kernel, platform, options);
		// where nothing is private, nothing is told apart
		const ccShared = platform.hostRead !== "plain" && state !== PageState.Private;
		const common = { kind, name, state, ccShared, zeroOnFree, grows: false };
		const size = sizeOf(options);
		const at =
			options.start === undefined
				? place(size, belowGpa)
				: { size, bytes: size.slabs * IO_TLB_SIZE, start: options.start };
		planned.push({ ...common, ...at });
	}
	return planned;
}

/** What became of a pool's pages. */
interface ConvertedPool {
	readonly state: PageState;
	/** Whether they are not what they should be. */
	readonly failed: boolean;
	readonly disabled: boolean;
	readonly attachError: number | null;
	/** What Linux logs, or null. */
	readonly message: string | null;
}

const EIO = 5;

/** Converts a pool's pages, if they have to be. What a kernel does where that fails is its rules' to say. */
export function convertPool(converter: PageConverter, { rules }: Kernel, pool: PlannedPool): ConvertedPool {
	const { ram } = converter.engine;
	const isDefault = pool.kind === "default";
	const asks = (isDefault ? rules.disablesUndecrypted : rules.refusesUndecrypted).is;
	const fine = { state: pool.state, failed: false, disabled: false, attachError: null, message: null };
	const before = ram.pageState(pool.start);
	if (before === pool.state) return fine;
	// a pool's pages are zeroed when it is made; an audit's log has that once
	const zero = converter.engine.audit === null;
	if (converter.convert(pool.start, pool.bytes, pool.state, { zero, unasked: !asks }).ok) return fine;
	if (!asks) return { ...fine, failed: true, state: before };
	const which = isDefault ? "default memory pool, disabling it" : "restricted DMA pool";
	return {
		...fine,
		failed: true,
		disabled: true,
		attachError: isDefault ? null : -EIO,
		message: `Failed to decrypt ${which}`,
	};
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
		const { converter, kernel } = this.#options;
		const { hostRead, protection } = converter.platform;
		return hostRead !== "plain" && kernel.rules.decryptsOtherPools.is.includes(protection);
	}

	/** State of what it answers. */
	get state(): PageState {
		return this.#converts ? PageState.Shared : this.#options.like.state;
	}

	allocPool(bytes: number): Gpa {
		const { belowGpa, growthBytes } = this.#options;
		if (this.#grownBytes + bytes > growthBytes) return -1;
		const gpa = this.#alloc(bytes, belowGpa);
		if (gpa >= 0) this.#grownBytes += bytes;
		return gpa;
	}

	#alloc(bytes: number, belowGpa: Gpa): Gpa {
		const { allocator } = this.#options;
		const gpa = allocator.alloc(Math.ceil(bytes / PAGE_SIZE), { belowGpa });
		return gpa < 0 || this.#decrypt(gpa, bytes) ? gpa : -1;
	}

	/** Decrypts a block if it has to be. @returns whether it may be used; else it is leaked */
	#decrypt(gpa: Gpa, bytes: number): boolean {
		const { allocator, converter } = this.#options;
		const pages = Math.ceil(bytes / PAGE_SIZE);
		return !this.#converts || convertBlock(allocator, converter, { gpa, pages }, pages * PAGE_SIZE, PageState.Shared);
	}

	allocTransient(bytes: number, { reach, needsShared, fitsCoherent }: TransientNeed): TransientMemory | null {
		const { allocator, atomic, converter, kernel, like, onHazard, onMessage } = this.#options;
		const fromAtomic = kernel.rules.transientNeedOf.is === "device" ? needsShared : like.ccShared;
		if (fromAtomic && atomic !== null) {
			const got = atomic.alloc(bytes, { device: "a transient pool", fits: fitsCoherent, ccShared: true });
			if (!got.ok) {
				if (got.status !== "POOL_EXHAUSTED" || kernel.rules.logsTransientExhaustion.is) onMessage(got.message);
				return null;
			}
			this.#fromAtomic.set(got.gpa, true);
			return got;
		}
		const { platform } = converter;
		const zones = zonesOf(platform);
		const first = zones.findIndex(({ zone }) => zone === zoneFor(platform, reach));
		for (const { zone, belowGpa } of zones.slice(first)) {
			const pages = Math.ceil(bytes / PAGE_SIZE);
			const gpa = allocator.alloc(pages, { belowGpa });
			if (gpa < 0) return null;
			if (BigInt(gpa) + BigInt(bytes) - 1n > reach) {
				allocator.free(gpa, pages);
				continue;
			}
			if (this.#converts)
				onHazard({
					what: "SLEEPING_IN_ATOMIC",
					device: null,
					detail: "a transient pool's pages are decrypted in a map",
				});
			if (!this.#decrypt(gpa, bytes)) return null;
			this.#fromAtomic.set(gpa, false);
			return { gpa, zone };
		}
		return null;
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
