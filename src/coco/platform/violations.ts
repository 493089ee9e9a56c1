/** Accesses that a party had no right to, by name. */

import { hex } from "../../status.ts";
import type { DmaAddr, Gpa } from "../../types.ts";

/** Who touches memory. A device has its number in the engine. */
export type PartyName = "guest" | "paravisor" | "host" | `device ${number}`;

/**
 * The rule that an access broke. private-page: the page is not for this party. hidden-page: the host does not map it.
 * wrong-encoding: the DMA address has the form of the other kind of page. corrupted-line: what stands there was written
 * by somebody without the key. in-transition-page, leaked-page, outside-ram: nobody can use the address.
 */
export type ViolationName =
	| "private-page"
	| "hidden-page"
	| "wrong-encoding"
	| "corrupted-line"
	| "in-transition-page"
	| "leaked-page"
	| "outside-ram";

/**
 * What the access came to. ciphertext, zeros: what a read got of a private page. garbage: shared bytes seen through the
 * key. corruption: a write that the guest's next read meets. fault, refused: a read, or a write, that did not happen.
 */
export type AccessResult = "ciphertext" | "zeros" | "garbage" | "corruption" | "fault" | "refused";

export interface Violation {
	readonly who: PartyName;
	/** Number of the device that it is, or null: it is none. */
	readonly device: number | null;
	readonly access: "read" | "write";
	readonly what: ViolationName;
	readonly result: AccessResult;
	/** First byte concerned, and how many. */
	readonly gpa: Gpa;
	readonly bytes: number;
	/** The address as a device was given it; for other parties gpa. */
	readonly address: Gpa | DmaAddr;
}

/** Thrown by an access that did not happen. */
export class AccessFault extends Error {
	override readonly name = "AccessFault";
	readonly violation: Violation;

	/** @param barrier what stopped the access */
	constructor(violation: Violation, barrier: string) {
		const { who, access, what, result, gpa, bytes, address } = violation;
		const place = address === gpa ? "" : `, address ${hex(address)}`;
		super(`${who}: ${access} of ${bytes} bytes at gpa ${hex(gpa)}${place}: ${what}: ${result} (${barrier})`);
		this.violation = violation;
	}
}

/** Violations in the order in which they happened. */
export class ViolationLog {
	readonly #kept: Violation[] = [];
	readonly #keep: number;
	#total = 0;
	/** Called for each violation. */
	onRecord: ((violation: Violation) => void) | null = null;

	/** keep: how many of the latest stay in the list. @throws RangeError for less than 0 or no whole number */
	constructor(keep: number) {
		if (!Number.isSafeInteger(keep) || keep < 0)
			throw new RangeError(`a log keeps a whole number of violations from 0, not ${keep}`);
		this.#keep = keep;
	}

	/** The latest, the oldest of them first. */
	get list(): readonly Violation[] {
		return this.#kept;
	}

	/** All that ever happened. */
	get total(): number {
		return this.#total;
	}

	record(violation: Violation): void {
		this.#total++;
		this.#kept.push(violation);
		if (this.#kept.length > this.#keep) this.#kept.shift();
		this.onRecord?.(violation);
	}
}
