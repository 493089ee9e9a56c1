/** The kernel's slot placement once more, as plainly as it can be said: one array of owners and a walk. */

const SLOT = 2048;
const SEGMENT = 128;
export const POOL_FULL = -7;
export const OVER_MAX_MAPPING = -8;

export interface MapRequest {
	readonly orig: number;
	readonly bytes: number;
	readonly allocAlignMask: number;
	readonly minAlignMask: number;
	/** 2^k - 1; 2^64 - 1 when unset. */
	readonly boundary: bigint;
	readonly cpu: number;
}

/** How often a rule that is easily got wrong took part. */
export interface HardCases {
	maps: number;
	failedMaps: number;
	wraps: number;
	fallbacks: number;
	bothMasks: number;
	padded: number;
	orig0: number;
	boundaryRejections: number;
	/** Failed although a free run stood at an allowed slot: the restart at slot 0 had used up the walk. */
	quirks: number;
	/** Masks that are no 2^k - 1. */
	oddMasks: number;
}

export function noCases(): HardCases {
	return {
		maps: 0,
		failedMaps: 0,
		wraps: 0,
		fallbacks: 0,
		bothMasks: 0,
		padded: 0,
		orig0: 0,
		boundaryRejections: 0,
		quirks: 0,
		oddMasks: 0,
	};
}

/** What a request needs: slots, alignment of the first one, bits that its address keeps, offset of the mapping in it. */
export function needsOf({ orig, bytes, allocAlignMask, minAlignMask }: MapRequest) {
	const low = (orig % 2 ** 32) | 0;
	const offset = low & minAlignMask & (allocAlignMask | (SLOT - 1));
	const allocBytes = (bytes + offset + allocAlignMask) & ~allocAlignMask;
	let align = allocAlignMask;
	if (allocAlignMask === 0 && minAlignMask === 0 && allocBytes >= 4096) align = 4095;
	align |= SLOT - 1;
	return { n: Math.ceil(allocBytes / SLOT), align, keep: minAlignMask & ~align, offset };
}

interface Live {
	readonly from: number;
	readonly n: number;
}

export class SlotModel {
	readonly #start: number;
	readonly #areaSlots: number;
	readonly #areas: number;
	/** Number of the mapping that holds a slot, 0 when free. */
	readonly owner: Int32Array;
	readonly index: number[];
	readonly areaUsed: number[];
	used = 0;
	hiwater = 0;
	readonly cases: HardCases;
	readonly #live = new Map<number, Live>();
	#next = 1;

	constructor(start: number, slabs: number, areas: number, cases: HardCases) {
		this.#start = start;
		this.#areas = areas;
		this.#areaSlots = slabs / areas;
		this.owner = new Int32Array(slabs);
		this.index = new Array(areas).fill(0);
		this.areaUsed = new Array(areas).fill(0);
		this.cases = cases;
	}

	/** Free slots from one to the end of its run or segment. */
	list(slot: number): number {
		let n = 0;
		for (let at = slot; this.owner[at] === 0; at++) {
			n++;
			if ((at + 1) % SEGMENT === 0) break;
		}
		return n;
	}

	/** The bounce address, POOL_FULL or OVER_MAX_MAPPING. */
	map(request: MapRequest): number {
		const { align, keep } = needsOf(request);
		this.cases.maps++;
		if (request.orig === 0) this.cases.orig0++;
		if ((align & (align + 1)) !== 0 || ((align | keep) & ((align | keep) + 1)) !== 0) this.cases.oddMasks++;
		for (let i = 0; i < this.#areas; i++) {
			const tlb = this.mapIn(request.cpu + i, request);
			if (tlb === POOL_FULL) continue;
			if (tlb < 0) this.cases.failedMaps++;
			else if (i > 0) this.cases.fallbacks++;
			return tlb;
		}
		this.cases.failedMaps++;
		return POOL_FULL;
	}

