import * as layout from "../../assembly/layout/device.ts";
import { BAD_SIZE } from "../../assembly/layout/status.ts";
import { orThrow } from "../status.ts";
import type { Pool } from "../swiotlb/pool.ts";
import type { Direction, DmaAddr, Gpa } from "../types.ts";
import type { Instance } from "../wasm.ts";
import { DmaApi, type MappedSegment, type Segment } from "./api.ts";
import { type DeviceDefaults, type DeviceOptions, setDevice, withDefaults } from "./options.ts";
import { type Refusal, type RefusedRequest, refusalOf } from "./refusal.ts";

/** What a device did since its creation or the last reset. */
export interface DeviceCounters {
	readonly directMaps: number;
	readonly bouncedMaps: number;
	/** Maps refused after the copy into slots because their address was beyond the mask. */
	readonly beyondMask: number;
	/** Bytes copied into slots by maps and syncs, and back out of them by unmaps and syncs. */
	readonly bytesIn: number;
	readonly bytesBack: number;
	/**
	 * Calls for cache maintenance that a non-coherent device made necessary, and the bytes that they covered: none for
	 * TO_DEVICE memory given back to the CPU.
	 */
	readonly cacheOps: number;
	readonly cacheBytes: number;
}

/** What a device holds now. */
export interface DeviceHolds {
	readonly directMappings: number;
	readonly bouncedMappings: number;
}

/**
 * A size or direction as the engine takes it: what is no i32 becomes -1, which it refuses with BAD_SIZE or BAD_DIRECTION.
 * Done on the argument, since V8 boxes a call's f64 result as soon as another value may stand in its place.
 */
function whole(value: number): number {
	return value === (value | 0) ? value : -1;
}

/** A device and the DMA API that its driver calls: Linux 6.12 kernel/dma/direct.h, direct.c. */
export class Device extends DmaApi {
	readonly #instance: Instance;
	readonly #exports: Instance["exports"];
	readonly #contextPtr: number;
	readonly #list: number;
	readonly #defaults: DeviceDefaults;
	readonly index: number;
	readonly name: string;
	readonly maxSegments: number;
	#pool: Pool | null;

	/** Made by Engine. context: the engine's state, with room for so many scatter-gather entries at an offset */
	constructor(
		instance: Instance,
		index: number,
		pool: Pool | null,
		context: { readonly ptr: number; readonly listOffset: number; readonly listEntries: number },
		defaults: DeviceDefaults,
	) {
		super();
		this.#instance = instance;
		this.#exports = instance.exports;
		this.#contextPtr = context.ptr;
		this.#list = context.ptr + context.listOffset;
		this.#defaults = defaults;
		this.maxSegments = context.listEntries;
		this.index = index;
		this.name = `device ${index}`;
		this.#pool = pool;
	}

	/** The pool that serves it. */
	get pool(): Pool | null {
		return this.#pool;
	}

	/**
	 * Gives the device all of its options anew: what it is trusted with, and which pool serves it, may change. What it has
	 * mapped stays mapped, under the old rules.
	 * @param options what is left out gets its default, as in addDevice; pool: none
	 * @throws RangeError that names the option; DmaError BAD_POOL
	 */
	configure(options: DeviceOptions): void {
		const pool = options.pool ?? null;
		setDevice(this.#instance, this.index, withDefaults(options, this.#defaults), pool);
		this.#pool = pool;
	}

	refusal(request: RefusedRequest, status: number): Refusal {
		const { index } = this;
		return refusalOf({ instance: this.#instance, contextPtr: this.#contextPtr, index }, request, status);
	}

	protected describePool(): string {
		return this.#pool?.describe() ?? "";
	}

	tryMap(gpa: Gpa, bytes: number, dir: Direction, cpu = 0, attrs = 0): DmaAddr {
		return this.#exports.mapSingle(this.index, gpa, whole(bytes), whole(dir), cpu, attrs);
	}

	tryUnmap(dma: DmaAddr, bytes: number, dir: Direction, attrs = 0): number {
		return this.#exports.unmapSingle(this.index, dma, whole(bytes), whole(dir), attrs);
	}

	trySyncForDevice(dma: DmaAddr, bytes: number, dir: Direction): number {
		return this.#exports.syncForDevice(this.index, dma, whole(bytes), whole(dir));
	}

	trySyncForCpu(dma: DmaAddr, bytes: number, dir: Direction): number {
		return this.#exports.syncForCpu(this.index, dma, whole(bytes), whole(dir));
	}

	tryMapSg(segments: readonly Segment[], addresses: DmaAddr[], dir: Direction, cpu = 0, attrs = 0): number {
		const { data } = this.#instance;
		const { length } = segments;
		if (length === 0 || length > this.maxSegments) return BAD_SIZE;
		for (let i = 0; i < length; i++) {
			const { gpa, bytes } = segments[i] as Segment;
			const entry = this.#list + i * layout.SG_BYTES;
			data.setFloat64(entry + layout.SG_GPA, gpa, true);
			data.setInt32(entry + layout.SG_LENGTH, whole(bytes), true);
		}
		const status = this.#exports.dmaMapSg(this.index, this.#list, length, whole(dir), cpu, attrs);
		if (status < 0) return status;
		for (let i = 0; i < length; i++)
			addresses[i] = data.getFloat64(this.#list + i * layout.SG_BYTES + layout.SG_DMA, true);
		return status;
	}

	tryUnmapSg(segments: readonly MappedSegment[], dir: Direction, attrs = 0): number {
		const { data } = this.#instance;
		const { length } = segments;
		if (length === 0 || length > this.maxSegments) return BAD_SIZE;
		for (let i = 0; i < length; i++) {
			const { dma, bytes } = segments[i] as MappedSegment;
			const entry = this.#list + i * layout.SG_BYTES;
			data.setFloat64(entry + layout.SG_DMA, dma, true);
			data.setInt32(entry + layout.SG_LENGTH, whole(bytes), true);
		}
		return this.#exports.dmaUnmapSg(this.index, this.#list, length, whole(dir), attrs);
	}

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
		orThrow(this.#exports.deviceResetCounters(this.index), () => `resetCounters() of device ${this.index}`);
	}
}
