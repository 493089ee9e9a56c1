/**
 * Why a mapping was refused, in the kernel's terms, as a value: derived from the device's decision record and its pools as they
 * stand right after the refusal. report/refusal.ts has the words.
 */

import { PAGE_SIZE, RANGE_PRIVATE } from "../../assembly/layout/context.ts";
import * as layout from "../../assembly/layout/device.ts";
import {
	IO_TLB_MAX_MAPPING,
	IO_TLB_SEGSIZE,
	IO_TLB_SIZE,
	POOL_DISABLED,
	POOL_ENCRYPTED,
	POOL_MEM,
} from "../../assembly/layout/pool.ts";
import { DmaError, type StatusName, statusName } from "../status.ts";
import { Pool } from "../swiotlb/pool.ts";
import { Attr, Direction, type DmaAddr, type Gpa } from "../types.ts";
import type { Instance } from "../wasm.ts";

/** A mapping that was asked for. */
export interface RefusedRequest {
	readonly gpa: Gpa;
	readonly bytes: number;
	readonly dir: Direction;
	/** Attr.* */
	readonly attrs: number;
}

/** A rule that a mapping breaks, with its numbers. */
export type BrokenRule =
	/** dma_capable: the last byte lies beyond what the device or its bus reaches. slots: of the lowest place in its pool. */
	| {
			readonly rule: "reach";
			readonly of: "buffer" | "slots";
			/** First and last address, encoded as the device is given them. */
			readonly dma: DmaAddr;
			readonly endDma: DmaAddr;
			/** Highest address that passes, inclusive, and whose it is. */
			readonly limit: DmaAddr;
			readonly limitedBy: "dma_mask" | "bus_dma_limit";
			/** Bits that the encoding adds to a gpa: 0 where none. */
			readonly encodingBits: number;
	  }
	/**
	 * dma_capable after the 7.3 merge: the memory is private, and the device reaches shared memory only. reachesShared: whether
	 * the buffer's address in the shared form would pass.
	 */
	| { readonly rule: "state"; readonly reachesShared: boolean }
	/** dma_kmalloc_needs_bounce: a buffer of a device that is not coherent may share a cache line of 64 bytes. */
	| { readonly rule: "cache-line"; readonly bytes: number }
	/** DMA_ATTR_REQUIRE_COHERENT of a device that is not coherent. */
	| { readonly rule: "coherence" }
	/** An attribute that forbids to bounce. */
	| { readonly rule: "attribute"; readonly attribute: "DMA_ATTR_MMIO" | "DMA_ATTR_REQUIRE_COHERENT" }
	/** A policy that forbids to bounce, and what it has instead. */
	| { readonly rule: "policy"; readonly policy: string; readonly mechanism: string }
	/** The device has no pool. forced: it must bounce whatever it reaches. */
	| { readonly rule: "no-pool"; readonly forced: boolean }
	/** swiotlb_map after the 7.3 merge: the pool's state is not what the device needs. */
	| { readonly rule: "pool-state"; readonly poolShared: boolean; readonly needsShared: boolean }
	/** IO_TLB_SEGSIZE: no mapping has more slots. offsetBytes: of the buffer in its first slot */
	| {
			readonly rule: "max-mapping";
			readonly offsetBytes: number;
			readonly bytes: number;
			readonly slots: number;
			readonly maxSlots: number;
	  }
	/** The search found no run. totalSlots, usedSlots: of the allocator. disabled: none of its slots is ever free. */
	| {
			readonly rule: "free-run";
			readonly slots: number;
			readonly usedSlots: number;
			readonly totalSlots: number;
			readonly longestFreeRunSlots: number;
			readonly disabled: boolean;
	  }
	/** No kernel's: what Linux leaves undefined, or cannot be asked. */
	| { readonly rule: "call" };

/** What Linux logs, by the class of the message. mask, busLimit: hex digits, since they may have all 64 bits. */
export type KernelMessage =
	| { readonly class: "FULL"; readonly bytes: number; readonly totalSlots: number; readonly usedSlots: number }
	| { readonly class: "NO-POOL" }
	| {
			readonly class: "DMA-OVERFLOW" | "TLB-OVERFLOW";
			/** Null: not known any more. */
			readonly dma: DmaAddr | null;
			readonly bytes: number;
			readonly mask: string;
			readonly busLimit: string;
	  };

