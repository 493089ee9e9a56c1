/** The end of a mapping, and its syncs: Linux 6.12 kernel/dma/direct.h. */

import { callBegins, callEnds } from "../audit/hooks.ts";
import { EVENT_SYNC_FOR_CPU, EVENT_SYNC_FOR_DEVICE, EVENT_UNMAP } from "../layout/audit.ts";
import {
	COUNTER_BYTES_BACK,
	COUNTER_BYTES_IN,
	COUNTER_DIRECT_UNMAPS,
	DEVICE_FLAGS,
	DEVICE_NON_COHERENT,
	DEVICE_SPECIAL_POOLS,
	DMA_ATTR_MMIO,
	DMA_ATTR_SKIP_CPU_SYNC,
	FROM_DEVICE,
	TO_DEVICE,
} from "../layout/device.ts";
import { IO_TLB_SIZE } from "../layout/pool.ts";
import { BAD_DEVICE, BAD_DIRECTION, BAD_SIZE, OK, OUTSIDE_RAM } from "../layout/status.ts";
import { enter, leave } from "../memory/quiesce.ts";
import { rangeInRam } from "../memory/regions.ts";
import { bounceSyncForCpu, bounceSyncForDevice, bounceUnmap } from "../swiotlb/bounce.ts";
import { giveAny } from "../swiotlb/give.ts";
import { headMappedAs } from "../swiotlb/ledger.ts";
import { areaOf, minAlignMask } from "../swiotlb/record.ts";
import { giveSlots } from "../swiotlb/slots.ts";
import { countBytes, countCache, countersOf, countMaps, deviceAt, gpaOf, poolHolding } from "./device.ts";

/**
 * Ends a mapping. Linux 6.12 kernel/dma/direct.h, dma_direct_unmap_page.
 * A direct mapping leaves no record, in Linux or here: only its range is checked.
 * @param attrs DMA_ATTR_SKIP_CPU_SYNC (no copy back, no cache maintenance), DMA_ATTR_MMIO
 * @returns bytes copied back, or BAD_DEVICE, BAD_DIRECTION, BAD_SIZE, OUTSIDE_RAM, NOT_MAPPED, MISMATCH or BLOCKED_PAGES
 */
export function dmaUnmap(index: i32, dma: u64, bytes: i32, dir: i32, attrs: u32): i32 {
	if (COCO_AUDIT) callBegins(EVENT_UNMAP, index, dma, bytes, dir, attrs);
	const done = unmap(index, dma, bytes, dir, attrs);
	if (COCO_AUDIT) callEnds(done);
	return done;
}

function unmap(index: i32, dma: u64, bytes: i32, dir: i32, attrs: u32): i32 {
	const device = deviceAt(index);
	if (device === 0) return BAD_DEVICE;
	if (u32(dir) > u32(FROM_DEVICE)) return BAD_DIRECTION;
	if (bytes <= 0) return BAD_SIZE;
	if ((attrs & DMA_ATTR_MMIO) !== 0) {
		countMaps(countersOf(device, 0) + COUNTER_DIRECT_UNMAPS, 1);
		return 0;
	}
	const gpa = gpaOf(device, dma);
	const pool = poolHolding(device, gpa);
	const flags = load<u32>(device, DEVICE_FLAGS);
	if (pool === 0) {
		if (rangeInRam(gpa, bytes) !== OK) return OUTSIDE_RAM;
		countMaps(countersOf(device, 0) + COUNTER_DIRECT_UNMAPS, 1);
		if ((flags & DEVICE_NON_COHERENT) !== 0) maintain(device, 0, bytes, dir, attrs);
		return 0;
	}
	const head = headMappedAs(pool, gpa, bytes, dir, index);
	if (head < 0) return head;
	const alignMask = minAlignMask(device);
	if (dir === TO_DEVICE) {
		const offset = u32(gpa) & alignMask & (IO_TLB_SIZE - 1);
		if ((flags & DEVICE_NON_COHERENT) !== 0) maintain(device, areaOf(pool, gpa), bytes, dir, attrs);
		return (flags & DEVICE_SPECIAL_POOLS) === 0 ? giveSlots(pool, head, offset) : giveAny(pool, head, offset);
	}
	const area = areaOf(pool, gpa);
	enter();
	const copied = bounceUnmap(pool, head, gpa, bytes, dir, attrs, alignMask);
	leave();
	if (copied > 0) countBytes(countersOf(device, area) + COUNTER_BYTES_BACK, copied);
	if ((flags & DEVICE_NON_COHERENT) !== 0 && copied >= 0) maintain(device, area, bytes, dir, attrs);
	return copied;
}

