/**
 * Two workers over one shared memory, a guest and a device, with random sleeps, bursts, sizes and masks. Every message is checked
 * by sequence number and content; a lost wake-up shows as a sleep that ends by time-out.
 */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { PAGE_SIZE } from "../assembly/layout/context.ts";
import * as layout from "../assembly/layout/ring.ts";
import { RING_EMPTY, RING_FULL } from "../assembly/layout/status.ts";
import { Engine, type EngineHandle } from "../src/engine.ts";
import { RingPair, type RingPairHandle } from "../src/ring/pair.ts";

/** No sleep of a healthy run lasts so long: the peer is awake, or sleeps less. */
const LOST_MS = 20_000;
const MAX_PAYLOAD = 600;

interface Job {
	readonly side: "produce" | "consume";
	readonly handle: EngineHandle;
	readonly pair: RingPairHandle;
	readonly messages: number;
	readonly seed: number;
	readonly async: boolean;
}

interface SoakResult {
	readonly messages: number;
	readonly sleeps: number;
	readonly signals: number;
	readonly seconds: number;
}

/** xorshift32. */
function generator(seed: number): () => number {
	let x = seed | 1;
	return () => {
		x ^= x << 13;
		x ^= x >>> 17;
		x ^= x << 5;
		return x >>> 0;
	};
}

function lengthOf(sequence: number): number {
	return 8 + ((Math.imul(sequence, 0x9e3779b1) >>> 8) % (MAX_PAYLOAD - 8));
}

function fill(data: DataView, ptr: number, bytes: number, sequence: number): void {
	data.setUint32(ptr, sequence, true);
	for (let i = 4; i < bytes; i += 4) data.setUint32(ptr + i, Math.imul(sequence + i, 0x85ebca6b), true);
}

function holds(data: DataView, ptr: number, bytes: number, sequence: number): boolean {
	if (data.getUint32(ptr, true) !== sequence) return false;
	for (let i = 4; i + 4 <= bytes; i += 4)
		if (data.getInt32(ptr + i, true) !== Math.imul(sequence + i, 0x85ebca6b)) return false;
	return true;
}

function pause(ms: number): void {
	Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

async function produce(engine: Engine, job: Job): Promise<object> {
	let signals = 0;
	let sleeps = 0;
	const pair = RingPair.fromHandle(engine, job.pair, () => {
		signals++;
		pair.peerBell?.ring();
	});
	const { writer } = pair;
	const bell = pair.bell as NonNullable<typeof pair.bell>;
	const random = generator(job.seed);
	const { data } = engine.instance;
	const ptr = job.pair.scratch;
	const flush = () => {
		if (writer.publish() === 1) {
			signals++;
			pair.peerBell?.ring();
		}
	};
	let burst = 1;
	for (let i = 0; i < job.messages; ) {
		const bytes = lengthOf(i);
		fill(data, ptr, bytes, i);
		const status = writer.put(layout.PACKET_IN_BAND, i, 0, ptr, bytes);
		if (status === RING_FULL) {
			sleeps++;
			const there = job.async
				? await writer.waitForRoomAsync(bytes, bell, LOST_MS)
				: writer.waitForRoom(bytes, bell, LOST_MS);
			if (!there) throw new Error(`the producer slept for ever at message ${i}`);
			continue;
		}
		if (status !== 0) throw new Error(`message ${i}: status ${status}`);
		i++;
		if (--burst === 0) {
			flush();
			burst = 1 + (random() % 32);
			if (random() % 4096 === 0) {
				flush();
				pause(random() % 3);
			}
		}
	}
	flush();
	return { sleeps, signals };
}

async function consume(engine: Engine, job: Job): Promise<object> {
	let signals = 0;
	let sleeps = 0;
	const pair = RingPair.fromHandle(engine, job.pair, () => {
		signals++;
		pair.peerBell?.ring();
	});
	const { reader } = pair;
	const bell = pair.bell as NonNullable<typeof pair.bell>;
	const random = generator(job.seed ^ 0x5bd1e995);
	const { data } = engine.instance;
	reader.beginRead();
	let left = 1;
	for (let i = 0; i < job.messages; ) {
		const got = reader.next(random() & 1);
		if (got === RING_EMPTY) {
			sleeps++;
			const there = job.async ? await reader.waitForDataAsync(bell, LOST_MS) : reader.waitForData(bell, LOST_MS);
			if (!there) throw new Error(`the consumer slept for ever at message ${i}`);
			// sometimes unmask while awake: signals may then come at any moment
			if (random() % 8 === 0) reader.endRead();
			continue;
		}
		const bytes = lengthOf(i);
		if (got !== ((bytes + 7) & ~7)) throw new Error(`message ${i}: ${got} bytes, expected ${bytes}`);
		if (!holds(data, reader.packetPtr + 16, bytes, i)) throw new Error(`message ${i}: other content`);
		i++;
		if (--left === 0) {
			reader.advance();
			if (reader.release() === 1) {
				signals++;
				pair.peerBell?.ring();
			}
			left = 1 + (random() % 48);
			if (random() % 4096 === 0) pause(random() % 3);
		}
	}
	reader.advance();
	if (reader.release() === 1) pair.peerBell?.ring();
	return { sleeps, signals };
}

async function work(job: Job): Promise<void> {
	const engine = await Engine.attach(job.handle);
	parentPort?.postMessage(await (job.side === "produce" ? produce : consume)(engine, job));
}

function inWorker(job: Job): Promise<{ sleeps: number; signals: number }> {
	return new Promise((resolve, reject) => {
		const url = new URL(
			import.meta.url.endsWith(".ts") ? "../build/bench/ring-soak.js" : import.meta.url,
			import.meta.url,
		);
		const worker = new Worker(url, { workerData: job });
		worker.once("error", reject);
		worker.once("message", resolve);
		worker.once("exit", (code) =>
			reject(new Error(`the worker that should ${job.side} ended with code ${code} and no result`)),
		);
	});
}

/** Sends `messages` messages from a guest's worker to a device's. async: sleep with Atomics.waitAsync. @throws Error that names the message */
export async function soak(messages: number, seed: number, pages: number, async: boolean): Promise<SoakResult> {
	const engine = await Engine.create({
		ram: "1M",
		swiotlb: null,
		coco: false,
		build: "engine.threads",
		spareBytes: 2 ** 19,
	});
	// every other page: scattered, and wrapping at each turn
	const list = Array.from({ length: 2 * pages }, (_, i) => 0x10000 + 2 * i * PAGE_SIZE);
	const { guest, device } = RingPair.connect(engine, { pages: list, maxPacketBytes: 1024 });
	const common = { messages, seed, async };
	const started = Date.now();
	const [produced, consumed] = await Promise.all([
		inWorker({ ...common, side: "produce", handle: engine.handle(), pair: guest.handle }),
		inWorker({ ...common, side: "consume", handle: engine.handle(), pair: device.handle }),
	]);
	return {
		messages,
		sleeps: produced.sleeps + consumed.sleeps,
		signals: produced.signals + consumed.signals,
		seconds: (Date.now() - started) / 1000,
	};
}

if (!isMainThread && (workerData as Job | null)?.pair !== undefined) await work(workerData as Job);
