/**
 * Confidential-computing platforms as data: which address bit tells private from shared, what the host gets of a private
 * page, and how pages change between the two. Nothing here or elsewhere asks for a platform's name: another platform, or
 * another width of addresses, is another record, such as `{ ...PLATFORMS.snp, dmaBit: { bit: 47, means: "private" } }`.
 */
import type { DmaAddr, Gpa } from "../../types.ts";

export type PlatformName = "snp" | "snp-vtom" | "tdx" | "cca" | "pkvm" | "s390-pv" | "sme" | "arm64" | "none";

/**
 * What keeps memory from whom, as kernels tell it apart: their rules name the kinds that they hold for. guest: the guest's
 * memory is encrypted, or in a realm. ultravisor: firmware above the hypervisor. stage-2: a hypervisor that the host cannot
 * change. host: a machine that encrypts its own memory, nobody's guest.
 */
export type Protection = "none" | "host" | "guest" | "ultravisor" | "stage-2";

/** What an architecture decides about DMA. Linux arch/x86, arch/arm64, arch/s390. */
interface Architecture {
	readonly name: "x86" | "arm64" | "s390";
	/** Exclusive end of ZONE_DMA. */
	readonly dmaZoneEnd: Gpa;
	/** Whether there is a ZONE_DMA32 with memory, up to 4 GiB. */
	readonly hasDma32: boolean;
	/** Whether atomic pools have an alias of their own (CONFIG_DMA_DIRECT_REMAP). */
	readonly remaps: boolean;
}

const X86: Architecture = { name: "x86", dmaZoneEnd: 2 ** 24, hasDma32: true, remaps: false };
const ARM64: Architecture = { name: "arm64", dmaZoneEnd: 2 ** 32, hasDma32: false, remaps: true };
const S390: Architecture = { name: "s390", dmaZoneEnd: 2 ** 31, hasDma32: false, remaps: false };

/**
 * A step of a page conversion that can fail by itself.
 * unmap: the pages' page-table entries become not present. rescind: the guest takes back its acceptance. attribute: the
 * encryption attribute changes in the guest's page tables. host: the host or hypervisor changes its side. accept: the
 * guest accepts the page as private. map: the entries become present again.
 */
export type ConversionStep = "unmap" | "rescind" | "attribute" | "host" | "accept" | "map";

/** What a conversion leaves in a page: another key's view of the same bytes, zeros, or the bytes as they were. */
type ConvertedContents = "scrambled" | "zeroed" | "kept";

/** One step, and the call or instruction that does it on this platform. */
export interface StepOfPlatform {
	readonly step: ConversionStep;
	readonly by: string;
}

/** An address bit that tells private from shared. */
export interface EncryptionBit {
	readonly bit: number;
	/** What is addressed with the bit set. */
	readonly means: "private" | "shared";
}

export interface Platform {
	readonly name: string;
	readonly title: string;
	/** The bit of a page-table entry's address that tells private from shared, or null: the guest's entries do not tell. */
	readonly pageTableBit: EncryptionBit | null;
	/**
	 * The bit of a DMA address that does, or null: the two forms are one number, and a device mask below the page tables' bit
	 * limits nothing. On x86 only the C-bit (sme_me_mask) is in DMA addresses.
	 */
	readonly dmaBit: EncryptionBit | null;
	/** What a kernel makes of it is the kernel's rules' to say. */
	readonly protection: Protection;
	readonly architecture: Architecture;
	/** What the host reads from a private page, and what its write there does. */
	readonly hostRead: "ciphertext" | "zeros" | "fault" | "plain";
	readonly hostWrite: "refused" | "corruption" | "plain";
	/** What stands between the host and a private page. */
	readonly hostBarrier: string;
	/** Whether a paravisor can hold decrypted pages that the host does not map. */
	readonly hiddenPages: boolean;
	/**
	 * What a CPU access takes that meets a present page in transition, and whether the guest's own handler can fix
	 * load_unaligned_zeropad up then; null: such an access is served.
	 */
	readonly exception: { readonly name: string; readonly fixedUp: boolean } | null;
	readonly conversion: {
		/** Whether Linux learns that a conversion failed. */
		readonly canFail: boolean;
		readonly toShared: ConvertedContents;
		readonly toPrivate: ConvertedContents;
		/** In the order in which Linux does them, each for the whole range. */
		readonly steps: {
			readonly toShared: readonly StepOfPlatform[];
			readonly toPrivate: readonly StepOfPlatform[];
		};
	};
	/** Where these facts are from, and which of them are uncertain. */
	readonly source: string;
}

