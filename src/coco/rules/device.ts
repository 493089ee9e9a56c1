/** A device as the rules look at it, and the guest around it. */
import type { DeviceOptions } from "../../dma/options.ts";
import { type AddressEncoding, addressEncoding, PLAIN_ADDRESSES, type Platform } from "../platform/platform.ts";
import type { Kernel } from "./kernel.ts";
import type { RuledPool } from "./pool.ts";

/** What the rules look at in a device. */
export interface RuledDevice {
	/** Whether the guest trusts it with private memory, as far as its policy knows. */
	readonly accepted: boolean;
	/** The pool for shared memory, and the one for private memory if it is another. */
	readonly pool: RuledPool | null;
	readonly privatePool: RuledPool | null;
	/** Whether dev->dma_io_tlb_mem points at an allocator: its pools may fit no buffer all the same. */
	readonly hasAllocator: boolean;
	/** Whether that is the default one, for which no memory was found at boot. */
	readonly noSlots: boolean;
	/** swiotlb=force on the command line. */
	readonly forced: boolean;
	/** swiotlb=noforce: a confidential guest does not bounce everything, at its own risk. */
	readonly noforce: boolean;
	/** Whether it is the device of a VMBus channel. */
	readonly vmbus: boolean;
	/** Whether it sits behind a port that anybody can reach: no rule of dma-direct asks. */
	readonly externalFacing: boolean;
	/** Whether its addresses carry the platform's bit. */
	readonly encoded: boolean;
	/** Highest address that it can emit, inclusive: for streaming and for coherent memory. */
	readonly reach: bigint;
	readonly coherentReach: bigint;
}

/** A device on a platform, under a kernel. */
export interface Situation {
	readonly kernel: Kernel;
	readonly platform: Platform;
	readonly device: RuledDevice;
}

/** How the device's addresses tell private from shared. */
export function encodingOf(platform: Platform, { encoded }: Pick<RuledDevice, "encoded">): AddressEncoding {
	return encoded ? addressEncoding(platform) : PLAIN_ADDRESSES;
}

/**
 * Highest address that a mask and a bus let through, inclusive: the smaller one that is not 0.
 * Linux 6.12 include/linux/dma-direct.h, dma_capable (min_not_zero)
 */
export function limitOf({
	dmaMask = 2n ** 64n - 1n,
	busLimit = 0n,
}: Pick<DeviceOptions, "dmaMask" | "busLimit">): bigint {
	if (busLimit === 0n) return dmaMask;
	return dmaMask === 0n || busLimit < dmaMask ? busLimit : dmaMask;
}
