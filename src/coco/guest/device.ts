/** A device of a confidential guest: its DMA, its trust, its pools, and its own view of memory. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { ATTR_NO_BOUNCE } from "../../../assembly/layout/device.ts";
import { BAD_SIZE, NEEDS_TRANSIENT, PEER_UNREACHABLE } from "../../../assembly/layout/status.ts";
import { DmaApi, type MappedSegment, type Segment } from "../../dma/api.ts";
import type { Device, DeviceCounters } from "../../dma/device.ts";
import type { DeviceOptions } from "../../dma/options.ts";
import { type Refusal, type RefusedRequest, refusedBy } from "../../dma/refusal.ts";
import { Attr, type Direction, type DmaAddr, type Gpa } from "../../types.ts";
import type {
	CoherentAllocation,
	CoherentBuffer,
	CoherentDevice,
	CoherentFree,
	CoherentMemory,
	CoherentRequest,
	SlotSource,
} from "../memory/coherent.ts";
import type { TransientNeed } from "../memory/growing.ts";
import type { Hazard } from "../memory/hazard.ts";
import type { GuestPool } from "../memory/pools.ts";
import type { DeviceView } from "../platform/parties.ts";
import { encodeGpa, type Platform } from "../platform/platform.ts";
import {
	type Answers,
	coherentRules,
	compile,
	type Decision,
	everyAnswer,
	type PredicateReply,
	type Question,
} from "../rules/decision.ts";
import { encodingOf, limitOf, type RuledDevice } from "../rules/device.ts";
import type { Kernel } from "../rules/kernel.ts";
import { ACCEPTANCES, type KernelCrash, type Mechanism, type Policy } from "../rules/policy.ts";
import type { PoolFacts, PoolMatcher } from "../rules/pool.ts";
import { type ChosenPools, choosePools } from "../rules/pool-choice.ts";
import type { CoherentRules, MapRules } from "../rules/predicate.ts";
import { TrustError } from "../trust/error.ts";
import { type OfferConnection, type OfferFlags, type OfferTrust, trustOfOffer } from "../trust/offer.ts";
import { DeviceTrust, type Evidence, type EvidenceDecision, type Holds } from "../trust/tdisp.ts";
import { type PageSharing, RefusedMaps } from "./sharing.ts";

/** What the hardware and its driver are. */
export interface GuestDeviceOptions
	extends Pick<DeviceOptions, "dmaMask" | "busLimit" | "segBoundaryMask" | "minAlignMask" | "coherent"> {
	/** Default: "device <number>". */
	readonly name?: string;
	/** Highest address of a coherent buffer that it can emit, inclusive. Default: dmaMask. */
	readonly coherentDmaMask?: bigint;
	/** The pools that may serve it, for the matcher. Default: the guest's own for its trust; a restricted or bus pool alone serves it. */
	readonly pools?: readonly GuestPool[];
	/** Chooses among `pools` for buffers on private or shared pages. Default: the first whose pages are as the need. */
	readonly matcher?: PoolMatcher<GuestPool>;
	/** Makes it a TDISP device: where its evidence comes from, and who judges it. */
	readonly tdisp?: { readonly evidence: () => Evidence; readonly policy: (evidence: Evidence) => EvidenceDecision };
	/** Makes it the device of a VMBus channel, trusted as its offer says. */
	readonly offer?: {
		readonly flags: OfferFlags;
		readonly connection: OfferConnection;
		/** Whether the evidence of whoever offers has to be accepted before the offer counts (acceptEvidence). Default false. */
		readonly needsEvidence?: boolean;
	};
	/** Whether it sits behind a port that anybody can reach. Default false. */
	readonly externalFacing?: boolean;
	/** Whether its DMA addresses carry the platform's bit; false: AMD SEV-TIO without a vIOMMU. Default true. */
	readonly encoded?: boolean;
}

/** How a device reaches another one's memory. */
export type PeerReach = "host bridge" | "no" | { readonly busOffset: number };

