/** Runs the engine, the reference build and the plain model side by side and compares every answer. */
import { ATTR_FORCE_BOUNCE } from "../../assembly/layout/device.ts";
import type { Build } from "../../src/wasm.ts";
import { type DevicePlan, type GuestPlan, RawGuest } from "./guest.ts";
import { type HardCases, SlotModel } from "./model.ts";
import { Random } from "./random.ts";

const UNSET = 2n ** 64n - 1n;
const SKIP_CPU_SYNC = 32;
/** Below the context: bytes that the device or the CPU writes come from here. */
const SCRATCH_PTR = 4096;
const SCRATCH_BYTES = 8192;
const NEAR_SIZES = [1, 8, 511, 512, 2047, 2048, 2049, 4095, 4096, 4097, 6144, 8192, 12288, 16384, 32768, 65536];

export interface Load {
	readonly ops: number;
	/** Share of the pool's slots that the load keeps in use. */
	readonly fill: number;
	readonly allocAlignMasks: readonly number[];
	/** Large requests come once in so many. */
	readonly largeOneIn: number;
	/** Compare every slot's list each so many ops. */
	readonly listEvery: number;
}

interface Mapping {
	readonly tlb: number;
	readonly orig: number;
	readonly bytes: number;
	readonly dir: number;
	readonly device: number;
}

export class Lockstep {
	readonly engine: RawGuest;
	readonly reference: RawGuest;
	readonly #pattern: Uint8Array;
	ops = 0;

	private constructor(engine: RawGuest, reference: RawGuest) {
		this.engine = engine;
		this.reference = reference;
		this.#pattern = new Random(1).bytes(65536);
		for (const guest of [engine, reference]) guest.bytes.set(this.#pattern.subarray(0, SCRATCH_BYTES), SCRATCH_PTR);
	}

	static async create(bytes: number, build: Build = "engine"): Promise<Lockstep> {
		return new Lockstep(await RawGuest.create(build, bytes), await RawGuest.create("reference", bytes));
	}

	/** One guest, one load, until every mapping has ended. Throws with the case at the first difference. */
	run(plan: GuestPlan, load: Load, seed: number, cases: HardCases): void {
		const name = () =>
			`seed ${seed}, ${JSON.stringify({ ...plan, ...load }, (_, v) => (typeof v === "bigint" ? `0x${v.toString(16)}` : v))}`;
		try {
			this.#run(plan, load, new Random(seed), cases);
		} catch (error) {
			throw new Error(`${(error as Error).message} (op ${this.ops}; ${name()})`);
		}
	}

	#run(plan: GuestPlan, load: Load, random: Random, cases: HardCases): void {
		const { engine, reference } = this;
		engine.setUp(plan, this.#pattern);
		reference.setUp(plan, this.#pattern);
		const model = new SlotModel(plan.poolStart, plan.slabs, plan.areas, cases);
		const live: Mapping[] = [];
		const wanted = Math.floor(plan.slabs * load.fill);
		for (let i = 0; i < load.ops; i++) {
			this.ops++;
			const full = model.used >= wanted;
			const turn = random.below(16);
			if (turn === 0 && live.length > 0) this.#touch(random, random.pick(live));
			else if (live.length > 0 && (full ? turn < 11 : turn < 5)) this.#unmap(model, live, random);
			else this.#map(plan, load, model, live, random);
			this.#compare(model);
			if (i % load.listEvery === load.listEvery - 1) this.#compareLists(model);
		}
		while (live.length > 0) {
			this.#unmap(model, live, random);
			this.#compare(model);
		}
		this.#end(model);
	}

	#map(plan: GuestPlan, load: Load, model: SlotModel, live: Mapping[], random: Random): void {
		const bytes = sizeOf(random, load.largeOneIn);
		const orig = this.#originOf(random, bytes);
		const cpu = random.below(16);
		const dir = random.below(3);
		const index = random.below(plan.devices.length);
		const device = plan.devices[index] as DevicePlan;
		const through = device.dmaMask !== undefined && random.oneIn(3);
		const allocAlignMask = through ? 0 : random.pick(load.allocAlignMasks);
		const ask = (guest: RawGuest) =>
			through
				? guest.x.mapSingle(index, orig, bytes, dir, cpu, ATTR_FORCE_BOUNCE)
				: guest.x.swiotlbTblMap(index, orig, bytes, allocAlignMask, dir, cpu);
		const tlb = ask(this.engine);
		const call = () =>
			`map(orig 0x${orig.toString(16)}, ${bytes} bytes, aam 0x${allocAlignMask.toString(16)}, dir ${dir}, cpu ${cpu}, device ${index})`;
		same(call, "reference", ask(this.reference), tlb);
		const boundary = device.boundary === undefined || device.boundary === 0n ? UNSET : device.boundary;
		const minAlignMask = device.minAlignMask ?? 0;
		let expected = model.map({ orig, bytes, allocAlignMask, minAlignMask, boundary, cpu });
		if (through && expected >= 0 && BigInt(expected + bytes - 1) > (device.dmaMask as bigint)) {
			model.unmap(expected);
			expected = -23;
		}
		same(call, "model", expected, tlb);
		if (tlb >= 0) live.push({ tlb, orig, bytes, dir, device: index });
	}

	/** Any byte of RAM; gpa 0 itself often. */
	#originOf(random: Random, bytes: number): number {
		const { ram } = this.engine;
		if (random.oneIn(8)) return 0;
		const at = random.below(ram.length);
		const region = ram[at] as { gpa: number; bytes: number };
		const next = ram[at + 1];
		// a stretch that adjoins the next one may be crossed
		const adjoins = next !== undefined && region.gpa + region.bytes === next.gpa;
		const room = adjoins ? region.bytes + Math.min(next.bytes, bytes) - bytes : region.bytes - bytes;
		let offset = random.below(Math.max(1, room + 1));
		const unit = random.pick([1, 512, 2048, 4096]);
		offset -= offset % unit;
		return region.gpa + offset;
	}

