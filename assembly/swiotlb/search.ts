/**
 * Linux's slot search on bitmaps: the same slot for the same request, found faster.
 *
 * Linux walks candidates one by one from the area's index (Linux 6.12 kernel/dma/swiotlb.c, swiotlb_search_pool_area).
 * Its walk has a closed form when the alignment masks are of the form 2^k - 1: the slots that pass the alignment test
 * are those of one residue modulo a period, and the walk visits an upper part [first, area end) and then a lower part
 * [lowest candidate, limit) of them. Each part is searched a segment at a time. Other masks take the plain walk.
 *
 * A search takes the request that stands in the area's record (layout/pool.ts, WANT_*); its caller holds the area's lock.
 */
import { DEVICE_SEG_BOUNDARY } from "../layout/device.ts";
import {
	AREA_FIRST,
	AREA_NSLABS,
	IO_TLB_SHIFT,
	SEGMENT_FREE,
	SEGMENT_FREE_HIGH,
	SEGMENT_SHIFT,
	WANT_ALIGN_MASK,
	WANT_BOUNDARY,
	WANT_ORIG,
	WANT_ORIG_MASK,
	WANT_SLOTS,
	WANT_START,
} from "../layout/pool.ts";
import { bitOf, minAlignMask, poolStart, segmentOf, segmentsOf, summaryOf } from "./record.ts";
import { everyPeriod, isFree, maskFromHigh, maskFromLow, startsHigh, startsLow } from "./segment.ts";
import { searchStart } from "./start.ts";

/** No slot. */
export const NONE: i32 = -1;

/** Longest masks of the closed form: a period of 128 slots, one candidate a segment. */
const CLOSED_BITS: u32 = 18;

/** Address of slot 0 as the search sees it: the pool's start under the segment boundary. */
function tableAddress(pool: usize, boundary: u64): u64 {
	return poolStart(pool) & boundary;
}

/** The table address in slots, rounded up. */
function tableShift(table: u64): u64 {
	return (table + ((1 << IO_TLB_SHIFT) - 1)) >> IO_TLB_SHIFT;
}

/**
 * Whether n slots from `slot` on straddle a segment boundary (Linux 6.12 include/linux/iommu-helper.h).
 * @param boundarySlots slots between two boundaries, less 1
 */
function straddles(slot: u32, n: u32, shift: u64, boundarySlots: u64): bool {
	return ((shift + slot) & boundarySlots) + n > boundarySlots + 1;
}

/** Whether the masks have the closed form, with at least a candidate a segment. mask: both */
function isClosed(alignMask: u32, mask: u32): bool {
	return (((alignMask + 1) & alignMask) | ((mask + 1) & mask) | (mask >> CLOSED_BITS)) === 0;
}

/** A slot of an area, not reduced, that passes the alignment test; the others are whole classes away. */
function residueOf(orig: u64, origMask: u32, table: u64, areaFirst: u32): u32 {
	const wanted = orig !== 0 ? u32(orig) & origMask : 0;
	return ((wanted - u32(table)) >> IO_TLB_SHIFT) - areaFirst;
}

/** Slots from one that passes the alignment test to the next. With orig 0 all that are aligned to alignMask pass. */
function classesOf(orig: u64, alignMask: u32, mask: u32): u32 {
	return ((orig !== 0 ? mask : alignMask) >> IO_TLB_SHIFT) + 1;
}

/**
 * Looks only at the first candidate of a request: most fit right where the last one ended. So the request is not yet in the
 * area's record, and comes as arguments: by way of the record a map took 2 % longer (bench slots, FIFO).
 * @returns the slot within the area, or NONE when search has to be asked
 */
export function probe(pool: usize, area: usize, device: usize, orig: u64, n: u32, alignMask: u32): i32 {
	const origMask = minAlignMask(device) & ~alignMask;
	const mask = alignMask | origMask;
	if (!isClosed(alignMask, mask)) return NONE;
	const boundary = load<u64>(device, DEVICE_SEG_BOUNDARY);
	const table = tableAddress(pool, boundary);
	const index = searchStart(area);
	const areaFirst = load<u32>(area, AREA_FIRST);
	const first =
		index + ((residueOf(orig, origMask, table, areaFirst) - index) & (classesOf(orig, alignMask, mask) - 1));
	const slot = areaFirst + first;
	return first < load<u32>(area, AREA_NSLABS) &&
		isFree(segmentOf(pool, slot), bitOf(slot), n) &&
		!straddles(slot, n, tableShift(table), boundary >> IO_TLB_SHIFT)
		? first
		: NONE;
}

