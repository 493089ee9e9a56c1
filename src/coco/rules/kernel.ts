/**
 * What a kernel decides about DMA, as data: a record for each kernel, and nothing elsewhere asks for a kernel's name. Another
 * kernel, or a patch to one, is another record, such as `{ ...KERNELS["linux-7.3"], name: "mine", ... }`.
 */

/** One rule of a kernel. */
export interface KernelRule<T = boolean> {
	readonly is: T;
	/** What the kernel does, in a clause. */
	readonly says: string;
	/** Where that is read: kernel, file and function, or who posted it and when. */
	readonly source: string;
}

/** Every rule in which kernels differ. */
export interface KernelRules {
	/** Whether a confidential guest bounces every device's DMA (SWIOTLB_FORCE), whatever the device may reach. */
	readonly forcesGuest: KernelRule;
	/** Whether an accepted device reaches private memory: force_dma_unencrypted is false for it. */
	readonly knowsAcceptance: KernelRule;
	/** Whether a device of a shared pool reaches shared memory only, on a platform without the memory-encryption attribute. */
	readonly poolTellsUnencrypted: KernelRule;
	/**
	 * Whether streaming maps ask for states: DMA_ATTR_CC_SHARED and DMA_ATTR_REQUIRE_COHERENT count, dma_capable asks for the
	 * memory's state, swiotlb for the pool's, and MMIO is encoded as RAM is.
	 */
	readonly checksState: KernelRule;
	/** Whether coherent memory from a restricted pool is refused when the pool's state is not what the device needs. */
	readonly allocChecksPool: KernelRule;
	/** Whether coherent memory from a restricted pool has the form of the pool, or of what the device needs. */
	readonly allocTakesPoolForm: KernelRule;
	/** Whether coherent memory from a restricted pool is decrypted once more, and encrypted when it is freed. */
	readonly allocConvertsSlots: KernelRule;
	/** Whether the pages of coherent memory that is remapped are decrypted. */
	readonly decryptsRemapped: KernelRule;
	/** What is logged where coherent pages cannot be decrypted, or null: nothing. */
	readonly undecryptedMessage: KernelRule<string | null>;
	/** Whether the atomic pools are asked for their state. */
	readonly atomicChecksPool: KernelRule;
	/** Whether a pool that cannot be decrypted at boot serves nothing; else it is used in whatever state it is. */
	readonly disablesUndecrypted: KernelRule;
	/** Whether the memory of transient pools is given back where sleeping is allowed. */
	readonly freesTransientsInProcess: KernelRule;
}

/** A part of Linux that recordings are made of. */
export type KernelPart = "dma" | "swiotlb" | "ring" | "vmbus-guest";

export interface Kernel {
	readonly name: string;
	/** Its release without the patch level, such as "6.12". */
	readonly release: string;
	/** As people write it. */
	readonly title: string;
	/** The parts whose rules of this kernel are here: recordings of others cannot be replayed. */
	readonly parts: readonly KernelPart[];
	readonly rules: KernelRules;
}

const LINUX_6_12: Kernel = {
	name: "linux-6.12",
	release: "6.12",
	title: "Linux 6.12",
	parts: ["dma", "swiotlb", "ring", "vmbus-guest"],
	rules: {
		forcesGuest: {
			is: true,
			says: "every device of a confidential guest bounces (SWIOTLB_FORCE)",
			source: "Linux 6.12 arch/x86/kernel/pci-dma.c, pci_swiotlb_detect; kernel/dma/swiotlb.c, swiotlb_init_remap",
		},
		knowsAcceptance: {
			is: false,
			says: "no device is ever accepted",
			source: "Linux 6.12 arch/x86/mm/mem_encrypt.c, force_dma_unencrypted",
		},
		poolTellsUnencrypted: {
			is: false,
			says: "without the memory-encryption attribute force_dma_unencrypted is false",
			source: "Linux 6.12 include/linux/dma-direct.h, force_dma_unencrypted",
		},
		checksState: {
			is: false,
			says: "dma_capable asks how far the device reaches, and nobody asks for the pool's state",
			source: "Linux 6.12 include/linux/dma-direct.h, dma_capable; kernel/dma/direct.h, dma_direct_map_page",
		},
		allocChecksPool: {
			is: false,
			says: "slots for coherent memory are taken whatever the pool's state",
			source: "Linux 6.12 kernel/dma/swiotlb.c, swiotlb_alloc",
		},
		allocTakesPoolForm: {
			is: false,
			says: "coherent memory has the form that force_dma_unencrypted says",
			source: "Linux 6.12 kernel/dma/direct.c, phys_to_dma_direct",
		},
		allocConvertsSlots: {
			is: true,
			says: "a restricted pool's slots are decrypted once more for coherent memory, and encrypted when it is freed",
			source: "Linux 6.12 kernel/dma/direct.c, dma_direct_alloc, dma_direct_free",
		},
		decryptsRemapped: {
			is: false,
			says: "remapped memory is never decrypted: only its alias has the shared attribute",
			source: "Linux 6.12 kernel/dma/direct.c, dma_direct_alloc",
		},
		undecryptedMessage: {
			is: null,
			says: "nothing is logged where coherent pages cannot be decrypted",
			source: "Linux 6.12 kernel/dma/direct.c, dma_direct_alloc",
		},
		atomicChecksPool: {
			is: false,
			says: "the atomic pools are not asked for their state",
			source: "Linux 6.12 kernel/dma/pool.c, dma_alloc_from_pool",
		},
		disablesUndecrypted: {
			is: false,
			says: "a default pool that cannot be decrypted is used in whatever state it is",
			source: "Linux 6.12 kernel/dma/swiotlb.c, swiotlb_update_mem_attributes",
		},
		freesTransientsInProcess: {
			is: false,
			says: "transient pools are freed in an RCU callback",
			source: "Linux 6.12 kernel/dma/swiotlb.c, swiotlb_dyn_free",
		},
	},
};

