/** Suite map: bounced and direct mappings with their copies. */
import { BENCH_DIGEST } from "../assembly/bench/layout.ts";
import { formatBytes } from "../src/bytes.ts";
import { Direction } from "../src/types.ts";
import type { MapCase } from "./map-case.ts";
import { openPair } from "./pair.ts";
import { PlainSlots, PlainState } from "./plain.ts";
import { MIB, openStage, type Stage } from "./stage.ts";
import type { Runner, Suite, Target } from "./suite.ts";

const DEPTH = 32;

/** Originals: 1 MiB of them, or one for each mapping in flight. */
function windowOf(of: MapCase): number {
	return Math.max(MIB, 2 * DEPTH * of.bytes);
}

/** Operations of a check: twice around the pool. */
function checkOps(of: MapCase): number {
	return Math.max(512, (2 * of.poolBytes) / Math.max(of.bytes, 2048));
}

function bounce(bytes: number, dir: Direction, poolMib: number, odd = false): MapCase {
	const copies = dir === Direction.FromDevice ? "FROM_DEVICE" : "TO_DEVICE";
	const targets: Target[] =
		poolMib === 16 && bytes >= 4096 ? [{ of: "memory.copy", over: "engine", atLeast: 0.7 }] : [];
	return {
		name: `${formatBytes(bytes)} ${copies}, ${poolMib} MiB pool${odd ? ", originals at odd lines, no min_align_mask" : ""}`,
		bytes,
		dir,
		poolBytes: poolMib * MIB,
		minAlignMask: odd ? 0 : 0xfff,
		step: Math.max(bytes, 4096) + (odd ? 192 : 0),
		kind: "bounce",
		targets,
	};
}

const SIZES = [512, 4096, 16384, 65536, 262144];

const cases: MapCase[] = [
	...[16, 64].flatMap((mib) =>
		[Direction.ToDevice, Direction.FromDevice].flatMap((dir) => SIZES.map((bytes) => bounce(bytes, dir, mib))),
	),
	bounce(4096, Direction.ToDevice, 16, true),
	bounce(65536, Direction.ToDevice, 16, true),
	...[4096, 262144].map((bytes) => ({
		...bounce(bytes, Direction.ToDevice, 16),
		name: `${formatBytes(bytes)} direct`,
		kind: "direct" as const,
		targets: [],
	})),
	...[Direction.ToDevice, Direction.FromDevice].flatMap((dir) =>
		[512, 4096, 65536].map((bytes) => {
			const plain = bounce(bytes, dir, 16);
			return { ...plain, name: `${plain.name}, slots left or zeroed`, kind: "zeroing" as const, targets: [] };
		}),
	),
	...[4096, 65536].map((bytes) => ({
		...bounce(bytes, Direction.ToDevice, 16),
		name: `${formatBytes(bytes)} TO_DEVICE, 2 areas of 8 MiB, a worker each`,
		kind: "workers" as const,
		targets: bytes === 4096 ? [{ of: "1 worker", over: "2 workers", atLeast: 1.7 }] : [],
	})),
];

function digestOf(stage: Stage, of: MapCase): string {
	const { exports, ramPtr, engine, bench } = stage;
	// zeroing changes the slots, and nothing else
	const poolBytes = of.kind === "zeroing" ? 0 : of.poolBytes;
	const bytes = exports.hashBytes(ramPtr, stage.ramBytes + poolBytes) >>> 0;
	return `addresses ${engine.instance.u32(bench + BENCH_DIGEST)}, bytes ${bytes}`;
}

function mapper(stage: Stage, of: MapCase): (ops: number, moves: number) => void {
	const device = stage.engine.addDevice({ minAlignMask: of.minAlignMask, trusted: of.kind === "direct" }).index;
	const { exports, bench, base } = stage;
	const window = windowOf(of);
	return (ops, moves) => {
		const refused = exports.mapRun(device, bench, base, of.step, window, of.bytes, of.dir, 0, DEPTH, ops, moves);
		if (refused !== 0) throw new Error(`${refused} calls were refused`);
	};
}

async function stageFor(build: "bench" | "bench.reference", of: MapCase): Promise<Stage> {
	// the last original may reach beyond the window
	return openStage(build, of.poolBytes, windowOf(of) + MIB);
}

async function openEngine(build: "bench" | "bench.reference", of: MapCase): Promise<Runner> {
	const stage = await stageFor(build, of);
	const map = mapper(stage, of);
	return {
		batch: (ops) => map(ops, 0),
		check() {
			map(checkOps(of), stage.list);
			return digestOf(stage, of);
		},
	};
}

