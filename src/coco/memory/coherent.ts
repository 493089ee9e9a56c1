/** Coherent memory of devices: Linux's dma_direct_alloc and dma_direct_free (kernel/dma/direct.c). */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { BAD_SIZE } from "../../../assembly/layout/status.ts";
import { orderOf, type PageAllocator, PageError } from "../../memory/allocator.ts";
import { PageState, type Ram } from "../../memory/ram.ts";
import { DmaError, hex } from "../../status.ts";
import type { DmaAddr, Gpa } from "../../types.ts";
import { convertBlock, type PageConverter } from "../platform/convert.ts";
import type { Kernel, ZoneName } from "../rules/kernel.ts";
import { type AtomicPools, zoneFor, zonesOf } from "./atomic.ts";
import type { Hazard, HazardName } from "./hazard.ts";

/** Where a restricted pool's coherent memory comes from (swiotlb_alloc, swiotlb_free). */
export interface SlotSource {
	/** Whether the pool's pages are shared with the host, as its kernel record says. */
	readonly ccShared: boolean;
	/** @returns the first address of slots for `bytes`, or below 0: none */
	alloc(bytes: number, allocAlignMask: number): Gpa;
	free(tlb: Gpa, bytes: number): void;
}

/** A device as coherent allocation sees it, at the moment of the call. */
export interface CoherentDevice {
	readonly name: string;
	readonly index: number;
	/** force_dma_unencrypted(dev): it reaches shared memory only. */
	readonly needsShared: boolean;
	/** Whether its DMA is coherent with the caches; else its memory is remapped (CONFIG_DMA_DIRECT_REMAP). */
	readonly coherent: boolean;
	/** Its restricted pool, if that serves its coherent buffers (is_swiotlb_for_alloc), or null. */
	readonly slots: SlotSource | null;
	/** Whether the atomic pools serve it where nothing may sleep (dma_direct_use_pool). Default true. */
	readonly usesAtomicPools?: boolean;
	/** Whether its pool's state must be the one that it needs, if the kernel asks for that. Default true. */
	readonly checksPoolState?: boolean;
	/** The address that the device is given, encoded for shared or private memory. */
	encode(gpa: Gpa, shared: boolean): DmaAddr;
	/** Whether its coherent mask and bus limit reach [dma, dma + bytes), the encoding included. */
	fits(dma: DmaAddr, bytes: number): boolean;
	/** Highest address that its coherent mask and bus limit let through, inclusive, as a gpa: without the encoding's bits. */
	readonly reach: bigint;
}

export interface CoherentRequest {
	/** Whether the caller may not sleep (GFP_ATOMIC). Default false. */
	readonly atomic?: boolean;
	/** DMA_ATTR_NO_KERNEL_MAPPING: the driver wants no address of its own. Default false. */
	readonly noKernelMapping?: boolean;
	/** dma_alloc_pages: the driver wants pages, which are never remapped. Default false. */
	readonly asPages?: boolean;
	/** DMA_ATTR_CC_SHARED, or the attribute that stands for it inside the kernel. Default false. */
	readonly ccShared?: boolean;
}

/** Memory that a device and its driver hold together. */
export interface CoherentBuffer {
	/** For "cookie" not the driver's to use. */
	readonly gpa: Gpa;
	readonly dma: DmaAddr;
	/** A multiple of 4096. */
	readonly bytes: number;
	/** pages: the page allocator's. cookie: the same, not mapped by the kernel and so neither decrypted nor zeroed. */
	readonly source: "pages" | "cookie" | "slots" | "atomic";
	/** Zone that its pages are of, or null: slots. */
	readonly zone: ZoneName | null;
	/** How the driver reaches it: the linear map, an alias, pages of its own to map, or not at all. */
	readonly mapped: "linear" | "remapped" | "pages" | "not";
}

/** A refused allocation; nothing is held. */
export interface CoherentRefusal {
	readonly ok: false;
	/**
	 * NOT_DECRYPTED: the pages, or the slots, are never used again. ASKS_FOR_SHARED: the caller did, which is not for callers.
	 * POOL_STATE: the restricted pool is shared and the device needs private memory, or the reverse. NO_ATOMIC_POOLS: the
	 * kernel has none, and the caller may not sleep. NO_ALLOC_OPERATION: the DMA operations in place have none, and the
	 * caller gets NULL.
	 */
	readonly status:
		| "NO_MEMORY"
		| "BEYOND_MASK"
		| "NOT_DECRYPTED"
		| "ASKS_FOR_SHARED"
		| "POOL_FULL"
		| "POOL_STATE"
		| "UNALIGNED_SLOTS"
		| "NO_ATOMIC_POOLS"
		| "POOL_EXHAUSTED"
		| "NO_SUITABLE_POOL"
		| "NO_ALLOC_OPERATION";
	/** Why, and whether it is what Linux logs. */
	readonly message: string;
	readonly logged: boolean;
}

