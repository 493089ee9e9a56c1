/** What the engine tells the audit. Every call stands behind COCO_AUDIT, and so in no other build. */
import {
	ACTOR_GUEST,
	ACTOR_HOST,
	AUDIT_ACTOR,
	AUDIT_EVENT_COUNT,
	AUDIT_MAPPING,
	AUDIT_MAPPINGS,
	AUDIT_MAX_EVENTS,
	AUDIT_MUTATIONS,
	AUDIT_NOW,
	AUDIT_PEN,
	AUDIT_SPAN_BYTES,
	AUDIT_SPAN_PTR,
	EVENT_ACCEPTED_BYTES,
	EVENT_ACCEPTED_LABEL,
	EVENT_ATTRS,
	EVENT_CONVERT,
	EVENT_COPY,
	EVENT_FILL,
	EVENT_HIDDEN_BYTES,
	EVENT_KIND,
	EVENT_MAP,
	EVENT_MAPPING,
	EVENT_READ,
	EVENT_SHARED_BYTES,
	EVENT_STATUS,
	EVENT_TAKE,
	EVENT_TO,
	EVENT_WRITE,
	LABEL_CONVERTED_BYTES,
	LABEL_GUEST,
	LABEL_HIDDEN_BYTES,
	LABEL_HOST,
	LABEL_INITIAL_BYTES,
	LABEL_SHARED_BYTES,
	MUTATE_INITIAL_COPY,
	MUTATE_LABELS,
} from "../layout/audit.ts";
import { PAGE_HIDDEN, PAGE_SHARED, PAGE_SHIFT, PAGE_SIZE } from "../layout/context.ts";
import { FROM_DEVICE } from "../layout/device.ts";
import { IO_TLB_SHIFT, IO_TLB_SIZE } from "../layout/pool.ts";
import { block, heldBy, inRam, mappingAt, NEVER, NO_RAM, pageBytesOf, spanOf, stateOf, unitOf } from "./block.ts";
import { acceptedCounted, acceptedFirst } from "./labels.ts";
import { describe, logEvent, setDirection } from "./log.ts";
import { copyLabels, countRange, countSlot, labelOf, labelRange } from "./shadow.ts";

/** ptr of the event of the call under way, 0: none; and its number. */
let call: usize = 0;
let callNumber: u64 = 0;
/** Whether that call is a map FROM_DEVICE. */
let initial: bool = false;

/** A call of a device's driver begins. address: a map's gpa, else the DMA address */
export function callBegins(kind: u32, device: i32, address: u64, bytes: u32, dir: i32, attrs: u32): void {
	const at = block();
	if (at === 0) return;
	let mapping: u32 = 0;
	if (kind === EVENT_MAP || kind === EVENT_TAKE) {
		mapping = load<u32>(at, AUDIT_MAPPINGS) + 1;
		store<u32>(at, mapping, AUDIT_MAPPINGS);
	}
	store<u32>(at, mapping, AUDIT_MAPPING);
	callNumber = load<u64>(at, AUDIT_EVENT_COUNT);
	call = logEvent(kind, device, mapping, -1, f64(address), bytes);
	initial = kind === EVENT_MAP && dir === FROM_DEVICE;
	setDirection(call, dir);
	store<u32>(call, attrs, EVENT_ATTRS);
}

/** It ends. answer: a status, or what it answered: a map's DMA address */
export function callEnds(answer: i64): void {
	if (call === 0) return;
	// a copy in many pieces may have filled the log since then
	if (load<u64>(block(), AUDIT_EVENT_COUNT) - callNumber > u64(load<u32>(block(), AUDIT_MAX_EVENTS))) call = 0;
	else if (answer < 0) store<i32>(call, i32(answer), EVENT_STATUS);
	else {
		const kind = load<u8>(call, EVENT_KIND);
		if (kind === u8(EVENT_MAP) || kind === u8(EVENT_TAKE)) store<f64>(call, f64(answer), EVENT_TO);
	}
	store<u32>(block(), 0, AUDIT_MAPPING);
	call = 0;
	initial = false;
}

