/** The stretches of RAM that a recording touches, so that originals above 4 GiB need no RAM up to there. */

import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { InputError } from "../input-error.ts";
import type { Gpa } from "../types.ts";

/** Stretches closer than this become one (bytes). */
const JOIN_BYTES = 65536;
const MAX_BYTES = 3 * 2 ** 30;
const MAX_STRETCHES = 65536;

/** Collects ranges and answers the page-aligned stretches that cover them. */
export class TouchedStretches {
	readonly #ranges: { from: number; to: number }[] = [];

	/** Adds [gpa, gpa + bytes). */
	add(gpa: Gpa, bytes: number): void {
		this.#ranges.push({
			from: Math.floor(gpa / PAGE_SIZE) * PAGE_SIZE,
			to: Math.ceil((gpa + bytes) / PAGE_SIZE) * PAGE_SIZE,
		});
	}

	/** @throws InputError when together they are more than this engine can hold */
	stretches(file: string): { gpa: Gpa; bytes: number }[] {
		const merged: { from: number; to: number }[] = [];
		for (const range of [...this.#ranges].sort((a, b) => a.from - b.from)) {
			const last = merged.at(-1);
			if (last !== undefined && range.from <= last.to + JOIN_BYTES) last.to = Math.max(last.to, range.to);
			else merged.push({ ...range });
		}
		const bytes = merged.reduce((sum, { from, to }) => sum + to - from, 0);
		if (bytes > MAX_BYTES || merged.length > MAX_STRETCHES) {
			throw new InputError(
				`${file}: touches ${bytes} bytes of RAM in ${merged.length} stretches; at most ${MAX_BYTES} bytes in ${MAX_STRETCHES} can be held`,
			);
		}
		return merged.map(({ from, to }) => ({ gpa: from, bytes: to - from }));
	}
}
