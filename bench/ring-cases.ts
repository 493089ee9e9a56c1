/** One-thread cases of the ring bench: each answers nanoseconds a message, written and read. */
import { PAGE_SIZE } from "../assembly/layout/context.ts";
import * as layout from "../assembly/layout/ring.ts";
import { Engine } from "../src/engine.ts";
import type { Build, EngineExports } from "../src/wasm.ts";
import { DataViewRing, ringbuf } from "./ring-baselines.ts";

export const RING_GPA = 0x100000;
/** Buffers may start at any of these offsets: one offset alone could meet the 4 KiB aliasing of the caches, or miss it. */
const OFFSETS = [0, 64, 200, 1040, 2048, 3000];
const SAMPLES = 144;
/** Short, so that most samples fit between two time slices of a busy machine. */
const SAMPLE_NS = 3e5;

/** The exports of assembly/bench/ring-index.ts. */
export interface RingLoops extends EngineExports {
	pingPong(writer: number, reader: number, from: number, to: number, bytes: number, count: number, how: number): number;
	batches(
		writer: number,
		reader: number,
		from: number,
		to: number,
		bytes: number,
		count: number,
		how: number,
		batch: number,
	): number;
	bursts(writer: number, reader: number, from: number, to: number, bytes: number, count: number, batch: number): number;
	bareCopies(
		reader: number,
		from: number,
		to: number,
		middle: number,
		bytes: number,
		count: number,
		copies: number,
	): number;
	produce(writer: number, from: number, bytes: number, count: number, burst: number): number;
	consume(reader: number, to: number, bytes: number, count: number, burst: number): number;
}

interface BenchRing {
	readonly engine: Engine;
	readonly loops: RingLoops;
	readonly writer: number;
	readonly reader: number;
	/** ptrs of three buffers, page-aligned, each with room for 16 packets of 16 KiB. */
	readonly buffers: readonly [from: number, to: number, middle: number];
	readonly pages: readonly number[];
}

/** A ring of `ringBytes` data bytes with both ends on one engine. */
export async function benchRing(ringBytes: number, scattered: boolean, build: Build): Promise<BenchRing> {
	const dataPages = ringBytes / PAGE_SIZE;
	const engine = await Engine.create({
		ram: [{ gpa: 0, bytes: RING_GPA + 2 * (dataPages + 1) * PAGE_SIZE }],
		swiotlb: null,
		coco: false,
		build,
		spareBytes: 2 ** 21,
	});
	const loops = engine.instance.exports as RingLoops;
	// a step that is prime to the page count: no two neighbours lie side by side
	const step = dataPages % 5 === 0 ? 7 : 5;
	const pages = [RING_GPA];
	for (let i = 0; i < dataPages; i++)
		pages.push(RING_GPA + PAGE_SIZE + (scattered ? ((i * step) % dataPages) * 2 : i) * PAGE_SIZE);
	const list = engine.scratch(pages.length * 8);
	for (const [i, gpa] of pages.entries()) engine.instance.data.setFloat64(list + 8 * i, gpa, true);
	const writer = loops.ringAttach(list, pages.length, layout.RING_INIT, 65536, 0);
	const reader = loops.ringAttach(list, pages.length, layout.RING_READER, 65536, 0);
	if (writer < 0 || reader < 0) throw new Error(`attach: ${writer}, ${reader}`);
	const room = 16 * (16384 + 16) + 2 * PAGE_SIZE;
	const buffer = () => Math.ceil(engine.scratch(room + PAGE_SIZE) / PAGE_SIZE) * PAGE_SIZE;
	return { engine, loops, writer, reader, pages, buffers: [buffer(), buffer(), buffer()] };
}

/** Packets of `bytes` payload that a ring holds at once, at most 16. */
function batchOf(ringBytes: number, bytes: number): number {
	return Math.min(16, Math.floor((ringBytes - 8) / (24 + ((bytes + 7) & ~7))));
}

/** Median ns a message of several bodies, sampled in turn so that noise meets them alike. body: runs `count` messages at a sample's offsets */
function sample(bodies: readonly ((count: number, sampleNumber: number) => void)[]): number[][] {
	const counts = bodies.map((body) => {
		for (let i = 0; i < 20; i++) body(64, i);
		let count = 64;
		while (true) {
			const from = process.hrtime.bigint();
			body(count, 0);
			const ns = Number(process.hrtime.bigint() - from);
			if (ns > SAMPLE_NS / 3) return Math.max(64, Math.ceil((count * SAMPLE_NS) / ns / 16) * 16);
			count *= 4;
		}
	});
	const ns: number[][] = bodies.map(() => []);
	for (let s = 0; s < SAMPLES; s++) {
		for (const [i, body] of bodies.entries()) {
			const count = counts[i] as number;
			const from = process.hrtime.bigint();
			body(count, s);
			(ns[i] as number[]).push(Number(process.hrtime.bigint() - from) / count);
		}
	}
	return ns;
}

