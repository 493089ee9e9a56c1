/** What coherent allocation asks of a device and a pool, what it answers, and the hazards that it meets. */

/**
 * PAGE_STATE: a page is not in the state that its user takes it for. SLEEPING_IN_ATOMIC: a call that may sleep where
 * nothing may. TRUST_CHANGED: a device's trust changed while it held memory. POOL_STATE_UNKNOWN: a pool is used though
 * its conversion failed.
 */
export type HazardName = "PAGE_STATE" | "SLEEPING_IN_ATOMIC" | "TRUST_CHANGED" | "POOL_STATE_UNKNOWN";

/** What a kernel does that it may not do there, or what would go wrong on real hardware. */
export interface Hazard {
	readonly what: HazardName;
	/** Name of the device that it concerns, or null: no single one. */
	readonly device: string | null;
	readonly detail: string;
}

/** Where a restricted pool's coherent memory comes from (swiotlb_alloc, swiotlb_free). */
export interface SlotSource {
	/** Whether the pool's pages are shared with the host, as its kernel record says. */
	readonly ccShared: boolean;
	/** @returns the first address of slots for `bytes`, or below 0: none */
	alloc(bytes: number, allocAlignMask: number): number;
	free(tlb: number, bytes: number): void;
}

/** A device as coherent allocation sees it, at the moment of the call. */
export interface CoherentDevice {
	readonly name: string;
	readonly index: number;
	/** force_dma_unencrypted(dev): it reaches shared memory only. */
	readonly needsShared: boolean;
	/** Whether its DMA is coherent with the caches; else its memory is remapped (CONFIG_DMA_DIRECT_REMAP). */
	readonly coherent: boolean;
	/** Its restricted pool, if that serves its coherent buffers (is_swiotlb_for_alloc), or null. */
	readonly slots: SlotSource | null;
	/** Whether the atomic pools serve it where nothing may sleep (dma_direct_use_pool). Default true. */
	readonly usesAtomicPools?: boolean;
	/** Whether its pool's state must be the one that it needs. Default: as the kernel. */
	readonly checksPoolState?: boolean;
	/** The address that the device is given, encoded for shared or private memory. */
	encode(gpa: number, shared: boolean): number;
	/** Whether its coherent mask and bus limit reach [dma, dma + bytes), the encoding included. */
	fits(dma: number, bytes: number): boolean;
}

export interface CoherentRequest {
	/** Whether the caller may not sleep (GFP_ATOMIC). Default false. */
	readonly atomic?: boolean;
	/** DMA_ATTR_NO_KERNEL_MAPPING: the driver wants no address of its own. Default false. */
	readonly noKernelMapping?: boolean;
}

/** Memory that a device and its driver hold together. */
export interface CoherentBuffer {
	/** For "cookie" not the driver's to use. */
	readonly gpa: number;
	readonly dma: number;
	/** A multiple of 4096. */
	readonly bytes: number;
	/** pages: the page allocator's. cookie: the same, not mapped by the kernel and so neither decrypted nor zeroed. */
	readonly source: "pages" | "cookie" | "slots" | "atomic";
}

/** A refused allocation; nothing is held. */
export interface CoherentRefusal {
	readonly ok: false;
	/**
	 * NOT_DECRYPTED: the pages are leaked. POOL_STATE: the restricted pool is shared and the device needs private memory, or
	 * the reverse. NO_ATOMIC_POOLS: the kernel has none, and the caller may not sleep.
	 */
	readonly status:
		| "NO_MEMORY"
		| "BEYOND_MASK"
		| "NOT_DECRYPTED"
		| "POOL_FULL"
		| "POOL_STATE"
		| "UNALIGNED_SLOTS"
		| "NO_ATOMIC_POOLS"
		| "POOL_EXHAUSTED"
		| "NO_SUITABLE_POOL";
	/** What Linux logs, if it logs anything. */
	readonly message: string;
}

export type CoherentAllocation = ({ readonly ok: true } & CoherentBuffer) | CoherentRefusal;

/** How a free ended: the pages went back, or they are leaked. */
export type CoherentFree =
	| { readonly ok: true }
	| { readonly ok: false; readonly status: "NOT_ENCRYPTED"; readonly message: string };
