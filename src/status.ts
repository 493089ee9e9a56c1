import * as codes from "../assembly/layout/status.ts";

const TEXTS = {
	OUTSIDE_RAM: "the range is not in RAM",
	BAD_SIZE: "the size must be a whole number of bytes from 1 to 2^31 - 1",
	BAD_DIRECTION: "the direction must be BIDIRECTIONAL (0), TO_DEVICE (1) or FROM_DEVICE (2)",
	MIXED_PAGES: "the range is neither all private nor all shared",
	BLOCKED_PAGES: "a page of the range is in transition or leaked",
	BEYOND_MASK: "the encoded address is beyond the device's DMA mask or bus limit",
	POOL_FULL: "no run of free slots fits",
	OVER_MAX_MAPPING: "the request needs more than 128 slots, the largest mapping that swiotlb serves",
	NO_POOL: "the device must bounce and has no pool",
	NOT_MAPPED: "no live mapping starts there",
	MISMATCH: "the size, direction or device is not that of the map",
	BAD_DEVICE: "there is no such device",
	BAD_POOL: "there is no such pool",
	CONTEXT_FULL: "the engine's context has no room left",
	BAD_ARGUMENT: "an argument is outside its range",
	OVERLAP: "it overlaps another region or pool, or comes before one",
	POOL_PAGES: "the range belongs to a bounce pool",
	BAD_CONTEXT: "there is no context of this version and build at that address",
	BOUNCE_REFUSED: "the mapping must bounce, and its attributes forbid it",
	POOL_STATE: "the pool is shared and the device is trusted with private memory, or the reverse",
	NEEDS_TRANSIENT: "no pool has room, and there is no memory for a transient one",
	UNUSABLE_POOL: "the transient pool's memory does not fit the alignment or the boundary",
	SLOTS_BEYOND_MASK: "the slots are beyond the device's DMA mask or bus limit; the bytes had been copied by then",
	NEEDS_SHARED: "the device reaches shared memory only, and nothing may bounce the mapping",
	NOT_COHERENT: "the mapping must be coherent, and the device is not",
	SHARES_CACHE_LINE: "the buffer may share a cache line, the device is not coherent, and it has no pool",
	PEER_UNREACHABLE: "the memory is another device's, which this one does not reach",
	BAD_RING: "there is no open ring of that number at this end",
	RING_FULL: "the ring has no room for the packet",
	RING_EMPTY: "the ring holds no packet",
	RING_TOO_SMALL: "the packet is longer than the buffer",
	RING_TOO_LARGE: "the ring could not hold the packet even when empty",
	RING_CLOSED: "the ring is closed",
	RING_RESCINDED: "the host took the channel away",
	REQUESTOR_FULL: "every request id is live",
	BAD_REQUEST: "the transaction id is not live: never issued, or completed before",
	RING_BAD_INDEX: "the peer's ring index is beyond the data or no multiple of 8",
	RING_BAD_AVAILABLE: "the ring holds fewer bytes than a packet header",
	RING_BAD_LENGTH: "a packet's length or payload offset is invalid",
	RING_BAD_TYPE: "a packet's type is unknown",
	RING_BAD_FLAGS: "a packet has unknown flags",
	RING_BAD_RANGES: "a packet's ranges are empty or do not fit into it",
} satisfies Record<Exclude<keyof typeof codes, "OK">, string>;

/** Why a call was refused, as a name that programs may compare. */
export type StatusName = keyof typeof TEXTS;

const NAMES = new Map<number, StatusName>(
	Object.entries(codes)
		.filter(([name]) => name !== "OK")
		.map(([name, code]) => [code, name as StatusName]),
);

/** Name of a status (a result below 0). */
export function statusName(status: number): StatusName {
	return NAMES.get(status) ?? "BAD_ARGUMENT";
}

/** A refused call: the call with its arguments, and why. */
export class DmaError extends Error {
	override readonly name = "DmaError";
	readonly status: StatusName;

	/**
	 * @param call the call as a person reads it, e.g. `map(gpa 0x1000, 4096 bytes, TO_DEVICE)`
	 * @param detail more facts, such as the state of the pool
	 */
	constructor(call: string, status: number, detail = "") {
		const name = statusName(status);
		super(`${call}: ${name}: ${TEXTS[name]}${detail === "" ? "" : ` (${detail})`}`);
		this.status = name;
	}
}

/** A DmaError that was sent as plain data. */
export function receivedError(message: string, status: StatusName): DmaError {
	return Object.assign(new DmaError("", codes.BAD_ARGUMENT), { message, status });
}

/** Throws a DmaError for a status, else returns the value. */
export function orThrow(result: number, call: () => string, detail?: () => string): number {
	if (result < 0) throw new DmaError(call(), result, detail?.());
	return result;
}

/** An address as people read it. */
export function hex(address: number): string {
	return Number.isFinite(address) && address >= 0 ? `0x${Math.trunc(address).toString(16)}` : String(address);
}
