/** A device's options and its decision record. */
import * as layout from "../../assembly/layout/device.ts";
import { POOL_COUNTED, POOL_GROWS } from "../../assembly/layout/pool.ts";
import { orThrow } from "../status.ts";
import type { Pool } from "../swiotlb/pool.ts";
import type { Instance } from "../wasm.ts";

/** What a device is to the DMA layer. 64-bit masks are bigints: this is set-up, not the data path. */
export interface DeviceOptions {
	/** Highest DMA address that it can emit, inclusive. Default 2^64 - 1. */
	readonly dmaMask?: bigint;
	/** Highest DMA address that its bus carries, inclusive. Default 0: no limit. */
	readonly busLimit?: bigint;
	/** 2^k - 1 that no bounce mapping crosses. Default 0: unset. */
	readonly segBoundaryMask?: bigint;
	/** Low bits of the original address that the bounce address keeps (dma_set_min_align_mask). Default 0. */
	readonly minAlignMask?: number;
	/** Whether DMA is cache-coherent. Default true. If not, small FROM_DEVICE and BIDIRECTIONAL buffers bounce, as on arm64. */
	readonly coherent?: boolean;
	/**
	 * Whether it may be given private pages as they are; whoever says so answers for it. Default: on an engine that is not
	 * confidential. What is not trusted bounces every mapping, as Linux has it in a confidential guest (SWIOTLB_FORCE); without
	 * a pool its maps are refused with NO_POOL.
	 */
	readonly trusted?: boolean;
	/**
	 * Bounce every mapping, trusted or not. Default: whether it is not trusted, or the engine has swiotlb "force". False for a
	 * device that is not trusted only where checksState and needsShared keep it from private pages.
	 */
	readonly forceBounce?: boolean;
	/** The pool that serves it. Default: the engine's first pool, if it has one; null: none. */
	readonly pool?: Pool | null;
	/** A pool of its own for buffers on private pages; it may not grow. Default: none. */
	readonly privatePool?: Pool | null;
	/**
	 * Whether direct addresses take the form that Linux gives them: private, or shared with Attr.CcShared. Default false:
	 * that of the pages, which no kernel looks at.
	 */
	readonly encodesAsLinux?: boolean;
	/** Whether it reaches shared memory only: Linux's force_dma_unencrypted. Default false. */
	readonly needsShared?: boolean;
	/** Whether its pool has to be shared under checksPool, else private. Default: as needsShared. */
	readonly needsSharedPool?: boolean;
	/** Whether MMIO takes the shared form whatever its attributes say: a host whose memory is encrypted. Default false. */
	readonly mmioShared?: boolean;
	/**
	 * Whether attributes tell what memory is and dma_capable asks for it, as after Linux's 7.3 merge. Default false: 6.12's
	 * rules. The three that follow came with it, and are as it is unless they are given.
	 */
	readonly checksState?: boolean;
	/** Whether a bounce asks for the pool's state first. */
	readonly checksPool?: boolean;
	/** Whether MMIO is encoded and judged as RAM is; else it is given as it is. */
	readonly encodesMmio?: boolean;
	/** Whether a device that reaches shared memory only is promised no more than a bounce by maxMappingBytes. */
	readonly limitsSharedMaps?: boolean;
	/** Bits (below 2^52) ORed into, and cleared from, a private page's address to make its DMA address. Default 0n. */
	readonly privateBits?: bigint;
	readonly privateClear?: bigint;
	/** The same for shared pages and bounce slots. Default 0n. */
	readonly sharedBits?: bigint;
	readonly sharedClear?: bigint;
}

/** What an engine says of devices that do not say it themselves. */
export interface DeviceDefaults {
	/** Whether the guest is confidential: a device is not trusted. */
	readonly confidential: boolean;
	/** Whether the engine has swiotlb "force". */
	readonly forceBounce: boolean;
}

/**
 * Options with the engine's defaults filled in.
 * @throws RangeError for a device that is not trusted, and that nothing would keep from private pages
 */
export function withDefaults(options: DeviceOptions, defaults: DeviceDefaults): DeviceOptions {
	const { trusted = !defaults.confidential, checksState = false, needsShared = false } = options;
	const sharedOnly = checksState && needsShared;
	const { forceBounce = defaults.forceBounce || (!trusted && !sharedOnly) } = options;
	if (!trusted && !forceBounce && !sharedOnly)
		throw new RangeError("device: forceBounce: false would give it private pages as they are: say trusted: true");
	return { ...options, trusted, forceBounce };
}

