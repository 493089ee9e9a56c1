/**
 * Who holds which slots of a pool: bitmaps and records, or in the build `reference` the kernel's lists. The one place that knows
 * of both; what differs is decided when the engine is compiled.
 */

import { alignBlock } from "../layout/context.ts";
import { POOL_LIST, POOL_RECORDS, poolBytes, RECORD_SHIFT } from "../layout/pool.ts";
import { NOT_MAPPED } from "../layout/status.ts";
import {
	listClaim,
	listCount,
	listInit,
	listLongest,
	listMapped,
	listOrigin,
	listPad,
	listRelease,
	listRemaining,
	listSearch,
	listSlots,
	listUseUp,
} from "../reference/list.ts";
import {
	bitmapClaim,
	bitmapCount,
	bitmapHead,
	bitmapHeadMappedAs,
	bitmapHeld,
	bitmapInit,
	bitmapLongest,
	bitmapMapping,
	bitmapOrigin,
	bitmapOwnedBy,
	bitmapPad,
	bitmapRelease,
	bitmapRemaining,
	bitmapUseUp,
} from "./bitmap.ts";
import { poolSlots, slotOf } from "./record.ts";
import { NONE, probe, search } from "./search.ts";

/** Context bytes of a pool. */
export function poolRoom(nslabs: u32, nareas: u32): u32 {
	return poolBytes(nslabs, nareas, COCO_REFERENCE !== 0);
}

/** Marks every slot of a new pool free. segments: of the pool, rounded up */
export function ledgerInit(pool: usize, segments: u32): void {
	bitmapInit(pool, segments);
	if (COCO_REFERENCE) {
		store<u32>(pool, load<u32>(pool, POOL_RECORDS) + alignBlock(poolSlots(pool) << RECORD_SHIFT), POOL_LIST);
		listInit(pool);
	}
}

/** Marks every slot of a pool that nobody uses as used, for ever: no search finds any. */
export function ledgerUseUp(pool: usize): void {
	bitmapUseUp(pool);
	if (COCO_REFERENCE) listUseUp(pool);
}

/** The first candidate for a request, or NONE when it is not free, or a list was not asked. Parameters as probe. */
export function probeSlots(pool: usize, area: usize, device: usize, orig: u64, n: u32, alignMask: u32): i32 {
	return COCO_REFERENCE ? NONE : probe(pool, area, device, orig, n, alignMask);
}

/** The slot, within the area, that Linux would take for the request in the area's record, or NONE. */
export function searchSlots(pool: usize, area: usize): i32 {
	return COCO_REFERENCE ? listSearch(pool, area) : search(pool, area);
}

/** Takes a mapping's slots. Parameters as bitmapClaim. @returns the slot of the mapping's bounce address */
export function claimSlots(pool: usize, device: usize, slot: u32, orig: u64, mapped: u32, allocated: u32): u32 {
	if (COCO_REFERENCE) return listClaim(pool, slot, orig, mapped, allocated);
	return bitmapClaim(pool, device, slot, orig, mapped, allocated);
}

/**
 * Gives the slots of the mapping at `head` back.
 * @param offset offset of its tlb address in its slot: a list does not remember it
 * @returns how many, 0 when none starts there
 */
export function releaseSlots(pool: usize, head: u32, offset: u32): u32 {
	return COCO_REFERENCE ? listRelease(pool, head, offset) : bitmapRelease(pool, head);
}

/** Slots of the mapping at `head`, padding too; 0 when none starts there. offset: as releaseSlots */
export function slotsHeld(pool: usize, head: u32, offset: u32): u32 {
	return COCO_REFERENCE ? listSlots(pool, head, offset) : bitmapHeld(pool, head);
}

/** Slots of padding in front of the mapping at `head`. */
export function padOf(pool: usize, head: u32): u32 {
	return COCO_REFERENCE ? listPad(pool, head) : bitmapPad(pool, head);
}

/**
 * The mapping that holds `tlb`, an address inside the pool: a number for originOf and remainingOf.
 * @returns its head slot (a list: the slot of `tlb`), or NOT_MAPPED
 */
export function mappingOf(pool: usize, tlb: u64): i32 {
	return COCO_REFERENCE ? listHead(pool, tlb) : bitmapMapping(pool, tlb);
}

/** The head slot of the live mapping that starts at exactly `tlb`, an address inside the pool, or NOT_MAPPED. A list takes any slot of it. */
export function headOf(pool: usize, tlb: u64): i32 {
	return COCO_REFERENCE ? listHead(pool, tlb) : bitmapHead(pool, tlb);
}

/** As headOf, for the mapping that this device made with this size and direction. @returns MISMATCH for another one; a list cannot tell */
export function headMappedAs(pool: usize, tlb: u64, bytes: u32, dir: i32, owner: u32): i32 {
	return COCO_REFERENCE ? listHead(pool, tlb) : bitmapHeadMappedAs(pool, tlb, bytes, dir, owner);
}

function listHead(pool: usize, tlb: u64): i32 {
	return listMapped(pool, slotOf(pool, tlb)) ? i32(slotOf(pool, tlb)) : NOT_MAPPED;
}

/** Original address of the byte at `tlb`. mapping: what mappingOf answered for it */
export function originOf(pool: usize, mapping: i32, tlb: u64, alignMask: u32): u64 {
	return COCO_REFERENCE ? listOrigin(pool, mapping, tlb, alignMask) : bitmapOrigin(pool, mapping, tlb);
}

/** Bytes from `tlb` to the end of what was allocated, rounding included: what Linux clamps a sync or copy to. */
export function remainingOf(pool: usize, mapping: i32, tlb: u64, alignMask: u32): u32 {
	return COCO_REFERENCE ? listRemaining(pool, mapping, tlb, alignMask) : bitmapRemaining(pool, mapping, tlb);
}

/** Live mappings of one owner in a pool, or -1: a list remembers no owners. */
export function mappingsOwnedBy(pool: usize, owner: u32): i32 {
	return COCO_REFERENCE ? -1 : bitmapOwnedBy(pool, owner);
}

/** A slot's `list` as Linux keeps it: 0 when used, else the free slots from it to the end of its run or segment. */
export function slotCount(pool: usize, slot: u32): u32 {
	return COCO_REFERENCE ? listCount(pool, slot) : bitmapCount(pool, slot);
}

/** The longer of `best` and the longest free run among n slots from `slot` on, whole segments. */
export function longestFree(pool: usize, slot: u32, n: u32, best: u32): u32 {
	return COCO_REFERENCE ? listLongest(pool, slot, n, best) : bitmapLongest(pool, slot, n, best);
}