const PTE_CHANGE = { step: "attribute", by: "page-table change and TLB flush" } as const;
const SNP_PSC = { step: "host", by: "page state change request (GHCB)" } as const;
const CLEAR_PRESENT = { step: "unmap", by: "present bit cleared in the page tables" } as const;
const SET_PRESENT = { step: "map", by: "present bit set in the page tables" } as const;
const VISIBILITY = { step: "host", by: "HvCallModifySparseGpaPageHostVisibility" } as const;
const VTOM_STEPS = [CLEAR_PRESENT, PTE_CHANGE, VISIBILITY, SET_PRESENT] as const;
const MAP_GPA = { step: "host", by: "TDG.VP.VMCALL<MapGPA>" } as const;
const BREAK_ENTRIES = { step: "unmap", by: "entries made invalid, PROT_NS_SHARED changed with them" } as const;
const MAKE_ENTRIES = { step: "map", by: "entries made valid" } as const;

/** The nine platforms. */
export const PLATFORMS: Readonly<Record<PlatformName, Platform>> = {
	snp: {
		name: "snp",
		title: "AMD SEV-SNP",
		pageTableBit: { bit: 51, means: "private" },
		dmaBit: { bit: 51, means: "private" },
		protection: "guest",
		architecture: X86,
		hostRead: "ciphertext",
		hostWrite: "refused",
		hostBarrier: "RMP check (#PF in the host)",
		hiddenPages: true,
		exception: { name: "#VC", fixedUp: true },
		conversion: {
			canFail: true,
			toShared: "scrambled",
			toPrivate: "scrambled",
			steps: {
				toShared: [{ step: "rescind", by: "PVALIDATE, validation taken back" }, SNP_PSC, PTE_CHANGE],
				toPrivate: [PTE_CHANGE, SNP_PSC, { step: "accept", by: "PVALIDATE, page validated" }],
			},
		},
		source:
			"Linux 6.12 arch/x86/mm/mem_encrypt_amd.c, amd_enc_status_change_prepare and _finish, and arch/x86/coco/sev/core.c, set_pages_state; AMD APM volume 2, 15.36. CPUID 0x8000001f tells the bit: 51 on EPYC 7003 and 9004, 47 on the first EPYC. Linux's guest ends itself when the host refuses a change; here the pages leak. Uncertain: a host that backs private memory separately may show other bytes after a conversion than this in-place model",
	},
	"snp-vtom": {
		name: "snp-vtom",
		title: "AMD SEV-SNP with vTOM, under a paravisor",
		pageTableBit: { bit: 46, means: "shared" },
		dmaBit: null,
		protection: "guest",
		architecture: X86,
		hostRead: "ciphertext",
		hostWrite: "refused",
		hostBarrier: "RMP check (#PF in the host)",
		hiddenPages: true,
		exception: { name: "#VC", fixedUp: false },
		conversion: {
			canFail: true,
			toShared: "scrambled",
			toPrivate: "scrambled",
			// the paravisor does PVALIDATE inside the visibility call
			steps: { toShared: VTOM_STEPS, toPrivate: VTOM_STEPS },
		},
		source:
			"Linux 6.12 arch/x86/hyperv/ivm.c, hv_vtom_clear_present and hv_vtom_set_host_visibility; Documentation/virt/hyperv/coco.rst; drivers/hv/connection.c zeroes pages since decryption changes their contents. The bit is the shared_gpa_boundary_bits of the isolation configuration, 46 on Azure (uncertain elsewhere)",
	},
	tdx: {
		name: "tdx",
		title: "Intel TDX",
		pageTableBit: { bit: 47, means: "shared" },
		dmaBit: null,
		protection: "guest",
		architecture: X86,
		hostRead: "zeros",
		hostWrite: "corruption",
		hostBarrier: "TD-owner bit; the guest's next read is a machine check",
		hiddenPages: true,
		exception: { name: "#VE", fixedUp: true },
		conversion: {
			canFail: true,
			toShared: "scrambled",
			toPrivate: "zeroed",
			steps: {
				toShared: [PTE_CHANGE, MAP_GPA],
				toPrivate: [MAP_GPA, { step: "accept", by: "TDG.MEM.PAGE.ACCEPT" }, PTE_CHANGE],
			},
		},
		source:
			"Linux 6.12 arch/x86/coco/tdx/tdx.c, tdx_enc_status_change_prepare and _finish; Intel TDX module base specification: memory integrity, TD-owner bit, TDG.MEM.PAGE.ACCEPT zeroes. Bit 47 with 48-bit guest addresses (GPAW 0), 51 with 52-bit ones. Uncertain: contents after private to shared, which the host may take from other memory",
	},
	cca: {
		name: "cca",
		title: "Arm CCA",
		pageTableBit: { bit: 47, means: "shared" },
		dmaBit: { bit: 47, means: "shared" },
		protection: "guest",
		architecture: ARM64,
		hostRead: "fault",
		hostWrite: "refused",
		hostBarrier: "granule protection fault in the host",
		hiddenPages: true,
		exception: { name: "synchronous external abort", fixedUp: false },
		conversion: {
			canFail: true,
			toShared: "zeroed",
			toPrivate: "zeroed",
			steps: {
				toShared: [BREAK_ENTRIES, { step: "host", by: "RSI_IPA_STATE_SET to EMPTY" }, MAKE_ENTRIES],
				toPrivate: [BREAK_ENTRIES, { step: "host", by: "RSI_IPA_STATE_SET to RAM" }, MAKE_ENTRIES],
			},
		},
		source:
			"Linux 6.14 arch/arm64/mm/pageattr.c, realm_set_memory_encrypted and _decrypted; Arm RMM specification 1.0, RIPAS. The top bit of the Realm's IPA width, here 48 bits. Uncertain: contents (the monitor wipes a granule that it gives back and the host may then map another page), and hidden pages under a paravisor",
	},
	pkvm: {
		name: "pkvm",
		title: "Protected KVM (arm64)",
		pageTableBit: null,
		dmaBit: null,
		protection: "stage-2",
		architecture: ARM64,
		hostRead: "fault",
		hostWrite: "refused",
		hostBarrier: "stage 2 abort in the host",
		hiddenPages: false,
		exception: null,
		conversion: {
			canFail: true,
			toShared: "kept",
			toPrivate: "kept",
			steps: {
				toShared: [{ step: "host", by: "MEM_SHARE hypercall, page by page" }],
				toPrivate: [{ step: "host", by: "MEM_UNSHARE hypercall, page by page" }],
			},
		},
		source:
			"Linux 6.12 drivers/virt/coco/pkvm-guest/arm-pkvm-guest.c; both encodings equal and no CC_ATTR_MEM_ENCRYPT: Mostafa Saleh, linux-coco, May 2026",
	},
	"s390-pv": {
		name: "s390-pv",
		title: "IBM Secure Execution (s390 protected virtualization)",
		pageTableBit: null,
		dmaBit: null,
		protection: "ultravisor",
		architecture: S390,
		hostRead: "fault",
		hostWrite: "refused",
		hostBarrier: "secure storage access exception in the host",
		hiddenPages: false,
		exception: null,
		conversion: {
			canFail: false,
			toShared: "kept",
			toPrivate: "kept",
			steps: {
				toShared: [{ step: "host", by: "UV call Set Shared Access, page by page" }],
				toPrivate: [{ step: "host", by: "UV call Remove Shared Access, page by page" }],
			},
		},
		source:
			"Linux 6.12 and 7.3 arch/s390/mm/init.c, set_memory_encrypted, set_memory_decrypted and force_dma_unencrypted; arch/s390/kernel/uv.c, uv_set_shared. Linux takes a conversion that fails for one that worked. Uncertain: contents after a conversion",
	},
	sme: {
		name: "sme",
		title: "AMD SME: a host whose memory is encrypted",
		pageTableBit: { bit: 47, means: "private" },
		dmaBit: { bit: 47, means: "private" },
		protection: "host",
		architecture: X86,
		hostRead: "ciphertext",
		hostWrite: "corruption",
		hostBarrier: "nothing: whoever reads past the memory controller finds ciphertext",
		hiddenPages: false,
		exception: null,
		conversion: {
			canFail: true,
			toShared: "scrambled",
			toPrivate: "scrambled",
			steps: { toShared: [PTE_CHANGE], toPrivate: [PTE_CHANGE] },
		},
		source:
			"Linux 6.12 arch/x86/mm/mem_encrypt_amd.c; arch/x86/mm/mem_encrypt.c, force_dma_unencrypted; arch/x86/coco/core.c, amd_cc_platform_has. A device whose addresses lack the C-bit is the host of this model: it reads what memory holds. CPUID 0x8000001f tells the bit: 47 on the first EPYC",
	},
	arm64: {
		name: "arm64",
		title: "arm64 without confidential computing",
		pageTableBit: null,
		dmaBit: null,
		protection: "none",
		architecture: ARM64,
		hostRead: "plain",
		hostWrite: "plain",
		hostBarrier: "nothing",
		hiddenPages: false,
		exception: null,
		conversion: { canFail: false, toShared: "kept", toPrivate: "kept", steps: { toShared: [], toPrivate: [] } },
		source: "Linux 6.12 arch/arm64/mm/init.c: zone_sizes_init, mem_init; arch/arm64/mm/dma-mapping.c",
	},
	none: {
		name: "none",
		title: "No confidential computing",
		pageTableBit: null,
		dmaBit: null,
		protection: "none",
		architecture: X86,
		hostRead: "plain",
		hostWrite: "plain",
		hostBarrier: "nothing",
		hiddenPages: false,
		exception: null,
		conversion: { canFail: false, toShared: "kept", toPrivate: "kept", steps: { toShared: [], toPrivate: [] } },
		source: "Linux 6.12 include/linux/set_memory.h: set_memory_encrypted and set_memory_decrypted do nothing",
	},
};

