/**
 * The ABI of VMBus rings: a module of its own over the same context, so that each stays small. Sizes and flags are i32; a
 * result below 0 is a status (layout/status.ts). ringsAttach comes first, on a context whose RAM is sealed.
 */
import { RING_PACKET_PTR } from "./layout/ring.ts";
import { contextAttach } from "./memory/context.ts";
import { allowBlocking } from "./memory/lock.ts";
import { regionsChanged } from "./memory/regions.ts";
import { ringRecord } from "./vmbus/ring.ts";

export { ringCommit, ringPutGather, ringPutRanges, ringReserve } from "./vmbus/build";
export { ringWriteBurst } from "./vmbus/burst";
export {
	ringAdvance,
	ringAvailable,
	ringConsume,
	ringEndRead,
	ringMask,
	ringNext,
	ringRelease,
	ringResume,
} from "./vmbus/iterate";
export { ringNextRange, ringRanges } from "./vmbus/ranges";
export { ringRead, ringReadBurst } from "./vmbus/read";
export { requestorOf, ringAttach, ringClose, ringComplete, ringDetach, ringsMoved } from "./vmbus/ring";
export { ringFree, ringPublish, ringPut, ringSetPending, ringWrite } from "./vmbus/write";

/** allowBlocking (memory/lock.ts) for the rings' locks. */
export function ringsAllowBlocking(allowed: bool): void {
	allowBlocking(allowed);
}

/** As attach of index.ts. */
export function ringsAttach(ptr: usize): i32 {
	regionsChanged();
	return contextAttach(ptr);
}

/** ptr of a ring's record (layout/ring.ts), open or closed, or 0. */
export function ringPtr(ring: u32): usize {
	return ringRecord(ring);
}

/** ptr of the packet that a reader has in hand, or 0. */
export function ringPacket(ring: u32): usize {
	const record = ringRecord(ring);
	return record === 0 ? 0 : record + load<u32>(record, RING_PACKET_PTR);
}
