/** A device of a confidential guest: its DMA, its trust, its pools, and its own view of memory. */
import { NEEDS_TRANSIENT } from "../../assembly/layout/status.ts";
import type { Device } from "../dma/device.ts";
import type { DeviceOptions } from "../dma/options.ts";
import { DmaError, hex } from "../status.ts";
import { Attr, type Direction, type DmaAddr, directionName, type Gpa } from "../types.ts";
import type { CoherentMemory } from "./coherent.ts";
import type {
	CoherentAllocation,
	CoherentBuffer,
	CoherentDevice,
	CoherentFree,
	CoherentRequest,
	SlotSource,
} from "./coherent-types.ts";
import { type OfferConnection, type OfferFlags, type OfferTrust, trustOfOffer } from "./offer.ts";
import type { DeviceView } from "./parties.ts";
import type { Platform } from "./platform.ts";
import type { GuestPool, PoolNeed } from "./pools.ts";
import { decisionOf, encodeGpa, type Kernel, type Predicates, predicatesOf, type RuledDevice } from "./rules.ts";
import { DeviceTrust, type Evidence, type Verdict } from "./tdisp.ts";
import { TrustError } from "./trust-error.ts";

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
	readonly matcher?: (need: PoolNeed, pools: readonly GuestPool[]) => GuestPool | null;
	/** Makes it a TDISP device: where its evidence comes from, and who judges it. */
	readonly tdisp?: { readonly evidence: () => Evidence; readonly policy: (evidence: Evidence) => Verdict };
	/** Makes it the device of a VMBus channel, trusted as its offer says. */
	readonly offer?: { readonly flags: OfferFlags; readonly connection: OfferConnection };
	/** Whether its DMA addresses carry the platform's bit; false: AMD SEV-TIO without a vIOMMU. Default true. */
	readonly encoded?: boolean;
}

/** What the guest gives a device. */
export interface DeviceSetting {
	readonly kernel: Kernel;
	readonly platform: Platform;
	readonly forced: boolean;
	readonly noforce: boolean;
	/** The pool for a need, unless the device names pools of its own. */
	defaultPool(accepted: boolean): GuestPool | null;
	makeView(index: number, options: { encoded: boolean }): DeviceView;
	readonly coherent: CoherentMemory;
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
	readonly #view: DeviceView;
	#pool: GuestPool | null = null;
	#privatePool: GuestPool | null = null;
	/** Whether its second pool is one that it has left, and only serves to end what it holds there. */
	#leaving = false;

