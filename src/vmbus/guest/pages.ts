/** Guest pages: where they come from, and how the host gets and loses sight of them. */
import type { Engine } from "../../engine.ts";
import { PageState } from "../../memory/ram.ts";
import { DmaError } from "../../status.ts";
import type { GuestPages } from "../../synic/guest-pages.ts";

const PAGE_BYTES = 4096;

interface Run {
	readonly gpa: number;
	readonly pages: number;
}

/** Pages of an engine's RAM, first fit. Converted pages are zeroed, so that nothing private shows. */
export class EnginePages implements GuestPages {
	readonly #engine: Engine;
	#free: Run[];
	#used = 0;
	#leaked = 0;

	/**
	 * @param runs page-aligned stretches of RAM that are the guest side's own. Default: all RAM but page 0 and the bounce pools
	 * @throws RangeError for a run that is not page-aligned
	 */
	constructor(engine: Engine, runs: readonly { readonly gpa: number; readonly bytes: number }[] = unused(engine)) {
		this.#engine = engine;
		this.#free = runs.map(({ gpa, bytes }) => {
			if (!(gpa % PAGE_BYTES === 0 && bytes % PAGE_BYTES === 0 && gpa >= 0 && bytes > 0))
				throw new RangeError(`pages: gpa ${gpa} and ${bytes} bytes must be multiples of 4096`);
			return { gpa, pages: bytes / PAGE_BYTES };
		});
	}

	/** Pages in use, leaked ones not counted. */
	get used(): number {
		return this.#used;
	}

	/** Pages leaked so far. */
	get leaked(): number {
		return this.#leaked;
	}

	alloc(pages: number, _purpose: string): number {
		const at = this.#free.findIndex((run) => run.pages >= pages);
		const run = this.#free[at];
		if (run === undefined || pages < 1) return -1;
		const rest = { gpa: run.gpa + pages * PAGE_BYTES, pages: run.pages - pages };
		this.#free.splice(at, 1, ...(rest.pages > 0 ? [rest] : []));
		this.#used += pages;
		this.#engine.ram.fill(run.gpa, pages * PAGE_BYTES, 0);
		return run.gpa;
	}

	free(gpa: number, pages: number): void {
		this.#used -= pages;
		const next = this.#free.findIndex((run) => run.gpa > gpa);
		const at = next < 0 ? this.#free.length : next;
		this.#free.splice(at, 0, { gpa, pages });
		this.#join(at);
		this.#join(at - 1);
	}

	/** Makes one run of run `at` and the next, where they adjoin. */
	#join(at: number): void {
		const [run, next] = [this.#free[at], this.#free[at + 1]];
		if (run === undefined || next === undefined || run.gpa + run.pages * PAGE_BYTES !== next.gpa) return;
		this.#free.splice(at, 2, { gpa: run.gpa, pages: run.pages + next.pages });
	}

	#convert(gpa: number, pages: number, state: PageState): boolean {
		const { ram } = this.#engine;
		try {
			ram.fill(gpa, pages * PAGE_BYTES, 0);
			ram.convert(gpa, pages * PAGE_BYTES, state);
			return true;
		} catch (error) {
			if (error instanceof DmaError) return false;
			throw error;
		}
	}

	decrypt(gpa: number, pages: number): boolean {
		return this.#convert(gpa, pages, PageState.Shared);
	}

	encrypt(gpa: number, pages: number): boolean {
		return this.#convert(gpa, pages, PageState.Private);
	}

	leak(gpa: number, pages: number): void {
		this.#used -= pages;
		this.#leaked += pages;
		this.#engine.ram.convert(gpa, pages * PAGE_BYTES, PageState.Leaked);
	}
}

/** All RAM but page 0, which stands for "none" in messages, and the pools. */
function unused(engine: Engine): { gpa: number; bytes: number }[] {
	const taken = engine.pools.map((pool) => ({ gpa: pool.start, end: pool.start + pool.bytes }));
	let runs = engine.ram.regions.map(({ gpa, bytes }) => ({ gpa: Math.max(gpa, PAGE_BYTES), end: gpa + bytes }));
	for (const { gpa, end } of taken) {
		runs = runs.flatMap((run) => [
			{ gpa: run.gpa, end: Math.min(run.end, gpa) },
			{ gpa: Math.max(run.gpa, end), end: run.end },
		]);
	}
	return runs.filter((run) => run.end > run.gpa).map((run) => ({ gpa: run.gpa, bytes: run.end - run.gpa }));
}
