import * as layout from "../assembly/layout/context.ts";
import { DEVICE_POOL, SG_BYTES } from "../assembly/layout/device.ts";
import { IO_TLB_SIZE, poolBytes } from "../assembly/layout/pool.ts";
import { addDevice, Device, type DeviceOptions } from "./dma/device.ts";
import { PageState, Ram, type Region } from "./memory/ram.ts";
import { placePool, ramStretches } from "./memory/stretches.ts";
import { hex, orThrow } from "./status.ts";
import { Pool } from "./swiotlb/pool.ts";
import { type PoolSize, parseSwiotlbOption, poolSize } from "./swiotlb/sizing.ts";
import { type Build, createMemory, type EngineModule, Instance, loadModule, MAX_MEMORY_BYTES } from "./wasm.ts";

/** Scatter-gather entries that one list may have. */
const LIST_ENTRIES = 1024;
const LIST_BYTES = LIST_ENTRIES * SG_BYTES;
/** Where an owned memory's context starts: ptr 0 stays unused. */
const OWNED_CONTEXT_PTR = 65536;

export interface EngineOptions {
	/**
	 * The guest's RAM: its size ("1G": low memory up to 3 GiB, the rest above 4 GiB), or its stretches. A stretch has a
	 * ptr when, and only when, the memory is someone else's.
	 */
	readonly ram: number | string | readonly { readonly gpa: number; readonly bytes: number; readonly ptr?: number }[];
	/** Linux's `swiotlb=` option, such as "32768,4" or "force"; null: no pool. Default: the pool that Linux makes. */
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

/** What another worker needs to attach to an engine on shared memory: may be posted to it. */
export interface EngineHandle {
	readonly engine: EngineModule;
	readonly memory: WebAssembly.Memory;
	readonly contextPtr: number;
	readonly listOffset: number;
	readonly regions: readonly Region[];
}

/** An engine at rest. Plain data, valid for the same engine hash only. */
export interface Snapshot {
	readonly format: "coco-dma snapshot 1";
	readonly build: string;
	readonly engineHash: string;
	readonly contextBytes: number;
	readonly context: Uint8Array;
	readonly listOffset: number;
	readonly regions: readonly Region[];
	/** The regions' bytes, or null when the snapshot was taken without RAM. */
	readonly ram: readonly Uint8Array[] | null;
}

interface Plan {
	readonly regions: readonly { gpa: number; bytes: number; ptr?: number }[];
	readonly pool: PoolSize | null;
	readonly pages: number;
	readonly contextBytes: number;
}

function planOf(options: EngineOptions): Plan {
	const coco = options.coco ?? true;
	const regions = ramStretches(options.ram);
	const ramBytes = regions.reduce((sum, region) => sum + region.bytes, 0);
	let pool: PoolSize | null = null;
	if (options.swiotlb !== null) {
		const option = parseSwiotlbOption(options.swiotlb ?? "");
		if (option.force !== false) pool = poolSize({ cpus: options.cpus ?? 1, coco, ramBytes, ...option });
	}
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
	return { regions, pool, pages, contextBytes };
}

/** A guest's RAM, its bounce pools and the devices that do DMA on it. */
export class Engine {
	readonly #instance: Instance;
	readonly #contextPtr: number;
	readonly #listOffset: number;
	readonly ram: Ram;
	readonly #pools: Pool[] = [];
	readonly #devices: Device[] = [];

	private constructor(instance: Instance, contextPtr: number, regions: readonly Region[], listOffset: number) {
		this.#instance = instance;
		this.#contextPtr = contextPtr;
		this.#listOffset = listOffset;
		this.ram = new Ram(instance, regions, contextPtr + listOffset, LIST_BYTES);
		for (let i = 0; i < this.#header(layout.CTX_NPOOLS); i++) this.#pools.push(new Pool(instance, i));
		for (let i = 0; i < this.#header(layout.CTX_NDEVICES); i++) this.#devices.push(this.#existingDevice(i));
	}

	#header(field: number): number {
		return this.#instance.u32(this.#contextPtr + field);
	}

	#existingDevice(index: number): Device {
		const pool = this.#instance.data.getInt32(this.#instance.exports.devicePtr(index) + DEVICE_POOL, true);
		return new Device(
			this.#instance,
			index,
			this.#pools[pool] ?? null,
			this.#contextPtr + this.#listOffset,
			LIST_ENTRIES,
		);
	}

	/** Bytes of context that an engine with these options needs. @throws RangeError as create */
	static contextBytes(options: EngineOptions): number {
		return planOf(options).contextBytes;
	}