/** One thing to do. */
export type Remedy =
	/** Map at most so many bytes at once. anywhere: sure at every address, what dma_max_mapping_size() answers. */
	| { readonly remedy: "split"; readonly bytes: number; readonly anywhere: boolean }
	/** A pool of so many slots, `swiotlb=<slots>`; null: any, without "noforce". */
	| { readonly remedy: "pool"; readonly slots: number | null }
	/** A pool that could be decrypted. */
	| { readonly remedy: "usable-pool" }
	/** Memory whose DMA address is at most `limit`, or a mask of so many bits; null: no mask helps, the bus is the limit. */
	| {
			readonly remedy: "reach";
			readonly of: "buffer" | "slots";
			readonly limit: DmaAddr;
			readonly maskBits: number | null;
			/** Whether it is the encoding alone that is out of reach. */
			readonly byEncoding: boolean;
	  }
	/** Have the device accepted; or, where its shared form is in reach, decrypt the buffer and map it with DMA_ATTR_CC_SHARED. */
	| { readonly remedy: "private-or-shared"; readonly reachesShared: boolean }
	/** A pool of the other state. */
	| { readonly remedy: "pool-state"; readonly shared: boolean }
	| { readonly remedy: "without-attribute"; readonly attribute: string }
	/** A buffer of whole cache lines: at least so many bytes, or another size. */
	| { readonly remedy: "cache-lines"; readonly bytes: number }
	| { readonly remedy: "coherent-device" }
	/** Another policy, or another answer of this one. */
	| { readonly remedy: "policy"; readonly policy: string };

export interface Refusal {
	readonly status: StatusName;
	readonly request: RefusedRequest;
	/**
	 * What the kernel's callers see: of one mapping DMA_MAPPING_ERROR, which dma_mapping_error() makes an errno of, and of a
	 * list what dma_map_sgtable() answers. Null: no kernel refuses this, it is undefined there.
	 */
	readonly errno: { readonly mapping: "ENOMEM"; readonly list: "EIO" | "EOPNOTSUPP" } | null;
	/** Null: Linux says nothing. */
	readonly message: KernelMessage | null;
	/** In the order in which the kernel asks them: why it does not map the buffer as it is, then where it gave up. */
	readonly broken: readonly BrokenRule[];
	/** What would have refused it next. */
	readonly next: readonly BrokenRule[];
	/** Most bytes that are mapped at this address as things stand, at most those that were asked for; 0: none. Null: not known. */
	readonly largestBytes: number | null;
	/** Most bytes that a bounced mapping may have at any address (dma_max_mapping_size); null where nothing may bounce it. */
	readonly largestAnywhereBytes: number | null;
	/** Ways to have it mapped: any one will do, and each needs all of its steps. */
	readonly ways: readonly (readonly Remedy[])[];
}

/** A refused map: the call with its arguments, and why. */
export class MapRefused extends DmaError {
	readonly refusal: Refusal;

	constructor(call: string, status: number, detail: string, refusal: Refusal) {
		super(call, status, detail);
		this.refusal = refusal;
	}
}

/** Answers that are no kernel's. */
const OURS: ReadonlySet<StatusName> = new Set([
	"OUTSIDE_RAM",
	"BAD_SIZE",
	"BAD_DIRECTION",
	"MIXED_PAGES",
	"BLOCKED_PAGES",
	"POOL_PAGES",
	"BAD_DEVICE",
]);

const MAX_U64 = 2n ** 64n - 1n;
/** Buffers whose kmalloc bucket is no multiple of a 64-byte cache line are at most this long (bytes). */
const KMALLOC_BOUNCES_TO = 96;

/** Linux 6.12 include/linux/dma-map-ops.h, dma_kmalloc_needs_bounce, with 64-byte cache lines. */
function kmallocBounces(bytes: number, dir: Direction): boolean {
	if (dir === Direction.ToDevice) return false;
	return bytes <= 32 || (bytes > 64 && bytes <= KMALLOC_BOUNCES_TO);
}

