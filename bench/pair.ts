/** Workers on one shared memory, each on its own area. */
import { Worker } from "node:worker_threads";
import { BENCH_BYTES } from "../assembly/bench/layout.ts";
import type { EngineHandle } from "../src/engine.ts";
import type { MapCase } from "./map-case.ts";
import { MIB, openStage } from "./stage.ts";
import type { Runner } from "./suite.ts";

/** What a worker is told at its start (bench/worker.ts). */
export interface WorkerTask {
	readonly handle: EngineHandle;
	readonly device: number;
	readonly number: number;
	readonly bench: number;
	readonly base: number;
	readonly step: number;
	readonly window: number;
	readonly bytes: number;
	readonly dir: number;
	/** i32 words: generation, operations a worker (0: end all mappings), workers that are done, calls that were refused. */
	readonly control: SharedArrayBuffer;
}

export const GENERATION = 0;
export const OPS = 1;
export const DONE = 2;
export const REFUSED = 3;

/** `count` workers that do each batch together, half of it each when there are two. */
export async function openPair(count: number, of: MapCase): Promise<Runner> {
	const window = 4 * MIB;
	const stage = await openStage("bench.threads", of.poolBytes, 2 * window + 2 * MIB, 2);
	const device = stage.engine.addDevice({ minAlignMask: of.minAlignMask, forceBounce: true }).index;
	const control = new SharedArrayBuffer(16);
	const words = new Int32Array(control);
	const workers = Array.from({ length: count }, (_, number) => {
		const workerData: WorkerTask = {
			handle: stage.engine.handle(),
			device,
			number,
			bench: stage.bench + (number + 1) * BENCH_BYTES,
			base: stage.base + number * (window + MIB),
			step: of.step,
			window,
			bytes: of.bytes,
			dir: of.dir,
			control,
		};
		return new Worker(new URL("./worker.js", import.meta.url), { workerData });
	});
	await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once("message", resolve))));
	function together(ops: number): void {
		Atomics.store(words, DONE, 0);
		Atomics.store(words, OPS, ops);
		Atomics.add(words, GENERATION, 1);
		Atomics.notify(words, GENERATION);
		for (let done = 0; done < count; done = Atomics.load(words, DONE)) Atomics.wait(words, DONE, done);
		if (Atomics.load(words, REFUSED) !== 0) throw new Error("calls were refused");
	}
	return {
		// waking workers takes up to a tenth of a millisecond
		sampleNs: 10_000_000,
		batch: (ops) => together(Math.ceil(ops / count)),
		check() {
			together(4096);
			together(0);
			return stage.pool.used === 0 ? "all slots back" : `${stage.pool.used} slots lost by ${count} workers`;
		},
		close() {
			for (const worker of workers) worker.terminate();
		},
	};
}
