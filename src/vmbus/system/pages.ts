/** The guest's pages, with what each is for and every change of state written down. */

import type { Engine } from "../../engine.ts";
import { pageStateName } from "../../memory/ram.ts";
import type { GuestPages } from "../../synic/guest-pages.ts";
import type { Gpa } from "../../types.ts";
import { EnginePages } from "../guest/pages.ts";
import type { PagesEvent, Recorder } from "./events.ts";

/** Pages in use, and what for. */
export interface PageRun {
	readonly gpa: Gpa;
	readonly pages: number;
	readonly purpose: string;
}

export class RecordedPages implements GuestPages {
	readonly #engine: Engine;
	readonly #pages: EnginePages;
	readonly #record: Recorder;
	readonly #runs = new Map<number, PageRun>();

	/** @param region where the guest's pages come from */
	constructor(engine: Engine, region: { readonly gpa: Gpa; readonly bytes: number }, record: Recorder) {
		this.#engine = engine;
		this.#pages = EnginePages.over(engine, [region]);
		this.#record = record;
	}

	/** What is in use, leaked pages too, by gpa. */
	get runs(): readonly PageRun[] {
		return [...this.#runs.values()].sort((a, b) => a.gpa - b.gpa);
	}

	/** Pages in use, leaked ones not counted. */
	get used(): number {
		return this.#pages.used;
	}

	get leaked(): number {
		return this.#pages.leaked;
	}

	alloc(pages: number, purpose: string): Gpa {
		const gpa = this.#pages.alloc(pages, purpose);
		if (gpa >= 0) this.#runs.set(gpa, { gpa, pages, purpose });
		return gpa;
	}

	free(gpa: Gpa, pages: number): void {
		this.#runs.delete(gpa);
		this.#pages.free(gpa, pages);
	}

	#stateOf(gpa: Gpa): string {
		return pageStateName(this.#engine.ram.pageState(gpa));
	}

	#change(change: PagesEvent["change"], gpa: Gpa, pages: number, run: () => boolean): boolean {
		const purpose = this.#runs.get(gpa)?.purpose ?? "unknown";
		const before = this.#stateOf(gpa);
		const done = run();
		const after = this.#stateOf(gpa);
		this.#record({ kind: "pages", from: "guest", change, gpa, pages, purpose, before, after, done });
		return done;
	}

	decrypt(gpa: Gpa, pages: number): boolean {
		return this.#change("decrypt", gpa, pages, () => this.#pages.decrypt(gpa, pages));
	}

	encrypt(gpa: Gpa, pages: number): boolean {
		return this.#change("encrypt", gpa, pages, () => this.#pages.encrypt(gpa, pages));
	}

	leak(gpa: Gpa, pages: number): void {
		this.#change("leak", gpa, pages, () => {
			this.#pages.leak(gpa, pages);
			return true;
		});
	}
}
