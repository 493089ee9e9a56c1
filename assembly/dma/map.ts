/** Direct, bounce or refuse: Linux 6.12 kernel/dma/direct.h and direct.c over one device record. */

import { RANGE_MIXED, RANGE_PRIVATE } from "../layout/context.ts";
import {
	DEVICE_BEYOND_MASK,
	DEVICE_BOUNCED_MAPS,
	DEVICE_BYTES_BACK,
	DEVICE_BYTES_IN,
	DEVICE_DIRECT_MAPS,
	DEVICE_FLAGS,
	DEVICE_FORCE_BOUNCE,
	DEVICE_MIN_ALIGN_MASK,
	DEVICE_NON_COHERENT,
	DEVICE_POOL,
	DMA_ATTR_SKIP_CPU_SYNC,
	FROM_DEVICE,
	TO_DEVICE,
} from "../layout/device.ts";
import {
	BAD_DEVICE,
	BAD_DIRECTION,
	BAD_SIZE,
	BEYOND_MASK,
	BLOCKED_PAGES,
	MISMATCH,
	MIXED_PAGES,
	NO_POOL,
	NOT_MAPPED,
	OK,
	OUTSIDE_RAM,
} from "../layout/status.ts";
import { rangeState } from "../memory/pages.ts";
import { rangeInRam } from "../memory/regions.ts";
import { bounceMap, bounceSyncForCpu, bounceSyncForDevice, bounceUnmap, poolHolds } from "../swiotlb/bounce.ts";
import { mappedAs, mappingOf } from "../swiotlb/mapping.ts";
import { poolAt } from "../swiotlb/pool.ts";
import { countBytes, countMap, deviceAt, dmaCapable, gpaOf, privateDma, segBoundaryOf, sharedDma } from "./device.ts";

/**
 * Maps [gpa, gpa + bytes) for a device. Linux 6.12 kernel/dma/direct.h, dma_direct_map_page.
 * @param bytes 1 .. 2^31 - 1
 * @param dir BIDIRECTIONAL, TO_DEVICE or FROM_DEVICE
 * @param cpu chooses the pool's area
 * @returns the DMA address, or OUTSIDE_RAM, BAD_SIZE, BAD_DIRECTION, MIXED_PAGES, BLOCKED_PAGES, BEYOND_MASK, POOL_FULL,
 *   OVER_MAX_MAPPING, NO_POOL or BAD_DEVICE
 */
export function dmaMap(index: i32, gpa: u64, bytes: i32, dir: i32, cpu: u32): i64 {
	const device = deviceAt(index);
	if (device === 0) return BAD_DEVICE;
	if (u32(dir) > u32(FROM_DEVICE)) return BAD_DIRECTION;
	if (bytes <= 0) return BAD_SIZE;
	const state = rangeState(gpa, bytes);
	if (state === OUTSIDE_RAM || state === BLOCKED_PAGES) return state;
	const flags = load<u32>(device, DEVICE_FLAGS);
	if ((flags & DEVICE_FORCE_BOUNCE) !== 0) return bounce(index, device, gpa, bytes, 0, dir, cpu);

	const dma = state === RANGE_PRIVATE ? privateDma(device, gpa) : sharedDma(device, gpa);
	const capable = dmaCapable(device, dma, bytes);
	if (!capable || ((flags & DEVICE_NON_COHERENT) !== 0 && kmallocBounces(bytes, dir))) {
		if (!capable && load<i32>(device, DEVICE_POOL) < 0) return BEYOND_MASK;
		return bounce(index, device, gpa, bytes, 0, dir, cpu);
	}
	if (state === RANGE_MIXED) return MIXED_PAGES;
	countMap(device, DEVICE_DIRECT_MAPS);
	return dma;
}

/**
 * Maps through the device's pool. Linux 6.12 kernel/dma/swiotlb.c, swiotlb_map: the bytes are copied into the slots
 * first and the slots' address is checked after, so a refused map leaves them in the freed slots.
 * @param allocAlignMask low bits of the bounce address that must be 0
 */
export function bounce(index: i32, device: usize, gpa: u64, bytes: u32, allocAlignMask: u32, dir: i32, cpu: u32): i64 {
	const tlb = bounceSlots(index, device, gpa, bytes, allocAlignMask, dir, cpu);
	if (tlb < 0) return tlb;
	const dma = sharedDma(device, tlb);
	if (!dmaCapable(device, dma, bytes)) {
		const alignMask = load<u32>(device, DEVICE_MIN_ALIGN_MASK);
		bounceUnmap(poolAt(load<i32>(device, DEVICE_POOL)), tlb, bytes, dir, DMA_ATTR_SKIP_CPU_SYNC, alignMask);
		countMap(device, DEVICE_BEYOND_MASK);
		return BEYOND_MASK;
	}
	countMap(device, DEVICE_BOUNCED_MAPS);
	return dma;
}

/** Takes slots of the device's pool and copies in: Linux's swiotlb_tbl_map_single. @returns the bounce address or a status */
export function bounceSlots(
	index: i32,
	device: usize,
	gpa: u64,
	bytes: u32,
	allocAlignMask: u32,
	dir: i32,
	cpu: u32,
): i64 {
	const pool = poolAt(load<i32>(device, DEVICE_POOL));
	if (pool === 0) return NO_POOL;
	const alignMask = load<u32>(device, DEVICE_MIN_ALIGN_MASK);
	const tlb = bounceMap(pool, gpa, bytes, allocAlignMask, alignMask, segBoundaryOf(device), dir, cpu, index);
	if (tlb >= 0) countBytes(device, DEVICE_BYTES_IN, bytes);
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
	const pool = poolAt(load<i32>(device, DEVICE_POOL));
	return pool !== 0 && poolHolds(pool, gpa) ? pool : 0;
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
	if (!COCO_REFERENCE) {
		const mapping = mappingOf(pool, gpa);
		if (mapping < 0) return NOT_MAPPED;
		if (!mappedAs(pool, mapping, bytes, dir, index)) return MISMATCH;
	}
	const copied = bounceUnmap(pool, gpa, bytes, dir, attrs, load<u32>(device, DEVICE_MIN_ALIGN_MASK));
	if (copied > 0) countBytes(device, DEVICE_BYTES_BACK, copied);
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
	if (forDevice) {
		const copied = bounceSyncForDevice(pool, gpa, bytes, dir, alignMask);
		if (copied > 0) countBytes(device, DEVICE_BYTES_IN, copied);
		return copied;
	}
	const copied = bounceSyncForCpu(pool, gpa, bytes, dir, alignMask);
	if (copied > 0) countBytes(device, DEVICE_BYTES_BACK, copied);
	return copied;
}
