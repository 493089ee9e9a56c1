/** `swiotlb-recorded`: every map, unmap and sync of a running Linux 6.12, in order. */
import type { Device } from "../../dma/device.ts";
import { Engine } from "../../engine.ts";
import { Fields } from "../../fields.ts";
import { InputError } from "../../input-error.ts";
import type { Pool } from "../../swiotlb/pool.ts";
import type { Direction } from "../../types.ts";
import type { Build } from "../../wasm.ts";
import { Diverged, divergedAt, type Replayed, same } from "../result.ts";
import { readKernelHeader, stretchesOf } from "./kernel-header.ts";

const MAX_U64 = 2n ** 64n - 1n;

/** What the lines after the last op say; undefined where a file does not. */
interface Footer {
	used?: number;
	hiwater?: number;
	areas: { used: number; index: number }[];
}

/** Whether a text is of this format. */
export function isRecorded(text: string): boolean {
	return (
		/^# .*\bpool_start=0x/.test(text.slice(0, 65536).split("\n", 1)[0] as string) &&
		!text.slice(0, 4096).includes("swiotlb_dynamic=y")
	);
}

function readFooter(footer: Footer, line: string): void {
	if (line.startsWith("# end:")) {
		const used = /io_tlb_used=(\d+)/.exec(line);
		const hiwater = /io_tlb_used_hiwater=(\d+)/.exec(line);
		if (used !== null) footer.used = Number(used[1]);
		if (hiwater !== null) footer.hiwater = Number(hiwater[1]);
	} else if (line.startsWith("# end_state:")) {
		for (const [, area, used, index] of line.matchAll(/area(\d+)\.used=(\d+) area\1\.index=(\d+)/g)) {
			footer.areas[Number(area)] = { used: Number(used), index: Number(index) };
		}
	}
}

class RecordedReplay {
	readonly #engine: Engine;
	readonly #pool: Pool;
	readonly #devices: ReadonlyMap<string, Device>;
	readonly #cpus = new Set<number>();
	/** Seq of the map that raced with another CPU's unmap, or -1. */
	#race = -1;
	#fullRaces = 0;
	readonly compared = { maps: 0, refusedMaps: 0, unmaps: 0, syncs: 0, races: 0 };

	constructor(engine: Engine, pool: Pool, devices: ReadonlyMap<string, Device>) {
		this.#engine = engine;
		this.#pool = pool;
		this.#devices = devices;
	}

	get cpus(): number {
		return this.#cpus.size;
	}

	/** Races that ended in "pool full": taken as recorded. */
	get fullRaces(): number {
		return this.#fullRaces;
	}

	race(f: Fields): void {
		this.#race = f.decimal(1, "seq", 0, 2 ** 40);
	}

	run(f: Fields): void {
		const op = f.text(0, "op");
		const seq = f.decimal(1, "seq", 0, 2 ** 40);
		const cpu = f.decimal(2, "cpu", 0, 65535);
		const device = this.#devices.get(f.text(3, "dev"));
		if (device === undefined) throw f.error("dev", "a device of the header", f.text(3, "dev"));
		this.#cpus.add(cpu);
		if (op === "map") this.#map(f, seq, cpu, device);
		else if (op === "unmap") this.#unmap(f, device);
		else if (op === "sync_dev" || op === "sync_cpu") this.#sync(f, op, device);
		else throw f.error("op", "map, unmap, sync_dev or sync_cpu", op);
	}

	#map(f: Fields, seq: number, cpu: number, device: Device): void {
		const orig = f.address(4, "orig_addr");
		const bytes = f.decimal(5, "size", 1, 2 ** 31 - 1);
		const allocAlignMask = f.hex32(6, "alloc_align_mask");
		const dir = f.decimal(7, "dir", 0, 2);
		const full = f.hex64(9, "tlb_addr") === MAX_U64;
		const expected = full ? -1 : f.address(9, "tlb_addr");
		let from = cpu;
		if (this.#race === seq) {
			// areas were searched one by one while another CPU freed slots: the slot inside the area that answered is exact,
			// and a search that none answered has changed nothing
			if (full) {
				this.#fullRaces++;
				return;
			}
			this.compared.races++;
			from = Math.floor((expected - this.#pool.start) / 2048 / this.#pool.areaSlabs);
		}
		const tlb = this.#engine.instance.exports.swiotlbTblMap(device.index, orig, bytes, allocAlignMask, dir, from);
		const text = (value: number) => (value < 0 ? "pool full" : `0x${value.toString(16)}`);
		same(f.line, `tlb_addr of map ${seq}`, text(expected), text(tlb));
		this.compared.maps++;
		if (full) this.compared.refusedMaps++;
	}

	#unmap(f: Fields, device: Device): void {
		const tlb = f.address(4, "tlb_addr");
		const bytes = f.decimal(5, "size", 1, 2 ** 31 - 1);
		const dir = f.decimal(6, "dir", 0, 2);
		const done = this.#engine.instance.exports.swiotlbTblUnmap(device.index, tlb, bytes, dir, 0);
		if (done < 0) throw new Diverged(f.line, "unmap", "a live mapping", `status ${done}`);
		this.compared.unmaps++;
	}

