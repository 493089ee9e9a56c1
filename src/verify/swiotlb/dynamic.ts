/** `swiotlb-dynamic`: a running Linux 6.12 with CONFIG_SWIOTLB_DYNAMIC, every map, unmap and pool in order. */
import { ATTR_OWN_POOL, ATTR_TRANSIENT } from "../../../assembly/layout/device.ts";
import { NEEDS_TRANSIENT, UNUSABLE_POOL } from "../../../assembly/layout/status.ts";
import { GrowingPools } from "../../coco/memory/growing.ts";
import type { Device } from "../../dma/device.ts";
import { Engine } from "../../engine.ts";
import { Fields } from "../../fields.ts";
import { InputError } from "../../input-error.ts";
import { statusName } from "../../status.ts";
import type { Pool } from "../../swiotlb/pool.ts";
import type { Build } from "../../wasm.ts";
import { Diverged, divergedAt, type Replayed, same } from "../result.ts";
import { named, type PoolAdd, poolsOf, readPoolAdd } from "./dynamic-lines.ts";
import { type KernelHeader, readKernelHeader, stretchesOf } from "./kernel-header.ts";

const FULL = 2n ** 64n - 1n;

/** Whether a text is of this format. */
export function isDynamic(text: string): boolean {
	return text.slice(0, 4096).includes("swiotlb_dynamic=y") && /^# .*\bpool_start=0x/.test(text.slice(0, 65536));
}

class DynamicReplay {
	readonly #engine: Engine;
	readonly #header: KernelHeader;
	readonly #devices: ReadonlyMap<string, Device>;
	readonly #growing: GrowingPools;
	/** Devices that search one pool only, for maps that raced. */
	readonly #racing = new Map<string, Device>();
	/** Whether the recording has maps of one CPU only: others' work may stand between a search and its lines. */
	readonly #oneCpu: boolean;
	#race = -1;
	/** A transient pool that was made, and waits for its map. */
	#transient: PoolAdd | null = null;
	/** Pools that have ended here, and wait for their pool_del. */
	readonly #ended: number[] = [];
	/** Whether growth is queued and its worker has not started. */
	#queued = false;
	readonly compared = {
		maps: 0,
		transientMaps: 0,
		unusable: 0,
		withoutMemory: 0,
		unmaps: 0,
		pools: 0,
		stats: 0,
		races: 0,
	};

	constructor(
		engine: Engine,
		header: KernelHeader,
		growing: GrowingPools,
		devices: ReadonlyMap<string, Device>,
		oneCpu: boolean,
	) {
		this.#engine = engine;
		this.#header = header;
		this.#growing = growing;
		this.#devices = devices;
		this.#oneCpu = oneCpu;
	}

	get growing(): GrowingPools {
		return this.#growing;
	}

	comment(f: Fields): void {
		const kind = f.text(0, "comment");
		if (kind === "#race") this.#race = f.decimal(1, "seq", 0, 2 ** 40);
		else if (kind === "#dyn_start") this.#queued = false;
		else if (kind === "#slow") {
			const newly = named(f, 3, "queued", /^[01]$/);
			if (this.#oneCpu) same(f.line, "growth newly queued", newly, this.#queued ? "0" : "1");
			this.#queued = true;
		}
	}

	run(f: Fields): void {
		const op = f.text(0, "op");
		const seq = f.decimal(1, "seq", 0, 2 ** 40);
		if (op !== "pool_del") this.#noneEnded(f.line);
		if (op === "map") this.#map(f, seq);
		else if (op === "unmap") this.#unmap(f);
		else if (op === "pool_add") this.#poolAdd(f);
		else if (op === "pool_del") this.#poolDel(f);
		else if (op === "stat") {
			if (this.#oneCpu) this.#counters(f.line, f.rest(2));
			this.compared.stats++;
		} else throw f.error("op", "map, unmap, pool_add, pool_del or stat", op);
	}

	#noneEnded(line: number): void {
		const start = this.#ended[0];
		if (start !== undefined) throw new Diverged(line, "transient pool", "still there", `0x${start.toString(16)} ended`);
	}

	#poolAdd(f: Fields): void {
		const add = readPoolAdd(f);
		if (add.transient) {
			if (this.#transient !== null) throw f.error("transient", "a map before the next transient pool");
			this.#transient = add;
			return;
		}
		this.compared.pools++;
		// the first line is the boot pool, which stands already
		if (this.compared.pools === 1) return;
		const sizes = this.#growing.sizes.map(({ slabs, areas }) => `${slabs} slots, ${areas} areas`);
		const size = `${add.slabs} slots, ${add.areas} areas`;
		if (!sizes.includes(size)) throw new Diverged(f.line, "size of the new pool", size, `one of ${sizes.join("; ")}`);
		this.#engine.growPool(this.#growing.first, add, add.start);
	}

	#device(f: Fields): Device {
		const device = this.#devices.get(f.text(3, "dev"));
		if (device === undefined) throw f.error("dev", "a device of the header", f.text(3, "dev"));
		return device;
	}