	/**
	 * Makes an engine: RAM, then Linux's default pool at the top of the memory below 4 GiB.
	 * @throws RangeError that names the option; DmaError for regions that overlap or lie outside the memory
	 */
	static async create(options: EngineOptions): Promise<Engine> {
		const plan = planOf(options);
		const build = options.build ?? "engine";
		if ((options.memory === undefined) !== (options.context === undefined)) {
			throw new RangeError("memory and context go together: the owner of the memory says which bytes are the engine's");
		}
		const external = options.memory !== undefined;
		for (const { gpa, ptr } of plan.regions) {
			if ((ptr === undefined) === external) {
				throw new RangeError(`the stretch at gpa ${hex(gpa)} must ${external ? "" : "not "}have a ptr`);
			}
		}
		if (options.context !== undefined && options.context.bytes < plan.contextBytes) {
			throw new RangeError(`the context has ${options.context.bytes} bytes and needs ${plan.contextBytes}`);
		}
		let ptr = OWNED_CONTEXT_PTR + Math.ceil(plan.contextBytes / 65536) * 65536;
		const regions = plan.regions.map((region) => {
			const placed = { gpa: region.gpa, bytes: region.bytes, ptr: region.ptr ?? ptr };
			if (!external) ptr += region.bytes;
			return placed;
		});
		if (!external && ptr > MAX_MEMORY_BYTES) {
			throw new RangeError(
				`RAM and context need ${ptr} bytes, and a WebAssembly memory has at most ${MAX_MEMORY_BYTES}`,
			);
		}
		const memory = options.memory ?? createMemory(ptr, build.includes("threads"));
		const context = options.context ?? { ptr: OWNED_CONTEXT_PTR, bytes: plan.contextBytes };
		if (context.ptr + context.bytes > memory.buffer.byteLength) {
			throw new RangeError(`the context [${context.ptr}, ${context.ptr + context.bytes}) is not inside the memory`);
		}
		for (const region of regions) {
			if (region.ptr < context.ptr + context.bytes && context.ptr < region.ptr + region.bytes) {
				throw new RangeError(`the context overlaps the stretch at gpa ${hex(region.gpa)}`);
			}
		}
		const instance = await Instance.create(await loadModule(build), memory);
		const { exports } = instance;
		const { maxPools = 16, maxDevices = 64 } = options;
		orThrow(
			exports.contextInit(context.ptr, context.bytes, regions.length, maxPools, maxDevices),
			() => "Engine.create()",
		);
		exports.attach(context.ptr);
		for (const { gpa, bytes, ptr } of regions) {
			orThrow(exports.ramAddRegion(gpa, bytes, ptr), () => `ram: the stretch at gpa ${hex(gpa)} of ${bytes} bytes`);
		}
		orThrow(exports.ramSeal((options.coco ?? true) ? PageState.Private : PageState.Shared), () => "Engine.create()");
		const engine = new Engine(instance, context.ptr, regions, exports.scratchTake(LIST_BYTES));
		if (plan.pool !== null) engine.addPool(plan.pool);
		return engine;
	}

	/**
	 * Attaches to an engine of another worker (build "engine.threads"). Set-up stays with the worker that made it.
	 * @param mayBlock whether this thread may sleep on a contended lock: not on a browser's main thread
	 */
	static async attach(handle: EngineHandle, mayBlock = true): Promise<Engine> {
		const instance = await Instance.create(handle.engine, handle.memory);
		orThrow(instance.exports.attach(handle.contextPtr), () => `attach(context ${hex(handle.contextPtr)})`);
		instance.exports.allowBlocking(mayBlock ? 1 : 0);
		return new Engine(instance, handle.contextPtr, handle.regions, handle.listOffset);
	}

	/** What one more worker needs to attach; each takes 32 KiB of the spare context. @throws RangeError without spare room or shared memory */
	handle(): EngineHandle {
		if (!(this.memory.buffer instanceof SharedArrayBuffer))
			throw new RangeError('only an "engine.threads" engine has handles');
		const listOffset = this.scratch(LIST_BYTES) - this.#contextPtr;
		return {
			engine: this.#instance.engine,
			memory: this.memory,
			contextPtr: this.#contextPtr,
			listOffset,
			regions: this.ram.regions,
		};
	}

