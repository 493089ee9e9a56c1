/** Guest memory as one party may touch it, and GPADL ranges as stretches of it. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { Engine } from "../../engine.ts";
import { PageState } from "../../memory/ram.ts";
import type { GpaRange, Piece } from "../../ring/packet.ts";
import type { Gpa } from "../../types.ts";
import type { PageKind } from "./types.ts";

/** Why memory may not be touched. */
export type MemoryRefusal =
	| "OUTSIDE_RAM"
	/** No bytes, or more than 2^31 - 1. */
	| "BAD_SIZE"
	/** A page that is in transition or leaked. */
	| "BLOCKED_PAGES"
	/** A page that is not of the kind that the view is of: for a host, one that is not shared. */
	| "WRONG_PAGES";

/** What a device may do with guest memory. Nothing throws; a refused access has touched nothing. */
export interface MemoryView {
	/** Why [gpa, gpa + bytes) may not be touched, or null. */
	refusal(gpa: Gpa, bytes: number): MemoryRefusal | null;
	/** A copy. */
	read(gpa: Gpa, bytes: number): Uint8Array | MemoryRefusal;
	write(gpa: Gpa, data: Uint8Array): MemoryRefusal | null;
}

/** A view of the pages of one kind: shared ones are what a host sees, private ones what only the guest and its paravisor see. */
export function pagesView(engine: Engine, kind: PageKind): MemoryView {
	const wanted = kind === "shared" ? PageState.Shared : PageState.Private;
	const refusal = (gpa: Gpa, bytes: number): MemoryRefusal | null => {
		if (!Number.isInteger(bytes) || bytes < 1 || bytes >= 2 ** 31) return "BAD_SIZE";
		if (!Number.isSafeInteger(gpa) || gpa < 0) return "OUTSIDE_RAM";
		for (let page = gpa - (gpa % PAGE_SIZE); page < gpa + bytes; page += PAGE_SIZE) {
			const state = engine.instance.exports.ramPageState(page);
			if (state < 0) return "OUTSIDE_RAM";
			if (state === PageState.InTransition || state === PageState.Leaked) return "BLOCKED_PAGES";
			if (state !== wanted) return "WRONG_PAGES";
		}
		return null;
	};
	return {
		refusal,
		read: (gpa, bytes) => refusal(gpa, bytes) ?? engine.ram.read(gpa, bytes),
		write: (gpa, data) => {
			const refused = refusal(gpa, data.length);
			if (refused === null) engine.ram.write(gpa, data);
			return refused;
		},
	};
}

/** The pieces of ranges that hold `bytes` bytes from `offset`, or null when they hold fewer. */
function piecesOf(ranges: readonly GpaRange[], offset: number, bytes: number): Piece[] | null {
	const pieces: Piece[] = [];
	let skip = offset;
	let left = bytes;
	for (const range of ranges) {
		let at = range.offset + Math.min(skip, range.bytes);
		skip -= Math.min(skip, range.bytes);
		const end = range.offset + range.bytes;
		while (left > 0 && at < end) {
			const within = at % PAGE_SIZE;
			const pfn = range.pfns[(at - within) / PAGE_SIZE];
			if (pfn === undefined) return null;
			const piece = Math.min(PAGE_SIZE - within, end - at, left);
			pieces.push({ gpa: pfn * PAGE_SIZE + within, bytes: piece });
			at += piece;
			left -= piece;
		}
	}
	return left > 0 ? null : pieces;
}

/** Bytes that ranges hold. */
export function rangesBytes(ranges: readonly GpaRange[]): number {
	return ranges.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** A copy of `bytes` bytes from `offset` of ranges, or why there is none. */
export function readRanges(
	view: MemoryView,
	ranges: readonly GpaRange[],
	offset: number,
	bytes: number,
): Uint8Array | MemoryRefusal {
	const pieces = piecesOf(ranges, offset, bytes);
	if (pieces === null) return "BAD_SIZE";
	const out = new Uint8Array(bytes);
	let at = 0;
	for (const piece of pieces) {
		const read = view.read(piece.gpa, piece.bytes);
		if (typeof read === "string") return read;
		out.set(read, at);
		at += piece.bytes;
	}
	return out;
}

/** Writes at `offset` of ranges: all, or nothing. */
export function writeRanges(
	view: MemoryView,
	ranges: readonly GpaRange[],
	offset: number,
	data: Uint8Array,
): MemoryRefusal | null {
	const pieces = piecesOf(ranges, offset, data.length);
	if (pieces === null) return "BAD_SIZE";
	for (const piece of pieces) {
		const refused = view.refusal(piece.gpa, piece.bytes);
		if (refused !== null) return refused;
	}
	let at = 0;
	for (const piece of pieces) {
		view.write(piece.gpa, data.subarray(at, at + piece.bytes));
		at += piece.bytes;
	}
	return null;
}

/**
 * The pages of both rings (gpas) in a ring GPADL, or null: it must be one range of whole pages from offset 0, with at least
 * one page on either side of the split (OpenVMM vmbus_channel/src/gpadl_ring.rs).
 */
export function ringPagesOf(ranges: readonly GpaRange[], downstreamPage: number): Gpa[] | null {
	const [range] = ranges;
	if (range === undefined || ranges.length !== 1 || range.offset !== 0 || range.bytes % PAGE_SIZE !== 0) return null;
	if (downstreamPage < 1 || downstreamPage >= range.pfns.length) return null;
	return range.pfns.map((pfn) => pfn * PAGE_SIZE);
}
