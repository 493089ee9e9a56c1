/** Memory for pools that come and go: from the page allocator where sleeping is allowed, from the atomic pools where not. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { PageAllocator } from "../../memory/allocator.ts";
import { PageState } from "../../memory/ram.ts";
import type { PageConverter } from "../platform/convert.ts";
import type { Kernel } from "../rules/kernel.ts";
import type { AtomicPools } from "./atomic.ts";
import type { Hazard } from "./coherent-types.ts";
import type { PoolMemory } from "./growing.ts";
import type { PlannedPool } from "./pools.ts";

export interface PoolMemoryOptions {
	readonly allocator: PageAllocator;
	readonly converter: PageConverter;
	/** Null: the kernel has none (without CONFIG_DMA_COHERENT_POOL), and decrypts pages where it may not sleep. */
	readonly atomic: AtomicPools | null;
	readonly kernel: Kernel;
	/** The allocator's first pool: the others are like it. */
	readonly like: PlannedPool;
	/** Linux's phys_limit: a default pool's allocator stays below 4 GiB. */
	readonly belowGpa: number;
	/** Most bytes that common pools may get together. */
	readonly growthBytes: number;
	readonly onHazard: (hazard: Hazard) => void;
	readonly onMessage: (message: string) => void;
}

/** Where a guest's growing allocator gets its memory. */
export class GuestPoolMemory implements PoolMemory {
	readonly #options: PoolMemoryOptions;
	/** Transient pools' memory by its first gpa: whether it came from the atomic pools. */
	readonly #fromAtomic = new Map<number, boolean>();
	/** Bytes that common pools got: they never come back. */
	#grownBytes = 0;

	constructor(options: PoolMemoryOptions) {
		this.#options = options;
	}

	get #converts(): boolean {
		const { converter, like } = this.#options;
		return converter.platform.memEncrypt && like.state !== PageState.Private;
	}

	allocPool(bytes: number): number {
		const { belowGpa, growthBytes } = this.#options;
		if (this.#grownBytes + bytes > growthBytes) return -1;
		const gpa = this.#alloc(bytes, belowGpa);
		if (gpa >= 0) this.#grownBytes += bytes;
		return gpa;
	}

	#alloc(bytes: number, belowGpa: number): number {
		const { allocator, converter, like } = this.#options;
		const pages = Math.ceil(bytes / PAGE_SIZE);
		const gpa = allocator.alloc(pages, { belowGpa });
		if (gpa < 0 || !this.#converts) return gpa;
		if (converter.convert(gpa, pages * PAGE_SIZE, like.state).ok) return gpa;
		allocator.leak(gpa, pages);
		return -1;
	}

	allocTransient(bytes: number, belowGpa: number): number {
		const { atomic, onHazard, onMessage } = this.#options;
		const limit = Math.min(belowGpa, this.#options.belowGpa);
		if (this.#converts && atomic !== null) {
			const fits = (gpa: number, length: number) => gpa + length <= limit;
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

	freeTransient(gpa: number, bytes: number): void {
		const { allocator, atomic, converter, kernel, onHazard } = this.#options;
		const fromAtomic = this.#fromAtomic.get(gpa);
		this.#fromAtomic.delete(gpa);
		if (fromAtomic === true) {
			atomic?.free(gpa, bytes);
			return;
		}
		const pages = Math.ceil(bytes / PAGE_SIZE);
		if (this.#converts) {
			if (!kernel.freesInProcess) {
				const detail = "a transient pool's pages are encrypted again in an RCU callback";
				onHazard({ what: "SLEEPING_IN_ATOMIC", device: null, detail });
			}
			if (!converter.convert(gpa, pages * PAGE_SIZE, PageState.Private).ok) {
				allocator.leak(gpa, pages);
				return;
			}
		}
		allocator.free(gpa, pages);
	}
}