	#unmap(model: SlotModel, live: Mapping[], random: Random): void {
		const at = random.oneIn(2) ? 0 : random.below(live.length);
		const mapping = live[at] as Mapping;
		live[at] = live.at(-1) as Mapping;
		live.pop();
		const attrs = random.oneIn(4) ? SKIP_CPU_SYNC : 0;
		const { device, tlb, bytes, dir } = mapping;
		const got = this.engine.x.swiotlbTblUnmap(device, tlb, bytes, dir, attrs);
		const call = () => `unmap(tlb 0x${tlb.toString(16)}, ${bytes} bytes, dir ${dir}, attrs ${attrs}, device ${device})`;
		same(call, "reference", this.reference.x.swiotlbTblUnmap(device, tlb, bytes, dir, attrs), got);
		same(call, "rule", attrs === 0 && dir !== 1 ? bytes : 0, got);
		model.unmap(tlb);
	}

	/** The device writes slots, the CPU writes the original, or a part is synced. */
	#touch(random: Random, { tlb, orig, bytes, device, dir }: Mapping): void {
		const offset = random.below(bytes);
		const n = 1 + random.below(Math.min(bytes - offset, SCRATCH_BYTES));
		const from = SCRATCH_PTR + random.below(SCRATCH_BYTES - n + 1);
		const kind = random.below(4);
		const ask = ({ x }: RawGuest) => {
			if (kind === 0) return x.ramWriteFrom(tlb + offset, n, from);
			if (kind === 1) return x.ramWriteFrom(orig + offset, n, from);
			if (kind === 2) return x.syncForDevice(device, tlb + offset, n, dir);
			return x.syncForCpu(device, tlb + offset, n, dir);
		};
		const call = () => `touch ${kind}(tlb 0x${tlb.toString(16)} + ${offset}, ${n} bytes, dir ${dir})`;
		const got = ask(this.engine);
		same(call, "reference", ask(this.reference), got);
		const copies = kind === 2 ? dir !== 2 : dir !== 1;
		same(call, "rule", kind < 2 ? 0 : copies ? n : 0, got);
	}

	#compare(model: SlotModel): void {
		const { engine, reference } = this;
		if (engine.used !== model.used || reference.used !== model.used) {
			throw new Error(`used: model ${model.used}, engine ${engine.used}, reference ${reference.used}`);
		}
		if (engine.hiwater !== model.hiwater || reference.hiwater !== model.hiwater) {
			throw new Error(`hiwater: model ${model.hiwater}, engine ${engine.hiwater}, reference ${reference.hiwater}`);
		}
		let sum = 0;
		for (let area = 0; area < model.index.length; area++) {
			const index = model.index[area] as number;
			const used = model.areaUsed[area] as number;
			sum += used;
			if (engine.areaIndex(area) !== index || reference.areaIndex(area) !== index) {
				throw new Error(
					`index of area ${area}: model ${index}, engine ${engine.areaIndex(area)}, reference ${reference.areaIndex(area)}`,
				);
			}
			if (engine.areaUsed(area) !== used || reference.areaUsed(area) !== used) {
				throw new Error(
					`used of area ${area}: model ${used}, engine ${engine.areaUsed(area)}, reference ${reference.areaUsed(area)}`,
				);
			}
		}
		if (sum !== engine.used) throw new Error(`used ${engine.used} is not the areas' sum ${sum}`);
	}

	#compareLists(model: SlotModel): void {
		const [got, expected] = [this.engine.failures(), this.reference.failures()];
		for (const [i, field] of got.entries()) {
			if (field !== expected[i]) throw new Error(`failures: reference ${expected}, engine ${got}`);
		}
		for (const guest of [this.engine, this.reference]) {
			let longest = 0;
			for (let slot = 0; slot < guest.slabs; slot++) {
				const expected = model.list(slot);
				longest = Math.max(longest, expected);
				const got = guest.x.poolSlotList(0, slot);
				if (got !== expected) throw new Error(`list[${slot}]: expected ${expected}, got ${got}`);
			}
			// the answer corrects the search's bounds, so only now and then: bounds that are too high must do no harm
			if (this.ops % 3 === 0) same(() => "poolFreeRun", "list", longest, guest.x.poolFreeRun(0));
		}
	}

	/** Everything has ended: every slot is free, every counter 0, and both builds hold the same bytes. */
	#end(model: SlotModel): void {
		same(() => "end", "used", 0, model.used);
		this.#compareLists(model);
		for (let slot = 0; slot < this.engine.slabs; slot++) {
			if (model.owner[slot] !== 0) throw new Error(`slot ${slot} is still owned`);
		}
		if (Buffer.compare(this.engine.pool(), this.reference.pool()) !== 0) throw new Error("the pools' bytes differ");
		for (const [i, bytes] of this.engine.ramBytes().entries()) {
			if (Buffer.compare(bytes, this.reference.ramBytes()[i] as Uint8Array) !== 0) {
				throw new Error(`the bytes of region ${i} differ`);
			}
		}
	}
}

function same(call: () => string, other: string, expected: number, got: number): void {
	if (expected !== got) throw new Error(`${call()}: ${other} ${expected}, engine ${got}`);
}

function sizeOf(random: Random, largeOneIn: number): number {
	if (random.oneIn(largeOneIn)) return 1 + random.below(300 * 1024);
	const kind = random.below(4);
	if (kind === 0) return 1 + random.below(4096);
	if (kind === 1) return 1 + random.below(32768);
	return random.pick(NEAR_SIZES);
}
