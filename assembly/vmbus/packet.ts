/** A packet's first 8 bytes, and the copy of its payload: written once for every path that writes or reads packets. */

import { PACKET_HEADER_BYTES } from "../layout/ring.ts";

/** First 8 bytes of a packet. bytes: header and payload, rounded up to 8 */
export function headOf(type: u32, flags: u32, offset8: u32, bytes: u32): u64 {
	return u64(type | (offset8 << 16)) | (u64((bytes >> 3) | (flags << 16)) << 32);
}

/** Bytes that a packet claims, header included and trailer not: 0 .. 524280. */
export function claimedBytes(head: u64): u32 {
	return (u32(head >> 32) & 0xffff) << 3;
}

/** Where it claims that its payload begins. */
export function claimedOffset(head: u64): u32 {
	return (u32(head) >>> 16) << 3;
}

/** The first 8 bytes without the flags: as an i64 never below 0. */
export function withoutFlags(head: u64): u64 {
	return head & 0x0000ffffffffffff;
}

/** Whether a packet claims 16 .. limit bytes, and that its payload lies behind its header and in it. limit: 16 or more */
export function claimsHold(head: u64, limit: u32): bool {
	// unsigned: less than a header is more than any limit
	const bytes = claimedBytes(head) - PACKET_HEADER_BYTES;
	const offset = claimedOffset(head) - PACKET_HEADER_BYTES;
	return (u32(bytes <= limit - PACKET_HEADER_BYTES) & u32(offset <= bytes)) !== 0;
}

/** Bytes of a payload rounded up to a quadword. */
export function padded(bytes: u32): u32 {
	return (bytes + 7) & ~7;
}
