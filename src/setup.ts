/** What an engine is made from: its options, checked, and where everything lies in the linear memory. */
import { auditBytes } from "../assembly/layout/audit.ts";
import * as layout from "../assembly/layout/context.ts";
import { SG_BYTES } from "../assembly/layout/device.ts";
import { IO_TLB_SIZE, poolBytes } from "../assembly/layout/pool.ts";
import type { Region } from "./memory/ram.ts";
import { type RamStretch, ramStretches } from "./memory/stretches.ts";
import { hex } from "./status.ts";
import { bootSizes, type PoolSize, parseSwiotlbOption, poolSize } from "./swiotlb/sizing.ts";
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
	readonly ram: number | string | readonly RamStretch[];
	/**
	 * Linux's `swiotlb=` option, such as "32768,4": slots and areas of the pool. "force": devices bounce, trusted or not,
	 * unless they say otherwise; "noforce" or null: no pool. Default: the pool that Linux makes.
	 */
	readonly swiotlb?: string | null;
	/**
	 * Whether the guest is confidential: RAM starts private, the default pool is 6 % of RAM, and a device bounces unless it is
	 * said to be trusted. Default true.
	 */
	readonly coco?: boolean;
	/** CPUs of the guest: the pool's areas unless the swiotlb option gives them. Default 1. */
	readonly cpus?: number;
	/** A memory that someone else owns and may grow. Then `context` says which bytes of it are the engine's. */
	readonly memory?: WebAssembly.Memory;
	/** ptr (multiple of 64) and bytes of the engine's own state; Engine.contextBytes tells how many it needs. */
	readonly context?: { readonly ptr: number; readonly bytes: number };
	/**
	 * Which build. Default "engine"; "engine.threads" needs a shared memory and serves several workers; "engine.audit" keeps
	 * a label for each byte of RAM and a log, and needs as much memory again.
	 */
	readonly build?: Build;
	/** In a memory of someone else, the audit's part of it: ptr (multiple of 64) and bytes, as Engine.auditBytes tells. */
	readonly audit?: { readonly ptr: number; readonly bytes: number };
	/** Events that the audit's log holds, a power of two from 16 to 2^24. Default 65536. */
	readonly auditEvents?: number;
	/** Room in the context for more pools, workers' lists and scratch (bytes). Default 64 KiB. */
	readonly spareBytes?: number;
	/** Most devices. Default 64. */
	readonly maxDevices?: number;
	/** Most pools. Default 16. */
	readonly maxPools?: number;
}

/** What follows from the options alone. */
interface SetupPlan {
	readonly regions: readonly RamStretch[];
	readonly pool: PoolSize | null;
	readonly confidential: boolean;
	readonly forceBounce: boolean;
	readonly contextBytes: number;
}

function wholeNumber(name: string, value: number | undefined, min: number, max: number): void {
	if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return;
	throw new RangeError(`${name} must be a whole number from ${min} to ${max}, not ${value}`);
}

