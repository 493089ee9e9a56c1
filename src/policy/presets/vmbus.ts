/** Policies around the patch that let Confidential VMBus devices reach private memory, and what came before it. */
import { KernelCrash, type Policy, type PolicyPredicate, UndefinedBehavior } from "../../coco/rules/policy.ts";
import { code } from "../../coco/rules/reference.ts";
import { acceptedIn, acceptedInNone } from "../choice.ts";
import {
	BITFIELD_THREAD,
	KELLEY_ON_V2,
	KISEL_DOCS,
	KISEL_V1,
	LAN_V1,
	LAN_V2,
	LAN_V3,
	MURPHY_ON_V2,
	ON_V3,
} from "../sources.ts";

const FORCE_BOUNCE: Policy = {
	name: "force-bounce",
	title: "every device of a confidential guest bounces through one decrypted pool",
	source: "the kernel as of 2025 (SWIOTLB_FORCE); Robin Murphy, February 2026: it cannot express trusted DMA",
	references: [
		code("6.12", "arch/x86/kernel/pci-dma.c", "pci_swiotlb_detect"),
		code("6.12", "kernel/dma/swiotlb.c", "swiotlb_init_remap"),
		MURPHY_ON_V2,
	],
	kernel: "linux-6.12",
	acceptance: "none",
};

const DRIVER_FLAG: Policy = {
	name: "driver-flag",
	title:
		"a bit in struct device that storvsc sets from its offer's external-memory flag keeps the device from bouncing; phys_to_dma drops the C-bit",
	source: "Roman Kisel, April 2025, patches 5 and 6; Christoph Hellwig: no driver may opt itself in",
	references: [...KISEL_V1, BITFIELD_THREAD],
	kernel: "linux-6.12",
	acceptance: "driver",
	flagSetBy: "storvsc",
	predicates: {
		forceBounce: ({ accepted, linux }) => !accepted && linux.forceBounce,
		forceDmaUnencrypted: ({ accepted, linux }) => !accepted && linux.forceDmaUnencrypted,
	},
	plainAddresses: true,
};

const DRIVER_FLAG_MISUSE: Policy = {
	...DRIVER_FLAG,
	name: "driver-flag-misuse",
	title: "as driver-flag, as the reviewer feared it: any driver sets the bit, whoever its device is",
	source: "Christoph Hellwig, April 2025, on Roman Kisel's patch 5: no driver may opt itself into another addressing",
	flagSetBy: "every",
};

/** The operations take every device for one of a VMBus channel. */
const ofChannel =
	(answer: PolicyPredicate): PolicyPredicate =>
	(input) => {
		if (!input.vmbus)
			throw new UndefinedBehavior(
				"the VMBus's DMA operations",
				"container_of takes the device for an hv_device, which it is not",
			);
		return answer(input);
	};

const BUS_OPS: Policy = {
	name: "bus-ops",
	title:
		"global DMA operations: plain addresses and no limit where the offer says external memory; neither .alloc nor sync: no device has coherent memory",
	source: "Tianyu Lan, RFC of November 2025; Michael Kelley: unexported functions, a hack",
	references: [LAN_V1],
	kernel: "linux-6.12",
	acceptance: "offer",
	predicates: {
		forceBounce: ofChannel(({ accepted, linux }) => !accepted && linux.forceBounce),
		active: ofChannel(({ accepted, linux }) => !accepted && linux.active),
	},
	plainAddresses: true,
	allocates: false,
	syncs: false,
};

const NULL_POOL: Policy = {
	name: "null-pool",
	title:
		"the pool pointer of a confidential VMBus device is set to NULL before device_add: coherent memory is still decrypted",
	source:
		"Michael Kelley's idea, Tianyu Lan v2, February 2026; Michael Kelley: confidentiality needs it, it is no optimisation",
	references: [LAN_V2, KELLEY_ON_V2],
	kernel: "linux-6.12",
	acceptance: "offer",
	pool: acceptedInNone,
};

const NULL_POOL_EARLY: Policy = {
	name: "null-pool-early",
	title: "as null-pool, but before device_initialize, which stores the default pool again: nothing changes",
	source: "Michael Kelley on Tianyu Lan's v2, February 2026: device_register does both, hence the split",
	references: [KELLEY_ON_V2, LAN_V2],
	kernel: "linux-6.12",
	acceptance: "offer",
};

const NULL_POOL_RESTRICTED: Policy = {
	...NULL_POOL,
	name: "null-pool-restricted",
	title: "as null-pool, in a kernel with CONFIG_DMA_RESTRICTED_POOL, which looks into the pool for coherent memory",
	source: "derived from Tianyu Lan's v2, February 2026, and Linux 6.12 include/linux/swiotlb.h, is_swiotlb_for_alloc",
	references: [LAN_V2, code("6.12", "include/linux/swiotlb.h", "is_swiotlb_for_alloc")],
	predicates: {
		forAlloc: ({ hasPool, linux }) => {
			if (!hasPool) throw new KernelCrash("is_swiotlb_for_alloc", "NULL dereference of dev->dma_io_tlb_mem");
			return linux.forAlloc;
		},
	},
};

/** No predicate and no pool differs, which is the whole point. */
const RFC_V3: Policy = {
	name: "rfc-v3",
	title: "swiotlb_dev_disable(dev) compares the pool pointer with NULL where it should assign it: nothing changes",
	source: "Tianyu Lan, V3 RFC, March 2026; Easwar Hariharan: an = too many; Leon Romanovsky: layering violation",
	references: [LAN_V3, ...ON_V3],
	kernel: "linux-6.12",
	acceptance: "offer",
};

/** The guest hands private memory over; what the paravisor bounces lies where the host maps nothing. */
const PARAVISOR_BOUNCE: Policy = {
	name: "paravisor-bounce",
	title:
		"devices with confidential external memory bounce in decrypted pages that the host does not map; coherent memory stays private",
	source: "Roman Kisel, August 2025, Documentation/virt/hyperv/coco.rst for Confidential VMBus",
	references: [KISEL_DOCS],
	kernel: "linux-6.12",
	acceptance: "offer",
	predicates: { forceDmaUnencrypted: ({ accepted, linux }) => !accepted && linux.forceDmaUnencrypted },
	pools: [{ kind: "bus", name: "paravisor", size: "1M", hidden: true }],
	pool: acceptedIn("bus"),
};

export const VMBUS_PRESETS: readonly Policy[] = [
	FORCE_BOUNCE,
	DRIVER_FLAG,
	DRIVER_FLAG_MISUSE,
	BUS_OPS,
	NULL_POOL,
	NULL_POOL_EARLY,
	NULL_POOL_RESTRICTED,
	RFC_V3,
	PARAVISOR_BOUNCE,
];
