/** GPADLs on the wire: ranges of guest memory as quadwords, in a header and bodies (OpenVMM vmbus_ring/src/gparange.rs). */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { GpaRange } from "../../ring/packet.ts";
import { MAX_MESSAGE_BYTES } from "../../synic/synic.ts";
import { MESSAGES, type MessageOf, MessageType } from "./messages.ts";

/** Quadwords that a header and a body have room for. */
const HEADER_QUADWORDS = Math.floor((MAX_MESSAGE_BYTES - MESSAGES.GpadlHeader.bytes) / 8);
const BODY_QUADWORDS = Math.floor((MAX_MESSAGE_BYTES - MESSAGES.GpadlBody.bytes) / 8);
/** Page numbers are below this: guest physical addresses have 52 bits. */
const PFN_LIMIT = 1n << 40n;

/** GPADL_HEADER and as many GPADL_BODY as ranges take. The u16 byte count wraps beyond 8191 quadwords, as in Linux. */
export function* gpadlMessages(
	relid: number,
	gpadl: number,
	ranges: readonly GpaRange[],
): Generator<MessageOf<"GpadlHeader" | "GpadlBody">> {
	const quadwords = ranges.flatMap(({ bytes, offset, pfns }) => [
		(BigInt(offset) << 32n) | BigInt(bytes),
		...pfns.map(BigInt),
	]);
	yield {
		type: MessageType.GpadlHeader,
		relid,
		gpadl,
		rangeBytes: (8 * quadwords.length) & 0xffff,
		rangeCount: ranges.length,
		ranges: quadwords.slice(0, HEADER_QUADWORDS),
	};
	for (let at = HEADER_QUADWORDS; at < quadwords.length; at += BODY_QUADWORDS)
		yield {
			type: MessageType.GpadlBody,
			messageNumber: 0,
			gpadl,
			ranges: quadwords.slice(at, at + BODY_QUADWORDS),
		};
}

/**
 * The ranges that quadwords hold: {u32 bytes, u32 offset} and the page numbers, `count` times; what follows is ignored.
 * @returns null when a range is empty, starts beyond its first page, or has too few or impossible page numbers
 */
export function parseGpadl(quadwords: readonly bigint[], count: number): GpaRange[] | null {
	if (count === 0) return null;
	const ranges: GpaRange[] = [];
	let at = 0;
	for (let i = 0; i < count; i++) {
		const head = quadwords[at++];
		if (head === undefined) return null;
		const bytes = Number(head & 0xffffffffn);
		const offset = Number(head >> 32n);
		const pages = Math.ceil((offset + bytes) / PAGE_SIZE);
		if (bytes === 0 || offset >= PAGE_SIZE || at + pages > quadwords.length) return null;
		const pfns = quadwords.slice(at, at + pages);
		if (pfns.some((pfn) => pfn >= PFN_LIMIT)) return null;
		ranges.push({ bytes, offset, pfns: pfns.map(Number) });
		at += pages;
	}
	return ranges;
}
