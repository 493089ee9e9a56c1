/** Pages that a guest sets aside for its SynIC and hypercalls, some on each processor. Linux 6.12 drivers/hv/hv.c, hv_synic_alloc */
import type { Gpa } from "../types.ts";
import type { SynicMemory } from "./memory.ts";

/** What owns and converts the guest's pages. A conversion that answers false leaves them in an unknown state: leak, never free. */
export interface GuestPages {
	/** Takes `pages` zeroed, private pages in one run. @param purpose for people @returns their gpa, or -1 */
	alloc(pages: number, purpose: string): Gpa;
	/** Gives them back: none of them is shared with the host. */
	free(gpa: Gpa, pages: number): void;
	/** Makes them visible to the host; their contents are undefined after. @returns whether it worked */
	decrypt(gpa: Gpa, pages: number): boolean;
	/** Makes them private again; their contents are undefined after. @returns whether it worked */
	encrypt(gpa: Gpa, pages: number): boolean;
	/** Gives them up for good. */
	leak(gpa: Gpa, pages: number): void;
}

/** How taking pages ended. */
export type PagesStatus = "ok" | "no-memory" | "conversion-failed";

interface PagesOptions<Name extends string> {
	readonly pages: GuestPages;
	readonly memory: SynicMemory;
	/** Processors of the guest. */
	readonly vps: number;
	/** The pages of each, and what they are for. */
	readonly names: readonly Name[];
	/** Whether they are decrypted. */
	readonly shared: boolean;
}

interface Page {
	gpa: Gpa;
	shared: boolean;
}

export class PagesByProcessor<Name extends string> {
	readonly #options: PagesOptions<Name>;
	readonly #vps: Map<Name, Page>[];

	constructor(options: PagesOptions<Name>) {
		this.#options = options;
		this.#vps = Array.from({ length: options.vps }, () => new Map());
	}

	/** A page's gpa, or -1 when there is none. */
	gpa(vp: number, name: Name): Gpa {
		return this.#vps[vp]?.get(name)?.gpa ?? -1;
	}

	/** Takes all pages; after a failure all are given back, or leaked. */
	take(): PagesStatus {
		for (const taken of this.#vps) {
			const status = this.#takeSome(taken);
			if (status === "ok") continue;
			this.giveBack();
			return status;
		}
		return "ok";
	}

	/** Gives all pages back, encrypted again; what cannot be encrypted is leaked. */
	giveBack(): void {
		const { pages } = this.#options;
		for (const taken of this.#vps) {
			for (const [name, page] of taken) {
				if (page.shared && !pages.encrypt(page.gpa, 1)) this.#leak(taken, name, page);
			}
			for (const { gpa } of taken.values()) pages.free(gpa, 1);
			taken.clear();
		}
	}

	/** Takes a processor's pages, then shares them if need be, then zeroes them: a change of state leaves any bytes. */
	#takeSome(taken: Map<Name, Page>): PagesStatus {
		const { pages, memory, names, shared } = this.#options;
		for (const name of names) {
			const gpa = pages.alloc(1, name);
			if (gpa < 0) return "no-memory";
			taken.set(name, { gpa, shared: false });
		}
		for (const [name, page] of taken) {
			if (shared && !pages.decrypt(page.gpa, 1)) {
				this.#leak(taken, name, page);
				return "conversion-failed";
			}
			page.shared = shared;
		}
		for (const { gpa } of taken.values()) memory.page(gpa)?.fill(0);
		return "ok";
	}

	#leak(taken: Map<Name, Page>, name: Name, { gpa }: Page): void {
		this.#options.pages.leak(gpa, 1);
		taken.delete(name);
	}
}
