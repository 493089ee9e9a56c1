import { auditBytes } from "../assembly/layout/audit.ts";
import * as layout from "../assembly/layout/context.ts";
import { DEVICE_POOL } from "../assembly/layout/device.ts";
import { IO_TLB_SIZE } from "../assembly/layout/pool.ts";
import { BAD_ARGUMENT } from "../assembly/layout/status.ts";
import { Audit } from "./audit/audit.ts";
import { Device } from "./dma/device.ts";
import { addDevice, type DeviceDefaults, type DeviceOptions, withDefaults } from "./dma/options.ts";
import { shown } from "./input-error.ts";
import { PageState, Ram, type Region } from "./memory/ram.ts";
import { placePool } from "./memory/stretches.ts";
import {
	AUDIT_EVENTS,
	behindContext,
	checkPlaces,
	type EngineOptions,
	LIST_BYTES,
	LIST_ENTRIES,
	OWNED_CONTEXT_PTR,
	place,
	planOf,
	spanOf,
} from "./setup.ts";
import { hex, orThrow } from "./status.ts";
import { Pool, type PoolOptions, poolFlags } from "./swiotlb/pool.ts";
import type { PoolSize } from "./swiotlb/sizing.ts";
import type { Gpa } from "./types.ts";
import { type Build, createMemory, type EngineModule, Instance, loadModule } from "./wasm.ts";

/** What another worker needs to attach to an engine on shared memory: may be posted to it. */
export interface EngineHandle {
	readonly engine: EngineModule;
	readonly memory: WebAssembly.Memory;
	readonly contextPtr: number;
	readonly listOffset: number;
	readonly regions: readonly Region[];
	readonly deviceDefaults: DeviceDefaults;
}

/** An engine at rest. Plain data, valid for the same engine hash only. */
export interface Snapshot {
	readonly format: "coco-dma snapshot 2";
	readonly build: string;
	readonly engineHash: string;
	readonly contextBytes: number;
	readonly context: Uint8Array;
	readonly listOffset: number;
	readonly regions: readonly Region[];
	readonly deviceDefaults: DeviceDefaults;
	/** The regions' bytes, or null when the snapshot was taken without RAM. */
	readonly ram: readonly Uint8Array[] | null;
}

/** A guest's RAM, its bounce pools and the devices that do DMA on it. */
export class Engine {
	readonly #instance: Instance;
	readonly #contextPtr: number;
	readonly #listOffset: number;
	readonly #deviceDefaults: DeviceDefaults;
	readonly ram: Ram;
	/** Where each byte of RAM came from: of the build "engine.audit" alone, else null. */
	readonly audit: Audit | null;
	readonly #pools: Pool[] = [];
	readonly #devices: Device[] = [];