/** The platform of that name. @throws RangeError that lists the names */
export function platformNamed(name: string): Platform {
	if (!Object.hasOwn(PLATFORMS, name)) {
		throw new RangeError(`platform must be one of ${Object.keys(PLATFORMS).join(", ")}, not "${name}"`);
	}
	return PLATFORMS[name as PlatformName];
}

/** Bits that DMA addresses get and lose: fields of DeviceOptions (src/dma/options.ts). */
export interface AddressEncoding {
	readonly privateBits: bigint;
	readonly privateClear: bigint;
	readonly sharedBits: bigint;
	readonly sharedClear: bigint;
}

/**
 * How a platform's DMA addresses tell private from shared.
 * Linux 7.3 include/linux/dma-direct.h, phys_to_dma, phys_to_dma_unencrypted; include/linux/mem_encrypt.h (sme_me_mask);
 * arch/arm64/include/asm/mem_encrypt.h
 */
export function addressEncoding({ dmaBit }: Platform): AddressEncoding {
	const bit = dmaBit === null ? 0n : 1n << BigInt(dmaBit.bit);
	const setIfPrivate = dmaBit?.means === "private" ? bit : 0n;
	const setIfShared = dmaBit?.means === "shared" ? bit : 0n;
	return {
		privateBits: setIfPrivate,
		privateClear: setIfShared,
		sharedBits: setIfShared,
		sharedClear: setIfPrivate,
	};
}

