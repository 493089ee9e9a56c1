/** Which of a guest's pools serve a device. */
import { InputError, thrown } from "../../input-error.ts";
import type { Platform } from "../platform/platform.ts";
import type { Kernel } from "./kernel.ts";
import type { Policy } from "./policy.ts";
import type { PoolFacts, PoolMatcher, PoolNeed } from "./pool.ts";

/** What the choice depends on. */
interface PoolQuestion<P extends PoolFacts> {
	readonly kernel: Kernel;
	readonly platform: Platform;
	readonly policy: Policy | null;
	/** Pools that the device names as its own, or undefined. */
	readonly own: readonly P[] | undefined;
	/** How it chooses among its own. Default: the first whose pages are as the need. */
	readonly matcher: PoolMatcher<P> | undefined;
	/** Pools of the guest that a device without its own may be given: none is restricted. */
	readonly common: readonly P[];
	/** Whether no memory was found for the default pool: its allocator is there all the same. */
	readonly noSlots: boolean;
	/** Whether the device is accepted, as far as the guest's policy knows. */
	readonly believed: boolean;
	/** Whether its addresses reach a pool, in the form that the pool's pages have. */
	readonly reaches: PoolNeed["reaches"];
}

/** What a buffer needs, for those who choose. */
function needOf(isPrivate: boolean, accepted: boolean, { reaches }: Pick<PoolNeed, "reaches">): PoolNeed {
	return { isPrivate, accepted, code: accepted ? "ERANGE" : "EPERM", reaches };
}

/** The pools of a device. */
export interface ChosenPools<P extends PoolFacts> {
	/** For buffers on shared pages, and on all if there is no other. */
	readonly pool: P | null;
	/** For buffers on private pages, if it is another. */
	readonly privatePool: P | null;
	/** Whether dev->dma_io_tlb_mem points at an allocator, though none of its pools may fit. */
	readonly hasAllocator: boolean;
}

/** @throws InputError when a policy chooses what it was not given */
export function choosePools<P extends PoolFacts>(question: PoolQuestion<P>): ChosenPools<P> {
	const { kernel, platform, policy, own, common, believed } = question;
	const matcher: PoolMatcher<P> = question.matcher ?? (platform.hostRead === "plain" ? firstOf : firstFitting);
	const chosen = (forShared: P | null, forPrivate: P | null, hasAllocator = forShared !== null): ChosenPools<P> => ({
		pool: forShared,
		privatePool: forShared === forPrivate ? null : forPrivate,
		hasAllocator,
	});
	if (policy?.pool !== undefined) {
		const choices = own ?? common;
		const forPrivate = askForPool(policy, needOf(true, believed, question), choices);
		// none for private buffers means no pool: the engine would take the other one
		if (forPrivate === null) return chosen(null, null);
		return chosen(askForPool(policy, needOf(false, believed, question), choices) ?? forPrivate, forPrivate);
	}
	const accepted = kernel.rules.knowsAcceptance.is && believed;
	if (own === undefined) {
		const pool = defaultPool(common, accepted);
		return chosen(pool, null, pool !== null || question.noSlots);
	}
	const first = matcher(needOf(false, accepted, question), own);
	const forPrivate = matcher(needOf(true, accepted, question), own);
	const fitting = first ?? forPrivate;
	// under a policy a device keeps what it was given, whatever state that is in
	return policy === null ? chosen(fitting, forPrivate, true) : chosen(fitting ?? own[0] ?? null, forPrivate);
}

/**
 * The pool that a policy chooses.
 * @param pools that may serve the device
 * @throws InputError for what is none of them
 */
function askForPool<P extends PoolFacts>(policy: Policy, need: PoolNeed, pools: readonly P[]): P | null {
	let pool: unknown;
	try {
		pool = policy.pool?.(need, pools);
	} catch (error) {
		throw new InputError(`policy ${policy.name}: pool: expected a pool or null, threw ${thrown(error)}`);
	}
	if (pool !== null && !pools.includes(pool as P))
		throw new InputError(`policy ${policy.name}: pool: expected one of the pools that it was given, or null`);
	return pool as P | null;
}

/** The pool that a device without pools of its own uses: an accepted one the private pool, if there is one. */
function defaultPool<P extends PoolFacts>(pools: readonly P[], accepted: boolean): P | null {
	const ofKind = (kind: PoolFacts["kind"]) => pools.find((pool) => pool.kind === kind) ?? null;
	return (accepted ? ofKind("private") : null) ?? ofKind("default");
}

/** Where nothing is private every pool fits. */
function firstOf<P extends PoolFacts>(_need: PoolNeed, pools: readonly P[]): P | null {
	return pools[0] ?? null;
}

/** The first pool whose pages are what the buffer and the device's trust need. */
function firstFitting<P extends PoolFacts>({ isPrivate, accepted }: PoolNeed, pools: readonly P[]): P | null {
	const needsShared = !(isPrivate && accepted);
	return pools.find(({ ccShared }) => ccShared === needsShared) ?? null;
}