/** @throws RangeError that names the option */
export function planOf(options: EngineOptions): SetupPlan {
	const coco = options.coco ?? true;
	wholeNumber("cpus", options.cpus, 1, 8192);
	wholeNumber("maxPools", options.maxPools, 0, 4096);
	wholeNumber("maxDevices", options.maxDevices, 0, 4096);
	wholeNumber("spareBytes", options.spareBytes, 0, MAX_MEMORY_BYTES);
	wholeNumber("auditEvents", options.auditEvents, 16, 2 ** 24);
	if (!Number.isInteger(Math.log2(options.auditEvents ?? AUDIT_EVENTS)))
		throw new RangeError(`auditEvents must be a power of two, not ${options.auditEvents}`);
	const regions = ramStretches(options.ram);
	const ramBytes = regions.reduce((sum, region) => sum + region.bytes, 0);
	const option = options.swiotlb === null ? { force: false } : parseSwiotlbOption(options.swiotlb ?? "");
	if (option.trackHiwater === true)
		throw new RangeError(`swiotlb=${options.swiotlb}: an engine counts every pool's use: track_hiwater is a guest's`);
	const asked = option.force === false ? null : poolSize({ cpus: options.cpus ?? 1, coco, ramBytes, ...option });
	// what is asked for by number is not made smaller
	const sizes = asked === null ? [] : option.slabs === undefined ? bootSizes(asked) : [asked];
	const pool = sizes.find(({ slabs }) => slabs * IO_TLB_SIZE < ramBytes) ?? null;
	if (asked !== null && pool === null) {
		const { slabs } = sizes.at(-1) as PoolSize;
		throw new RangeError(
			`swiotlb: a pool of ${slabs * IO_TLB_SIZE} bytes does not fit into RAM of ${ramBytes} bytes: null for no pool`,
		);
	}
	const pages = ramBytes / layout.PAGE_SIZE;
	const reference = options.build === "reference" || options.build === "bench.reference";
	const contextBytes =
		layout.tablesBytes(regions.length, options.maxPools ?? 16, options.maxDevices ?? 64) +
		layout.pagesBytes(pages) +
		(pool === null ? 0 : poolBytes(pool.slabs, pool.areas, reference)) +
		LIST_BYTES +
		layout.alignBlock(options.spareBytes ?? 65536);
	return { regions, pool, confidential: coco, forceBounce: option.force === true, contextBytes };
}

/** Where an engine lies. */
interface Placement {
	readonly memory: WebAssembly.Memory;
	readonly context: { readonly ptr: number; readonly bytes: number };
	readonly regions: readonly Region[];
	/** Null: a build that does not audit. */
	readonly audit: { readonly ptr: number; readonly bytes: number } | null;
}

/** Events that an audit's log holds unless options say otherwise. */
export const AUDIT_EVENTS = 65536;

/** From the first byte of RAM in linear memory to the last. */
export function spanOf(regions: readonly Region[]): { readonly ptr: number; readonly bytes: number } {
	const ptr = Math.min(...regions.map((region) => region.ptr));
	return { ptr, bytes: Math.max(...regions.map((region) => region.ptr + region.bytes)) - ptr };
}

/** The audit's part of a memory. @throws RangeError for regions that do not lie at whole pages from each other, or too little room */
function placeAudit(options: EngineOptions, regions: readonly Region[], end: number): Placement["audit"] {
	const { build = "engine", audit, auditEvents = AUDIT_EVENTS } = options;
	if (build !== "engine.audit") {
		if (audit !== undefined) throw new RangeError(`audit: the build ${build} has none`);
		return null;
	}
	const span = spanOf(regions);
	const odd = regions.find(({ ptr }) => (ptr - span.ptr) % layout.PAGE_SIZE !== 0);
	if (odd !== undefined)
		throw new RangeError(
			`audit: the stretch at gpa ${hex(odd.gpa)} must lie a multiple of 4096 bytes from the first in memory`,
		);
	const bytes = auditBytes(span.bytes, auditEvents);
	if (audit === undefined) return { ptr: Math.ceil(end / layout.CONTEXT_ALIGN) * layout.CONTEXT_ALIGN, bytes };
	if (!(audit.bytes >= bytes)) throw new RangeError(`the audit has ${audit.bytes} bytes and needs ${bytes}`);
	return audit;
}

/** First free ptr behind a context at OWNED_CONTEXT_PTR. */
export function behindContext(contextBytes: number): number {
	return OWNED_CONTEXT_PTR + Math.ceil(contextBytes / 65536) * 65536;
}

/**
 * Takes the memory that the options bring along, or makes one with the context first and RAM behind it.
 * @throws RangeError that names what does not fit
 */
