/** An engine for one case, on a memory that all cases of a process share: no memory is left over between them. */
import { BENCH_BYTES, BENCH_SEED } from "../assembly/bench/layout.ts";
import { Engine } from "../src/engine.ts";
import type { Pool, PoolOptions } from "../src/swiotlb/pool.ts";
import type { Build, EngineExports } from "../src/wasm.ts";

/** The exports of assembly/bench, where they are documented. */
export interface BenchExports extends EngineExports {
	copyRun(
		kernel: number,
		to: number,
		from: number,
		n: number,
		step: number,
		window: number,
		at: number,
		ops: number,
	): number;
	mapRun(
		device: number,
		bench: number,
		base: number,
		step: number,
		window: number,
		bytes: number,
		dir: number,
		cpu: number,
		depth: number,
		ops: number,
		moves: number,
	): number;
	mapDrain(device: number, bench: number, bytes: number, dir: number, depth: number): number;
	movesRun(moves: number, count: number, at: number, bytes: number, stamp: number, ops: number): number;
	slotsFragment(device: number, bench: number, maxSlots: number, keep: number, list: number): number;
	slotsOddPairs(device: number): void;
	slotsPrime(device: number, bench: number, bytes: number, depth: number): void;
	slotsRun(device: number, bench: number, bytes: number, depth: number, randomly: number, ops: number): void;
	slotsFail(device: number, bytes: number, cold: number, ops: number): number;
	hashBytes(ptr: number, n: number): number;
}

export const MIB = 2 ** 20;
/** Seed of every random sequence. */
export const SEED = 0x2545f491;
/** ptr of the bench record, and of the lists behind it. */
const BENCH_PTR = 65536;
const LIST_PTR = BENCH_PTR + BENCH_BYTES;
const CONTEXT_PTR = 2 * MIB;
const CONTEXT_ROOM = 6 * MIB;
const RAM_PTR = CONTEXT_PTR + CONTEXT_ROOM;
const MEMORY_BYTES = 208 * MIB;

const memories = new Map<boolean, WebAssembly.Memory>();

function memoryFor(shared: boolean): WebAssembly.Memory {
	let memory = memories.get(shared);
	if (memory === undefined) {
		const initial = MEMORY_BYTES / 65536;
		memory = new WebAssembly.Memory(shared ? { initial, maximum: 65536, shared } : { initial });
		memories.set(shared, memory);
	}
	return memory;
}

export interface Stage {
	readonly engine: Engine;
	readonly exports: BenchExports;
	readonly pool: Pool;
	/** ptr of the bench record. */
	readonly bench: number;
	/** ptr of nearly 2 MiB for lists. */
	readonly list: number;
	/** ptr of the gpa `base`. */
	readonly ramPtr: number;
	/** gpa of the first byte of RAM: never 0, which is special to Linux. */
	readonly base: number;
	/** Bytes of RAM in front of the pool. */
	readonly ramBytes: number;
}

/**
 * Sets a pool up behind `ramBytes` of RAM, and the audit of a build that has one behind the pool; all of it is touched.
 */
export async function openStage(
	build: Build,
	poolBytes: number,
	ramBytes: number,
	areas = 1,
	options: PoolOptions = {},
): Promise<Stage> {
	const base = MIB;
	const memory = memoryFor(build.includes("threads"));
	new Uint8Array(memory.buffer, BENCH_PTR, CONTEXT_PTR + CONTEXT_ROOM - BENCH_PTR).fill(0);
	const ram = [{ gpa: base, bytes: ramBytes + poolBytes, ptr: RAM_PTR }];
	const auditBytes = build === "engine.audit" ? Engine.auditBytes({ ram, swiotlb: null }) : 0;
	const audit = { ptr: RAM_PTR + ramBytes + poolBytes, bytes: auditBytes };
	if (auditBytes > 0) new Uint8Array(memory.buffer, audit.ptr, audit.bytes).fill(1);
	const engine = await Engine.create({
		build,
		swiotlb: null,
		memory,
		context: { ptr: CONTEXT_PTR, bytes: CONTEXT_ROOM },
		spareBytes: 4 * MIB,
		ram,
		...(auditBytes > 0 ? { audit } : {}),
	});
	const pool = engine.addPool({ slabs: poolBytes / 2048, areas }, { ...options, start: base + ramBytes });
	const words = new Uint32Array(memory.buffer, RAM_PTR, ramBytes / 4);
	for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 0x9e3779b1);
	engine.instance.data.setUint32(BENCH_PTR + BENCH_SEED, SEED, true);
	return {
		engine,
		exports: engine.instance.exports as BenchExports,
		pool,
		bench: BENCH_PTR,
		list: LIST_PTR,
		ramPtr: RAM_PTR,
		base,
		ramBytes,
	};
}
