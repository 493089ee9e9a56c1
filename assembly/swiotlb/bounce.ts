/** Bounce mappings: slots taken, bytes copied. Linux 6.12 kernel/dma/swiotlb.c, swiotlb_tbl_map_single and its fellows. */

import { DEVICE_MIN_ALIGN_MASK, DMA_ATTR_SKIP_CPU_SYNC, FROM_DEVICE, TO_DEVICE } from "../layout/device.ts";
import { IO_TLB_SHIFT, IO_TLB_SIZE, POOL_AREA_SHIFT, POOL_DELTA, POOL_END, POOL_START } from "../layout/pool.ts";
import { OK } from "../layout/status.ts";
import { copyFromRam, copyToRam } from "../memory/copy.ts";
import { rangeUsable } from "../memory/pages.ts";
import { giveAny } from "./give.ts";
import { mappingOf, originOf, remainingOf } from "./mapping.ts";
import { poolFailed } from "./pool.ts";

/** ptr of a gpa of the pool. */
export function slotPtr(pool: usize, tlb: u64): usize {
	return pool + load<u32>(pool, POOL_DELTA) + usize(tlb - load<u64>(pool, POOL_START));
}

/** Whether a gpa lies in the pool. */
export function poolHolds(pool: usize, gpa: u64): bool {
	const start = load<u64>(pool, POOL_START);
	return gpa - start < load<u64>(pool, POOL_END) - start;
}

/** Number of the area that a gpa of the pool lies in. */
export function areaOf(pool: usize, tlb: u64): u32 {
	return u32((tlb - load<u64>(pool, POOL_START)) >> IO_TLB_SHIFT) >> load<u32>(pool, POOL_AREA_SHIFT);
}

/** The bounce address in a slot that takeSlots answered for `orig`. */
export function tlbAt(pool: usize, device: usize, slot: u32, orig: u64): u64 {
	const offset = u32(orig) & load<u32>(device, DEVICE_MIN_ALIGN_MASK) & (IO_TLB_SIZE - 1);
	return load<u64>(pool, POOL_START) + (u64(slot) << IO_TLB_SHIFT) + offset;
}

/** Keeps why takeSlots refused a request. @returns the status it answered */
export function noteFailure(pool: usize, device: usize, orig: u64, bytes: u32, allocAlignMask: u32, status: i32): i32 {
	poolFailed(pool, status, slotsWanted(device, orig, bytes, allocAlignMask));
	return status;
}

/** Slots that a request takes, padding too. */
export function slotsWanted(device: usize, orig: u64, bytes: u32, allocAlignMask: u32): u32 {
	const offset = u32(orig) & load<u32>(device, DEVICE_MIN_ALIGN_MASK) & (allocAlignMask | (IO_TLB_SIZE - 1));
	const allocBytes = (u64(bytes) + offset + allocAlignMask) & ~u64(allocAlignMask);
	return u32((allocBytes + (IO_TLB_SIZE - 1)) >> IO_TLB_SHIFT);
}

/**
 * Copies between a mapping's slots and its original, from `tlb` on.
 * @param mapping what mappingOf answered for `tlb`
 * @param tlb any address inside the mapping
 * @param bytes clamped, as in Linux, to what the mapping has allocated behind `tlb`
 * @param toOriginal the slots' bytes to the original, or the reverse
 * @returns bytes copied, or OUTSIDE_RAM or BLOCKED_PAGES
 */
function bounceCopy(pool: usize, mapping: i32, tlb: u64, bytes: u32, minAlignMask: u32, toOriginal: bool): i32 {
	const n = min(bytes, remainingOf(pool, mapping, tlb, minAlignMask));
	const orig = originOf(pool, mapping, tlb, minAlignMask);
	const usable = rangeUsable(orig, n);
	if (usable !== OK) return usable;
	if (toOriginal) copyToRam(orig, slotPtr(pool, tlb), n);
	else copyFromRam(slotPtr(pool, tlb), orig, n);
	return n;
}

/** sync_single_for_device: copies original to slots for TO_DEVICE and BIDIRECTIONAL. @returns bytes copied or a status */
export function bounceSyncForDevice(pool: usize, tlb: u64, bytes: u32, dir: i32, minAlignMask: u32): i32 {
	const mapping = mappingOf(pool, tlb);
	if (mapping < 0) return mapping;
	return dir === FROM_DEVICE ? 0 : bounceCopy(pool, mapping, tlb, bytes, minAlignMask, false);
}

/** sync_single_for_cpu: copies slots to original for FROM_DEVICE and BIDIRECTIONAL. @returns bytes copied or a status */
export function bounceSyncForCpu(pool: usize, tlb: u64, bytes: u32, dir: i32, minAlignMask: u32): i32 {
	const mapping = mappingOf(pool, tlb);
	if (mapping < 0) return mapping;
	return dir === TO_DEVICE ? 0 : bounceCopy(pool, mapping, tlb, bytes, minAlignMask, true);
}

/**
 * Copies back by direction, unless DMA_ATTR_SKIP_CPU_SYNC, and frees the slots; their bytes stay as they are.
 * @param head what headOf answered for `tlb`
 * @returns bytes copied back, or a status: then the mapping is as it was
 */
export function bounceUnmap(
	pool: usize,
	head: i32,
	tlb: u64,
	bytes: u32,
	dir: i32,
	attrs: u32,
	minAlignMask: u32,
): i32 {
	let copied: i32 = 0;
	if ((attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0 && dir !== TO_DEVICE) {
		copied = bounceCopy(pool, head, tlb, bytes, minAlignMask, true);
		if (copied < 0) return copied;
	}
	const given = giveAny(pool, head, u32(tlb) & minAlignMask & (IO_TLB_SIZE - 1));
	return given === OK ? copied : given;
}