	#sync(f: Fields, op: "sync_dev" | "sync_cpu", device: Device): void {
		const tlb = f.address(4, "tlb_addr");
		const bytes = f.decimal(5, "size", 1, 2 ** 31 - 1);
		const dir = f.decimal(6, "dir", 0, 2) as Direction;
		if (op === "sync_dev") device.syncForDevice(tlb, bytes, dir);
		else device.syncForCpu(tlb, bytes, dir);
		this.compared.syncs++;
	}

	/** Compares the end with the footer. @returns what to add to the summary */
	end(line: number, footer: Footer): string {
		if (footer.used !== undefined) same(line, "used at the end", footer.used, this.#pool.used);
		for (const [i, area] of this.#pool.areas().entries()) {
			const expected = footer.areas[i];
			if (expected === undefined) continue;
			same(line, `area ${i} used`, expected.used, area.used);
			same(line, `area ${i} index`, expected.index, area.index);
		}
		if (footer.hiwater === undefined) return `hiwater ${this.#pool.hiwater}`;
		const got = this.#pool.hiwater;
		if (this.cpus <= 1 || got > footer.hiwater) same(line, "hiwater", footer.hiwater, got);
		return got === footer.hiwater
			? `hiwater ${got}`
			: `hiwater ${got} (recorded ${footer.hiwater}, ${footer.hiwater - got} more: several CPUs)`;
	}
}

/** Replays a recording and compares every answer. @throws InputError for a file that is not of the format */
export async function verifyRecorded(path: string, text: string, build: Build = "engine"): Promise<Replayed> {
	const lines = text.split("\n");
	const header = readKernelHeader(path, lines[0] as string);
	const engine = await Engine.create({
		build,
		swiotlb: null,
		ram: stretchesOf(path, lines, header),
		spareBytes: 65536 + header.slabs * 64 + header.areas * 64,
		maxDevices: Math.max(1, header.devices.size),
	});
	const pool = engine.addPool({ slabs: header.slabs, areas: header.areas }, { start: header.poolStart });
	const devices = new Map([...header.devices].map(([name, options]) => [name, engine.addDevice({ pool, ...options })]));
	const replay = new RecordedReplay(engine, pool, devices);
	const { compared } = replay;
	const footer: Footer = { areas: [] };
	let line = 1;
	let end: string;
	try {
		for (; line <= lines.length; line++) {
			const text = lines[line - 1] as string;
			if (text.startsWith("#race")) replay.race(new Fields(path, line, text));
			else if (text.startsWith("#")) readFooter(footer, text);
			else if (text.trim() !== "") replay.run(new Fields(path, line, text));
		}
		if (footer.used === undefined && footer.areas.length === 0)
			throw new InputError(`${path}: expected the last lines "# end: ..." and "# end_state: ...": the file ends early`);
		end = replay.end(lines.length, footer);
	} catch (error) {
		return { compared, outcome: divergedAt(line, error) };
	}
	const { maps, refusedMaps, unmaps, syncs, races } = compared;
	if (maps + replay.fullRaces === 0) throw new InputError(`${path}: holds no map`);
	const parts = [
		`${maps}/${maps} maps${refusedMaps > 0 ? ` (${refusedMaps} refused)` : ""}`,
		`${unmaps} unmaps identical`,
		...(syncs > 0 ? [`${syncs} syncs`] : []),
		...(races > 0 ? [`${races} races replayed in their area`] : []),
		...(replay.fullRaces > 0 ? [`${replay.fullRaces} races that found the pool full not compared`] : []),
		end,
	];
	return { compared, outcome: { identical: true, said: parts.join(", ") } };
}
