import { pagesBecame, ramBecame } from "../audit/hooks.ts";
import {
	CTX_BLOCKED,
	CTX_CONVERSION_LOCK,
	CTX_NPAGES,
	CTX_PRIVATE,
	CTX_STATES,
	PAGE_IN_TRANSITION,
	PAGE_LEAKED,
	PAGE_PRIVATE,
	PAGE_SHARED,
	PAGE_SHIFT,
	PAGE_SIZE,
	pageBitmapBytes,
	RANGE_MIXED,
	RANGE_PRIVATE,
	RANGE_SHARED,
} from "../layout/context.ts";
import { BAD_ARGUMENT, BLOCKED_PAGES, CONTEXT_FULL, OK, OUTSIDE_RAM } from "../layout/status.ts";
import { context, ramPages, takeBlock } from "./context.ts";
import { lock, unlock } from "./lock.ts";
import { quiesce } from "./quiesce.ts";
import {
	rangeInRam,
	regionOf,
	regionPage,
	regionPtr,
	regionRemaining,
	regionsChanged,
	regionsNumberPages,
} from "./regions.ts";

/**
 * Ends the list of regions and gives each page a state.
 * @param state PAGE_SHARED or PAGE_PRIVATE: the state of every page at the start
 * @returns OK, BAD_ARGUMENT or CONTEXT_FULL
 */
export function ramSeal(state: i32): i32 {
	if (ramPages() !== 0 || (state !== PAGE_SHARED && state !== PAGE_PRIVATE)) return BAD_ARGUMENT;
	const pages = regionsNumberPages();
	if (pages === 0) return BAD_ARGUMENT;
	const privates = takeBlock(pageBitmapBytes(pages));
	const blocked = takeBlock(pageBitmapBytes(pages));
	const states = takeBlock(pages);
	if (privates === 0 || blocked === 0 || states === 0) return CONTEXT_FULL;
	store<u32>(context(), privates, CTX_PRIVATE);
	store<u32>(context(), blocked, CTX_BLOCKED);
	store<u32>(context(), states, CTX_STATES);
	store<u32>(context(), pages, CTX_NPAGES);
	setPages(0, pages, state);
	if (COCO_AUDIT) ramBecame(state);
	regionsChanged();
	return OK;
}

/** First 8 bytes of a page bitmap. */
function bitmap(which: usize): usize {
	return context() + load<u32>(context() + which);
}

/** Most pages whose bits one unaligned 64-bit load is sure to hold. */
const LOAD_PAGES: u32 = 57;

/** The bits of up to LOAD_PAGES pages, from bit 0. mask: as many ones */
function bitsAt(bits: usize, page: u32, mask: u64): u64 {
	return (load<u64>(bits + (page >> 3)) >> u64(page & 7)) & mask;
}

/**
 * What the bits [page, page + n) hold: RANGE_SHARED (none set), RANGE_PRIVATE (all set) or RANGE_MIXED.
 * Beyond LOAD_PAGES a word at a time.
 */
function bitsHold(bits: usize, page: u32, n: u32): i32 {
	if (n <= LOAD_PAGES) {
		const mask = u64.MAX_VALUE >> u64(64 - n);
		const word = bitsAt(bits, page, mask);
		return word === 0 ? RANGE_SHARED : word === mask ? RANGE_PRIVATE : RANGE_MIXED;
	}
	const first = bitsHold(bits, page, LOAD_PAGES);
	page += LOAD_PAGES;
	n -= LOAD_PAGES;
	const wanted: u64 = first === RANGE_PRIVATE ? u64.MAX_VALUE : 0;
	if (first === RANGE_MIXED) return RANGE_MIXED;
	// up to the next byte, then whole words
	const odd = min<u32>(n, (8 - (page & 7)) & 7);
	if (odd > 0 && bitsHold(bits, page, odd) !== first) return RANGE_MIXED;
	page += odd;
	n -= odd;
	let at = bits + (page >> 3);
	for (; n >= 64; n -= 64) {
		if (load<u64>(at) !== wanted) return RANGE_MIXED;
		at += 8;
	}
	page = u32(at - bits) << 3;
	for (; n > 0; ) {
		const here = min<u32>(n, LOAD_PAGES);
		if (bitsHold(bits, page, here) !== first) return RANGE_MIXED;
		page += here;
		n -= here;
	}
	return first;
}

/** Pages that [gpa, gpa + bytes) touches. bytes: below 2^43 */
function pagesTouched(gpa: u64, bytes: u64): u32 {
	return u32(((gpa & (PAGE_SIZE - 1)) + bytes + (PAGE_SIZE - 1)) >> PAGE_SHIFT);
}

/** What the pages of a range hold in one bitmap. The caller knows that the range is RAM. */
function rangeHolds(which: usize, gpa: u64, bytes: u64): i32 {
	const bits = bitmap(which);
	let holds = -1;
	while (true) {
		const region = regionOf(gpa);
		const here = min<u64>(regionRemaining(region, gpa), bytes);
		const part = bitsHold(bits, regionPage(region, gpa), pagesTouched(gpa, here));
		if (part === RANGE_MIXED || (holds !== -1 && part !== holds)) return RANGE_MIXED;
		if (here === bytes) return part;
		holds = part;
		gpa += here;
		bytes -= here;
	}
}

/**
 * Who can read the pages of a range.
 * @returns RANGE_PRIVATE, RANGE_SHARED, RANGE_MIXED, OUTSIDE_RAM or BLOCKED_PAGES
 */
