/** Suite calls: what it costs to map from TypeScript. */
import { getHeapStatistics } from "node:v8";
import { BENCH_BYTES, BENCH_COUNT, BENCH_RING } from "../assembly/bench/layout.ts";
import type { Device } from "../src/dma/device.ts";
import { Engine } from "../src/engine.ts";
import { Direction } from "../src/types.ts";
import { type BenchExports, MIB } from "./stage.ts";
import type { Case, Runner, Suite } from "./suite.ts";

const WINDOW = MIB;
const STEP = 4096;
const POOL_BYTES = 16 * MIB;
const CHECK_OPS = 5000;
const ALLOCATION_MAPS = 1_000_000;
const PIECES = 100;

interface CallsCase extends Case {
	readonly request: number;
	readonly bounce: boolean;
	/** gpa of the first byte of RAM. */
	readonly base: number;
	readonly allocation: boolean;
}

const PLACES = [
	{ where: "below 2 GiB", base: MIB },
	{ where: "above 4 GiB", base: 2 ** 32 + 2 ** 30 },
];
const KINDS = [
	{ kind: "direct, 4 KiB", request: 4096, bounce: false },
	{ kind: "bounced, 512 B", request: 512, bounce: true },
];

const cases: CallsCase[] = [
	...KINDS.flatMap(({ kind, ...rest }) =>
		PLACES.map(({ where, base }) => ({
			name: `${kind}, addresses ${where}`,
			...rest,
			base,
			allocation: false,
			targets: [{ of: "TypeScript", minus: "WebAssembly", atMost: 15 }],
		})),
	),
	...KINDS.flatMap(({ kind, ...rest }) =>
		PLACES.map(({ where, base }) => ({
			name: `${ALLOCATION_MAPS.toLocaleString("en")} maps and unmaps, ${kind}, addresses ${where}`,
			...rest,
			base,
			allocation: true,
			unit: "bytes" as const,
			targets: [{ of: "allocation", atMost: MIB }],
		})),
	),
];

/** The address that the last map answered: in a typed array, since a number above 2^31 in a variable may be boxed. */
const last = new Float64Array(1);

/** `ops` times a map and, before the next one, its unmap. */
function mapAndUnmap(device: Device, base: number, request: number, ops: number): void {
	for (let i = 0; i < ops; i++) {
		const dma = device.tryMap(base + ((i * STEP) & (WINDOW - 1)), request, Direction.ToDevice);
		if (dma < 0) throw new Error(`map answered ${dma}`);
		const done = device.tryUnmap(dma, request, Direction.ToDevice);
		if (done < 0) throw new Error(`unmap answered ${done}`);
		last[0] = dma;
	}
}

/** Heap bytes that `work` allocated, whether a collection came in between or not. */
function allocatedBytes(work: () => void): number {
	let bytes = 0;
	for (let i = 0; i < PIECES; i++) {
		const before = getHeapStatistics().used_heap_size;
		work();
		bytes += Math.max(0, getHeapStatistics().used_heap_size - before);
	}
	return bytes;
}

interface Desk {
	readonly engine: Engine;
	readonly exports: BenchExports;
	readonly bench: number;
	readonly devices: ReadonlyMap<string, Device>;
}

/** One engine for all cases: calls of two instances from one place are several ns slower, and box their numbers. */
let desk: Promise<Desk> | undefined;

async function openDesk(): Promise<Desk> {
	const ram = PLACES.map(({ base }) => ({ gpa: base, bytes: 2 * WINDOW + POOL_BYTES }));
	const engine = await Engine.create({ build: "bench", swiotlb: null, ram, spareBytes: 2 * MIB });
	const devices = new Map<string, Device>();
	for (const { base } of PLACES) {
		const pool = engine.addPool({ slabs: POOL_BYTES / 2048, areas: 1 }, { start: base + 2 * WINDOW });
		for (const bounced of [false, true]) {
			devices.set(`${base} ${bounced}`, engine.addDevice({ minAlignMask: 0xfff, trusted: !bounced, pool }));
		}
	}
	const exports = engine.instance.exports as BenchExports;
	return { engine, exports, bench: engine.scratch(BENCH_BYTES), devices };
}

async function open(variant: string, of: CallsCase): Promise<Runner> {
	desk ??= openDesk();
	const { engine, exports, bench, devices } = await desk;
	const device = devices.get(`${of.base} ${of.bounce}`) as Device;
	device.resetCounters();
	engine.instance.data.setUint32(bench + BENCH_COUNT, 0, true);
	const { request, base } = of;
	const inWasm = (ops: number): void => {
		const dir = Direction.ToDevice;
		const refused = exports.mapRun(device.index, bench, base, STEP, WINDOW, request, dir, 0, 1, ops, 0);
		if (refused !== 0) throw new Error(`${refused} calls were refused`);
	};
	const inTypeScript = (ops: number): void => mapAndUnmap(device, base, request, ops);
	const runner = {
		batch: variant === "WebAssembly" ? inWasm : inTypeScript,
		check() {
			this.batch(CHECK_OPS);
			const dma = variant === "WebAssembly" ? engine.instance.u64(bench + BENCH_RING) : last[0];
			const { bouncedMaps, directMaps, bytesIn } = device.counters;
			return `last address ${dma}, ${directMaps} direct, ${bouncedMaps} bounced, ${bytesIn} bytes in`;
		},
		close() {
			exports.mapDrain(device.index, bench, request, Direction.ToDevice, 1);
		},
	};
	if (!of.allocation) return runner;
	return {
		...runner,
		measure() {
			const piece = ALLOCATION_MAPS / PIECES;
			for (let i = 0; i < 200; i++) inTypeScript(1000);
			globalThis.gc?.();
			const clock = allocatedBytes(() => {});
			return Math.max(0, allocatedBytes(() => inTypeScript(piece)) - clock);
		},
	};
}

export const calls: Suite<CallsCase> = {
	name: "calls",
	about:
		"One map and its unmap: Device.tryMap and tryUnmap called from TypeScript against the same loop inside WebAssembly; the difference is the cost of both calls. allocation: heap bytes after warm-up.",
	variants: ["WebAssembly", "TypeScript", "allocation"],
	engine: ["WebAssembly", "TypeScript"],
	cases,
	async open(variant, of) {
		return of.allocation === (variant === "allocation") ? open(variant, of) : null;
	},
	flags: (variant) => (variant === "allocation" ? ["--expose-gc"] : []),
};
