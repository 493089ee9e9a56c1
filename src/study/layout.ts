/** What a study's guest is made from, and the memory that follows from it. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import { formatBytes } from "../bytes.ts";
import { FOUR_GIB, LOW_RAM_BYTES } from "../memory/stretches.ts";
import { type PoolSize, poolSize } from "../swiotlb/sizing.ts";
import type { Gpa } from "../types.ts";
import type { PageStretch } from "../workload/pages.ts";

/** Memory, pool and buffers of the guest that a workload is replayed in. */
export interface GuestSize {
	/** Nominal RAM (bytes): 1 MiB to 16 TiB. Default 1 GiB. */
	readonly ramBytes?: number;
	/** Bounce pool (bytes), rounded as Linux does. Default: Linux's for a confidential guest, 6 % of RAM, 64 MiB to 1 GiB. */
	readonly poolBytes?: number;
	/** Areas of the pool, 1 to 8192, rounded up to a power of two. Default: the workload's CPUs. */
	readonly areas?: number;
	/** Of the page allocator: 0 to 2^32 - 1. Default 1. */
	readonly seed?: number;
	/** Mean run of physically adjacent pages in a buffer: 1 to 65536. Default 4. */
	readonly contiguity?: number;
}

/** The same, defaults filled in. */
export type SizedGuest = GuestSize & Required<Pick<GuestSize, "ramBytes" | "seed" | "contiguity">>;

export const GUEST_DEFAULTS = { ramBytes: 2 ** 30, seed: 1, contiguity: 4 } as const;

/** Timed passes unless options say otherwise; medians are reported. */
export const DEFAULT_REPEAT = 15;

/** Memory that data buffers come from: a quarter of RAM, at most this (bytes). */
const MAX_BUFFER_BYTES = 256 * 2 ** 20;
const CONTROL_BYTES = 2 ** 20;
/** No option asks for a larger pool (bytes). */
export const MAX_POOL_BYTES = 2 ** 31;

/** A guest, or its linear memory, is too small for its pools. */
export class PoolTooLarge extends RangeError {}

/** Where things lie in the guest; only these stretches are held. */
interface Layout {
	readonly pool: PoolSize;
	readonly stretches: readonly PageStretch[];
	readonly buffers: readonly PageStretch[];
	readonly control: PageStretch;
	/** Last address of RAM. */
	readonly highestGpa: Gpa;
}

function whole(name: string, value: number, min: number, max: number): void {
	if (!Number.isInteger(value) || value < min || value > max)
		throw new RangeError(`${name}: expected a whole number from ${min} to ${max}, not ${value}`);
}

/** Checks a number of timed passes. @throws RangeError */
export function checkRepeat(repeat: number): void {
	whole("repeat", repeat, 1, 1000);
}

/** Fills in the defaults. @throws RangeError that names the option and what it may be */
export function sizedGuest(size: GuestSize): SizedGuest {
	const { ramBytes, seed, contiguity } = { ...GUEST_DEFAULTS, ...size };
	const { poolBytes, areas } = size;
	whole("seed", seed, 0, 2 ** 32 - 1);
	if (areas !== undefined) whole("areas", areas, 1, 8192);
	if (!(contiguity >= 1 && contiguity <= 65536))
		throw new RangeError(`contiguity: expected a number of pages from 1 to 65536, not ${contiguity}`);
	if (!(ramBytes >= 2 ** 20 && ramBytes <= 2 ** 44))
		throw new RangeError(`ram: expected 1M to 16T, not ${ramBytes} bytes`);
	if (poolBytes !== undefined && !(poolBytes > 0 && poolBytes <= MAX_POOL_BYTES))
		throw new RangeError(`pool: expected 1 byte to 2G, not ${poolBytes} bytes`);
	return {
		ramBytes,
		seed,
		contiguity,
		...(poolBytes === undefined ? {} : { poolBytes }),
		...(areas === undefined ? {} : { areas }),
	};
}

/**
 * The pool at the top of low memory, the buffers below it and, in a guest with more than 3 GiB, half of them above 4 GiB.
 * @param cpus CPUs of the workload
 * @param slackBytes memory between the buffers and the pool, for other pools and the guest's own pages
 * @throws PoolTooLarge
 */
export function layoutFor(size: SizedGuest, cpus: number, slackBytes = 0): Layout {
	const ramBytes = Math.floor(size.ramBytes / PAGE_SIZE) * PAGE_SIZE;
	const pool = poolSize({
		ramBytes,
		coco: true,
		cpus,
		...(size.poolBytes === undefined ? {} : { slabs: Math.ceil(size.poolBytes / IO_TLB_SIZE) }),
		...(size.areas === undefined ? {} : { areas: size.areas }),
	});
	const poolBytes = pool.slabs * IO_TLB_SIZE;
	const lowEnd = Math.min(ramBytes, LOW_RAM_BYTES);
	const highBytes = ramBytes - lowEnd;
	const bufferBytes = Math.min(MAX_BUFFER_BYTES, Math.floor(ramBytes / 4 / PAGE_SIZE) * PAGE_SIZE);
	const highBuffers = Math.min(highBytes, Math.floor(bufferBytes / 2 / PAGE_SIZE) * PAGE_SIZE);
	const lowBuffers = bufferBytes - highBuffers;
	const start = lowEnd - poolBytes - slackBytes - lowBuffers - CONTROL_BYTES;
	if (start < 0) {
		const others = slackBytes === 0 ? "" : ` with ${formatBytes(slackBytes)} of other pools and the kernel's own`;
		throw new PoolTooLarge(
			`pool: ${formatBytes(poolBytes)}${others} and ${formatBytes(bufferBytes)} of buffers do not fit into RAM of ${formatBytes(ramBytes)}`,
		);
	}
	const low = { gpa: start + CONTROL_BYTES, bytes: lowBuffers };
	const high = { gpa: FOUR_GIB, bytes: highBuffers };
	return {
		pool,
		control: { gpa: start, bytes: CONTROL_BYTES },
		buffers: highBuffers > 0 ? [low, high] : [low],
		stretches: [{ gpa: start, bytes: lowEnd - start }, ...(highBuffers > 0 ? [high] : [])],
		highestGpa: highBytes > 0 ? FOUR_GIB + highBytes - 1 : ramBytes - 1,
	};
}