/** Addresses that carry no bit: whoever serves the device tells private from shared by the page. */
export const PLAIN_ADDRESSES: AddressEncoding = { privateBits: 0n, privateClear: 0n, sharedBits: 0n, sharedClear: 0n };

/** The DMA address of a gpa in its shared or private form. */
export function encodeGpa(encoding: AddressEncoding, gpa: Gpa, shared: boolean): bigint {
	const { privateBits, privateClear, sharedBits, sharedClear } = encoding;
	const [bits, clear] = shared ? [sharedBits, sharedClear] : [privateBits, privateClear];
	return (BigInt(gpa) & ~clear) | bits;
}

/** A DMA address taken apart. */
interface DecodedAddress {
	readonly gpa: Gpa;
	/** As which kind of page it addresses; null: it does not tell. */
	readonly form: "private" | "shared" | null;
}

/** Takes a DMA address apart. @param encoded false: it carries no bit, whatever the platform */
export function decodeAddress(platform: Platform, dma: DmaAddr, encoded = true): DecodedAddress {
	// the same number in another space
	const address: number = dma;
	const { dmaBit } = platform;
	if (!encoded || dmaBit === null) return { gpa: address, form: null };
	const bit = 2 ** dmaBit.bit;
	const set = Math.floor(address / bit) % 2 === 1;
	const clearMeans = dmaBit.means === "private" ? "shared" : "private";
	return { gpa: set ? address - bit : address, form: set ? dmaBit.means : clearMeans };
}
