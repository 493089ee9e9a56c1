/** Direct, bounce or refuse: Linux 6.12 kernel/dma/direct.h and direct.c over one device record. */

import { RANGE_MIXED, RANGE_PRIVATE } from "../layout/context.ts";
import {
	COUNTER_BEYOND_MASK,
	COUNTER_BOUNCED_MAPS,
	COUNTER_BYTES_BACK,
	COUNTER_BYTES_IN,
	COUNTER_DIRECT_MAPS,
	DEVICE_FLAGS,
	DEVICE_FORCE_BOUNCE,
	DEVICE_MIN_ALIGN_MASK,
	DEVICE_NON_COHERENT,
	DEVICE_POOL,
	FROM_DEVICE,
	TO_DEVICE,
} from "../layout/device.ts";
import { IO_TLB_SIZE } from "../layout/pool.ts";
import {
	BAD_DEVICE,
	BAD_DIRECTION,
	BAD_SIZE,
	BEYOND_MASK,
	MIXED_PAGES,
	NO_POOL,
	OK,
	OUTSIDE_RAM,
} from "../layout/status.ts";
import { copyFromRam } from "../memory/copy.ts";
import { rangeState } from "../memory/pages.ts";
import { rangeInRam } from "../memory/regions.ts";
import {
	areaOf,
	bounceSyncForCpu,
	bounceSyncForDevice,
	bounceUnmap,
	noteFailure,
	poolHolds,
	slotPtr,
	tlbAt,
} from "../swiotlb/bounce.ts";
import { headMappedAs } from "../swiotlb/mapping.ts";
import { giveSlots, takeSlots } from "../swiotlb/slots.ts";
import {
	countBytes,
	countersOf,
	countMaps,
	deviceAt,
	dmaCapable,
	gpaOf,
	poolOf,
	privateDma,
	sharedDma,
} from "./device.ts";

/**
 * Maps [gpa, gpa + bytes) for a device. Linux 6.12 kernel/dma/direct.h, dma_direct_map_page.
 * @param bytes 1 .. 2^31 - 1
 * @param dir BIDIRECTIONAL, TO_DEVICE or FROM_DEVICE
 * @param cpu chooses the pool's area
 * @param forced bounce whatever the decision would be: Linux's swiotlb_map
 * @returns the DMA address, or OUTSIDE_RAM, BAD_SIZE, BAD_DIRECTION, MIXED_PAGES, BLOCKED_PAGES, BEYOND_MASK, POOL_FULL,
 *   OVER_MAX_MAPPING, NO_POOL or BAD_DEVICE
 */
export function dmaMap(index: i32, gpa: u64, bytes: i32, dir: i32, cpu: u32, forced: bool): i64 {
	const device = deviceAt(index);
	if (device === 0) return BAD_DEVICE;
	if (u32(dir) > u32(FROM_DEVICE)) return BAD_DIRECTION;
	if (bytes <= 0) return BAD_SIZE;
	const state = rangeState(gpa, bytes);
	if (state < 0) return state;
	const flags = load<u32>(device, DEVICE_FLAGS);
	if (!forced && (flags & DEVICE_FORCE_BOUNCE) === 0) {
		const dma = state === RANGE_PRIVATE ? privateDma(device, gpa) : sharedDma(device, gpa);
		const capable = dmaCapable(device, dma, bytes);
		if (capable && ((flags & DEVICE_NON_COHERENT) === 0 || !kmallocBounces(bytes, dir))) {
			if (state === RANGE_MIXED) return MIXED_PAGES;
			countMaps(countersOf(device, cpu) + COUNTER_DIRECT_MAPS, 1);
			return dma;
		}
		if (!capable && load<i32>(device, DEVICE_POOL) < 0) return BEYOND_MASK;
	}
	return bounce(device, gpa, bytes, dir, cpu);
}

/**
 * Maps through the device's pool. Linux 6.12 kernel/dma/swiotlb.c, swiotlb_map: the bytes are copied into the slots
 * first and the slots' address is checked after, so a refused map leaves them in the freed slots.
 */
function bounce(device: usize, gpa: u64, bytes: u32, dir: i32, cpu: u32): i64 {
	const pool = poolOf(device);
	if (pool === 0) return NO_POOL;
	const slot = takeSlots(pool, device, gpa, bytes, 0, dir, cpu);
	if (slot < 0) return noteFailure(pool, device, gpa, bytes, 0, slot);
	const tlb = tlbAt(pool, device, slot, gpa);
	// before the copy: in the threads build each count waits until all stores are out
	countMaps(countersOf(device, cpu) + COUNTER_BOUNCED_MAPS, 1);
	countBytes(countersOf(device, cpu) + COUNTER_BYTES_IN, bytes);
	copyFromRam(slotPtr(pool, tlb), gpa, bytes);
	const dma = sharedDma(device, tlb);
	if (dmaCapable(device, dma, bytes)) return dma;
	giveSlots(pool, slot, u32(tlb) & (IO_TLB_SIZE - 1));
	countMaps(countersOf(device, cpu) + COUNTER_BOUNCED_MAPS, -1);
	countMaps(countersOf(device, cpu) + COUNTER_BEYOND_MASK, 1);
	return BEYOND_MASK;
}

