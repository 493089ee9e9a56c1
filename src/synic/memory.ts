/** Guest memory as the parties of a SynIC may touch it. */

import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { PageState, type Ram } from "../memory/ram.ts";
import type { Gpa } from "../types.ts";

/** Pages of guest RAM that a party may touch. */
export interface SynicMemory {
	/**
	 * The page at a gpa (multiple of 4096, bits of the shared address space allowed), or null when it is no RAM or the
	 * party may not touch it. The view is good for one operation only.
	 */
	page(gpa: Gpa): Uint8Array | null;
}

const MAY_TOUCH = {
	/** The host sees what is shared, and nothing else. */
	hypervisor: [PageState.Shared],
	paravisor: [PageState.Shared, PageState.Private, PageState.Hidden],
	guest: [PageState.Shared, PageState.Private],
} as const;

/**
 * A party's view of an engine's RAM.
 * @param sharedGpaBoundary where the shared alias of RAM starts (the vTOM bit; a power of 2), or 0
 */
export function memoryOf(ram: Ram, party: keyof typeof MAY_TOUCH, sharedGpaBoundary = 0): SynicMemory {
	const states: readonly PageState[] = MAY_TOUCH[party];
	return {
		page(gpa) {
			const at = sharedGpaBoundary > 0 && gpa >= sharedGpaBoundary ? gpa - sharedGpaBoundary : gpa;
			if (at % PAGE_SIZE !== 0) return null;
			const inRam = ram.regions.some((region) => at >= region.gpa && at + PAGE_SIZE <= region.gpa + region.bytes);
			return inRam && states.includes(ram.pageState(at)) ? ram.view(at, PAGE_SIZE) : null;
		},
	};
}
