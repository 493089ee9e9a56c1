/** The pages that a guest sets aside for its SynIC and hypercalls, and in what state. Linux 6.12 drivers/hv/hv.c */
import type { SynicMemory } from "./memory.ts";
import {
	hasPostPages,
	isHardwareIsolated,
	MODES,
	type Platform,
	type SynicMode,
	sharesInputPages,
	sharesSynicPages,
} from "./modes.ts";

/** Where pages come from, and how they change state; false: it failed, and the pages may never be used again. */
export interface SynicPages {
	/** @returns a gpa (multiple of 4096), or -1 */
	alloc(pages: number, purpose: string): number;
	free(gpa: number, pages: number): void;
	decrypt(gpa: number, pages: number): boolean;
	encrypt(gpa: number, pages: number): boolean;
	/** Takes pages out of use for good. */
	leak(gpa: number, pages: number): void;
}

/** How taking pages ended. */
export type PagesStatus = "ok" | "no-memory" | "conversion-failed";

interface Page {
	gpa: number;
	shared: boolean;
}

/** One processor's pages; gpa -1: none. */
export interface ProcessorPages {
	readonly input: Page;
	readonly post: Page;
	readonly message: Page;
	readonly event: Page;
}
const none = (): Page => ({ gpa: -1, shared: false });

export class GuestSynicPages {
	readonly #pages: SynicPages;
	readonly #memory: SynicMemory;
	readonly #platform: Platform;
	readonly #mode: SynicMode;
	readonly vps: readonly ProcessorPages[];

	constructor(pages: SynicPages, memory: SynicMemory, platform: Platform, mode: SynicMode, vps: number) {
		this.#pages = pages;
		this.#memory = memory;
		this.#platform = platform;
		this.#mode = mode;
		this.vps = Array.from({ length: vps }, () => ({ input: none(), post: none(), message: none(), event: none() }));
	}

	/** The hypercall input pages, made once and kept. */
	takeInputPages(): PagesStatus {
		const shared = sharesInputPages(this.#platform);
		return this.#each(({ input }) => this.#take([input], "hypercall input", shared));
	}

	/** The pages of the SynIC; after a failure all are given back, or leaked. */
	take(): PagesStatus {
		const platform = this.#platform;
		const sharesPost = this.#mode !== "confidential" && isHardwareIsolated(platform);
		const status = this.#each(({ post, message, event }) => {
			const taken = hasPostPages(platform) ? this.#take([post], "post message", sharesPost) : "ok";
			if (taken !== "ok" || MODES[this.#mode].ownPages === null) return taken;
			return this.#take([message, event], "SynIC", sharesSynicPages(platform, this.#mode));
		});
		if (status !== "ok") this.giveBack();
		return status;
	}

	/** Does something for each processor, up to the first failure. */
	#each(take: (pages: ProcessorPages) => PagesStatus): PagesStatus {
		for (const pages of this.vps) {
			const status = take(pages);
			if (status !== "ok") return status;
		}
		return "ok";
	}

	/** Gives back what take took, encrypted again; what cannot be encrypted is leaked. */
	giveBack(): void {
		for (const { post, message, event } of this.vps) {
			const taken = [post, message, event].filter(({ gpa }) => gpa >= 0);
			for (const page of taken) {
				if (page.shared && !this.#pages.encrypt(page.gpa, 1)) this.#leak(page);
			}
			for (const page of taken) {
				if (page.gpa >= 0) this.#pages.free(page.gpa, 1);
				Object.assign(page, none());
			}
		}
	}

	/** Takes pages, then shares them if need be, then zeroes them: a change of state leaves any bytes. */
	#take(pages: readonly Page[], purpose: string, shared: boolean): PagesStatus {
		for (const page of pages) {
			page.gpa = this.#pages.alloc(1, purpose);
			if (page.gpa < 0) return "no-memory";
		}
		for (const page of pages) {
			if (shared && !this.#pages.decrypt(page.gpa, 1)) {
				this.#leak(page);
				return "conversion-failed";
			}
			page.shared = shared;
		}
		for (const { gpa } of pages) this.#memory.page(gpa)?.fill(0);
		return "ok";
	}

	#leak(page: Page): void {
		this.#pages.leak(page.gpa, 1);
		Object.assign(page, none());
	}
}
