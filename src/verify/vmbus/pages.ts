/** Guest pages of a replay: as the recorder's, with conversions that fail on demand and leave nothing of the contents. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { Engine } from "../../engine.ts";
import type { GuestPages } from "../../synic/guest-pages.ts";
import type { Gpa } from "../../types.ts";
import type { EnginePages } from "../../vmbus/guest/pages.ts";
import type { Expected } from "./expect.ts";

/** What the recorder leaves in converted pages. */
const DECRYPTED_BYTE = 0xdc;
const ENCRYPTED_BYTE = 0xec;
/** No conversion is to fail. */
const NEVER = -1;

export class ReplayPages implements GuestPages {
	readonly #engine: Engine;
	readonly #pages: EnginePages;
	readonly #expected: Expected;
	/** Conversions that still work before one fails. */
	#untilFailure = { DECRYPT: NEVER, ENCRYPT: NEVER };

	constructor(engine: Engine, pages: EnginePages, expected: Expected) {
		this.#engine = engine;
		this.#pages = pages;
		this.#expected = expected;
	}

	/** Lets a conversion fail. @param after conversions that still work before it */
	fail(verb: "DECRYPT" | "ENCRYPT", after: number): void {
		this.#untilFailure[verb] = after;
	}

	alloc(pages: number, purpose: string): number {
		return this.#pages.alloc(pages, purpose);
	}

	free(gpa: Gpa, pages: number): void {
		this.#pages.free(gpa, pages);
	}

	leak(gpa: Gpa, pages: number): void {
		this.#pages.leak(gpa, pages);
	}

	#convert(verb: "DECRYPT" | "ENCRYPT", gpa: Gpa, pages: number, convert: () => boolean): boolean {
		const left = this.#untilFailure[verb];
		if (left !== NEVER) this.#untilFailure[verb]--;
		const done = left !== 0 && convert();
		this.#expected.convert(verb, pages, done);
		if (done) this.#engine.ram.fill(gpa, pages * PAGE_SIZE, verb === "DECRYPT" ? DECRYPTED_BYTE : ENCRYPTED_BYTE);
		return done;
	}

	decrypt(gpa: Gpa, pages: number): boolean {
		return this.#convert("DECRYPT", gpa, pages, () => this.#pages.decrypt(gpa, pages));
	}

	encrypt(gpa: Gpa, pages: number): boolean {
		return this.#convert("ENCRYPT", gpa, pages, () => this.#pages.encrypt(gpa, pages));
	}
}
