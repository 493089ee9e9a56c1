/** Labels of pages that left the guest's key with their contents scrambled: they come back where the same bytes do. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import type { Gpa } from "../types.ts";
import { uniformLabel } from "./runs.ts";

/** Bytes that a memory cipher changes as one: each comes back, or not, by itself. */
const BLOCK_BYTES = 16;

export class ScrambledLabels {
	readonly #pages = new Map<Gpa, { readonly labels: Uint8Array; readonly plain: Uint8Array }>();

	/** A page is about to be scrambled: its labels are kept, and what they are about. */
	left(page: Gpa, labels: Uint8Array, plain: Uint8Array): void {
		this.#pages.delete(page);
		if (uniformLabel(labels) !== 0) this.#pages.set(page, { labels: labels.slice(), plain: plain.slice() });
	}

	/** A page is under the key again, with `plain` in it. @returns its labels by then, a byte each */
	back(page: Gpa, plain: Uint8Array): Uint8Array {
		const labels = new Uint8Array(PAGE_SIZE);
		const kept = this.#pages.get(page);
		this.#pages.delete(page);
		for (let at = 0; kept !== undefined && at < PAGE_SIZE; at += BLOCK_BYTES) {
			const end = at + BLOCK_BYTES;
			let same = true;
			for (let i = at; same && i < end; i++) same = plain[i] === kept.plain[i];
			if (same) labels.set(kept.labels.subarray(at, end), at);
		}
		return labels;
	}
}
