/** Facts of bounce pools, as rules look at them: what they are for, and what their pages are. */

import type { Pool } from "../../swiotlb/pool.ts";
import type { Gpa } from "../../types.ts";

/** What a mapping needs of a pool. */
export interface PoolNeed {
	/** Whether the buffer lies on private pages. */
	readonly isPrivate: boolean;
	/** Whether the device may reach private memory. */
	readonly accepted: boolean;
	/**
	 * What dma_capable says where it fails. EPERM: memory's state is wrong, as all private memory's is for a device that is not
	 * accepted. ERANGE: the address is out of reach, which is all that can fail of an accepted one.
	 */
	readonly code: CapableCode;
	/** Whether the device's addresses reach a pool: the limits, looked at once more. */
	readonly reaches: (pool: PoolFacts) => boolean;
}

/** Why a buffer cannot be mapped as it is, where dma_capable tells: errno's names. */
export type CapableCode = "ERANGE" | "EPERM";

/**
 * default: the kernel's own, shared in a guest with memory encryption. private: its pages stay private, for trusted
 * devices with limited addresses. restricted: a reserved range whose devices bounce everything and allocate from it
 * (restricted-dma-pool). bus: a pool of one bus.
 */
export type PoolKind = "default" | ReservedKind;

/** Kinds of pools that are reserved beside the default one. */
export const RESERVED_KINDS = ["private", "restricted", "bus"] as const;
type ReservedKind = (typeof RESERVED_KINDS)[number];

/** What a policy may know of a pool. */
export interface PoolFacts {
	readonly kind: PoolKind;
	readonly name: string;
	/** Whether its pages are shared with the host, as its kernel record says (io_tlb_mem.cc_shared). */
	readonly ccShared: boolean;
	/** Whether every mapping of its devices bounces, and their coherent buffers come from it (a restricted pool). */
	readonly restricted: boolean;
}

/** Chooses a pool for a need, out of some; null: none. */
export type PoolMatcher<P extends PoolFacts = PoolFacts> = (need: PoolNeed, pools: readonly P[]) => P | null;

/** A pool as the rules see it. */
export interface RuledPool extends PoolFacts {
	readonly pool: Pool;
}

/** A pool reserved at boot, beside the default one. */
export interface GuestPoolOptions {
	readonly kind: ReservedKind;
	/** Default: its kind. */
	readonly name?: string;
	/** Bytes, or text such as "16M": rounded up to whole segments of 256 KiB. */
	readonly size: number | string;
	/** Areas, a power of two. Default 1; a restricted pool has one. */
	readonly areas?: number;
	/** The pool ends at or below this gpa. Default: 4 GiB, as the default pool. */
	readonly belowGpa?: Gpa;
	/** Where it begins, as firmware says: a multiple of 4096. Default: as high as it may lie. */
	readonly start?: Gpa;
	/** Zero slots when they are given back. Default false. */
	readonly zeroOnFree?: boolean;
	/** Pages that the host does not map, though they are decrypted: a paravisor's bounce pages. Bus pools only. Default false. */
	readonly hidden?: boolean;
}
