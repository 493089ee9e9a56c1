/** Devices and platforms that policies are run on. */

import type { PlatformName } from "../coco/platform/platform.ts";
import type { OfferFlags } from "../coco/trust/offer.ts";

/** A platform, and how DMA addresses look on it. */
export interface Place {
	readonly platform: PlatformName;
	/** false: addresses are plain, and whoever serves the device tells private from shared by the page. */
	readonly encoded: boolean;
}

/**
 * run: it runs when its driver binds. locked: it stays in CONFIG_LOCKED. error: it ran, and its link failed under the driver.
 * late: it is accepted when its driver is bound, if the policy lets it.
 */
export type TdispReached = "run" | "locked" | "error" | "late";

/** A device on a platform where it makes sense. */
export interface Scenario {
	readonly name: string;
	/** One line: what the device is. */
	readonly title: string;
	readonly platform: PlatformName;
	/** Places where its parts run beside the platform with encoded addresses. */
	readonly others: readonly Place[];
	/** Whose limits its requests have: a preset of the workload model. */
	readonly driver: "virtio-blk" | "storvsc" | "nvme" | "ahci";
	/** What its driver tells the DMA layer. Default: a coherent device that reaches everything. */
	readonly device: {
		readonly dmaMask?: bigint;
		readonly minAlignMask?: number;
		readonly segBoundaryMask?: bigint;
		readonly coherent?: boolean;
		/** Behind a port that anybody can reach. */
		readonly externalFacing?: boolean;
	};
	/** What speaks for its being trusted. */
	readonly trust:
		| { readonly by: "nothing" }
		/** A TDISP interface whose evidence is accepted, and how far it came. */
		| { readonly by: "tdisp"; readonly reached: TdispReached }
		/** The flags that its channel's offer has on a confidential connection. */
		| { readonly by: "offer"; readonly flags: OfferFlags };
	/** Whether it has a restricted pool. */
	readonly restricted: boolean;
	/** Whether it is the device of a VMBus channel: its rings do not pass through the DMA API. */
	readonly vmbus: boolean;
}

const everywhere = (...platforms: readonly PlatformName[]): readonly Place[] =>
	platforms.map((platform) => ({ platform, encoded: true }));
const plain = (platform: PlatformName): Place => ({ platform, encoded: false });

/** drivers/nvme/host/pci.c: controller pages of 4 KiB, PRPs that do not cross 4 GiB. */
const NVME = { minAlignMask: 0xfff, segBoundaryMask: 0xffffffffn };
/** drivers/scsi/storvsc_drv.c: HV_HYP_PAGE_SIZE - 1. */
const STORVSC = { minAlignMask: 0xfff };
/** Where Confidential VMBus can be: under a paravisor. */
const PARAVISORS: readonly PlatformName[] = ["snp-vtom", "tdx"];
const VMBUS = {
	driver: "storvsc",
	platform: "snp-vtom",
	others: everywhere("tdx"),
	device: STORVSC,
	restricted: false,
	vmbus: true,
} as const;

const TDISP = { driver: "nvme", platform: "tdx", others: [], device: NVME, restricted: false, vmbus: false } as const;

