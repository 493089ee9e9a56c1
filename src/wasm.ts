/** The only file that touches WebAssembly: load, instantiate, attach, views. */
import { instantiate as instantiateWithLoader } from "@assemblyscript/loader";
import type { DmaAddr, Gpa } from "./types.ts";

const BUILDS = [
	"engine",
	"engine.threads",
	"engine.audit",
	"reference",
	"debug",
	"bench",
	"bench.bare",
	"bench.threads",
	"bench.reference",
] as const;

/**
 * `engine`: unshared memory. `engine.threads`: shared memory, several workers. `engine.audit`: knows where each byte came
 * from. The others serve tests and comparison.
 */
export type Build = (typeof BUILDS)[number];

/** The exports of assembly/index.ts and assembly/rings.ts, where they are documented. A number left out is 0. Every result below 0 is a status. */
export interface EngineExports {
	contextInit(ptr: number, bytes: number, maxRegions: number, maxPools: number, maxDevices: number): number;
	attach(ptr: number): number;
	contextUsedBytes(): number;
	allowBlocking(allowed: number): void;
	scratchTake(bytes: number): number;
	ramAddRegion(gpa: Gpa, bytes: number, ptr: number): number;
	ramSeal(state: number): number;
	ramPages(): number;
	regionMove(index: number, ptr: number): number;
	ramRangeState(gpa: Gpa, bytes: number): number;
	ramPageState(gpa: Gpa): number;
	ramConvert(gpa: Gpa, bytes: number, state: number): number;
	ramReadTo(gpa: Gpa, bytes: number, to: number): number;
	ramWriteFrom(gpa: Gpa, bytes: number, from: number): number;
	ramFillWith(gpa: Gpa, bytes: number, value: number): number;
	ramPtr(gpa: Gpa, bytes: number): number;
	pagesInState(state: number): number;
	poolCreate(start: Gpa, nslabs: number, nareas: number, state?: number, flags?: number): number;
	poolCreateNext(first: number, start: Gpa, nslabs: number, nareas: number, state: number): number;
	poolCreateTransient(first: number, start: Gpa, nslabs: number): number;
	retiredTake(): number;
	poolPtr(index: number): number;
	poolsMoved(): number;
	poolSlotList(index: number, slot: number): number;
	poolFreeRun(index: number): number;
	poolResetHiwater(index: number): number;
	deviceAdd(pool: number, flags: number, minAlignMask: number): number;
	deviceSet(device: number, pool: number, flags: number, minAlignMask: number): number;
	deviceSet64(device: number, field: number, low: number, high: number): number;
	devicePtr(index: number): number;
	deviceSetPrivatePool(device: number, pool: number): number;
	deviceBounced(device: number): number;
	deviceMaxMapping(device: number, highest: Gpa): number;
	deviceResetCounters(device: number): number;
	mapSingle(device: number, gpa: Gpa, bytes: number, dir: number, cpu: number, attrs?: number): DmaAddr;
	unmapSingle(device: number, dma: DmaAddr, bytes: number, dir: number, attrs: number): number;
	syncForDevice(device: number, dma: DmaAddr, bytes: number, dir: number): number;
	syncForCpu(device: number, dma: DmaAddr, bytes: number, dir: number): number;
	dmaMapSg(device: number, list: number, count: number, dir: number, cpu: number, attrs?: number): number;
	dmaUnmapSg(device: number, list: number, count: number, dir: number, attrs: number): number;
	swiotlbSlots(device: number, gpa: Gpa, bytes: number, allocAlignMask: number): number;
	swiotlbAlloc(device: number, bytes: number, allocAlignMask: number, cpu: number): Gpa;
	swiotlbTblMap(
		device: number,
		gpa: Gpa,
		bytes: number,
		allocAlignMask: number,
		dir: number,
		cpu: number,
		attrs?: number,
	): Gpa;
	swiotlbTblUnmap(device: number, tlb: Gpa, bytes: number, dir: number, attrs: number): number;
	/** Of the build engine.audit alone (assembly/audit/index.ts). */
	auditInit?(ptr: number, bytes: number, span: number, length: number, maxEvents: number): number;
	ringAttach(list: number, count: number, flags: number, maxPacketBytes: number, requests: number): number;
	ringDetach(ring: number): number;
	ringClose(ring: number, rescinded: number): number;
	ringsMoved(): number;
	ringPtr(ring: number): number;
	ringPacket(ring: number): number;
	ringPut(ring: number, kind: number, idLow: number, idHigh: number, ptr: number, bytes: number): number;
	ringPublish(ring: number): number;
	ringWrite(ring: number, kind: number, idLow: number, idHigh: number, ptr: number, bytes: number): number;
	ringWriteBurst(ring: number, list: number, count: number): number;
	ringPutGather(ring: number, kind: number, idLow: number, idHigh: number, list: number, count: number): number;
	ringPutRanges(
		ring: number,
		kind: number,
		idLow: number,
		idHigh: number,
		third: number,
		ranges: number,
		rangesBytes: number,
		count: number,
		ptr: number,
		bytes: number,
	): number;
	ringReserve(ring: number, bytes: number): number;
	ringCommit(ring: number, kind: number, idLow: number, idHigh: number, bytes: number): number;
	ringSetPending(ring: number, bytes: number): number;
	ringFree(ring: number): number;
	ringNext(ring: number, inPlace: number): number;
	ringAdvance(ring: number): number;
	ringResume(ring: number): number;
	ringRelease(ring: number): number;
	ringConsume(ring: number): number;
	ringRead(ring: number, raw: number, to: number, bufferBytes: number): number;
	ringReadBurst(ring: number, to: number, bufferBytes: number, max: number): number;
	ringMask(ring: number, mask: number): number;
	ringEndRead(ring: number): number;
	ringAvailable(ring: number): number;
	ringRanges(ring: number): number;
	ringNextRange(ring: number): number;
	ringComplete(ring: number, idLow: number, idHigh: number): number;
	requestorOf(ring: number): number;
	replayRun(
		device: number,
		events: number,
		count: number,
		requests: number,
		entries: number,
		store: number,
		work: number,
	): number;
}

