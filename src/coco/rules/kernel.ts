/**
 * What a kernel decides about DMA, as data: a record for each kernel, and nothing elsewhere asks for a kernel's name. Another
 * kernel, or a patch to one, is another record, such as `{ ...KERNELS["linux-7.3"], name: "mine", ... }`.
 */
import type { Protection } from "../platform/platform.ts";

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
	/** Where cc_platform_has(CC_ATTR_MEM_ENCRYPT) holds. */
	readonly reportsEncryption: KernelRule<readonly Protection[]>;
	/** Where force_dma_unencrypted is true for every device that is not accepted. */
	readonly needsUnencrypted: KernelRule<readonly Protection[]>;
	/** Where the default pool is decrypted at boot. */
	readonly decryptsDefaultPool: KernelRule<readonly Protection[]>;
	/** Where the default pool may lie above 4 GiB (SWIOTLB_ANY). */
	readonly placesPoolAnywhere: KernelRule<readonly Protection[]>;
	/** Where restricted, atomic and grown pools are decrypted. */
	readonly decryptsOtherPools: KernelRule<readonly Protection[]>;
	/** Whether DMA_ATTR_CC_SHARED and DMA_ATTR_REQUIRE_COHERENT count for streaming maps. */
	readonly countsAttributes: KernelRule;
	/** Whether dma_capable asks for the state of the memory. */
	readonly capableAsksState: KernelRule;
	/** Whether swiotlb asks for the pool's state before it takes slots. */
	readonly bounceAsksPoolState: KernelRule;
	/** Whether MMIO is encoded and judged as RAM is: on a host whose memory is encrypted as shared memory. */
	readonly encodesMmio: KernelRule;
	/** Whether a list's page of another device, reached through the host bridge, may bounce. */
	readonly bouncesPeerPages: KernelRule;
	/** Whether a refused dma_map_resource is a warning with a backtrace. */
	readonly warnsOfMmio: KernelRule;
	/** Whether a confidential guest's devices are promised no more than a bounce (dma_max_mapping_size). */
	readonly limitsSharedMaps: KernelRule;
	/** What of RAM a device's required mask has to reach. */
	readonly requiredMaskOf: KernelRule<"last byte" | "last page">;
	/** Whether a caller of dma_alloc_attrs that asks for shared memory itself is refused. */
	readonly refusesSharedAlloc: KernelRule;
	/** Whether coherent memory from a restricted pool is refused when the pool's state is not what the device needs. */
	readonly allocChecksPool: KernelRule;
	/** Whether coherent memory from a restricted pool has the form of the pool, or of what the device needs. */
	readonly allocTakesPoolForm: KernelRule;
	/** Whether coherent memory from a restricted pool is decrypted once more, and encrypted when it is freed. */
	readonly allocConvertsSlots: KernelRule;
	/** Whether the pages of coherent memory that is remapped are decrypted. */
	readonly decryptsRemapped: KernelRule;
	/** What dma_alloc_pages logs where its pages cannot be decrypted, or null: nothing. dma_alloc_coherent never logs it. */
	readonly undecryptedPages: KernelRule<string | null>;
	/** Whether the atomic pools are asked for their state. */
	readonly atomicChecksPool: KernelRule;
	/** Zones of the atomic pools that a request for a zone begins with: the first of them that has one. */
	readonly atomicFallback: KernelRule<Readonly<Record<ZoneName, readonly ZoneName[]>>>;
	/** Whether pages of dma_alloc_pages are known for an atomic pool's when they are freed, on kernels that remap. */
	readonly knowsAtomicPages: KernelRule;
	/** Whether a default pool that cannot be decrypted at boot serves nothing; else it is used in whatever state it is. */
	readonly disablesUndecrypted: KernelRule;
	/** Whether a device is not given a restricted pool that cannot be decrypted; else it is used in whatever state it is. */
	readonly refusesUndecrypted: KernelRule;
	/** Whose need has a transient pool's memory taken from the atomic pools: the device's, or that of the allocator's pools. */
	readonly transientNeedOf: KernelRule<"device" | "pool">;
	/** Whether an allocator's use and high-water mark are counted with swiotlb=...,track_hiwater alone. */
	readonly needsTrackHiwater: KernelRule;
	/** Whether it is logged that the atomic pools have no room for a transient one. */
	readonly logsTransientExhaustion: KernelRule;
	/** Whether the memory of transient pools is given back where sleeping is allowed. */
	readonly freesTransientsInProcess: KernelRule;
}