export function median(values: readonly number[]): number {
	const sorted = [...values].sort((a, b) => a - b);
	const middle = sorted.length >> 1;
	return sorted.length % 2 === 1
		? (sorted[middle] as number)
		: ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

function right(mistakes: number): void {
	if (mistakes !== 0) throw new Error(`${mistakes} wrong messages`);
}

/** Where sample s has its buffers: source and destination move on their own. */
function placed(ring: BenchRing, s: number): { from: number; to: number; middle: number } {
	const [from, to, middle] = ring.buffers;
	const offset = (i: number) => OFFSETS[i % OFFSETS.length] as number;
	return { from: from + offset(s), to: to + offset(Math.floor(s / 2) + 1), middle: middle + offset(s + 3) };
}

/** A case's samples in ns a message, by name. */
export type Samples = Record<string, number[]>;

/** In-WASM loops, scattered against contiguous, against bare copies at the same offsets. */
export async function wasmCases(ringBytes: number, bytes: number): Promise<Samples> {
	const ring = await benchRing(ringBytes, false, "bench");
	const scattered = await benchRing(ringBytes, true, "bench");
	const batch = batchOf(ringBytes, bytes);
	const pingPong = (r: BenchRing, how: number) => (count: number, s: number) => {
		const { from, to } = placed(r, s);
		right(r.loops.pingPong(r.writer, r.reader, from, to, bytes, count, how));
	};
	const bare = (copies: number) => (count: number, s: number) => {
		const { from, to, middle } = placed(ring, s);
		right(ring.loops.bareCopies(ring.reader, from, to, middle, bytes, count, copies));
	};
	const whole = (count: number) => Math.ceil(count / batch) * batch;
	const batches = (how: number) => (count: number, s: number) => {
		const { from, to } = placed(ring, s);
		right(ring.loops.batches(ring.writer, ring.reader, from, to, bytes, whole(count), how, batch));
	};
	const bursts = (r: BenchRing) => (count: number, s: number) => {
		const { from, to } = placed(r, s);
		right(r.loops.bursts(r.writer, r.reader, from, to, bytes, whole(count), batch));
	};
	const named: Record<string, (count: number, s: number) => void> = {
		"bare 2 copies": bare(2),
		"bare 3 copies": bare(3),
		"ping-pong, read": pingPong(ring, 0),
		"ping-pong, in place": pingPong(ring, 1),
		"ping-pong, copy-out": pingPong(ring, 2),
		"ping-pong, read, scattered": pingPong(scattered, 0),
		"ping-pong, in place, scattered": pingPong(scattered, 1),
		...(batch > 1
			? {
					"batch, in place": batches(1),
					"batch, copy-out": batches(2),
					burst: bursts(ring),
					"burst, scattered": bursts(scattered),
				}
			: {}),
	};
	const samples = sample(Object.values(named));
	return Object.fromEntries(Object.keys(named).map((name, i) => [name, samples[i] as number[]]));
}

/** TypeScript drives the engine, one call a message and end; the in-WASM loop beside it. */
export async function callCases(ringBytes: number, bytes: number): Promise<Samples> {
	const ring = await benchRing(ringBytes, false, "bench");
	const { ringWrite, ringRead } = ring.loops;
	const { writer, reader } = ring;
	const calls = (count: number, s: number) => {
		const { from, to } = placed(ring, s);
		let wrong = 0;
		for (let i = 0; i < count; i++) {
			if (ringWrite(writer, layout.PACKET_IN_BAND, i, 0, from, bytes) < 0) wrong++;
			if (ringRead(reader, 0, to, bytes + 8) >> 1 < bytes) wrong++;
		}
		right(wrong);
	};
	const inWasm = (count: number, s: number) => {
		const { from, to } = placed(ring, s);
		right(ring.loops.pingPong(writer, reader, from, to, bytes, count, 0));
	};
	const [a, b] = sample([calls, inWasm]);
	return { "calls from TypeScript": a as number[], "the same in WASM": b as number[] };
}

/** Plain TypeScript over a DataView. */
export function dataViewCases(ringBytes: number, bytes: number): Samples {
	const memory = new ArrayBuffer(PAGE_SIZE + ringBytes + 8 * 65536);
	const ring = new DataViewRing(memory, 0, ringBytes);
	const at = PAGE_SIZE + ringBytes;
	const body = (count: number, s: number) => {
		const from = new Uint8Array(memory, at + (OFFSETS[s % OFFSETS.length] as number), bytes);
		const to = new Uint8Array(memory, at + 4 * 65536 + (OFFSETS[(s >> 1) % OFFSETS.length] as number), bytes + 8);
		let wrong = 0;
		for (let i = 0; i < count; i++) {
			if (ring.write(layout.PACKET_IN_BAND, 0, i, from) < 0) wrong++;
			if (ring.read(to) < bytes) wrong++;
		}
		right(wrong);
	};
	return { "plain TypeScript": sample([body])[0] as number[] };
}

/** ringbuf.js, one push and one pop a message: as its users call it. */
export function ringbufCases(ringBytes: number, bytes: number): Samples {
	const ring = ringbuf(ringBytes);
	const body = (count: number) => {
		const from = new Uint8Array(bytes);
		const to = new Uint8Array(bytes);
		let wrong = 0;
		for (let i = 0; i < count; i++) {
			if (ring.push(from) !== bytes) wrong++;
			if (ring.pop(to) !== bytes) wrong++;
		}
		right(wrong);
	};
	return { "ringbuf.js": sample([body])[0] as number[] };
}
