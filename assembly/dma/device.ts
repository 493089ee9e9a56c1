/** Device records: what a policy compiled to plain fields. */

import { CTX_DEVICES, CTX_MAX_DEVICES, CTX_NDEVICES, CTX_NPOOLS, CTX_TRANSIENTS, MAX_GPA } from "../layout/context.ts";
import {
	COUNTER_BOUNCED_MAPS,
	COUNTER_BYTES_IN,
	COUNTER_CACHE_BYTES,
	COUNTER_CACHE_OPS,
	COUNTER_DIRECT_BASE,
	COUNTER_DIRECT_MAPS,
	COUNTER_SHARD_SHIFT,
	COUNTER_SHARDS,
	DEVICE_BUS_LIMIT,
	DEVICE_BYTES,
	DEVICE_COUNTERS,
	DEVICE_DMA_MASK,
	DEVICE_ENCODES_AS_LINUX,
	DEVICE_FLAGS,
	DEVICE_FLAGS_MASK,
	DEVICE_FORCE_BOUNCE,
	DEVICE_LIMITS_SHARED_MAPS,
	DEVICE_MIN_ALIGN_MASK,
	DEVICE_NEEDS_SHARED,
	DEVICE_NUMBER,
	DEVICE_POOL,
	DEVICE_POOL_RECORD,
	DEVICE_PRIVATE_BITS,
	DEVICE_PRIVATE_CLEAR,
	DEVICE_PRIVATE_POOL,
	DEVICE_SEG_BOUNDARY,
	DEVICE_SHARED_BITS,
	DEVICE_SHARED_CLEAR,
	DEVICE_SPECIAL_POOLS,
} from "../layout/device.ts";
import { IO_TLB_MAX_MAPPING, IO_TLB_SIZE, POOL_SPECIAL } from "../layout/pool.ts";
import { BAD_ARGUMENT, BAD_DEVICE, BAD_POOL, CONTEXT_FULL, OK } from "../layout/status.ts";
import { context } from "../memory/context.ts";
import { mappingsOwnedBy } from "../swiotlb/ledger.ts";
import { otherPoolHolding } from "../swiotlb/mem.ts";
import { poolAt } from "../swiotlb/pool.ts";
import { minAlignMask, poolFlags, poolHolds, poolMem, poolNext } from "../swiotlb/record.ts";

/** ptr of device number `index`, or 0. */
export function deviceAt(index: i32): usize {
	if (u32(index) >= load<u32>(context(), CTX_NDEVICES)) return 0;
	return context() + load<u32>(context(), CTX_DEVICES) + index * DEVICE_BYTES;
}

/**
 * Adds a device that reaches every address. @param pool its pool's number, or -1
 * @returns its number, or BAD_ARGUMENT, BAD_POOL or CONTEXT_FULL
 */
export function deviceAdd(pool: i32, flags: u32, alignMask: u32): i32 {
	const number = load<u32>(context(), CTX_NDEVICES);
	if (number === load<u32>(context(), CTX_MAX_DEVICES)) return CONTEXT_FULL;
	store<u32>(context(), number + 1, CTX_NDEVICES);
	memory.fill(deviceAt(number), 0, DEVICE_BYTES);
	store<u64>(deviceAt(number), u64.MAX_VALUE, DEVICE_DMA_MASK);
	store<u64>(deviceAt(number), u64.MAX_VALUE, DEVICE_SEG_BOUNDARY);
	store<u32>(deviceAt(number), number, DEVICE_NUMBER);
	const status = deviceSet(number, pool, flags, alignMask);
	if (status !== OK) {
		store<u32>(context(), number, CTX_NDEVICES);
		return status;
	}
	return number;
}

/** Changes a device's pool, flags and min_align_mask. @returns OK, BAD_DEVICE, BAD_ARGUMENT or BAD_POOL; then nothing has changed */
export function deviceSet(index: i32, pool: i32, flags: u32, alignMask: u32): i32 {
	const device = deviceAt(index);
	if (device === 0) return BAD_DEVICE;
	if ((flags & ~DEVICE_FLAGS_MASK) !== 0) return BAD_ARGUMENT;
	const record: usize = pool === -1 ? 0 : poolAt(pool);
	if (pool !== -1 && record === 0) return BAD_POOL;
	store<i32>(device, pool, DEVICE_POOL);
	store<u32>(device, record === 0 ? 0 : u32(record - context()), DEVICE_POOL_RECORD);
	store<u32>(device, 0, DEVICE_PRIVATE_POOL);
	const special = record !== 0 && (poolFlags(record) & POOL_SPECIAL) !== 0;
	store<u32>(device, flags | (special ? DEVICE_SPECIAL_POOLS : 0), DEVICE_FLAGS);
	store<u32>(device, alignMask, DEVICE_MIN_ALIGN_MASK);
	return OK;
}

