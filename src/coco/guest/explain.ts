/** One mapping, explained: each predicate, what was done, and who can read the bytes before, during and after. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { IO_TLB_SEGSIZE, IO_TLB_SIZE } from "../../../assembly/layout/pool.ts";
import { BAD_DIRECTION, POOL_PAGES } from "../../../assembly/layout/status.ts";
import type { BrokenRule, Refusal } from "../../dma/refusal.ts";
import { PageState } from "../../memory/ram.ts";
import { DmaError, hex, type StatusName, statusName } from "../../status.ts";
import type { Pool } from "../../swiotlb/pool.ts";
import { Attr, Direction, type DmaAddr, directionName, type Gpa } from "../../types.ts";
import { CipherUnavailable } from "../platform/ciphertext.ts";
import { stateName } from "../platform/convert.ts";
import { Parties, type PartyView } from "../platform/parties.ts";
import { decodeAddress, encodeGpa } from "../platform/platform.ts";
import { AccessFault, type AccessResult } from "../platform/violations.ts";
import { encodingOf } from "../rules/device.ts";
import { KernelCrash } from "../rules/policy.ts";
import type { GuestDevice } from "./device.ts";
import type { Guest } from "./guest.ts";
import { askReach, decisionSteps, type MapRequest, type PredicateStep, poolFor, poolStateStep } from "./steps.ts";

const BOUNCE_REACH = "dma_capable(dev, bounce address, size)";

/** What a party gets that reads: the bytes, something else, or nothing. null: it has no address to read at. */
export type Sight = "plain" | AccessResult | null;

/** Who can read some bytes at one moment. */
export interface Readers {
	readonly when: "before" | "mapped" | "after";
	readonly where: "buffer" | "slots";
	/** State of the pages, those of a range that has several joined by "+". */
	readonly pages: string;
	readonly guest: Sight;
	readonly paravisor: Sight;
	readonly host: Sight;
	readonly device: Sight;
}

export interface Explanation {
	readonly platform: string;
	readonly kernel: string;
	readonly device: string;
	readonly request: { readonly gpa: Gpa; readonly bytes: number; readonly dir: string; readonly cpu: number };
	readonly steps: readonly PredicateStep[];
	readonly decision: "direct" | "bounce" | "refused" | "crash";
	/** Where the kernel ends, or null. */
	readonly crash: { readonly where: string; readonly why: string } | null;
	/** Why a mapping failed, or null. */
	readonly status: StatusName | null;
	/** The same in the kernel's terms, or null. */
	readonly refusal: Refusal | null;
	/** The address that the device is given, or null. */
	readonly dma: DmaAddr | null;
	readonly bounce: {
		readonly pool: string;
		readonly tlb: Gpa;
		readonly firstSlot: number;
		readonly slots: number;
		readonly transient: boolean;
	} | null;
	readonly readers: readonly Readers[];
}

/** What a party gets of [address, address + bytes) beside what stands there: a fault, if any page faults. */
function sightOf<A extends number>(view: PartyView<A>, parties: Parties, address: A | null, bytes: number): Sight {
	if (address === null) return null;
	let sight: Sight = "plain";
	for (let at: number = address; at < address + bytes && sight !== "fault"; ) {
		const length = Math.min(PAGE_SIZE - (at % PAGE_SIZE), address + bytes - at);
		const here = sightOfPage(view, parties, at as A, length);
		if (here !== "plain") sight = here;
		at += length;
	}
	return sight;
}

function sightOfPage<A extends number>(view: PartyView<A>, parties: Parties, address: A, bytes: number): Sight {
	const before = parties.violations.total;
	try {
		view.read(address, bytes);
	} catch (error) {
		if (error instanceof AccessFault) return error.violation.result;
		// without AES the host's bytes cannot be shown, but they are ciphertext
		if (error instanceof CipherUnavailable) return "ciphertext";
		throw error;
	}
	return parties.violations.total === before ? "plain" : (parties.violations.list.at(-1)?.result ?? "plain");
}

