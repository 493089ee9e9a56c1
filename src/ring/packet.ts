/** Packets as people see them, and the ranges that some of them carry. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import * as layout from "../../assembly/layout/ring.ts";
import { orThrow } from "../status.ts";
import type { Gpa } from "../types.ts";
import type { Instance } from "../wasm.ts";

/** Packet types that VMBus devices use. */
export const PacketType = {
	InBand: layout.PACKET_IN_BAND,
	TransferPages: layout.PACKET_TRANSFER_PAGES,
	GpaDirect: layout.PACKET_GPA_DIRECT,
	Completion: layout.PACKET_COMPLETION,
} as const;
export type PacketType = (typeof PacketType)[keyof typeof PacketType];

/** Packet flag: the sender wants a completion. */
export const WANTS_COMPLETION = layout.PACKET_WANTS_COMPLETION;

/** Guest memory that a GPA-direct packet names: `bytes` bytes from `offset` in the first of the pages (page numbers, gpa / 4096). */
export interface GpaRange {
	readonly bytes: number;
	readonly offset: number;
	readonly pfns: readonly number[];
}

/** A stretch of a transfer buffer that a transfer-page packet names. */
export interface TransferRange {
	readonly bytes: number;
	readonly offset: number;
}

/** A piece of guest memory: any gpa, 1 byte or more. */
export interface Piece {
	readonly gpa: Gpa;
	readonly bytes: number;
}

/** A packet that was copied out of a ring: the peer can no longer change it. */
export interface Packet {
	readonly type: number;
	readonly flags: number;
	readonly id: bigint;
	readonly payload: Uint8Array;
	/** GPA-direct packets only. */
	readonly gpaRanges?: readonly GpaRange[];
	/** Transfer-page packets only. */
	readonly transferRanges?: readonly TransferRange[];
	readonly transferSet?: number;
}

function pagesOf(gpa: Gpa, bytes: number): number[] {
	const first = Math.floor(gpa / PAGE_SIZE);
	const last = Math.floor((gpa + bytes - 1) / PAGE_SIZE);
	return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

function checked({ gpa, bytes }: Piece): Piece {
	if (!Number.isSafeInteger(gpa) || gpa < 0 || !Number.isInteger(bytes) || bytes < 1 || bytes >= 2 ** 32)
		throw new RangeError(`a piece has a gpa and 1 byte or more, not gpa ${gpa} and ${bytes} bytes`);
	return { gpa, bytes };
}

/** Page buffers: one range a page (Linux's struct hv_page_buffer), so a piece is cut where a page ends. */
export function pageBuffers(pieces: readonly Piece[]): GpaRange[] {
	return pieces.flatMap((piece) => {
		const { gpa, bytes } = checked(piece);
		return pagesOf(gpa, bytes).map((pfn) => {
			const from = Math.max(gpa, pfn * PAGE_SIZE);
			return {
				bytes: Math.min(gpa + bytes, (pfn + 1) * PAGE_SIZE) - from,
				offset: from - pfn * PAGE_SIZE,
				pfns: [pfn],
			};
		});
	});
}

/** One multi-page range over a stretch of guest memory (Linux's struct hv_multipage_buffer). */
export function multiPageRange(piece: Piece): GpaRange {
	const { gpa, bytes } = checked(piece);
	return { bytes, offset: gpa % PAGE_SIZE, pfns: pagesOf(gpa, bytes) };
}

/** One range over pages in any order (Linux's struct hv_mpb_array): `bytes` bytes from `offset` in the first. */
export function pageArray(pages: readonly Gpa[], offset: number, bytes: number): GpaRange {
	const bad = pages.find((gpa) => !Number.isSafeInteger(gpa) || gpa < 0 || gpa % PAGE_SIZE !== 0);
	if (bad !== undefined) throw new RangeError(`a page's gpa is a multiple of 4096, not ${bad}`);
	if (Math.ceil((offset + bytes) / PAGE_SIZE) !== pages.length)
		throw new RangeError(`${bytes} bytes from offset ${offset} do not take ${pages.length} pages`);
	return { bytes, offset, pfns: pages.map((gpa) => gpa / PAGE_SIZE) };
}

/** Bytes that ranges take in a packet. */
export function gpaRangesBytes(ranges: readonly GpaRange[]): number {
	return ranges.reduce((sum, { pfns }) => sum + 8 + 8 * pfns.length, 0);
}

/** Writes ranges as they go on the wire. @returns their bytes */
export function writeGpaRanges(data: DataView, ptr: number, ranges: readonly GpaRange[]): number {
	let at = ptr;
	for (const { bytes, offset, pfns } of ranges) {
		data.setUint32(at, bytes, true);
		data.setUint32(at + 4, offset, true);
		at += 8;
		for (const pfn of pfns) {
			data.setBigUint64(at, BigInt(pfn), true);
			at += 8;
		}
	}
	return at - ptr;
}

/** The packet that a reader has in hand, copied. Allocates. @throws DmaError RING_BAD_RANGES for ranges that do not fit */
export function packetInHand(instance: Instance, ring: number): Packet {
	const { exports } = instance;
	const record = exports.ringPtr(ring);
	const { data } = instance;
	const type = data.getUint16(record + layout.RING_PACKET_HEAD, true);
	const offset = data.getUint16(record + layout.RING_PACKET_HEAD + 2, true) * 8;
	const bytes = data.getUint16(record + layout.RING_PACKET_HEAD + 4, true) * 8;
	const at = exports.ringPacket(ring);
	const packet = {
		type,
		flags: data.getUint16(record + layout.RING_PACKET_HEAD + 6, true),
		id: data.getBigUint64(record + layout.RING_PACKET_ID, true),
		payload: new Uint8Array(instance.bytes.subarray(at + offset, at + bytes)),
	};
	if (type !== PacketType.GpaDirect && type !== PacketType.TransferPages) return packet;

	const call = () => `ranges of the packet with id ${packet.id}`;
	const gpaRanges: GpaRange[] = [];
	orThrow(exports.ringRanges(ring), call);
	while (orThrow(exports.ringNextRange(ring), call) > 0) {
		const pfnsAt =
			at -
			data.getUint32(record + layout.RING_PACKET_PTR, true) +
			data.getUint32(record + layout.RING_RANGE_PFNS, true);
		gpaRanges.push({
			bytes: data.getUint32(record + layout.RING_RANGE_LENGTH, true),
			offset: data.getUint32(record + layout.RING_RANGE_OFFSET, true),
			pfns: Array.from({ length: data.getUint32(record + layout.RING_RANGE_NPFNS, true) }, (_, i) =>
				Number(data.getBigUint64(pfnsAt + 8 * i, true)),
			),
		});
	}
	if (type === PacketType.GpaDirect) return { ...packet, gpaRanges };
	const transferRanges = gpaRanges.map(({ bytes, offset }) => ({ bytes, offset }));
	return {
		...packet,
		transferRanges,
		transferSet: data.getUint16(at + layout.PACKET_HEADER_BYTES + layout.RANGES_SET, true),
	};
}