/** Gives a device a second pool, for buffers on private pages. deviceSet takes it away. @returns OK, BAD_DEVICE or BAD_POOL */
export function deviceSetPrivatePool(index: i32, pool: i32): i32 {
	const device = deviceAt(index);
	if (device === 0) return BAD_DEVICE;
	const record = poolAt(pool);
	if (record === 0 || poolMem(record) !== 0) return BAD_POOL;
	store<u32>(device, u32(record - context()), DEVICE_PRIVATE_POOL);
	store<u32>(device, load<u32>(device, DEVICE_FLAGS) | DEVICE_SPECIAL_POOLS, DEVICE_FLAGS);
	return OK;
}

/**
 * Sets one of a device's 64-bit fields from two halves.
 * @param field DEVICE_DMA_MASK .. DEVICE_SHARED_CLEAR
 * @returns OK, BAD_DEVICE, or BAD_ARGUMENT: no such field, a boundary that is not 2^k - 1, or address bits from 2^52 up
 */
export function deviceSet64(index: i32, field: u32, low: u32, high: u32): i32 {
	const device = deviceAt(index);
	if (device === 0) return BAD_DEVICE;
	if (field > u32(DEVICE_SHARED_CLEAR) || (field & 7) !== 0) return BAD_ARGUMENT;
	let value = u64(low) | (u64(high) << 32);
	if (field === u32(DEVICE_SEG_BOUNDARY)) {
		if ((value & (value + 1)) !== 0) return BAD_ARGUMENT;
		// unset means none: Linux 6.12 include/linux/dma-mapping.h, dma_get_seg_boundary
		if (value === 0) value = u64.MAX_VALUE;
	}
	const encodes = field === u32(DEVICE_PRIVATE_BITS) || field === u32(DEVICE_SHARED_BITS);
	if (encodes && value >= u64(MAX_GPA)) return BAD_ARGUMENT;
	store<u64>(device + field, value);
	return OK;
}

/** ptr of the record of the device's pool, or 0. */
export function poolOf(device: usize): usize {
	const offset = load<u32>(device, DEVICE_POOL_RECORD);
	return offset === 0 ? 0 : context() + offset;
}

/** The pool that serves a buffer: a device may have one of its own for those on private pages. 0: none */
export function poolFor(device: usize, isPrivate: bool): usize {
	if (isPrivate) {
		const offset = load<u32>(device, DEVICE_PRIVATE_POOL);
		if (offset !== 0) return context() + offset;
	}
	return poolOf(device);
}

/** The pool that holds a gpa and may serve the device, or 0. */
export function poolHolding(device: usize, gpa: u64): usize {
	const pool = poolOf(device);
	if (pool !== 0 && poolHolds(pool, gpa)) return pool;
	return (load<u32>(device, DEVICE_FLAGS) & DEVICE_SPECIAL_POOLS) === 0 ? 0 : otherPoolHolding(device, pool, gpa);
}

/** Whether every byte of [dma, dma + bytes) is within the mask and the bus limit. Linux 6.12 include/linux/dma-direct.h, dma_capable. */
export function dmaCapable(device: usize, dma: u64, bytes: u32): bool {
	const mask = load<u64>(device, DEVICE_DMA_MASK);
	const limit = load<u64>(device, DEVICE_BUS_LIMIT);
	return dma + bytes - 1 <= (limit === 0 ? mask : mask === 0 ? limit : min(mask, limit));
}

/** The gpa behind a DMA address: both encodings stripped. */
export function gpaOf(device: usize, dma: u64): u64 {
	return dma & ~(load<u64>(device, DEVICE_PRIVATE_BITS) | load<u64>(device, DEVICE_SHARED_BITS));
}

/** The DMA address of a private gpa. */
export function privateDma(device: usize, gpa: u64): u64 {
	return (gpa & ~load<u64>(device, DEVICE_PRIVATE_CLEAR)) | load<u64>(device, DEVICE_PRIVATE_BITS);
}

/** The DMA address of a shared gpa. */
export function sharedDma(device: usize, gpa: u64): u64 {
	return (gpa & ~load<u64>(device, DEVICE_SHARED_CLEAR)) | load<u64>(device, DEVICE_SHARED_BITS);
}

/** Whether the device reaches every address of as many bits as `dma` has (Linux: dma_direct_get_required_mask). */
function reachesAll(device: usize, dma: u64): bool {
	return dmaCapable(device, u64.MAX_VALUE >> clz(dma | 1), 1);
}

