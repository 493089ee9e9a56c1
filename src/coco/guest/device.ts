/** A device of a confidential guest: its DMA, its trust, its pools, and its own view of memory. */
import { NEEDS_TRANSIENT } from "../../../assembly/layout/status.ts";
import type { Device } from "../../dma/device.ts";
import type { DeviceOptions } from "../../dma/options.ts";
import { DmaError, hex } from "../../status.ts";
import { Attr, type Direction, type DmaAddr, directionName, type Gpa } from "../../types.ts";
import type {
	CoherentAllocation,
	CoherentBuffer,
	CoherentDevice,
	CoherentFree,
	CoherentMemory,
	CoherentRequest,
	SlotSource,
} from "../memory/coherent.ts";
import type { Hazard } from "../memory/hazard.ts";
import type { GuestPool } from "../memory/pools.ts";
import type { DeviceView } from "../platform/parties.ts";
import type { Platform } from "../platform/platform.ts";
import { askForAllocation, askForFree, compile, type Decision, type PolicyQuestion } from "../rules/compile.ts";
import {
	decisionOf,
	encodeGpa,
	type Kernel,
	type Predicates,
	predicatesOf,
	type RuledDevice,
} from "../rules/kernel.ts";
import type { KernelCrash, Policy, PredicateValues } from "../rules/policy.ts";
import type { PoolMatcher } from "../rules/pool.ts";
import { choosePools } from "../rules/pool-choice.ts";
import { TrustError } from "../trust/error.ts";
import { type OfferConnection, type OfferFlags, type OfferTrust, trustOfOffer } from "../trust/offer.ts";
import { DeviceTrust, type Evidence, type EvidenceDecision } from "../trust/tdisp.ts";
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
	readonly offer?: { readonly flags: OfferFlags; readonly connection: OfferConnection };
	/** Whether its DMA addresses carry the platform's bit; false: AMD SEV-TIO without a vIOMMU. Default true. */
	readonly encoded?: boolean;
}

/** What the guest gives a device. */
interface DeviceSetting {
	readonly kernel: Kernel;
	readonly platform: Platform;
	readonly forced: boolean;
	readonly noforce: boolean;
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

/** Highest address that a mask and a bus let through, inclusive. */
function limitOf(mask = 2n ** 64n - 1n, busLimit = 0n): bigint {
	return busLimit !== 0n && busLimit < mask ? busLimit : mask;
}

/** A device, as its driver, the guest's policy and the device itself use it. */
export class GuestDevice {
	readonly name: string;
	/** The engine's device: the DMA API without transient pools. */
	readonly dma: Device;
	readonly options: GuestDeviceOptions;
	/** The TDISP interface, or null. */
	readonly trust: DeviceTrust | null;
	/** What its VMBus offer says, or null. */
	readonly offer: OfferTrust | null;
	readonly #setting: DeviceSetting;
	#view: DeviceView;
	#viewEncoded: boolean;
	#pool: GuestPool | null = null;
	#privatePool: GuestPool | null = null;
	/** Whether its second pool is one that it has left, and only serves to end what it holds there. */
	#leaving = false;
	/** The driver's flag, for policies that believe it. */
	#noBounce = false;
	#decision: Decision | null = null;
	/** Null: a refusal is one. */
	#refused: RefusedMaps | null = null;
	#record: DeviceOptions = {};
	/** Null: MMIO goes by the same record. */
	#mmio: DeviceOptions | null = null;

