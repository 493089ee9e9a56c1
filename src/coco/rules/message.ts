/** What Linux logs about a streaming map, by class. */
import * as status from "../../../assembly/layout/status.ts";
import type { DmaAddr } from "../../types.ts";
import { attributesOf } from "./attributes.ts";
import type { Situation } from "./device.ts";

/**
 * DMA-OVERFLOW: "DMA addr ... overflow". TLB-OVERFLOW: "swiotlb addr ... overflow". FULL: "swiotlb buffer is full". NO-POOL:
 * "Can not allocate SWIOTLB buffer earlier". ENC-ACTIVE: "Memory encryption is active and system is using DMA bounce
 * buffers", once a boot. WARN-ON: a warning with a backtrace.
 */
type MapMessage = "DMA-OVERFLOW" | "TLB-OVERFLOW" | "FULL" | "NO-POOL" | "ENC-ACTIVE" | "WARN-ON";

/** Refusals where swiotlb found no slots, with the pool there. */
const NO_SLOTS: readonly number[] = [
	status.POOL_FULL,
	status.OVER_MAX_MAPPING,
	status.NEEDS_TRANSIENT,
	status.UNUSABLE_POOL,
];
/** Refusals of dma-direct itself that are logged. */
const OVERFLOWS: readonly number[] = [status.BEYOND_MASK, status.NEEDS_SHARED, status.SHARES_CACHE_LINE];

/** How a map ended. */
interface MapOutcome {
	/** An address, or a status. */
	readonly dma: DmaAddr;
	readonly bounced: boolean;
	readonly mmio: boolean;
	/** DMA_ATTR_NO_WARN. */
	readonly noWarn: boolean;
}

/** Whether swiotlb was asked, and so its tracepoint fired: before anything was looked for. */
export function asksSwiotlb({ dma, bounced }: Pick<MapOutcome, "dma" | "bounced">): boolean {
	const refusals: readonly number[] = [...NO_SLOTS, status.NO_POOL, status.POOL_STATE, status.SLOTS_BEYOND_MASK];
	return bounced || refusals.includes(dma);
}

/**
 * The classes, in the order in which they are logged. Linux kernel/dma/swiotlb.c, swiotlb_map and swiotlb_tbl_map_single;
 * kernel/dma/direct.c, dma_direct_map_phys; 6.12 kernel/dma/direct.h, dma_direct_map_page
 */
export function mapMessages(
	{ kernel, platform }: Pick<Situation, "kernel" | "platform">,
	outcome: MapOutcome,
): MapMessage[] {
	const { dma, mmio, noWarn } = outcome;
	if (dma === status.NO_POOL) return ["NO-POOL"];
	if (OVERFLOWS.includes(dma))
		return mmio && kernel.rules.warnsOfMmio.is ? ["DMA-OVERFLOW", "WARN-ON"] : ["DMA-OVERFLOW"];
	if (!asksSwiotlb(outcome) || dma === status.POOL_STATE) return [];
	const active: MapMessage[] = attributesOf(kernel, platform).memEncrypt ? ["ENC-ACTIVE"] : [];
	if (NO_SLOTS.includes(dma) && !noWarn) return [...active, "FULL"];
	return dma === status.SLOTS_BEYOND_MASK ? [...active, "TLB-OVERFLOW"] : active;
}