/** Bits that an address needs. */
function bitsOf(address: number): number {
	return BigInt(address).toString(2).length;
}

/** Where a device's record lies. */
interface RefusingDevice {
	readonly instance: Instance;
	readonly contextPtr: number;
	/** The device's number. */
	readonly index: number;
}

/** A device's record, the pools that would serve a request, and the rules that it breaks. */
class Inquiry {
	readonly #instance: Instance;
	readonly #contextPtr: number;
	readonly #record: number;
	readonly #request: RefusedRequest;
	readonly #flags: number;
	readonly #minAlignMask: number;
	/** Pools of the allocator that would bounce it; none: the device has none. */
	readonly #pools: readonly Pool[];
	readonly #ccShared: boolean;
	readonly #isPrivate: boolean;

	constructor({ instance, contextPtr, index }: RefusingDevice, request: RefusedRequest) {
		this.#instance = instance;
		this.#contextPtr = contextPtr;
		this.#record = instance.exports.devicePtr(index) >>> 0;
		this.#request = request;
		this.#flags = instance.u32(this.#record + layout.DEVICE_FLAGS);
		this.#minAlignMask = instance.u32(this.#record + layout.DEVICE_MIN_ALIGN_MASK);
		const { gpa, bytes, attrs } = request;
		const mmioShared = this.#isMmio && this.#has(layout.DEVICE_MMIO_SHARED);
		this.#ccShared = this.#checksState && ((attrs & Attr.CcShared) !== 0 || mmioShared);
		this.#isPrivate = this.#checksState
			? !this.#ccShared
			: instance.exports.ramRangeState(gpa, bytes) === RANGE_PRIVATE;
		this.#pools = this.#findPools();
	}

	#has(flag: number): boolean {
		return (this.#flags & flag) !== 0;
	}

