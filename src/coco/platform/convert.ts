/** Conversion of pages between private, shared and hidden, with the ways in which it fails. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { BAD_ARGUMENT, BLOCKED_PAGES, MIXED_PAGES } from "../../../assembly/layout/status.ts";
import { ScrambledLabels } from "../../audit/scrambled.ts";
import type { Engine } from "../../engine.ts";
import type { PageAllocator } from "../../memory/allocator.ts";
import { PageState } from "../../memory/ram.ts";
import { DmaError, hex } from "../../status.ts";
import type { Gpa } from "../../types.ts";
import { type MemoryCipher, seededCipher } from "./ciphertext.ts";
import type { ConversionStep, Platform, StepOfPlatform } from "./platform.ts";
import { PoisonedLines } from "./poison.ts";

/** How a conversion ended. A failed one leaked every page of its range. */
export type Conversion =
	| { readonly ok: true }
	| { readonly ok: false; readonly step: ConversionStep; readonly leakedPages: number };

/** How a caller has a range converted. */
interface ConvertOptions {
	/** The kernel zeroes the pages afterwards, as dma_direct_alloc does. Default false. */
	readonly zero?: boolean;
	/** The kernel does not look whether it worked, and uses the pages on: a failure leaves them as they were. Default false. */
	readonly unasked?: boolean;
	/** Pages of a live pool, for kernels that convert its slots, whatever state they are in. Default false. */
	readonly inPool?: boolean;
}

/** Pages that conversions changed. */
interface PagesConverted {
	/** Decrypted, and how many of them were decrypted before. */
	readonly toShared: number;
	readonly again: number;
	readonly toPrivate: number;
}

interface ConverterOptions {
	/** Seed of the stand-in that scrambles contents unless a cipher is given. Default 1. */
	readonly seed?: number;
	/** The guest's memory key (loadCipher): what a conversion leaves is then what the host saw before it, and after. */
	readonly cipher?: MemoryCipher;
	/** Leaves the entries present during a conversion, as Linux did under a paravisor before 6.9. Default false. */
	readonly keepPresent?: boolean;
}

/** What became of a read that went beyond its buffer. */
export interface StrayRead {
	/** zero-padded: the page-fault handler, or the platform's exception handler, fixed it up. unhandled: the guest ends. */
	readonly outcome: "read" | "zero-padded" | "unhandled";
	/** Name of the exception that the read took, or null. */
	readonly exception: string | null;
	/** The word, zeros where a page was not readable; null when unhandled. */
	readonly data: Uint8Array | null;
}

/**
 * Converts pages of RAM as the platform does. The pages are in transition from the first step to the last, and no party
 * can use them. A step works on the whole range; when one fails, every page of the range is leaked, since callers of
 * Linux's set_memory_decrypted learn that it failed but not where, and keep the whole allocation from ever being used.
 */
export class PageConverter {
	readonly engine: Engine;
	readonly platform: Platform;
	readonly cipher: MemoryCipher;
	/** Lines that the host has corrupted. */
	readonly poison = new PoisonedLines();
	/**
	 * Called before each step, `step` the one about to run, the range in transition: as many windows as the conversion has
	 * steps. What it throws leaks the range and goes on to the caller.
	 */
	onTransition: ((gpa: Gpa, bytes: number, step: ConversionStep) => void) | null = null;
	readonly #scrambled = new ScrambledLabels();
	readonly #keepPresent: boolean;
	readonly #failures: { step: ConversionStep; countdown: number }[] = [];
	/** What leaked pages were before the conversion that failed. */
	readonly #before = new Map<Gpa, PageState>();
	#conversions = 0;
	#pages: PagesConverted = { toShared: 0, again: 0, toPrivate: 0 };
	#fixups = 0;
	#unhandled = 0;

