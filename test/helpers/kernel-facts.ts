/** What a kernel knows of a platform, written down from what the kernels were seen to do, without src/coco's rules. */
import type { KernelName } from "../../src/coco/rules/kernel.ts";

/** Platforms on which a kernel has CC_ATTR_MEM_ENCRYPT. */
const REPORTS: Readonly<Record<KernelName, readonly string[]>> = {
	"linux-6.12": ["sme", "snp", "snp-vtom", "tdx", "cca"],
	"linux-7.3": ["sme", "snp", "snp-vtom", "tdx", "cca", "pkvm", "s390-pv"],
};
/** Platforms on which its devices reach shared memory only. */
const SHARED_ONLY: Readonly<Record<KernelName, readonly string[]>> = {
	"linux-6.12": ["snp", "snp-vtom", "tdx", "cca", "s390-pv"],
	"linux-7.3": ["snp", "snp-vtom", "tdx", "cca", "pkvm", "s390-pv"],
};
/** Platforms on which its default pool is decrypted, and on which all others are. */
const DEFAULT_SHARED: Readonly<Record<KernelName, readonly string[]>> = {
	"linux-6.12": ["sme", "snp", "snp-vtom", "tdx", "cca", "s390-pv"],
	"linux-7.3": ["sme", "snp", "snp-vtom", "tdx", "cca", "pkvm", "s390-pv"],
};
const OTHERS_SHARED = ["sme", "snp", "snp-vtom", "tdx", "cca", "pkvm", "s390-pv"];
const SME_BIT = 47n;

export function reportsEncryption(kernel: string, platform: string): boolean {
	return REPORTS[kernel as KernelName].includes(platform);
}

/** Whether a guest of that platform is a confidential one to its kernel. */
export function isGuest(kernel: string, platform: string): boolean {
	return SHARED_ONLY[kernel as KernelName].includes(platform);
}

/** force_dma_unencrypted of a device that is not accepted. @param coherentLimit highest address of coherent memory, inclusive */
export function reachesSharedOnly(kernel: string, platform: string, coherentLimit = 2n ** 64n - 1n): boolean {
	return platform === "sme" ? coherentLimit < 1n << SME_BIT : isGuest(kernel, platform);
}

export function defaultPoolShared(kernel: string, platform: string): boolean {
	return DEFAULT_SHARED[kernel as KernelName].includes(platform);
}

/** Of restricted, atomic and grown pools. */
export function otherPoolsShared(platform: string): boolean {
	return OTHERS_SHARED.includes(platform);
}
