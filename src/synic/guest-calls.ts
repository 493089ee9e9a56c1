/** The guest's hypercalls, by the tables in modes.ts. Linux 6.12 drivers/hv/hv.c hv_post_message, connection.c vmbus_set_event */
import type { Ram } from "../memory/ram.ts";
import { CallPages } from "./call-pages.ts";
import type { GuestPages, PagesStatus } from "./guest-pages.ts";
import { CallCode, controlWord, encodePost, encodeSignal } from "./hypercall.ts";
import type { Hypercall } from "./machine.ts";
import { inputAddress, modeOf, postPath, type SynicMode, type SynicPlatform, signalPath } from "./modes.ts";
import { HvStatus } from "./status.ts";

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
	readonly #pages: CallPages;

	constructor(options: GuestCallsOptions) {
		this.#options = options;
		this.#mode = modeOf(options.platform, options.confidential);
		this.#pages = new CallPages(options);
	}

	/** Makes the input pages, once, before the first call. */
	allocateInputs(): PagesStatus {
		return this.#pages.takeInputs();
	}

	/** Gives the input pages back, after the last call. */
	freeInputs(): void {
		this.#pages.giveInputsBack();
	}

	/** Makes the pages that messages of a TDX guest with a paravisor pass in; other guests have none. */
	allocatePosts(): PagesStatus {
		return this.#pages.takePosts(this.#options.confidential);
	}

	freePosts(): void {
		this.#pages.givePostsBack();
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
		const gpa = path === "ghcb" ? 0 : this.#pages.place(vp, block);
		if (gpa < 0) return HvStatus.INVALID_PARAMETER;
		const input = path === "ghcb" ? block : inputAddress(platform, path, gpa);
		return statusOf(hypercall({ vp, path, control: controlWord(CallCode.PostMessage, false), input }));
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
