/** The guest's hypercalls, by the tables in modes.ts. Linux 6.12 drivers/hv/hv.c hv_post_message, connection.c vmbus_set_event */
import type { Ram } from "../memory/ram.ts";
import { type GuestPages, PagesByProcessor, type PagesStatus } from "./guest-pages.ts";
import { CallCode, controlWord, encodePost, encodeSignal } from "./hypercall.ts";
import type { Hypercall } from "./machine.ts";
import { memoryOf, type SynicMemory } from "./memory.ts";
import {
	type CallPath,
	hasPostPages,
	inputAddress,
	modeOf,
	postPath,
	type SynicMode,
	type SynicPlatform,
	sharesInputPages,
	signalPath,
} from "./modes.ts";
import { HvStatus } from "./status.ts";

const INPUT_PAGES = ["hypercall input"] as const;
const POST_PAGES = ["post message"] as const;

export interface GuestCallsOptions {
	/** Who takes the call: SynicMachine, or an embedder's own hypervisor. */
	readonly hypercall: (call: Hypercall) => bigint;
	readonly platform: SynicPlatform;
	/** Whether the guest uses Confidential VMBus. */
	readonly confidential: boolean;
	/** Processors of the guest. */
	readonly vps: number;
	readonly ram: Ram;
	readonly pages: GuestPages;
}

export class GuestCalls {
	readonly #options: GuestCallsOptions;
	readonly #mode: SynicMode;
	readonly #memory: SynicMemory;
	readonly #inputs: PagesByProcessor<(typeof INPUT_PAGES)[number]>;
	readonly #posts: PagesByProcessor<(typeof POST_PAGES)[number]>;

	constructor(options: GuestCallsOptions) {
		const { platform, confidential, vps, ram, pages } = options;
		this.#options = options;
		this.#mode = modeOf(platform, confidential);
		const memory = memoryOf(ram, "guest", platform.sharedGpaBoundary);
		this.#memory = memory;
		const shared = sharesInputPages(platform);
		this.#inputs = new PagesByProcessor({ pages, memory, vps, names: INPUT_PAGES, shared });
		this.#posts = new PagesByProcessor({
			pages,
			memory,
			vps,
			names: POST_PAGES,
			shared: this.#mode !== "confidential",
		});
	}

	/** Makes the input pages, once, before the first call. */
	allocateInputs(): PagesStatus {
		return this.#inputs.take();
	}

	/** Gives the input pages back, after the last call. */
	freeInputs(): void {
		this.#inputs.giveBack();
	}

	/** Makes the pages that messages of a TDX guest with a paravisor pass in; other guests have none. */
	allocatePosts(): PagesStatus {
		return hasPostPages(this.#options.platform) ? this.#posts.take() : "ok";
	}

	freePosts(): void {
		this.#posts.giveBack();
	}

	/**
	 * HvPostMessage, once.
	 * @returns its status; INVALID_PARAMETER, without a call, where the platform has no way for it
	 * @throws RangeError for more than 240 bytes (Linux's EMSGSIZE)
	 */
	post(vp: number, connectionId: number, type: number, payload: Uint8Array): HvStatus {
		const { platform, hypercall } = this.#options;
		const block = encodePost({ connectionId, type, payload });
		const path = postPath(platform, this.#mode);
		if (path === null) return HvStatus.INVALID_PARAMETER;
		const input = path === "ghcb" ? block : this.#placeInput(vp, block, path);
		if (input === null) return HvStatus.INVALID_PARAMETER;
		return statusOf(hypercall({ vp, path, control: controlWord(CallCode.PostMessage, false), input }));
	}

	/** Puts the input into the processor's page for it. @returns its gpa, or null without a page */
	#placeInput(vp: number, block: Uint8Array, path: CallPath): bigint | null {
		const post = this.#posts.gpa(vp, "post message");
		const gpa = post >= 0 ? post : this.#inputs.gpa(vp, "hypercall input");
		const page = gpa < 0 ? null : this.#memory.page(gpa);
		if (page === null) return null;
		page.set(block);
		return inputAddress(this.#options.platform, path, gpa);
	}

	/** HvSignalEvent, in its fast form where there is one. @returns its status, which Linux does not look at; as post */
	signal(vp: number, connectionId: number, flag = 0): HvStatus {
		const { platform, hypercall } = this.#options;
		const path = signalPath(platform, this.#mode);
		if (path === null) return HvStatus.INVALID_PARAMETER;
		const value = encodeSignal({ connectionId, flag });
		if (path !== "ghcb") {
			return statusOf(hypercall({ vp, path, control: controlWord(CallCode.SignalEvent, true), input: value }));
		}
		const input = new Uint8Array(8);
		new DataView(input.buffer).setBigUint64(0, value, true);
		return statusOf(hypercall({ vp, path, control: controlWord(CallCode.SignalEvent, false), input }));
	}
}

/** The low 16 bits of a hypercall's result. */
function statusOf(result: bigint): HvStatus {
	return Number(result & 0xffffn) as HvStatus;
}
