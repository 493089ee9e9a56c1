/**
 * The ABI of the DMA engine: every export, and nothing else; that of the rings is rings.ts. Addresses are f64 (whole numbers below 2^52), sizes, flags and
 * numbers i32; a result below 0 is a status (layout/status.ts). An instance works on one context: contextInit or
 * contextAttach comes first, then the regions, then ramSeal, then pools and devices.
 */
import { callBegins, callEnds } from "./audit/hooks.ts";
import { deviceAt, deviceMaxMappingBytes, poolHolding } from "./dma/device.ts";
import { bareSlots, bounceSlots, dmaMap } from "./dma/map.ts";
import { dmaSyncForCpu, dmaSyncForDevice, dmaUnmap } from "./dma/unmap.ts";
import { EVENT_GIVE, EVENT_TAKE } from "./layout/audit.ts";
import { BIDIRECTIONAL, DEVICE_MIN_ALIGN_MASK, FROM_DEVICE } from "./layout/device.ts";
import { POOL_NSLABS } from "./layout/pool.ts";
import {
	BAD_ARGUMENT,
	BAD_DEVICE,
	BAD_DIRECTION,
	BAD_POOL,
	BAD_SIZE,
	NOT_MAPPED,
	OK,
	OUTSIDE_RAM,
} from "./layout/status.ts";
import { ramFill, ramRead, ramWrite } from "./memory/access.ts";
import { addressOf } from "./memory/address.ts";
import { contextAttach, takeBlock } from "./memory/context.ts";
import { pageState, rangeState, rangeUsable } from "./memory/pages.ts";
import { enter, leave, quiesceAttach } from "./memory/quiesce.ts";
import { rangePtr, regionAdd, regionsChanged } from "./memory/regions.ts";
import { bounceUnmap, slotsWanted } from "./swiotlb/bounce.ts";
import { headOf } from "./swiotlb/mapping.ts";
import { poolGrow, poolTransient } from "./swiotlb/mem.ts";
import { poolAdd, poolAt, poolListCount, poolLongestFreeRun, rangeConvert } from "./swiotlb/pool.ts";

export {
	deviceAdd,
	deviceBounced,
	deviceResetCounters,
	deviceSet,
	deviceSet64,
	deviceSetPrivatePool,
} from "./dma/device";
export { dmaMapSg, dmaUnmapSg } from "./dma/scatter";
export { contextInit, contextUsedBytes, ramPages } from "./memory/context";
export { allowBlocking } from "./memory/lock";
export { pagesInState, ramSeal } from "./memory/pages";
export { regionMove } from "./memory/regions";
export { replayRun } from "./replay/run";
export { poolResetHiwater, poolsMoved } from "./swiotlb/pool";
export { retiredTake } from "./swiotlb/transient";

/** As contextAttach; the instance forgets what it knew of an earlier context. */
export function attach(ptr: usize): i32 {
	regionsChanged();
	const status = contextAttach(ptr);
	if (status === OK) quiesceAttach();
	return status;
}

/** Takes a zeroed block of the context for lists and plans. @returns its offset from the context base, or CONTEXT_FULL as 0 */
export function scratchTake(bytes: u32): u32 {
	return takeBlock(bytes);
}

/** regionAdd (memory/regions.ts). */
export function ramAddRegion(gpa: f64, bytes: f64, ptr: usize): i32 {
	if (!(bytes > 0 && bytes < 4294967296)) return BAD_ARGUMENT;
	return regionAdd(addressOf(gpa), u64(bytes), ptr);
}

/** rangeState (memory/pages.ts). */
export function ramRangeState(gpa: f64, bytes: i32): i32 {
	return bytes <= 0 ? BAD_SIZE : rangeState(addressOf(gpa), bytes);
}

/** State of one page, PAGE_*, or OUTSIDE_RAM. */
export function ramPageState(gpa: f64): i32 {
	return pageState(addressOf(gpa));
}

/** rangeConvert (swiotlb/pool.ts). */
export function ramConvert(gpa: f64, bytes: i32, state: i32): i32 {
	return bytes <= 0 ? BAD_SIZE : rangeConvert(addressOf(gpa), bytes, state);
}

/** ramRead (memory/access.ts). */
export function ramReadTo(gpa: f64, bytes: i32, to: usize): i32 {
	return ramRead(addressOf(gpa), bytes, to);
}

/** ramWrite (memory/access.ts). */
export function ramWriteFrom(gpa: f64, bytes: i32, from: usize): i32 {
	return ramWrite(addressOf(gpa), bytes, from);
}

/** ramFill (memory/access.ts). */
export function ramFillWith(gpa: f64, bytes: i32, value: i32): i32 {
	return ramFill(addressOf(gpa), bytes, value);
}

/** ptr of a range in one region, or OUTSIDE_RAM or BAD_SIZE: for views, which a memory.grow ends. */
export function ramPtr(gpa: f64, bytes: f64): f64 {
	if (!(bytes >= 1 && bytes <= 4294967296 && floor(bytes) === bytes)) return BAD_SIZE;
	const ptr = rangePtr(addressOf(gpa), u64(bytes));
	return ptr === usize.MAX_VALUE ? OUTSIDE_RAM : f64(ptr);
}

/** poolAdd (swiotlb/pool.ts). */
export function poolCreate(start: f64, nslabs: u32, nareas: u32, state: i32, flags: u32): i32 {
	return poolAdd(addressOf(start), nslabs, nareas, state, flags);
}

/** poolGrow (swiotlb/mem.ts). */
export function poolCreateNext(first: i32, start: f64, nslabs: u32, nareas: u32): i32 {
	return poolGrow(first, addressOf(start), nslabs, nareas);
}

