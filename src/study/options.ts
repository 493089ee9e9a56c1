/** What a comparison runs with, and the memory that follows from it. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import { formatBytes } from "../bytes.ts";
import { FOUR_GIB, LOW_RAM_BYTES } from "../memory/stretches.ts";
import { type PoolSize, poolSize } from "../swiotlb/sizing.ts";
import type { Run } from "../workload/pages.ts";
import { presetNamed } from "../workload/presets.ts";

/** `direct`: a trusted device over private pages. `bounce`: an untrusted one through the shared pool. */
export const MODES = ["direct", "bounce"] as const;
export type Mode = (typeof MODES)[number];

export interface CompareOptions {
	/** Name of a device preset. */
	readonly device: string;
	/** Nominal RAM of the guest (bytes). */
	readonly ramBytes: number;
	/** Pool size (bytes), or undefined for Linux's default for a confidential guest. */
	readonly poolBytes?: number;
	/** Areas of the pool, or undefined for the CPUs of the trace. */
	readonly areas?: number;
	readonly seed: number;
	/** Mean run of physically adjacent pages in a buffer. */
	readonly contiguity: number;
	/** Timed passes; medians are shown. */
	readonly repeat: number;
}

export const DEFAULTS: CompareOptions = { device: "nvme", ramBytes: 2 ** 30, seed: 1, contiguity: 4, repeat: 5 };

/** Memory that data buffers come from: a quarter of RAM, at most this (bytes). */
const MAX_BUFFER_BYTES = 256 * 2 ** 20;
const CONTROL_BYTES = 2 ** 20;
/** Where things lie in the guest; only these stretches are held. */
export interface Layout {
	readonly pool: PoolSize;
	readonly stretches: readonly Run[];
	readonly buffers: readonly Run[];
	readonly control: Run;
	/** Last address of RAM. */
	readonly highestGpa: number;
}

/** @throws RangeError that names the option */
export function checkOptions(options: CompareOptions): void {
	presetNamed(options.device);
	const whole = (name: string, value: number, min: number, max: number) => {
		if (!Number.isInteger(value) || value < min || value > max) {
			throw new RangeError(`${name}: expected a whole number from ${min} to ${max}, not ${value}`);
		}
	};
	whole("seed", options.seed, 0, 2 ** 32 - 1);
	whole("repeat", options.repeat, 1, 1000);
	if (options.areas !== undefined) whole("areas", options.areas, 1, 8192);
	if (!(options.contiguity >= 1 && options.contiguity <= 65536)) {
		throw new RangeError(`contiguity: expected a number of pages from 1 to 65536, not ${options.contiguity}`);
	}
	if (!(options.ramBytes >= 2 ** 20 && options.ramBytes <= 2 ** 44)) {
		throw new RangeError(`ram: expected 1M to 16T, not ${options.ramBytes} bytes`);
	}
	if (options.poolBytes !== undefined && !(options.poolBytes > 0 && options.poolBytes <= 2 ** 31)) {
		throw new RangeError(`pool: expected 1 byte to 2G, not ${options.poolBytes} bytes`);
	}
}

/**
 * The pool at the top of low memory, the buffers below it and, in a guest with more than 3 GiB, half of them above 4 GiB.
 * @param cpus CPUs of the trace
 * @param slackBytes memory between the buffers and the pool, for other pools and the guest's own pages
 * @throws RangeError when the pool does not fit
 */
export function layoutFor(options: CompareOptions, cpus: number, slackBytes = 0): Layout {
	const ramBytes = Math.floor(options.ramBytes / PAGE_SIZE) * PAGE_SIZE;
	const pool = poolSize({
		ramBytes,
		coco: true,
		cpus,
		...(options.poolBytes === undefined ? {} : { slabs: Math.ceil(options.poolBytes / IO_TLB_SIZE) }),
		...(options.areas === undefined ? {} : { areas: options.areas }),
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
		throw new RangeError(
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
