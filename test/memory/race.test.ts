import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";

const LIBRARY = new URL("../../build/src/doors/engine.js", import.meta.url).href;
const CONVERTED = 0x100000;
const QUIET = 0x200000;
const ROUNDS = 40_000;

describe("RAM that another worker converts meanwhile", () => {
	it("answers bytes of its own or BLOCKED_PAGES: no read of another address, no write that is dropped in silence", async () => {
		const engine = await Engine.create({ ram: "4M", swiotlb: null, build: "engine.threads", spareBytes: 1 << 20 });
		engine.ram.fill(CONVERTED, 4096, 0xaa);
		engine.ram.fill(QUIET, 4096, 0xbb);
		const gate = new SharedArrayBuffer(4);
		const workerData = { library: LIBRARY, handle: engine.handle(), converted: CONVERTED, quiet: QUIET, gate };
		const worker = new Worker(new URL("../helpers/ram-worker.mjs", import.meta.url), { workerData });
		await once(worker, "message");
		for (let i = 0; i < ROUNDS; i++) {
			engine.ram.convert(CONVERTED, 4096, PageState.InTransition);
			engine.ram.convert(CONVERTED, 4096, PageState.Shared);
		}
		Atomics.store(new Int32Array(gate), 0, 1);
		const [done] = await once(worker, "message");
		expect(done).toMatchObject({ stale: 0, lost: 0, other: 0 });
		expect(done.served).toBeGreaterThan(100);
		expect(done.refused).toBeGreaterThan(100);
	});
});
