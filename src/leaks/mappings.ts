/** Mappings as the log tells them. */

import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import type { AuditEvent } from "../audit/events.ts";
import type { DmaAddr, Gpa } from "../types.ts";
import { RangeSet } from "./ranges.ts";

/** One mapping. Its sets count bytes from the mapping's first. */
export interface Mapping {
	readonly number: number;
	/** Number of the device. */
	readonly device: number;
	/** Number of the event that made it. */
	readonly event: number;
	/** The original's; -1 for slots without one. */
	readonly gpa: Gpa;
	readonly bytes: number;
	readonly dir: number;
	/** As the device was given it, of bare slots their own; -1: the map was refused after its copy. */
	readonly dma: DmaAddr;
	/** Where its bounced bytes stand, or null: direct. */
	tlb: Gpa | null;
	/** Whether its original was on private pages. */
	readonly fromPrivate: boolean;
	/** Bytes of its slots that came there since the map: by copies, device and host. */
	readonly filled: RangeSet;
	/** Bytes that the device's side wrote and no copy back has brought to the original. */
	readonly wrote: RangeSet;
	/** Bytes that the CPU wrote and no sync has given to the device. */
	readonly dirty: RangeSet;
	/** Bytes that a sync gave to the CPU. */
	readonly cpuOwned: RangeSet;
}

/** The address that a call gave out, or names: the device's, or that of slots. */
function addressOf({ dma, tlb }: AuditEvent): number {
	return tlb < 0 ? dma : tlb;
}

/** The slots of a bounced mapping, as gpas. */
export function slotsOf(tlb: Gpa, bytes: number): { readonly from: Gpa; readonly to: Gpa } {
	return { from: tlb - (tlb % IO_TLB_SIZE), to: Math.ceil((tlb + bytes) / IO_TLB_SIZE) * IO_TLB_SIZE };
}

/** What of a mapping lies in RAM: the original, and the slots. */
function placesOf({ gpa, bytes, tlb }: Mapping): { from: Gpa; to: Gpa }[] {
	const places = gpa < 0 ? [] : [{ from: gpa, to: gpa + bytes }];
	return tlb === null ? places : [...places, slotsOf(tlb, bytes)];
}

/** The mappings that are live, by number and by page. */
export class Mappings {
	readonly #live = new Map<number, Mapping>();
	readonly #byPage = new Map<number, Mapping[]>();
	/** Buffers and slots that mappings left, the latest last. */
	readonly ended: { readonly device: number; readonly mapping: number; readonly from: Gpa; readonly to: Gpa }[] = [];
	readonly #keep: number;
	/** Slots whose holder is known, as gpas; null: of all slots it is. */
	#known: Set<number> | null;

	/**
	 * @param keep how many ended ones are remembered
	 * @param fromStart whether no slot is held that the log does not tell of
	 */
	constructor(keep: number, fromStart: boolean) {
		this.#keep = keep;
		this.#known = fromStart ? null : new Set();
	}

	/** Whether all that hold the slot of `gpa` are among the mappings here. */
	knows(gpa: Gpa): boolean {
		return this.#known === null || this.#known.has(gpa - (gpa % IO_TLB_SIZE));
	}

	/** From here on the holders of slots are known: a mapping got them, or left them. */
	learn(tlb: Gpa, bytes: number): void {
		if (this.#known === null) return;
		const { from, to } = slotsOf(tlb, bytes);
		for (let slot = from; slot < to; slot += IO_TLB_SIZE) this.#known.add(slot);
	}

	get live(): Iterable<Mapping> {
		return this.#live.values();
	}

	get count(): number {
		return this.#live.size;
	}

	of(number: number): Mapping | null {
		return this.#live.get(number) ?? null;
	}

	/** Mappings whose original or slots touch [gpa, gpa + bytes). */
	touching(gpa: Gpa, bytes: number): Mapping[] {
		const found = new Set<Mapping>();
		for (let page = Math.floor(gpa / PAGE_SIZE); page * PAGE_SIZE < gpa + bytes; page++) {
			for (const mapping of this.#byPage.get(page) ?? [])
				if (placesOf(mapping).some(({ from, to }) => from < gpa + bytes && gpa < to)) found.add(mapping);
		}
		return [...found];
	}

	/** A map or take that succeeded, or one that was refused, which ends soon. */
	begin(event: AuditEvent, tlb: Gpa | null, fromPrivate: boolean): Mapping {
		const { mapping: number, device, gpa, bytes, dir } = event;
		const isBare = event.kind === "take slots" && gpa === 0;
		const mapping: Mapping = {
			number,
			device,
			event: event.number,
			gpa: isBare ? -1 : gpa,
			bytes,
			dir,
			dma: event.status === null ? addressOf(event) : -1,
			tlb,
			fromPrivate,
			filled: new RangeSet(),
			wrote: new RangeSet(),
			dirty: new RangeSet(),
			cpuOwned: new RangeSet(),
		};
		this.#live.set(number, mapping);
		if (tlb !== null) this.learn(tlb, bytes);
		for (const page of pagesOf(mapping)) this.#byPage.set(page, [...(this.#byPage.get(page) ?? []), mapping]);
		return mapping;
	}

	/** The mapping that an unmap or sync names by its address: of a direct one the log has no number. */
	named(event: AuditEvent): Mapping | null {
		const known = this.of(event.mapping);
		if (known !== null) return known;
		const at = addressOf(event);
		let holds: Mapping | null = null;
		for (const mapping of this.#live.values()) {
			if (mapping.device !== event.device || mapping.dma < 0) continue;
			const { dma, bytes, dir } = mapping;
			if (dma === at && bytes === event.bytes && dir === event.dir) return mapping;
			if (dma <= at && at < dma + bytes) holds ??= mapping;
		}
		return holds;
	}

	end(mapping: Mapping): void {
		this.#live.delete(mapping.number);
		for (const page of pagesOf(mapping)) {
			const rest = (this.#byPage.get(page) ?? []).filter((one) => one !== mapping);
			if (rest.length === 0) this.#byPage.delete(page);
			else this.#byPage.set(page, rest);
		}
		if (mapping.dma < 0) return;
		// what the device was given
		const left = mapping.tlb === null ? { from: mapping.gpa, to: mapping.gpa + mapping.bytes } : null;
		const { from, to } = left ?? slotsOf(mapping.tlb ?? 0, mapping.bytes);
		this.ended.push({ device: mapping.device, mapping: mapping.number, from, to });
		if (this.ended.length > this.#keep) this.ended.shift();
	}

	/** Whole pages have a new life: nobody's former buffer lies there. */
	renew(from: Gpa, to: Gpa): void {
		for (let i = this.ended.length - 1; i >= 0; i--) {
			const one = this.ended[i];
			if (one !== undefined && one.from < to && from < one.to) this.ended.splice(i, 1);
		}
	}

	/** Forgets everything: events were lost. */
	clear(): void {
		this.#live.clear();
		this.#byPage.clear();
		this.ended.length = 0;
		this.#known = new Set();
	}
}

function pagesOf(mapping: Mapping): Set<number> {
	const pages = new Set<number>();
	for (const { from, to } of placesOf(mapping))
		for (let page = Math.floor(from / PAGE_SIZE); page * PAGE_SIZE < to; page++) pages.add(page);
	return pages;
}