	/** Whether the rules after the 7.3 merge decide. */
	get #checksState(): boolean {
		return this.#has(this.#isMmio ? layout.DEVICE_ENCODES_MMIO : layout.DEVICE_CHECKS_STATE);
	}

	get #isMmio(): boolean {
		return (this.#request.attrs & Attr.Mmio) !== 0;
	}

	/** Whether it is MMIO by rules of its own: the address as it is, and nothing but its reach is asked for. */
	get #isPlainMmio(): boolean {
		return this.#isMmio && !this.#checksState;
	}

	get #forced(): boolean {
		return this.#has(layout.DEVICE_FORCE_BOUNCE);
	}

	get #nonCoherent(): boolean {
		return this.#has(layout.DEVICE_NON_COHERENT);
	}

	/** The attribute that forbids to bounce, or null. MMIO never bounces; 6.12 knows no other. */
	get #forbids(): "DMA_ATTR_MMIO" | "DMA_ATTR_REQUIRE_COHERENT" | null {
		if (this.#isMmio) return "DMA_ATTR_MMIO";
		const required = this.#checksState && (this.#request.attrs & Attr.RequireCoherent) !== 0;
		return required ? "DMA_ATTR_REQUIRE_COHERENT" : null;
	}

	#u64(field: number): bigint {
		return this.#instance.data.getBigUint64(this.#record + field, true);
	}

	/** The device's pools that serve such a buffer: one, or all of an allocator that grows. */
	#findPools(): readonly Pool[] {
		const { exports } = this.#instance;
		const all: { readonly pool: Pool; readonly ptr: number }[] = [];
		for (let i = 0, ptr = exports.poolPtr(0) >>> 0; ptr !== 0; i++, ptr = exports.poolPtr(i) >>> 0)
			all.push({ pool: new Pool(this.#instance, i), ptr });
		const number = this.#instance.data.getInt32(this.#record + layout.DEVICE_POOL, true);
		const common = number < 0 ? undefined : all[number];
		const privateOffset = this.#instance.u32(this.#record + layout.DEVICE_PRIVATE_POOL);
		const found =
			this.#isPrivate && privateOffset !== 0 ? all.find(({ ptr }) => ptr === this.#contextPtr + privateOffset) : common;
		if (found === undefined) return [];
		const mem = this.#instance.u32(found.ptr + POOL_MEM);
		if (mem === 0) return [found.pool];
		return all.filter(({ ptr }) => this.#instance.u32(ptr + POOL_MEM) === mem).map(({ pool }) => pool);
	}

	get #limit(): { readonly limit: bigint; readonly limitedBy: "dma_mask" | "bus_dma_limit" } {
		const [mask, bus] = [this.#u64(layout.DEVICE_DMA_MASK), this.#u64(layout.DEVICE_BUS_LIMIT)];
		// Linux 6.12 include/linux/dma-direct.h, dma_capable: min_not_zero
		if (bus !== 0n && (mask === 0n || bus < mask)) return { limit: bus, limitedBy: "bus_dma_limit" };
		return { limit: mask, limitedBy: "dma_mask" };
	}

	#encode(gpa: Gpa, shared: boolean): bigint {
		const [bits, clear] = shared
			? [this.#u64(layout.DEVICE_SHARED_BITS), this.#u64(layout.DEVICE_SHARED_CLEAR)]
			: [this.#u64(layout.DEVICE_PRIVATE_BITS), this.#u64(layout.DEVICE_PRIVATE_CLEAR)];
		return (BigInt(gpa) & ~clear) | bits;
	}

	/** Whether a direct mapping takes the shared form. */
	get #directIsShared(): boolean {
		if (this.#checksState) return this.#ccShared;
		return !this.#isPrivate && !this.#has(layout.DEVICE_ENCODES_AS_LINUX);
	}

	#directDma(): bigint {
		const { gpa } = this.#request;
		return this.#isPlainMmio ? BigInt(gpa) : this.#encode(gpa, this.#directIsShared);
	}

	#reachOf(of: "buffer" | "slots", dma: bigint, bytes: number, gpa: Gpa): BrokenRule | null {
		const { limit, limitedBy } = this.#limit;
		const end = dma + BigInt(bytes) - 1n;
		if (end <= limit) return null;
		const encodingBits = Number(dma & ~BigInt(gpa));
		return {
			rule: "reach",
			of,
			dma: Number(dma),
			endDma: Number(end),
			limit: Number(limit),
			limitedBy,
			encodingBits,
		};
	}

	/** Why the buffer is not mapped as it is, without a force to bounce. */
	direct(): BrokenRule[] {
		const { gpa, bytes, dir, attrs } = this.#request;
		if (this.#checksState && this.#nonCoherent && (attrs & Attr.RequireCoherent) !== 0) return [{ rule: "coherence" }];
		if (this.#forced && !this.#isPlainMmio) return [];
		const broken: BrokenRule[] = [];
		const reach = this.#reachOf("buffer", this.#directDma(), bytes, gpa);
		if (reach !== null) broken.push(reach);
		if (this.#checksState && !this.#ccShared && this.#has(layout.DEVICE_NEEDS_SHARED)) {
			const reachesShared = this.#reachOf("buffer", this.#encode(gpa, true), bytes, gpa) === null;
			broken.push({ rule: "state", reachesShared });
		}
		if (this.#nonCoherent && !this.#isMmio && kmallocBounces(bytes, dir)) broken.push({ rule: "cache-line", bytes });
		return broken;
	}

	/** What keeps it from being bounced, in the order in which that is asked. */
	bounce(status: StatusName): BrokenRule[] {
		const { gpa, bytes } = this.#request;
		const forbids = this.#forbids;
		if (forbids !== null) return [{ rule: "attribute", attribute: forbids }];
		const broken: BrokenRule[] = [];
		const [first] = this.#pools;
		if (first === undefined) broken.push({ rule: "no-pool", forced: this.#forced });
		else if (this.#has(layout.DEVICE_CHECKS_POOL)) {
			const poolShared = (first.flags & POOL_ENCRYPTED) === 0;
			const needsShared = this.#has(layout.DEVICE_NEEDS_SHARED_POOL);
			if (poolShared !== needsShared) broken.push({ rule: "pool-state", poolShared, needsShared });
		}
		const offsetBytes = gpa & this.#minAlignMask & (IO_TLB_SIZE - 1);
		const slots = Math.ceil((offsetBytes + bytes) / IO_TLB_SIZE);
		if (slots > IO_TLB_SEGSIZE)
			broken.push({ rule: "max-mapping", offsetBytes, bytes, slots, maxSlots: IO_TLB_SEGSIZE });
		else if (first !== undefined && this.#mostRoom(slots) < bytes) {
			broken.push({
				rule: "free-run",
				slots,
				...this.#use,
				longestFreeRunSlots: Math.max(...this.#pools.map(({ longestFreeRun }) => longestFreeRun)),
				disabled: this.#pools.every(({ flags }) => (flags & POOL_DISABLED) !== 0),
			});
		}
		const lowest = this.#pools.map((pool) => this.#slotsReach(pool, bytes));
		const [low] = lowest;
		// the kernel looks at the slots that it took; where any could be reached, only its own answer tells
		if (low !== undefined && (status === "SLOTS_BEYOND_MASK" || lowest.every((each) => each !== null)))
			broken.push(low ?? this.#highestSlots(bytes));
		return broken;
	}

	get #use(): { readonly usedSlots: number; readonly totalSlots: number } {
		const sum = (count: (pool: Pool) => number) => this.#pools.reduce((all, pool) => all + count(pool), 0);
		return { usedSlots: sum(({ used }) => used), totalSlots: sum(({ slabs }) => slabs) };
	}

	/** Whether even a pool's lowest place is out of reach. */
	#slotsReach(pool: Pool, bytes: number): BrokenRule | null {
		const at = pool.start + (this.#request.gpa & this.#minAlignMask & (IO_TLB_SIZE - 1));
		return this.#reachOf("slots", this.#encodeSlots(pool, at), bytes, at);
	}

	#encodeSlots({ flags }: Pool, at: Gpa): bigint {
		return this.#encode(at, (flags & POOL_ENCRYPTED) === 0);
	}

	/** Of the pool that reaches highest, its end: some of it lies beyond the limit. */
	#highestSlots(bytes: number): BrokenRule {
		const [highest] = [...this.#pools].sort((a, b) => b.start - a.start) as [Pool];
		const at = highest.start + highest.bytes - bytes;
		return this.#reachOf("slots", this.#encodeSlots(highest, at), bytes, at) as BrokenRule;
	}

	/** Most bytes that free slots hold at this address, at most those of so many slots. */
	#mostRoom(slots: number): number {
		const { gpa } = this.#request;
		const offset = gpa & this.#minAlignMask & (IO_TLB_SIZE - 1);
		let [aligned, any] = [0, 0];
		for (const pool of this.#pools) {
			for (let slot = 0; slot < pool.slabs && aligned < slots; slot++) {
				const run = this.#instance.exports.poolSlotList(pool.index, slot);
				if (run <= aligned) continue;
				const room = this.#within(pool, slot, run);
				any = Math.max(any, room);
				if (this.#startsWell(pool.start + slot * IO_TLB_SIZE)) aligned = Math.max(aligned, room);
			}
		}
		const most = Math.min(aligned, slots) * IO_TLB_SIZE - offset;
		// without a mask, buffers of less than a page may start in any slot
		if (this.#minAlignMask === 0) return Math.max(most, Math.min(any * IO_TLB_SIZE, PAGE_SIZE - 1));
		return Math.max(0, most);
	}

	/** Slots of a run that stay within the segment boundary. */
	#within(pool: Pool, slot: number, run: number): number {
		const boundary = this.#u64(layout.DEVICE_SEG_BOUNDARY);
		if (boundary === 0n || boundary === MAX_U64) return run;
		const at = BigInt(pool.start + slot * IO_TLB_SIZE) & boundary;
		return Math.min(run, Number((boundary + 1n - at) / BigInt(IO_TLB_SIZE)));
	}

	/** Whether a mapping of a page or more may start there: Linux 6.12 kernel/dma/swiotlb.c, swiotlb_search_pool_area. */
	#startsWell(start: Gpa): boolean {
		const { gpa } = this.#request;
		if (this.#minAlignMask === 0) return start % PAGE_SIZE === 0;
		return gpa === 0 || ((start ^ gpa) & this.#minAlignMask & -IO_TLB_SIZE) === 0;
	}

	/** Refusal.largestBytes, where the rules of bouncing that do not hang on the size are these. */
	largest(bounceRules: readonly BrokenRule[], directRules: readonly BrokenRule[]): number | null {
		const direct = this.#largestDirect(directRules);
		if (directRules.some(({ rule }) => rule === "coherence")) return 0;
		const never = bounceRules.some(({ rule }) => rule === "attribute" || rule === "no-pool" || rule === "pool-state");
		if (never || this.#pools.length === 0) return direct;
		const reaches = this.#pools.map((pool) => {
			if (this.#slotsReach(pool, 1) !== null) return "none";
			const last = pool.start + pool.bytes - 1;
			return this.#reachOf("slots", this.#encodeSlots(pool, last), 1, last) === null ? "all" : "some";
		});
		if (reaches.every((reach) => reach === "none")) return direct;
		if (reaches.some((reach) => reach !== "all")) return null;
		return Math.min(this.#request.bytes, Math.max(direct, this.#mostRoom(IO_TLB_SEGSIZE)));
	}

	#largestDirect(rules: readonly BrokenRule[]): number {
		const { bytes, dir } = this.#request;
		const forced = this.#forced && !this.#isPlainMmio;
		if (forced || rules.some(({ rule }) => rule === "state" || rule === "coherence")) return 0;
		const room = this.#limit.limit - this.#directDma() + 1n;
		const most = room <= 0n ? 0 : Number(room < BigInt(bytes) ? room : BigInt(bytes));
		if (!this.#nonCoherent || this.#isMmio || !kmallocBounces(most, dir)) return most;
		return most > 64 ? 64 : 0;
	}

	/** dma_max_mapping_size() of what bounces. */
	get largestBounced(): number {
		const align = this.#minAlignMask;
		return Math.max(0, IO_TLB_MAX_MAPPING - Math.ceil(align / IO_TLB_SIZE) * IO_TLB_SIZE);
	}

	message(status: StatusName): KernelMessage | null {
		const { gpa, bytes } = this.#request;
		const masks = {
			mask: this.#u64(layout.DEVICE_DMA_MASK).toString(16),
			busLimit: this.#u64(layout.DEVICE_BUS_LIMIT).toString(16),
		};
		switch (status) {
			case "OVER_MAX_MAPPING":
			case "POOL_FULL":
			case "NEEDS_TRANSIENT":
			case "UNUSABLE_POOL": {
				const offset = gpa & this.#minAlignMask & (IO_TLB_SIZE - 1);
				return { class: "FULL", bytes: bytes + offset, ...this.#use };
			}
			case "NO_POOL":
				return { class: "NO-POOL" };
			case "BEYOND_MASK":
			case "NEEDS_SHARED":
			case "SHARES_CACHE_LINE":
				return { class: "DMA-OVERFLOW", dma: Number(this.#directDma()), bytes, ...masks };
			case "SLOTS_BEYOND_MASK":
				return { class: "TLB-OVERFLOW", dma: null, bytes, ...masks };
			default:
				return null;
		}
	}
}

/** What mends a rule. */
function remedyOf(rule: BrokenRule, largestBounced: number): Remedy {
	switch (rule.rule) {
		case "reach": {
			const { of, limit, limitedBy, endDma, encodingBits } = rule;
			const byEncoding = encodingBits > limit;
			return { remedy: "reach", of, limit, maskBits: limitedBy === "dma_mask" ? bitsOf(endDma) : null, byEncoding };
		}
		case "state":
			return { remedy: "private-or-shared", reachesShared: rule.reachesShared };
		case "cache-line":
			return { remedy: "cache-lines", bytes: KMALLOC_BOUNCES_TO + 1 };
		case "coherence":
			return { remedy: "coherent-device" };
		case "attribute":
			return { remedy: "without-attribute", attribute: rule.attribute };
		case "policy":
			return { remedy: "policy", policy: rule.policy };
		case "no-pool":
			return { remedy: "pool", slots: null };
		case "pool-state":
			return { remedy: "pool-state", shared: rule.needsShared };
		case "max-mapping":
			return { remedy: "split", bytes: largestBounced, anywhere: true };
		case "free-run":
			// a pool of twice the slots has whole segments that nobody uses
			return rule.disabled ? { remedy: "usable-pool" } : { remedy: "pool", slots: powerAbove(rule.totalSlots) };
		case "call":
			throw new Error("a call that no kernel knows has no remedy");
	}
}

/** The least power of two above a number. */
function powerAbove(value: number): number {
	return 2 ** (Math.floor(Math.log2(value)) + 1);
}

/** Why a device's map was refused. To be asked right after the refusal. @param status what the map answered */
export function refusalOf(device: RefusingDevice, request: RefusedRequest, status: number): Refusal {
	const name = statusName(status);
	if (OURS.has(name)) {
		const nothing = { errno: null, message: null, next: [], largestBytes: null, largestAnywhereBytes: null, ways: [] };
		return { status: name, request, broken: [{ rule: "call" }], ...nothing };
	}
	const inquiry = new Inquiry(device, request);
	const direct = inquiry.direct();
	const bounce = direct.some(({ rule }) => rule === "coherence") ? [] : inquiry.bounce(name);
	const bounces = bounce.every(({ rule }) => rule === "max-mapping" || rule === "free-run");
	const largestAnywhereBytes = bounces ? inquiry.largestBounced : null;
	const largestBytes = inquiry.largest(bounce, direct);
	return {
		status: name,
		request,
		errno: { mapping: "ENOMEM", list: name === "NOT_COHERENT" ? "EOPNOTSUPP" : "EIO" },
		message: inquiry.message(name),
		broken: [...direct, ...bounce.slice(0, 1)],
		next: bounce.slice(1),
		largestBytes,
		largestAnywhereBytes,
		ways: waysOf(direct, bounce, largestBytes, inquiry.largestBounced),
	};
}

/** Rules that each status stands for. */
const STANDS_FOR: Readonly<Partial<Record<StatusName, readonly BrokenRule["rule"][]>>> = {
	BEYOND_MASK: ["no-pool", "attribute", "policy"],
	NEEDS_SHARED: ["no-pool", "attribute", "policy"],
	SHARES_CACHE_LINE: ["no-pool", "attribute", "policy"],
	NO_POOL: ["no-pool", "policy"],
	BOUNCE_REFUSED: ["attribute"],
	NOT_COHERENT: ["coherence"],
	POOL_STATE: ["pool-state"],
	OVER_MAX_MAPPING: ["max-mapping"],
	POOL_FULL: ["free-run"],
	NEEDS_TRANSIENT: ["free-run"],
	UNUSABLE_POOL: ["free-run"],
	SLOTS_BEYOND_MASK: ["reach"],
};

/** Whether the mapping breaks what its status stands for: it does unless things changed since. */
export function tellsWhy({ status, broken }: Refusal): boolean {
	const last = broken.at(-1);
	return last !== undefined && STANDS_FOR[status]?.includes(last.rule) === true;
}

/** A refusal where a policy forbids to bounce: its record has no pool, and that is not why. */
export function refusedBy(refusal: Refusal, policy: BrokenRule & { readonly rule: "policy" }): Refusal {
	const { broken, next, ways } = refusal;
	const instead = (rules: readonly BrokenRule[]) => rules.map((each) => (each.rule === "no-pool" ? policy : each));
	const allowed = (steps: readonly Remedy[]) =>
		steps.map((step): Remedy => (step.remedy === "pool" ? { remedy: "policy", policy: policy.policy } : step));
	const isOurs = refusal.status === "NO_POOL";
	return {
		...refusal,
		message: isOurs ? null : refusal.message,
		broken: instead(broken),
		next: instead(next),
		ways: ways.map(allowed),
	};
}

/** Ways to have it mapped: as it is, or bounced. */
function waysOf(
	direct: readonly BrokenRule[],
	bounce: readonly BrokenRule[],
	largestBytes: number | null,
	largestBounced: number,
): Remedy[][] {
	const ways = [direct, bounce]
		.filter((rules) => rules.length > 0)
		.map((rules) => rules.map((rule) => remedyOf(rule, largestBounced)));
	// what is short of slots now, or reaches beyond the end, may be had in smaller pieces
	const isSplit = ways.some((steps) => steps.length === 1 && steps[0]?.remedy === "split");
	if (largestBytes !== null && largestBytes > 0 && !isSplit)
		ways.push([{ remedy: "split", bytes: largestBytes, anywhere: false }]);
	return ways;
}