/** Puts a request into an area's record. alignMask: low address bits that must be 0, never below 0x7ff */
export function want(area: usize, device: usize, orig: u64, n: u32, alignMask: u32): void {
	store<u32>(area, n, WANT_SLOTS);
	store<u32>(area, alignMask, WANT_ALIGN_MASK);
	store<u32>(area, minAlignMask(device) & ~alignMask, WANT_ORIG_MASK);
	store<u32>(area, searchStart(area), WANT_START);
	store<u64>(area, orig, WANT_ORIG);
	store<u64>(area, load<u64>(device, DEVICE_SEG_BOUNDARY), WANT_BOUNDARY);
}

/** The slot, within the area, that Linux would take for the request in the area's record, or NONE. */
export function search(pool: usize, area: usize): i32 {
	const alignMask = load<u32>(area, WANT_ALIGN_MASK);
	const origMask = load<u32>(area, WANT_ORIG_MASK);
	const orig = load<u64>(area, WANT_ORIG);
	const boundary = load<u64>(area, WANT_BOUNDARY);
	if (load<u32>(area, WANT_SLOTS) > (boundary >> IO_TLB_SHIFT) + 1) return NONE;
	const stride = (max(alignMask, origMask) >> IO_TLB_SHIFT) + 1;
	const mask = alignMask | origMask;
	if (!isClosed(alignMask, mask)) return walk(pool, area, stride);

	// with orig 0 more slots pass, but the walk still steps by the longer period
	const period = (mask >> IO_TLB_SHIFT) + 1;
	const classes = classesOf(orig, alignMask, mask);
	const residue = residueOf(orig, origMask, tableAddress(pool, boundary), load<u32>(area, AREA_FIRST));
	const slots = load<u32>(area, AREA_NSLABS);
	const index = load<u32>(area, WANT_START);
	const first = index + ((residue - index) & (classes - 1));
	let spent = slots - index;
	if (first < slots) {
		const upper = searchRange(pool, area, first, slots, period);
		if (upper !== NONE) return upper;
		const last = first + ((slots - 1 - first) & ~(period - 1));
		// Linux restarts at slot 0, not modulo, but has paid for the whole stride
		if (last + stride >= slots) spent = last - index + stride;
	}
	if (spent >= slots) return NONE;
	return searchRange(pool, area, residue & (classes - 1), slots - spent, period);
}

/** The lowest slot in [from, to) of from's residue modulo `period` at which the slots are free and no boundary is crossed. */
function searchRange(pool: usize, area: usize, from: u32, to: u32, period: u32): i32 {
	if (from >= to) return NONE;
	const n = load<u32>(area, WANT_SLOTS);
	const boundary = load<u64>(area, WANT_BOUNDARY);
	const boundarySlots = boundary >> IO_TLB_SHIFT;
	const shift = tableShift(tableAddress(pool, boundary));
	const areaFirst = load<u32>(area, AREA_FIRST);
	const segments = segmentsOf(pool);
	const summary = summaryOf(pool);
	const firstSegment = (areaFirst + from) >> 7;
	const lastSegment = (areaFirst + to - 1) >> 7;
	const wanted = i8x16.splat(i8(n));
	const phase = (areaFirst + from) & (period - 1);
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
			hitsLow &= maskFromLow(bitOf(areaFirst + from));
			hitsHigh &= maskFromHigh(bitOf(areaFirst + from));
		}
		if (segment === lastSegment) {
			const end = areaFirst + to - (segment << 7);
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
			if (!straddles(slot, n, shift, boundarySlots)) return slot - areaFirst;
		}
		segment++;
	}
	return NONE;
}

/** The walk for masks without a closed form: candidate by candidate. stride: slots that a candidate costs */
function walk(pool: usize, area: usize, stride: u32): i32 {
	const n = load<u32>(area, WANT_SLOTS);
	const alignMask = load<u32>(area, WANT_ALIGN_MASK);
	const origMask = load<u32>(area, WANT_ORIG_MASK);
	const orig = load<u64>(area, WANT_ORIG);
	const boundary = load<u64>(area, WANT_BOUNDARY);
	const table = tableAddress(pool, boundary);
	const slots = load<u32>(area, AREA_NSLABS);
	let at = load<u32>(area, WANT_START);
	let spent: u32 = 0;
	while (spent < slots) {
		const slot = load<u32>(area, AREA_FIRST) + at;
		const address = u32(table) + (slot << IO_TLB_SHIFT);
		let step: u32 = 1;
		if ((address & alignMask) === 0 && (orig === 0 || ((address ^ u32(orig)) & origMask) === 0)) {
			const free = isFree(segmentOf(pool, slot), bitOf(slot), n);
			if (free && !straddles(slot, n, tableShift(table), boundary >> IO_TLB_SHIFT)) return at;
			step = stride;
		}
		at += step;
		if (at >= slots) at = 0;
		spent += step;
	}
	return NONE;
}
