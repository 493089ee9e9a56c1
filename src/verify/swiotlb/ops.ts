/** `swiotlb-ops` v1: Linux 6.12's allocator, op by op, with every answer and byte. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { ATTR_FORCE_BOUNCE } from "../../../assembly/layout/device.ts";
import type { Device } from "../../dma/device.ts";
import { Engine } from "../../engine.ts";
import { Fields } from "../../fields.ts";
import { InputError } from "../../input-error.ts";
import type { Pool } from "../../swiotlb/pool.ts";
import { Attr, type Direction, type Gpa } from "../../types.ts";
import type { Build } from "../../wasm.ts";
import { type Hashes, loadHashes } from "../hashes.ts";
import { readKeyedHeader } from "../header.ts";
import { Diverged, divergedAt, type Replayed, same } from "../result.ts";

const MAX_U64 = 2n ** 64n - 1n;
const MAX_RAM_BYTES = 2 ** 31;
/** RAM and pool together: what an engine holds beside its tables. */
const MAX_BYTES = 3 * 2 ** 30;

interface Header {
	readonly ramBytes: number;
	readonly poolStart: number;
	readonly slabs: number;
	readonly areas: number;
	readonly dmaMask: bigint;
	readonly minAlignMask: number;
	readonly segBoundaryMask: bigint;
}

interface Mapping {
	readonly tlb: Gpa;
	readonly orig: number;
	readonly bytes: number;
}

/** Whether a text is of this format. */
export function isOps(text: string): boolean {
	return text.startsWith("# swiotlb golden v1");
}

function readHeader(path: string, lines: readonly string[]): { header: Header; first: number } {
	const { key, first } = readKeyedHeader(path, lines);
	const header = {
		ramBytes: key("ram_size").address(1, "ram_size"),
		poolStart: key("pool_start").address(1, "pool_start"),
		slabs: key("nslabs").decimal(1, "nslabs", 128, 2 ** 20),
		areas: key("nareas").decimal(1, "nareas", 1, 8192),
		dmaMask: key("dma_mask").hex64(1, "dma_mask"),
		minAlignMask: key("min_align_mask").hex32(1, "min_align_mask"),
		segBoundaryMask: key("seg_boundary_mask").hex64(1, "seg_boundary_mask"),
	};
	if (header.ramBytes === 0 || header.ramBytes > MAX_RAM_BYTES || header.ramBytes % PAGE_SIZE !== 0) {
		throw key("ram_size").error("ram_size", `a multiple of 4096 up to ${MAX_RAM_BYTES}`);
	}
	const power = (n: number) => Number.isInteger(Math.log2(n));
	if (!power(header.slabs)) throw key("nslabs").error("nslabs", "a power of two");
	if (!power(header.areas) || header.areas > header.slabs / 128)
		throw key("nareas").error("nareas", "a power of two up to nslabs / 128");
	if (header.poolStart % PAGE_SIZE !== 0) throw key("pool_start").error("pool_start", "a page-aligned address");
	if (header.poolStart < header.ramBytes) throw key("pool_start").error("pool_start", "an address behind ram_size");
	if (header.poolStart + header.slabs * 2048 > 2 ** 52)
		throw key("pool_start").error("pool_start", "a pool that ends below 2^52");
	if (header.ramBytes + header.slabs * 2048 > MAX_BYTES)
		throw key("nslabs").error("nslabs", `at most ${MAX_BYTES} bytes of RAM and pool together`);
	const boundary = header.segBoundaryMask;
	if ((boundary & (boundary + 1n)) !== 0n)
		throw key("seg_boundary_mask").error("seg_boundary_mask", "a mask of the form 2^k - 1");
	return { header, first };
}

