/**
 * The kernel's predicates about a device, in the order in which it asks them. What a policy may answer, what its file is
 * checked for, what a decision record comes to, what explain says and what docs/rules.md lists all follow from this list.
 */
import type { DeviceOptions } from "../../dma/options.ts";
import { isConfidentialGuest } from "./attributes.ts";
import type { Situation } from "./device.ts";
import type { Kernel } from "./kernel.ts";

/** What a predicate says, and from what it follows. */
export interface Answer {
	readonly value: boolean;
	readonly why: string;
}

/** What the answers come to for streaming maps: fields of the decision record, and whether what it does not map may bounce. */
export interface MapRules extends DeviceOptions {
	readonly forceBounce: boolean;
	readonly needsShared: boolean;
	readonly mayBounce: boolean;
}

/** What the answers come to for coherent memory. */
export interface CoherentRules {
	/** Whether the device reaches shared memory only. */
	readonly needsShared: boolean;
	/** Whether its restricted pool serves it. */
	readonly fromPool: boolean;
	/** Whether the atomic pools serve it where nothing may sleep. */
	readonly fromAtomicPools: boolean;
}

export interface Predicate {
	/** Its name in a policy. */
	readonly name: string;
	/** The kernel's call. */
	readonly call: string;
	/** Kernel, file and function. */
	readonly source: string;
	/** Who asks it, and when. */
	readonly asked: string;
	/**
	 * What the kernel itself answers.
	 * @param given answers to the predicates before it, a policy's where it has one
	 */
	readonly linux: (situation: Situation, given: Readonly<Record<string, boolean>>) => Answer;
	/** For streaming maps. */
	readonly map?: {
		/** Whether the kernel's maps ask it; else a crash in it is none of theirs. */
		readonly asks: (kernel: Kernel) => boolean;
		/** first: whatever is mapped. bounce: where a buffer may not be mapped as it is. */
		readonly when: "first" | "bounce";
		/** What follows from the answer. rules: what followed from the answers before */
		readonly rules: (answer: boolean, rules: MapRules) => Partial<MapRules>;
	};
	/** For coherent memory. */
	readonly coherent?: {
		readonly asks: readonly ("alloc" | "free")[];
		readonly rules: (answer: boolean) => Partial<CoherentRules>;
	};
}

export const PREDICATES = [
	{
		name: "forceBounce",
		call: "is_swiotlb_force_bounce(dev)",
		source: "Linux 6.12 include/linux/swiotlb.h, is_swiotlb_force_bounce",
		asked: "by every streaming map: whether it bounces whatever it is",
		linux: ({ kernel, platform, device }) => {
			const { pool, hasAllocator, forced, noforce } = device;
			if (!hasAllocator) return { value: false, why: "the device has no pool" };
			if (pool?.restricted === true) return { value: true, why: "restricted pool" };
			if (forced) return { value: true, why: "swiotlb=force" };
			if (kernel.rules.forcesGuest.is && isConfidentialGuest(kernel, platform) && !noforce)
				return { value: true, why: "confidential guest: SWIOTLB_FORCE" };
			return { value: false, why: "no force, no restricted pool" };
		},
		map: { asks: () => true, when: "first", rules: (forceBounce) => ({ forceBounce }) },
	},
	{
		name: "forceDmaUnencrypted",
		call: "force_dma_unencrypted(dev)",
		source: "Linux 6.12 arch/x86/mm/mem_encrypt.c, force_dma_unencrypted",
		asked:
			"by coherent memory and, from Linux 7.3 on, by streaming maps: whether the device reaches shared memory only",
		linux: ({ kernel, platform, device }) => {
			const { protection, dmaBit } = platform;
			if (protection === "host" && dmaBit !== null) {
				const below = device.coherentReach < 1n << BigInt(dmaBit.bit);
				const why = `encrypted host: coherent addresses ${below ? "end below" : "reach"} bit ${dmaBit.bit}`;
				return { value: below, why };
			}
			if (!isConfidentialGuest(kernel, platform))
				return { value: false, why: `${platform.name}: no confidential guest to this kernel` };
			const trusted = kernel.rules.knowsAcceptance.is && device.accepted;
			return { value: !trusted, why: `confidential guest${trusted ? ", device accepted" : ""}` };
		},
		map: {
			asks: ({ rules }) => rules.capableAsksState.is,
			when: "first",
			rules: (needsShared) => ({ needsShared }),
		},
		coherent: { asks: ["alloc", "free"], rules: (needsShared) => ({ needsShared }) },
	},
	{
		name: "active",
		call: "is_swiotlb_active(dev)",
		source: "Linux 6.12 kernel/dma/swiotlb.c, is_swiotlb_active",
		asked: "by a streaming map that is not forced to bounce, where dma_capable fails or a small buffer has to bounce",
		linux: ({ device: { hasAllocator, noSlots, pool, privatePool } }) => {
			if (!hasAllocator) return { value: false, why: "the device has no pool" };
			if (noSlots) return { value: false, why: "no memory was found for the default pool at boot" };
			const names = [pool, privatePool].flatMap((one) => (one === null ? [] : [`pool "${one.name}"`]));
			return { value: true, why: names.join(", ") || "none of its pools fits" };
		},
		map: { asks: () => true, when: "bounce", rules: (mayBounce) => ({ mayBounce }) },
	},
	{
		name: "forAlloc",
		call: "is_swiotlb_for_alloc(dev)",
		source: "Linux 6.12 include/linux/swiotlb.h, is_swiotlb_for_alloc",
		asked: "by coherent allocation: whether the restricted pool serves it",
		linux: ({ device: { pool } }) => ({
			value: pool?.restricted === true,
			why: pool?.restricted === true ? "restricted pool" : "no restricted pool",
		}),
		coherent: { asks: ["alloc"], rules: (fromPool) => ({ fromPool }) },
	},
	{
		name: "usePool",
		call: "dma_direct_use_pool(dev)",
		source: "Linux 6.12 kernel/dma/direct.c, dma_direct_use_pool",
		asked: "by coherent allocation that may not sleep: whether the atomic pools serve it",
		linux: (_, { forAlloc }) => ({
			value: forAlloc !== true,
			why: forAlloc === true ? "the restricted pool serves it" : "no restricted pool serves it",
		}),
		coherent: { asks: ["alloc"], rules: (fromAtomicPools) => ({ fromAtomicPools }) },
	},
] as const satisfies readonly Predicate[];

/** The predicates, by the names that policies have for them. */
export type PredicateName = (typeof PREDICATES)[number]["name"];

/** An answer to each predicate. */
export type PredicateValues = { readonly [Name in PredicateName]: boolean };
