/** The requestor: small transaction ids in place of the sender's 64-bit values, so that a peer cannot invent one. */

import { alignBlock } from "../layout/context.ts";
import {
	REQUESTOR_FOUND,
	REQUESTOR_FREE,
	REQUESTOR_HEADER_BYTES,
	REQUESTOR_LIVE,
	REQUESTOR_LOCK,
	REQUESTOR_SLOTS,
} from "../layout/ring.ts";
import { BAD_REQUEST, OK } from "../layout/status.ts";
import { lock, unlock } from "../memory/lock.ts";

/** ptr of slot number `slot`: the sender's value while its id is live, the next free slot else. */
function slotPtr(requestor: usize, slot: u32): usize {
	return requestor + REQUESTOR_HEADER_BYTES + (slot << 3);
}

/** ptr of the bitmap word that holds the slot's "live" bit. */
function livePtr(requestor: usize, slot: u32): usize {
	return slotPtr(requestor, load<u32>(requestor, REQUESTOR_SLOTS)) + ((slot >> 5) << 2);
}

/** Bytes of a requestor of `slots` ids. */
export function requestorBytes(slots: u32): u32 {
	return slots === 0 ? 0 : REQUESTOR_HEADER_BYTES + (slots << 3) + alignBlock(((slots + 31) >> 5) << 2);
}

/**
 * Makes an empty requestor in zeroed memory.
 * Linux 6.12 drivers/hv/channel.c, vmbus_alloc_requestor: the lowest free id first, and freed ones last in, first out.
 * @param slots 1 .. REQUESTOR_MAX_SLOTS
 */
export function requestorInit(requestor: usize, slots: u32): void {
	store<u32>(requestor, slots, REQUESTOR_SLOTS);
	for (let i: u32 = 0; i < slots; i++) store<u64>(slotPtr(requestor, i), i + 1);
}

/** Takes an id for the sender's `value`. @returns the id, 1 .. slots, or 0 when all are live */
export function requestTake(requestor: usize, value: u64): u32 {
	lock(requestor + REQUESTOR_LOCK);
	const slot = load<u32>(requestor, REQUESTOR_FREE);
	const free = slot < load<u32>(requestor, REQUESTOR_SLOTS);
	if (free) {
		const at = slotPtr(requestor, slot);
		store<u32>(requestor, u32(load<u64>(at)), REQUESTOR_FREE);
		store<u64>(at, value);
		const live = livePtr(requestor, slot);
		store<u32>(live, load<u32>(live) | (1 << (slot & 31)));
		store<u32>(requestor, load<u32>(requestor, REQUESTOR_LIVE) + 1, REQUESTOR_LIVE);
	}
	unlock(requestor + REQUESTOR_LOCK);
	return free ? slot + 1 : 0;
}

/** Ends a live id; the sender's value lies in REQUESTOR_FOUND. @returns OK or BAD_REQUEST */
export function requestEnd(requestor: usize, id: u64): i32 {
	const slot = id - 1;
	if (slot >= u64(load<u32>(requestor, REQUESTOR_SLOTS))) return BAD_REQUEST;
	lock(requestor + REQUESTOR_LOCK);
	const live = livePtr(requestor, u32(slot));
	const bit: u32 = 1 << (u32(slot) & 31);
	const isLive = (load<u32>(live) & bit) !== 0;
	if (isLive) {
		const at = slotPtr(requestor, u32(slot));
		store<u32>(live, load<u32>(live) & ~bit);
		store<u64>(requestor, load<u64>(at), REQUESTOR_FOUND);
		store<u64>(at, load<u32>(requestor, REQUESTOR_FREE));
		store<u32>(requestor, u32(slot), REQUESTOR_FREE);
		store<u32>(requestor, load<u32>(requestor, REQUESTOR_LIVE) - 1, REQUESTOR_LIVE);
	}
	unlock(requestor + REQUESTOR_LOCK);
	return isLive ? OK : BAD_REQUEST;
}
