/** Where the audit's memory lies, and what RAM is in it. */
import {
	ACTOR_GUEST,
	AUDIT_ACTOR,
	AUDIT_EVENTS,
	AUDIT_FREED,
	AUDIT_HEADER_BYTES,
	AUDIT_LABELS,
	AUDIT_MAX_EVENTS,
	AUDIT_PAGE_BYTES,
	AUDIT_SHADOW,
	AUDIT_SPAN_BYTES,
	AUDIT_SPAN_PTR,
	AUDIT_STATES,
	AUDIT_UNIFORM,
	auditBytes,
	EVENT_RECORD_BYTES,
	LABEL_BYTES,
} from "../layout/audit.ts";
import { alignBlock, CONTEXT_ALIGN, PAGE_SHIFT, PAGE_SIZE } from "../layout/context.ts";
import { IO_TLB_SHIFT, IO_TLB_SIZE } from "../layout/pool.ts";
import { BAD_ARGUMENT, CONTEXT_FULL, OK } from "../layout/status.ts";

/** ptr of the block; 0: this instance audits nothing. */
let base: usize = 0;
/** The span, and what ptrs in it are added to: copies of the header's fields, which do not change. */
let spanPtr: usize = 0;
let spanBytes: u32 = 0;
let shadowDelta: usize = 0;
let statesPtr: usize = 0;
let unitsPtr: usize = 0;
let pageBytesPtr: usize = 0;
let uniformPtr: usize = 0;

/** ptr of the block, or 0. */
export function block(): usize {
	return base;
}

/** State of a page of the span that is no RAM: what lies between two regions. */
export const NO_RAM: u8 = 0xff;

/** Whether a ptr lies in RAM. */
export function inRam(ptr: usize): bool {
	return u32(ptr - spanPtr) < spanBytes && load<u8>(stateOf(ptr)) !== NO_RAM;
}

/** Span offset of a ptr as an event holds it, or -1 outside RAM. */
export function spanOf(ptr: usize): f64 {
	return inRam(ptr) ? f64(u32(ptr - spanPtr)) : -1;
}

/** ptr of the label of a byte of RAM. */
export function shadowOf(ptr: usize): usize {
	return ptr + shadowDelta;
}

/** ptr of the state of the page of RAM that holds a byte. */
export function stateOf(ptr: usize): usize {
	return statesPtr + ((ptr - spanPtr) >> PAGE_SHIFT);
}

/** ptr of the u32 that counts what the page of RAM that holds a byte ever got while it was shared. */
export function pageBytesOf(ptr: usize): usize {
	return pageBytesPtr + (((ptr - spanPtr) >> PAGE_SHIFT) << 2);
}

/** ptr of the f64 of the 2 KiB of RAM that hold a byte: when they were freed as a slot, or who has them. */
export function unitOf(ptr: usize): usize {
	return unitsPtr + (((ptr - spanPtr) >> IO_TLB_SHIFT) << 3);
}

/** ptr of the u16 of the 2 KiB of RAM that hold a byte: their one label, or MIXED. */
export function uniformOf(ptr: usize): usize {
	return uniformPtr + (((ptr - spanPtr) >> IO_TLB_SHIFT) << 1);
}

/** Offset of a byte of RAM in its 2 KiB. */
export function unitOffset(ptr: usize): u32 {
	return u32(ptr - spanPtr) & (IO_TLB_SIZE - 1);
}

/** ptr of a label's record. */
export function labelAt(label: u32): usize {
	return base + AUDIT_HEADER_BYTES + label * LABEL_BYTES;
}

/** In a unit: nobody has had it as a slot. */
export const NEVER: f64 = -1;

/** What a unit holds while a mapping has it. */
export function heldBy(mapping: u32): f64 {
	return NEVER - f64(mapping);
}

/** Number of the mapping that has the 2 KiB of a byte of RAM, or 0. */
export function mappingAt(ptr: usize): u32 {
	const unit = load<f64>(unitOf(ptr));
	return unit < NEVER ? u32(NEVER - unit) : 0;
}

/**
 * Lays the audit's block down and attaches this instance to it. It comes before the first ramAddRegion.
 * @param ptr a multiple of 64, `bytes` of room there
 * @param span ptr of the first byte of RAM; ptrs of all regions are a multiple of 4096 from it
 * @param length bytes to the end of the last region, a multiple of 4096
 * @param maxEvents a power of two, 16 or more
 * @returns OK, BAD_ARGUMENT or CONTEXT_FULL
 */
export function auditInit(ptr: usize, bytes: u32, span: usize, length: u32, maxEvents: u32): i32 {
	if (
		((ptr & (CONTEXT_ALIGN - 1)) | (length & (PAGE_SIZE - 1))) !== 0 ||
		length === 0 ||
		maxEvents < 16 ||
		(maxEvents & (maxEvents - 1)) !== 0
	)
		return BAD_ARGUMENT;
	if (bytes < auditBytes(length, maxEvents)) return CONTEXT_FULL;
	memory.fill(ptr, 0, AUDIT_HEADER_BYTES + AUDIT_LABELS * LABEL_BYTES);
	store<u32>(ptr, u32(span), AUDIT_SPAN_PTR);
	store<u32>(ptr, length, AUDIT_SPAN_BYTES);
	store<u32>(ptr, maxEvents, AUDIT_MAX_EVENTS);
	store<i32>(ptr, ACTOR_GUEST, AUDIT_ACTOR);
	let next = AUDIT_HEADER_BYTES + AUDIT_LABELS * LABEL_BYTES;
	store<u32>(ptr, next, AUDIT_STATES);
	memory.fill(ptr + next, NO_RAM, length >> PAGE_SHIFT);
	next += alignBlock(length >> PAGE_SHIFT);
	store<u32>(ptr, next, AUDIT_PAGE_BYTES);
	memory.fill(ptr + next, 0, (length >> PAGE_SHIFT) << 2);
	next += alignBlock((length >> PAGE_SHIFT) << 2);
	store<u32>(ptr, next, AUDIT_FREED);
	const units = length >> IO_TLB_SHIFT;
	for (let i: u32 = 0; i < units; i++) store<f64>(ptr + next + (i << 3), NEVER);
	next += alignBlock(units << 3);
	store<u32>(ptr, next, AUDIT_EVENTS);
	next += alignBlock(maxEvents * EVENT_RECORD_BYTES);
	store<u32>(ptr, next, AUDIT_UNIFORM);
	memory.fill(ptr + next, 0, units << 1);
	next += alignBlock(units << 1);
	store<u32>(ptr, next, AUDIT_SHADOW);
	base = ptr;
	spanPtr = span;
	spanBytes = length;
	shadowDelta = ptr + next - span;
	pageBytesPtr = ptr + load<u32>(ptr, AUDIT_PAGE_BYTES);
	statesPtr = ptr + load<u32>(ptr, AUDIT_STATES);
	unitsPtr = ptr + load<u32>(ptr, AUDIT_FREED);
	uniformPtr = ptr + load<u32>(ptr, AUDIT_UNIFORM);
	return OK;
}
