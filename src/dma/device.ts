import * as layout from "../../assembly/layout/device.ts";
import { DmaError, hex, orThrow } from "../status.ts";
import type { Pool } from "../swiotlb/pool.ts";
import { type Direction, type DmaAddr, directionName, type Gpa } from "../types.ts";
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
	/** Bounce every mapping: an untrusted device of a confidential guest. Default: whether the engine has swiotlb "force". */
	readonly forceBounce?: boolean;
	/** The pool that serves it. Default: the engine's first pool, if it has one; null: none. */
	readonly pool?: Pool | null;
	/** Bits (below 2^52) ORed into, and cleared from, a private page's address to make its DMA address. Default 0n. */
	readonly privateBits?: bigint;
	readonly privateClear?: bigint;
	/** The same for shared pages and bounce slots. Default 0n. */
	readonly sharedBits?: bigint;
	readonly sharedClear?: bigint;
}

/** What a device did since its creation or the last reset. */
export interface DeviceCounters {
	readonly directMaps: number;
	readonly bouncedMaps: number;
	/** Maps refused after the copy into slots because their address was beyond the mask. */
	readonly beyondMask: number;
	/** Bytes copied into slots by maps and syncs, and back out of them by unmaps and syncs. */
	readonly bytesIn: number;
	readonly bytesBack: number;
}

/** One segment of a scatter-gather list. */
export interface Segment {
	readonly gpa: Gpa | number;
	readonly bytes: number;
}

const MAX_U64 = 2n ** 64n - 1n;
const MAX_ADDRESS = 2n ** 52n - 1n;

const FIELDS = [
	["dmaMask", layout.DEVICE_DMA_MASK],
	["busLimit", layout.DEVICE_BUS_LIMIT],
	["segBoundaryMask", layout.DEVICE_SEG_BOUNDARY],
	["privateBits", layout.DEVICE_PRIVATE_BITS],
	["privateClear", layout.DEVICE_PRIVATE_CLEAR],
	["sharedBits", layout.DEVICE_SHARED_BITS],
	["sharedClear", layout.DEVICE_SHARED_CLEAR],
] as const;

/**
 * Adds a device record. Nothing is added when an option is outside its range.
 * @returns its number
 * @throws RangeError that names the option; DmaError CONTEXT_FULL
 */
export function addDevice(instance: Instance, options: DeviceOptions, pool: Pool | null): number {
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
	const flags =
		(options.forceBounce ? layout.DEVICE_FORCE_BOUNCE : 0) |
		(options.coherent === false ? layout.DEVICE_NON_COHERENT : 0);
	const index = orThrow(instance.exports.deviceAdd(pool?.index ?? -1, flags, minAlignMask), () => "addDevice()");
	for (const [name, field] of FIELDS) {
		const value = options[name];
		if (value === undefined) continue;
		instance.exports.deviceSet64(index, field, Number(value & 0xffffffffn), Number(value >> 32n));
	}
	return index;
}

/**
 * A size or direction as the engine takes it: what is no i32 becomes -1, which it refuses with BAD_SIZE or BAD_DIRECTION.
 * Done on the argument, since V8 boxes a call's f64 result as soon as another value may stand in its place.
 */
function whole(value: number): number {
	return value === (value | 0) ? value : -1;
}

/** A device and the DMA API that its driver calls. The try forms never throw: a result below 0 is a status. */
export class Device {
	readonly #instance: Instance;
	readonly #exports: Instance["exports"];
	readonly #list: number;
	readonly #listEntries: number;
	readonly index: number;
	readonly pool: Pool | null;

	/** Made by Engine. list: ptr of room for `listEntries` scatter-gather entries */
	constructor(instance: Instance, index: number, pool: Pool | null, list: number, listEntries: number) {
		this.#instance = instance;
		this.#exports = instance.exports;
		this.#list = list;
		this.#listEntries = listEntries;
		this.index = index;
		this.pool = pool;
	}

