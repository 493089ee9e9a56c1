import * as layout from "../../assembly/layout/device.ts";
import { DmaError, hex, orThrow } from "../status.ts";
import type { Pool } from "../swiotlb/pool.ts";
import { type Direction, type DmaAddr, directionName, type Gpa } from "../types.ts";
import type { Instance } from "../wasm.ts";
import { type DeviceOptions, setDevice } from "./options.ts";

/** What a device did since its creation or the last reset. */
export interface DeviceCounters {
	readonly directMaps: number;
	readonly bouncedMaps: number;
	/** Maps refused after the copy into slots because their address was beyond the mask. */
	readonly beyondMask: number;
	/** Bytes copied into slots by maps and syncs, and back out of them by unmaps and syncs. */
	readonly bytesIn: number;
	readonly bytesBack: number;
	/** Cache maintenance that a non-coherent device made necessary, and the bytes that it covered. */
	readonly cacheOps: number;
	readonly cacheBytes: number;
}

/** What a device holds now. */
export interface DeviceHolds {
	readonly directMappings: number;
	readonly bouncedMappings: number;
}

/** One segment of a scatter-gather list. */
export interface Segment {
	readonly gpa: Gpa;
	readonly bytes: number;
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
	#pool: Pool | null;

	/** Made by Engine. list: ptr of room for `listEntries` scatter-gather entries */
	constructor(instance: Instance, index: number, pool: Pool | null, list: number, listEntries: number) {
		this.#instance = instance;
		this.#exports = instance.exports;
		this.#list = list;
		this.#listEntries = listEntries;
		this.index = index;
		this.#pool = pool;
	}

	/** The pool that serves it. */
	get pool(): Pool | null {
		return this.#pool;
	}

	/**
	 * Gives the device all of its options anew: what it is trusted with, and which pool serves it, may change. What it has
	 * mapped stays mapped, under the old rules.
	 * @param options what is left out gets its default; pool: none
	 * @throws RangeError that names the option; DmaError BAD_POOL
	 */
	configure(options: DeviceOptions): void {
		const pool = options.pool ?? null;
		setDevice(this.#instance, this.index, options, pool);
		this.#pool = pool;
	}

	#refused(call: string, address: number, bytes: number, dir: number, status: number): DmaError {
		const text = `${call}(${hex(address)}, ${bytes} bytes, ${directionName(dir)}) on device ${this.index}`;
		const pool = this.#pool !== null && call.startsWith("map") ? this.#pool.describe() : "";
		return new DmaError(text, status, pool);
	}

	/**
	 * Maps a buffer and answers the address for the device: Linux 6.12 dma_map_single through dma-direct.
	 * @param bytes 1 .. 2^31 - 1
	 * @param cpu chooses the pool's area
	 * @param attrs Attr.SkipCpuSync, Mmio, RequireCoherent, CcShared
	 * @throws DmaError with the status that tryMap answers
	 */
	map(gpa: Gpa, bytes: number, dir: Direction, cpu = 0, attrs = 0): DmaAddr {
		const dma = this.tryMap(gpa, bytes, dir, cpu, attrs);
		if (dma < 0) throw this.#refused("map", gpa, bytes, dir, dma);
		return dma as DmaAddr;
	}

	/** As map, but never throws and creates no object: a result below 0 is a status (statusName tells which). */
	tryMap(gpa: Gpa, bytes: number, dir: Direction, cpu = 0, attrs = 0): DmaAddr {
		return this.#exports.mapSingle(this.index, gpa, whole(bytes), whole(dir), cpu, attrs);
	}

	/**
	 * Ends a mapping; copies back for FROM_DEVICE and BIDIRECTIONAL unless Attr.SkipCpuSync.
	 * @throws DmaError with the status that tryUnmap answers
	 */
	unmap(dma: DmaAddr, bytes: number, dir: Direction, attrs = 0): void {
		const done = this.tryUnmap(dma, bytes, dir, attrs);
		if (done < 0) throw this.#refused("unmap", dma, bytes, dir, done);
	}

	/** As unmap, but never throws. @returns bytes copied back, or a status */
	tryUnmap(dma: DmaAddr, bytes: number, dir: Direction, attrs = 0): number {
		return this.#exports.unmapSingle(this.index, dma, whole(bytes), whole(dir), attrs);
	}

