/** Policies around the patch that let Confidential VMBus devices reach private memory, and what came before it. */
import { KernelCrash, type Policy } from "../../coco/rules/policy.ts";
import { acceptedIn, acceptedInNone } from "../choice.ts";

/** P1 */
const FORCE_BOUNCE: Policy = {
	name: "force-bounce",
	title: "every device of a confidential guest bounces through one decrypted pool",
	source: "the kernel as of 2025 (SWIOTLB_FORCE); Robin Murphy, February 2026: it cannot express trusted DMA",
	kernel: "linux-6.12",
	acceptance: "none",
};

/** P2 */
const DRIVER_FLAG: Policy = {
	name: "driver-flag",
	title: "a bit in struct device, set by its driver at any time, keeps it from bouncing",
	source: "Roman Kisel, April 2025, Confidential VMBus; Christoph Hellwig: no driver may opt itself in",
	kernel: "linux-6.12",
	acceptance: "driver",
	predicates: {
		forceBounce: ({ accepted, linux }) => !accepted && linux.forceBounce,
		forceDmaUnencrypted: ({ accepted, linux }) => !accepted && linux.forceDmaUnencrypted,
	},
	transitions: "anytime",
};

/** P3: coherent memory goes through dma-direct, and so is decrypted. */
const BUS_OPS: Policy = {
	name: "bus-ops",
	title: "the bus's own DMA operations: plain addresses and no limit where the offer says confidential external memory",
	source:
		"Tianyu Lan, v1 of Confidential VMBus for dynamic DMA transfers; Michael Kelley: unexported functions, a hack",
	kernel: "linux-6.12",
	acceptance: "offer",
	predicates: {
		forceBounce: ({ accepted, linux }) => !accepted && linux.forceBounce,
		active: ({ accepted, linux }) => !accepted && linux.active,
	},
	plainAddresses: true,
};

/** P4 */
const NULL_POOL: Policy = {
	name: "null-pool",
	title:
		"the pool pointer of a confidential VMBus device is set to NULL before device_add: coherent memory is still decrypted",
	source: "Michael Kelley's idea, Tianyu Lan v2, February 2026",
	kernel: "linux-6.12",
	acceptance: "offer",
	pool: acceptedInNone,
};

const NULL_POOL_EARLY: Policy = {
	name: "null-pool-early",
	title: "as null-pool, but before device_initialize, which stores the default pool again: nothing changes",
	source: "Michael Kelley on Tianyu Lan's v2, February 2026: device_register does both, hence the split",
	kernel: "linux-6.12",
	acceptance: "offer",
};

const NULL_POOL_RESTRICTED: Policy = {
	...NULL_POOL,
	name: "null-pool-restricted",
	title: "as null-pool, in a kernel with CONFIG_DMA_RESTRICTED_POOL, which looks into the pool for coherent memory",
	source: "derived from Tianyu Lan's v2, February 2026, and Linux 6.12 include/linux/swiotlb.h, is_swiotlb_for_alloc",
	predicates: {
		forAlloc: ({ hasPool, linux }) => {
			if (!hasPool) throw new KernelCrash("is_swiotlb_for_alloc", "NULL dereference of dev->dma_io_tlb_mem");
			return linux.forAlloc;
		},
	},
};

/** P5: no predicate and no pool differs, which is the whole point. */
const RFC_V3: Policy = {
	name: "rfc-v3",
	title: "swiotlb_dev_disable(dev) compares the pool pointer with NULL where it should assign it: nothing changes",
	source: "Tianyu Lan, V3 RFC, March 2026; Easwar Hariharan: an = too many; Leon Romanovsky: layering violation",
	kernel: "linux-6.12",
	acceptance: "offer",
};

/** P24: the guest hands private memory over; what the paravisor bounces lies where the host maps nothing. */
const PARAVISOR_BOUNCE: Policy = {
	name: "paravisor-bounce",
	title:
		"devices with confidential external memory bounce in decrypted pages that the host does not map; coherent memory stays private",
	source: "Roman Kisel, August 2025, Documentation/virt/hyperv/coco.rst for Confidential VMBus",
	kernel: "linux-6.12",
	acceptance: "offer",
	predicates: { forceDmaUnencrypted: ({ accepted, linux }) => !accepted && linux.forceDmaUnencrypted },
	pools: [{ kind: "bus", name: "paravisor", size: "1M", hidden: true }],
	pool: acceptedIn("bus"),
};

export const VMBUS_PRESETS: readonly Policy[] = [
	FORCE_BOUNCE,
	DRIVER_FLAG,
	BUS_OPS,
	NULL_POOL,
	NULL_POOL_EARLY,
	NULL_POOL_RESTRICTED,
	RFC_V3,
	PARAVISOR_BOUNCE,
];
