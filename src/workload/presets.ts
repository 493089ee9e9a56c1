/** Device presets: what Linux 6.12's drivers tell the DMA and block layers. */
import type { DeviceOptions } from "../dma/options.ts";

export interface DevicePreset {
	readonly name: "nvme" | "virtio-blk" | "storvsc" | "ahci";
	/** Where the numbers come from. */
	readonly source: string;
	readonly dma: Pick<DeviceOptions, "dmaMask" | "minAlignMask" | "segBoundaryMask">;
	/** Most segments of a request. */
	readonly maxSegments: number;
	/** Largest segment (bytes). */
	readonly maxSegmentBytes: number;
	/** Largest request (bytes). */
	readonly maxRequestBytes: number;
	/** Whether dma_max_mapping_size limits the whole request; else it limits each segment. */
	readonly limitsRequest: boolean;
	/** Bytes of control buffers mapped for each request, around its data: read by the device before, written by it after. */
	readonly headerBytes: number;
	readonly statusBytes: number;
	/** Its queue, which is coherent memory; null: it has none. */
	readonly queue: DeviceQueue | null;
}

/** A queue pair in coherent memory: what the driver writes of a command, and what the device answers. */
export interface DeviceQueue {
	/** Commands that it holds. */
	readonly depth: number;
	/** Of each command, and of each answer. */
	readonly commandBytes: number;
	readonly answerBytes: number;
	/** Where the numbers come from. */
	readonly source: string;
}

const MAX_U64 = 2n ** 64n - 1n;
const NO_LIMIT = 2 ** 32 - 1;

export const DEVICE_PRESETS: readonly DevicePreset[] = [
	{
		name: "nvme",
		source: "drivers/nvme/host/pci.c: NVME_MAX_SEGS, NVME_MAX_KB_SZ, dma_set_min_align_mask",
		dma: { dmaMask: MAX_U64, minAlignMask: 0xfff, segBoundaryMask: 0xffffffffn },
		maxSegments: 128,
		maxSegmentBytes: NO_LIMIT,
		maxRequestBytes: 8192 * 1024,
		limitsRequest: true,
		headerBytes: 0,
		statusBytes: 0,
		queue: {
			depth: 1024,
			commandBytes: 64,
			answerBytes: 16,
			source:
				"drivers/nvme/host/pci.c: io_queue_depth, nvme_alloc_queue; include/linux/nvme.h: struct nvme_command, nvme_completion",
		},
	},
	{
		name: "virtio-blk",
		source: "drivers/block/virtio_blk.c: virtblk_probe (254 segments: the seg_max of a 256-entry queue)",
		dma: { dmaMask: MAX_U64, minAlignMask: 0, segBoundaryMask: 0xffffffffn },
		maxSegments: 254,
		maxSegmentBytes: NO_LIMIT,
		maxRequestBytes: NO_LIMIT,
		limitsRequest: false,
		headerBytes: 16,
		statusBytes: 1,
		queue: {
			depth: 256,
			commandBytes: 48,
			answerBytes: 8,
			source:
				"drivers/virtio/virtio_ring.c: vring_alloc_queue; three descriptors of 16 bytes a request, a used element of 8",
		},
	},
	{
		name: "storvsc",
		source:
			"drivers/scsi/storvsc_drv.c: storvsc_probe, a segment more than pages, min_align_mask HV_HYP_PAGE_SIZE - 1; 512 KiB as max_transfer_bytes, which the host chooses (uncertain)",
		dma: { dmaMask: MAX_U64, minAlignMask: 0xfff, segBoundaryMask: MAX_U64 },
		maxSegments: 129,
		maxSegmentBytes: NO_LIMIT,
		maxRequestBytes: 512 * 1024,
		limitsRequest: true,
		headerBytes: 0,
		statusBytes: 0,
		// its requests go through a VMBus ring
		queue: null,
	},
	{
		name: "ahci",
		source:
			"drivers/ata/ahci.h: AHCI_MAX_SG; include/linux/ata.h: ATA_MAX_SECTORS_LBA48; 64 KiB segments as the SCSI host's default",
		dma: { dmaMask: MAX_U64, minAlignMask: 0, segBoundaryMask: 0xffffffffn },
		maxSegments: 168,
		maxSegmentBytes: 65536,
		maxRequestBytes: 65535 * 512,
		limitsRequest: true,
		headerBytes: 0,
		statusBytes: 0,
		queue: {
			depth: 32,
			commandBytes: 2816,
			answerBytes: 20,
			source: "drivers/ata/ahci.h: AHCI_PORT_PRIV_DMA_SZ, a command table of 168 entries; a D2H register FIS",
		},
	},
];

/** @throws RangeError that lists the presets */
export function devicePresetNamed(name: string): DevicePreset {
	const preset = DEVICE_PRESETS.find((candidate) => candidate.name === name);
	if (preset === undefined) {
		throw new RangeError(`device: expected one of ${DEVICE_PRESETS.map((p) => p.name).join(", ")}, not "${name}"`);
	}
	return preset;
}
