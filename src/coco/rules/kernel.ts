/** What a kernel decides about a device's DMA, compiled into the fields of its decision record. */
import type { DeviceOptions } from "../../dma/options.ts";
import { addressEncoding, type Platform } from "../platform/platform.ts";
import type { RuledPool } from "./pool.ts";

export type KernelName = "linux-6.12" | "linux-7.3";

/** Rules of one kernel, as data. */
export interface Kernel {
	readonly name: KernelName;
	/** Whether a confidential guest bounces every device's DMA (SWIOTLB_FORCE), whatever it may reach. */
	readonly forcesBounce: boolean;
	/** Whether dma_capable asks for the memory's state and swiotlb for the pool's. */
	readonly checksState: boolean;
	/** Whether an accepted device reaches private memory: force_dma_unencrypted is false for it. */
	readonly knowsAcceptance: boolean;
	/** Whether a default pool whose decryption fails is disabled; else it is used as it is. */
	readonly disablesPool: boolean;
	/** Whether transient pools are freed where sleeping is allowed. */
	readonly freesInProcess: boolean;
	readonly source: string;
}

export const KERNELS: Readonly<Record<KernelName, Kernel>> = {
	"linux-6.12": {
		name: "linux-6.12",
		forcesBounce: true,
		checksState: false,
		knowsAcceptance: false,
		disablesPool: false,
		freesInProcess: false,
		source: "Linux 6.12 kernel/dma/direct.h, kernel/dma/swiotlb.c, arch/x86/mm/mem_encrypt.c",
	},
	"linux-7.3": {
		name: "linux-7.3",
		forcesBounce: false,
		checksState: true,
		knowsAcceptance: true,
		disablesPool: true,
		freesInProcess: true,
		source:
			"the series merged for Linux 7.3 (d5fd03cdd6c0, 20beb6884b83, ad8d2326d264, e13d4d9a4915); acceptance as posted in March 2026 (device_cc_accepted), not merged as far as is known",
	},
};

/** @throws RangeError that lists the kernels */
export function kernelNamed(name: string): Kernel {
	if (!Object.hasOwn(KERNELS, name))
		throw new RangeError(`kernel must be one of ${Object.keys(KERNELS).join(", ")}, not "${name}"`);
	return KERNELS[name as KernelName];
}

/** What the rules look at in a device. */
export interface RuledDevice {
	readonly accepted: boolean;
	/** The pool for shared memory, and the one for private memory if it is another. */
	readonly pool: RuledPool | null;
	readonly privatePool: RuledPool | null;
	/** swiotlb=force on the command line. */
	readonly forced: boolean;
	/** swiotlb=noforce: a confidential guest does not bounce everything, at its own risk. */
	readonly noforce: boolean;
	/** Whether its addresses carry the platform's bit. */
	readonly encoded: boolean;
}

/** The predicates of a kernel, for one device. */
export interface Predicates {
	/** force_dma_unencrypted(dev): the device reaches shared memory only. */
	readonly forceDmaUnencrypted: boolean;
	/** is_swiotlb_force_bounce(dev), and why. */
	readonly forceBounce: boolean;
	readonly forceBounceWhy: string;
}

/** Evaluates a kernel's predicates for a device. */
export function predicatesOf(kernel: Kernel, platform: Platform, device: RuledDevice): Predicates {
	const trusted = kernel.knowsAcceptance && device.accepted;
	const restricted = device.pool?.restricted === true;
	// a platform without the attribute: what its firmware says with a device's pool is all that the kernel knows
	const sharesPool = device.pool?.ccShared === true;
	const forceDmaUnencrypted = platform.memEncrypt ? !trusted : kernel.checksState && sharesPool;
	const everything = kernel.forcesBounce && platform.memEncrypt && !device.noforce;
	const forceBounceWhy = restricted
		? "restricted pool"
		: device.forced
			? "swiotlb=force"
			: everything
				? "confidential guest: SWIOTLB_FORCE"
				: "";
	return { forceDmaUnencrypted, forceBounce: forceBounceWhy !== "", forceBounceWhy };
}

/** The DMA address that the kernel gives a device for a gpa, in its shared or private form. */
export function encodeGpa(
	platform: Platform,
	device: Pick<RuledDevice, "encoded">,
	gpa: number,
	shared: boolean,
): bigint {
	if (!device.encoded) return BigInt(gpa);
	const { privateBits, privateClear, sharedBits, sharedClear } = addressEncoding(platform);
	const [bits, clear] = shared ? [sharedBits, sharedClear] : [privateBits, privateClear];
	return (BigInt(gpa) & ~clear) | bits;
}

/** The fields of the decision record. */
export function decisionOf(kernel: Kernel, platform: Platform, device: RuledDevice): DeviceOptions {
	const { forceBounce, forceDmaUnencrypted } = predicatesOf(kernel, platform, device);
	return {
		...(device.encoded ? addressEncoding(platform) : {}),
		forceBounce,
		needsShared: forceDmaUnencrypted,
		checksState: kernel.checksState,
		encodesAsLinux: true,
		pool: device.pool?.pool ?? null,
		privatePool: device.privatePool?.pool ?? null,
	};
}