	#map(f: Fields, seq: number): void {
		const { exports } = this.#engine.instance;
		const device = this.#device(f);
		const cpu = f.decimal(2, "cpu", 0, 65535);
		const orig = f.address(4, "orig");
		const bytes = f.decimal(5, "size", 1, 2 ** 31 - 1);
		const allocAlignMask = f.hex32(6, "alloc_align_mask");
		const dir = f.decimal(7, "dir", 0, 2);
		const failed = f.hex64(9, "tlb") === FULL;
		const expected = failed ? -1 : f.address(9, "tlb");
		this.compared.maps++;
		const map = (on: Device, from: number, attrs: number) =>
			exports.swiotlbTblMap(on.index, orig, bytes, allocAlignMask, dir, from, attrs);
		const transient = this.#transient;
		this.#transient = null;
		const raced = this.#race === seq;
		if (raced) this.compared.races++;
		if (transient === null && !failed) {
			const tlb = raced ? this.#mapRaced(f, expected, map) : map(device, cpu, 0);
			same(f.line, `tlb of map ${seq}`, `0x${expected.toString(16)}`, answer(tlb));
			return;
		}
		// a transient pool is needed exactly when nothing was found; unless slots were freed meanwhile
		if (!raced) same(f.line, `common pools for map ${seq}`, answer(NEEDS_TRANSIENT), answer(map(device, cpu, 0)));
		if (transient === null) {
			same(f.line, `why map ${seq} failed`, named(f, 10, "why", /^\w+$/), "nomem");
			this.compared.withoutMemory++;
			return;
		}
		same(
			f.line,
			"slots of the transient pool",
			transient.slabs,
			exports.swiotlbSlots(device.index, orig, bytes, allocAlignMask),
		);
		const made = exports.poolCreateTransient(this.#growing.first.index, transient.start, transient.slabs);
		if (made < 0) throw new Diverged(f.line, "transient pool", "made", answer(made));
		const tlb = map(device, cpu, ATTR_TRANSIENT);
		same(f.line, `tlb of map ${seq}`, failed ? answer(UNUSABLE_POOL) : `0x${expected.toString(16)}`, answer(tlb));
		if (failed) {
			same(f.line, `why map ${seq} failed`, named(f, 10, "why", /^\w+$/), "unusable");
			this.compared.unusable++;
		} else this.compared.transientMaps++;
		this.#collect();
	}

	/** Another CPU freed slots between two of the map's searches: its own pool and area are exact. */
	#mapRaced(f: Fields, expected: number, map: (on: Device, from: number, attrs: number) => number): number {
		const pool = this.#engine.pools.find(({ start, bytes }) => expected >= start && expected < start + bytes);
		if (pool === undefined) throw f.error("tlb", "an address in a pool");
		const name = `${f.text(3, "dev")} ${pool.index}`;
		let device = this.#racing.get(name);
		if (device === undefined) {
			device = this.#engine.addDevice({ pool, ...this.#header.devices.get(f.text(3, "dev")) });
			this.#racing.set(name, device);
		}
		return map(device, Math.floor((expected - pool.start) / 2048 / pool.areaSlabs), ATTR_OWN_POOL);
	}

	#collect(): void {
		for (let start = this.#engine.instance.exports.retiredTake(); start >= 0; ) {
			this.#ended.push(start);
			start = this.#engine.instance.exports.retiredTake();
		}
	}

	#unmap(f: Fields): void {
		const device = this.#device(f);
		const tlb = f.address(4, "tlb");
		const bytes = f.decimal(5, "size", 1, 2 ** 31 - 1);
		const dir = f.decimal(6, "dir", 0, 2);
		const done = this.#engine.instance.exports.swiotlbTblUnmap(device.index, tlb, bytes, dir, 0);
		if (done < 0) throw new Diverged(f.line, "unmap", "a live mapping", answer(done));
		this.#collect();
		this.compared.unmaps++;
	}

	#poolDel(f: Fields): void {
		const start = named(f, 2, "start", /^0x[0-9a-f]{1,13}$/);
		const ended = this.#ended.shift();
		same(f.line, "transient pool that ended", start, ended === undefined ? "none" : `0x${ended.toString(16)}`);
	}

	#counters(line: number, text: string, hiwaterMayDiffer = false): void {
		const { used, hiwater, slabs, transientSlabs } = this.#growing;
		const got = new Map<string, number>([
			["io_tlb_used", used],
			["io_tlb_used_hiwater", hiwater],
			["io_tlb_nslabs", slabs],
			["io_tlb_transient_nslabs", transientSlabs],
		]);
		for (const [, name, value] of text.matchAll(/\b(io_tlb_\w+)=(\d+)/g)) {
			const mine = got.get(name as string);
			if (mine === undefined || (hiwaterMayDiffer && name === "io_tlb_used_hiwater" && mine <= Number(value))) continue;
			same(line, name as string, Number(value), mine);
		}
	}

	/** Compares a line of the footer. @returns whether it was one */
	end(f: Fields, text: string, pools: Iterator<Pool>): boolean {
		const { line } = f;
		if (text.startsWith("# end:")) {
			this.#noneEnded(line);
			this.#counters(line, text, !this.#oneCpu);
			return true;
		}
		if (!text.startsWith("# end_pool ")) return false;
		const { value: pool, done } = pools.next();
		const start = /\bstart=(0x[0-9a-f]+)/.exec(text)?.[1];
		same(line, "pool of the list, newest first", start ?? "start=", done ? "none" : `0x${pool.start.toString(16)}`);
		for (const [i, { used, index }] of (pool as Pool).areas().entries()) {
			const area = new RegExp(`\\barea${i}\\.used=(\\d+) area${i}\\.index=(\\d+)`).exec(text);
			if (area === null) throw f.error(`area${i}`, `area${i}.used= area${i}.index=`);
			same(line, `area ${i} used`, Number(area[1]), used);
			same(line, `area ${i} index`, Number(area[2]), index);
		}
		return true;
	}
}