export type CoherentAllocation = ({ readonly ok: true } & CoherentBuffer) | CoherentRefusal;

/** How a free ended: the pages or slots went back, or nobody gets them again. */
export type CoherentFree =
	| { readonly ok: true }
	| { readonly ok: false; readonly status: "NOT_ENCRYPTED"; readonly message: string };

interface CoherentOptions {
	readonly ram: Pick<Ram, "fill" | "pageState">;
	readonly allocator: PageAllocator;
	readonly converter: Pick<PageConverter, "convert" | "platform">;
	/** Null: a kernel without CONFIG_DMA_COHERENT_POOL. */
	readonly atomic: Pick<AtomicPools, "alloc" | "free" | "isFree"> | null;
	readonly kernel: Kernel;
	readonly onHazard: (hazard: Hazard) => void;
}

interface Live {
	readonly buffer: CoherentBuffer;
	readonly device: number;
	/** What the device needed at the allocation. */
	readonly needsShared: boolean;
	readonly remapped: boolean;
	readonly asPages: boolean;
	/** Whether the allocation decrypted the pages. */
	readonly decrypted: boolean;
	readonly slots: SlotSource | null;
}

/** One allocation under way. */
interface Call {
	readonly device: CoherentDevice;
	/** device.needsShared, read once. */
	readonly needsShared: boolean;
	readonly bytes: number;
	readonly atomic: boolean;
	readonly remapped: boolean;
	readonly asPages: boolean;
	readonly slots: SlotSource | null;
}

/** The coherent memory of all devices of a guest. It never bounces. */
export class CoherentMemory {
	readonly #options: CoherentOptions;
	readonly #live = new Map<Gpa, Live>();
	readonly #leaked = new Set<Gpa>();

	constructor(options: CoherentOptions) {
		this.#options = options;
	}