	/** @throws RangeError for RAM that reaches the platform's address bit, or keepPresent where pages are never unmapped */
	constructor(engine: Engine, platform: Platform, options: ConverterOptions = {}) {
		const last = engine.ram.regions.at(-1);
		const bit = platform.pageTableBit?.bit ?? null;
		if (bit !== null && last !== undefined && last.gpa + last.bytes > 2 ** bit)
			throw new RangeError(`${platform.name}: RAM up to gpa ${hex(last.gpa + last.bytes)} reaches address bit ${bit}`);
		this.engine = engine;
		this.platform = platform;
		this.cipher = options.cipher ?? seededCipher(options.seed);
		this.#keepPresent = options.keepPresent ?? false;
		if (this.#keepPresent && !unmaps(platform))
			throw new RangeError(`keepPresent: ${platform.name} never makes pages in transition not present`);
	}

	/** Conversions that succeeded. */
	get conversions(): number {
		return this.#conversions;
	}

	/** Pages that were converted since the guest was made. */
	get pagesConverted(): PagesConverted {
		return this.#pages;
	}

	/** State of the page that holds `gpa`; a leaked one's is the one that it had before its conversion failed. @throws DmaError OUTSIDE_RAM */
	lastState(gpa: Gpa): PageState {
		const state = this.engine.ram.pageState(gpa);
		return state === PageState.Leaked ? (this.#before.get(gpa - (gpa % PAGE_SIZE)) ?? state) : state;
	}

	/** Pages leaked in all of RAM. */
	get leakedPages(): number {
		return this.engine.ram.pagesInState(PageState.Leaked);
	}

	/** Stray reads that were zero-padded. */
	get strayFixups(): number {
		return this.#fixups;
	}

	/** Stray reads that ended in an unhandled exception. */
	get unhandledExceptions(): number {
		return this.#unhandled;
	}

	/**
	 * The steps of a conversion on this platform and converter, in order. Between shared and hidden only the host's mapping
	 * changes.
	 */
	steps(from: PageState, to: PageState): readonly StepOfPlatform[] {
		const { toShared, toPrivate } = this.platform.conversion.steps;
		const changesKey = (from === PageState.Private) !== (to === PageState.Private);
		const all = to === PageState.Private ? toPrivate : toShared;
		return all.filter(({ step }) => {
			if (!changesKey) return step === "host";
			return !this.#keepPresent || (step !== "unmap" && step !== "map");
		});
	}

	/**
	 * Converts a range whose pages are all in one state.
	 * @param gpa multiple of 4096; bytes: multiple of 4096
	 * @param to Shared, Private or, where the platform has hidden pages, Hidden
	 * @throws DmaError and nothing has changed: OUTSIDE_RAM, BAD_SIZE, BLOCKED_PAGES (in transition or leaked), MIXED_PAGES,
	 *   POOL_PAGES, BAD_ARGUMENT (not page-aligned; no state to convert to; in that state already, which hardware reports as
	 *   an error where a conversion has steps)
	 */
	convert(gpa: Gpa, bytes: number, to: PageState, options: ConvertOptions = {}): Conversion {
		const { ram } = this.engine;
		const { zero = false, unasked = false, inPool = false } = options;
		const from = this.#stateBefore(gpa, bytes, to, inPool);
		const steps = this.steps(inPool && from === to ? otherState(to) : from, to);
		// refuses what is not page-aligned and what pools own, and then changes nothing
		ram.convert(gpa, bytes, PageState.InTransition, inPool);
		try {
			for (const { step } of steps) {
				this.onTransition?.(gpa, bytes, step);
				if (!this.#fails(step)) continue;
				if (unasked) ram.convert(gpa, bytes, from, inPool);
				else this.#leak(gpa, bytes, from, inPool);
				return { ok: false, step, leakedPages: unasked ? 0 : bytes / PAGE_SIZE };
			}
		} catch (error) {
			if (unasked) ram.convert(gpa, bytes, from, inPool);
			else this.#leak(gpa, bytes, from, inPool);
			throw error;
		}
		// what is zeroed at once leaves no trace of what the conversion made of it, but in an audit's labels
		const tells = from !== to && (!zero || this.engine.audit !== null);
		if (tells && from === PageState.Private) this.#change(gpa, bytes, this.platform.conversion.toShared, "encrypt");
		else if (tells && to === PageState.Private) this.#change(gpa, bytes, this.platform.conversion.toPrivate, "decrypt");
		ram.convert(gpa, bytes, to, inPool);
		if (zero) ram.fill(gpa, bytes);
		this.poison.remove(gpa, bytes);
		this.#conversions++;
		this.#count(from, to, bytes / PAGE_SIZE);
		return { ok: true };
	}

	#count(from: PageState, to: PageState, pages: number): void {
		const { toShared, again, toPrivate } = this.#pages;
		if (to === PageState.Private) this.#pages = { toShared, again, toPrivate: toPrivate + pages };
		else this.#pages = { toShared: toShared + pages, again: from === to ? again + pages : again, toPrivate };
	}

	/** Checks a conversion. @returns the state of all pages of the range */
	#stateBefore(gpa: Gpa, bytes: number, to: PageState, again: boolean): PageState {
		const { ram } = this.engine;
		const refuse = (status: number, detail: string) =>
			new DmaError(`convert(gpa ${hex(gpa)}, ${bytes} bytes, ${stateName(to)})`, status, detail);
		if (to === PageState.Hidden && !this.platform.hiddenPages)
			throw refuse(BAD_ARGUMENT, `${this.platform.title} has no hidden pages`);
		if (to !== PageState.Shared && to !== PageState.Private && to !== PageState.Hidden)
			throw refuse(BAD_ARGUMENT, "pages convert to Shared, Private or Hidden");
		ram.rangeState(gpa, bytes);
		const from = ram.pageState(gpa);
		for (let at = gpa; at < gpa + bytes; at += PAGE_SIZE) {
			const state = ram.pageState(at);
			if (state !== from)
				throw refuse(MIXED_PAGES, `${stateName(from)} at gpa ${hex(gpa)}, ${stateName(state)} at ${hex(at)}`);
		}
		if (from === to && !again && this.platform.conversion.steps.toShared.length > 0)
			throw refuse(BAD_ARGUMENT, `the pages are ${stateName(from)} already`);
		return from;
	}

	#change(gpa: Gpa, bytes: number, contents: "scrambled" | "zeroed" | "kept", by: "encrypt" | "decrypt"): void {
		if (contents === "kept") return;
		// a page at a time: pages that adjoin in the guest need not do so in memory
		for (let at = gpa; at < gpa + bytes; at += PAGE_SIZE) {
			const page = this.engine.ram.view(at, PAGE_SIZE);
			const labels = this.engine.audit?.labelsAt(at, PAGE_SIZE);
			if (contents === "zeroed") {
				page.fill(0);
				labels?.fill(0);
				continue;
			}
			const changed = this.cipher[by](at, page);
			if (labels !== undefined) this.#relabel(at, labels, by === "encrypt" ? page : changed, by);
			page.set(changed);
		}
	}

