/**
 * Linux's slot search on bitmaps: the same slot for the same request, found faster.
 *
 * Linux walks candidates one by one from the area's index (Linux 6.12 kernel/dma/swiotlb.c, swiotlb_search_pool_area).
 * Its walk has a closed form when the alignment masks are of the form 2^k - 1: the slots that pass the alignment test
 * are those of one residue modulo a period, and the walk visits an upper part [first, area end) and then a lower part
 * [lowest candidate, limit) of them. Each part is searched a segment at a time. Other masks take the plain walk.
 */
import {
	AREA_INDEX,
	IO_TLB_SHIFT,
	POOL_SEGMENTS,
	POOL_START,
	POOL_SUMMARY,
	SEGMENT_FREE,
	SEGMENT_FREE_HIGH,
	SEGMENT_SHIFT,
} from "../layout/pool.ts";
import { segmentOf } from "./mapping.ts";
import { everyPeriod, isFree, maskFromHigh, maskFromLow, startsHigh, startsLow } from "./segment.ts";

/** No slot. */
export const NONE: i32 = -1;

/** Longest masks of the closed form: a period of 128 slots, one candidate a segment. */
const CLOSED_BITS: u32 = 18;

/** Address of slot 0 as the search sees it: the pool's start under the segment boundary mask. */
function tableAddress(pool: usize, boundaryMask: u64): u64 {
	return load<u64>(pool, POOL_START) & boundaryMask;
}

/**
 * Whether slots [slot, slot + n) straddle a segment boundary (Linux 6.12 include/linux/iommu-helper.h).
 * @param shift the table address in slots, rounded up
 * @param boundarySlots slots between two boundaries, less 1
 */
function straddles(slot: u32, n: u32, shift: u64, boundarySlots: u64): bool {
	return ((shift + slot) & boundarySlots) + n > boundarySlots + 1;
}

/** The table address in slots, rounded up. */
function tableShift(table: u64): u64 {
	return (table + ((1 << IO_TLB_SHIFT) - 1)) >> IO_TLB_SHIFT;
}

/** Whether the masks have the closed form, with at least a candidate a segment. */
function isClosed(alignMask: u32, allMask: u32): bool {
	return (((alignMask + 1) & alignMask) | ((allMask + 1) & allMask) | (allMask >> CLOSED_BITS)) === 0;
}

/** A slot, not reduced, that passes the alignment test; the others are whole residue classes away. */
function residueOf(orig: u64, origMask: u32, table: u64, areaBase: u32): u32 {
	const wanted = orig !== 0 ? u32(orig) & origMask : 0;
	return ((wanted - u32(table)) >> IO_TLB_SHIFT) - areaBase;
}

/** Slots from one that passes the alignment test to the next. With orig 0 all that are aligned to alignMask pass. */
function residueClasses(orig: u64, alignMask: u32, allMask: u32): u32 {
	return ((orig !== 0 ? allMask : alignMask) >> IO_TLB_SHIFT) + 1;
}

/**
 * Looks only at the first candidate: most requests fit right where the last one ended. Parameters as searchArea.
 * @returns the slot within the area, or NONE when searchArea has to be asked
 */
export function probeArea(
	pool: usize,
	area: usize,
	areaBase: u32,
	areaSlots: u32,
	orig: u64,
	n: u32,
	alignMask: u32,
	origMask: u32,
	boundaryMask: u64,
): i32 {
	const allMask = alignMask | origMask;
	if (!isClosed(alignMask, allMask)) return NONE;
	const table = tableAddress(pool, boundaryMask);
	const index = load<u32>(area, AREA_INDEX);
	const classes = residueClasses(orig, alignMask, allMask);
	const first = index + ((residueOf(orig, origMask, table, areaBase) - index) & (classes - 1));
	const slot = areaBase + first;
	return first < areaSlots &&
		isFree(segmentOf(pool, slot), slot & 127, n) &&
		!straddles(slot, n, tableShift(table), boundaryMask >> IO_TLB_SHIFT)
		? first
		: NONE;
}

/**
 * The slot that Linux would take in one area, whose lock the caller holds.
 * @param area ptr of the area
 * @param areaBase pool slot of the area's slot 0
 * @param areaSlots slots of an area
 * @param orig the original address; 0 is exempt from the min_align_mask test
 * @param n slots wanted, 1 .. 128
 * @param alignMask low address bits that must be 0 (alloc_align_mask, never below 0x7ff)
 * @param origMask address bits that must equal orig's (min_align_mask without alignMask)
 * @param boundaryMask the device's segment boundary, 2^k - 1
 * @returns the slot within the area, or NONE
 */