/** Looks at memory through everybody's eyes, without a trace in the guest's own log. */
export class Onlookers {
	readonly #guest: Guest;
	readonly #device: GuestDevice;
	readonly #parties: Parties;

	constructor(guest: Guest, device: GuestDevice) {
		this.#guest = guest;
		this.#device = device;
		this.#parties = new Parties(guest.converter);
	}

	look(when: Readers["when"], where: Readers["where"], gpa: Gpa, bytes: number, dma: DmaAddr | null): Readers {
		const { guest, paravisor, host } = this.#parties;
		const { encoded } = this.#device.ruled;
		const view = this.#parties.device(this.#device.dma.index, { encoded, t: this.#device.t });
		const pages = new Set<string>();
		for (let at = gpa - (gpa % PAGE_SIZE); at < gpa + bytes; at += PAGE_SIZE)
			pages.add(stateName(this.#guest.engine.ram.pageState(at)).toLowerCase());
		const sight = (who: PartyView) => sightOf(who, this.#parties, gpa, bytes);
		return {
			when,
			where,
			pages: [...pages].join("+"),
			guest: sight(guest),
			paravisor: this.#guest.platform.hiddenPages ? sight(paravisor) : null,
			host: sight(host),
			device: sightOf(view, this.#parties, dma, bytes),
		};
	}
}

/**
 * Explains a mapping, and makes and ends it to be sure: what the predicates say is compared with what was done.
 * @throws DmaError for a range that is not usable RAM or a pool's, a bad size or direction; RangeError for Attr.Mmio; Error when the
 *   engine decided otherwise
 */
export function explain(guest: Guest, device: GuestDevice, request: MapRequest): Explanation {
	const { gpa, bytes, dir, cpu = 0, attrs = 0 } = request;
	if ((attrs & Attr.Mmio) !== 0) throw new RangeError("explain: MMIO is no RAM, and so nobody's to read");
	// refuses what no kernel decides about
	guest.engine.ram.rangeState(gpa, bytes);
	const call = `explain(gpa ${hex(gpa)}, ${bytes} bytes, ${directionName(dir)})`;
	if (directionName(dir) === String(dir)) throw new DmaError(call, BAD_DIRECTION);
	const inPool = guest.engine.pools.some((pool) => gpa < pool.start + pool.bytes && gpa + bytes > pool.start);
	if (inPool) throw new DmaError(call, POOL_PAGES);
	const onlookers = new Onlookers(guest, device);
	const { steps: decided, decision: predicted } = decisionSteps(guest, device, request);
	const steps = [...decided];
	const poolState = predicted === "bounce" ? poolStateStep(guest, device, request) : null;
	if (poolState !== null) steps.push(poolState);
	const readers = [onlookers.look("before", "buffer", gpa, bytes, null)];

	const pool = poolFor(guest, device, request);
	const pools = pool?.growing?.pools ?? (pool === null ? [] : [pool.pool]);
	const indexes = pools.map((each) => each.areas().map(({ index }) => index));
	const transients = pool?.growing?.transients.map(({ gpa: start }) => start) ?? [];
	const before = device.dma.counters;
	const dma = crashing(() => device.tryMap(gpa, bytes, dir, cpu, attrs));
	const after = device.dma.counters;
	const slots = predicted === "bounce" && poolState?.value !== "false" ? slotsStep(guest, device, request) : null;
	if (pool !== null && slots !== null) steps.push(slots);
	const common = {
		platform: guest.platform.name,
		kernel: guest.kernel.name,
		device: device.name,
		request: { gpa, bytes, dir: directionName(dir), cpu },
		crash: null,
	};
	if (typeof dma === "object") {
		const nothing = { status: null, refusal: null, dma: null, bounce: null };
		return { ...common, ...nothing, steps, decision: "crash", crash: dma, readers };
	}
	if (dma < 0) {
		agree(predicted !== "direct", common, predicted, statusName(dma));
		const refusal = device.refusal({ gpa, bytes, dir, attrs }, dma);
		const run = refusal.broken.find(({ rule }) => rule === "free-run");
		if (run?.rule === "free-run") steps.push(searchStep(run));
		readers.push(onlookers.look("after", "buffer", gpa, bytes, null));
		const refused = { ...common, steps, status: statusName(dma), refusal, dma: null, readers };
		if (after.beyondMask === before.beyondMask) return { ...refused, decision: "refused", bounce: null };
		const transient = pool?.growing?.transients.find(({ gpa: start }) => !transients.includes(start))?.gpa;
		const tlb =
			transient === undefined
				? residueOf(guest, pools, indexes, device, request)
				: transient + inSlotOffset(device, gpa);
		const slotsDma = encodeGpa(encodingOf(guest.platform, device.ruled), tlb, pool?.ccShared === true);
		const { predicate, value, why } = askReach(device, slotsDma, bytes, BOUNCE_REACH).step;
		steps.push({ predicate, value, why: `${why}; the bytes were copied into the slots before, as in Linux` });
		readers.push(onlookers.look("after", "slots", tlb, bytes, null));
		const bounce = placeOf(guest, device, tlb, gpa, bytes);
		return { ...refused, decision: "bounce", bounce, refusal: withSlots(refusal, Number(slotsDma)) };
	}
	const direct = after.directMaps > before.directMaps;
	agree(predicted === (direct ? "direct" : "bounce"), common, predicted, direct ? "direct" : "bounce");
	if (direct) {
		readers.push(onlookers.look("mapped", "buffer", gpa, bytes, dma));
		device.unmap(dma, bytes, dir);
		readers.push(onlookers.look("after", "buffer", gpa, bytes, null));
		return { ...common, steps, decision: "direct", status: null, refusal: null, dma, bounce: null, readers };
	}
	const tlb = decodeAddress(guest.platform, dma).gpa;
	const bounce = placeOf(guest, device, tlb, gpa, bytes);
	steps.push(askReach(device, BigInt(dma), bytes, BOUNCE_REACH).step);
	readers.push(onlookers.look("mapped", "buffer", gpa, bytes, null));
	readers.push(onlookers.look("mapped", "slots", tlb, bytes, dma));
	device.unmap(dma, bytes, dir);
	readers.push(onlookers.look("after", "buffer", gpa, bytes, null));
	// a transient pool is gone with its mapping
	if (!bounce.transient) readers.push(onlookers.look("after", "slots", tlb, bytes, dma));
	return { ...common, steps, decision: "bounce", status: null, refusal: null, dma, bounce, readers };
}

/** What a call answers, or where the kernel ends in it. */
export function crashing<T>(call: () => T): T | NonNullable<Explanation["crash"]> {
	try {
		return call();
	} catch (error) {
		if (!(error instanceof KernelCrash)) throw error;
		const { where, why } = error;
		return { where, why };
	}
}

/** How many slots the buffer takes, which no mapping may have more than a segment of. */
function slotsStep({ engine }: Guest, device: GuestDevice, { gpa, bytes }: MapRequest): PredicateStep {
	const slots = engine.instance.exports.swiotlbSlots(device.dma.index, gpa, bytes, 0);
	const offset = inSlotOffset(device, gpa);
	const sum = offset === 0 ? `${bytes} bytes` : `offset ${hex(offset)} + ${bytes} bytes`;
	const holds = slots <= IO_TLB_SEGSIZE;
	const why = `${sum} = ${slots} slot${slots === 1 ? "" : "s"} ${holds ? "<=" : ">"} ${IO_TLB_SEGSIZE}`;
	return { predicate: "slots <= IO_TLB_SEGSIZE", value: String(holds), why };
}

/** A search that found nothing. */
function searchStep({
	slots,
	usedSlots,
	totalSlots,
	longestFreeRunSlots,
}: BrokenRule & { rule: "free-run" }): PredicateStep {
	const why = `${slots} slots in a row; ${usedSlots} of ${totalSlots} in use, longest free run ${longestFreeRunSlots}`;
	return { predicate: "swiotlb_find_slots(dev, orig_addr, size)", value: "-1", why };
}

/** A refusal after the copy, with the slots that it was about. */
function withSlots(refusal: Refusal, dma: DmaAddr): Refusal {
	const { message } = refusal;
	return message?.class === "TLB-OVERFLOW" ? { ...refusal, message: { ...message, dma } } : refusal;
}

function agree(
	agrees: boolean,
	{ device, request }: Pick<Explanation, "device" | "request">,
	said: string,
	done: string,
) {
	if (!agrees)
		throw new Error(`explain of ${request.bytes} bytes on ${device}: the rules say ${said}, the engine ${done}`);
}

/**
 * Where a map that was refused after its copy left its bytes: its slots end where that area's next search starts. A search
 * that ended where it had begun moved nothing; then it is the first area that is asked and has such a run.
 * @returns tlb_addr
 */
function residueOf(
	guest: Guest,
	pools: readonly Pool[],
	indexes: readonly (readonly number[])[],
	device: GuestDevice,
	{ gpa, bytes, cpu = 0 }: MapRequest,
): Gpa {
	const slots = guest.engine.instance.exports.swiotlbSlots(device.dma.index, gpa, bytes, 0);
	const places = pools.flatMap((pool, i) =>
		pool.areas().map(({ index }, area) => ({
			pool,
			moved: index !== indexes[i]?.[area],
			turn: (area - cpu) & (pool.areaCount - 1),
			first: area * pool.areaSlabs + (index === 0 ? pool.areaSlabs : index) - slots,
			areaStart: area * pool.areaSlabs,
		})),
	);
	const { minAlignMask = 0, segBoundaryMask = 2n ** 64n - 1n } = device.options;
	const fits = ({ pool, first, areaStart }: (typeof places)[number]) => {
		const start = pool.start + first * IO_TLB_SIZE;
		const aligned =
			minAlignMask === 0
				? bytes < PAGE_SIZE || start % PAGE_SIZE === 0
				: gpa === 0 || ((start ^ gpa) & minAlignMask & -IO_TLB_SIZE) === 0;
		const inside = (BigInt(start) & segBoundaryMask) + BigInt(slots * IO_TLB_SIZE) <= segBoundaryMask + 1n;
		return first >= areaStart && aligned && inside && (pool.list()[first] as number) >= slots;
	};
	const place = places.find(({ moved }) => moved) ?? places.sort((a, b) => a.turn - b.turn).find(fits);
	if (place === undefined)
		throw new Error(`explain of ${bytes} bytes on ${device.name}: the slots are not to be found`);
	return place.pool.start + place.first * IO_TLB_SIZE + inSlotOffset(device, gpa);
}

/** Where in its first slot a buffer starts. */
function inSlotOffset({ options: { minAlignMask = 0 } }: GuestDevice, gpa: Gpa): number {
	return gpa & minAlignMask & (IO_TLB_SIZE - 1);
}

function placeOf(
	guest: Guest,
	device: GuestDevice,
	tlb: Gpa,
	gpa: Gpa,
	bytes: number,
): NonNullable<Explanation["bounce"]> {
	const slots = guest.engine.instance.exports.swiotlbSlots(device.dma.index, gpa, bytes, 0);
	const common = guest.engine.pools.find(({ start, bytes: length }) => tlb >= start && tlb < start + length);
	const name = guest.pools.find(({ pool }) => pool === common)?.name ?? device.pool?.name ?? "";
	const firstSlot = common === undefined ? 0 : Math.floor((tlb - common.start) / IO_TLB_SIZE);
	return { pool: name, tlb, firstSlot, slots, transient: common === undefined };
}

/** Whether the host ever saw plain bytes of a buffer that lies on private pages. */
export function exposes({ readers }: Explanation): boolean {
	return (
		readers[0]?.pages === stateName(PageState.Private).toLowerCase() && readers.some(({ host }) => host === "plain")
	);
}

/** The direction of a name, as Linux writes it. @throws RangeError that lists them */
export function directionNamed(name: string): Direction {
	const all = Object.values(Direction);
	const found = all.find((dir) => directionName(dir) === name.toUpperCase());
	if (found === undefined)
		throw new RangeError(`direction must be one of ${all.map(directionName).join(", ")}, not "${name}"`);
	return found;
}