async function engineFor(header: Header, build: Build): Promise<{ engine: Engine; device: Device; pool: Pool }> {
	const poolBytes = header.slabs * 2048;
	const engine = await Engine.create({
		build,
		swiotlb: null,
		ram: [
			{ gpa: 0, bytes: header.ramBytes },
			{ gpa: header.poolStart, bytes: poolBytes },
		],
		spareBytes: 65536 + header.slabs * 64,
	});
	const pool = engine.addPool({ slabs: header.slabs, areas: header.areas }, { start: header.poolStart });
	const device = engine.addDevice({
		pool,
		dmaMask: header.dmaMask,
		minAlignMask: header.minAlignMask,
		segBoundaryMask: header.segBoundaryMask === MAX_U64 ? 0n : header.segBoundaryMask,
	});
	const ram = engine.ram.view(0, header.ramBytes);
	const words = new Uint32Array(ram.buffer, ram.byteOffset, header.ramBytes / 4);
	for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 0x9e3779b1);
	return { engine, device, pool };
}

/** Replays one op after the other; a difference throws Diverged, a malformed line InputError. */
class OpsReplay {
	readonly #device: Device;
	readonly #engine: Engine;
	readonly #pool: Pool;
	readonly #header: Header;
	readonly #hashes: Hashes;
	readonly #live = new Map<number, Mapping>();
	readonly compared = { maps: 0, failedMaps: 0, unmaps: 0, syncs: 0, checkpoints: 0, ends: 0 };

	constructor(header: Header, engine: Engine, device: Device, pool: Pool, hashes: Hashes) {
		this.#hashes = hashes;
		this.#header = header;
		this.#engine = engine;
		this.#device = device;
		this.#pool = pool;
	}

	run(f: Fields): void {
		const op = f.text(0, "op");
		if (op === "m" || op === "M") this.#map(f, op);
		else if (op === "u" || op === "U") this.#unmap(f, op);
		else if (op === "s" || op === "c") this.#sync(f, op);
		else if (op === "w" || op === "r") this.#write(f, op);
		else if (op === "k") this.#checkpoint(f);
		else if (op === "e") this.#end(f);
		else throw f.error("op", "one of m M u U s c w r k e", op);
	}

	#map(f: Fields, op: "m" | "M"): void {
		const id = f.decimal(1, "id", 0, 2 ** 31);
		const cpu = f.decimal(2, "cpu", 0, 65535);
		const orig = f.address(3, "orig");
		const bytes = f.decimal(4, "size", 1, 2 ** 31 - 1);
		const allocAlignMask = f.hex32(5, "aam");
		const dir = f.decimal(6, "dir", 0, 2);
		const expected = f.text(7, "tlb") === "-1" ? -1 : f.address(7, "tlb");
		if (orig + bytes > this.#header.ramBytes) throw f.error("orig", "a range inside ram_size");
		if (this.#live.has(id)) throw f.error("id", "an id that is not in use", String(id));
		const { exports } = this.#engine.instance;
		const { index } = this.#device;
		const tlb: Gpa =
			op === "m"
				? exports.swiotlbTblMap(index, orig, bytes, allocAlignMask, dir, cpu)
				: // the device's addresses carry no bits: it is given the slot's own
					(exports.mapSingle(index, orig, bytes, dir, cpu, ATTR_FORCE_BOUNCE) as number);
		same(f.line, `tlb of map ${id}`, address(expected), address(tlb));
		this.#used(f, 8);
		if (tlb < 0) this.compared.failedMaps++;
		else this.#live.set(id, { tlb, orig, bytes });
		this.compared.maps++;
	}

	#mapping(f: Fields): Mapping {
		const id = f.decimal(1, "id", 0, 2 ** 31);
		const mapping = this.#live.get(id);
		if (mapping === undefined) throw f.error("id", "the id of a live mapping", String(id));
		return mapping;
	}