	/** Gives (part of) a mapping to the device: what the CPU wrote becomes visible to it. @returns bytes copied @throws DmaError */
	syncForDevice(dma: DmaAddr, bytes: number, dir: Direction): number {
		const done = this.#exports.syncForDevice(this.index, dma, whole(bytes), whole(dir));
		if (done < 0) throw this.#refused("syncForDevice", dma, bytes, dir, done);
		return done;
	}

	/** Gives (part of) a mapping to the CPU: what the device wrote becomes visible to it. @returns bytes copied @throws DmaError */
	syncForCpu(dma: DmaAddr, bytes: number, dir: Direction): number {
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
	mapSg(segments: readonly Segment[], dir: Direction, cpu = 0, attrs = 0): DmaAddr[] {
		const { data } = this.#instance;
		this.#fillList(segments.length, (entry, i) => {
			const { gpa, bytes } = segments[i] as Segment;
			data.setFloat64(entry + layout.SG_GPA, gpa, true);
			data.setInt32(entry + layout.SG_LENGTH, whole(bytes), true);
		});
		const status = this.#exports.dmaMapSg(this.index, this.#list, segments.length, whole(dir), cpu, attrs);
		if (status < 0) {
			const call = `mapSg(${segments.length} segments, ${directionName(dir)}) on device ${this.index}`;
			throw new DmaError(call, status, this.#pool?.describe() ?? "");
		}
		return segments.map((_, i) => data.getFloat64(this.#list + i * layout.SG_BYTES + layout.SG_DMA, true) as DmaAddr);
	}

	/** Ends the mappings of a list, given with the addresses that mapSg answered. @throws DmaError; the other segments are unmapped all the same */
	unmapSg(segments: readonly { dma: DmaAddr; bytes: number }[], dir: Direction, attrs = 0): void {
		const { data } = this.#instance;
		this.#fillList(segments.length, (entry, i) => {
			const { dma, bytes } = segments[i] as { dma: DmaAddr; bytes: number };
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
	maxMappingBytes(highestGpa: Gpa): number {
		const bytes = this.#exports.deviceMaxMapping(this.index, highestGpa);
		return bytes === 2 ** 31 - 1 ? Number.POSITIVE_INFINITY : bytes;
	}

	get counters(): DeviceCounters {
		const ptr = (this.#exports.devicePtr(this.index) >>> 0) + layout.DEVICE_COUNTERS;
		const counters = {
			directMaps: 0,
			bouncedMaps: 0,
			beyondMask: 0,
			bytesIn: 0,
			bytesBack: 0,
			cacheOps: 0,
			cacheBytes: 0,
		};
		for (let shard = 0; shard < layout.COUNTER_SHARDS; shard++) {
			const at = ptr + (shard << layout.COUNTER_SHARD_SHIFT);
			counters.directMaps +=
				this.#instance.u32(at + layout.COUNTER_DIRECT_MAPS) - this.#instance.u32(at + layout.COUNTER_DIRECT_BASE);
			counters.bouncedMaps += this.#instance.u32(at + layout.COUNTER_BOUNCED_MAPS);
			counters.beyondMask += this.#instance.u32(at + layout.COUNTER_BEYOND_MASK);
			counters.bytesIn += this.#instance.u64(at + layout.COUNTER_BYTES_IN);
			counters.bytesBack += this.#instance.u64(at + layout.COUNTER_BYTES_BACK);
			counters.cacheOps += this.#instance.u32(at + layout.COUNTER_CACHE_OPS);
			counters.cacheBytes += this.#instance.u64(at + layout.COUNTER_CACHE_BYTES);
		}
		return counters;
	}

	/** Mappings that have not ended. A walk over all pools: for set-up. */
	holds(): DeviceHolds {
		const ptr = (this.#exports.devicePtr(this.index) >>> 0) + layout.DEVICE_COUNTERS;
		let directMappings = 0;
		for (let shard = 0; shard < layout.COUNTER_SHARDS; shard++) {
			const at = ptr + (shard << layout.COUNTER_SHARD_SHIFT);
			directMappings +=
				this.#instance.u32(at + layout.COUNTER_DIRECT_MAPS) - this.#instance.u32(at + layout.COUNTER_DIRECT_UNMAPS);
		}
		const bouncedMappings = orThrow(this.#exports.deviceBounced(this.index), () => `holds() of device ${this.index}`);
		return { directMappings, bouncedMappings };
	}

	resetCounters(): void {
		this.#exports.deviceResetCounters(this.index);
	}
}
