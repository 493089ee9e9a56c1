/** Policies that ask whether a device was accepted, and what the accepted bounce in. */
import type { Policy, PolicyPredicate } from "../../coco/rules/policy.ts";
import { acceptedIn, everyoneIn } from "../choice.ts";
import { ANEESH_ON_V2, BITFIELD_THREAD, CC_ACCEPT, MERGED_7_3, MURPHY_ON_V2, ON_POOL_STATE_V4 } from "../sources.ts";

/** False for a device that is accepted, the kernel's answer for the others. */
function unlessAccepted(
	name: "forceBounce" | "active" | "forAlloc" | "usePool" | "forceDmaUnencrypted",
): PolicyPredicate {
	return ({ accepted, linux }) => !accepted && linux[name];
}

/** is_swiotlb_force_bounce still bounces everything. */
const ACCEPTED_THREE: Policy = {
	name: "accepted-three",
	title: "three of the five predicates are false for an accepted device: what forces it to bounce still does",
	source:
		"Aneesh Kumar K.V, February 2026: device_cc_accepted in is_swiotlb_for_alloc, dma_direct_use_pool, is_swiotlb_active",
	references: [ANEESH_ON_V2],
	kernel: "linux-6.12",
	acceptance: "any",
	predicates: {
		forAlloc: unlessAccepted("forAlloc"),
		usePool: unlessAccepted("usePool"),
		active: unlessAccepted("active"),
	},
};

const ACCEPTED_FIVE: Policy = {
	...ACCEPTED_THREE,
	name: "accepted-five",
	title: "all five predicates are false for an accepted device: it never bounces, and fails where it would have to",
	source: "Aneesh Kumar K.V, February 2026, the whole set: is_swiotlb_force_bounce and force_dma_unencrypted ask too",
	predicates: {
		...ACCEPTED_THREE.predicates,
		forceBounce: unlessAccepted("forceBounce"),
		forceDmaUnencrypted: unlessAccepted("forceDmaUnencrypted"),
	},
};

/** Pools of a private allocator beside the shared one. swiotlb=force means both. */
const TWO_ALLOCATORS: Policy = {
	name: "two-allocators",
	title: "a private and a shared default allocator, chosen by acceptance",
	source: "Aneesh Kumar K.V, February 2026, prototype: io_tlb_default_mem and io_tlb_default_shared_mem",
	references: [ANEESH_ON_V2],
	kernel: "linux-6.12",
	acceptance: "any",
	predicates: {
		forceBounce: ({ accepted, linux, forced, restricted }) => linux.forceBounce && (!accepted || forced || restricted),
		forceDmaUnencrypted: unlessAccepted("forceDmaUnencrypted"),
	},
	pools: [{ kind: "private", size: "1M" }],
	pool: acceptedIn("private"),
};

const TWO_ALLOCATORS_DEFAULT: Policy = {
	...TWO_ALLOCATORS,
	name: "two-allocators-default",
	title: "as two-allocators, but devices keep the default allocator, which is the private one: the wrong pool for most",
	source: "derived from Aneesh Kumar K.V's prototype, February 2026: nobody points the device at the shared allocator",
	pool: everyoneIn("private"),
};

const CC_ACCEPTED: Policy = {
	name: "cc-accepted",
	title: "the 7.3 rules, and a device property that policy sets after TDISP validation, while no driver is bound",
	source: "Dan Williams, April 2025 (private_accepted); posted in March 2026 as cc_accepted, v2",
	references: [...CC_ACCEPT, BITFIELD_THREAD],
	kernel: "linux-7.3",
	acceptance: "tdisp",
};

const CC_ACCEPTED_BUS: Policy = {
	...CC_ACCEPTED,
	name: "cc-accepted-bus",
	title: "as cc-accepted, and the VMBus accepts devices whose offer says confidential external memory",
	source: "Dan Williams, April 2025 and March 2026: bus or infrastructure code calls device_cc_accept",
	acceptance: "any",
};

const PRIVATE_POOL: Policy = {
	name: "private-pool",
	title: "the 7.3 rules, and accepted devices bounce in a pool below 4 GiB that stays private",
	source: "Robin Murphy, April 2025, Dan Williams agrees; for non-coherent devices Mostafa Saleh, May 2026",
	references: [BITFIELD_THREAD, ...ON_POOL_STATE_V4],
	kernel: "linux-7.3",
	acceptance: "any",
	pools: [{ kind: "private", size: "1M" }],
	pool: acceptedIn("private"),
};

const T_FIXED: Policy = {
	name: "t-fixed",
	title: "the 7.3 rules; whether a device is trusted is settled before its driver binds, and never changes after",
	source: "Jason Gunthorpe, May 2026, on Aneesh Kumar K.V's v4: T=0 or T=1 is fixed before the driver loads",
	references: ON_POOL_STATE_V4,
	kernel: "linux-7.3",
	acceptance: "any",
	transitions: "before-driver",
};

/** What is external-facing counts as not accepted, whatever TDISP says. */
const ONE_PROPERTY: Policy = {
	name: "one-property",
	title: "the 7.3 rules, and one device property in place of external-facing, TDISP's state and force_dma_unencrypted",
	source: "Robin Murphy, February 2026: one common property, after TDISP is there",
	references: [MURPHY_ON_V2],
	kernel: "linux-7.3",
	acceptance: "any",
	predicates: {
		forceDmaUnencrypted: ({ externalFacing, linux }) => linux.forceDmaUnencrypted || externalFacing,
	},
};

const FORCE_WARNED: Policy = {
	name: "force-warned",
	title: "as cc-accepted, and the kernel warns of swiotlb=force in a confidential guest",
	source: "Robin Murphy, February 2026: keep it, and say not to run confidential workloads with it",
	references: [MURPHY_ON_V2],
	kernel: "linux-7.3",
	acceptance: "tdisp",
	warnsForce: true,
};

const LINUX_7_3: Policy = {
	name: "linux-7.3",
	title: "as merged: bouncing follows from dma_capable and the pool's state; no device is ever accepted",
	source: "Aneesh Kumar K.V, v7 and v8, July 2026, merged in the 7.3 merge window (d5fd03cdd6c0 and others)",
	references: MERGED_7_3,
	kernel: "linux-7.3",
	acceptance: "none",
};

export const ACCEPTANCE_PRESETS: readonly Policy[] = [
	ACCEPTED_THREE,
	ACCEPTED_FIVE,
	TWO_ALLOCATORS,
	TWO_ALLOCATORS_DEFAULT,
	PRIVATE_POOL,
	CC_ACCEPTED,
	CC_ACCEPTED_BUS,
	T_FIXED,
	ONE_PROPERTY,
	FORCE_WARNED,
	LINUX_7_3,
];