const LINUX_7_3: Kernel = {
	name: "linux-7.3",
	release: "7.3",
	title: "Linux 7.3",
	parts: ["dma", "swiotlb", "ring"],
	rules: {
		forcesGuest: {
			is: false,
			says: "a device bounces where dma_capable says no: SWIOTLB_FORCE is gone",
			source: "Linux 7.3 include/linux/swiotlb.h; kernel/dma/swiotlb.c, swiotlb_init_remap (04a19b35dc05)",
		},
		knowsAcceptance: {
			is: true,
			says: "force_dma_unencrypted is false for an accepted device",
			source: "device_cc_accepted, posted in March 2026; not in Linux 7.3",
		},
		poolTellsUnencrypted: {
			is: true,
			says: "without the memory-encryption attribute a device of a shared pool reaches shared memory only",
			source: "the series posted for Linux 7.3, v7 and v8, July 2026",
		},
		checksState: {
			is: true,
			says: "dma_capable asks whether the device may reach private memory, and the pool's state must be what the device needs",
			source:
				"Linux 7.3 include/linux/dma-direct.h, dma_capable; kernel/dma/direct.c, dma_direct_map_phys; kernel/dma/swiotlb.c, swiotlb_map",
		},
		allocChecksPool: {
			is: true,
			says: "slots for coherent memory are refused when the pool's state is not what the device needs",
			source: "Linux 7.3 kernel/dma/swiotlb.c, swiotlb_alloc",
		},
		allocTakesPoolForm: {
			is: true,
			says: "coherent memory from a pool has the pool's form",
			source: "Linux 7.3 kernel/dma/swiotlb.c, swiotlb_alloc; kernel/dma/direct.c, dma_direct_alloc",
		},
		allocConvertsSlots: {
			is: false,
			says: "a pool's slots are never converted",
			source: "Linux 7.3 kernel/dma/direct.c, dma_direct_alloc, dma_direct_free",
		},
		decryptsRemapped: {
			is: true,
			says: "remapped memory is decrypted first",
			source: "Linux 7.3 kernel/dma/direct.c, dma_direct_alloc",
		},
		undecryptedMessage: {
			is: "leaking DMA memory that can't be decrypted",
			says: "coherent pages that cannot be decrypted are leaked with a message",
			source: "Linux 7.3 kernel/dma/direct.c, dma_direct_alloc_pages",
		},
		atomicChecksPool: {
			is: true,
			says: "an atomic pool whose state is not asked for is passed over",
			source: "Linux 7.3 kernel/dma/pool.c, dma_alloc_from_pool",
		},
		disablesUndecrypted: {
			is: true,
			says: "a default pool that cannot be decrypted is disabled: every slot counts as used",
			source: "Linux 7.3 kernel/dma/swiotlb.c, swiotlb_update_mem_attributes",
		},
		freesTransientsInProcess: {
			is: true,
			says: "transient pools are freed in process context",
			source: "Linux 7.3 kernel/dma/swiotlb.c, swiotlb_schedule_dyn_free",
		},
	},
};

const RECORDS = {
	"linux-6.12": LINUX_6_12,
	"linux-7.3": LINUX_7_3,
} satisfies Record<string, Kernel>;

export type KernelName = keyof typeof RECORDS;

/** The kernels by name. */
export const KERNELS: Readonly<Record<KernelName, Kernel>> = RECORDS;

/** The kernel whose rules hold where nobody says otherwise. */
export const DEFAULT_KERNEL: KernelName = "linux-6.12";

/** The kernel of that name. @throws RangeError that lists the names */
export function kernelNamed(name: string): Kernel {
	if (!Object.hasOwn(KERNELS, name))
		throw new RangeError(`kernel must be one of ${Object.keys(KERNELS).join(", ")}, not "${name}"`);
	return KERNELS[name as KernelName];
}

/** The kernel of a release as `uname -r` gives it, such as "6.12.117+deb12-amd64", or undefined. */
export function findKernel(release: string): Kernel | undefined {
	return Object.values(KERNELS).find(
		(kernel) => release.startsWith(kernel.release) && !/^\d/.test(release.slice(kernel.release.length)),
	);
}

/** The kernel of a release. @throws RangeError that lists the releases */
export function kernelOfRelease(release: string): Kernel {
	const found = findKernel(release);
	if (found !== undefined) return found;
	const known = Object.values(KERNELS).map((kernel) => kernel.release);
	throw new RangeError(`kernel release must be one of ${known.join(", ")}, not "${release}"`);
}