export function place(options: EngineOptions, plan: SetupPlan): Placement {
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
		const regions = joined(plan.regions as readonly Region[]);
		if (!(options.context.bytes >= plan.contextBytes)) {
			throw new RangeError(`the context has ${options.context.bytes} bytes and needs ${plan.contextBytes}`);
		}
		if (options.build === "engine.audit" && options.audit === undefined)
			throw new RangeError("audit: the owner of the memory says which bytes of it are the audit's");
		const audit = placeAudit(options, regions, 0);
		checkPlaces(options.memory.buffer.byteLength, options.context, regions, audit);
		return { memory: options.memory, context: options.context, regions, audit };
	}
	let ptr = behindContext(plan.contextBytes);
	const regions = joined(
		plan.regions.map(({ gpa, bytes }) => {
			const region = { gpa, bytes, ptr };
			ptr += bytes;
			return region;
		}),
	);
	const audit = placeAudit(options, regions, ptr);
	if (audit !== null) ptr = audit.ptr + audit.bytes;
	if (ptr > MAX_MEMORY_BYTES) {
		throw new RangeError(`RAM and context need ${ptr} bytes, and a WebAssembly memory has at most ${MAX_MEMORY_BYTES}`);
	}
	const memory = createMemory(ptr, (options.build ?? "engine").includes("threads"));
	return { memory, context: { ptr: OWNED_CONTEXT_PTR, bytes: plan.contextBytes }, regions, audit };
}

/** Stretches that follow each other in the guest and in the memory as one: the fewer regions, the fewer look-ups. */
function joined(regions: readonly Region[]): Region[] {
	const result: Region[] = [];
	for (const region of regions) {
		const last = result.at(-1);
		if (last !== undefined && last.gpa + last.bytes === region.gpa && last.ptr + last.bytes === region.ptr) {
			result[result.length - 1] = { ...last, bytes: last.bytes + region.bytes };
		} else result.push(region);
	}
	return result;
}

/** @throws RangeError unless context, regions and audit lie in the memory, aligned and apart */
export function checkPlaces(
	memoryBytes: number,
	context: { readonly ptr: number; readonly bytes: number },
	regions: readonly Region[],
	audit: Placement["audit"] = null,
): void {
	const inside = (ptr: number, bytes: number, align: number) =>
		ptr >= 0 && ptr % align === 0 && ptr + bytes <= memoryBytes;
	if (!inside(context.ptr, context.bytes, layout.CONTEXT_ALIGN)) {
		throw new RangeError(
			`the context of ${context.bytes} bytes at ptr ${context.ptr} must lie inside the memory of ${memoryBytes} bytes, at a multiple of ${layout.CONTEXT_ALIGN}`,
		);
	}
	if (audit !== null) {
		if (!inside(audit.ptr, audit.bytes, layout.CONTEXT_ALIGN))
			throw new RangeError(
				`the audit of ${audit.bytes} bytes at ptr ${audit.ptr} must lie inside the memory of ${memoryBytes} bytes, at a multiple of ${layout.CONTEXT_ALIGN}`,
			);
		const end = audit.ptr + audit.bytes;
		const under = [context, ...regions].find(({ ptr, bytes }) => ptr < end && audit.ptr < ptr + bytes);
		if (under !== undefined) throw new RangeError(`the audit overlaps what lies at ptr ${under.ptr}`);
	}
	for (const { gpa, bytes, ptr } of regions) {
		if (!inside(ptr, bytes, 8)) {
			throw new RangeError(
				`ram: the stretch at gpa ${hex(gpa)} of ${bytes} bytes at ptr ${ptr} must lie inside the memory of ${memoryBytes} bytes, at a multiple of 8`,
			);
		}
		if (ptr < context.ptr + context.bytes && context.ptr < ptr + bytes) {
			throw new RangeError(`the context overlaps the stretch at gpa ${hex(gpa)}`);
		}
	}
	const sorted = [...regions].sort((a, b) => a.ptr - b.ptr);
	for (const [i, { gpa, ptr }] of sorted.entries()) {
		const before = sorted[i - 1];
		if (before !== undefined && before.ptr + before.bytes > ptr) {
			throw new RangeError(
				`ram: the stretch at gpa ${hex(gpa)} overlaps the one at gpa ${hex(before.gpa)} in the memory`,
			);
		}
	}
}
