/** Direct, bounce or refuse: Linux's kernel/dma/direct.h and direct.c over one device record. */

import { callBegins, callEnds, leavesOutCopy } from "../audit/hooks.ts";
import { EVENT_MAP } from "../layout/audit.ts";
import { MAX_GPA, RANGE_MIXED, RANGE_PRIVATE } from "../layout/context.ts";
import {
	ATTR_FORCE_BOUNCE,
	ATTR_NO_BOUNCE,
	COUNTER_BEYOND_MASK,
	COUNTER_BOUNCED_MAPS,
	COUNTER_BYTES_IN,
	COUNTER_DIRECT_MAPS,
	DEVICE_CHECKS_POOL,
	DEVICE_CHECKS_STATE,
	DEVICE_ENCODES_AS_LINUX,
	DEVICE_ENCODES_MMIO,
	DEVICE_FLAGS,
	DEVICE_FORCE_BOUNCE,
	DEVICE_MMIO_SHARED,
	DEVICE_NEEDS_SHARED,
	DEVICE_NEEDS_SHARED_POOL,
	DEVICE_NON_COHERENT,
	DEVICE_SPECIAL_POOLS,
	DMA_ATTR_CC_SHARED,
	DMA_ATTR_MMIO,
	DMA_ATTR_REQUIRE_COHERENT,
	DMA_ATTR_SKIP_CPU_SYNC,
	FROM_DEVICE,
	TO_DEVICE,
} from "../layout/device.ts";
import { IO_TLB_SIZE, POOL_ENCRYPTED } from "../layout/pool.ts";
import {
	BAD_DEVICE,
	BAD_DIRECTION,
	BAD_SIZE,
	BEYOND_MASK,
	BOUNCE_REFUSED,
	MIXED_PAGES,
	NEEDS_SHARED,
	NO_POOL,
	NOT_COHERENT,
	OK,
	OUTSIDE_RAM,
	POOL_STATE,
	SHARES_CACHE_LINE,
	SLOTS_BEYOND_MASK,
} from "../layout/status.ts";
import { copyFromRam } from "../memory/copy.ts";
import { rangeState } from "../memory/pages.ts";
import { enter, leave } from "../memory/quiesce.ts";
import { noteFailure, tlbAt } from "../swiotlb/bounce.ts";
import { giveAny } from "../swiotlb/give.ts";
import { takeAny, tookFrom } from "../swiotlb/mem.ts";
import { poolFlags, tlbPtr } from "../swiotlb/record.ts";
import { takeSlots } from "../swiotlb/slots.ts";
import {
	countBytes,
	countCache,
	countersOf,
	countMaps,
	deviceAt,
	dmaCapable,
	poolFor,
	poolOf,
	privateDma,
	sharedDma,
} from "./device.ts";

/**
 * Maps [gpa, gpa + bytes) for a device. Linux 6.12 kernel/dma/direct.h, dma_direct_map_page; for a device that checks
 * states, dma_direct_map_phys as merged for 7.3.
 * @param bytes 1 .. 2^31 - 1
 * @param dir BIDIRECTIONAL, TO_DEVICE or FROM_DEVICE
 * @param cpu chooses the pool's area
 * @param attrs DMA_ATTR_SKIP_CPU_SYNC (no cache maintenance), DMA_ATTR_MMIO, DMA_ATTR_REQUIRE_COHERENT, DMA_ATTR_CC_SHARED;
 *   ATTR_FORCE_BOUNCE, ATTR_NO_BOUNCE, ATTR_TRANSIENT
 * @returns the DMA address, or OUTSIDE_RAM, BAD_SIZE, BAD_DIRECTION, MIXED_PAGES, BLOCKED_PAGES, BEYOND_MASK,
 *   SLOTS_BEYOND_MASK, NEEDS_SHARED, SHARES_CACHE_LINE, NOT_COHERENT, POOL_FULL, OVER_MAX_MAPPING, NO_POOL, BOUNCE_REFUSED,
 *   POOL_STATE, NEEDS_TRANSIENT, UNUSABLE_POOL or BAD_DEVICE
 */
export function dmaMap(index: i32, gpa: u64, bytes: i32, dir: i32, cpu: u32, attrs: u32): i64 {
	const device = deviceAt(index);
	if (device === 0) return BAD_DEVICE;
	if (u32(dir) > u32(FROM_DEVICE)) return BAD_DIRECTION;
	if (bytes <= 0) return BAD_SIZE;
	const flags = load<u32>(device, DEVICE_FLAGS);
	if (COCO_AUDIT) callBegins(EVENT_MAP, index, gpa, bytes, dir, attrs);
	enter();
	let dma: i64;
	if (((flags & DEVICE_CHECKS_STATE) | (attrs & DMA_ATTR_MMIO)) === 0)
		dma = decide(device, flags, gpa, bytes, dir, attrs);
	else if ((attrs & DMA_ATTR_MMIO) === 0 || (flags & DEVICE_ENCODES_MMIO) !== 0)
		dma = decideByState(device, flags, gpa, bytes, dir, attrs);
	else dma = decideResource(device, gpa, bytes);
	if (dma >= 0) {
		countMaps(countersOf(device, cpu) + COUNTER_DIRECT_MAPS, 1);
	} else if (dma <= BOUNCE_PRIVATE) dma = bounce(device, flags, dma === BOUNCE_PRIVATE, gpa, bytes, dir, cpu, attrs);
	leave();
	if (COCO_AUDIT) callEnds(dma);
	if ((flags & DEVICE_NON_COHERENT) !== 0) maintain(device, dma, bytes, cpu, attrs);
	return dma;
}