	/** Made by Guest. offer: what judgeOptions made of the options */
	constructor(dma: Device, options: GuestDeviceOptions, offer: OfferTrust | null, setting: DeviceSetting) {
		this.name = options.name ?? `device ${dma.index}`;
		this.dma = dma;
		this.options = options;
		this.#setting = setting;
		this.#view = setting.makeView(dma.index, { encoded: options.encoded ?? true });
		this.offer = offer;
		this.trust =
			options.tdisp === undefined
				? null
				: new DeviceTrust({ device: this.name, ...options.tdisp, holds: () => this.holds() });
		this.trust?.onChange(() => this.#decide());
		this.#decide();
	}

	/** Whether the guest trusts it with private memory: an accepted interface that runs, or an offer with confidential external memory. */
	get accepted(): boolean {
		return this.trust?.accepted ?? this.offer?.accepted ?? false;
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

	/** What the rules look at. */
	get ruled(): RuledDevice {
		const { forced, noforce } = this.#setting;
		const { encoded = true } = this.options;
		return { accepted: this.accepted, pool: this.#pool, privatePool: this.#privatePool, forced, noforce, encoded };
	}

	/** The kernel's predicates for it, now. */
	get predicates(): Predicates {
		return predicatesOf(this.#setting.kernel, this.#setting.platform, this.ruled);
	}

	/** Compiles its decision record anew. */
	#decide(): void {
		const { kernel, platform } = this.#setting;
		const { pools, matcher = platform.hostRead === "plain" ? firstOf : firstFitting } = this.options;
		const accepted = kernel.knowsAcceptance && this.accepted;
		const before = [this.#privatePool, this.#pool];
		if (pools === undefined) {
			this.#pool = this.#setting.defaultPool(accepted);
			this.#privatePool = null;
		} else {
			this.#pool = matcher({ isPrivate: false, accepted }, pools);
			const forPrivate = matcher({ isPrivate: true, accepted }, pools);
			this.#privatePool = forPrivate === this.#pool ? null : forPrivate;
			// a device has one pool unless it has two
			this.#pool ??= forPrivate;
			if (this.#pool === forPrivate) this.#privatePool = null;
		}
		const left = before.find((pool) => pool !== null && pool !== this.#pool && pool.growing === null) ?? null;
		this.#leaving = this.#privatePool === null && left !== null && this.dma.holds().bouncedMappings > 0;
		if (this.#leaving) this.#privatePool = left;
		this.#view.t = this.t;
		this.dma.configure({ ...hardwareOf(this.options), ...decisionOf(kernel, platform, this.ruled) });
	}

	/** The end of what its addresses reach, as gpas: the encoding bit does not count. */
	get reachesBelow(): number {
		const { dmaMask = 2n ** 64n - 1n, busLimit = 0n } = this.options;
		const limit = busLimit !== 0n && busLimit < dmaMask ? busLimit : dmaMask;
		return limit >= 2n ** 52n ? 2 ** 52 : Number(limit) + 1;
	}

	/**
	 * Maps a buffer, as Device.map; where the allocator grows, in a transient pool if no common one has room.
	 * @param attrs Attr.SkipCpuSync, Mmio, RequireCoherent, CcShared
	 * @throws DmaError with the status that tryMap answers
	 */
	map(gpa: Gpa | number, bytes: number, dir: Direction, cpu = 0, attrs = 0): DmaAddr {
		const dma = this.tryMap(gpa, bytes, dir, cpu, attrs);
		if (dma >= 0) return dma as DmaAddr;
		const call = `map(${hex(gpa)}, ${bytes} bytes, ${directionName(dir)}) on ${this.name}`;
		throw new DmaError(call, dma, this.#pool?.pool.describe() ?? "");
	}

	/** As map, but never throws: a result below 0 is a status. */
	tryMap(gpa: Gpa | number, bytes: number, dir: Direction, cpu = 0, attrs = 0): DmaAddr | number {
		const dma = this.dma.tryMap(gpa, bytes, dir, cpu, attrs);
		const growing = this.#pool?.growing ?? null;
		if (dma !== NEEDS_TRANSIENT || growing === null) return dma;
		return growing.mapTransient(this.dma, gpa, bytes, dir, cpu, attrs, this.reachesBelow);
	}

	/** Ends a mapping, as Device.unmap. @throws DmaError */
	unmap(dma: DmaAddr | number, bytes: number, dir: Direction, attrs = 0): void {
		this.dma.unmap(dma, bytes, dir, attrs);
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

	/** What coherent allocation asks of the device, now. */
	get #coherentDevice(): CoherentDevice {
		const { platform, slots } = this.#setting;
		const { coherentDmaMask, dmaMask = 2n ** 64n - 1n, busLimit = 0n, coherent = true } = this.options;
		const mask = coherentDmaMask ?? dmaMask;
		const limit = busLimit !== 0n && busLimit < mask ? busLimit : mask;
		const pool = this.#pool;
		return {
			name: this.name,
			index: this.dma.index,
			needsShared: this.predicates.forceDmaUnencrypted,
			coherent,
			slots: pool?.restricted ? { ...slots, ccShared: pool.ccShared } : null,
			encode: (gpa, shared) => Number(encodeGpa(platform, this.ruled, gpa, shared)),
			fits: (dma, bytes) => BigInt(dma) + BigInt(bytes) - 1n <= limit,
		};
	}

	/**
	 * Allocates memory that the device and its driver use together (dma_alloc_coherent).
	 * @param bytes 1 .. 2^31 - 1
	 * @throws DmaError BAD_SIZE
	 */
	allocCoherent(bytes: number, request: CoherentRequest = {}): CoherentAllocation {
		return this.#setting.coherent.alloc(this.#coherentDevice, bytes, request);
	}

	/** Gives a coherent buffer back. @throws PageError for what is no live buffer of the device's */
	freeCoherent(
		buffer: Pick<CoherentBuffer, "gpa" | "dma" | "bytes">,
		request: Pick<CoherentRequest, "atomic"> = {},
	): CoherentFree {
		return this.#setting.coherent.free(this.#coherentDevice, buffer, request);
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

/** Where nothing is private every pool fits. */
function firstOf(_need: PoolNeed, pools: readonly GuestPool[]): GuestPool | null {
	return pools[0] ?? null;
}

/** The first pool whose pages are what the buffer and the device's trust need. */
function firstFitting({ isPrivate, accepted }: PoolNeed, pools: readonly GuestPool[]): GuestPool | null {
	const needsShared = !(isPrivate && accepted);
	return pools.find(({ ccShared }) => ccShared === needsShared) ?? null;
}