/** What the guest gives a device. */
interface DeviceSetting {
	readonly kernel: Kernel;
	readonly platform: Platform;
	readonly forced: boolean;
	readonly noforce: boolean;
	readonly noSlots: boolean;
	readonly policy: Policy | null;
	/** Pools for a device without pools of its own: none is restricted. */
	readonly pools: readonly GuestPool[];
	makeView(index: number, options: { readonly encoded: boolean; readonly paravisor: boolean }): DeviceView;
	readonly coherent: CoherentMemory;
	readonly sharing: PageSharing;
	readonly onHazard: (hazard: Hazard) => void;
	/** Slots of the device's pool without an original (swiotlb_alloc), and their end. */
	readonly slots: Omit<SlotSource, "ccShared">;
}

/**
 * Judges options before a device exists.
 * @returns what its VMBus offer says, or null
 * @throws TrustError for an offer that is refused; RangeError for options that exclude each other
 */
export function judgeOptions({ tdisp, offer, matcher, pools }: GuestDeviceOptions): OfferTrust | null {
	if (tdisp !== undefined && offer !== undefined)
		throw new RangeError("device: trusted by tdisp or by offer, not by both");
	if (matcher !== undefined && pools === undefined)
		throw new RangeError("device: a matcher needs pools to choose from");
	return offer === undefined ? null : trustOfOffer(offer.flags, offer.connection);
}

