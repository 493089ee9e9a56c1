/** Coherent memory and scatter-gather lists, explained: what a device gets, and who can read it. */
import { IO_TLB_SIZE } from "../../../assembly/layout/pool.ts";
import type { Segment } from "../../dma/api.ts";
import type { Refusal } from "../../dma/refusal.ts";
import { type StatusName, statusName } from "../../status.ts";
import { Attr, type Direction, type DmaAddr, type Gpa } from "../../types.ts";
import type { CoherentBuffer, CoherentRefusal } from "../memory/coherent.ts";
import { decodeAddress } from "../platform/platform.ts";
import type { GuestDevice } from "./device.ts";
import { crashing, type Explanation, Onlookers, type Readers } from "./explain.ts";
import type { Guest } from "./guest.ts";

/** An allocation of coherent memory (dma_alloc_coherent), and its end. */
export interface CoherentExplanation {
	readonly request: { readonly bytes: number; readonly atomic: boolean };
	/** What it was given, or null: the kernel answers NULL, or ends. */
	readonly buffer: CoherentBuffer | null;
	/** Why it was given nothing, and what Linux logs ("": nothing). */
	readonly refused: { readonly status: CoherentRefusal["status"]; readonly message: string } | null;
	readonly crash: Explanation["crash"];
	readonly readers: readonly Readers[];
}

/** One segment of a list. */
export interface ListedSegment {
	readonly gpa: Gpa;
	readonly bytes: number;
	readonly decision: "direct" | "bounce" | "refused" | "crash" | "not asked";
	/** The address that the device is given, or null. */
	readonly dma: DmaAddr | null;
	/** Who can read its bytes while the list is mapped: of those that the device reaches. Null: it is not mapped. */
	readonly readers: Readers | null;
}

/** A list that is mapped whole or not at all (dma_map_sgtable). */
export interface ListExplanation {
	readonly segments: readonly ListedSegment[];
	/** Why the list is not mapped, or null. */
	readonly status: StatusName | null;
	readonly refusal: Refusal | null;
	readonly crash: Explanation["crash"];
}

/** Explains an allocation, and makes and ends it to be sure. @throws DmaError BAD_SIZE */
export function explainCoherent(
	guest: Guest,
	device: GuestDevice,
	request: CoherentExplanation["request"],
): CoherentExplanation {
	const { bytes, atomic } = request;
	const nothing = { request, buffer: null, refused: null, crash: null, readers: [] };
	const got = crashing(() => device.allocCoherent(bytes, { atomic }));
	if (!("ok" in got)) return { ...nothing, crash: got };
	if (!got.ok) return { ...nothing, refused: { status: got.status, message: got.message } };
	const { ok: _, ...buffer } = got;
	const onlookers = new Onlookers(guest, device);
	const where = got.source === "slots" ? "slots" : "buffer";
	const readers = [onlookers.look("mapped", where, got.gpa, got.bytes, got.dma)];
	const ended = crashing(() => device.freeCoherent(got, { atomic }));
	readers.push(onlookers.look("after", where, got.gpa, got.bytes, null));
	return { request, buffer, refused: null, crash: "ok" in ended ? null : ended, readers };
}

/** Explains a list, and maps and unmaps it to be sure. @param attrs Attr.*, but not Attr.Mmio */
export function explainList(
	guest: Guest,
	device: GuestDevice,
	segments: readonly Segment[],
	dir: Direction,
	attrs = 0,
): ListExplanation {
	const onlookers = new Onlookers(guest, device);
	const mapped: (ListedSegment & { readonly dma: DmaAddr })[] = [];
	let end: Pick<ListExplanation, "status" | "refusal" | "crash"> = { status: null, refusal: null, crash: null };
	for (const { gpa, bytes } of segments) {
		const before = device.dma.counters.directMaps;
		const dma = crashing(() => device.tryMap(gpa, bytes, dir, 0, attrs));
		if (typeof dma === "object") end = { ...end, crash: dma };
		else if (dma < 0)
			end = { ...end, status: statusName(dma), refusal: device.refusal({ gpa, bytes, dir, attrs }, dma) };
		else {
			const decision = device.dma.counters.directMaps > before ? "direct" : "bounce";
			mapped.push({ gpa, bytes, decision, dma, readers: null });
			continue;
		}
		break;
	}
	const whole = mapped.length === segments.length;
	const listed = segments.map(({ gpa, bytes }, i): ListedSegment => {
		const one = mapped[i];
		if (one === undefined) {
			const decision = i > mapped.length ? "not asked" : end.crash === null ? "refused" : "crash";
			return { gpa, bytes, decision, dma: null, readers: null };
		}
		if (!whole) return one;
		const { gpa: at } = decodeAddress(guest.platform, one.dma);
		const where = one.decision === "bounce" ? "slots" : "buffer";
		return { ...one, readers: onlookers.look("mapped", where, where === "slots" ? at : gpa, bytes, one.dma) };
	});
	// as dma_direct_map_sg: what came before a failure ends without a copy back
	for (const { dma, bytes } of mapped) device.unmap(dma, bytes, dir, attrs | (whole ? 0 : Attr.SkipCpuSync));
	return { segments: listed, ...end };
}

/** Segments of a list have pages of their own: bytes from the start of one to that of the next. */
export function segmentStride(bytes: number): number {
	return Math.ceil(bytes / (2 * IO_TLB_SIZE)) * 2 * IO_TLB_SIZE;
}
