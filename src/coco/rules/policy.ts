/**
 * A DMA policy: which of the kernel's predicates it changes and how, which pools it needs, how a buffer that would bounce
 * gets to its device, and when a device's trust may change. It is compiled into plain fields of a device's decision record
 * before the first mapping: the engine knows no policies.
 */
import type { Protection } from "../platform/platform.ts";
import type { Transitions } from "../trust/tdisp.ts";
import type { Kernel, KernelName, KernelRule } from "./kernel.ts";
import type { GuestPoolOptions, PoolMatcher } from "./pool.ts";
import type { PredicateName, PredicateValues } from "./predicate.ts";
import type { Reference } from "./reference.ts";

/** What may speak for a device. */
interface Claims {
	/** Its VMBus offer says confidential external memory. */
	readonly offer: boolean;
	/** Its TDISP interface is accepted, in RUN. */
	readonly tdisp: boolean;
	/** Its driver's own flag. */
	readonly driver: boolean;
}

/** What a policy takes for a device's being trusted with private memory. */
export const ACCEPTANCES = {
	none: () => false,
	offer: ({ offer }: Claims) => offer,
	tdisp: ({ tdisp }: Claims) => tdisp,
	any: ({ offer, tdisp }: Claims) => offer || tdisp,
	driver: ({ driver }: Claims) => driver,
} as const;
export type Acceptance = keyof typeof ACCEPTANCES;

/** What a predicate of a policy may look at. */
export interface PredicateInput {
	/** Whether the device is accepted, as far as the policy knows (Policy.acceptance). */
	readonly accepted: boolean;
	/** What the kernel underneath answers. */
	readonly linux: PredicateValues;
	/** Whether dev->dma_io_tlb_mem points at a pool, and whether that is a restricted one. */
	readonly hasPool: boolean;
	readonly restricted: boolean;
	/** swiotlb=force on the command line. */
	readonly forced: boolean;
	/** Whether it is the device of a VMBus channel. */
	readonly vmbus: boolean;
	/** Whether it sits behind a port that anybody can reach (external_facing). */
	readonly externalFacing: boolean;
	/** Whether its mask reaches the bit that the platform's private addresses carry, as they do where private memory has none. */
	readonly reachesPrivate: boolean;
}

/** A predicate that crashes throws a KernelCrash. */
export type PolicyPredicate = (input: PredicateInput) => boolean;

/** A kernel's end, where a policy would bring it about: reported, never mended. */
export class KernelCrash extends Error {
	override readonly name = "KernelCrash";
	/** The function that crashes, as the kernel names it. */
	readonly where: string;
	readonly why: string;

	constructor(where: string, why: string) {
		super(`${where}: ${why}`);
		this.where = where;
		this.why = why;
	}
}

/** Where a policy has the kernel do what nobody can foretell: it reads memory as what it is not. */
export class UndefinedBehavior extends KernelCrash {}

/**
 * What happens to a buffer that would bounce. bounce: what the kernel does. refuse: an error instead (a formal "do not
 * bounce"). share-in-place: its pages become shared for the time of the mapping.
 */
export const MECHANISMS = ["bounce", "refuse", "share-in-place"] as const;
export type Mechanism = (typeof MECHANISMS)[number];

/** Whose driver keeps its device from bouncing, where a policy takes the driver's word. */
export const FLAG_SETTERS = ["every", "storvsc"] as const;
type FlagSetter = (typeof FLAG_SETTERS)[number];

export interface Policy {
	/** Lower-case words joined by "-". */
	readonly name: string;
	/** One line: what it does. */
	readonly title: string;
	/** One line: who proposed it, and what was said against it. */
	readonly source: string;
	/** The mails, commits and pages that it is from. Default: none are known. */
	readonly references?: readonly Reference[];
	/** Whose rules it changes. */
	readonly kernel: KernelName;
	readonly acceptance: Acceptance;
	/** Predicates that it changes; the others are the kernel's. */
	readonly predicates?: Readonly<Partial<Record<PredicateName, PolicyPredicate>>>;
	/** Pools that it reserves at boot beside the default one. */
	readonly pools?: readonly GuestPoolOptions[];
	/**
	 * Which pool serves a need: one of the device's own if it names any, else of the guest's that are not restricted. null
	 * for private buffers: none at all (dev->dma_io_tlb_mem is NULL). Default: the kernel's choice.
	 */
	readonly pool?: PoolMatcher;
	/** For devices that are accepted as far as the policy knows, and for the others. Default: bounce. */
	readonly mechanism?: { readonly accepted?: Mechanism; readonly others?: Mechanism };
	/**
	 * Whether the pool's state is asked for before a bounce (7.3: must equal force_dma_unencrypted). false: the pool's own
	 * property decides how its addresses look, nothing is refused, and attributes of a map count for nothing. Default: as
	 * the kernel.
	 */
	readonly checksPoolState?: boolean;
	/**
	 * Whether restricted pools are decrypted in a guest of protected KVM. false: the kernel knows of no protection there, as
	 * before Linux 7.3 had the attribute for it, and decrypts nothing without it. Default true.
	 */
	readonly decryptsRestricted?: boolean;
	/**
	 * true: devices accepted as far as the policy knows are given plain addresses, and whoever serves them tells private
	 * from shared by the page (as GuestDeviceOptions.encoded false). Default: as the device says.
	 */
	readonly plainAddresses?: boolean;
	/**
	 * Whose driver sets the flag that the acceptance "driver" believes: every driver, whatever its device is; or storvsc alone,
	 * from its offer's external-memory flag. Default: every.
	 */
	readonly flagSetBy?: FlagSetter;
	/** Whether the DMA operations allocate coherent memory; false: every device gets NULL. Default true. */
	readonly allocates?: boolean;
	/** Whether the DMA operations sync; false: dma_sync_* does nothing, for every device. Default true. */
	readonly syncs?: boolean;
	/**
	 * Whether the pools that a device has when its driver binds stay its own, whatever becomes of its trust: static pools,
	 * which nothing points it away from. Default false.
	 */
	readonly fixesPool?: boolean;
	/** Whether the kernel warns of swiotlb=force in a confidential guest. Default false. */
	readonly warnsForce?: boolean;
	/** Share of streaming buffers, in percent, that drivers place in memory that is shared for good. Default 0. */
	readonly preSharedPercent?: number;
	/** When trust may change. Default: checked. */
	readonly transitions?: Transitions;
	/** What the kernel logs at boot under it. */
	readonly messages?: readonly string[];
}

/** The rules of a kernel that a policy leaves. */
export function kernelUnder(policy: Policy | null, kernel: Kernel): Kernel {
	if (policy?.decryptsRestricted !== false) return kernel;
	const without = (rule: KernelRule<readonly Protection[]>) => ({
		is: rule.is.filter((protection) => protection !== "stage-2"),
		says: `${rule.says}; not on protected KVM`,
		source: `policy ${policy.name}`,
	});
	const { reportsEncryption, needsUnencrypted, decryptsDefaultPool, decryptsOtherPools } = kernel.rules;
	return {
		...kernel,
		rules: {
			...kernel.rules,
			reportsEncryption: without(reportsEncryption),
			needsUnencrypted: without(needsUnencrypted),
			decryptsDefaultPool: without(decryptsDefaultPool),
			decryptsOtherPools: without(decryptsOtherPools),
		},
	};
}
