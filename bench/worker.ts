/** One worker of bench/pair.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { Engine } from "../src/engine.ts";
import { DONE, GENERATION, OPS, REFUSED, type WorkerTask } from "./pair.ts";
import type { BenchExports } from "./stage.ts";

const DEPTH = 32;

const task = workerData as WorkerTask;
const { device, number, bench, base, step, window, bytes, dir } = task;
const engine = await Engine.attach(task.handle);
const exports = engine.instance.exports as BenchExports;
const words = new Int32Array(task.control);
parentPort?.postMessage("ready");
for (let generation = 0; ; generation++) {
	Atomics.wait(words, GENERATION, generation);
	const ops = Atomics.load(words, OPS);
	const refused =
		ops === 0
			? exports.mapDrain(device, bench, bytes, dir, DEPTH)
			: exports.mapRun(device, bench, base, step, window, bytes, dir, number, DEPTH, ops, 0);
	Atomics.add(words, REFUSED, refused);
	Atomics.add(words, DONE, 1);
	Atomics.notify(words, DONE);
}
