/** The DMA API that a driver calls (Linux Documentation/core-api/dma-api.rst). */
import { NEEDS_TRANSIENT, OVER_MAX_MAPPING, POOL_FULL, UNUSABLE_POOL } from "../../assembly/layout/status.ts";
import { DmaError, hex } from "../status.ts";
import { type Direction, type DmaAddr, directionName, type Gpa } from "../types.ts";
import { MapRefused, type Refusal, type RefusedRequest } from "./refusal.ts";

/** One segment of a scatter-gather list. */
export interface Segment {
	readonly gpa: Gpa;
	readonly bytes: number;
}

/** One segment of a list that is mapped. */
export interface MappedSegment {
	readonly dma: DmaAddr;
	readonly bytes: number;
}

/** Refusals that the pool's state explains. */
const OF_POOL: readonly number[] = [POOL_FULL, OVER_MAX_MAPPING, NEEDS_TRANSIENT, UNUSABLE_POOL];

/**
 * The API over its try forms. Those never throw: a result below 0 is a status (statusName tells which); the others throw a
 * DmaError with the same facts.
 */
export abstract class DmaApi {
	/** What errors call the device. */
	abstract readonly name: string;
	/** Most segments of a scatter-gather list. */
	abstract readonly maxSegments: number;

	/** Why a map was refused, in the kernel's terms. To be asked right after tryMap. @param status what that answered */
	abstract refusal(request: RefusedRequest, status: number): Refusal;

	/** What a refused map should tell of the device's pool. */
	protected abstract describePool(): string;

	/** The state of the pool, where it is what refused: of other refusals it says nothing. */
	#poolText(status: number): string {
		return OF_POOL.includes(status) ? this.describePool() : "";
	}

	/** As map. @returns an address, or a status */
	abstract tryMap(gpa: Gpa, bytes: number, dir: Direction, cpu?: number, attrs?: number): DmaAddr;
	/** As unmap. @returns bytes copied back, or a status */
	abstract tryUnmap(dma: DmaAddr, bytes: number, dir: Direction, attrs?: number): number;
	/** As syncForDevice. @returns bytes copied, or a status */
	abstract trySyncForDevice(dma: DmaAddr, bytes: number, dir: Direction): number;
	/** As syncForCpu. @returns bytes copied, or a status */
	abstract trySyncForCpu(dma: DmaAddr, bytes: number, dir: Direction): number;
	/**
	 * As mapSg.
	 * @param addresses gets one address a segment
	 * @returns 0, or the status of the segment that failed; BAD_SIZE for a list that is empty or too long
	 */
	abstract tryMapSg(
		segments: readonly Segment[],
		addresses: DmaAddr[],
		dir: Direction,
		cpu?: number,
		attrs?: number,
	): number;
	/** As unmapSg. @returns 0, or the first status that a segment answered; BAD_SIZE for a list that is empty or too long */
	abstract tryUnmapSg(segments: readonly MappedSegment[], dir: Direction, attrs?: number): number;
	/**
	 * Largest mapping that is sure to be possible (dma_max_mapping_size), in bytes; Infinity when the device never bounces.
	 * @param highestGpa last address of RAM that the device has to reach
	 */
	abstract maxMappingBytes(highestGpa: Gpa): number;

	#refused(call: string, address: number, bytes: number, dir: number, status: number): DmaError {
		return new DmaError(this.#callText(call, address, bytes, dir), status);
	}

	#callText(call: string, address: number, bytes: number, dir: number): string {
		return `${call}(${hex(address)}, ${bytes} bytes, ${directionName(dir)}) on ${this.name}`;
	}

	/** @throws RangeError for a list that is empty or too long */
	#checkList({ length }: readonly unknown[]): void {
		if (length === 0 || length > this.maxSegments)
			throw new RangeError(`a scatter-gather list has 1 to ${this.maxSegments} segments, not ${length}`);
	}

	/**
	 * Maps a buffer and answers the address for the device (dma_map_single).
	 * @param bytes 1 .. 2^31 - 1
	 * @param cpu chooses the pool's area
	 * @param attrs Attr.SkipCpuSync, Mmio, RequireCoherent, CcShared
	 * @throws MapRefused, a DmaError with the status that tryMap answers and its refusal in the kernel's terms
	 */
	map(gpa: Gpa, bytes: number, dir: Direction, cpu = 0, attrs = 0): DmaAddr {
		const dma = this.tryMap(gpa, bytes, dir, cpu, attrs);
		if (dma >= 0) return dma;
		const refusal = this.refusal({ gpa, bytes, dir, attrs }, dma);
		throw new MapRefused(this.#callText("map", gpa, bytes, dir), dma, this.#poolText(dma), refusal);
	}

	/**
	 * Ends a mapping; copies back for FROM_DEVICE and BIDIRECTIONAL unless Attr.SkipCpuSync.
	 * @throws DmaError with the status that tryUnmap answers
	 */
	unmap(dma: DmaAddr, bytes: number, dir: Direction, attrs = 0): void {
		const done = this.tryUnmap(dma, bytes, dir, attrs);
		if (done < 0) throw this.#refused("unmap", dma, bytes, dir, done);
	}

	/** Gives (part of) a mapping to the device: what the CPU wrote becomes visible to it. @returns bytes copied @throws DmaError */
	syncForDevice(dma: DmaAddr, bytes: number, dir: Direction): number {
		const done = this.trySyncForDevice(dma, bytes, dir);
		if (done < 0) throw this.#refused("syncForDevice", dma, bytes, dir, done);
		return done;
	}

	/** Gives (part of) a mapping to the CPU: what the device wrote becomes visible to it. @returns bytes copied @throws DmaError */
	syncForCpu(dma: DmaAddr, bytes: number, dir: Direction): number {
		const done = this.trySyncForCpu(dma, bytes, dir);
		if (done < 0) throw this.#refused("syncForCpu", dma, bytes, dir, done);
		return done;
	}

	/**
	 * Maps a scatter-gather list, all or nothing: when a segment fails, the earlier ones are unmapped without copying back.
	 * @returns one address a segment
	 * @throws DmaError with the status of the segment that failed; RangeError for a list that is empty or too long
	 */
	mapSg(segments: readonly Segment[], dir: Direction, cpu = 0, attrs = 0): DmaAddr[] {
		this.#checkList(segments);
		const addresses: DmaAddr[] = [];
		const status = this.tryMapSg(segments, addresses, dir, cpu, attrs);
		if (status >= 0) return addresses;
		const call = `mapSg(${segments.length} segments, ${directionName(dir)}) on ${this.name}`;
		throw new DmaError(call, status, this.#poolText(status));
	}

	/**
	 * Ends the mappings of a list, given with the addresses that mapSg answered.
	 * @throws DmaError with the first status that a segment answered, the others are unmapped all the same; RangeError as mapSg
	 */
	unmapSg(segments: readonly MappedSegment[], dir: Direction, attrs = 0): void {
		this.#checkList(segments);
		const status = this.tryUnmapSg(segments, dir, attrs);
		if (status >= 0) return;
		throw new DmaError(`unmapSg(${segments.length} segments, ${directionName(dir)}) on ${this.name}`, status);
	}
}
