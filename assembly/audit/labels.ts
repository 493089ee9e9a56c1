/** Runs of equal labels, and what is counted of them. */
import {
	AUDIT_NOW,
	LABEL_ACCEPTED,
	LABEL_FLAGS,
	LABEL_PRIVATE,
	LABEL_RESIDUE_BYTE_NS,
	LABEL_RESIDUE_BYTES,
	LABEL_RESIDUE_MAX_NS,
} from "../layout/audit.ts";
import { block, labelAt } from "./block.ts";

/** Bytes from `at`, at most `n`, whose label is `label`. */
export function runOf(at: usize, n: u32, label: u32): u32 {
	const same = i8x16.splat(i8(label));
	let run: u32 = 0;
	while (run + 128 <= n) {
		const here = at + run;
		// equal to the label in all lanes, or not: one comparison for the eight
		const a = v128.and(i8x16.eq(v128.load(here), same), i8x16.eq(v128.load(here, 16), same));
		const b = v128.and(i8x16.eq(v128.load(here, 32), same), i8x16.eq(v128.load(here, 48), same));
		const c = v128.and(i8x16.eq(v128.load(here, 64), same), i8x16.eq(v128.load(here, 80), same));
		const d = v128.and(i8x16.eq(v128.load(here, 96), same), i8x16.eq(v128.load(here, 112), same));
		if (i8x16.bitmask(v128.and(v128.and(a, b), v128.and(c, d))) !== 0xffff) break;
		run += 128;
	}
	for (; run + 16 <= n; run += 16) {
		const equal = i8x16.bitmask(i8x16.eq(v128.load(at + run), same));
		if (equal !== 0xffff) return run + ctz(~equal);
	}
	while (run < n && load<u8>(at + run) === u8(label)) run++;
	return run;
}

/** Of what was counted since startCount: bytes of owners that were accepted, and the first of their labels. */
let acceptedBytes: u32 = 0;
let acceptedLabel: u32 = 0;

/** Accepted owners' bytes count from 0 again. */
export function startCount(): void {
	acceptedBytes = 0;
}

export function acceptedCounted(): u32 {
	return acceptedBytes;
}

export function acceptedFirst(): u32 {
	return acceptedLabel;
}

/**
 * Adds n bytes of a label of private origin to a u64 of the label's record, and perhaps to a second one.
 * @param field, second LABEL_*; second 0: none
 * @returns n, or 0 for a label of another origin
 */
export function countRun(label: u32, n: u32, field: usize, second: usize): u32 {
	const record = labelAt(label);
	const flags = load<u32>(record, LABEL_FLAGS);
	if ((flags & LABEL_PRIVATE) === 0) return 0;
	if ((flags & LABEL_ACCEPTED) !== 0) {
		if (acceptedBytes === 0) acceptedLabel = label;
		acceptedBytes += n;
	}
	store<u64>(record + field, load<u64>(record + field) + n);
	if (second !== 0) store<u64>(record + second, load<u64>(record + second) + n);
	return n;
}

/** countRun for each run of n labels at `at`. @returns bytes of private origin */
export function countLabels(at: usize, n: u32, field: usize, second: usize): u32 {
	let counted: u32 = 0;
	while (n > 0) {
		const label = load<u8>(at);
		const run = runOf(at, n, label);
		counted += countRun(label, run, field, second);
		at += run;
		n -= run;
	}
	return counted;
}

/** Counts n bytes of a label that stayed from `since` until now. */
export function residueRun(label: u32, n: u32, since: f64): void {
	const record = labelAt(label);
	if ((load<u32>(record, LABEL_FLAGS) & LABEL_PRIVATE) === 0) return;
	const ns = load<f64>(block(), AUDIT_NOW) - since;
	store<u64>(record, load<u64>(record, LABEL_RESIDUE_BYTES) + n, LABEL_RESIDUE_BYTES);
	store<f64>(record, load<f64>(record, LABEL_RESIDUE_BYTE_NS) + f64(n) * ns, LABEL_RESIDUE_BYTE_NS);
	store<f64>(record, max(ns, load<f64>(record, LABEL_RESIDUE_MAX_NS)), LABEL_RESIDUE_MAX_NS);
}

/** residueRun for each run of n labels at `at`. */
export function countResidue(at: usize, n: u32, since: f64): void {
	while (n > 0) {
		const label = load<u8>(at);
		const run = runOf(at, n, label);
		residueRun(label, run, since);
		at += run;
		n -= run;
	}
}