/** What a rings module needs besides. */
interface RingsSetUp {
	ringsAttach(ptr: number): number;
	ringsAllowBlocking(allowed: number): void;
}

/** A compiled engine and the first 16 hex digits of its SHA-256. */
export interface EngineModule {
	readonly build: string;
	readonly hash: string;
	readonly module: WebAssembly.Module;
	/** The rings of a release build, a module over the same context; null where the build holds them itself. */
	readonly rings: WebAssembly.Module | null;
}

const WASM_PAGE_BYTES = 65536;
/** Linear memory is at most 4 GiB. */
export const MAX_MEMORY_BYTES = 65536 * WASM_PAGE_BYTES;

/**
 * The builds that the package ships, each by a URL that a bundler reads without running anything. build.ts puts the emitted
 * file's own way to them in place.
 */
const SHIPPED = {
	engine: () => new URL("../build/engine.wasm", import.meta.url),
	rings: () => new URL("../build/rings.wasm", import.meta.url),
	"engine.threads": () => new URL("../build/engine.threads.wasm", import.meta.url),
	"rings.threads": () => new URL("../build/rings.threads.wasm", import.meta.url),
	"engine.audit": () => new URL("../build/engine.audit.wasm", import.meta.url),
} as const;

function urlOf(name: string): URL {
	return Object.hasOwn(SHIPPED, name)
		? SHIPPED[name as keyof typeof SHIPPED]()
		: new URL(`${name}.wasm`, SHIPPED.engine());
}

const modules = new Map<Build, Promise<EngineModule>>();

async function readBytes(url: URL): Promise<Uint8Array> {
	if (url.protocol !== "file:") {
		const response = await fetch(url);
		if (!response.ok) throw new RangeError(`${url}: ${response.status} ${response.statusText}`);
		return new Uint8Array(await response.arrayBuffer());
	}
	try {
		// not an import: a browser, and a bundler for it, would have to find the module
		return process.getBuiltinModule("node:fs").readFileSync(url);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
		const name = url.pathname.replace(/^.*\/|\.wasm$/g, "");
		throw new RangeError(`the build "${name}" is not there: in a clone, "npm run build -- package ${name}" makes it`);
	}
}