/**
 * Largest mapping that the device can be promised, dma_max_mapping_size: limited only where it may have to bounce.
 * Linux 6.12 kernel/dma/direct.c, dma_direct_max_mapping_size; kernel/dma/swiotlb.c, swiotlb_max_mapping_size.
 * @param highest the gpa of RAM that the device has to reach: of the last byte, in Linux 6.12 of the last page
 * @returns bytes; 2^31 - 1 stands for no limit; or BAD_DEVICE
 */
export function deviceMaxMappingBytes(index: i32, highest: u64): i32 {
	const device = deviceAt(index);
	if (device === 0) return BAD_DEVICE;
	const flags = load<u32>(device, DEVICE_FLAGS);
	const needsShared = (flags & DEVICE_NEEDS_SHARED) !== 0;
	// a device whose addresses take the form of the pages has to reach both forms
	const asPages = (flags & DEVICE_ENCODES_AS_LINUX) === 0;
	const reaches =
		(!(asPages || needsShared) || reachesAll(device, sharedDma(device, highest))) &&
		(!(asPages || !needsShared) || reachesAll(device, privateDma(device, highest)));
	// after the 7.3 merge a device that needs shared memory has to bounce what is not
	const mayBounce =
		(flags & DEVICE_FORCE_BOUNCE) !== 0 || !reaches || ((flags & DEVICE_LIMITS_SHARED_MAPS) !== 0 && needsShared);
	if (load<i32>(device, DEVICE_POOL) < 0 || !mayBounce) return i32.MAX_VALUE;
	const alignMask = minAlignMask(device);
	const lost = (u64(alignMask) + (IO_TLB_SIZE - 1)) & ~u64(IO_TLB_SIZE - 1);
	return lost >= IO_TLB_MAX_MAPPING ? 0 : i32(IO_TLB_MAX_MAPPING - u32(lost));
}

/** Sets a device's counters to 0; what is live stays known. @returns OK or BAD_DEVICE */
export function deviceResetCounters(index: i32): i32 {
	const device = deviceAt(index);
	if (device === 0) return BAD_DEVICE;
	for (let shard: u32 = 0; shard < COUNTER_SHARDS; shard++) {
		const counters = device + DEVICE_COUNTERS + (shard << COUNTER_SHARD_SHIFT);
		store<u32>(counters, load<u32>(counters, COUNTER_DIRECT_MAPS), COUNTER_DIRECT_BASE);
		store<u64>(counters, 0, COUNTER_BOUNCED_MAPS);
		memory.fill(counters + COUNTER_BYTES_IN, 0, COUNTER_DIRECT_BASE - COUNTER_BYTES_IN);
	}
	return OK;
}

/** ptr of the counters that a CPU, or an area of the pool, counts in. */
export function countersOf(device: usize, number: u32): usize {
	const shard = COCO_THREADS ? (number & (COUNTER_SHARDS - 1)) << COUNTER_SHARD_SHIFT : 0;
	return device + DEVICE_COUNTERS + shard;
}

/** Adds to a 32-bit counter. */
export function countMaps(counter: usize, maps: i32): void {
	if (COCO_THREADS) atomic.add<u32>(counter, maps);
	else store<u32>(counter, load<u32>(counter) + maps);
}

/** Counts a cache maintenance operation over `bytes` bytes. number: as countersOf */
export function countCache(device: usize, number: u32, bytes: u32): void {
	countMaps(countersOf(device, number) + COUNTER_CACHE_OPS, 1);
	countBytes(countersOf(device, number) + COUNTER_CACHE_BYTES, bytes);
}

/**
 * Slots that the device's mappings hold now, in every pool: a walk over all records, for set-up.
 * @returns mappings, or BAD_DEVICE; BAD_ARGUMENT where no owners are kept (build reference)
 */
export function deviceBounced(index: i32): i32 {
	if (deviceAt(index) === 0) return BAD_DEVICE;
	let held: i32 = 0;
	const pools = load<u32>(context(), CTX_NPOOLS);
	for (let i: u32 = 0; i < pools; i++) {
		const owned = mappingsOwnedBy(poolAt(i), index);
		if (owned < 0) return BAD_ARGUMENT;
		held += owned;
	}
	for (let at = load<u32>(context(), CTX_TRANSIENTS); at !== 0; at = poolNext(context() + at))
		held += mappingsOwnedBy(context() + at, index);
	return held;
}

/** Adds to a 64-bit counter. */
export function countBytes(counter: usize, bytes: u32): void {
	if (COCO_THREADS) atomic.add<u64>(counter, bytes);
	else store<u64>(counter, load<u64>(counter) + bytes);
}
