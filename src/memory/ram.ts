/** Guest RAM as its CPU sees it: checked access and page states. */
import * as layout from "../../assembly/layout/context.ts";
import { BAD_ARGUMENT, BAD_SIZE } from "../../assembly/layout/status.ts";
import { expectBytes } from "../bytes.ts";
import { shown } from "../input-error.ts";
import { hex, orThrow } from "../status.ts";
import type { Gpa } from "../types.ts";
import type { Instance } from "../wasm.ts";

/** What the host may do with a page. */
export const PageState = {
	Shared: layout.PAGE_SHARED,
	Private: layout.PAGE_PRIVATE,
	Hidden: layout.PAGE_HIDDEN,
	InTransition: layout.PAGE_IN_TRANSITION,
	Leaked: layout.PAGE_LEAKED,
} as const;
export type PageState = (typeof PageState)[keyof typeof PageState];

const STATE_NAMES: Readonly<Record<number, string>> = {
	[PageState.Shared]: "shared",
	[PageState.Private]: "private",
	[PageState.Hidden]: "hidden",
	[PageState.InTransition]: "in transition",
	[PageState.Leaked]: "leaked",
};

/** A page state's name for people. */
export function pageStateName(state: number): string {
	return STATE_NAMES[state] ?? String(state);
}

/** What a range's pages are, all together. */
export const RangeState = {
	Shared: layout.RANGE_SHARED,
	Private: layout.RANGE_PRIVATE,
	Mixed: layout.RANGE_MIXED,
} as const;
export type RangeState = (typeof RangeState)[keyof typeof RangeState];

/** A stretch of RAM: page-aligned gpa and bytes, and where it lies in linear memory. */
export interface Region {
	readonly gpa: Gpa;
	readonly bytes: number;
	readonly ptr: number;
}

export class Ram {
	readonly #instance: Instance;
	readonly #scratch: number;
	readonly #scratchBytes: number;
	/** The stretches, in ascending order. */
	readonly regions: readonly Region[];

	/** Made by Engine. scratch: ptr of a block that reads and writes pass through */
	constructor(instance: Instance, regions: readonly Region[], scratch: number, scratchBytes: number) {
		this.#instance = instance;
		this.regions = regions;
		this.#scratch = scratch;
		this.#scratchBytes = scratchBytes;
	}

	/** Bytes of all stretches together. */
	get bytes(): number {
		return this.regions.reduce((sum, region) => sum + region.bytes, 0);
	}

	/** Throws for a status of a call on a range. */
	#expect(status: number, call: string, gpa: Gpa, bytes: number): void {
		orThrow(status, () => `${call}(gpa ${hex(gpa)}, ${bytes} bytes)`);
	}

	#check(call: string, gpa: Gpa, bytes: number): RangeState {
		const status = bytes === (bytes | 0) ? this.#instance.exports.ramRangeState(gpa, bytes) : BAD_SIZE;
		return orThrow(status, () => `${call}(gpa ${hex(gpa)}, ${bytes} bytes)`) as RangeState;
	}

	/** A copy of [gpa, gpa + bytes). Allocates. @throws DmaError OUTSIDE_RAM, BLOCKED_PAGES, BAD_SIZE */
	read(gpa: Gpa, bytes: number): Uint8Array {
		this.#check("read", gpa, bytes);
		const out = new Uint8Array(bytes);
		for (let at = 0; at < bytes; at += this.#scratchBytes) {
			const n = Math.min(this.#scratchBytes, bytes - at);
			this.#expect(this.#instance.exports.ramReadTo(gpa + at, n, this.#scratch), "read", gpa + at, n);
			out.set(this.#instance.bytes.subarray(this.#scratch, this.#scratch + n), at);
		}
		return out;
	}

	/**
	 * Writes `data` at `gpa`.
	 * @throws TypeError for what is no Uint8Array; DmaError OUTSIDE_RAM, BLOCKED_PAGES, BAD_SIZE: then nothing is written,
	 * but for the first of several pieces of 64 KiB, where another worker converts the pages of a later one meanwhile
	 */
	write(gpa: Gpa, data: Uint8Array): void {
		expectBytes("data", data);
		this.#check("write", gpa, data.length);
		for (let at = 0; at < data.length; at += this.#scratchBytes) {
			const n = Math.min(this.#scratchBytes, data.length - at);
			this.#instance.bytes.set(data.subarray(at, at + n), this.#scratch);
			this.#expect(this.#instance.exports.ramWriteFrom(gpa + at, n, this.#scratch), "write", gpa + at, n);
		}
	}

	/**
	 * Sets every byte of a range to the low 8 bits of `value`.
	 * @throws TypeError for what is no whole number; DmaError OUTSIDE_RAM, BLOCKED_PAGES, BAD_SIZE: then nothing is written
	 */
	fill(gpa: Gpa, bytes: number, value = 0): void {
		if (!Number.isInteger(value)) throw new TypeError(`value: expected a whole number, found ${shown(value)}`);
		this.#check("fill", gpa, bytes);
		this.#expect(this.#instance.exports.ramFillWith(gpa, bytes, value), "fill", gpa, bytes);
	}

	/**
	 * A view of a range that lies in one stretch, without the page checks of read and write. It ends when the memory grows.
	 * @throws DmaError OUTSIDE_RAM, BAD_SIZE
	 */
	view(gpa: Gpa, bytes: number): Uint8Array {
		const ptr = orThrow(this.#instance.exports.ramPtr(gpa, bytes), () => `view(gpa ${hex(gpa)}, ${bytes} bytes)`);
		return this.#instance.bytes.subarray(ptr, ptr + bytes);
	}

	/** Whether a range is private, shared or mixed. @throws DmaError OUTSIDE_RAM, BLOCKED_PAGES, BAD_SIZE */
	rangeState(gpa: Gpa, bytes: number): RangeState {
		return this.#check("rangeState", gpa, bytes);
	}

	/** State of the page that holds `gpa`. @throws DmaError OUTSIDE_RAM */
	pageState(gpa: Gpa): PageState {
		return orThrow(this.#instance.exports.ramPageState(gpa), () => `pageState(gpa ${hex(gpa)})`) as PageState;
	}

	/**
	 * Gives every page of a range a state; a leaked page stays leaked. Contents stay as they are.
	 * @param gpa multiple of 4096; bytes: multiple of 4096
	 * @param inPool whether the pages may belong to a live pool
	 * @throws DmaError BAD_ARGUMENT, BAD_SIZE, OUTSIDE_RAM, BLOCKED_PAGES (a leaked page), POOL_PAGES; then nothing has changed
	 */
	convert(gpa: Gpa, bytes: number, state: PageState, inPool = false): void {
		let done = BAD_ARGUMENT;
		if (bytes !== (bytes | 0)) done = BAD_SIZE;
		else if (state === (state | 0)) {
			const flags = inPool ? layout.CONVERTS_POOL_PAGES : 0;
			done = this.#instance.exports.ramConvert(gpa, bytes, state | flags);
		}
		orThrow(done, () => `convert(gpa ${hex(gpa)}, ${bytes} bytes, ${state})`);
	}

	/** Pages in a state. */
	pagesInState(state: PageState): number {
		return this.#instance.exports.pagesInState(state);
	}
}
