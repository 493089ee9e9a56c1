/** Loops over copy kernels. */

import { copy } from "../memory/copy.ts";
import { KERNEL_ENGINE, KERNEL_MEMORY_COPY } from "./layout.ts";

/** The plain vector loop: n a multiple of 16. */
function copyV128(to: usize, from: usize, n: u32): void {
	for (const end = from + n; from < end; from += 16) {
		v128.store(to, v128.load(from));
		to += 16;
	}
}

/**
 * Copies n bytes `ops` times, each time `step` bytes further on, around a window.
 * @param window bytes that the walk covers, 2^k; with step 0 the copies stay where they are
 * @param at offset of the first copy in the window
 * @returns offset of the next copy
 */
export function copyRun(kernel: i32, to: usize, from: usize, n: u32, step: u32, window: u32, at: u32, ops: u32): u32 {
	for (let i: u32 = 0; i < ops; i++) {
		if (kernel === KERNEL_ENGINE) copy(to + at, from + at, n);
		else if (kernel === KERNEL_MEMORY_COPY) memory.copy(to + at, from + at, n);
		else copyV128(to + at, from + at, n);
		at = (at + step) & (window - 1);
	}
	return at;
}