/** The bounce mapping that a call turned out to be about. */
function callIsAbout(ptr: usize): void {
	if (call === 0 || load<u32>(block(), AUDIT_MAPPING) !== 0) return;
	const mapping = mappingAt(ptr);
	store<u32>(block(), mapping, AUDIT_MAPPING);
	store<u32>(call, mapping, EVENT_MAPPING);
}

/** Slots are taken, the first at `ptr`. */
export function slotsTaken(ptr: usize, n: u32): void {
	if (block() === 0) return;
	const holder = heldBy(load<u32>(block(), AUDIT_MAPPING));
	for (let i: u32 = 0; i < n; i++) {
		const slot = ptr + (i << IO_TLB_SHIFT);
		const unit = unitOf(slot);
		const since = load<f64>(unit);
		if (since >= 0 && load<u8>(stateOf(slot)) === u8(PAGE_SHARED)) countSlot(slot, since);
		store<f64>(unit, holder);
	}
}

/** Slots are given back; their bytes stay. */
export function slotsGiven(ptr: usize, n: u32): void {
	if (block() === 0) return;
	callIsAbout(ptr);
	const now = load<f64>(block(), AUDIT_NOW);
	for (let i: u32 = 0; i < n; i++) store<f64>(unitOf(ptr + (i << IO_TLB_SHIFT)), now);
}

/** Whether the copy that starts a mapping is left out: a fault that a test plants. */
export function leavesOutCopy(dir: i32): bool {
	if (block() === 0 || dir !== FROM_DEVICE) return false;
	return (load<u32>(block(), AUDIT_MUTATIONS) & MUTATE_INITIAL_COPY) !== 0;
}

/** n bytes were copied, by the engine inside RAM, or by somebody into or out of it. */
export function moved(to: usize, from: usize, n: u32): void {
	if (block() === 0 || n === 0) return;
	if (inRam(to)) {
		if (inRam(from)) copied(to, from, n);
		else written(to, n);
	} else if (inRam(from)) {
		const event = logEvent(EVENT_READ, load<i32>(block(), AUDIT_ACTOR), 0, -1, spanOf(from), n);
		describe(event, load<u8>(stateOf(from)), labelOf(from));
	}
}

function copied(to: usize, from: usize, n: u32): void {
	callIsAbout(to);
	callIsAbout(from);
	if ((load<u32>(block(), AUDIT_MUTATIONS) & MUTATE_LABELS) === 0) copyLabels(to, from, n);
	const event = logEvent(EVENT_COPY, ACTOR_GUEST, load<u32>(block(), AUDIT_MAPPING), spanOf(to), spanOf(from), n);
	arrived(event, to, n, initial ? LABEL_INITIAL_BYTES : 0);
}

function written(to: usize, n: u32): void {
	const actor = load<i32>(block(), AUDIT_ACTOR);
	let label = load<u32>(block(), AUDIT_PEN);
	const event = logEvent(EVENT_WRITE, actor, mappingAt(to), spanOf(to), -1, n);
	if (label !== 0) labelRange(to, n, label);
	else if (actor === ACTOR_HOST) labelRange(to, n, LABEL_HOST);
	else {
		for (let at = to; at < to + n; ) {
			const here = min<u32>(n - u32(at - to), PAGE_SIZE - (u32(at - pageOf(at)) & (PAGE_SIZE - 1)));
			label = load<u8>(stateOf(at)) === u8(PAGE_SHARED) ? 0 : LABEL_GUEST;
			labelRange(at, here, label);
			at += here;
		}
	}
	arrived(event, to, n, 0);
}

/** ptr of the first byte of the page of RAM that holds a byte. */
function pageOf(ptr: usize): usize {
	return ptr - (usize(spanOf(ptr)) & (PAGE_SIZE - 1));
}