	/** Every buffer that is held now, and by which device. Allocates. */
	buffers(): readonly { readonly device: number; readonly buffer: CoherentBuffer }[] {
		return [...this.#live.values()];
	}

	/** Coherent buffers that a device holds now. */
	live(device: Pick<CoherentDevice, "index">): number {
		let buffers = 0;
		for (const { device: index } of this.#live.values()) if (index === device.index) buffers++;
		return buffers;
	}

	/**
	 * Allocates memory that a device and the kernel use together, zeroed: whole pages, shared if the device needs that.
	 * @param bytes 1 .. 2^31 - 1; above 4 MiB there is no such block
	 * @throws DmaError BAD_SIZE; what the converter throws, the pages leaked
	 */
	alloc(device: CoherentDevice, bytes: number, request: CoherentRequest = {}): CoherentAllocation {
		if (!(bytes > 0 && bytes === (bytes | 0)))
			throw new DmaError(`alloc of ${bytes} coherent bytes for ${device.name}`, BAD_SIZE);
		const { atomic = false, noKernelMapping = false, asPages = false, ccShared = false } = request;
		if (ccShared && this.#options.kernel.rules.refusesSharedAlloc.is)
			return refuse("ASKS_FOR_SHARED", `${device.name} may not ask for shared memory itself`);
		const { needsShared, slots, coherent } = device;
		const size = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
		const remapped = !coherent && !asPages;
		const call: Call = { device, needsShared, bytes: size, atomic, remapped, asPages, slots };
		if (noKernelMapping && !needsShared && slots === null && !asPages)
			return this.#fromPages({ ...call, remapped: false }, "cookie");
		const mightSleep = remapped || needsShared;
		if (atomic && mightSleep && device.usesAtomicPools !== false && slots === null) return this.#fromAtomic(call);
		if (slots !== null) return this.#fromSlots({ ...call, slots });
		const got = this.#fromPages(call, "pages");
		if (remapped || this.#converts(needsShared))
			this.#mayNotSleep(atomic, device, remapped ? "remaps pages" : "decrypts pages");
		return got;
	}

	/**
	 * Gives a buffer back. What was decrypted is encrypted again before others get it, whatever the device needs by now.
	 * @param buffer as alloc answered it
	 * @throws PageError DOUBLE_FREE, FOREIGN_FREE, SIZE_MISMATCH, LEAKED_PAGES, then nothing has changed; what the
	 *   converter throws, the pages leaked
	 */
	free(
		device: CoherentDevice,
		buffer: Pick<CoherentBuffer, "gpa" | "dma" | "bytes">,
		request: Pick<CoherentRequest, "atomic"> = {},
	): CoherentFree {
		const { gpa, dma, bytes } = buffer;
		const call = `free(gpa ${hex(gpa)}, ${bytes} coherent bytes) of ${device.name}`;
		const live = this.#live.get(gpa);
		if (live === undefined) throw new PageError(call, this.#whyNotLive(gpa));
		if (live.device !== device.index || live.buffer.dma !== dma) throw new PageError(call, "FOREIGN_FREE");
		if (live.buffer.bytes !== bytes) throw new PageError(call, "SIZE_MISMATCH");
		this.#reportFree(device, live, request.atomic ?? false);
		this.#live.delete(gpa);
		if (live.slots !== null) return this.#freeSlots(device, live, live.slots);
		if (live.buffer.source !== "atomic") return this.#freePages(live);
		const { asPages, needsShared } = live;
		// a page of an atomic pool that is not known for one is freed as any other
		if (asPages && !device.coherent && !this.#options.kernel.rules.knowsAtomicPages.is)
			return this.#freeLost(device, gpa, bytes, needsShared);
		this.#options.atomic?.free(gpa, bytes);
		return { ok: true };
	}

	#fromPages(call: Call, source: "pages" | "cookie"): CoherentAllocation {
		const { needsShared, bytes, remapped } = call;
		const pages = blockPages(bytes);
		const gpa = this.#block(call, pages);
		if ("ok" in gpa) return gpa;
		const { decryptsRemapped, undecryptedPages } = this.#options.kernel.rules;
		const decrypted = this.#converts(needsShared) && (!remapped || decryptsRemapped.is);
		if (decrypted && !this.#convert(gpa.gpa, pages, bytes, PageState.Shared)) {
			const message = call.asPages ? undecryptedPages.is : null;
			return refuse("NOT_DECRYPTED", message ?? `${bytes} bytes could not be decrypted`, message !== null);
		}
		if (source === "pages") this.#options.ram.fill(gpa.gpa, bytes);
		return this.#keep(call, gpa.gpa, source, gpa.zone, decrypted);
	}

	/** Takes a block that the device reaches: of the zone that its limit asks for, then of lower ones. */
	#block({ device, needsShared, bytes }: Call, pages: number): { gpa: Gpa; zone: ZoneName } | CoherentRefusal {
		const { allocator, converter } = this.#options;
		const zones = zonesOf(converter.platform);
		const first = zones.findIndex(({ zone }) => zone === zoneFor(converter.platform, device.reach));
		for (const [i, { zone, belowGpa }] of zones.entries()) {
			// Linux goes to DMA32 only where the limit is below 64 bits, and there is such a zone
			const skips =
				zone === "DMA32" && i > first && (!converter.platform.architecture.hasDma32 || device.reach >= MAX_U64);
			if (i < first || skips) continue;
			const gpa = allocator.alloc(pages, { belowGpa });
			if (gpa < 0) return refuse("NO_MEMORY", `no block of ${pages} pages for ${device.name} in zone ${zone}`);
			if (device.fits(device.encode(gpa, needsShared), bytes)) return { gpa, zone };
			allocator.free(gpa, pages);
		}
		return refuse("BEYOND_MASK", `no block of ${pages} pages is within the coherent mask of ${device.name}`);
	}

	#fromAtomic(call: Call): CoherentAllocation {
		const { device, needsShared, bytes } = call;
		const { atomic } = this.#options;
		if (atomic === null)
			return refuse("NO_ATOMIC_POOLS", `no atomic pools for ${device.name}, whose caller may not sleep`);
		const got = atomic.alloc(bytes, {
			device: device.name,
			zone: zoneFor(this.#options.converter.platform, device.reach),
			ccShared: needsShared,
			fits: (gpa, length) => device.fits(device.encode(gpa, needsShared), length),
		});
		return got.ok ? this.#keep(call, got.gpa, "atomic", got.zone, false) : { ...got, logged: true };
	}

	#fromSlots(call: Call & { readonly slots: SlotSource }): CoherentAllocation {
		const { device, needsShared, bytes, atomic, remapped, slots } = call;
		const { kernel, ram } = this.#options;
		const { checksPoolState = true } = device;
		if (kernel.rules.allocChecksPool.is && checksPoolState && slots.ccShared !== needsShared) {
			const [is, needs] = slots.ccShared ? ["shared", "private"] : ["private", "shared"];
			return refuse("POOL_STATE", `the pool of ${device.name} is ${is}, and the device needs ${needs} memory`);
		}
		const tlb = slots.alloc(bytes, blockPages(bytes) * PAGE_SIZE - 1);
		if (tlb < 0) return refuse("POOL_FULL", `no run of free slots for ${bytes} bytes in the pool of ${device.name}`);
		const aligned = tlb % PAGE_SIZE === 0;
		if (!aligned || !device.fits(device.encode(tlb, this.#slotForm(call)), bytes)) {
			slots.free(tlb, bytes);
			if (aligned)
				return refuse("BEYOND_MASK", `slots at gpa ${hex(tlb)} are beyond the coherent mask of ${device.name}`);
			return refuse("UNALIGNED_SLOTS", `Cannot allocate pages from non page-aligned swiotlb addr ${hex(tlb)}`);
		}
		const converts = kernel.rules.allocConvertsSlots.is && !remapped && this.#converts(needsShared);
		if (converts) {
			if (ram.pageState(tlb) === PageState.Shared)
				this.#report("PAGE_STATE", device, `decrypts its pool's pages at gpa ${hex(tlb)}, which are shared for good`);
			this.#mayNotSleep(atomic, device, "decrypts pool pages");
			// the slots stay taken: nobody gives them back
			if (!this.#convertSlots(tlb, bytes, PageState.Shared))
				return refuse("NOT_DECRYPTED", `${bytes} bytes of slots could not be decrypted`);
		}
		ram.fill(tlb, bytes);
		if (remapped) this.#mayNotSleep(atomic, device, "remaps pool pages");
		return this.#keep(call, tlb, "slots", null, converts);
	}

	/** A kernel that converts a pool's slots does so page by page, whatever they are. @returns whether all are in that state */
	#convertSlots(gpa: Gpa, bytes: number, to: PageState): boolean {
		const { converter } = this.#options;
		for (let at = gpa; at < gpa + bytes; at += PAGE_SIZE)
			if (!converter.convert(at, PAGE_SIZE, to, { inPool: true, unasked: true }).ok) return false;
		return true;
	}

	/** Whether a kernel encrypts slots that are given back: by what the device needs by then. */
	#encryptsSlots({ needsShared }: CoherentDevice, { remapped }: Live): boolean {
		return this.#options.kernel.rules.allocConvertsSlots.is && !remapped && this.#converts(needsShared);
	}

	#freeSlots(device: CoherentDevice, live: Live, slots: SlotSource): CoherentFree {
		const { gpa, bytes } = live.buffer;
		if (this.#encryptsSlots(device, live) && !this.#convertSlots(gpa, bytes, PageState.Private)) return NOT_ENCRYPTED;
		slots.free(gpa, bytes);
		return { ok: true };
	}

	/** Pages of an atomic pool, given to the page allocator: nobody gets them again here. */
	#freeLost(device: CoherentDevice, gpa: Gpa, bytes: number, needsShared: boolean): CoherentFree {
		this.#report("PAGE_STATE", device, `frees pages of an atomic pool at gpa ${hex(gpa)} as if they were none`);
		if (!this.#converts(needsShared)) return { ok: true };
		const { converter } = this.#options;
		return converter.convert(gpa, bytes, PageState.Private, { unasked: true }).ok ? { ok: true } : NOT_ENCRYPTED;
	}

	/** Whether slots are addressed as shared memory. */
	#slotForm({ needsShared, slots }: Call): boolean {
		return slots !== null && this.#options.kernel.rules.allocTakesPoolForm.is ? slots.ccShared : needsShared;
	}

	#keep(
		call: Call,
		gpa: Gpa,
		source: CoherentBuffer["source"],
		zone: ZoneName | null,
		decrypted: boolean,
	): CoherentAllocation {
		const { device, needsShared, bytes, remapped, asPages, slots } = call;
		const { converter, ram } = this.#options;
		const asShared = source === "slots" ? this.#slotForm(call) : needsShared;
		const aliased = source === "atomic" ? converter.platform.architecture.remaps : remapped;
		const linear = aliased ? "remapped" : "linear";
		const mapped = source === "cookie" ? "not" : asPages ? "pages" : linear;
		const buffer: CoherentBuffer = { gpa, dma: device.encode(gpa, asShared), bytes, source, zone, mapped };
		this.#live.set(gpa, { buffer, device: device.index, needsShared, remapped, asPages, decrypted, slots });
		const isShared = ram.pageState(gpa) === PageState.Shared;
		const { platform } = converter;
		// without the attribute a pool is shared whatever the kernel knows about its devices
		const reports = this.#options.kernel.rules.reportsEncryption.is.includes(platform.protection);
		const matters = asShared ? this.#converts(true) : reports;
		if (matters && isShared !== asShared) {
			const [is, as] = isShared ? ["shared", "private"] : ["private", "shared"];
			this.#report("PAGE_STATE", device, `gpa ${hex(gpa)}, from ${source}, is ${is} and addressed as ${as} memory`);
		}
		return { ok: true, ...buffer };
	}

	#reportFree(device: CoherentDevice, live: Live, atomic: boolean): void {
		const { buffer, remapped, decrypted, needsShared } = live;
		if (device.needsShared !== needsShared) {
			const [then, now] = needsShared ? ["shared", "private"] : ["private", "shared"];
			this.#report(
				"TRUST_CHANGED",
				device,
				`the buffer at gpa ${hex(buffer.gpa)} was allocated as ${then} memory, and the device needs ${now} memory now`,
			);
		}
		if (buffer.source === "atomic") return;
		if (live.slots !== null && this.#encryptsSlots(device, live))
			this.#report(
				"PAGE_STATE",
				device,
				`encrypts its pool's pages at gpa ${hex(buffer.gpa)}, which are shared for good`,
			);
		if (remapped) this.#mayNotSleep(atomic, device, "unmaps remapped pages");
		if (decrypted) this.#mayNotSleep(atomic, device, "encrypts pages again");
	}

