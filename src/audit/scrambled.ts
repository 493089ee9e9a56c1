/** Labels of pages that were converted with their contents scrambled: they come back where the ciphertext does. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { uniformLabel } from "./runs.ts";

/** Bytes that a memory cipher changes as one: each comes back, or not, by itself. */
const BLOCK_BYTES = 16;

export class ScrambledLabels {
	readonly #pages = new Map<number, { readonly labels: Uint8Array; readonly contents: Uint8Array }>();

	/** A page's contents became `contents` on leaving the key; its labels are kept. */
	left(page: number, labels: Uint8Array, contents: Uint8Array): void {
		this.#pages.delete(page);
		if (uniformLabel(labels) !== 0) this.#pages.set(page, { labels: labels.slice(), contents: contents.slice() });
	}

	/** A page comes back under the key with `contents` before decryption. @returns its labels by then, a byte each */
	back(page: number, contents: Uint8Array): Uint8Array {
		const labels = new Uint8Array(PAGE_SIZE);
		const kept = this.#pages.get(page);
		this.#pages.delete(page);
		for (let at = 0; kept !== undefined && at < PAGE_SIZE; at += BLOCK_BYTES) {
			const end = at + BLOCK_BYTES;
			const same = Buffer.compare(contents.subarray(at, end), kept.contents.subarray(at, end)) === 0;
			if (same) labels.set(kept.labels.subarray(at, end), at);
		}
		return labels;
	}
}
