/** Suite calls: what it costs to map from TypeScript. */
import { getHeapStatistics } from "node:v8";
import { BENCH_RING } from "../assembly/bench/layout.ts";
import type { Device } from "../src/dma/device.ts";
import { Direction } from "../src/types.ts";
import { MIB, openStage } from "./stage.ts";
import type { Case, Runner, Suite } from "./suite.ts";

const WINDOW = MIB;
const STEP = 4096;
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

/** `ops` times a map and, before the next one, its unmap. @returns the last address */
function mapAndUnmap(device: Device, base: number, request: number, ops: number): number {
	let last = 0;
	for (let i = 0; i < ops; i++) {
		const dma = device.tryMap(base + ((i * STEP) & (WINDOW - 1)), request, Direction.ToDevice);
		if (dma < 0) throw new Error(`map answered ${dma}`);
		const done = device.tryUnmap(dma, request, Direction.ToDevice);
		if (done < 0) throw new Error(`unmap answered ${done}`);
		last = dma;
	}
	return last;
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

async function open(variant: string, of: CallsCase): Promise<Runner> {
	const { engine, exports, pool, bench, base } = await openStage("bench", 16 * MIB, 2 * MIB, 1, of.base);
	const device = engine.addDevice({ minAlignMask: 0xfff, forceBounce: of.bounce, pool });
	const { request } = of;
	const inWasm = (ops: number): void => {
		const dir = Direction.ToDevice;
		const refused = exports.mapRun(device.index, bench, base, STEP, WINDOW, request, dir, 0, 1, ops, 0);
		if (refused !== 0) throw new Error(`${refused} calls were refused`);
	};
	let last = 0;
	const inTypeScript = (ops: number): void => {
		last = mapAndUnmap(device, base, request, ops);
	};
	const runner = {
		batch: variant === "WebAssembly" ? inWasm : inTypeScript,
		check() {
			this.batch(CHECK_OPS);
			const dma = variant === "WebAssembly" ? engine.instance.u64(bench + BENCH_RING) : last;
			const { bouncedMaps, directMaps, bytesIn } = device.counters;
			return `last address ${dma}, ${directMaps} direct, ${bouncedMaps} bounced, ${bytesIn} bytes in`;
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
	cases,
	async open(variant, of) {
		return of.allocation === (variant === "allocation") ? open(variant, of) : null;
	},
	flags: (variant) => (variant === "allocation" ? ["--expose-gc"] : []),
};