function answer(result: number): string {
	return result < 0 ? statusName(result) : `0x${result.toString(16)}`;
}

/** Replays a recording and compares every answer. @throws InputError for a file that is not of the format */
export async function verifyDynamic(path: string, text: string, build: Build = "engine"): Promise<Replayed> {
	const lines = text.split("\n");
	const header = readKernelHeader(path, lines[0] as string);
	const added = poolsOf(path, lines);
	const races = lines.filter((line) => line.startsWith("#race")).length;
	const records = added.reduce((sum, { bytes }) => sum + (bytes / 2048) * 48 + 4096, 0);
	const engine = await Engine.create({
		build,
		swiotlb: null,
		ram: stretchesOf(path, lines, header, added),
		spareBytes: 65536 + Math.min(records, 256 * 2 ** 20),
		maxDevices: Math.min(4096, header.devices.size + races + 1),
		maxPools: Math.min(4096, added.length + 1),
	});
	const pool = engine.addPool({ slabs: header.slabs, areas: header.areas }, { start: header.poolStart, grows: true });
	const devices = new Map([...header.devices].map(([name, options]) => [name, engine.addDevice({ pool, ...options })]));
	const cpus = new Set(lines.filter((line) => line.startsWith("map ")).map((line) => line.split(" ")[2]));
	const replay = new DynamicReplay(engine, header, new GrowingPools(engine, pool), devices, cpus.size <= 1);
	const { compared } = replay;
	let line = 1;
	let ends = 0;
	try {
		let pools: Iterator<Pool> | null = null;
		for (; line <= lines.length; line++) {
			const text = lines[line - 1] as string;
			if (text.trim() === "") continue;
			if (!text.startsWith("#")) replay.run(new Fields(path, line, text));
			else if (text.startsWith("# ")) {
				pools ??= text.startsWith("# end") ? replay.growing.pools[Symbol.iterator]() : null;
				if (pools !== null && replay.end(new Fields(path, line, text), text, pools)) ends++;
			} else replay.comment(new Fields(path, line, text));
		}
		const left = ends > 1 ? pools?.next() : undefined;
		if (left?.done === false)
			throw new Diverged(lines.length, "pool of the list, newest first", "none", `0x${left.value.start.toString(16)}`);
	} catch (error) {
		return { compared, outcome: divergedAt(line, error) };
	}
	const { maps, transientMaps, unusable, withoutMemory, unmaps, races: raced } = compared;
	if (maps === 0 || ends < 2)
		throw new InputError(
			`${path}: expected maps, then the last lines "# end: ..." and "# end_pool ...": the file ends early`,
		);
	const parts = [
		`${maps}/${maps} maps (${transientMaps} in transient pools, ${unusable} unusable, ${withoutMemory} without memory)`,
		`${unmaps} unmaps identical`,
		`${engine.pools.length} pools`,
		...(raced > 0 ? [`${raced} races replayed in their area`] : []),
		`hiwater ${replay.growing.hiwater}`,
	];
	return { compared, outcome: { identical: true, said: parts.join(", ") } };
}