export function rangeState(gpa: u64, bytes: u64): i32 {
	const region = regionOf(gpa);
	if (region === 0) return OUTSIDE_RAM;
	const pages = pagesTouched(gpa, bytes);
	if (pages > LOAD_PAGES) return longRangeState(gpa, bytes);
	if (regionRemaining(region, gpa) < bytes) return longRangeState(gpa, bytes);
	const page = regionPage(region, gpa);
	const mask = u64.MAX_VALUE >> u64(64 - pages);
	if (bitsAt(bitmap(CTX_BLOCKED), page, mask) !== 0) return BLOCKED_PAGES;
	const privates = bitsAt(bitmap(CTX_PRIVATE), page, mask);
	return privates === mask ? RANGE_PRIVATE : privates === 0 ? RANGE_SHARED : RANGE_MIXED;
}

/** rangeState of any range. */
function longRangeState(gpa: u64, bytes: u64): i32 {
	if (rangeInRam(gpa, bytes) !== OK) return OUTSIDE_RAM;
	if (rangeHolds(CTX_BLOCKED, gpa, bytes) !== RANGE_SHARED) return BLOCKED_PAGES;
	return rangeHolds(CTX_PRIVATE, gpa, bytes);
}

/** OK when the CPU may touch the whole range, else OUTSIDE_RAM or BLOCKED_PAGES. */
export function rangeUsable(gpa: u64, bytes: u64): i32 {
	const state = rangeState(gpa, bytes);
	return state < 0 ? state : OK;
}

/** Sets or clears bits [page, page + n). Words at the edges may be another worker's too, so they change atomically. */
function setBits(bits: usize, page: u32, n: u32, on: bool): void {
	while (n > 0) {
		const shift = page & 31;
		const here = min<u32>(n, 32 - shift);
		const mask = (u32.MAX_VALUE >> (32 - here)) << shift;
		const at = bits + ((page >> 5) << 2);
		if (COCO_THREADS) {
			if (on) atomic.or<u32>(at, mask);
			else atomic.and<u32>(at, ~mask);
		} else {
			const word = load<u32>(at);
			store<u32>(at, on ? word | mask : word & ~mask);
		}
		page += here;
		n -= here;
	}
}

/** What pages are comes before whether they are blocked: who finds them unblocked reads the new state. */
function setPages(page: u32, n: u32, state: i32): void {
	setBits(bitmap(CTX_PRIVATE), page, n, state === PAGE_PRIVATE);
	setBits(bitmap(CTX_BLOCKED), page, n, state === PAGE_IN_TRANSITION || state === PAGE_LEAKED);
	memory.fill(bitmap(CTX_STATES) + page, u8(state), n);
}

/** State of the page that holds `gpa`, or OUTSIDE_RAM. */
export function pageState(gpa: u64): i32 {
	const region = regionOf(gpa);
	return region === 0 ? OUTSIDE_RAM : load<u8>(bitmap(CTX_STATES) + regionPage(region, gpa));
}

/**
 * Gives every page of a range a state. A leaked page stays leaked. Calls that are under way in other workers end first;
 * those that come meanwhile find the pages in transition.
 * @param gpa multiple of 4096
 * @param bytes multiple of 4096, above 0
 * @returns OK, BAD_ARGUMENT, OUTSIDE_RAM, or BLOCKED_PAGES when a page is leaked; then nothing has changed
 */
export function rangeSetState(gpa: u64, bytes: u64, state: i32): i32 {
	if (((gpa | bytes) & (PAGE_SIZE - 1)) !== 0 || bytes === 0 || u32(state) > u32(PAGE_LEAKED)) return BAD_ARGUMENT;
	if (rangeInRam(gpa, bytes) !== OK) return OUTSIDE_RAM;
	lock(context() + CTX_CONVERSION_LOCK);
	const status = rangeLeaked(gpa, bytes) ? BLOCKED_PAGES : OK;
	if (status === OK) {
		if (COCO_THREADS) {
			blockRange(gpa, bytes);
			quiesce();
		}
		setRange(gpa, bytes, state);
	}
	unlock(context() + CTX_CONVERSION_LOCK);
	return status;
}

function rangeLeaked(gpa: u64, bytes: u64): bool {
	for (let at = gpa; at < gpa + bytes; at += PAGE_SIZE) {
		if (pageState(at) === PAGE_LEAKED) return true;
	}
	return false;
}

/** Blocks a range and leaves what its pages are: a call under way may have found it unblocked, and asks for that next. */
function blockRange(gpa: u64, bytes: u64): void {
	while (bytes > 0) {
		const region = regionOf(gpa);
		const here = min<u64>(regionRemaining(region, gpa), bytes);
		setBits(bitmap(CTX_BLOCKED), regionPage(region, gpa), u32(here >> PAGE_SHIFT), true);
		gpa += here;
		bytes -= here;
	}
}

function setRange(gpa: u64, bytes: u64, state: i32): void {
	while (bytes > 0) {
		const region = regionOf(gpa);
		const here = min<u64>(regionRemaining(region, gpa), bytes);
		setPages(regionPage(region, gpa), u32(here >> PAGE_SHIFT), state);
		if (COCO_AUDIT) pagesBecame(regionPtr(region, gpa), u32(here >> PAGE_SHIFT), state);
		gpa += here;
		bytes -= here;
	}
}

/** Pages of RAM in a state. */
export function pagesInState(state: i32): u32 {
	const states = bitmap(CTX_STATES);
	const pages = ramPages();
	let count: u32 = 0;
	for (let i: u32 = 0; i < pages; i++) count += u32(load<u8>(states + i) === u8(state));
	return count;
}
