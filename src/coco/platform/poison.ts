/** Lines of private RAM that no longer pass their integrity check. */
import type { Gpa } from "../../types.ts";

/** Bytes that a memory controller checks, and a processor caches, as one. */
const LINE_BYTES = 64;

/**
 * Cache lines that somebody without the key has written: a party that reads one through Parties finds out. Ram.read, stray
 * reads and the engine's bounce copies do not ask here; a guest that is to notice reads through Parties.guest.
 */
export class PoisonedLines {
	readonly #lines = new Set<number>();

	/** Poisons every line that a range touches. */
	add(gpa: Gpa, bytes: number): void {
		for (let line = Math.floor(gpa / LINE_BYTES); line * LINE_BYTES < gpa + bytes; line++) this.#lines.add(line);
	}

	/** Heals the lines that a range covers whole: they were written anew. */
	remove(gpa: Gpa, bytes: number): void {
		if (this.#lines.size === 0) return;
		const end = Math.floor((gpa + bytes) / LINE_BYTES);
		for (let line = Math.ceil(gpa / LINE_BYTES); line < end; line++) this.#lines.delete(line);
	}

	/** gpa of the first poisoned line that a range touches, or -1. */
	firstIn(gpa: Gpa, bytes: number): Gpa {
		if (this.#lines.size === 0) return -1;
		for (let line = Math.floor(gpa / LINE_BYTES); line * LINE_BYTES < gpa + bytes; line++)
			if (this.#lines.has(line)) return line * LINE_BYTES;
		return -1;
	}

	/** First poisoned line that a write of a range covers only in part, and so has to read; or -1. */
	firstPartlyIn(gpa: Gpa, bytes: number): Gpa {
		const head = Math.floor(gpa / LINE_BYTES) * LINE_BYTES;
		const tail = Math.floor((gpa + bytes - 1) / LINE_BYTES) * LINE_BYTES;
		if (gpa !== head && this.firstIn(head, 1) >= 0) return head;
		if (gpa + bytes !== tail + LINE_BYTES && this.firstIn(tail, 1) >= 0) return tail;
		return -1;
	}
}
