/**
 * Rings against what people would use instead. `node build/bench/ring.js [--quick] [--json FILE]`.
 * Every variant runs in its own process, several times in turn; what is printed is the median, and ratios of one run.
 */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { fileURLToPath } from "node:url";
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
import { type ThreadVariant, twoWorkers } from "./ring-threads.ts";

export const PAYLOAD_BYTES = [16, 64, 256, 1024, 4096, 16384];
export const RING_BYTES = [65536, 262144, 1048576];

/** Variants that one process each measures, and the cases that they answer. */
export const VARIANTS: Record<string, (ringBytes: number, bytes: number) => Samples | Promise<Samples>> = {
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
export async function agree(): Promise<void> {
	const ringBytes = 65536;
	const ring = await benchRing(ringBytes, false, "ring-bench");
	const plain = new DataViewRing(new ArrayBuffer(4096 + ringBytes), 0, ringBytes);
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
		const image = engine.ram.view(RING_GPA, 4096 + ringBytes);
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

/** Runs one variant in its own process. */
function inProcess(variant: string, ringBytes: number, bytes: number): Samples {
	const script = fileURLToPath(import.meta.url);
	const child = spawnSync(process.execPath, [script, "--variant", variant, String(ringBytes), String(bytes)], {
		encoding: "utf8",
		maxBuffer: 2 ** 26,
	});
	if (child.status !== 0) throw new Error(`${variant}: ${child.stderr}`);
	return JSON.parse(child.stdout) as Samples;
}

/** A measured case. `samples` are ns a message. */
export interface RingResult {
	readonly name: string;
	readonly ringBytes: number;
	readonly bytes: number;
	readonly ns: number;
	readonly samples: readonly number[];
}

/** One thread: every variant at every size, `rounds` processes each, in turn. */
export function oneThread(rings: readonly number[], sizes: readonly number[], rounds: number): RingResult[] {
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
export async function twoThreads(ringBytes: number, rounds: number): Promise<RingResult[]> {
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

/** A target of the project: what is compared, the ratio or figure found, and the most (or least) it may be. */
export interface Target {
	readonly what: string;
	readonly found: number;
	readonly limit: number;
	readonly met: boolean;
}

/** The targets that the results answer. Ratios of one process are medians of paired samples. */
export function targets(results: readonly RingResult[]): Target[] {
	const find = (name: string, bytes: number, ringBytes = 262144) =>
		results.find((r) => r.name === name && r.bytes === bytes && r.ringBytes === ringBytes);
	const list: Target[] = [];
	const most = (what: string, found: number | undefined, limit: number) => {
		if (found !== undefined) list.push({ what, found, limit, met: found <= limit });
	};
	const least = (what: string, found: number | undefined, limit: number) => {
		if (found !== undefined) list.push({ what, found, limit, met: found >= limit });
	};
	const paired = (a: string, b: string, bytes: number, combine: (a: number, b: number) => number) => {
		const [x, y] = [find(a, bytes), find(b, bytes)];
		if (x === undefined || y === undefined) return undefined;
		return median(x.samples.map((value, i) => combine(value, y.samples[i] as number)));
	};
	const ratio = (a: number, b: number) => a / b;
	most("64 B written and read in WASM (ns)", find("ping-pong, read", 64)?.ns, 20);
	most("1 KiB written and read in WASM (ns)", find("ping-pong, read", 1024)?.ns, 45);
	most("4 KiB in place / 2 bare copies", paired("ping-pong, in place", "bare 2 copies", 4096, ratio), 1.3);
	most("4 KiB copy-out / 3 bare copies", paired("ping-pong, copy-out", "bare 3 copies", 4096, ratio), 1.3);
	for (const bytes of PAYLOAD_BYTES) {
		const found = paired("ping-pong, read, scattered", "ping-pong, read", bytes, ratio);
		most(`scattered / contiguous, ${bytes} B`, found, 1.3);
	}
	for (const bytes of [64, 1024, 4096]) {
		const found = paired("calls from TypeScript", "the same in WASM", bytes, (a, b) => a - b);
		most(`TypeScript above WASM, ${bytes} B (ns)`, found, 12);
	}
	for (const bytes of [64, 4096]) {
		const base = find("two workers: ringbuf.js, one by one", bytes)?.ns;
		const burst = find("two workers: engine, bursts of 16", bytes)?.ns;
		const single = find("two workers: engine, one by one", bytes)?.ns;
		if (base === undefined || burst === undefined || single === undefined) continue;
		least(`two workers, bursts of 16: times ringbuf.js, ${bytes} B`, base / burst, 8);
		least(`two workers, one by one: times ringbuf.js, ${bytes} B`, base / single, 1);
	}
	return list;
}

function size(bytes: number): string {
	return bytes >= 1048576 ? `${bytes / 1048576} MiB` : bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} B`;
}

function table(results: readonly RingResult[], ringBytes: number): string {
	const here = results.filter((result) => result.ringBytes === ringBytes);
	const names = [...new Set(here.map(({ name }) => name))];
	const sizes = [...new Set(here.map(({ bytes }) => bytes))];
	const lines = [
		`ring of ${size(ringBytes)}, ns a message`.padEnd(46) + sizes.map((bytes) => size(bytes).padStart(9)).join(""),
	];
	for (const name of names) {
		const cells = sizes.map((bytes) => here.find((r) => r.name === name && r.bytes === bytes)?.ns.toFixed(1) ?? "-");
		lines.push(name.padEnd(46) + cells.map((cell) => cell.padStart(9)).join(""));
	}
	return lines.join("\n");
}

async function main(args: readonly string[]): Promise<void> {
	const variant = args.indexOf("--variant");
	if (variant >= 0) {
		const [name, ringBytes, bytes] = args.slice(variant + 1);
		const samples = await VARIANTS[name as string]?.(Number(ringBytes), Number(bytes));
		process.stdout.write(JSON.stringify(samples));
		return;
	}
	const quick = args.includes("--quick");
	console.log(`${cpus()[0]?.model}, ${cpus().length} CPUs, load ${loadavg()[0]?.toFixed(2)}, Node ${process.version}`);
	await agree();
	console.log("all variants move the same bytes\n");
	const rings = quick ? [262144] : RING_BYTES;
	const results = [
		...oneThread(rings, quick ? [64, 1024, 4096] : PAYLOAD_BYTES, quick ? 1 : 3),
		...(await twoThreads(262144, quick ? 3 : 7)),
	];
	for (const ringBytes of rings) console.log(`${table(results, ringBytes)}\n`);
	for (const { what, found, limit, met } of targets(results))
		console.log(`${met ? "met   " : "MISSED"} ${what.padEnd(56)} ${found.toFixed(2).padStart(8)}  target ${limit}`);
	console.log(
		"\nringbuf.js is called once a message, as its users call it; the engine's loops run inside WASM, its calls from TypeScript.",
	);
	const json = args.indexOf("--json");
	if (json >= 0) {
		const facts = { cpu: cpus()[0]?.model, node: process.version, date: new Date().toISOString() };
		writeFileSync(args[json + 1] as string, JSON.stringify({ ...facts, results, targets: targets(results) }));
	}
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