	#refused(call: string, address: number, bytes: number, dir: number, status: number): DmaError {
		const text = `${call}(${hex(address)}, ${bytes} bytes, ${directionName(dir)}) on device ${this.index}`;
		const pool = this.pool !== null && call.startsWith("map") ? this.pool.describe() : "";
		return new DmaError(text, status, pool);
	}

	/**
	 * Maps a buffer and answers the address for the device: Linux 6.12 dma_map_single through dma-direct.
	 * @param bytes 1 .. 2^31 - 1
	 * @param cpu chooses the pool's area
	 * @throws DmaError with the status that tryMap answers
	 */
	map(gpa: Gpa | number, bytes: number, dir: Direction, cpu = 0): DmaAddr {
		const dma = this.tryMap(gpa, bytes, dir, cpu);
		if (dma < 0) throw this.#refused("map", gpa, bytes, dir, dma);
		return dma as DmaAddr;
	}

	/** As map, but never throws and creates no object: a result below 0 is a status (statusName tells which). */
	tryMap(gpa: Gpa | number, bytes: number, dir: Direction, cpu = 0): DmaAddr | number {
		return this.#exports.mapSingle(this.index, gpa, whole(bytes), whole(dir), cpu);
	}

	/**
	 * Ends a mapping; copies back for FROM_DEVICE and BIDIRECTIONAL unless Attr.SkipCpuSync.
	 * @throws DmaError with the status that tryUnmap answers
	 */
	unmap(dma: DmaAddr | number, bytes: number, dir: Direction, attrs = 0): void {
		const done = this.tryUnmap(dma, bytes, dir, attrs);
		if (done < 0) throw this.#refused("unmap", dma, bytes, dir, done);
	}

	/** As unmap, but never throws. @returns bytes copied back, or a status */
	tryUnmap(dma: DmaAddr | number, bytes: number, dir: Direction, attrs = 0): number {
		return this.#exports.unmapSingle(this.index, dma, whole(bytes), whole(dir), attrs);
	}

	/** Gives (part of) a mapping to the device: what the CPU wrote becomes visible to it. @returns bytes copied @throws DmaError */
	syncForDevice(dma: DmaAddr | number, bytes: number, dir: Direction): number {
		const done = this.#exports.syncForDevice(this.index, dma, whole(bytes), whole(dir));
		if (done < 0) throw this.#refused("syncForDevice", dma, bytes, dir, done);
		return done;
	}

	/** Gives (part of) a mapping to the CPU: what the device wrote becomes visible to it. @returns bytes copied @throws DmaError */
	syncForCpu(dma: DmaAddr | number, bytes: number, dir: Direction): number {
		const done = this.#exports.syncForCpu(this.index, dma, whole(bytes), whole(dir));
		if (done < 0) throw this.#refused("syncForCpu", dma, bytes, dir, done);
		return done;
	}

	#fillList(count: number, write: (entry: number, i: number) => void): void {
		if (count === 0 || count > this.#listEntries) {
			throw new RangeError(`a scatter-gather list has 1 to ${this.#listEntries} segments, not ${count}`);
		}
		for (let i = 0; i < count; i++) write(this.#list + i * layout.SG_BYTES, i);
	}

	/**
	 * Maps a scatter-gather list, all or nothing: when a segment fails, the earlier ones are unmapped without copying back.
	 * @returns one address a segment
	 * @throws DmaError with the status of the segment that failed; RangeError for a list that is empty or too long
	 */
	mapSg(segments: readonly Segment[], dir: Direction, cpu = 0): DmaAddr[] {
		const { data } = this.#instance;
		this.#fillList(segments.length, (entry, i) => {
			const { gpa, bytes } = segments[i] as Segment;
			data.setFloat64(entry + layout.SG_GPA, gpa, true);
			data.setInt32(entry + layout.SG_LENGTH, whole(bytes), true);
		});
		const status = this.#exports.dmaMapSg(this.index, this.#list, segments.length, whole(dir), cpu);
		if (status < 0) {
			const call = `mapSg(${segments.length} segments, ${directionName(dir)}) on device ${this.index}`;
			throw new DmaError(call, status, this.pool?.describe() ?? "");
		}
		return segments.map((_, i) => data.getFloat64(this.#list + i * layout.SG_BYTES + layout.SG_DMA, true) as DmaAddr);
	}

	/** Ends the mappings of a list, given with the addresses that mapSg answered. @throws DmaError; the other segments are unmapped all the same */
	unmapSg(segments: readonly { dma: DmaAddr | number; bytes: number }[], dir: Direction, attrs = 0): void {
		const { data } = this.#instance;
		this.#fillList(segments.length, (entry, i) => {
			const { dma, bytes } = segments[i] as { dma: number; bytes: number };
			data.setFloat64(entry + layout.SG_DMA, dma, true);
			data.setInt32(entry + layout.SG_LENGTH, whole(bytes), true);
		});
		const status = this.#exports.dmaUnmapSg(this.index, this.#list, segments.length, whole(dir), attrs);
		if (status < 0)
			throw new DmaError(`unmapSg(${segments.length} segments, ${directionName(dir)}) on device ${this.index}`, status);
	}

	/**
	 * Largest mapping that is sure to be possible (dma_max_mapping_size), in bytes; Infinity when the device never bounces.
	 * @param highestGpa last address of RAM that the device has to reach
	 */
	maxMappingBytes(highestGpa: number): number {
		const bytes = this.#exports.deviceMaxMapping(this.index, highestGpa);
		return bytes === 2 ** 31 - 1 ? Number.POSITIVE_INFINITY : bytes;
	}

	get counters(): DeviceCounters {
		const ptr = (this.#exports.devicePtr(this.index) >>> 0) + layout.DEVICE_COUNTERS;
		const counters = { directMaps: 0, bouncedMaps: 0, beyondMask: 0, bytesIn: 0, bytesBack: 0 };
		for (let shard = 0; shard < layout.COUNTER_SHARDS; shard++) {
			const at = ptr + (shard << layout.COUNTER_SHARD_SHIFT);
			counters.directMaps +=
				this.#instance.u32(at + layout.COUNTER_DIRECT_MAPS) - this.#instance.u32(at + layout.COUNTER_DIRECT_BASE);
			counters.bouncedMaps += this.#instance.u32(at + layout.COUNTER_BOUNCED_MAPS);
			counters.beyondMask += this.#instance.u32(at + layout.COUNTER_BEYOND_MASK);
			counters.bytesIn += this.#instance.u64(at + layout.COUNTER_BYTES_IN);
			counters.bytesBack += this.#instance.u64(at + layout.COUNTER_BYTES_BACK);
		}
		return counters;
	}

	resetCounters(): void {
		this.#exports.deviceResetCounters(this.index);
	}
}