const MAX_U64 = 2n ** 64n - 1n;
const MAX_ADDRESS = 2n ** 52n - 1n;

/** Options of 64 bits, where they stand and what they are unless given. */
const FIELDS = [
	["dmaMask", layout.DEVICE_DMA_MASK, MAX_U64],
	["busLimit", layout.DEVICE_BUS_LIMIT, 0n],
	["segBoundaryMask", layout.DEVICE_SEG_BOUNDARY, 0n],
	["privateBits", layout.DEVICE_PRIVATE_BITS, 0n],
	["privateClear", layout.DEVICE_PRIVATE_CLEAR, 0n],
	["sharedBits", layout.DEVICE_SHARED_BITS, 0n],
	["sharedClear", layout.DEVICE_SHARED_CLEAR, 0n],
] as const;

/** @throws RangeError that names the option */
function checkOptions(options: DeviceOptions): void {
	const minAlignMask = options.minAlignMask ?? 0;
	if (!Number.isInteger(minAlignMask) || minAlignMask < 0 || minAlignMask >= 2 ** 32) {
		throw new RangeError(`device: minAlignMask must be a whole number from 0 to 2^32 - 1, not ${minAlignMask}`);
	}
	for (const [name] of FIELDS) {
		const value = options[name] ?? 0n;
		if (value < 0n || value > MAX_U64) throw new RangeError(`device: ${name} must be from 0 to 2^64 - 1, not ${value}`);
		if (name.endsWith("Bits") && value > MAX_ADDRESS)
			throw new RangeError(`device: ${name} must be below 2^52, as all addresses, not 0x${value.toString(16)}`);
	}
	const boundary = options.segBoundaryMask ?? 0n;
	if ((boundary & (boundary + 1n)) !== 0n) {
		throw new RangeError(`device: segBoundaryMask must be of the form 2^k - 1, not 0x${boundary.toString(16)}`);
	}
	if (((options.privatePool?.flags ?? 0) & (POOL_GROWS | POOL_COUNTED)) !== 0)
		throw new RangeError("device: privatePool must be a pool that does not grow");
}

function flagsOf(options: DeviceOptions): number {
	return (
		(options.forceBounce ? layout.DEVICE_FORCE_BOUNCE : 0) |
		(options.coherent === false ? layout.DEVICE_NON_COHERENT : 0) |
		(options.encodesAsLinux ? layout.DEVICE_ENCODES_AS_LINUX : 0) |
		(options.needsShared ? layout.DEVICE_NEEDS_SHARED : 0) |
		((options.needsSharedPool ?? options.needsShared) ? layout.DEVICE_NEEDS_SHARED_POOL : 0) |
		(options.mmioShared ? layout.DEVICE_MMIO_SHARED : 0) |
		(options.checksState ? layout.DEVICE_CHECKS_STATE : 0) |
		((options.checksPool ?? options.checksState) ? layout.DEVICE_CHECKS_POOL : 0) |
		((options.encodesMmio ?? options.checksState) ? layout.DEVICE_ENCODES_MMIO : 0) |
		((options.limitsSharedMaps ?? options.checksState) ? layout.DEVICE_LIMITS_SHARED_MAPS : 0)
	);
}

/**
 * Adds a device record. Nothing is added when an option is outside its range.
 * @returns its number
 * @throws RangeError that names the option; DmaError CONTEXT_FULL
 */
export function addDevice(instance: Instance, options: DeviceOptions, pool: Pool | null): number {
	checkOptions(options);
	const index = orThrow(instance.exports.deviceAdd(pool?.index ?? -1, 0, 0), () => "addDevice()");
	setDevice(instance, index, options, pool);
	return index;
}

/** Gives a device all of its options anew. @throws as addDevice; then nothing has changed */
export function setDevice(instance: Instance, index: number, options: DeviceOptions, pool: Pool | null): void {
	checkOptions(options);
	const { exports } = instance;
	const call = () => `device ${index}`;
	orThrow(exports.deviceSet(index, pool?.index ?? -1, flagsOf(options), options.minAlignMask ?? 0), call);
	for (const [name, field, fallback] of FIELDS) {
		const value = options[name] ?? fallback;
		orThrow(exports.deviceSet64(index, field, Number(value & 0xffffffffn), Number(value >> 32n)), call);
	}
	if (options.privatePool) orThrow(exports.deviceSetPrivatePool(index, options.privatePool.index), call);
}