/** poolTransient (swiotlb/mem.ts). */
export function poolCreateTransient(first: i32, start: f64, nslabs: u32): i32 {
	return poolTransient(first, addressOf(start), nslabs);
}

/** ptr of a pool's record (layout/pool.ts), or 0. */
export function poolPtr(index: i32): usize {
	return poolAt(index);
}

/** ptr of a device's record (layout/device.ts), or 0. */
export function devicePtr(index: i32): usize {
	return deviceAt(index);
}

/** slotsWanted (swiotlb/bounce.ts): slots that a bounce of this buffer takes, or BAD_DEVICE or BAD_SIZE. */
export function swiotlbSlots(device: i32, gpa: f64, bytes: i32, allocAlignMask: u32): i32 {
	const record = deviceAt(device);
	if (record === 0) return BAD_DEVICE;
	return bytes <= 0 ? BAD_SIZE : slotsWanted(record, addressOf(gpa), bytes, allocAlignMask);
}

/** A slot's `list` (swiotlb/pool.ts), or BAD_POOL or BAD_ARGUMENT. */
export function poolSlotList(index: i32, slot: u32): i32 {
	const pool = poolAt(index);
	if (pool === 0) return BAD_POOL;
	return slot < load<u32>(pool, POOL_NSLABS) ? poolListCount(pool, slot) : BAD_ARGUMENT;
}

/** Longest run of free slots, 0 .. 128, or BAD_POOL. */
export function poolFreeRun(index: i32): i32 {
	const pool = poolAt(index);
	return pool === 0 ? BAD_POOL : poolLongestFreeRun(pool);
}

/** deviceMaxMappingBytes (dma/device.ts). highest: last gpa of RAM */
export function deviceMaxMapping(device: i32, highest: f64): i32 {
	return deviceMaxMappingBytes(device, addressOf(highest));
}

/** dmaMap (dma/map.ts). */
export function mapSingle(device: i32, gpa: f64, bytes: i32, dir: i32, cpu: u32, attrs: u32): f64 {
	return f64(dmaMap(device, addressOf(gpa), bytes, dir, cpu, attrs));
}

/** dmaUnmap (dma/map.ts). */
export function unmapSingle(device: i32, dma: f64, bytes: i32, dir: i32, attrs: u32): i32 {
	return dmaUnmap(device, addressOf(dma), bytes, dir, attrs);
}

/** dmaSyncForDevice (dma/map.ts). */
export function syncForDevice(device: i32, dma: f64, bytes: i32, dir: i32): i32 {
	return dmaSyncForDevice(device, addressOf(dma), bytes, dir);
}

/** dmaSyncForCpu (dma/map.ts). */
export function syncForCpu(device: i32, dma: f64, bytes: i32, dir: i32): i32 {
	return dmaSyncForCpu(device, addressOf(dma), bytes, dir);
}

/** Linux's swiotlb_tbl_map_single: slots and copy in, no mask check, no encoding. @returns the bounce address or a status */
export function swiotlbTblMap(
	device: i32,
	gpa: f64,
	bytes: i32,
	allocAlignMask: u32,
	dir: i32,
	cpu: u32,
	attrs: u32,
): f64 {
	const record = deviceAt(device);
	if (record === 0) return BAD_DEVICE;
	if (u32(dir) > u32(FROM_DEVICE)) return BAD_DIRECTION;
	if (bytes <= 0) return BAD_SIZE;
	enter();
	if (COCO_AUDIT) callBegins(EVENT_TAKE, device, addressOf(gpa), bytes, dir, attrs);
	const usable = rangeUsable(addressOf(gpa), bytes);
	const tlb = usable === OK ? bounceSlots(record, addressOf(gpa), bytes, allocAlignMask, dir, cpu, attrs) : usable;
	if (COCO_AUDIT) callEnds(tlb);
	leave();
	return f64(tlb);
}

/** Linux's swiotlb_alloc: slots without an original, nothing copied; ended by swiotlbTblUnmap. @returns the bounce address or a status */
export function swiotlbAlloc(device: i32, bytes: i32, allocAlignMask: u32, cpu: u32): f64 {
	const record = deviceAt(device);
	if (record === 0) return BAD_DEVICE;
	if (bytes <= 0) return BAD_SIZE;
	if (COCO_AUDIT) callBegins(EVENT_TAKE, device, 0, bytes, BIDIRECTIONAL, 0);
	const tlb = bareSlots(record, 0, bytes, allocAlignMask, BIDIRECTIONAL, cpu, 0);
	if (COCO_AUDIT) callEnds(tlb);
	return f64(tlb);
}

/** Linux's swiotlb_tbl_unmap_single: size and direction are taken as given. @returns bytes copied back or a status */
export function swiotlbTblUnmap(device: i32, tlb: f64, bytes: i32, dir: i32, attrs: u32): i32 {
	const record = deviceAt(device);
	if (record === 0) return BAD_DEVICE;
	if (u32(dir) > u32(FROM_DEVICE)) return BAD_DIRECTION;
	if (bytes <= 0) return BAD_SIZE;
	const gpa = addressOf(tlb);
	const pool = poolHolding(record, gpa);
	if (pool === 0) return NOT_MAPPED;
	const head = headOf(pool, gpa);
	if (head < 0) return NOT_MAPPED;
	if (COCO_AUDIT) callBegins(EVENT_GIVE, device, gpa, bytes, dir, attrs);
	enter();
	const copied = bounceUnmap(pool, head, gpa, bytes, dir, attrs, load<u32>(record, DEVICE_MIN_ALIGN_MASK));
	leave();
	if (COCO_AUDIT) callEnds(copied);
	return copied;
}