/** Counts the cache maintenance of a map that succeeded. */
function maintain(device: usize, dma: i64, bytes: u32, cpu: u32, attrs: u32): void {
	if (dma >= 0 && (attrs & (DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_MMIO)) === 0) countCache(device, cpu, bytes);
}

/** Decisions beside an address and a status: bounce a buffer on private pages, or another one. */
const BOUNCE_PRIVATE: i64 = -1000;
const BOUNCE_OTHER: i64 = -1001;

/** The decision of Linux 6.12. @returns an address, a status, BOUNCE_PRIVATE or BOUNCE_OTHER */
function decide(device: usize, flags: u32, gpa: u64, bytes: i32, dir: i32, attrs: u32): i64 {
	const state = rangeState(gpa, bytes);
	if (state < 0) return state;
	const isPrivate = state === RANGE_PRIVATE;
	const bounced = isPrivate ? BOUNCE_PRIVATE : BOUNCE_OTHER;
	// what may not bounce is refused before anybody asks for a pool
	const bounces = (attrs & ATTR_NO_BOUNCE) === 0;
	if (((flags & DEVICE_FORCE_BOUNCE) | (attrs & ATTR_FORCE_BOUNCE)) !== 0) return bounced;
	const asLinux = (flags & DEVICE_ENCODES_AS_LINUX) !== 0;
	const dma = isPrivate || asLinux ? privateDma(device, gpa) : sharedDma(device, gpa);
	if (!dmaCapable(device, dma, bytes)) return poolFor(device, isPrivate) === 0 && bounces ? BEYOND_MASK : bounced;
	if ((flags & DEVICE_NON_COHERENT) !== 0 && kmallocBounces(bytes, dir))
		return poolFor(device, isPrivate) === 0 && bounces ? SHARES_CACHE_LINE : bounced;
	return state === RANGE_MIXED && !asLinux ? MIXED_PAGES : dma;
}

/**
 * The decision after Linux's 7.3 merge (kernel/dma/mapping.c, dma_map_phys; kernel/dma/direct.c, dma_direct_map_phys): who may
 * reach what counts beside how far the device reaches.
 */
function decideByState(device: usize, flags: u32, gpa: u64, bytes: i32, dir: i32, attrs: u32): i64 {
	const mmio = (attrs & DMA_ATTR_MMIO) !== 0;
	const state = mmio ? usableMmio(gpa, bytes) : rangeState(gpa, bytes);
	if (state < 0) return state;
	const nonCoherent = (flags & DEVICE_NON_COHERENT) !== 0;
	const mayBounce = (attrs & (DMA_ATTR_MMIO | DMA_ATTR_REQUIRE_COHERENT)) === 0;
	if (nonCoherent && (attrs & DMA_ATTR_REQUIRE_COHERENT) !== 0) return NOT_COHERENT;
	const ccShared = (attrs & DMA_ATTR_CC_SHARED) !== 0 || (mmio && (flags & DEVICE_MMIO_SHARED) !== 0);
	const bounced = ccShared ? BOUNCE_OTHER : BOUNCE_PRIVATE;
	if (((flags & DEVICE_FORCE_BOUNCE) | (attrs & ATTR_FORCE_BOUNCE)) !== 0) return mayBounce ? bounced : BOUNCE_REFUSED;
	const dma = ccShared ? sharedDma(device, gpa) : privateDma(device, gpa);
	const reached = dmaCapable(device, dma, bytes);
	const permitted = ccShared || (flags & DEVICE_NEEDS_SHARED) === 0;
	if (reached && permitted && (mmio || !nonCoherent || !kmallocBounces(bytes, dir))) return dma;
	if (mayBounce && poolFor(device, !ccShared) !== 0) return bounced;
	return !reached ? BEYOND_MASK : permitted ? SHARES_CACHE_LINE : NEEDS_SHARED;
}

/** Whether a range can be MMIO: any address that is one. @returns OK or OUTSIDE_RAM */
function usableMmio(gpa: u64, bytes: i32): i32 {
	return gpa > u64(MAX_GPA) - bytes ? OUTSIDE_RAM : OK;
}

/** MMIO in Linux 6.12: kernel/dma/direct.c, dma_direct_map_resource, a plain address within the device's reach. */
function decideResource(device: usize, gpa: u64, bytes: i32): i64 {
	if (usableMmio(gpa, bytes) !== OK) return OUTSIDE_RAM;
	return dmaCapable(device, gpa, bytes) ? gpa : BEYOND_MASK;
}