/** The options that the engine knows. */
export function hardwareOf(options: GuestDeviceOptions): DeviceOptions {
	const { dmaMask, busLimit, segBoundaryMask, minAlignMask, coherent } = options;
	const given = { dmaMask, busLimit, segBoundaryMask, minAlignMask, coherent };
	return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

const NO_POOLS: ChosenPools<GuestPool> = { pool: null, privatePool: null, hasAllocator: false };

/** A device, as its driver, the guest's policy and the device itself use it. */
export class GuestDevice extends DmaApi {
	readonly name: string;
	/** The engine's device: the DMA API without transient pools and without what a policy does instead of bouncing. */
	readonly dma: Device;
	readonly options: GuestDeviceOptions;
	/** The TDISP interface, or null. */
	readonly trust: DeviceTrust | null;
	/** What its VMBus offer says, or null. */
	readonly offer: OfferTrust | null;
	readonly #setting: DeviceSetting;
	#view: DeviceView;
	#viewEncoded: boolean;
	#pools = NO_POOLS;
	/** Whether its second pool is one that it has left, and only serves to end what it holds there. */
	#leaving = false;
	/** The driver's flag, for policies that believe it. */
	#noBounce = false;
	/** Whether the offer counts: no evidence is asked for, or it was accepted. */
	#offerCounts: boolean;
	/** Whether a driver is bound, and ever was: of a device without a TDISP interface. */
	#driverBound = false;
	#everBound = false;
	/** The pools that it had when its driver bound, for policies that leave it those. */
	#boundPools: ChosenPools<GuestPool> | null = null;
	#decision: Decision;
	/** Null: a refusal is one. */
	#refused: RefusedMaps | null = null;
	/** Its decision record in the engine. */
	#record: DeviceOptions = {};

	/** Made by Guest. offer: what judgeOptions made of the options */
	constructor(dma: Device, options: GuestDeviceOptions, offer: OfferTrust | null, setting: DeviceSetting) {
		super();
		this.name = options.name ?? dma.name;
		this.dma = dma;
		this.options = options;
		this.#setting = setting;
		this.#viewEncoded = options.encoded ?? true;
		this.offer = offer;
		this.#offerCounts = options.offer?.needsEvidence !== true;
		this.#view = this.#makeView();
		this.trust =
			options.tdisp === undefined
				? null
				: new DeviceTrust({
						device: this.name,
						...options.tdisp,
						holds: () => this.holds(),
						transitions: setting.policy?.transitions ?? "checked",
					});
		this.trust?.onChange(({ heldAcross, request }) => {
			if (heldAcross !== null && setting.policy !== null) this.#reportChange(request);
			this.#decision = this.#decide();
		});
		this.#decision = this.#decide();
	}

	/** Its eyes. Confidential external memory is the paravisor's to serve, hidden pages too. */
	#makeView(): DeviceView {
		return this.#setting.makeView(this.dma.index, {
			encoded: this.#viewEncoded,
			paravisor: this.#offered,
		});
	}

	/** Whether its offer says confidential external memory, and counts. */
	get #offered(): boolean {
		return this.#offerCounts && this.offer?.accepted === true;
	}

	/** Whether the guest trusts it with private memory: an accepted interface that runs, or an offer with confidential external memory. */
	get accepted(): boolean {
		return this.trust?.accepted ?? this.#offered;
	}

	/**
	 * Accepts the evidence of whoever offered it (a paravisor's launch state): from then on the offer counts.
	 * @throws TrustError BUSY, DRIVER_WAS_BOUND as accept of a TDISP interface; then nothing has changed
	 */
	acceptEvidence(): void {
		if (this.#offerCounts) return;
		const step = `accept the evidence for the offer of ${this.name}`;
		const { transitions = "checked" } = this.#setting.policy ?? {};
		const { mappings, bounceSlots, coherentBuffers } = this.holds();
		if (transitions === "before-driver" && this.#everBound) throw new TrustError(step, "DRIVER_WAS_BOUND");
		if (transitions !== "anytime" && (this.#driverBound || mappings + bounceSlots + coherentBuffers > 0))
			throw new TrustError(step, "BUSY", this.#driverBound ? "driver bound" : "memory held");
		this.#offerCounts = true;
		this.#reportChange("evidence for its offer");
		this.#view = this.#makeView();
		this.#decision = this.#decide();
	}

	/** Whether the guest's policy takes it for accepted; without a policy, what is true. */
	get believed(): boolean {
		const { policy } = this.#setting;
		if (policy === null) return this.accepted;
		const tdisp = this.trust?.accepted === true;
		const offer = this.#offered;
		return ACCEPTANCES[policy.acceptance]({ offer, tdisp, driver: this.#noBounce });
	}

	/**
	 * The driver's own "do not bounce" flag. It counts under a policy that takes the driver's word, at any time: changed while
	 * something is held, it is the hazard TRUST_CHANGED.
	 */
	setNoBounce(flag: boolean): void {
		const before = this.believed;
		this.#noBounce = flag;
		if (this.believed === before) return;
		this.#reportChange("the driver's flag");
		this.#decision = this.#decide();
	}

	/** A change of trust under what it holds. */
	#reportChange(by: string): void {
		const { mappings, bounceSlots, coherentBuffers } = this.holds();
		if (mappings + bounceSlots + coherentBuffers === 0) return;
		const detail = `${by} changed its trust while it held ${mappings} mappings, ${bounceSlots} bounce slots and ${coherentBuffers} coherent buffers`;
		this.#setting.onHazard({ what: "TRUST_CHANGED", device: this.name, detail });
	}

	/** Changes of a page's state that its mappings made: a policy may share buffers in place. */
	get conversions(): number {
		return this.#refused?.conversions ?? 0;
	}

	/** The T bit of its transactions. A VMBus device behind confidential external memory is the paravisor's, which reaches private memory. */
	get t(): 0 | 1 {
		return this.trust?.t ?? (this.#offered ? 1 : 0);
	}

	/** The pool that bounces buffers on shared pages, and all if it has no other; null: none. */
	get pool(): GuestPool | null {
		return this.#pools.pool;
	}

	/**
	 * The pool that bounces buffers on private pages, if it is another. After a stop or a fault with slots held, the pool
	 * that they are in until they are given back: its state refuses new ones.
	 */
	get privatePool(): GuestPool | null {
		return this.#pools.privatePool;
	}

	/** What it holds of the guest's memory now. */
	holds(): Holds {
		const { directMappings, bouncedMappings } = this.dma.holds();
		return {
			mappings: directMappings,
			bounceSlots: bouncedMappings,
			coherentBuffers: this.#setting.coherent.live(this.dma),
		};
	}

	/** What it did: mappings, copies, cache maintenance. */
	get counters(): DeviceCounters {
		return this.dma.counters;
	}

	resetCounters(): void {
		this.dma.resetCounters();
	}

	/** Binds a driver: from then on trust cannot be given or taken. @throws TrustError BUSY when one is bound */
	bindDriver(): void {
		if (this.trust === null) {
			if (this.#driverBound) throw new TrustError(`bind a driver to ${this.name}`, "BUSY", "driver bound");
			this.#driverBound = this.#everBound = true;
			return;
		}
		if (this.trust.driverBound) throw new TrustError(`bind a driver to ${this.name}`, "BUSY", "driver bound");
		this.trust.driverBound = true;
	}

	unbindDriver(): void {
		if (this.trust !== null) this.trust.driverBound = false;
		this.#driverBound = false;
	}

	/** What the rules look at. Under a policy, accepted is what that believes. */
	get ruled(): RuledDevice {
		const { forced, noforce, noSlots, policy } = this.#setting;
		const accepted = this.believed;
		const encoded = accepted && policy?.plainAddresses === true ? false : (this.options.encoded ?? true);
		const { offer, options } = this;
		return {
			...this.#pools,
			accepted,
			forced,
			noforce,
			noSlots: noSlots && this.#ownPools === undefined,
			vmbus: offer !== null,
			externalFacing: options.externalFacing ?? false,
			encoded,
			reach: limitOf(options),
			coherentReach: this.#coherentReach,
		};
	}

	/** What its kernel and its policy answer about it now, before any mapping. */
	get answers(): Answers {
		return this.#decision.answers;
	}

	/** Every predicate's answer about it, those that coherent memory asks too. */
	get replies(): readonly PredicateReply[] {
		return everyAnswer(this.#question);
	}

	/** What follows from the answers for its streaming maps. */
	get mapRules(): MapRules {
		return this.#decision.rules;
	}

	/** Whether its record asks for the memory's and the pool's state before it maps. */
	get checksState(): boolean {
		return this.#record.checksState === true;
	}

	/** What becomes of a buffer that may not be mapped as it is. refuse, too, where nothing could bounce it. */
	get mechanism(): Mechanism {
		return this.#decision.mechanism;
	}

	/** Where a mapping that would bounce ends the kernel, or null. */
	get crash(): KernelCrash | null {
		return this.#decision.crash;
	}

	/** Its own pools that it is attached to, or undefined: it has the guest's. */
	get #ownPools(): readonly GuestPool[] | undefined {
		const attached = this.options.pools?.filter(({ attachError }) => attachError === null);
		return attached?.length === 0 && this.options.pools?.length !== 0 ? undefined : attached;
	}

	/** What attaching a pool of its own ended in, as a negative errno; null: it was attached, or it has none. */
	get attachError(): number | null {
		return this.options.pools?.find(({ attachError }) => attachError !== null)?.attachError ?? null;
	}

	/** Highest address of a coherent buffer that it can emit, inclusive. */
	get #coherentReach(): bigint {
		const { coherentDmaMask, dmaMask, busLimit = 0n } = this.options;
		const mask = coherentDmaMask ?? dmaMask;
		return limitOf(mask === undefined ? { busLimit } : { dmaMask: mask, busLimit });
	}

	/** What is asked about it. */
	get #question(): Question {
		const { policy, kernel, platform } = this.#setting;
		return { policy, kernel, platform, device: this.ruled };
	}

	/** Whether the last byte of a pool, in the form that its pages have, is within its mask and bus. */
	#reachesPool({ name, ccShared }: PoolFacts): boolean {
		const pool = this.#setting.pools.find((each) => each.name === name)?.pool;
		if (pool === undefined) return true;
		const { platform, policy } = this.#setting;
		const plain = this.believed && policy?.plainAddresses === true;
		const encoding = encodingOf(platform, { encoded: !plain && (this.options.encoded ?? true) });
		return encodeGpa(encoding, pool.start + pool.bytes - 1, ccShared) <= limitOf(this.options);
	}

	/** Compiles its decision record anew. */
	#decide(): Decision {
		const { kernel, platform, policy, noSlots, pools: common } = this.#setting;
		const { matcher } = this.options;
		const own = this.#ownPools;
		const before = [this.#pools.privatePool, this.#pools.pool];
		const choice = { kernel, platform, policy, own, matcher, common, noSlots, believed: this.believed };
		const now = choosePools({ ...choice, reaches: (pool) => this.#reachesPool(pool) });
		const isBound = this.trust?.driverBound ?? this.#driverBound;
		const chosen = policy?.fixesPool === true && isBound ? (this.#boundPools ?? now) : now;
		this.#boundPools = chosen;
		const left = before.find((pool) => pool !== null && pool !== chosen.pool && pool.growing === null) ?? null;
		const holdsSlots = () => this.dma.holds().bouncedMappings > 0;
		this.#leaving = chosen.privatePool === null && left !== null && holdsSlots();
		this.#pools = this.#leaving ? { ...chosen, privatePool: left } : chosen;
		const question = this.#question;
		const { device } = question;
		if (device.encoded !== this.#viewEncoded) {
			this.#viewEncoded = device.encoded;
			this.#view = this.#makeView();
		}
		this.#view.t = this.t;
		const decision = compile(question);
		if (this.#refused !== null) this.#refused.decision = decision;
		else if (decision.mechanism === "share-in-place" || decision.crash !== null)
			this.#refused = new RefusedMaps(this.dma, this.name, this.#setting.sharing, decision);
		this.#record = decision.record;
		if (decision.mechanism !== "bounce" && holdsSlots()) {
			// its slots have to be found until they are given back
			this.#leaving = true;
			const { pool, privatePool } = this.#pools;
			this.#record = { ...decision.record, pool: pool?.pool ?? null, privatePool: privatePool?.pool ?? null };
		}
		this.#configure(this.#record);
		return decision;
	}

	/** Gives the engine a record. Trusted: what it may map as it is, its kernel and policy have decided, not the engine. */
	#configure(record: DeviceOptions): void {
		this.dma.configure({ trusted: true, ...hardwareOf(this.options), ...record });
	}

	/** The end of what its addresses reach, as gpas: the encoding bit does not count. */
	get reachesBelow(): Gpa {
		const limit = limitOf(this.options);
		return limit >= 2n ** 52n ? 2 ** 52 : Number(limit) + 1;
	}

	get maxSegments(): number {
		return this.dma.maxSegments;
	}

	/** As Device's; where a policy forbids to bounce, that is the rule that is broken. */
	refusal(request: RefusedRequest, status: number): Refusal {
		const refusal = this.dma.refusal(request, status);
		const { policy } = this.#setting;
		const mechanism = policy?.mechanism?.[this.believed ? "accepted" : "others"] ?? "bounce";
		if (policy === null || mechanism === "bounce") return refusal;
		return refusedBy(refusal, { rule: "policy", policy: policy.name, mechanism });
	}

	protected describePool(): string {
		return this.pool?.pool.describe() ?? "";
	}

	/**
	 * As map; where the allocator grows, in a transient pool if no common one has room.
	 * @throws KernelCrash where its policy brings one about, and nothing else
	 */
	tryMap(gpa: Gpa, bytes: number, dir: Direction, cpu = 0, attrs = 0): DmaAddr {
		const { mmio } = this.#decision;
		if (mmio !== null && (attrs & Attr.Mmio) !== 0) return this.#mapMmio(mmio, gpa, bytes, dir, cpu, attrs);
		const dma = this.dma.tryMap(gpa, bytes, dir, cpu, attrs);
		if (dma >= 0) return dma;
		if (this.#refused !== null && dma !== NEEDS_TRANSIENT)
			return this.#refused.tryMap(dma, gpa, bytes, dir, cpu, attrs);
		const growing = this.pool?.growing ?? null;
		if (dma !== NEEDS_TRANSIENT || growing === null) return dma;
		return growing.mapTransient(this.dma, gpa, bytes, dir, cpu, attrs, this.#transientNeed());
	}

	/** What a transient pool for it has to be. */
	#transientNeed(): TransientNeed {
		const { needsShared } = this.#decision.rules;
		const encoding = encodingOf(this.#setting.platform, this.ruled);
		const limit = this.#coherentReach;
		const fitsCoherent = (gpa: Gpa, bytes: number) =>
			encodeGpa(encoding, gpa, needsShared) + BigInt(bytes) - 1n <= limit;
		return { reach: limitOf(this.options), needsShared, fitsCoherent };
	}

	/** MMIO is mapped by rules of its own, where those of its memory are others. */
	#mapMmio(mmio: DeviceOptions, gpa: Gpa, bytes: number, dir: Direction, cpu: number, attrs: number): DmaAddr {
		this.#configure(mmio);
		const dma = this.dma.tryMap(gpa, bytes, dir, cpu, attrs);
		this.#configure(this.#record);
		return dma;
	}

	/**
	 * Maps another device's memory, a page of a list as Linux's pci_p2pdma tells its kinds: what the host bridge forwards is
	 * mapped as memory is, though some kernels do not bounce it; over the bus the address is the bus's, and nothing has to be
	 * unmapped.
	 * @returns as tryMap, PEER_UNREACHABLE, or a bus address
	 */
	tryMapPeer(gpa: Gpa, bytes: number, dir: Direction, reached: PeerReach, attrs = 0): DmaAddr {
		if (reached === "no") return PEER_UNREACHABLE;
		if (reached !== "host bridge") return gpa + reached.busOffset;
		const { bouncesPeerPages } = this.#setting.kernel.rules;
		return this.tryMap(gpa, bytes, dir, 0, bouncesPeerPages.is ? attrs : attrs | ATTR_NO_BOUNCE);
	}

	tryUnmap(dma: DmaAddr, bytes: number, dir: Direction, attrs = 0): number {
		const done = this.dma.tryUnmap(dma, bytes, dir, attrs);
		if (done < 0) return done;
		if ((attrs & Attr.Mmio) === 0) this.#refused?.unmapped(dma, bytes);
		if (this.#leaving && this.dma.holds().bouncedMappings === 0) this.#decision = this.#decide();
		return done;
	}

	trySyncForDevice(dma: DmaAddr, bytes: number, dir: Direction): number {
		if (this.#setting.policy?.syncs === false) return 0;
		return this.dma.trySyncForDevice(dma, bytes, dir);
	}

	trySyncForCpu(dma: DmaAddr, bytes: number, dir: Direction): number {
		if (this.#setting.policy?.syncs === false) return 0;
		return this.dma.trySyncForCpu(dma, bytes, dir);
	}

	/** Whether every mapping and its end are the engine's alone: no growth, no sharing in place, no other rules for MMIO. */
	#isPlain(attrs: number): boolean {
		if (this.#refused !== null || this.#leaving || (this.pool?.growing ?? null) !== null) return false;
		return this.#decision.mmio === null || (attrs & Attr.Mmio) === 0;
	}

	/** @throws KernelCrash where its policy brings one about, the segments before it unmapped; and nothing else */
	tryMapSg(segments: readonly Segment[], addresses: DmaAddr[], dir: Direction, cpu = 0, attrs = 0): number {
		if (this.#isPlain(attrs)) return this.dma.tryMapSg(segments, addresses, dir, cpu, attrs);
		const { length } = segments;
		if (length === 0 || length > this.maxSegments) return BAD_SIZE;
		let status: number = NEEDS_TRANSIENT;
		let done = 0;
		try {
			for (; done < length; done++) {
				const { gpa, bytes } = segments[done] as Segment;
				status = this.tryMap(gpa, bytes, dir, cpu, attrs);
				if (status < 0) break;
				addresses[done] = status;
			}
		} finally {
			for (let i = 0; done < length && i < done; i++)
				this.unmap(addresses[i] as DmaAddr, (segments[i] as Segment).bytes, dir, attrs | Attr.SkipCpuSync);
		}
		return done === length ? 0 : status;
	}

	tryUnmapSg(segments: readonly MappedSegment[], dir: Direction, attrs = 0): number {
		if (this.#isPlain(attrs)) return this.dma.tryUnmapSg(segments, dir, attrs);
		if (segments.length === 0 || segments.length > this.maxSegments) return BAD_SIZE;
		let status = 0;
		for (const { dma, bytes } of segments) {
			const done = this.tryUnmap(dma, bytes, dir, attrs);
			if (done < 0 && status === 0) status = done;
		}
		return status;
	}

	maxMappingBytes(highestGpa: Gpa): number {
		return this.dma.maxMappingBytes(this.#required(highestGpa));
	}

	/** What of RAM its kernel has its masks reach. */
	#required(highestGpa: Gpa): Gpa {
		const { requiredMaskOf } = this.#setting.kernel.rules;
		return requiredMaskOf.is === "last page" ? highestGpa - (highestGpa % PAGE_SIZE) : highestGpa;
	}

	/** The mask that reaches all of RAM: dma_get_required_mask. @param highestGpa last address of RAM */
	requiredMask(highestGpa: Gpa): bigint {
		const encoding = encodingOf(this.#setting.platform, this.ruled);
		const address = encodeGpa(encoding, this.#required(highestGpa), this.#decision.rules.needsShared);
		return (1n << BigInt(address.toString(2).length)) - 1n;
	}

	/** Whether its mask and bus reach less than that: dma_addressing_limited. */
	addressingLimited(highestGpa: Gpa): boolean {
		return limitOf(this.options) < this.requiredMask(highestGpa);
	}

	/**
	 * Allocates memory that the device and its driver use together (dma_alloc_coherent).
	 * @param bytes 1 .. 2^31 - 1
	 * @throws DmaError BAD_SIZE; KernelCrash where its policy brings one about
	 */
	allocCoherent(bytes: number, request: CoherentRequest = {}): CoherentAllocation {
		if (this.#setting.policy?.allocates === false)
			return { ok: false, status: "NO_ALLOC_OPERATION", message: "", logged: false };
		const device = this.#forCoherent(coherentRules(this.#question, "alloc"));
		return this.#setting.coherent.alloc(device, bytes, request);
	}

	/** Gives a coherent buffer back. @throws PageError for what is no live buffer of the device's; KernelCrash */
	freeCoherent(
		buffer: Pick<CoherentBuffer, "gpa" | "dma" | "bytes">,
		request: Pick<CoherentRequest, "atomic"> = {},
	): CoherentFree {
		const device = this.#forCoherent(coherentRules(this.#question, "free"));
		return this.#setting.coherent.free(device, buffer, request);
	}

	/** Itself, as coherent memory sees it. */
	#forCoherent({ needsShared, fromPool, fromAtomicPools }: CoherentRules): CoherentDevice {
		const { platform, slots, policy } = this.#setting;
		const { coherent = true } = this.options;
		const limit = this.#coherentReach;
		const encoding = encodingOf(platform, this.ruled);
		const { pool } = this;
		return {
			name: this.name,
			index: this.dma.index,
			needsShared,
			coherent,
			slots: pool?.restricted && fromPool ? { ...slots, ccShared: pool.ccShared } : null,
			usesAtomicPools: fromAtomicPools,
			checksPoolState: policy?.checksPoolState !== false,
			encode: (gpa, shared) => Number(encodeGpa(encoding, gpa, shared)),
			fits: (address, bytes) => BigInt(address) + BigInt(bytes) - 1n <= limit,
			reach: limit & ~(encoding.privateBits | encoding.sharedBits),
		};
	}

	/** The device reads memory, through its own view. @param dma an address as it was given it @throws AccessFault */
	read(dma: DmaAddr, bytes: number): Uint8Array {
		return this.#view.read(dma, bytes);
	}

	/** The device writes memory. @throws AccessFault */
	write(dma: DmaAddr, data: Uint8Array): void {
		this.#view.write(dma, data);
	}
}
