import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import type { Device } from "../../src/dma/device.ts";
import { Engine, type EngineHandle } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import type { Pool } from "../../src/swiotlb/pool.ts";
import { printSeed, SEED } from "../helpers/random.ts";

const LIBRARY = new URL("../../build/src/doors/engine.js", import.meta.url);
const PRIVATE_BIT = 2 ** 47;
const FLIPPING = { gpa: 0, bytes: 64 * 4096 };
const KEPT = { gpa: FLIPPING.bytes, bytes: 512 * 4096 };
const SCRATCH_BYTES = 32768;
printSeed("conversion-workers");

interface Converted {
	rounds: number;
	strayWrites: number;
	isPrivate: boolean;
}

interface Used {
	bounced: number;
	direct: number;
	isPrivate: number;
	isShared: number;
	accesses: number;
	blocked: number;
	wrongState: number;
	scribble: number;
	other: number;
}

interface Run {
	readonly engine: Engine;
	readonly pool: Pool;
	readonly direct: Device;
	readonly bounced: Device;
	readonly converted: Converted;
	readonly used: Used[];
}

function work<T>(data: Record<string, unknown> & { handle: EngineHandle }): Promise<T> {
	return new Promise((resolve, reject) => {
		const worker = new Worker(new URL("../helpers/conversion-worker.mjs", import.meta.url), { workerData: data });
		worker.once("message", resolve);
		worker.once("error", reject);
	});
}

/** One worker converts pages and scribbles on them meanwhile, the others use the same pages until it is done. */
async function run(users: number, rounds: number): Promise<Run> {
	const engine = await Engine.create({
		build: "engine.threads",
		swiotlb: null,
		ram: [{ gpa: 0, bytes: KEPT.gpa + KEPT.bytes + 1024 * 2048 }],
		spareBytes: 65536 + (users + 1) * 65536 + users * SCRATCH_BYTES + 65536,
	});
	const pool = engine.addPool({ slabs: 1024, areas: 4 });
	const direct = engine.addDevice({ pool: null, trusted: true, privateBits: BigInt(PRIVATE_BIT) });
	const bounced = engine.addDevice({ pool, minAlignMask: 0x7ff });
	engine.ram.fill(FLIPPING.gpa, FLIPPING.bytes, 1);
	engine.ram.fill(KEPT.gpa, KEPT.bytes, 1);
	const common = {
		library: LIBRARY.href,
		flipping: FLIPPING,
		kept: KEPT,
		rounds,
		privateBit: PRIVATE_BIT,
		gate: new SharedArrayBuffer(8),
		workers: users + 1,
		direct: direct.index,
		bounced: bounced.index,
	};
	const [converted, ...used] = await Promise.all([
		work<Converted>({ ...common, role: "convert", handle: engine.handle(), seed: SEED, mayBlock: true }),
		...Array.from({ length: users }, (_, i) =>
			work<Used>({
				...common,
				role: "use",
				handle: engine.handle(),
				scratch: engine.scratch(SCRATCH_BYTES),
				seed: SEED + 1 + i,
				mayBlock: i % 2 === 0,
			}),
		),
	]);
	return { engine, pool, direct, bounced, converted, used };
}

function check({ engine, pool, direct, bounced, converted, used }: Run, rounds: number): void {
	expect(converted).toMatchObject({ rounds, strayWrites: 0 });
	const sum = (field: keyof Used) => used.reduce((total, each) => total + each[field], 0);
	expect({ wrongState: sum("wrongState"), scribble: sum("scribble"), other: sum("other") }).toEqual({
		wrongState: 0,
		scribble: 0,
		other: 0,
	});
	// nothing that stood in a page in transition was ever copied
	expect(engine.ram.view(pool.start, pool.bytes).findIndex((byte) => byte >= 128)).toBe(-1);
	expect(engine.ram.view(0, KEPT.gpa + KEPT.bytes).findIndex((byte) => byte >= 128)).toBe(-1);
	const none = { directMappings: 0, bouncedMappings: 0 };
	expect([pool.used, direct.holds(), bounced.holds()]).toEqual([0, none, none]);
	expect(direct.counters.directMaps).toBe(sum("direct"));
	expect(bounced.counters.bouncedMaps).toBe(sum("bounced"));
	expect(engine.ram.pagesInState(PageState.InTransition)).toBe(0);
	const [flipping, kept] = [FLIPPING.bytes / 4096, KEPT.bytes / 4096];
	expect(engine.ram.pagesInState(PageState.Private)).toBe(kept + (converted.isPrivate ? flipping : 0));
	expect(engine.ram.pagesInState(PageState.Shared)).toBe(pool.bytes / 4096 + (converted.isPrivate ? 0 : flipping));
}

describe("conversions while other workers use the pages", { timeout: 60_000 }, () => {
	it("exclude every call on them: each meets settled pages or is refused, and no byte of a transition gets out", async () => {
		const result = await run(3, 4000);
		check(result, 4000);
		for (const field of ["bounced", "isPrivate", "isShared", "accesses", "blocked"] as const) {
			const total = result.used.reduce((sum, each) => sum + each[field], 0);
			expect(total, field).toBeGreaterThan(500);
		}
	});

	it("come to an end under more workers than there are lines to count them in", async () => {
		check(await run(17, 60), 60);
	});
});