	private constructor(
		instance: Instance,
		contextPtr: number,
		regions: readonly Region[],
		listOffset: number,
		deviceDefaults: DeviceDefaults,
		auditPtr: number | null = null,
	) {
		this.#instance = instance;
		this.#contextPtr = contextPtr;
		this.#listOffset = listOffset;
		this.#deviceDefaults = deviceDefaults;
		this.ram = new Ram(instance, regions, contextPtr + listOffset, LIST_BYTES);
		this.audit = auditPtr === null ? null : new Audit(instance, auditPtr, regions);
		for (let i = 0; i < this.#header(layout.CTX_NPOOLS); i++) this.#pools.push(new Pool(instance, i));
		for (let i = 0; i < this.#header(layout.CTX_NDEVICES); i++) this.#devices.push(this.#existingDevice(i));
	}

	#header(field: number): number {
		return this.#instance.u32(this.#contextPtr + field);
	}

	#existingDevice(index: number): Device {
		const pool = this.#instance.data.getInt32((this.#instance.exports.devicePtr(index) >>> 0) + DEVICE_POOL, true);
		return new Device(
			this.#instance,
			index,
			this.#pools[pool] ?? null,
			{ ptr: this.#contextPtr, listOffset: this.#listOffset, listEntries: LIST_ENTRIES },
			this.#deviceDefaults,
		);
	}

	/** Bytes of context that an engine with these options needs. @throws RangeError as create */
	static contextBytes(options: EngineOptions): number {
		return planOf(options).contextBytes;
	}

	/** Bytes that the audit of an engine over these stretches needs, for an embedder's `audit`. @throws RangeError as create */
	static auditBytes(options: EngineOptions): number {
		const regions = planOf(options).regions.map(({ ptr, ...region }) => {
			if (ptr === undefined) throw new RangeError(`ram: the stretch at gpa ${hex(region.gpa)} must have a ptr`);
			return { ...region, ptr };
		});
		return auditBytes(spanOf(regions).bytes, options.auditEvents ?? AUDIT_EVENTS);
	}

	/**
	 * Makes an engine: RAM, then Linux's default pool at the top of the memory below 4 GiB.
	 * @throws RangeError that names the option; DmaError for regions that overlap or lie outside the memory
	 */
	static async create(options: EngineOptions): Promise<Engine> {
		const plan = planOf(options);
		const { memory, context, regions, audit } = place(options, plan);
		const build = options.build ?? "engine";
		const instance = await Instance.create(await loadModule(build), memory);
		const { exports } = instance;
		const { maxPools = 16, maxDevices = 64 } = options;
		orThrow(
			exports.contextInit(context.ptr, context.bytes, regions.length, maxPools, maxDevices),
			() => "Engine.create()",
		);
		orThrow(exports.attach(context.ptr), () => "Engine.create()");
		if (audit !== null) {
			const span = spanOf(regions);
			const { auditEvents = AUDIT_EVENTS } = options;
			orThrow(
				exports.auditInit?.(audit.ptr, audit.bytes, span.ptr, span.bytes, auditEvents) ?? BAD_ARGUMENT,
				() => "Engine.create(audit)",
			);
		}
		for (const { gpa, bytes, ptr } of regions) {
			orThrow(exports.ramAddRegion(gpa, bytes, ptr), () => `ram: the stretch at gpa ${hex(gpa)} of ${bytes} bytes`);
		}
		const { confidential, forceBounce } = plan;
		orThrow(exports.ramSeal(confidential ? PageState.Private : PageState.Shared), () => "Engine.create()");
		const list = exports.scratchTake(LIST_BYTES);
		const defaults = { confidential, forceBounce };
		const engine = new Engine(instance, context.ptr, regions, list, defaults, audit?.ptr ?? null);
		if (plan.pool !== null) engine.addPool(plan.pool);
		return engine;
	}

	/**
	 * Attaches to an engine of another worker (build "engine.threads"). Set-up stays with the worker that made it.
	 * @param options mayBlock: whether this thread may sleep on a contended lock, as a browser's main thread may not. Default
	 *   true.
	 */
	static async attach(handle: EngineHandle, options: { readonly mayBlock?: boolean } = {}): Promise<Engine> {
		const { mayBlock = true } = options;
		const instance = await Instance.create(handle.engine, handle.memory);
		orThrow(instance.exports.attach(handle.contextPtr), () => `attach(context ${hex(handle.contextPtr)})`);
		instance.exports.allowBlocking(mayBlock ? 1 : 0);
		return new Engine(instance, handle.contextPtr, handle.regions, handle.listOffset, handle.deviceDefaults);
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
			deviceDefaults: this.#deviceDefaults,
		};
	}

	/**
	 * Makes a pool out of RAM: its pages take their state and become zero.
	 * @param size slots and areas, as poolSize computes them
	 * @throws DmaError BAD_ARGUMENT, OUTSIDE_RAM, OVERLAP, BLOCKED_PAGES, CONTEXT_FULL; RangeError when it fits nowhere
	 */
	addPool(size: PoolSize, options: PoolOptions = {}): Pool {
		const at = options.start ?? placePool(this.ram.regions, this.#pools, size.slabs * IO_TLB_SIZE);
		// the engine takes u32: what is none must not wrap to one
		const sane = size.slabs === size.slabs >>> 0 && size.areas === size.areas >>> 0;
		const index = orThrow(
			sane
				? this.#instance.exports.poolCreate(
						at,
						size.slabs,
						size.areas,
						options.state ?? PageState.Shared,
						poolFlags(options),
					)
				: BAD_ARGUMENT,
			() => `addPool(${size.slabs} slabs, ${size.areas} areas, gpa ${hex(at)})`,
		);
		return this.#adopt(index);
	}

	#adopt(index: number): Pool {
		const pool = new Pool(this.#instance, index);
		this.#pools.push(pool);
		return pool;
	}