	/** Made by Guest. offer: what judgeOptions made of the options */
	constructor(dma: Device, options: GuestDeviceOptions, offer: OfferTrust | null, setting: DeviceSetting) {
		this.name = options.name ?? `device ${dma.index}`;
		this.dma = dma;
		this.options = options;
		this.#setting = setting;
		this.#viewEncoded = options.encoded ?? true;
		this.offer = offer;
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
			this.#decide();
		});
		this.#decide();
	}

	/** Its eyes. Confidential external memory is the paravisor's to serve, hidden pages too. */
	#makeView(): DeviceView {
		return this.#setting.makeView(this.dma.index, {
			encoded: this.#viewEncoded,
			paravisor: this.offer?.accepted === true,
		});
	}

	/** Whether the guest trusts it with private memory: an accepted interface that runs, or an offer with confidential external memory. */
	get accepted(): boolean {
		return this.trust?.accepted ?? this.offer?.accepted ?? false;
	}

	/** Whether the guest's policy takes it for accepted; without a policy, what is true. */
	get believed(): boolean {
		const { policy } = this.#setting;
		if (policy === null) return this.accepted;
		const tdisp = this.trust?.accepted === true;
		const offer = this.offer?.accepted === true;
		return { none: false, tdisp, offer, any: tdisp || offer, driver: this.#noBounce }[policy.acceptance];
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
		this.#decide();
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
		return this.trust?.t ?? (this.offer?.accepted ? 1 : 0);
	}

	/** The pool that bounces buffers on shared pages, and all if it has no other; null: none. */
	get pool(): GuestPool | null {
		return this.#pool;
	}

	/**
	 * The pool that bounces buffers on private pages, if it is another. After a stop or a fault with slots held, the pool
	 * that they are in until they are given back: its state refuses new ones.
	 */
	get privatePool(): GuestPool | null {
		return this.#privatePool;
	}

	/** What it holds of the guest's memory now. */
	holds(): { mappings: number; bounceSlots: number; coherentBuffers: number } {
		const { directMappings, bouncedMappings } = this.dma.holds();
		return {
			mappings: directMappings,
			bounceSlots: bouncedMappings,
			coherentBuffers: this.#setting.coherent.live(this.dma),
		};
	}

	/** Binds a driver: from then on trust cannot be given or taken. @throws TrustError BUSY when one is bound */
	bindDriver(): void {
		if (this.trust === null) return;
		if (this.trust.driverBound) throw new TrustError(`bind a driver to ${this.name}`, "BUSY", "driver bound");
		this.trust.driverBound = true;
	}

	unbindDriver(): void {
		if (this.trust !== null) this.trust.driverBound = false;
	}

	/** What the rules look at. Under a policy, accepted is what that believes. */
	get ruled(): RuledDevice {
		const { forced, noforce, policy } = this.#setting;
		const accepted = this.believed;
		const encoded = accepted && policy?.plainAddresses === true ? false : (this.options.encoded ?? true);
		return { accepted, pool: this.#pool, privatePool: this.#privatePool, forced, noforce, encoded };
	}

	/** The predicates for it, now: the kernel's, and its policy's. */
	get predicates(): Predicates {
		return this.#decision?.predicates ?? predicatesOf(this.#setting.kernel, this.#setting.platform, this.ruled);
	}

	/** Whether its record asks for the memory's and the pool's state before it maps. */
	get checksState(): boolean {
		return this.#decision?.checksState ?? this.#setting.kernel.checksState;
	}

	/** What becomes of a buffer that may not be mapped as it is: "bounce" if there is a pool. */
	get mechanism(): "bounce" | "share-in-place" | "refuse" {
		const { bounces = true, shares = false } = this.#decision ?? {};
		return shares ? "share-in-place" : bounces ? "bounce" : "refuse";
	}

	/** Where a mapping that would bounce ends the kernel, or null. */
	get crash(): KernelCrash | null {
		return this.#decision?.crash ?? null;
	}

	/** What its policy is asked, or null without one. */
	get #question(): PolicyQuestion | null {
		const { policy, kernel, platform } = this.#setting;
		return policy === null ? null : { policy, kernel, platform, device: this.ruled, reach: this.#lastAddress };
	}

	/** Compiles its decision record anew. */
	#decide(): void {
		const { kernel, platform } = this.#setting;
		const before = [this.#privatePool, this.#pool];
		const { pools: own, matcher } = this.options;
		const { policy, pools: common } = this.#setting;
		const { believed } = this;
		[this.#pool, this.#privatePool] = choosePools({ kernel, platform, policy, own, matcher, common, believed });
		const left = before.find((pool) => pool !== null && pool !== this.#pool && pool.growing === null) ?? null;
		const holdsSlots = () => this.dma.holds().bouncedMappings > 0;
		this.#leaving = this.#privatePool === null && left !== null && holdsSlots();
		if (this.#leaving) this.#privatePool = left;
		const { ruled } = this;
		if (ruled.encoded !== this.#viewEncoded) {
			this.#viewEncoded = ruled.encoded;
			this.#view = this.#makeView();
		}
		this.#view.t = this.t;
		const question = this.#question;
		let record = question === null ? decisionOf(kernel, platform, ruled) : this.#compile(question);
		if (this.#decision?.bounces === false && holdsSlots()) {
			// its slots have to be found until they are given back
			this.#leaving = true;
			record = { ...record, pool: this.#pool?.pool ?? null, privatePool: this.#privatePool?.pool ?? null };
		}
		this.#record = record;
		this.dma.configure({ ...hardwareOf(this.options), ...record });
	}

	/** @returns the record; the rest of the decision is kept */
	#compile(question: PolicyQuestion): Decision["record"] {
		const decision = compile(question);
		this.#decision = decision;
		this.#mmio = decision.mmio;
		if (this.#refused !== null) this.#refused.decision = decision;
		else if (decision.shares || decision.crash !== null)
			this.#refused = new RefusedMaps(this.dma, this.name, this.#setting.sharing, decision);
		return decision.record;
	}

	/** Highest address that it can emit, inclusive. */
	get #lastAddress(): bigint {
		return limitOf(this.options.dmaMask, this.options.busLimit);
	}

	/** The end of what its addresses reach, as gpas: the encoding bit does not count. */
	get reachesBelow(): number {
		const limit = this.#lastAddress;
		return limit >= 2n ** 52n ? 2 ** 52 : Number(limit) + 1;
	}

	/**
	 * Maps a buffer, as Device.map; where the allocator grows, in a transient pool if no common one has room.
	 * @param attrs Attr.SkipCpuSync, Mmio, RequireCoherent, CcShared
	 * @throws DmaError with the status that tryMap answers; KernelCrash
	 */
	map(gpa: Gpa | number, bytes: number, dir: Direction, cpu = 0, attrs = 0): DmaAddr {
		const dma = this.tryMap(gpa, bytes, dir, cpu, attrs);
		if (dma >= 0) return dma as DmaAddr;
		const call = `map(${hex(gpa)}, ${bytes} bytes, ${directionName(dir)}) on ${this.name}`;
		throw new DmaError(call, dma, this.#pool?.pool.describe() ?? "");
	}

	/** As map, but a result below 0 is a status. @throws KernelCrash where its policy brings one about, and nothing else */
	tryMap(gpa: Gpa | number, bytes: number, dir: Direction, cpu = 0, attrs = 0): DmaAddr | number {
		if (this.#mmio !== null && (attrs & Attr.Mmio) !== 0) return this.#mapMmio(this.#mmio, gpa, bytes, dir, cpu, attrs);
		const dma = this.dma.tryMap(gpa, bytes, dir, cpu, attrs);
		if (this.#refused !== null && dma < 0 && dma !== NEEDS_TRANSIENT)
			return this.#refused.tryMap(dma, gpa, bytes, dir, cpu, attrs);
		const growing = this.#pool?.growing ?? null;
		if (dma !== NEEDS_TRANSIENT || growing === null) return dma;
		return growing.mapTransient(this.dma, gpa, bytes, dir, cpu, attrs, this.reachesBelow);
	}

	/** MMIO is mapped by rules of its own, where those of its memory are others. */
	#mapMmio(mmio: DeviceOptions, gpa: number, bytes: number, dir: Direction, cpu: number, attrs: number): number {
		this.dma.configure({ ...hardwareOf(this.options), ...mmio });
		const dma = this.dma.tryMap(gpa, bytes, dir, cpu, attrs);
		this.dma.configure({ ...hardwareOf(this.options), ...this.#record });
		return dma;
	}

	/** Ends a mapping, as Device.unmap. @throws DmaError */
	unmap(dma: DmaAddr | number, bytes: number, dir: Direction, attrs = 0): void {
		this.dma.unmap(dma, bytes, dir, attrs);
		this.#refused?.unmapped(dma, bytes);
		if (this.#leaving && this.dma.holds().bouncedMappings === 0) this.#decide();
	}

	/** Maps a scatter-gather list, all or nothing. @returns one address a segment @throws DmaError */
	mapSg(segments: readonly { gpa: number; bytes: number }[], dir: Direction, cpu = 0, attrs = 0): DmaAddr[] {
		const done: DmaAddr[] = [];
		try {
			for (const { gpa, bytes } of segments) done.push(this.map(gpa, bytes, dir, cpu, attrs));
		} catch (error) {
			for (const [i, dma] of done.entries()) {
				this.unmap(dma, (segments[i] as { bytes: number }).bytes, dir, attrs | Attr.SkipCpuSync);
			}
			throw error;
		}
		return done;
	}

	/**
	 * Allocates memory that the device and its driver use together (dma_alloc_coherent).
	 * @param bytes 1 .. 2^31 - 1
	 * @throws DmaError BAD_SIZE; KernelCrash where its policy brings one about
	 */
	allocCoherent(bytes: number, request: CoherentRequest = {}): CoherentAllocation {
		const question = this.#question;
		const { forceDmaUnencrypted } = this.predicates;
		const answers =
			question === null ? { forAlloc: true, usePool: true, forceDmaUnencrypted } : askForAllocation(question);
		return this.#setting.coherent.alloc(this.#forCoherent(answers), bytes, request);
	}

	/** Gives a coherent buffer back. @throws PageError for what is no live buffer of the device's; KernelCrash */
	freeCoherent(
		buffer: Pick<CoherentBuffer, "gpa" | "dma" | "bytes">,
		request: Pick<CoherentRequest, "atomic"> = {},
	): CoherentFree {
		const question = this.#question;
		const forceDmaUnencrypted = question === null ? this.predicates.forceDmaUnencrypted : askForFree(question);
		const device = this.#forCoherent({ forAlloc: true, usePool: true, forceDmaUnencrypted });
		return this.#setting.coherent.free(device, buffer, request);
	}

	/** Itself, as coherent memory sees it. */
	#forCoherent(answers: Pick<PredicateValues, "forAlloc" | "usePool" | "forceDmaUnencrypted">): CoherentDevice {
		const { platform, slots, kernel, policy } = this.#setting;
		const { coherentDmaMask, dmaMask, busLimit, coherent = true } = this.options;
		const limit = limitOf(coherentDmaMask ?? dmaMask, busLimit);
		const pool = this.#pool;
		return {
			name: this.name,
			index: this.dma.index,
			needsShared: answers.forceDmaUnencrypted,
			coherent,
			slots: pool?.restricted && answers.forAlloc ? { ...slots, ccShared: pool.ccShared } : null,
			usesAtomicPools: answers.usePool,
			checksPoolState: kernel.checksState && policy?.checksPoolState !== false,
			encode: (gpa, shared) => Number(encodeGpa(platform, this.ruled, gpa, shared)),
			fits: (address, bytes) => BigInt(address) + BigInt(bytes) - 1n <= limit,
		};
	}

	/** The device reads memory, through its own view. @param dma an address as it was given it @throws AccessFault */
	read(dma: DmaAddr | number, bytes: number): Uint8Array {
		return this.#view.read(dma, bytes);
	}

	/** The device writes memory. @throws AccessFault */
	write(dma: DmaAddr | number, data: Uint8Array): void {
		this.#view.write(dma, data);
	}
}