	#freePages({ buffer: { gpa, bytes }, decrypted }: Live): CoherentFree {
		const pages = blockPages(bytes);
		if (decrypted && !this.#convert(gpa, pages, bytes, PageState.Private)) return NOT_ENCRYPTED;
		this.#options.allocator.free(gpa, pages);
		return { ok: true };
	}

	/** Converts a block's bytes; a failure leaks the block. */
	#convert(gpa: Gpa, pages: number, bytes: number, to: PageState): boolean {
		const { allocator, converter } = this.#options;
		let ok = false;
		try {
			ok = convertBlock(allocator, converter, { gpa, pages }, bytes, to);
		} finally {
			if (!ok) this.#leaked.add(gpa);
		}
		return ok;
	}

	/** Whether memory for such a device is decrypted, which may sleep. */
	#converts(needsShared: boolean): boolean {
		return needsShared && this.#options.converter.platform.conversion.steps.toShared.length > 0;
	}

	#whyNotLive(gpa: Gpa): PageError["status"] {
		const { allocator, atomic } = this.#options;
		if (this.#leaked.has(gpa)) return "LEAKED_PAGES";
		return allocator.isFree(gpa) || atomic?.isFree(gpa) === true ? "DOUBLE_FREE" : "FOREIGN_FREE";
	}

	#mayNotSleep(atomic: boolean, device: CoherentDevice, what: string): void {
		if (atomic) this.#report("SLEEPING_IN_ATOMIC", device, `${what} where it may not sleep`);
	}

	#report(what: HazardName, device: CoherentDevice, detail: string): void {
		this.#options.onHazard({ what, device: device.name, detail });
	}
}

const MAX_U64 = 2n ** 64n - 1n;

const NOT_ENCRYPTED: CoherentFree = {
	ok: false,
	status: "NOT_ENCRYPTED",
	message: "leaking DMA memory that can't be re-encrypted",
};

function refuse(status: CoherentRefusal["status"], message: string, logged = false): CoherentRefusal {
	return { ok: false, status, message, logged };
}

/** Pages of the block that holds `bytes`. */
function blockPages(bytes: number): number {
	return 2 ** orderOf(bytes / PAGE_SIZE);
}