	#unmap(f: Fields, op: "u" | "U"): void {
		const { tlb, bytes } = this.#mapping(f);
		const dir = f.decimal(2, "dir", 0, 2);
		const attrs = op === "U" ? Attr.SkipCpuSync : 0;
		const done = this.#engine.instance.exports.swiotlbTblUnmap(this.#device.index, tlb, bytes, dir, attrs);
		if (done < 0) throw new Diverged(f.line, "unmap", "success", `status ${done}`);
		this.#live.delete(f.decimal(1, "id", 0, 2 ** 31));
		this.#used(f, 3);
		this.compared.unmaps++;
	}

	#sync(f: Fields, op: "s" | "c"): void {
		const { tlb } = this.#mapping(f);
		const offset = f.decimal(2, "off", 0, 2 ** 20);
		const bytes = f.decimal(3, "len", 0, 2 ** 20);
		const dir = f.decimal(4, "dir", 0, 2) as Direction;
		if (bytes === 0) return;
		if (op === "s") this.#device.syncForDevice(tlb + offset, bytes, dir);
		else this.#device.syncForCpu(tlb + offset, bytes, dir);
		this.compared.syncs++;
	}

	#write(f: Fields, op: "w" | "r"): void {
		const { tlb, orig } = this.#mapping(f);
		const offset = f.decimal(2, "off", 0, 2 ** 20);
		const bytes = f.decimal(3, "len", 0, 2 ** 20);
		const seed = f.decimal(4, "seed", 0, 2 ** 31);
		if (bytes === 0) return;
		const data = Uint8Array.from({ length: bytes }, (_, i) => seed + 31 * i);
		this.#engine.ram.write((op === "w" ? tlb : orig) + offset, data);
	}

	#used(f: Fields, index: number): void {
		same(f.line, "used", f.decimal(index, "used", 0, 2 ** 20), this.#pool.used);
	}

	#checkpoint(f: Fields): void {
		this.#used(f, 1);
		same(f.line, "hiwater", f.decimal(2, "hiwater", 0, 2 ** 20), this.#pool.hiwater);
		const areas = this.#pool.areas().map(({ index, used }) => `${index}:${used}`);
		same(f.line, "areas (index:used)", f.text(3, "areas"), areas.join(","));
		same(f.line, "crc of the list", f.text(4, "crc"), this.#hashes.crc32(this.#listBytes()));
		this.compared.checkpoints++;
	}

	#listBytes(): Uint8Array {
		const list = this.#pool.list();
		return new Uint8Array(list.buffer, list.byteOffset, list.byteLength);
	}

	#end(f: Fields): void {
		this.#used(f, 1);
		same(f.line, "hiwater", f.decimal(2, "hiwater", 0, 2 ** 20), this.#pool.hiwater);
		const sha = this.#hashes.sha256;
		same(f.line, "sha-256 of the list", f.text(4, "sha_list"), sha(this.#listBytes()));
		same(
			f.line,
			"sha-256 of the pool",
			f.text(5, "sha_pool"),
			sha(this.#engine.ram.view(this.#pool.start, this.#pool.bytes)),
		);
		same(f.line, "sha-256 of RAM", f.text(6, "sha_ram"), sha(this.#engine.ram.view(0, this.#header.ramBytes)));
		this.compared.ends++;
	}
}

function address(value: number): string {
	return value < 0 ? "-1" : `0x${value.toString(16)}`;
}

/** Replays a recording and compares every answer. @throws InputError for a file that is not of the format */
export async function verifyOps(path: string, text: string, build: Build = "engine"): Promise<Replayed> {
	const lines = text.split("\n");
	const { header, first } = readHeader(path, lines);
	const { engine, device, pool } = await engineFor(header, build);
	const replay = new OpsReplay(header, engine, device, pool, await loadHashes());
	const { compared } = replay;
	let line = first;
	try {
		for (let i = first; i < lines.length; i++) {
			if (lines[i] === "") continue;
			line = i + 1;
			replay.run(new Fields(path, line, lines[i] as string));
		}
	} catch (error) {
		return { compared, outcome: divergedAt(line, error) };
	}
	const { maps, failedMaps, unmaps, checkpoints, ends } = compared;
	if (ends !== 1) throw new InputError(`${path}: expected a last line "e ...": the file ends early`);
	const said = `${maps}/${maps} maps (${failedMaps} refused), ${unmaps} unmaps, ${checkpoints} checkpoints identical, pool and RAM bytes identical, hiwater ${pool.hiwater}`;
	return { compared, outcome: { identical: true, said } };
}
