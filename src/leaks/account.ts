/** A pool's account of its slots, for lists-consistent. */
import { IO_TLB_SEGSIZE, IO_TLB_SIZE, POOL_DISABLED } from "../../assembly/layout/pool.ts";
import { hex } from "../status.ts";
import type { Pool } from "../swiotlb/pool.ts";
import type { Watch } from "./watch.ts";

/** What is wrong with a pool's account, or null. slot: the first slot concerned */
interface BadAccount {
	readonly slot: number;
	readonly slots: number;
	readonly text: string;
}

/**
 * Compares what the search believes (free runs), what is counted (used, area by area) and which slots live mappings hold.
 * Linux 6.12 kernel/dma/swiotlb.c: struct io_tlb_slot's list, struct io_tlb_area's used
 */
export function checkAccount(
	{ audit }: Pick<Watch, "audit">,
	pool: Pick<Pool, "flags" | "start" | "slabs" | "areaSlabs" | "longestFreeRun" | "list" | "areas">,
): BadAccount | null {
	if ((pool.flags & POOL_DISABLED) !== 0) return null;
	const list = pool.list();
	let longest = 0;
	let run = 0;
	for (let slot = pool.slabs - 1; slot >= 0; slot--) {
		const at = pool.start + slot * IO_TLB_SIZE;
		const count = list[slot] as number;
		const endsSet = slot % IO_TLB_SEGSIZE === IO_TLB_SEGSIZE - 1;
		run = count === 0 ? 0 : endsSet ? 1 : run + 1;
		longest = Math.max(longest, run);
		if (count !== run)
			return { slot, slots: 1, text: `slot ${slot}: list says ${count} free slots from it on, there are ${run}` };
		const holder = audit.holderAt(at);
		if (holder !== 0 && count !== 0)
			return { slot, slots: 1, text: `slot ${slot} at ${hex(at)} counts as free, and mapping ${holder} holds it` };
		if (holder === 0 && count === 0)
			return { slot, slots: 1, text: `slot ${slot} at ${hex(at)} counts as used, and no mapping holds it` };
	}
	for (const [i, { used }] of pool.areas().entries()) {
		const first = i * pool.areaSlabs;
		const taken = list.subarray(first, first + pool.areaSlabs).filter((count) => count === 0).length;
		if (taken === used) continue;
		return {
			slot: first,
			slots: Math.abs(taken - used),
			text: `area ${i} counts ${used} used slots, there are ${taken}`,
		};
	}
	const found = pool.longestFreeRun;
	if (found === longest) return null;
	return {
		slot: 0,
		slots: longest,
		text: `the search finds runs of ${found} free slots at most, there is one of ${longest}`,
	};
}
