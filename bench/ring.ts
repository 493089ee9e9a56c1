/** Suite ring: VMBus rings against what people would use instead. Every variant runs in its own process, in turn. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { PAGE_SIZE } from "../assembly/layout/context.ts";
import * as layout from "../assembly/layout/ring.ts";
import { DataViewRing, ringbuf } from "./ring-baselines.ts";
import {
	benchRing,
	callCases,
	dataViewCases,
	median,
	RING_GPA,
	ringbufCases,
	type Samples,
	wasmCases,
} from "./ring-cases.ts";
import { PAYLOAD_BYTES, type RingReport, type RingResult, targets } from "./ring-report.ts";
import { type ThreadVariant, twoWorkers } from "./ring-threads.ts";

export const RING_BYTES = [65536, 262144, 1048576];

/** Variants that one process each measures, and the cases that they answer. */
const VARIANTS: Record<string, (ringBytes: number, bytes: number) => Samples | Promise<Samples>> = {
	wasm: wasmCases,
	calls: callCases,
	dataview: dataViewCases,
	ringbuf: ringbufCases,
};

/** Two-worker variants: name, and messages of a burst. */
export const THREAD_VARIANTS: readonly (readonly [name: string, variant: ThreadVariant, burst: number])[] = [
	["ringbuf.js, one by one", "ringbuf", 1],
	["engine, one by one", "engine", 1],
	["engine, bursts of 16", "engine", 16],
	["calls from TypeScript, one by one", "calls", 1],
	["calls from TypeScript, bursts of 16", "calls", 16],
];

/** Checks that every variant moves the same bytes, before anything is timed. @throws Error that names the variant */
async function agree(): Promise<void> {
	const ringBytes = 65536;
	const ring = await benchRing(ringBytes, false, "bench");
	const plain = new DataViewRing(new ArrayBuffer(PAGE_SIZE + ringBytes), 0, ringBytes);
	const queue = ringbuf(ringBytes);
	const { loops, engine, writer, reader, buffers } = ring;
	const out = new Uint8Array(20000);
	for (let i = 0; i < 400; i++) {
		const bytes = (i * 2654435761) % 16385;
		const payload = Uint8Array.from({ length: bytes }, (_, k) => i + 31 * k);
		engine.instance.bytes.set(payload, buffers[0]);
		const signal = loops.ringWrite(writer, layout.PACKET_IN_BAND, i, 0, buffers[0], bytes);
		if (plain.write(layout.PACKET_IN_BAND, 0, i, payload) !== signal) throw new Error(`message ${i}: signals differ`);
		queue.push(payload);
		const image = engine.ram.view(RING_GPA, PAGE_SIZE + ringBytes);
		if (Buffer.compare(image, plain.bytes) !== 0) throw new Error(`message ${i}: plain TypeScript writes other bytes`);
		const got = loops.ringRead(reader, 0, buffers[1], 20000) >> 1;
		const expected = Buffer.from(payload);
		const same = (found: Uint8Array) => expected.equals(found.subarray(0, bytes));
		if (got < bytes || !same(engine.instance.bytes.subarray(buffers[1], buffers[1] + got)))
			throw new Error(`message ${i}: engine`);
		if (plain.read(out) !== got || !same(out)) throw new Error(`message ${i}: plain TypeScript reads other bytes`);
		if (queue.pop(out, bytes) !== bytes || !same(out)) throw new Error(`message ${i}: ringbuf.js reads other bytes`);
	}
}

/** Runs one variant in its own process. file: this one, of this build or of another */
export function inProcess(
	variant: string,
	ringBytes: number,
	bytes: number,
	file: URL | string = import.meta.url,
): Samples {
	const script = fileURLToPath(file);
	const child = spawnSync(process.execPath, [script, "--variant", variant, String(ringBytes), String(bytes)], {
		encoding: "utf8",
		maxBuffer: 2 ** 26,
	});
	if (child.status !== 0) throw new Error(`${variant}: ${child.stderr}`);
	return JSON.parse(child.stdout) as Samples;
}

/** One thread: every variant at every size, `rounds` processes each, in turn. */
function oneThread(rings: readonly number[], sizes: readonly number[], rounds: number): RingResult[] {
	const results: RingResult[] = [];
	for (const ringBytes of rings) {
		for (const bytes of sizes) {
			const samples = new Map<string, number[]>();
			for (let round = 0; round < rounds; round++) {
				for (const variant of Object.keys(VARIANTS)) {
					for (const [name, found] of Object.entries(inProcess(variant, ringBytes, bytes)))
						samples.set(name, [...(samples.get(name) ?? []), ...found]);
				}
			}
			for (const [name, found] of samples) results.push({ name, ringBytes, bytes, ns: median(found), samples: found });
		}
	}
	return results;
}

/** Two workers: every variant at 64 B and 4 KiB, in turn. */
async function twoThreads(ringBytes: number, rounds: number): Promise<RingResult[]> {
	const results: RingResult[] = [];
	for (const bytes of [64, 4096]) {
		const samples = new Map<string, number[]>();
		for (let round = 0; round < rounds; round++) {
			for (const [name, variant, burst] of THREAD_VARIANTS) {
				const count = 16 * (bytes === 64 ? 1000 : 100);
				const found = await twoWorkers(variant, ringBytes, bytes, count, burst, 60);
				samples.set(name, [...(samples.get(name) ?? []), ...found]);
			}
		}
		for (const [name, found] of samples)
			results.push({ name: `two workers: ${name}`, ringBytes, bytes, ns: median(found), samples: found });
	}
	return results;
}

/**
 * Runs suite ring: every variant in its own process, `rounds` times in turn.
 * @param quick one ring size and three payloads
 * @throws Error when variants disagree or a process breaks
 */
export async function runRing(rounds: number, quick: boolean, progress: (what: string) => void): Promise<RingReport> {
	progress("ring: do all variants move the same bytes?");
	await agree();
	progress("ring: one thread");
	const one = oneThread(quick ? [262144] : RING_BYTES, quick ? [64, 1024, 4096] : PAYLOAD_BYTES, rounds);
	progress("ring: two workers");
	const results = [...one, ...(await twoThreads(262144, rounds))];
	return { results, targets: targets(results) };
}

const [, script, flag, name, ringBytes, bytes] = process.argv;
if (script === fileURLToPath(import.meta.url) && flag === "--variant") {
	process.stdout.write(JSON.stringify(await VARIANTS[name as string]?.(Number(ringBytes), Number(bytes))));
}