/** Zones of the page allocator, and of the atomic pools. */
export type ZoneName = "DMA" | "DMA32" | "Normal";

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
		reportsEncryption: {
			is: ["host", "guest"],
			says: "SME hosts and encrypted guests have the memory-encryption attribute; s390 and protected KVM have no such function",
			source: "Linux 6.12 arch/x86/coco/core.c, cc_platform_has; include/linux/cc_platform.h",
		},
		needsUnencrypted: {
			is: ["guest", "ultravisor"],
			says: "devices of encrypted guests and of Secure Execution reach shared memory only; of protected KVM guests nothing is known",
			source:
				"Linux 6.12 arch/x86/mm/mem_encrypt.c and arch/s390/mm/init.c, force_dma_unencrypted; include/linux/dma-direct.h",
		},
		decryptsDefaultPool: {
			is: ["host", "guest", "ultravisor"],
			says: "the default pool is decrypted at boot, save on arm64, which never asks for it",
			source:
				"Linux 6.12 kernel/dma/swiotlb.c, swiotlb_update_mem_attributes; arch/x86/mm/mem_encrypt.c, mem_encrypt_init; arch/s390/mm/init.c, pv_init",
		},
		placesPoolAnywhere: {
			is: [],
			says: "the default pool lies below 4 GiB",
			source: "Linux 6.12 kernel/dma/swiotlb.c, swiotlb_memblock_alloc; arch/s390/mm/init.c, pv_init",
		},
		decryptsOtherPools: {
			is: ["host", "guest", "ultravisor", "stage-2"],
			says: "restricted, atomic and grown pools are decrypted wherever set_memory_decrypted does anything",
			source:
				"Linux 6.12 kernel/dma/swiotlb.c, rmem_swiotlb_device_init and alloc_dma_pages; kernel/dma/pool.c, atomic_pool_expand",
		},
		countsAttributes: {
			is: false,
			says: "a streaming map has no attribute that tells what its memory is",
			source: "Linux 6.12 include/linux/dma-mapping.h; kernel/dma/direct.h, dma_direct_map_page",
		},
		capableAsksState: {
			is: false,
			says: "dma_capable asks how far the device reaches, and no more",
			source: "Linux 6.12 include/linux/dma-direct.h, dma_capable",
		},
		bounceAsksPoolState: {
			is: false,
			says: "nobody asks for the pool's state",
			source: "Linux 6.12 kernel/dma/swiotlb.c, swiotlb_map",
		},
		encodesMmio: {
			is: false,
			says: "MMIO is given as it is, within the device's reach",
			source: "Linux 6.12 kernel/dma/direct.c, dma_direct_map_resource",
		},
		bouncesPeerPages: {
			is: false,
			says: "another device's page in a list is refused where it would bounce",
			source: "Linux 6.12 kernel/dma/direct.c, dma_direct_map_sg; kernel/dma/direct.h, dma_direct_map_page",
		},
		warnsOfMmio: {
			is: true,
			says: "MMIO beyond a device's reach is a message and a warning with a backtrace",
			source: "Linux 6.12 kernel/dma/direct.c, dma_direct_map_resource",
		},
		limitsSharedMaps: {
			is: false,
			says: "the largest mapping is limited for devices of limited addresses and for those that are forced to bounce",
			source: "Linux 6.12 kernel/dma/direct.c, dma_direct_max_mapping_size",
		},
		requiredMaskOf: {
			is: "last page",
			says: "the required mask reaches the start of the last page",
			source: "Linux 6.12 kernel/dma/direct.c, dma_direct_get_required_mask",
		},
		refusesSharedAlloc: {
			is: false,
			says: "no attribute asks for shared memory",
			source: "Linux 6.12 kernel/dma/mapping.c, dma_alloc_attrs",
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
		undecryptedPages: {
			is: null,
			says: "nothing is logged where coherent pages cannot be decrypted",
			source: "Linux 6.12 kernel/dma/direct.c, dma_direct_alloc_pages",
		},
		atomicChecksPool: {
			is: false,
			says: "the atomic pools are not asked for their state",
			source: "Linux 6.12 kernel/dma/pool.c, dma_alloc_from_pool",
		},
		atomicFallback: {
			is: { DMA: ["DMA"], DMA32: ["DMA32"], Normal: ["Normal"] },
			says: "a request whose zone has no atomic pool gets none",
			source: "Linux 6.12 kernel/dma/pool.c, dma_guess_pool",
		},
		knowsAtomicPages: {
			is: false,
			says: "pages of an atomic pool are looked for by their linear address, where a remapping kernel has none of them",
			source: "Linux 6.12 kernel/dma/direct.c, dma_direct_free_pages",
		},
		disablesUndecrypted: {
			is: false,
			says: "a default pool that cannot be decrypted is used in whatever state it is",
			source: "Linux 6.12 kernel/dma/swiotlb.c, swiotlb_update_mem_attributes",
		},
		refusesUndecrypted: {
			is: false,
			says: "a restricted pool that cannot be decrypted is used in whatever state it is",
			source: "Linux 6.12 kernel/dma/swiotlb.c, rmem_swiotlb_device_init",
		},
		transientNeedOf: {
			is: "device",
			says: "a transient pool is made of an atomic pool's pages for a device that reaches shared memory only",
			source: "Linux 6.12 kernel/dma/swiotlb.c, swiotlb_alloc_tlb",
		},
		needsTrackHiwater: {
			is: false,
			says: "an allocator's use, transient pools and all, and its high-water mark are always counted",
			source: "Linux 6.12 kernel/dma/swiotlb.c, inc_used_and_hiwater",
		},
		logsTransientExhaustion: {
			is: false,
			says: "no room for a transient pool in the atomic pools is no message of its own",
			source: "Linux 6.12 kernel/dma/swiotlb.c, swiotlb_find_slots; kernel/dma/pool.c, dma_alloc_from_pool",
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
		reportsEncryption: {
			is: ["host", "guest", "ultravisor", "stage-2"],
			says: "every host and guest whose memory is kept from others has the memory-encryption attribute",
			source:
				"Linux 7.3 arch/x86/coco/core.c, arch/arm64/mm/init.c and arch/s390/mm/init.c, cc_platform_has (d4b9d593180c)",
		},
		needsUnencrypted: {
			is: ["guest", "ultravisor", "stage-2"],
			says: "devices of every such guest reach shared memory only",
			source:
				"Linux 7.3 arch/x86/mm/mem_encrypt.c and arch/s390/mm/init.c, force_dma_unencrypted; arch/arm64/include/asm/mem_encrypt.h",
		},
		decryptsDefaultPool: {
			is: ["host", "guest", "ultravisor", "stage-2"],
			says: "the default pool is decrypted at boot where there is the attribute",
			source: "Linux 7.3 kernel/dma/swiotlb.c, swiotlb_update_mem_attributes; arch/arm64/mm/init.c",
		},
		placesPoolAnywhere: {
			is: ["ultravisor"],
			says: "the default pool lies below 4 GiB, save under Secure Execution (SWIOTLB_ANY)",
			source: "Linux 7.3 kernel/dma/swiotlb.c, swiotlb_memblock_alloc; arch/s390/mm/init.c, pv_init",
		},
		decryptsOtherPools: {
			is: ["host", "guest", "ultravisor", "stage-2"],
			says: "restricted, atomic and grown pools are decrypted where there is the attribute",
			source:
				"Linux 7.3 kernel/dma/swiotlb.c, rmem_swiotlb_device_init and alloc_dma_pages; kernel/dma/pool.c, atomic_pool_expand",
		},
		countsAttributes: {
			is: true,
			says: "a streaming map says that its memory is shared (CC_SHARED), or that it may not bounce (REQUIRE_COHERENT)",
			source: "Linux 7.3 kernel/dma/mapping.c, dma_map_phys; kernel/dma/direct.c, dma_direct_map_phys (30c5e45ee2c5)",
		},
		capableAsksState: {
			is: true,
			says: "dma_capable is false for private memory of a device that reaches shared memory only",
			source: "Linux 7.3 include/linux/dma-direct.h, dma_capable (20beb6884b83)",
		},
		bounceAsksPoolState: {
			is: true,
			says: "a pool whose state is not what the device needs bounces nothing; on an encrypted host it has to be shared",
			source: "Linux 7.3 kernel/dma/swiotlb.c, swiotlb_map (d5fd03cdd6c0)",
		},
		encodesMmio: {
			is: true,
			says: "MMIO is encoded and judged as RAM is, on an encrypted host as shared memory",
			source: "Linux 7.3 kernel/dma/direct.c, dma_direct_map_phys",
		},
		bouncesPeerPages: {
			is: true,
			says: "another device's page in a list bounces as RAM does",
			source: "Linux 7.3 kernel/dma/direct.c, dma_direct_map_sg",
		},
		warnsOfMmio: {
			is: false,
			says: "MMIO that a device does not reach is the message that RAM is",
			source: "Linux 7.3 kernel/dma/direct.c, dma_direct_map_phys",
		},
		limitsSharedMaps: {
			is: true,
			says: "the largest mapping is limited for devices that reach shared memory only, too",
			source: "Linux 7.3 kernel/dma/direct.c, dma_direct_max_mapping_size",
		},
		requiredMaskOf: {
			is: "last byte",
			says: "the required mask reaches the last byte of RAM",
			source: "Linux 7.3 kernel/dma/direct.c, dma_direct_get_required_mask",
		},
		refusesSharedAlloc: {
			is: true,
			says: "dma_alloc_attrs with CC_SHARED, or with the attribute that stands for it inside, allocates nothing",
			source: "Linux 7.3 kernel/dma/mapping.c, dma_alloc_attrs (a6e40900f0c6)",
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
		undecryptedPages: {
			is: "leaking DMA memory that can't be decrypted",
			says: "dma_alloc_pages leaks pages that cannot be decrypted with a message, dma_alloc_coherent without one",
			source: "Linux 7.3 kernel/dma/direct.c, dma_direct_alloc_pages",
		},
		atomicChecksPool: {
			is: true,
			says: "an atomic pool whose state is not asked for is passed over",
			source: "Linux 7.3 kernel/dma/pool.c, dma_alloc_from_pool",
		},
		atomicFallback: {
			is: { DMA: ["DMA", "DMA32", "Normal"], DMA32: ["DMA32", "DMA", "Normal"], Normal: ["Normal", "DMA32", "DMA"] },
			says: "a request whose zone has no atomic pool begins with another zone's",
			source: "Linux 7.3 kernel/dma/pool.c, dma_guess_pool",
		},
		knowsAtomicPages: {
			is: true,
			says: "pages of an atomic pool are looked for by their physical address",
			source: "Linux 7.3 kernel/dma/direct.c, dma_direct_free_pages",
		},
		disablesUndecrypted: {
			is: true,
			says: "a default pool that cannot be decrypted is disabled: every slot counts as used",
			source: "Linux 7.3 kernel/dma/swiotlb.c, swiotlb_update_mem_attributes",
		},
		refusesUndecrypted: {
			is: true,
			says: "a restricted pool that cannot be decrypted is not attached: the device keeps the default pool",
			source: "Linux 7.3 kernel/dma/swiotlb.c, rmem_swiotlb_device_init",
		},
		transientNeedOf: {
			is: "pool",
			says: "a transient pool is made of an atomic pool's pages where the allocator's pools are shared",
			source: "Linux 7.3 kernel/dma/swiotlb.c, swiotlb_alloc_tlb",
		},
		needsTrackHiwater: {
			is: true,
			says: "without track_hiwater the use is that of the listed pools, and there is no high-water mark",
			source: "Linux 7.3 kernel/dma/swiotlb.c, setup_io_tlb_npages, mem_used",
		},
		logsTransientExhaustion: {
			is: true,
			says: "no room for a transient pool in the atomic pools is logged as for any caller, NO_WARN or not",
			source: "Linux 7.3 kernel/dma/swiotlb.c, swiotlb_find_slots; kernel/dma/pool.c, dma_alloc_from_pool",
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