	/** Noise tells nothing of what stood there; but with the key back, what nobody wrote over is what it was. */
	#relabel(page: Gpa, labels: Uint8Array, plain: Uint8Array, by: "encrypt" | "decrypt"): void {
		if (by === "decrypt") labels.set(this.#scrambled.back(page, plain));
		else {
			this.#scrambled.left(page, labels, plain);
			labels.fill(0);
		}
	}

	#leak(gpa: Gpa, bytes: number, from: PageState, inPool: boolean): void {
		this.engine.ram.convert(gpa, bytes, PageState.Leaked, inPool);
		for (let at = gpa; at < gpa + bytes; at += PAGE_SIZE) this.#before.set(at, from);
	}

	/**
	 * Makes the nth conversion from now that reaches a step fail there. Several calls add up.
	 * @throws RangeError for a step that the platform does not have, or an nth below 1
	 */
	failAt(step: ConversionStep, nth = 1): void {
		const { Shared, Private } = PageState;
		const known = [...this.steps(Private, Shared), ...this.steps(Shared, Private)].map((one) => one.step);
		if (!known.includes(step)) {
			const names = [...new Set(known)].join(", ") || "none";
			throw new RangeError(`failAt: ${this.platform.name} converts pages by the steps ${names}, not "${step}"`);
		}
		if (!Number.isSafeInteger(nth) || nth < 1)
			throw new RangeError(`failAt: nth must be a whole number from 1, not ${nth}`);
		this.#failures.push({ step, countdown: nth });
	}

	#fails(step: ConversionStep): boolean {
		let fails = false;
		for (let i = this.#failures.length - 1; i >= 0; i--) {
			const failure = this.#failures[i] as { step: ConversionStep; countdown: number };
			if (failure.step !== step || --failure.countdown > 0) continue;
			this.#failures.splice(i, 1);
			fails = true;
		}
		return fails;
	}

	/**
	 * A load of a word as Linux's load_unaligned_zeropad does it: it may go beyond its buffer, into a page that is in
	 * transition, leaked or not RAM at all.
	 * @param bytes 1 .. 8
	 * @throws RangeError for another size; DmaError OUTSIDE_RAM, BLOCKED_PAGES when the first byte is in such a page, since
	 *   Linux fixes only the rest up
	 */
	strayRead(gpa: Gpa, bytes = 8): StrayRead {
		const { ram } = this.engine;
		if (!Number.isInteger(bytes) || bytes < 1 || bytes > 8)
			throw new RangeError(`strayRead: a word has 1 to 8 bytes, not ${bytes}`);
		const inFirst = Math.min(bytes, PAGE_SIZE - (gpa % PAGE_SIZE));
		if (!this.#present(gpa))
			throw new DmaError(`strayRead(gpa ${hex(gpa)}, ${bytes} bytes)`, BLOCKED_PAGES, "at its first byte");
		const data = new Uint8Array(bytes);
		data.set(ram.view(gpa, inFirst));
		const next = gpa + inFirst;
		if (inFirst === bytes) return { outcome: "read", exception: null, data };
		if (this.#isRam(next)) {
			const notPresent = unmaps(this.platform) && !this.#keepPresent;
			const { exception } = this.platform;
			if (this.#present(next) || (exception === null && !notPresent)) {
				data.set(ram.view(next, bytes - inFirst), inFirst);
				return { outcome: "read", exception: null, data };
			}
			if (!notPresent && exception !== null) {
				if (exception.fixedUp) return this.#fixup(exception.name, data);
				this.#unhandled++;
				return { outcome: "unhandled", exception: exception.name, data: null };
			}
		}
		return this.#fixup("page fault", data);
	}

	#fixup(exception: string, data: Uint8Array): StrayRead {
		this.#fixups++;
		return { outcome: "zero-padded", exception, data };
	}

	/** Whether a page's entries are sure to be present and right. @throws DmaError OUTSIDE_RAM */
	#present(gpa: Gpa): boolean {
		const state = this.engine.ram.pageState(gpa);
		return state !== PageState.InTransition && state !== PageState.Leaked;
	}

	#isRam(gpa: Gpa): boolean {
		return this.engine.instance.exports.ramPageState(gpa) >= 0;
	}
}