/** Counts what an event brought to pages that others than the guest may read. second: as countLabels */
function arrived(event: usize, to: usize, n: u32, second: usize): void {
	describe(event, load<u8>(stateOf(to)), labelOf(to));
	while (n > 0) {
		const state = load<u8>(stateOf(to));
		const here = min<u32>(n, PAGE_SIZE - u32(to - pageOf(to)));
		readable(event, to, here, state, second);
		to += here;
		n -= here;
	}
}

/** Counts n bytes on a page, if its state is one that others may read. */
function readable(event: usize, at: usize, n: u32, state: u32, second: usize): void {
	if (state === PAGE_SHARED) {
		const bytes = countRange(at, n, LABEL_SHARED_BYTES, second);
		store<u32>(event, load<u32>(event, EVENT_SHARED_BYTES) + bytes, EVENT_SHARED_BYTES);
		store<u32>(pageBytesOf(at), load<u32>(pageBytesOf(at)) + bytes);
		if (acceptedCounted() === 0) return;
		const before = load<u32>(event, EVENT_ACCEPTED_BYTES);
		if (before === 0) store<u32>(event, acceptedFirst(), EVENT_ACCEPTED_LABEL);
		store<u32>(event, before + acceptedCounted(), EVENT_ACCEPTED_BYTES);
	} else if (state === PAGE_HIDDEN) {
		const bytes = countRange(at, n, LABEL_HIDDEN_BYTES, 0);
		store<u32>(event, load<u32>(event, EVENT_HIDDEN_BYTES) + bytes, EVENT_HIDDEN_BYTES);
	}
}

/** n bytes of RAM became a ring's own: indices, a packet's head, padding and trailer. Too many for the log. */
export function plainPut(ptr: usize, n: u32): void {
	if (block() !== 0 && inRam(ptr)) labelRange(ptr, n, 0);
}

/** Somebody wrote n bytes where they stand, without a copy. Outside RAM, as in a ring's own buffer, they are copied later. */
export function wroteInPlace(ptr: usize, n: u32): void {
	if (block() !== 0 && n !== 0 && inRam(ptr)) written(ptr, n);
}

/** n bytes became one constant: nothing is known by them. */
export function filled(ptr: usize, n: u32): void {
	if (block() === 0 || !inRam(ptr)) return;
	labelRange(ptr, n, 0);
	const event = logEvent(EVENT_FILL, load<i32>(block(), AUDIT_ACTOR), mappingAt(ptr), spanOf(ptr), -1, n);
	describe(event, load<u8>(stateOf(ptr)), 0);
}

/** Pages take a state, their contents as they are. */
export function pagesBecame(ptr: usize, n: u32, state: i32): void {
	if (block() === 0) return;
	const event = logEvent(EVENT_CONVERT, ACTOR_GUEST, 0, spanOf(ptr), -1, n << PAGE_SHIFT);
	describe(event, state, labelOf(ptr));
	for (let i: u32 = 0; i < n; i++) {
		const page = ptr + (i << PAGE_SHIFT);
		if (load<u8>(stateOf(page)) === u8(state)) continue;
		store<u8>(stateOf(page), u8(state));
		for (let unit: u32 = 0; unit < PAGE_SIZE; unit += IO_TLB_SIZE) {
			// converted pages are free slots no more
			if (load<f64>(unitOf(page + unit)) >= 0) store<f64>(unitOf(page + unit), NEVER);
		}
		readable(event, page, PAGE_SIZE, state, LABEL_CONVERTED_BYTES);
	}
}

/** A stretch is RAM. */
export function regionAdded(ptr: usize, bytes: u64): void {
	if (block() !== 0) memory.fill(stateOf(ptr), u8(PAGE_SHARED), usize(bytes >> PAGE_SHIFT));
}

/** RAM is sealed: every page is in one state. */
export function ramBecame(state: i32): void {
	if (block() === 0) return;
	const first = stateOf(load<u32>(block(), AUDIT_SPAN_PTR));
	const pages = load<u32>(block(), AUDIT_SPAN_BYTES) >> PAGE_SHIFT;
	for (let i: u32 = 0; i < pages; i++) if (load<u8>(first + i) !== NO_RAM) store<u8>(first + i, u8(state));
}