	/**
	 * Makes a pool out of RAM: its pages become shared and zero.
	 * @param size slots and areas, as poolSize computes them
	 * @param start its gpa; default: the top of the memory below 4 GiB, or of all RAM if there is no room
	 * @throws DmaError BAD_ARGUMENT, OUTSIDE_RAM, OVERLAP, BLOCKED_PAGES, CONTEXT_FULL; RangeError when it fits nowhere
	 */
	addPool(size: PoolSize, start?: number): Pool {
		const bytes = size.slabs * IO_TLB_SIZE;
		const at = start ?? placePool(this.ram.regions, this.#pools, bytes);
		const index = orThrow(
			this.#instance.exports.poolCreate(at, size.slabs, size.areas),
			() => `addPool(${size.slabs} slabs, ${size.areas} areas, gpa ${hex(at)})`,
		);
		const pool = new Pool(this.#instance, index);
		this.#pools.push(pool);
		return pool;
	}

	/** Adds a device. @throws RangeError that names the option; DmaError CONTEXT_FULL */
	addDevice(options: DeviceOptions = {}): Device {
		const pool = options.pool === undefined ? (this.#pools[0] ?? null) : options.pool;
		const device = this.#existingDevice(addDevice(this.#instance, options, pool));
		this.#devices.push(device);
		return device;
	}

	/** The pools, the default one first. */
	get pools(): readonly Pool[] {
		return this.#pools;
	}

	get devices(): readonly Device[] {
		return this.#devices;
	}

	get memory(): WebAssembly.Memory {
		return this.#instance.memory;
	}

	/** First 16 hex digits of the SHA-256 of the WebAssembly binary. */
	get hash(): string {
		return this.#instance.engine.hash;
	}

	/** Takes a zeroed block of the spare context. @returns its ptr @throws RangeError when no room is left */
	scratch(bytes: number): number {
		const offset = this.#instance.exports.scratchTake(bytes);
		if (offset === 0) throw new RangeError(`the context has no ${bytes} bytes left: ask for more spareBytes`);
		return this.#contextPtr + offset;
	}

	/** The raw instance, for loops of your own over its exports (src/wasm.ts). */
	get instance(): Instance {
		return this.#instance;
	}

	/** Copies the engine's state, and RAM unless told otherwise. No call may be under way in another worker. */
	snapshot(options: { ram?: boolean } = {}): Snapshot {
		const { bytes, engine, exports } = this.#instance;
		const slice = (ptr: number, length: number) => new Uint8Array(bytes.subarray(ptr, ptr + length));
		return {
			format: "coco-dma snapshot 1",
			build: engine.build,
			engineHash: engine.hash,
			contextBytes: this.#header(layout.CTX_BYTES),
			context: slice(this.#contextPtr, exports.contextUsedBytes()),
			listOffset: this.#listOffset,
			regions: this.ram.regions,
			ram: (options.ram ?? true) ? this.ram.regions.map((region) => slice(region.ptr, region.bytes)) : null,
		};
	}

	/**
	 * Makes an engine that goes on where the snapshot was taken, at any base.
	 * @param place a memory of someone else, with the context's new ptr and each region's; default: a new memory
	 * @throws RangeError for another format or engine (both are named), or a place that does not fit
	 */
	static async restore(
		snapshot: Snapshot,
		place?: { memory: WebAssembly.Memory; contextPtr: number; regionPtrs: readonly number[] },
	): Promise<Engine> {
		if (snapshot.format !== "coco-dma snapshot 1")
			throw new RangeError(`expected a coco-dma snapshot 1, not ${snapshot.format}`);
		const engine = await loadModule(snapshot.build as Build);
		if (engine.hash !== snapshot.engineHash) {
			throw new RangeError(`the snapshot is of engine ${snapshot.engineHash}, this is engine ${engine.hash}`);
		}
		let end = OWNED_CONTEXT_PTR + Math.ceil(snapshot.contextBytes / 65536) * 65536;
		const owned = snapshot.regions.map((region) => {
			const ptr = end;
			end += region.bytes;
			return ptr;
		});
		const ptrs = place?.regionPtrs ?? owned;
		const memory = place?.memory ?? createMemory(end, snapshot.build.includes("threads"));
		const contextPtr = place?.contextPtr ?? OWNED_CONTEXT_PTR;
		if (ptrs.length !== snapshot.regions.length) {
			throw new RangeError(
				`the snapshot has ${snapshot.regions.length} regions, and ${ptrs.length} regionPtrs are given`,
			);
		}
		if (contextPtr + snapshot.contextBytes > memory.buffer.byteLength) {
			throw new RangeError(`a context of ${snapshot.contextBytes} bytes at ${contextPtr} is not inside the memory`);
		}
		const regions = snapshot.regions.map((region, i) => ({ ...region, ptr: ptrs[i] as number }));
		for (const { gpa, ptr, bytes } of regions) {
			if (ptr + bytes > memory.buffer.byteLength)
				throw new RangeError(`the region at gpa ${hex(gpa)} is not inside the memory`);
		}
		const instance = await Instance.create(engine, memory);
		instance.bytes.set(snapshot.context, contextPtr);
		for (const [i, { ptr }] of regions.entries())
			if (snapshot.ram !== null) instance.bytes.set(snapshot.ram[i] as Uint8Array, ptr);
		orThrow(instance.exports.attach(contextPtr), () => `restore(context ${hex(contextPtr)})`);
		for (const [i, { ptr }] of regions.entries())
			orThrow(instance.exports.regionMove(i, ptr), () => `restore(region ${i} at ${ptr})`);
		orThrow(instance.exports.poolsMoved(), () => "restore(pools)");
		orThrow(instance.exports.ringsMoved(), () => "restore(rings)");
		return new Engine(instance, contextPtr, regions, snapshot.listOffset);
	}
}