/**
 * Converts the first bytes of a block that the caller owns. A conversion that fails or throws leaks the whole block: how
 * far it came is not known, so that its pages must never be handed out again.
 * @param pages of the block; bytes: multiple of 4096, at most those of the block
 * @returns whether the pages are in state `to` now
 * @throws what the conversion throws, the block leaked
 */
export function convertBlock(
	allocator: Pick<PageAllocator, "leak">,
	converter: Pick<PageConverter, "convert">,
	block: { readonly gpa: Gpa; readonly pages: number },
	bytes: number,
	to: PageState,
): boolean {
	let ok = false;
	try {
		ok = converter.convert(block.gpa, bytes, to).ok;
	} finally {
		if (!ok) allocator.leak(block.gpa, block.pages);
	}
	return ok;
}

/** What pages are converted to a state from. */
function otherState(to: PageState): PageState {
	return to === PageState.Private ? PageState.Shared : PageState.Private;
}

/** Whether pages in transition are not present. */
function unmaps(platform: Platform): boolean {
	return platform.conversion.steps.toShared.some(({ step }) => step === "unmap");
}

/** Name of a page state, as in PageState. */
export function stateName(state: PageState): string {
	return Object.entries(PageState).find(([, value]) => value === state)?.[0] ?? String(state);
}
