/** A guest over raw exports, laid out anew for each case in one memory: thousands of small cases a second. */
import { PAGE_PRIVATE } from "../../assembly/layout/context.ts";
import * as device from "../../assembly/layout/device.ts";
import * as layout from "../../assembly/layout/pool.ts";
import { type Build, createMemory, type EngineExports, Instance, loadModule } from "../../src/wasm.ts";

export interface DevicePlan {
	readonly minAlignMask?: number;
	/** 0: unset. */
	readonly boundary?: bigint;
	readonly dmaMask?: bigint;
	readonly flags?: number;
	/** Default 0, the pool; -1: none. */
	readonly pool?: number;
}

export interface GuestPlan {
	readonly slabs: number;
	readonly areas: number;
	readonly poolStart: number;
	/** Stretches for originals, ascending, apart from the pool's. */
	readonly ram: readonly { readonly gpa: number; readonly bytes: number }[];
	readonly devices: readonly DevicePlan[];
}

export interface PlacedRegion {
	readonly gpa: number;
	readonly bytes: number;
	readonly ptr: number;
}

const CONTEXT_PTR = 65536;
const CONTEXT_BYTES = 512 * 1024;
const FIELDS_64 = [
	["dmaMask", device.DEVICE_DMA_MASK],
	["boundary", device.DEVICE_SEG_BOUNDARY],
] as const;

export class RawGuest {
	readonly instance: Instance;
	readonly x: EngineExports;
	/** All of linear memory; it never grows here. */
	readonly bytes: Uint8Array;
	readonly words: Uint32Array;
	regions: PlacedRegion[] = [];
	/** The regions of originals, without the pool's. */
	ram: PlacedRegion[] = [];
	poolPtr = 0;
	poolBytesPtr = 0;
	slabs = 0;
	areas = 0;
	poolStart = 0;

	private constructor(instance: Instance) {
		this.instance = instance;
		this.x = instance.exports;
		this.bytes = instance.bytes;
		this.words = new Uint32Array(this.bytes.buffer);
	}

	static async create(build: Build, bytes: number): Promise<RawGuest> {
		const memory = createMemory(bytes, build.includes("threads"));
		return new RawGuest(await Instance.create(await loadModule(build), memory));
	}

	/** Makes a fresh guest; RAM holds `pattern`, repeated. Regions lie in descending order in memory, one page apart. */
	setUp(plan: GuestPlan, pattern: Uint8Array): this {
		const { x } = this;
		const poolBytes = plan.slabs * layout.IO_TLB_SIZE;
		const all = [...plan.ram, { gpa: plan.poolStart, bytes: poolBytes }].sort((a, b) => a.gpa - b.gpa);
		let ptr = CONTEXT_PTR + CONTEXT_BYTES;
		const placed: PlacedRegion[] = [];
		for (const region of [...all].reverse()) {
			placed.unshift({ ...region, ptr });
			ptr += region.bytes + 4096;
		}
		if (ptr > this.bytes.length) throw new RangeError(`the case needs ${ptr} bytes`);
		this.#ok(x.contextInit(CONTEXT_PTR, CONTEXT_BYTES, 64, 4, 256), "contextInit");
		this.#ok(x.attach(CONTEXT_PTR), "attach");
		for (const region of placed) this.#ok(x.ramAddRegion(region.gpa, region.bytes, region.ptr), "ramAddRegion");
		this.#ok(x.ramSeal(PAGE_PRIVATE), "ramSeal");
		this.regions = placed;
		this.ram = placed.filter((region) => region.gpa !== plan.poolStart);
		for (const region of this.ram) {
			for (let at = 0; at < region.bytes; at += pattern.length) {
				this.bytes.set(pattern.subarray(0, Math.min(pattern.length, region.bytes - at)), region.ptr + at);
			}
		}
		this.#ok(x.poolCreate(plan.poolStart, plan.slabs, plan.areas), "poolCreate");
		this.poolPtr = x.poolPtr(0);
		this.poolBytesPtr = x.ramPtr(plan.poolStart, poolBytes);
		this.slabs = plan.slabs;
		this.areas = plan.areas;
		this.poolStart = plan.poolStart;
		for (const one of plan.devices) {
			const number = this.#ok(x.deviceAdd(one.pool ?? 0, one.flags ?? 0, one.minAlignMask ?? 0), "deviceAdd");
			for (const [name, field] of FIELDS_64) {
				const value = one[name];
				if (value === undefined) continue;
				this.#ok(x.deviceSet64(number, field, Number(value & 0xffffffffn), Number(value >> 32n)), "deviceSet64");
			}
		}
		return this;
	}

	#ok(result: number, what: string): number {
		if (result < 0) throw new Error(`${what}: status ${result}`);
		return result;
	}

	get used(): number {
		let used = 0;
		for (let area = 0; area < (this.words[(this.poolPtr + layout.POOL_NAREAS) >> 2] as number); area++)
			used += this.areaUsed(area);
		return used;
	}

	get hiwater(): number {
		return this.words[(this.poolPtr + layout.POOL_HIWATER) >> 2] as number;
	}

	#area(area: number, field: number): number {
		const at = this.poolPtr + layout.POOL_HEADER_BYTES + (area << layout.AREA_SHIFT) + field;
		return this.words[at >> 2] as number;
	}

	areaIndex(area: number): number {
		return this.#area(area, layout.AREA_INDEX);
	}

	areaUsed(area: number): number {
		return this.#area(area, layout.AREA_USED);
	}

	/** Maps refused for want of slots and for size; of the last one: slots wanted, slots used, longest free run. */
	failures(): number[] {
		const from = (this.poolPtr + layout.POOL_FAILED_FULL) >> 2;
		return Array.from(this.words.subarray(from, from + 5));
	}

	/** The pool's bytes, live. */
	pool(): Uint8Array {
		return this.bytes.subarray(this.poolBytesPtr, this.poolBytesPtr + this.slabs * layout.IO_TLB_SIZE);
	}

	/** The bytes of each region of originals, live. */
	ramBytes(): Uint8Array[] {
		return this.ram.map(({ ptr, bytes }) => this.bytes.subarray(ptr, ptr + bytes));
	}
}