/** Counts the cache maintenance of an unmap: what the device may have written is invalidated, nothing for TO_DEVICE. */
function maintain(device: usize, number: u32, bytes: u32, dir: i32, attrs: u32): void {
	if ((attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) countCache(device, number, dir === TO_DEVICE ? 0 : bytes);
}

/**
 * Gives part of a mapping to the device: copies original to slots for TO_DEVICE and BIDIRECTIONAL; a direct mapping needs nothing.
 * Linux 6.12 kernel/dma/direct.h, dma_direct_sync_single_for_device.
 * @returns bytes copied, or a status as dmaUnmap
 */
export function dmaSyncForDevice(index: i32, dma: u64, bytes: i32, dir: i32): i32 {
	return audited(index, dma, bytes, dir, true);
}

/**
 * Gives part of a mapping to the CPU: copies slots to original for FROM_DEVICE and BIDIRECTIONAL.
 * Linux 6.12 kernel/dma/direct.h, dma_direct_sync_single_for_cpu.
 * @returns bytes copied, or a status as dmaUnmap
 */
export function dmaSyncForCpu(index: i32, dma: u64, bytes: i32, dir: i32): i32 {
	return audited(index, dma, bytes, dir, false);
}

function audited(index: i32, dma: u64, bytes: i32, dir: i32, forDevice: bool): i32 {
	if (COCO_AUDIT) callBegins(forDevice ? EVENT_SYNC_FOR_DEVICE : EVENT_SYNC_FOR_CPU, index, dma, bytes, dir, 0);
	const done = sync(index, dma, bytes, dir, forDevice);
	if (COCO_AUDIT) callEnds(done);
	return done;
}

function sync(index: i32, dma: u64, bytes: i32, dir: i32, forDevice: bool): i32 {
	const device = deviceAt(index);
	if (device === 0) return BAD_DEVICE;
	if (u32(dir) > u32(FROM_DEVICE)) return BAD_DIRECTION;
	if (bytes <= 0) return BAD_SIZE;
	const gpa = gpaOf(device, dma);
	const pool = poolHolding(device, gpa);
	// to the device a cache is cleaned whatever the direction; back only what the device may have written is invalidated
	const maintains = (load<u32>(device, DEVICE_FLAGS) & DEVICE_NON_COHERENT) !== 0;
	const maintained: u32 = forDevice || dir !== TO_DEVICE ? bytes : 0;
	if (pool === 0) {
		if (rangeInRam(gpa, bytes) !== OK) return OUTSIDE_RAM;
		if (maintains) countCache(device, 0, maintained);
		return 0;
	}
	const alignMask = minAlignMask(device);
	const area = areaOf(pool, gpa);
	enter();
	const copied = forDevice
		? bounceSyncForDevice(pool, gpa, bytes, dir, alignMask)
		: bounceSyncForCpu(pool, gpa, bytes, dir, alignMask);
	leave();
	if (copied > 0) countBytes(countersOf(device, area) + (forDevice ? COUNTER_BYTES_IN : COUNTER_BYTES_BACK), copied);
	if (maintains && copied >= 0) countCache(device, area, maintained);
	return copied;
}
