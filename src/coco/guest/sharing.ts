/** Buffers that are shared in place for the time of a mapping, instead of being bounced. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import {
	BEYOND_MASK,
	BLOCKED_PAGES,
	NEEDS_SHARED,
	NO_POOL,
	SHARES_CACHE_LINE,
} from "../../../assembly/layout/status.ts";
import type { Device } from "../../dma/device.ts";
import { PageState } from "../../memory/ram.ts";
import { DmaError, hex } from "../../status.ts";
import { Attr, type Direction, type DmaAddr, type Gpa } from "../../types.ts";
import type { Hazard } from "../memory/hazard.ts";
import type { PageConverter } from "../platform/convert.ts";
import type { Decision } from "../rules/decision.ts";

/** What a mapping keeps shared. */
interface SharedPages {
	/** Pages that it counts in, ascending. */
	readonly pages: readonly Gpa[];
	/** How many of them it converted. */
	readonly converted: number;
}

/**
 * The pages of a guest that mappings share in place: a page stays shared until its last mapping ends, whoever made them.
 * Pages that were shared before are none of its.
 */
export class PageSharing {
	readonly #converter: PageConverter;
	readonly #onHazard: (hazard: Hazard) => void;
	readonly #mappings = new Map<Gpa, number>();

	constructor(converter: PageConverter, onHazard: (hazard: Hazard) => void) {
		this.#converter = converter;
		this.#onHazard = onHazard;
	}

	/** Shares what is private of [gpa, gpa + bytes), a range of usable RAM. @returns null: a page cannot be, and nothing is shared */
	share(gpa: Gpa, bytes: number): SharedPages | null {
		const { ram } = this.#converter.engine;
		const pages: number[] = [];
		for (let at = gpa - (gpa % PAGE_SIZE); at < gpa + bytes; at += PAGE_SIZE)
			if (this.#mappings.has(at) || ram.pageState(at) === PageState.Private) pages.push(at);
		const fresh = pages.filter((page) => !this.#mappings.has(page));
		const done: Gpa[] = [];
		for (const run of runsOf(fresh)) {
			if (!this.#convert(run, PageState.Shared)) {
				for (const back of runsOf(done)) this.#convertBack(back, null);
				return null;
			}
			done.push(...run);
		}
		for (const page of pages) this.#mappings.set(page, (this.#mappings.get(page) ?? 0) + 1);
		return { pages, converted: fresh.length };
	}

	/** Ends a mapping. @returns pages that are private again */
	release({ pages }: SharedPages, device: string): number {
		const last: Gpa[] = [];
		for (const page of pages) {
			const left = (this.#mappings.get(page) as number) - 1;
			if (left > 0) this.#mappings.set(page, left);
			else {
				this.#mappings.delete(page);
				last.push(page);
			}
		}
		let converted = 0;
		for (const run of runsOf(last)) if (this.#convertBack(run, device)) converted += run.length;
		return converted;
	}

	#convert(run: readonly number[], to: PageState): boolean {
		try {
			return this.#converter.convert(run[0] as number, run.length * PAGE_SIZE, to).ok;
		} catch (error) {
			if (error instanceof DmaError) return false;
			throw error;
		}
	}

	#convertBack(run: readonly number[], device: string | null): boolean {
		if (this.#convert(run, PageState.Private)) return true;
		const detail = `${run.length} pages at gpa ${hex(run[0] as number)} were shared in place and did not become private again`;
		this.#onHazard({ what: "PAGE_STATE", device, detail });
		return false;
	}
}

/** Adjoining pages together. */
function runsOf(pages: readonly Gpa[]): Gpa[][] {
	const runs: Gpa[][] = [];
	for (const page of pages) {
		const run = runs.at(-1);
		if (run !== undefined && run.at(-1) === page - PAGE_SIZE) run.push(page);
		else runs.push([page]);
	}
	return runs;
}

/** Refusals of a record without pools that a pool would have mended. */
const WOULD_BOUNCE: readonly number[] = [NO_POOL, BEYOND_MASK, NEEDS_SHARED, SHARES_CACHE_LINE];

/** What becomes of a device's mappings that its record refuses, under a policy that shares in place or crashes. */
export class RefusedMaps {
	readonly #dma: Device;
	readonly #name: string;
	readonly #sharing: PageSharing;
	/** Mappings that share pages, by their address: a buffer may be mapped twice. */
	readonly #live = new Map<DmaAddr, (SharedPages & { readonly bytes: number })[]>();
	#conversions = 0;
	decision: Pick<Decision, "mechanism" | "crash">;

	constructor(dma: Device, name: string, sharing: PageSharing, decision: Decision) {
		this.#dma = dma;
		this.#name = name;
		this.#sharing = sharing;
		this.decision = decision;
	}

	/** Changes of a page's state that mappings made. */
	get conversions(): number {
		return this.#conversions;
	}

	/**
	 * What follows on a refusal that stands for "would bounce".
	 * @returns an address, or a status
	 * @throws KernelCrash
	 */
	tryMap(status: number, gpa: Gpa, bytes: number, dir: Direction, cpu: number, attrs: number): DmaAddr {
		if (!WOULD_BOUNCE.includes(status)) return status;
		const { mechanism, crash } = this.decision;
		if (crash !== null) throw crash;
		// shared pages are no cache lines of one's own
		const shareable = status !== SHARES_CACHE_LINE && (attrs & (Attr.Mmio | Attr.CcShared)) === 0;
		if (mechanism !== "share-in-place" || !shareable) return status;
		const shared = this.#sharing.share(gpa, bytes);
		if (shared === null) return BLOCKED_PAGES;
		const dma = this.#dma.tryMap(gpa, bytes, dir, cpu, attrs | Attr.CcShared);
		this.#conversions += shared.converted;
		if (dma < 0) {
			this.#conversions += this.#sharing.release(shared, this.#name);
			return dma;
		}
		const same = this.#live.get(dma);
		if (same === undefined) this.#live.set(dma, [{ ...shared, bytes }]);
		else same.push({ ...shared, bytes });
		return dma;
	}

	/** Ends what a mapping shared, if it did. */
	unmapped(dma: DmaAddr, bytes: number): void {
		const same = this.#live.get(dma) ?? [];
		const i = same.findIndex((mapping) => mapping.bytes === bytes);
		if (i < 0) return;
		const [mapping] = same.splice(i, 1);
		if (same.length === 0) this.#live.delete(dma);
		if (mapping !== undefined) this.#conversions += this.#sharing.release(mapping, this.#name);
	}
}