/** The scenarios, the least trusted device first. */
export const SCENARIOS: readonly Scenario[] = [
	{
		name: "legacy-virtio",
		title: "virtio-blk of the host, T=0",
		driver: "virtio-blk",
		platform: "snp",
		others: [...everywhere("snp-vtom", "tdx", "cca"), plain("snp")],
		device: { segBoundaryMask: 0xffffffffn },
		trust: { by: "nothing" },
		restricted: false,
		vmbus: false,
	},
	{
		name: "storvsc-plain",
		title: "storvsc, whose offer claims no confidentiality",
		trust: { by: "offer", flags: { coRingBuffer: false, coExternalMemory: false } },
		...VMBUS,
	},
	{
		name: "storvsc-ring",
		title: "storvsc, whose offer says confidential ring",
		trust: { by: "offer", flags: { coRingBuffer: true, coExternalMemory: false } },
		...VMBUS,
	},
	{
		name: "storvsc-full",
		title: "storvsc, whose offer says confidential ring and external memory",
		trust: { by: "offer", flags: { coRingBuffer: true, coExternalMemory: true } },
		...VMBUS,
	},
	{
		name: "storvsc-external-only",
		title: "storvsc, whose offer says confidential external memory without a confidential ring",
		trust: { by: "offer", flags: { coRingBuffer: false, coExternalMemory: true } },
		...VMBUS,
	},
	{
		name: "storvsc-full-c-bit",
		title: "storvsc-full as it would be without a paravisor: its DMA addresses carry SNP's C-bit, or are plain",
		trust: { by: "offer", flags: { coRingBuffer: true, coExternalMemory: true } },
		...VMBUS,
		platform: "snp",
		others: [plain("snp")],
	},
	{
		name: "tdisp-nvme",
		title: "NVMe with TDISP, accepted in RUN",
		driver: "nvme",
		platform: "tdx",
		others: [...everywhere("snp", "snp-vtom", "cca"), plain("snp")],
		device: NVME,
		trust: { by: "tdisp", reached: "run" },
		restricted: false,
		vmbus: false,
	},
	{
		name: "tdisp-nvme-32",
		title: "NVMe with TDISP, accepted in RUN, whose mask has 32 bits",
		driver: "nvme",
		platform: "snp",
		others: [...everywhere("snp-vtom", "tdx", "cca"), plain("snp")],
		device: { ...NVME, dmaMask: 0xffffffffn },
		trust: { by: "tdisp", reached: "run" },
		restricted: false,
		vmbus: false,
	},
	{
		name: "tdisp-locked",
		title: "NVMe with TDISP, accepted, in CONFIG_LOCKED: T=0 until it is started",
		trust: { by: "tdisp", reached: "locked" },
		...TDISP,
	},
	{
		name: "tdisp-error",
		title: "NVMe with TDISP, accepted, in ERROR: its encrypted link failed while its driver was bound",
		trust: { by: "tdisp", reached: "error" },
		...TDISP,
	},
	{
		name: "tdisp-late",
		title: "NVMe with TDISP, whose mask has 32 bits, accepted when its driver is bound, if the policy lets it",
		trust: { by: "tdisp", reached: "late" },
		...TDISP,
		platform: "snp-vtom",
		device: { ...NVME, dmaMask: 0xffffffffn },
	},
	{
		name: "tdisp-external",
		title: "NVMe with TDISP, accepted in RUN, behind a port that anybody can reach",
		trust: { by: "tdisp", reached: "run" },
		...TDISP,
		device: { ...NVME, externalFacing: true },
	},
	{
		name: "tdisp-non-coherent",
		title: "device with TDISP, accepted in RUN, whose DMA is not cache-coherent",
		driver: "nvme",
		platform: "cca",
		others: [],
		device: { coherent: false },
		trust: { by: "tdisp", reached: "run" },
		restricted: false,
		vmbus: false,
	},
	{
		name: "sme-host",
		title: "a host whose own memory is encrypted (SME), and a device whose mask of 32 bits ends below the C-bit",
		driver: "ahci",
		platform: "sme",
		others: [],
		device: { dmaMask: 0xffffffffn },
		trust: { by: "nothing" },
		restricted: false,
		vmbus: false,
	},
	{
		name: "restricted-pool",
		title: "virtio-blk of the host with a restricted pool, T=0",
		driver: "virtio-blk",
		platform: "pkvm",
		others: everywhere("cca"),
		device: { segBoundaryMask: 0xffffffffn },
		trust: { by: "nothing" },
		restricted: true,
		vmbus: false,
	},
];

/** Whether a scenario's channel has a paravisor to serve it. */
export function hasParavisor({ vmbus, platform }: Scenario): boolean {
	return vmbus && PARAVISORS.includes(platform);
}

/** @throws RangeError that lists the scenarios */
export function scenarioNamed(name: string): Scenario {
	const scenario = SCENARIOS.find((candidate) => candidate.name === name);
	if (scenario === undefined)
		throw new RangeError(`scenario: expected one of ${SCENARIOS.map((each) => each.name).join(", ")}, not "${name}"`);
	return scenario;
}
