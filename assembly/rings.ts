/**
 * The ABI of VMBus rings: every export, and nothing else. A module of its own over the same context, so that each stays small. Sizes
 * and flags are i32; a result below 0 is a status (layout/status.ts). ringsAttach comes first, on a context whose RAM is sealed.
 */
export { ringsAttach } from "./memory/abi";
export { allowBlocking as ringsAllowBlocking } from "./memory/lock";
export { ringCommit, ringPutGather, ringPutRanges, ringReserve } from "./vmbus/build";
export { ringWriteBurst } from "./vmbus/burst";
export {
	ringAdvance,
	ringAvailable,
	ringConsume,
	ringEndRead,
	ringMask,
	ringNext,
	ringPacket,
	ringRelease,
	ringResume,
} from "./vmbus/iterate";
export { ringNextRange, ringRanges } from "./vmbus/ranges";
export { ringRead, ringReadBurst } from "./vmbus/read";
export {
	requestorOf,
	ringAttach,
	ringClose,
	ringComplete,
	ringDetach,
	ringRecord as ringPtr,
	ringsMoved,
} from "./vmbus/ring";
export { ringFree, ringPublish, ringPut, ringSetPending, ringWrite } from "./vmbus/write";
