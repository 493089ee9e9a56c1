/** What a device of a confidential guest is made from. */
import type { DeviceOptions } from "../../dma/options.ts";
import type { CoherentMemory } from "../memory/coherent.ts";
import type { Hazard, SlotSource } from "../memory/coherent-types.ts";
import type { GuestPool, PoolNeed } from "../memory/pools.ts";
import type { DeviceView } from "../platform/parties.ts";
import type { Platform } from "../platform/platform.ts";
import type { Kernel } from "../rules/kernel.ts";
import type { Policy } from "../rules/policy.ts";
import { type OfferConnection, type OfferFlags, type OfferTrust, trustOfOffer } from "../trust/offer.ts";
import type { Evidence, EvidenceDecision } from "../trust/tdisp.ts";
import type { PageSharing } from "./sharing.ts";

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
	readonly tdisp?: { readonly evidence: () => Evidence; readonly policy: (evidence: Evidence) => EvidenceDecision };
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
	readonly policy: Policy | null;
	/** Pools that a policy may choose from for a device without pools of its own. */
	readonly pools: readonly GuestPool[];
	/** The pool for a need, unless the device names pools of its own. */
	defaultPool(accepted: boolean): GuestPool | null;
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
export function limitOf(mask = 2n ** 64n - 1n, busLimit = 0n): bigint {
	return busLimit !== 0n && busLimit < mask ? busLimit : mask;
}
