/** How policies choose among pools. */
import type { CapableCode, PoolFacts, PoolKind, PoolMatcher } from "../coco/rules/pool.ts";

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

/** The remedy for each code of dma_capable: a pool of a kind, if there is one; the kernel's for what it does not name. */
export function remedyFor(remedies: Readonly<Partial<Record<CapableCode, PoolKind>>>): PoolMatcher {
	return (need, pools) => {
		const kind = remedies[need.code];
		return (kind === undefined ? null : ofKind(pools, kind)) ?? kernelChoice(need, pools);
	};
}

/** The first pool whose pages are what the buffer and the device's trust need, and that the device reaches. */
export const reachedAndFitting: PoolMatcher = ({ isPrivate, accepted, reaches }, pools) =>
	pools.find((pool) => pool.kind !== "bus" && pool.ccShared === !(isPrivate && accepted) && reaches(pool)) ?? null;

/** No pool for the devices that are accepted as far as the policy knows: dev->dma_io_tlb_mem is NULL. */
export const acceptedInNone: PoolMatcher = (need, pools) => (need.accepted ? null : kernelChoice(need, pools));
