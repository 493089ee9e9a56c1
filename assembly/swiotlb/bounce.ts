/** Bounce mappings: slots taken, bytes copied. Linux 6.12 kernel/dma/swiotlb.c, swiotlb_tbl_map_single and its fellows. */

import { DMA_ATTR_SKIP_CPU_SYNC, FROM_DEVICE, TO_DEVICE } from "../layout/device.ts";
import { IO_TLB_SHIFT, IO_TLB_SIZE } from "../layout/pool.ts";
import { OK } from "../layout/status.ts";
import { copyFromRam, copyToRam } from "../memory/copy.ts";
import { rangeUsable } from "../memory/pages.ts";
import { giveAny } from "./give.ts";
import { mappingOf, originOf, remainingOf } from "./ledger.ts";
import { poolFailed } from "./pool.ts";
import { minAlignMask, poolStart, tlbPtr } from "./record.ts";
import { slotsWanted } from "./slots.ts";

/** The bounce address in a slot that takeSlots answered for `orig`. */
export function tlbAt(pool: usize, device: usize, slot: u32, orig: u64): u64 {
	const offset = u32(orig) & minAlignMask(device) & (IO_TLB_SIZE - 1);
	return poolStart(pool) + (u64(slot) << IO_TLB_SHIFT) + offset;
}

/** Keeps why takeSlots refused a request. @returns the status it answered */
export function noteFailure(pool: usize, device: usize, orig: u64, bytes: u32, allocAlignMask: u32, status: i32): i32 {
	poolFailed(pool, status, slotsWanted(device, orig, bytes, allocAlignMask));
	return status;
}

/**
 * Copies between a mapping's slots and its original, from `tlb` on.
 * @param mapping what mappingOf answered for `tlb`
 * @param tlb any address inside the mapping
 * @param bytes clamped, as in Linux, to what the mapping has allocated behind `tlb`
 * @param toOriginal the slots' bytes to the original, or the reverse
 * @returns bytes copied, or OUTSIDE_RAM or BLOCKED_PAGES
 */
function bounceCopy(pool: usize, mapping: i32, tlb: u64, bytes: u32, alignMask: u32, toOriginal: bool): i32 {
	const n = min(bytes, remainingOf(pool, mapping, tlb, alignMask));
	const orig = originOf(pool, mapping, tlb, alignMask);
	const usable = rangeUsable(orig, n);
	if (usable !== OK) return usable;
	if (toOriginal) copyToRam(orig, tlbPtr(pool, tlb), n);
	else copyFromRam(tlbPtr(pool, tlb), orig, n);
	return n;
}

/** sync_single_for_device: copies original to slots for TO_DEVICE and BIDIRECTIONAL. @returns bytes copied or a status */
export function bounceSyncForDevice(pool: usize, tlb: u64, bytes: u32, dir: i32, alignMask: u32): i32 {
	const mapping = mappingOf(pool, tlb);
	if (mapping < 0) return mapping;
	return dir === FROM_DEVICE ? 0 : bounceCopy(pool, mapping, tlb, bytes, alignMask, false);
}

/** sync_single_for_cpu: copies slots to original for FROM_DEVICE and BIDIRECTIONAL. @returns bytes copied or a status */
export function bounceSyncForCpu(pool: usize, tlb: u64, bytes: u32, dir: i32, alignMask: u32): i32 {
	const mapping = mappingOf(pool, tlb);
	if (mapping < 0) return mapping;
	return dir === TO_DEVICE ? 0 : bounceCopy(pool, mapping, tlb, bytes, alignMask, true);
}

/**
 * Copies back by direction, unless DMA_ATTR_SKIP_CPU_SYNC, and frees the slots; their bytes stay as they are.
 * @param head what headOf answered for `tlb`
 * @returns bytes copied back, or a status: then the mapping is as it was
 */
export function bounceUnmap(pool: usize, head: i32, tlb: u64, bytes: u32, dir: i32, attrs: u32, alignMask: u32): i32 {
	let copied: i32 = 0;
	if ((attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0 && dir !== TO_DEVICE) {
		copied = bounceCopy(pool, head, tlb, bytes, alignMask, true);
		if (copied < 0) return copied;
	}
	const given = giveAny(pool, head, u32(tlb) & alignMask & (IO_TLB_SIZE - 1));
	return given === OK ? copied : given;
}
