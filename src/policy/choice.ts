/** How policies choose among pools. */
import type { PoolFacts, PoolKind, PoolMatcher } from "../coco/rules/pool.ts";

/** What the kernel does: the device's own restricted pool, or the default one. */
export const kernelChoice: PoolMatcher = (_need, pools) =>
	pools.find(({ restricted }) => restricted) ?? ofKind(pools, "default");

function ofKind(pools: readonly PoolFacts[], kind: PoolKind): PoolFacts | null {
	return pools.find((pool) => pool.kind === kind) ?? null;
}

/** A pool of a kind for the devices that are accepted as far as the policy knows, if there is one; the kernel's for the others. */
export function acceptedIn(kind: PoolKind): PoolMatcher {
	return (need, pools) => (need.accepted ? ofKind(pools, kind) : null) ?? kernelChoice(need, pools);
}

/** A pool of a kind for every device, if there is one. */
export function everyoneIn(kind: PoolKind): PoolMatcher {
	return (need, pools) => ofKind(pools, kind) ?? kernelChoice(need, pools);
}

/** No pool for the devices that are accepted as far as the policy knows: dev->dma_io_tlb_mem is NULL. */
export const acceptedInNone: PoolMatcher = (need, pools) => (need.accepted ? null : kernelChoice(need, pools));