/** The engine with a pool that zeroes slots when they are given back. */
async function openZeroing(of: MapCase): Promise<Runner> {
	const stage = await openStage("bench", of.poolBytes, windowOf(of) + MIB, 1, { zeroOnFree: true });
	const map = mapper(stage, of);
	const { engine, exports, bench, pool } = stage;
	return {
		batch: (ops) => map(ops, 0),
		check() {
			map(checkOps(of), stage.list);
			const digest = digestOf(stage, of);
			exports.mapDrain(engine.devices.length - 1, bench, of.bytes, of.dir, DEPTH);
			if (engine.ram.view(pool.start, pool.bytes).some((byte) => byte !== 0)) throw new Error("slots are not zero");
			return digest;
		},
	};
}

/** The copies of an engine's run, over the same addresses in the same order, and nothing else. */
async function openBare(of: MapCase): Promise<Runner> {
	const recorded = await stageFor("bench", of);
	mapper(recorded, of)(checkOps(of), recorded.list);
	const back = of.dir === Direction.FromDevice;
	const count = checkOps(of) * (back ? 2 : 1);
	const bytes = new Uint8Array(recorded.engine.memory.buffer);
	const moves = bytes.slice(recorded.list, recorded.list + count * 8);
	const addresses = recorded.engine.instance.u32(recorded.bench + BENCH_DIGEST);
	// memory as it was before the run
	const stage = await stageFor("bench", of);
	bytes.set(moves, stage.list);
	stage.engine.instance.data.setUint32(stage.bench + BENCH_DIGEST, addresses, true);
	let at = 0;
	const batch = (ops: number): void => {
		at = stage.exports.movesRun(stage.list, count, at, of.bytes, back ? 1 : 0, back ? 2 * ops : ops);
	};
	return {
		batch,
		check() {
			batch(checkOps(of));
			return digestOf(stage, of);
		},
	};
}

async function openPlain(of: MapCase): Promise<Runner> {
	const stage = await stageFor("bench", of);
	const slots = new PlainSlots(of.poolBytes / 2048);
	const state = new PlainState();
	const bytes = new Uint8Array(stage.engine.memory.buffer);
	const words = new Uint32Array(stage.engine.memory.buffer);
	const poolGpa = stage.base + stage.ramBytes;
	const poolPtr = stage.ramPtr + stage.ramBytes;
	const window = windowOf(of);
	const back = of.dir === Direction.FromDevice;
	const { step, bytes: n, minAlignMask } = of;
	const ring = new Int32Array(DEPTH);
	const origins = new Float64Array(of.poolBytes / 2048);
	let count = 0;
	function batch(ops: number): void {
		for (let i = 0; i < ops; i++) {
			const at = count % DEPTH;
			if (count >= DEPTH) {
				const slot = ring[at] as number;
				const from = poolPtr + slot * 2048;
				if (back) bytes.copyWithin(origins[slot] as number, from, from + n);
				slots.give(slot);
			}
			const orig = stage.ramPtr + (Math.imul(count, step) & (window - 1));
			const slot = slots.take(n, minAlignMask);
			const to = poolPtr + slot * 2048;
			bytes.copyWithin(to, orig, orig + n);
			origins[slot] = orig;
			ring[at] = slot;
			if (back) {
				words[to >> 2] = count;
				words[(to >> 2) + 1] = 0;
			}
			count++;
		}
	}
	return {
		batch,
		check() {
			const ops = checkOps(of);
			for (let i = 0; i < ops; i++) {
				batch(1);
				state.add((poolGpa + (ring[(count - 1) % DEPTH] as number) * 2048) | 0);
			}
			stage.engine.instance.data.setUint32(stage.bench + BENCH_DIGEST, state.digest >>> 0, true);
			return digestOf(stage, of);
		},
	};
}

export const map: Suite<MapCase> = {
	name: "map",
	about: `map and unmap with the copies, ${DEPTH} in flight, FIFO: the pool is walked from end to end. memory.copy: the very same copies bare, recorded from a run of the engine; FROM_DEVICE copies in and back. reference and TypeScript as in slots, TypeScript with copyWithin. zero on free: a pool whose slots are zeroed when they are given back.`,
	variants: ["engine", "memory.copy", "reference", "TypeScript", "zero on free", "1 worker", "2 workers"],
	engine: ["engine", "zero on free", "1 worker", "2 workers"],
	cases,
	async open(variant, of) {
		if (variant.includes("worker")) return of.kind === "workers" ? openPair(variant === "2 workers" ? 2 : 1, of) : null;
		if (of.kind === "workers") return null;
		if (variant === "engine") return openEngine("bench", of);
		if (variant === "zero on free") return of.kind === "zeroing" ? openZeroing(of) : null;
		if (of.kind === "zeroing" || of.kind === "direct") return null;
		if (variant === "reference") return openEngine("bench.reference", of);
		return variant === "memory.copy" ? openBare(of) : openPlain(of);
	},
};