	/** As map, in the area of one CPU alone. */
	mapIn(cpu: number, request: MapRequest): number {
		const { n, align, keep, offset } = needsOf(request);
		if (n > SEGMENT) return OVER_MAX_MAPPING;
		const area = cpu & (this.#areas - 1);
		const at = this.#search(area, request, n, align, keep);
		if (at < 0) return POOL_FULL;
		if (request.allocAlignMask !== 0 && keep !== 0) this.cases.bothMasks++;
		const pad = offset >> 11;
		if (pad > 0) this.cases.padded++;
		const slot = area * this.#areaSlots + at;
		const tlb = this.#start + (slot + pad) * SLOT + (offset & (SLOT - 1));
		this.#take(area, at, slot, n, tlb);
		this.#check(request, slot, n, pad, tlb, align);
		return tlb;
	}

	/** Whether mapIn would find slots. */
	hasRoomIn(cpu: number, request: MapRequest): boolean {
		const { n, align, keep } = needsOf(request);
		return n <= SEGMENT && this.#search(cpu & (this.#areas - 1), request, n, align, keep) >= 0;
	}

	/** Whether an address lies in the pool. */
	holds(tlb: number): boolean {
		return tlb >= this.#start && tlb < this.#start + this.owner.length * SLOT;
	}

	#search(area: number, request: MapRequest, n: number, align: number, keep: number): number {
		const slots = this.#areaSlots;
		if (n > slots - (this.areaUsed[area] as number)) return -1;
		const stride = (Math.max(align, keep) >> 11) + 1;
		let at = this.index[area] as number;
		for (let looked = 0; looked < slots; ) {
			const passes = this.#aligned(area, at, request, align, keep);
			if (passes && this.#fits(area, at, request, n)) return at;
			const step = passes ? stride : 1;
			at += step;
			if (at >= slots) at = 0;
			looked += step;
		}
		for (let slot = 0; slot < slots; slot++) {
			if (this.#aligned(area, slot, request, align, keep) && this.#fits(area, slot, request, n)) {
				this.cases.quirks++;
				break;
			}
		}
		return -1;
	}

	/** The slot's address as the kernel's search sees it: low 32 bits. */
	#address(area: number, at: number, boundary: bigint): number {
		const table = Number(BigInt(this.#start) & boundary & 0xffffffffn);
		return (table + (area * this.#areaSlots + at) * SLOT) | 0;
	}

	#aligned(area: number, at: number, { orig, boundary }: MapRequest, align: number, keep: number): boolean {
		const address = this.#address(area, at, boundary);
		if ((address & align) !== 0) return false;
		return orig === 0 || (address & keep) === (((orig % 2 ** 32) | 0) & keep);
	}

	#fits(area: number, at: number, { boundary }: MapRequest, n: number): boolean {
		const slot = area * this.#areaSlots + at;
		if (!this.#insideBoundary(slot, n, boundary)) {
			this.cases.boundaryRejections++;
			return false;
		}
		if ((slot % SEGMENT) + n > SEGMENT) return false;
		for (let i = 0; i < n; i++) if (this.owner[slot + i] !== 0) return false;
		return true;
	}

	#insideBoundary(slot: number, n: number, boundary: bigint): boolean {
		if (boundary > 0xffffffffffn) return true;
		const boundarySlots = Number(boundary >> 11n) + 1;
		const table = Math.ceil(Number(BigInt(this.#start) & boundary) / SLOT);
		return ((table + slot) % boundarySlots) + n <= boundarySlots;
	}

	#take(area: number, at: number, slot: number, n: number, tlb: number): void {
		if (this.#live.has(tlb)) throw new Error(`two live mappings at tlb ${tlb}`);
		this.owner.fill(this.#next++, slot, slot + n);
		this.#live.set(tlb, { from: slot, n });
		const next = at + n;
		if (next >= this.#areaSlots || at < (this.index[area] as number)) this.cases.wraps++;
		this.index[area] = next >= this.#areaSlots ? 0 : next;
		this.areaUsed[area] = (this.areaUsed[area] as number) + n;
		this.used += n;
		this.hiwater = Math.max(this.hiwater, this.used);
	}

	/** What must hold for every placement, said without the walk. */
	#check(request: MapRequest, slot: number, n: number, pad: number, tlb: number, align: number): void {
		const { orig, bytes, minAlignMask, boundary } = request;
		const fail = (what: string) => {
			throw new Error(`${what}: ${JSON.stringify({ ...request, boundary: String(boundary), slot, n, pad, tlb })}`);
		};
		if (Math.floor(slot / SEGMENT) !== Math.floor((slot + n - 1) / SEGMENT)) fail("crosses a segment");
		if (Math.floor(slot / this.#areaSlots) !== Math.floor((slot + n - 1) / this.#areaSlots)) fail("crosses an area");
		if (slot < 0 || slot + n > this.owner.length) fail("outside the pool");
		if (boundary <= 0xffffffffffn) {
			const base = BigInt(this.#start) & boundary;
			const from = base + BigInt(slot * SLOT);
			const to = from + BigInt(n * SLOT) - 1n;
			if (base % 2048n === 0n && from / (boundary + 1n) !== to / (boundary + 1n)) fail("crosses the boundary");
		}
		const seen = Number(BigInt(this.#start) & boundary & 0xffffffffn) - (this.#start % 2 ** 32);
		const tlbLow = ((tlb + seen) % 2 ** 32) | 0;
		if (orig !== 0 && ((tlbLow ^ ((orig % 2 ** 32) | 0)) & minAlignMask) !== 0)
			fail("differs from orig under the mask");
		const allocLow = ((this.#start + slot * SLOT + seen) % 2 ** 32) | 0;
		if ((allocLow & align) !== 0) fail("is not aligned");
		if (tlb < this.#start + (slot + pad) * SLOT || tlb + bytes > this.#start + (slot + n) * SLOT)
			fail("leaves its slots");
	}

	unmap(tlb: number): void {
		const live = this.#live.get(tlb);
		if (live === undefined) throw new Error(`no mapping at ${tlb}`);
		this.#live.delete(tlb);
		const area = Math.floor(live.from / this.#areaSlots);
		this.owner.fill(0, live.from, live.from + live.n);
		this.areaUsed[area] = (this.areaUsed[area] as number) - live.n;
		this.used -= live.n;
	}
}