async function compile(build: string, bytes: Uint8Array, ringBytes: Uint8Array | null): Promise<EngineModule> {
	const source = new Uint8Array(bytes);
	const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", source));
	const hash = Array.from(digest.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join("");
	const rings = ringBytes === null ? null : await WebAssembly.compile(new Uint8Array(ringBytes));
	return { build, hash, module: await WebAssembly.compile(source), rings };
}

/** Loads one of this package's builds, once. @throws RangeError for another name, or a build that is not there */
export async function loadModule(build: Build): Promise<EngineModule> {
	if (!BUILDS.includes(build))
		throw new RangeError(`build: expected ${BUILDS.join(", ")}, found ${JSON.stringify(build)}`);
	let loading = modules.get(build);
	if (loading === undefined) {
		const read = (name: string) => readBytes(urlOf(name));
		const rings = build === "engine" || build === "engine.threads" ? read(build.replace("engine", "rings")) : null;
		loading = Promise.all([read(build), rings]).then(([bytes, ringBytes]) => compile(build, bytes, ringBytes));
		modules.set(build, loading);
	}
	return loading;
}

/**
 * A memory of at least `bytes`; shared ones may grow to 4 GiB.
 * @throws RangeError where the host has none to give, or a page that is not isolated may share none: it says what is needed
 */
export function createMemory(bytes: number, shared: boolean): WebAssembly.Memory {
	if (shared && globalThis.crossOriginIsolated === false)
		throw new RangeError(
			"shared memory: this page is not isolated: serve it with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp",
		);
	const initial = Math.ceil(bytes / WASM_PAGE_BYTES);
	try {
		return new WebAssembly.Memory(shared ? { initial, maximum: 65536, shared } : { initial });
	} catch (error) {
		if (!(error instanceof RangeError)) throw error;
		throw new RangeError(
			`a memory of ${bytes} bytes is needed, and the host gives none of that size: less RAM would fit`,
		);
	}
}

/** One instance over one memory: raw exports, and views that survive a memory.grow. */
export class Instance {
	readonly engine: EngineModule;
	readonly memory: WebAssembly.Memory;
	readonly exports: EngineExports;
	#buffer: ArrayBufferLike;
	#u8: Uint8Array;
	#data: DataView;

	private constructor(engine: EngineModule, memory: WebAssembly.Memory, exports: EngineExports) {
		this.engine = engine;
		this.memory = memory;
		this.exports = exports;
		this.#buffer = memory.buffer;
		this.#u8 = new Uint8Array(this.#buffer);
		this.#data = new DataView(this.#buffer);
	}

	static async create(engine: EngineModule, memory: WebAssembly.Memory): Promise<Instance> {
		// the loader's own exports are wrappers that cost several times a call
		const raw = async (module: WebAssembly.Module) => {
			const { instance } = await instantiateWithLoader(module, { env: { memory } });
			return instance.exports as unknown as EngineExports & RingsSetUp;
		};
		const own = await raw(engine.module);
		if (engine.rings === null) return new Instance(engine, memory, own);
		const rings = await raw(engine.rings);
		const attach = (ptr: number) => Math.min(own.attach(ptr), rings.ringsAttach(ptr));
		const allowBlocking = (allowed: number) => {
			own.allowBlocking(allowed);
			rings.ringsAllowBlocking(allowed);
		};
		return new Instance(engine, memory, { ...own, ...rings, attach, allowBlocking });
	}

	#refresh(): void {
		if (this.#buffer === this.memory.buffer && this.#u8.length === this.#buffer.byteLength) return;
		this.#buffer = this.memory.buffer;
		this.#u8 = new Uint8Array(this.#buffer);
		this.#data = new DataView(this.#buffer);
	}

	/** All of linear memory as bytes. Valid until the memory grows: do not keep it. */
	get bytes(): Uint8Array {
		this.#refresh();
		return this.#u8;
	}

	/** All of linear memory, little-endian accessors. Valid until the memory grows: do not keep it. */
	get data(): DataView {
		this.#refresh();
		return this.#data;
	}

	u32(ptr: number): number {
		return this.data.getUint32(ptr, true);
	}

	/** A u64 below 2^53. */
	u64(ptr: number): number {
		return this.u32(ptr) + this.u32(ptr + 4) * 2 ** 32;
	}
}