export function searchArea(
	pool: usize,
	area: usize,
	areaBase: u32,
	areaSlots: u32,
	orig: u64,
	n: u32,
	alignMask: u32,
	origMask: u32,
	boundaryMask: u64,
): i32 {
	const table = tableAddress(pool, boundaryMask);
	const shift = tableShift(table);
	const boundarySlots = boundaryMask >> IO_TLB_SHIFT;
	if (n > boundarySlots + 1) return NONE;
	const index = load<u32>(area, AREA_INDEX);
	const stride = (max(alignMask, origMask) >> IO_TLB_SHIFT) + 1;
	const allMask = alignMask | origMask;
	if (!isClosed(alignMask, allMask)) {
		return walkArea(
			pool,
			index,
			areaBase,
			areaSlots,
			orig,
			n,
			alignMask,
			origMask,
			stride,
			u32(table),
			shift,
			boundarySlots,
		);
	}

	// with orig 0 more slots pass, but the walk still steps by the longer period
	const period = (allMask >> IO_TLB_SHIFT) + 1;
	const classes = residueClasses(orig, alignMask, allMask);
	const residue = residueOf(orig, origMask, table, areaBase);
	const first = index + ((residue - index) & (classes - 1));
	let spent = areaSlots - index;
	if (first < areaSlots) {
		const upper = searchRange(pool, areaBase, first, areaSlots, period, n, shift, boundarySlots);
		if (upper !== NONE) return upper;
		const last = first + ((areaSlots - 1 - first) & ~(period - 1));
		// Linux restarts at slot 0, not modulo, but has paid for the whole stride
		if (last + stride >= areaSlots) spent = last - index + stride;
	}
	if (spent >= areaSlots) return NONE;
	return searchRange(pool, areaBase, residue & (classes - 1), areaSlots - spent, period, n, shift, boundarySlots);
}

/** The lowest slot in [from, to) of from's residue modulo `period` at which n slots are free and no boundary is crossed. */
function searchRange(
	pool: usize,
	areaBase: u32,
	from: u32,
	to: u32,
	period: u32,
	n: u32,
	shift: u64,
	boundarySlots: u64,
): i32 {
	if (from >= to) return NONE;
	const segments = pool + load<u32>(pool, POOL_SEGMENTS);
	const summary = pool + load<u32>(pool, POOL_SUMMARY);
	const firstSegment = (areaBase + from) >> 7;
	const lastSegment = (areaBase + to - 1) >> 7;
	const wanted = i8x16.splat(i8(n));
	const phase = (areaBase + from) & (period - 1);
	let patternLow = everyPeriod(period) << u64(phase & 63);
	let patternHigh = patternLow;
	if (period > 64) {
		if (phase < 64) patternHigh = 0;
		else patternLow = 0;
	}

	let segment = firstSegment;
	while (segment <= lastSegment) {
		// 16 segments a step: those whose longest run may reach n
		const may = i8x16.bitmask(i8x16.ge_u(v128.load(summary + segment), wanted));
		if (may === 0) {
			segment += 16;
			continue;
		}
		segment += u32(ctz(may));
		if (segment > lastSegment) break;
		const bits = segments + (segment << SEGMENT_SHIFT);
		const high = load<u64>(bits, SEGMENT_FREE_HIGH);
		let hitsLow = startsLow(load<u64>(bits, SEGMENT_FREE), high, n);
		let hitsHigh = startsHigh(high, n);
		if ((hitsLow | hitsHigh) === 0) {
			store<u8>(summary + segment, u8(n - 1));
			segment++;
			continue;
		}
		hitsLow &= patternLow;
		hitsHigh &= patternHigh;
		if (segment === firstSegment) {
			hitsLow &= maskFromLow((areaBase + from) & 127);
			hitsHigh &= maskFromHigh((areaBase + from) & 127);
		}
		if (segment === lastSegment) {
			const end = areaBase + to - (segment << 7);
			hitsLow &= ~maskFromLow(end);
			hitsHigh &= ~maskFromHigh(end);
		}
		while ((hitsLow | hitsHigh) !== 0) {
			let slot = segment << 7;
			if (hitsLow !== 0) {
				slot += u32(ctz(hitsLow));
				hitsLow &= hitsLow - 1;
			} else {
				slot += 64 + u32(ctz(hitsHigh));
				hitsHigh &= hitsHigh - 1;
			}
			if (!straddles(slot, n, shift, boundarySlots)) return slot - areaBase;
		}
		segment++;
	}
	return NONE;
}

/** The walk for masks without a closed form: candidate by candidate. Parameters as in searchArea. */
function walkArea(
	pool: usize,
	index: u32,
	areaBase: u32,
	areaSlots: u32,
	orig: u64,
	n: u32,
	alignMask: u32,
	origMask: u32,
	stride: u32,
	table: u32,
	shift: u64,
	boundarySlots: u64,
): i32 {
	let at = index;
	let spent: u32 = 0;
	while (spent < areaSlots) {
		const slot = areaBase + at;
		const address = table + (slot << IO_TLB_SHIFT);
		let step: u32 = 1;
		if ((address & alignMask) === 0 && (orig === 0 || ((address ^ u32(orig)) & origMask) === 0)) {
			if (isFree(segmentOf(pool, slot), slot & 127, n) && !straddles(slot, n, shift, boundarySlots)) return at;
			step = stride;
		}
		at += step;
		if (at >= areaSlots) at = 0;
		spent += step;
	}
	return NONE;
}
