/** Slots without a DMA address: what Linux's other callers ask of swiotlb. No mask is checked and nothing is encoded. */
import { callBegins, callEnds } from "../audit/hooks.ts";
import { EVENT_GIVE, EVENT_TAKE } from "../layout/audit.ts";
import { BIDIRECTIONAL, FROM_DEVICE } from "../layout/device.ts";
import { BAD_DEVICE, BAD_DIRECTION, BAD_SIZE, NOT_MAPPED, OK } from "../layout/status.ts";
import { addressOf } from "../memory/address.ts";
import { rangeUsable } from "../memory/pages.ts";
import { enter, leave } from "../memory/quiesce.ts";
import { bounceUnmap } from "../swiotlb/bounce.ts";
import { headOf } from "../swiotlb/ledger.ts";
import { minAlignMask } from "../swiotlb/record.ts";
import { deviceAt, poolHolding } from "./device.ts";
import { bareSlots, bounceSlots } from "./map.ts";

/** Linux's swiotlb_tbl_map_single: slots, and the copy in. @returns the bounce address or a status */
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
	const copied = bounceUnmap(pool, head, gpa, bytes, dir, attrs, minAlignMask(record));
	leave();
	if (COCO_AUDIT) callEnds(copied);
	return copied;
}
