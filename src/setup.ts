/** What an engine is made from: its options, checked, and where everything lies in the linear memory. */
import * as layout from "../assembly/layout/context.ts";
import { SG_BYTES } from "../assembly/layout/device.ts";
import { IO_TLB_SIZE, poolBytes } from "../assembly/layout/pool.ts";
import type { Region } from "./memory/ram.ts";
import { ramStretches } from "./memory/stretches.ts";
import { hex } from "./status.ts";
import { type PoolSize, parseSwiotlbOption, poolSize } from "./swiotlb/sizing.ts";
import { type Build, createMemory, MAX_MEMORY_BYTES } from "./wasm.ts";

/** Scatter-gather entries that one list may have. */
export const LIST_ENTRIES = 1024;
export const LIST_BYTES = LIST_ENTRIES * SG_BYTES;
/** Where an owned memory's context starts: ptr 0 stays unused. */
export const OWNED_CONTEXT_PTR = 65536;

export interface EngineOptions {
	/**
	 * The guest's RAM: its size ("1G": low memory up to 3 GiB, the rest above 4 GiB), or its stretches. A stretch has a
	 * ptr when, and only when, the memory is someone else's.
	 */
	readonly ram: number | string | readonly { readonly gpa: number; readonly bytes: number; readonly ptr?: number }[];
	/**
	 * Linux's `swiotlb=` option, such as "32768,4": slots and areas of the pool. "force": devices bounce unless they say
	 * otherwise; "noforce" or null: no pool. Default: the pool that Linux makes.
	 */
	readonly swiotlb?: string | null;
	/** Whether the guest is confidential: RAM starts private, and the default pool is 6 % of RAM. Default true. */
	readonly coco?: boolean;
	/** CPUs of the guest: the pool's areas unless the swiotlb option gives them. Default 1. */
	readonly cpus?: number;
	/** A memory that someone else owns and may grow. Then `context` says which bytes of it are the engine's. */
	readonly memory?: WebAssembly.Memory;
	/** ptr (multiple of 64) and bytes of the engine's own state; Engine.contextBytes tells how many it needs. */
	readonly context?: { readonly ptr: number; readonly bytes: number };
	/** Which build. Default "engine"; "engine.threads" needs a shared memory and serves several workers. */
	readonly build?: Build;
	/** Room in the context for more pools, workers' lists and scratch (bytes). Default 64 KiB. */
	readonly spareBytes?: number;
	/** Most devices. Default 64. */
	readonly maxDevices?: number;
	/** Most pools. Default 16. */
	readonly maxPools?: number;
}

/** What follows from the options alone. */
export interface SetupPlan {
	readonly regions: readonly { gpa: number; bytes: number; ptr?: number }[];
	readonly pool: PoolSize | null;
	readonly forceBounce: boolean;
	readonly contextBytes: number;
}

/** @throws RangeError that names the option */
export function planOf(options: EngineOptions): SetupPlan {
	const coco = options.coco ?? true;
	const regions = ramStretches(options.ram);
	const ramBytes = regions.reduce((sum, region) => sum + region.bytes, 0);
	const option = options.swiotlb === null ? { force: false } : parseSwiotlbOption(options.swiotlb ?? "");
	const pool = option.force === false ? null : poolSize({ cpus: options.cpus ?? 1, coco, ramBytes, ...option });
	if (pool !== null && pool.slabs * IO_TLB_SIZE > ramBytes) {
		throw new RangeError(`a pool of ${pool.slabs * IO_TLB_SIZE} bytes does not fit into RAM of ${ramBytes} bytes`);
	}
	const pages = ramBytes / layout.PAGE_SIZE;
	const reference = options.build === "reference" || options.build === "bench.reference";
	const contextBytes =
		layout.tablesBytes(regions.length, options.maxPools ?? 16, options.maxDevices ?? 64) +
		layout.pagesBytes(pages) +
		(pool === null ? 0 : poolBytes(pool.slabs, pool.areas, reference)) +
		LIST_BYTES +
		layout.alignBlock(options.spareBytes ?? 65536);
	return { regions, pool, forceBounce: option.force === true, contextBytes };
}

/** Where an engine lies. */
export interface Place {
	readonly memory: WebAssembly.Memory;
	readonly context: { readonly ptr: number; readonly bytes: number };
	readonly regions: readonly Region[];
}

/** First free ptr behind a context at OWNED_CONTEXT_PTR. */
export function behindContext(contextBytes: number): number {
	return OWNED_CONTEXT_PTR + Math.ceil(contextBytes / 65536) * 65536;
}

/**
 * Takes the memory that the options bring along, or makes one with the context first and RAM behind it.
 * @throws RangeError that names what does not fit
 */
export function place(options: EngineOptions, plan: SetupPlan): Place {
	if ((options.memory === undefined) !== (options.context === undefined)) {
		throw new RangeError("memory and context go together: the owner of the memory says which bytes are the engine's");
	}
	const external = options.memory !== undefined;
	for (const { gpa, ptr } of plan.regions) {
		if ((ptr === undefined) === external) {
			throw new RangeError(`ram: the stretch at gpa ${hex(gpa)} must ${external ? "" : "not "}have a ptr`);
		}
	}
	if (options.memory !== undefined && options.context !== undefined) {
		const regions = plan.regions as readonly Region[];
		checkPlace(regions, options.context, plan.contextBytes, options.memory.buffer.byteLength);
		return { memory: options.memory, context: options.context, regions };
	}
	let ptr = behindContext(plan.contextBytes);
	const regions = plan.regions.map(({ gpa, bytes }) => {
		const region = { gpa, bytes, ptr };
		ptr += bytes;
		return region;
	});
	if (ptr > MAX_MEMORY_BYTES) {
		throw new RangeError(`RAM and context need ${ptr} bytes, and a WebAssembly memory has at most ${MAX_MEMORY_BYTES}`);
	}
	const memory = createMemory(ptr, (options.build ?? "engine").includes("threads"));
	return { memory, context: { ptr: OWNED_CONTEXT_PTR, bytes: plan.contextBytes }, regions };
}

/** @throws RangeError unless context and regions lie inside the memory and share no byte */
function checkPlace(
	regions: readonly Region[],
	context: { readonly ptr: number; readonly bytes: number },
	neededBytes: number,
	memoryBytes: number,
): void {
	if (context.bytes < neededBytes)
		throw new RangeError(`the context has ${context.bytes} bytes and needs ${neededBytes}`);
	const pieces = [
		{ name: "the context", ...context },
		...regions.map(({ gpa, bytes, ptr }) => ({ name: `the stretch at gpa ${hex(gpa)}`, bytes, ptr })),
	].sort((a, b) => a.ptr - b.ptr);
	for (const [i, piece] of pieces.entries()) {
		if (!Number.isInteger(piece.ptr) || piece.ptr < 0 || piece.ptr + piece.bytes > memoryBytes) {
			throw new RangeError(`${piece.name} at ptr ${piece.ptr} is not inside the memory of ${memoryBytes} bytes`);
		}
		const before = pieces[i - 1];
		if (before !== undefined && before.ptr + before.bytes > piece.ptr) {
			throw new RangeError(`${before.name} and ${piece.name} share bytes of the memory`);
		}
	}
}
