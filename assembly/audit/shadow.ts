/**
 * Labels of ranges. Beside each byte's label, every 2 KiB of RAM have a word: the label of all of them, or MIXED. While a word names a
 * label the bytes behind it say nothing; they are written when they are needed. So whole 2 KiB are moved and counted by their word.
 */
import { MIXED } from "../layout/audit.ts";
import { IO_TLB_SIZE } from "../layout/pool.ts";
import { shadowOf, uniformOf, unitOffset } from "./block.ts";
import { countLabels, countResidue, countRun, residueRun, runOf, startCount } from "./labels.ts";

/** Bytes from `ptr` to the end of its 2 KiB, at most n. */
function inUnit(ptr: usize, n: u32): u32 {
	return min<u32>(n, IO_TLB_SIZE - unitOffset(ptr));
}

/** The label of one byte of RAM. */
export function labelOf(ptr: usize): u32 {
	const label = u32(load<u16>(uniformOf(ptr)));
	return label !== MIXED ? label : u32(load<u8>(shadowOf(ptr)));
}

/** The label of all n > 0 bytes at `ptr`, or MIXED. */
function labelOfRange(ptr: usize, n: u32): u32 {
	const label = u32(load<u16>(uniformOf(ptr)));
	for (let at = inUnit(ptr, n); at < n; at += IO_TLB_SIZE) {
		if (u32(load<u16>(uniformOf(ptr + at))) !== label) return MIXED;
	}
	return label;
}

/** Writes the labels of the 2 KiB around `ptr` byte by byte, if they stand in their word. */
function spellOut(ptr: usize): void {
	const label = load<u16>(uniformOf(ptr));
	if (label === u16(MIXED)) return;
	memory.fill(shadowOf(ptr) - unitOffset(ptr), u8(label), IO_TLB_SIZE);
	store<u16>(uniformOf(ptr), u16(MIXED));
}

/** spellOut for all n > 0 bytes at `ptr`. */
function spellOutRange(ptr: usize, n: u32): void {
	spellOut(ptr);
	for (let at = inUnit(ptr, n); at < n; at += IO_TLB_SIZE) spellOut(ptr + at);
}

/** Gives all n > 0 bytes at `ptr` one label. */
export function labelRange(ptr: usize, n: u32, label: u32): void {
	while (n > 0) {
		const here = inUnit(ptr, n);
		const word = uniformOf(ptr);
		if (here === IO_TLB_SIZE) store<u16>(word, u16(label));
		else if (load<u16>(word) !== u16(label)) {
			spellOut(ptr);
			memory.fill(shadowOf(ptr), u8(label), here);
		}
		ptr += here;
		n -= here;
	}
}

/** Gives n > 0 bytes at `to` the labels of those at `from`; the ranges may overlap. */
export function copyLabels(to: usize, from: usize, n: u32): void {
	const label = labelOfRange(from, n);
	if (label !== MIXED) {
		labelRange(to, n, label);
		return;
	}
	spellOutRange(from, n);
	spellOutRange(to, n);
	memory.copy(shadowOf(to), shadowOf(from), n);
}

/** Counts n > 0 bytes as countLabels does, accepted owners' from 0 on. @returns bytes of private origin */
export function countRange(ptr: usize, n: u32, field: usize, second: usize): u32 {
	startCount();
	const sure = labelOfRange(ptr, n);
	if (sure !== MIXED) return countRun(sure, n, field, second);
	let counted: u32 = 0;
	while (n > 0) {
		const here = inUnit(ptr, n);
		const label = labelOf(ptr);
		const run = sureRun(ptr, here, label);
		counted += countRun(label, run, field, second);
		if (run < here) counted += countLabels(shadowOf(ptr + run), here - run, field, second);
		ptr += here;
		n -= here;
	}
	return counted;
}

/** Counts what stayed in the 2 KiB at `slot`, which were freed at `since` and are taken now. */
export function countSlot(slot: usize, since: f64): void {
	const label = labelOf(slot);
	const run = sureRun(slot, IO_TLB_SIZE, label);
	residueRun(label, run, since);
	if (run < IO_TLB_SIZE) countResidue(shadowOf(slot + run), IO_TLB_SIZE - run, since);
}

/** Bytes from `ptr`, at most n of its 2 KiB, that have its label. One label for all 2 KiB goes into their word. */
function sureRun(ptr: usize, n: u32, label: u32): u32 {
	if (load<u16>(uniformOf(ptr)) !== u16(MIXED)) return n;
	const run = runOf(shadowOf(ptr), n, label);
	if (run === IO_TLB_SIZE) store<u16>(uniformOf(ptr), u16(label));
	return run;
}
