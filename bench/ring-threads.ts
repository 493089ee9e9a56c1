/** Two workers, one producing and one consuming: the engine's loops, TypeScript calls, and ringbuf.js. Runs as its own worker. */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { RingBuffer } from "ringbuf.js";
import * as layout from "../assembly/layout/ring.ts";
import { RING_EMPTY } from "../assembly/layout/status.ts";
import { Engine, type EngineHandle } from "../src/engine.ts";
import { benchRing, type RingLoops } from "./ring-cases.ts";

export type ThreadVariant = "engine" | "calls" | "ringbuf";

const WARM_UP = 5;

interface Job {
	readonly variant: ThreadVariant;
	readonly side: "produce" | "consume";
	readonly bytes: number;
	readonly count: number;
	readonly burst: number;
	/** Rounds of `count` messages; many short ones, so that a time slice lost spoils one and not the median. */
	readonly rounds: number;
	/** One counter: how often a side was ready for a round. */
	readonly gate: SharedArrayBuffer;
	readonly handle?: EngineHandle;
	readonly ring?: number;
	readonly buffer?: number;
	readonly storage?: SharedArrayBuffer;
}

/** Tells that this side is ready for a round, and waits for the other. */
function meet(gate: SharedArrayBuffer, round: number): void {
	const words = new Int32Array(gate);
	Atomics.add(words, 0, 1);
	while (Atomics.load(words, 0) < 2 * (round + 1));
}

async function engineSide(job: Job): Promise<() => number> {
	const engine = await Engine.attach(job.handle as EngineHandle);
	const loops = engine.instance.exports as RingLoops;
	const [ring, buffer, { bytes, count, burst, side }] = [job.ring as number, job.buffer as number, job];
	// warm up on nothing: an empty run still compiles the loop's way in
	if (job.variant === "engine") {
		return () =>
			side === "produce"
				? loops.produce(ring, buffer, bytes, count, burst)
				: loops.consume(ring, buffer, bytes, count, burst);
	}
	return () => (side === "produce" ? callsProduce : callsConsume)(loops, ring, buffer, bytes, count, burst);
}

function callsProduce(
	loops: RingLoops,
	ring: number,
	ptr: number,
	bytes: number,
	count: number,
	burst: number,
): number {
	const { ringPut, ringPublish } = loops;
	for (let i = 0, open = 0; i < count; ) {
		if (ringPut(ring, layout.PACKET_IN_BAND, i, 0, ptr, bytes) === 0) {
			i++;
			if (++open < burst) continue;
		}
		ringPublish(ring);
		open = 0;
	}
	ringPublish(ring);
	return 0;
}

function callsConsume(
	loops: RingLoops,
	ring: number,
	ptr: number,
	bytes: number,
	count: number,
	burst: number,
): number {
	const { ringRead, ringReadBurst } = loops;
	let wrong = 0;
	for (let i = 0; i < count; ) {
		const got = burst === 1 ? ringRead(ring, 0, ptr, bytes + 8) : ringReadBurst(ring, ptr, burst * (bytes + 24), burst);
		if (got === RING_EMPTY) continue;
		if (got < 0) wrong++;
		i += burst === 1 ? 1 : got >> 1;
	}
	return wrong;
}

function ringbufSide({ storage, side, bytes, count }: Job): () => number {
	const ring = new RingBuffer(storage as SharedArrayBuffer, Uint8Array);
	const message = new Uint8Array(bytes);
	const word = new Uint32Array(message.buffer, 0, 1);
	return () => {
		let wrong = 0;
		for (let i = 0; i < count; i++) {
			if (side === "produce") {
				word[0] = i;
				while (ring.available_write() < bytes);
				ring.push(message);
			} else {
				while (ring.available_read() < bytes);
				ring.pop(message);
				if (word[0] !== i) wrong++;
			}
		}
		return wrong;
	};
}

async function work(job: Job): Promise<void> {
	const run = job.variant === "ringbuf" ? ringbufSide(job) : await engineSide(job);
	const ns: number[] = [];
	let wrong = 0;
	for (let round = 0; round < job.rounds; round++) {
		meet(job.gate, round);
		const from = process.hrtime.bigint();
		wrong += run();
		ns.push(Number(process.hrtime.bigint() - from) / job.count);
	}
	parentPort?.postMessage({ wrong, ns });
}

function inWorker(job: Job): Promise<number[]> {
	return new Promise((resolve, reject) => {
		const url = new URL(
			import.meta.url.endsWith(".ts") ? "../build/bench/ring-threads.js" : import.meta.url,
			import.meta.url,
		);
		const worker = new Worker(url, { workerData: job });
		worker.once("error", reject);
		worker.once("message", ({ wrong, ns }: { wrong: number; ns: number[] }) =>
			wrong === 0 ? resolve(ns) : reject(new Error(`${wrong} wrong messages (${job.variant}, ${job.side})`)),
		);
	});
}

/** `rounds` rounds over a new ring, after some that only warm up. @returns ns a message of each round, as the slower side saw it */
export async function twoWorkers(
	variant: ThreadVariant,
	ringBytes: number,
	bytes: number,
	count: number,
	burst: number,
	rounds: number,
): Promise<number[]> {
	const common = { variant, bytes, count, burst, rounds: rounds + WARM_UP, gate: new SharedArrayBuffer(4) };
	if (variant === "ringbuf") {
		const storage = RingBuffer.getStorageForCapacity(ringBytes, Uint8Array);
		const sides = (["produce", "consume"] as const).map((side) => inWorker({ ...common, side, storage }));
		return slower(await Promise.all(sides));
	}
	const { engine, writer, reader, buffers } = await benchRing(ringBytes, false, "bench.threads");
	const sides = [
		inWorker({ ...common, side: "produce", handle: engine.handle(), ring: writer, buffer: buffers[0] + 64 }),
		inWorker({ ...common, side: "consume", handle: engine.handle(), ring: reader, buffer: buffers[1] + 1040 }),
	];
	return slower(await Promise.all(sides));
}

function slower([a, b]: number[][]): number[] {
	return (a as number[]).map((ns, i) => Math.max(ns, b?.[i] as number)).slice(WARM_UP);
}

if (!isMainThread && (workerData as Job | null)?.gate !== undefined) await work(workerData as Job);