/**
 * Maps through one of the device's pools. Linux 6.12 kernel/dma/swiotlb.c, swiotlb_map: the bytes are copied into the
 * slots first and the slots' address is checked after, so a refused map leaves them in the freed slots.
 * @param isPrivate whether the buffer lies on private pages: a device may have a pool of its own for them
 */
function bounce(device: usize, flags: u32, isPrivate: bool, gpa: u64, bytes: u32, dir: i32, cpu: u32, attrs: u32): i64 {
	if ((attrs & ATTR_NO_BOUNCE) !== 0) return BOUNCE_REFUSED;
	let pool = poolOf(device);
	let slot: i32;
	if ((flags & (DEVICE_SPECIAL_POOLS | DEVICE_CHECKS_POOL)) === 0) {
		if (pool === 0) return NO_POOL;
		slot = takeSlots(pool, device, gpa, bytes, 0, dir, cpu);
	} else {
		slot = takeChosen(device, flags, isPrivate, gpa, bytes, 0, dir, cpu, attrs);
		pool = tookFrom();
	}
	if (slot < 0) return refused(pool, device, gpa, bytes, 0, slot);
	const tlb = tlbAt(pool, device, slot, gpa);
	// before the copy: in the threads build each count waits until all stores are out
	countMaps(countersOf(device, cpu) + COUNTER_BOUNCED_MAPS, 1);
	countBytes(countersOf(device, cpu) + COUNTER_BYTES_IN, bytes);
	if (COCO_AUDIT === 0 || !leavesOutCopy(dir)) copyFromRam(tlbPtr(pool, tlb), gpa, bytes);
	const dma = (poolFlags(pool) & POOL_ENCRYPTED) !== 0 ? privateDma(device, tlb) : sharedDma(device, tlb);
	if (dmaCapable(device, dma, bytes)) return dma;
	return takeBack(pool, device, slot, tlb, cpu);
}

/** Frees the slots of a map that is refused after its copy. @returns SLOTS_BEYOND_MASK */
function takeBack(pool: usize, device: usize, slot: u32, tlb: u64, cpu: u32): i32 {
	giveAny(pool, slot, u32(tlb) & (IO_TLB_SIZE - 1));
	countMaps(countersOf(device, cpu) + COUNTER_BOUNCED_MAPS, -1);
	countMaps(countersOf(device, cpu) + COUNTER_BEYOND_MASK, 1);
	return SLOTS_BEYOND_MASK;
}

/**
 * Takes slots for a device whose pool is special or not its only one, or that asks for the pool's state.
 * @returns the slot in the pool that tookFrom tells; NO_POOL or POOL_STATE; or the status of that pool
 */
function takeChosen(
	device: usize,
	flags: u32,
	isPrivate: bool,
	gpa: u64,
	bytes: u32,
	allocAlignMask: u32,
	dir: i32,
	cpu: u32,
	attrs: u32,
): i32 {
	const pool = poolFor(device, isPrivate);
	if (pool === 0) return NO_POOL;
	if ((flags & DEVICE_CHECKS_POOL) !== 0) {
		const shared = (poolFlags(pool) & POOL_ENCRYPTED) === 0;
		if (shared !== ((flags & DEVICE_NEEDS_SHARED_POOL) !== 0)) return POOL_STATE;
	}
	return takeAny(pool, device, gpa, bytes, allocAlignMask, dir, cpu, attrs);
}

/** Keeps why a pool had no slots. @returns the status */
function refused(pool: usize, device: usize, gpa: u64, bytes: u32, allocAlignMask: u32, status: i32): i64 {
	if (status === NO_POOL || status === POOL_STATE) return status;
	return noteFailure(pool, device, gpa, bytes, allocAlignMask, status);
}

/**
 * Takes slots of the device's pool and copies in: Linux's swiotlb_tbl_map_single. The caller has checked that the range
 * is usable RAM.
 * @param allocAlignMask low bits of the bounce address that must be 0
 * @param attrs 0 or ATTR_TRANSIENT
 * @returns the bounce address or a status
 */
export function bounceSlots(
	device: usize,
	gpa: u64,
	bytes: u32,
	allocAlignMask: u32,
	dir: i32,
	cpu: u32,
	attrs: u32,
): i64 {
	const tlb = bareSlots(device, gpa, bytes, allocAlignMask, dir, cpu, attrs);
	if (tlb < 0) return tlb;
	countBytes(countersOf(device, cpu) + COUNTER_BYTES_IN, bytes);
	copyFromRam(tlbPtr(tookFrom(), tlb), gpa, bytes);
	return tlb;
}

/**
 * Takes slots of the device's pool without a copy: Linux's swiotlb_alloc with orig 0. Parameters and results as bounceSlots.
 */
export function bareSlots(
	device: usize,
	gpa: u64,
	bytes: u32,
	allocAlignMask: u32,
	dir: i32,
	cpu: u32,
	attrs: u32,
): i64 {
	const slot = takeChosen(device, load<u32>(device, DEVICE_FLAGS), false, gpa, bytes, allocAlignMask, dir, cpu, attrs);
	if (slot < 0) return refused(tookFrom(), device, gpa, bytes, allocAlignMask, slot);
	return tlbAt(tookFrom(), device, slot, gpa);
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