	/**
	 * Adds a pool to the allocator of one that grows, like it in all but size: the next search looks there first.
	 * @param state of its pages. Default: that of the first pool's first page
	 * @throws DmaError as addPool, BAD_POOL when `first` does not grow
	 */
	growPool(first: Pool, size: PoolSize, start: Gpa, state: PageState = this.ram.pageState(first.start)): Pool {
		return this.#adopt(
			orThrow(
				this.#instance.exports.poolCreateNext(first.index, start, size.slabs, size.areas, state),
				() => `growPool(${size.slabs} slabs, ${size.areas} areas, gpa ${hex(start)})`,
			),
		);
	}

	/**
	 * Adds a device. On a confidential engine it bounces every mapping unless it is said to be trusted.
	 * @throws RangeError that names the option; DmaError CONTEXT_FULL
	 */
	addDevice(options: DeviceOptions = {}): Device {
		const pool = options.pool === undefined ? (this.#pools[0] ?? null) : options.pool;
		for (const each of [pool, options.privatePool ?? null]) {
			if (each !== null && !this.#pools.includes(each))
				throw new RangeError("device: pool is not one of this engine's");
		}
		const all = withDefaults(options, this.#deviceDefaults);
		const device = this.#existingDevice(addDevice(this.#instance, all, pool));
		this.#devices.push(device);
		return device;
	}

	/** Whether the guest is confidential: RAM started private, and devices are not trusted unless said to be. */
	get confidential(): boolean {
		return this.#deviceDefaults.confidential;
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

	/** Takes a zeroed block of the spare context, of a whole number of bytes above 0. @returns its ptr @throws RangeError for another number, or when no room is left */
	scratch(bytes: number): number {
		if (!(Number.isInteger(bytes) && bytes > 0 && bytes < 2 ** 32))
			throw new RangeError(`bytes: expected a whole number from 1 to 2^32 - 1, found ${shown(bytes)}`);
		const offset = this.#instance.exports.scratchTake(bytes);
		if (offset === 0) throw new RangeError(`the context has no ${bytes} bytes left: ask for more spareBytes`);
		return this.#contextPtr + offset;
	}

	/** The raw instance, for loops of your own over its exports (src/wasm.ts). */
	get instance(): Instance {
		return this.#instance;
	}

	/**
	 * Copies the engine's state, and RAM unless told otherwise. No call may be under way in another worker.
	 * @throws RangeError for an engine that audits: its labels and log are no part of a snapshot
	 */
	snapshot(options: { ram?: boolean } = {}): Snapshot {
		if (this.audit !== null) throw new RangeError('an engine of the build "engine.audit" has no snapshots');
		const { bytes, engine, exports } = this.#instance;
		const slice = (ptr: number, length: number) => new Uint8Array(bytes.subarray(ptr, ptr + length));
		return {
			format: "coco-dma snapshot 2",
			build: engine.build,
			engineHash: engine.hash,
			contextBytes: this.#header(layout.CTX_BYTES),
			context: slice(this.#contextPtr, exports.contextUsedBytes()),
			listOffset: this.#listOffset,
			regions: this.ram.regions,
			deviceDefaults: this.#deviceDefaults,
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
		if (snapshot.format !== "coco-dma snapshot 2")
			throw new RangeError(`expected a coco-dma snapshot 2, not ${snapshot.format}`);
		const engine = await loadModule(snapshot.build as Build);
		if (engine.hash !== snapshot.engineHash) {
			throw new RangeError(`the snapshot is of engine ${snapshot.engineHash}, this is engine ${engine.hash}`);
		}
		let end = behindContext(snapshot.contextBytes);
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
		const regions = snapshot.regions.map((region, i) => ({ ...region, ptr: ptrs[i] as number }));
		checkPlaces(memory.buffer.byteLength, { ptr: contextPtr, bytes: snapshot.contextBytes }, regions);
		const instance = await Instance.create(engine, memory);
		instance.bytes.set(snapshot.context, contextPtr);
		for (const [i, { ptr }] of regions.entries())
			if (snapshot.ram !== null) instance.bytes.set(snapshot.ram[i] as Uint8Array, ptr);
		orThrow(instance.exports.attach(contextPtr), () => `restore(context ${hex(contextPtr)})`);
		for (const [i, { ptr }] of regions.entries())
			orThrow(instance.exports.regionMove(i, ptr), () => `restore(region ${i} at ${ptr})`);
		orThrow(instance.exports.poolsMoved(), () => "restore(pools)");
		orThrow(instance.exports.ringsMoved(), () => "restore(rings)");
		return new Engine(instance, contextPtr, regions, snapshot.listOffset, snapshot.deviceDefaults);
	}
}