/**
 * Takes slots of the device's pool and copies in: Linux's swiotlb_tbl_map_single. The caller has checked that the range
 * is usable RAM.
 * @param allocAlignMask low bits of the bounce address that must be 0
 * @returns the bounce address or a status
 */
export function bounceSlots(device: usize, gpa: u64, bytes: u32, allocAlignMask: u32, dir: i32, cpu: u32): i64 {
	const pool = poolOf(device);
	if (pool === 0) return NO_POOL;
	const slot = takeSlots(pool, device, gpa, bytes, allocAlignMask, dir, cpu);
	if (slot < 0) return noteFailure(pool, device, gpa, bytes, allocAlignMask, slot);
	const tlb = tlbAt(pool, device, slot, gpa);
	countBytes(countersOf(device, cpu) + COUNTER_BYTES_IN, bytes);
	copyFromRam(slotPtr(pool, tlb), gpa, bytes);
	return tlb;
}

/**
 * Whether a buffer of this size may share a cache line with others and so bounces for a non-coherent device.
 * Linux 6.12 include/linux/dma-map-ops.h, dma_kmalloc_needs_bounce, with arm64's ARCH_DMA_MINALIGN 128, 64-byte cache
 * lines and kmalloc buckets 8, 16, 32, 64, 96, 128, 192: those that are no multiple of 64 bounce.
 */
function kmallocBounces(bytes: i32, dir: i32): bool {
	if (dir === TO_DEVICE) return false;
	return bytes <= 32 || (bytes > 64 && bytes <= 96);
}

/** The pool that holds a gpa and serves the device, or 0. */
function poolFor(device: usize, gpa: u64): usize {
	const pool = poolOf(device);
	if (pool === 0) return 0;
	return poolHolds(pool, gpa) ? pool : 0;
}

/**
 * Ends a mapping. Linux 6.12 kernel/dma/direct.h, dma_direct_unmap_page.
 * A direct mapping leaves no record, in Linux or here: only its range is checked.
 * @param attrs 0 or DMA_ATTR_SKIP_CPU_SYNC (no copy back)
 * @returns bytes copied back, or BAD_DEVICE, BAD_DIRECTION, BAD_SIZE, OUTSIDE_RAM, NOT_MAPPED, MISMATCH or BLOCKED_PAGES
 */
export function dmaUnmap(index: i32, dma: u64, bytes: i32, dir: i32, attrs: u32): i32 {
	const device = deviceAt(index);
	if (device === 0) return BAD_DEVICE;
	if (u32(dir) > u32(FROM_DEVICE)) return BAD_DIRECTION;
	if (bytes <= 0) return BAD_SIZE;
	const gpa = gpaOf(device, dma);
	const pool = poolFor(device, gpa);
	if (pool === 0) return rangeInRam(gpa, bytes) === OK ? 0 : OUTSIDE_RAM;
	const head = headMappedAs(pool, gpa, bytes, dir, index);
	if (head < 0) return head;
	const alignMask = load<u32>(device, DEVICE_MIN_ALIGN_MASK);
	if (dir === TO_DEVICE) return giveSlots(pool, head, u32(gpa) & alignMask & (IO_TLB_SIZE - 1));
	const copied = bounceUnmap(pool, head, gpa, bytes, dir, attrs, alignMask);
	if (copied > 0) countBytes(countersOf(device, areaOf(pool, gpa)) + COUNTER_BYTES_BACK, copied);
	return copied;
}

/**
 * Gives part of a mapping to the device: copies original to slots for TO_DEVICE and BIDIRECTIONAL; a direct mapping needs nothing.
 * Linux 6.12 kernel/dma/direct.h, dma_direct_sync_single_for_device.
 * @returns bytes copied, or a status as dmaUnmap
 */
export function dmaSyncForDevice(index: i32, dma: u64, bytes: i32, dir: i32): i32 {
	return sync(index, dma, bytes, dir, true);
}

/**
 * Gives part of a mapping to the CPU: copies slots to original for FROM_DEVICE and BIDIRECTIONAL.
 * Linux 6.12 kernel/dma/direct.h, dma_direct_sync_single_for_cpu.
 * @returns bytes copied, or a status as dmaUnmap
 */
export function dmaSyncForCpu(index: i32, dma: u64, bytes: i32, dir: i32): i32 {
	return sync(index, dma, bytes, dir, false);
}

function sync(index: i32, dma: u64, bytes: i32, dir: i32, forDevice: bool): i32 {
	const device = deviceAt(index);
	if (device === 0) return BAD_DEVICE;
	if (u32(dir) > u32(FROM_DEVICE)) return BAD_DIRECTION;
	if (bytes <= 0) return BAD_SIZE;
	const gpa = gpaOf(device, dma);
	const pool = poolFor(device, gpa);
	if (pool === 0) return rangeInRam(gpa, bytes) === OK ? 0 : OUTSIDE_RAM;
	const alignMask = load<u32>(device, DEVICE_MIN_ALIGN_MASK);
	const counters = countersOf(device, areaOf(pool, gpa));
	if (forDevice) {
		const copied = bounceSyncForDevice(pool, gpa, bytes, dir, alignMask);
		if (copied > 0) countBytes(counters + COUNTER_BYTES_IN, copied);
		return copied;
	}
	const copied = bounceSyncForCpu(pool, gpa, bytes, dir, alignMask);
	if (copied > 0) countBytes(counters + COUNTER_BYTES_BACK, copied);
	return copied;
}
