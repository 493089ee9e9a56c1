/** The pages in which a guest's hypercalls pass their input. Linux 6.12 drivers/hv/hv_common.c, hv_common_cpu_init; drivers/hv/hv.c, hv_synic_alloc */
import type { Ram } from "../memory/ram.ts";
import type { Gpa } from "../types.ts";
import { type GuestPages, PagesByProcessor, type PagesStatus } from "./guest-pages.ts";
import { memoryOf, type SynicMemory } from "./memory.ts";
import { hasPostPages, type SynicPlatform, sharesInputPages } from "./modes.ts";

interface CallPagesOptions {
	readonly platform: SynicPlatform;
	/** Processors of the guest. */
	readonly vps: number;
	readonly ram: Ram;
	readonly pages: GuestPages;
}

/** Of each processor: a page for every call and, in a TDX guest with a paravisor, another one for messages. */
export class CallPages {
	readonly #options: CallPagesOptions;
	readonly #memory: SynicMemory;
	readonly #inputs: PagesByProcessor<"hypercall input">;
	/** They end in the state in which they were made. */
	#posts: PagesByProcessor<"post message"> | null = null;

	constructor(options: CallPagesOptions) {
		const { platform, vps, ram, pages } = options;
		this.#options = options;
		this.#memory = memoryOf(ram, "guest", platform.sharedGpaBoundary);
		const shared = sharesInputPages(platform);
		this.#inputs = new PagesByProcessor({ pages, memory: this.#memory, vps, names: ["hypercall input"], shared });
	}

	/** Makes the pages for every call, which without a paravisor the host must see. */
	takeInputs(): PagesStatus {
		return this.#inputs.take();
	}

	giveInputsBack(): void {
		this.#inputs.giveBack();
	}

	/** Makes the pages for messages where the platform has them. @param confidential whether they stay private */
	takePosts(confidential: boolean): PagesStatus {
		const { platform, vps, pages } = this.#options;
		if (!hasPostPages(platform)) return "ok";
		const shared = !confidential;
		this.#posts = new PagesByProcessor({ pages, memory: this.#memory, vps, names: ["post message"], shared });
		return this.#posts.take();
	}

	givePostsBack(): void {
		this.#posts?.giveBack();
		this.#posts = null;
	}

	/** The page that a processor's messages pass in (gpa), or -1 when the guest has none. */
	gpa(vp: number): Gpa {
		const post = this.#posts?.gpa(vp, "post message") ?? -1;
		return post >= 0 ? post : this.#inputs.gpa(vp, "hypercall input");
	}

	/** Puts the input of a message into the page for it. @returns its gpa, or -1 without a page */
	place(vp: number, block: Uint8Array): Gpa {
		const gpa = this.gpa(vp);
		const page = gpa < 0 ? null : this.#memory.page(gpa);
		page?.set(block);
		return page === null ? -1 : gpa;
	}
}
