import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { POOL_LIST, POOL_SEGMENTS, SEGMENT_FREE } from "../../assembly/layout/pool.ts";
import { Engine } from "../../src/engine.ts";
import { Direction } from "../../src/types.ts";
import { loadModule } from "../../src/wasm.ts";
import { Lockstep } from "../helpers/lockstep.ts";
import { noCases } from "../helpers/model.ts";

const IMPORT = 2;
const FUNCTION = 3;
const MEMORY = 5;
const START = 8;
const DATA = 11;
const DATA_COUNT = 12;

interface Section {
	readonly id: number;
	readonly body: Uint8Array;
}

function read(name: string): Buffer {
	return readFileSync(new URL(`../../build/${name}.wasm`, import.meta.url));
}

/** LEB128 at `at`: the value and where it ends. */
function leb(bytes: Uint8Array, at: number): [number, number] {
	let value = 0;
	for (let shift = 0; ; shift += 7) {
		const byte = bytes[at++] as number;
		value += (byte & 127) * 2 ** shift;
		if (byte < 128) return [value, at];
	}
}

function sections(bytes: Uint8Array): Section[] {
	expect(Array.from(bytes.subarray(0, 8))).toEqual([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
	const out: Section[] = [];
	for (let at = 8; at < bytes.length; ) {
		const id = bytes[at] as number;
		const [length, body] = leb(bytes, at + 1);
		out.push({ id, body: bytes.subarray(body, body + length) });
		at = body + length;
	}
	return out;
}

function name(bytes: Uint8Array, at: number): [string, number] {
	const [length, from] = leb(bytes, at);
	return [Buffer.from(bytes.subarray(from, from + length)).toString(), from + length];
}

describe.each(["engine", "engine.threads", "rings", "rings.threads"])("the release binary %s", (build) => {
	const bytes = read(build);
	const all = sections(bytes);
	const ids = all.map(({ id }) => id);

	it("holds no data section and no start function", () => {
		expect(ids).not.toContain(DATA);
		expect(ids).not.toContain(DATA_COUNT);
		expect(ids).not.toContain(START);
		expect(ids).not.toContain(MEMORY);
		expect(ids).toContain(FUNCTION);
	});

	it("imports env.memory and nothing else", () => {
		const imports = all.find(({ id }) => id === IMPORT)?.body as Uint8Array;
		const [count, first] = leb(imports, 0);
		expect(count).toBe(1);
		const [module, second] = name(imports, first);
		const [field, kind] = name(imports, second);
		expect([module, field]).toEqual(["env", "memory"]);
		expect(imports[kind]).toBe(2);
		// limits: bit 0 a maximum, bit 1 shared
		expect(imports[kind + 1]).toBe(build.endsWith(".threads") ? 3 : 0);
	});

	it("is under 32 KiB", () => {
		expect(bytes.length).toBeLessThan(32 * 1024);
	});

	it("exports functions only, the same with and without threads", () => {
		const exports = WebAssembly.Module.exports(new WebAssembly.Module(new Uint8Array(bytes)));
		const functions = exports.filter(({ kind }) => kind === "function").map((each) => each.name);
		expect(exports.filter(({ kind }) => kind === "memory" || kind === "table")).toEqual([]);
		const other = new WebAssembly.Module(new Uint8Array(read(build.replace(".threads", ""))));
		expect(functions).toEqual(
			WebAssembly.Module.exports(other)
				.filter(({ kind }) => kind === "function")
				.map((each) => each.name),
		);
		expect(functions).toContain(build.startsWith("rings") ? "ringWrite" : "mapSingle");
	});
});

describe("the binary engine.audit", () => {
	const module = new WebAssembly.Module(new Uint8Array(read("engine.audit")));

	it("imports env.memory alone, and holds neither data nor a start function", () => {
		expect(WebAssembly.Module.imports(module)).toEqual([{ module: "env", name: "memory", kind: "memory" }]);
		const ids = sections(read("engine.audit")).map(({ id }) => id);
		for (const id of [DATA, DATA_COUNT, START, MEMORY]) expect(ids).not.toContain(id);
	});

	it("exports what engine and rings do, and auditInit, which no other build has", () => {
		const names = (build: string) =>
			WebAssembly.Module.exports(new WebAssembly.Module(new Uint8Array(read(build)))).map((each) => each.name);
		const own = names("engine.audit");
		expect(own).toEqual(expect.arrayContaining([...names("engine"), ...names("rings"), "auditInit"]));
		for (const build of ["engine", "engine.threads", "rings", "rings.threads", "reference", "debug"])
			expect(names(build)).not.toContain("auditInit");
	});
});

describe.each(["engine", "engine.threads"])("the release binary %s", (build) => {
	const bytes = read(build);

	it("has no trace of the kernel's list algorithm: its state has no room for lists, and nothing of it is in the names", async () => {
		expect(bytes.includes("list")).toBe(false);
		const used = async (of: "engine" | "reference") => {
			const engine = await Engine.create({ build: of, swiotlb: null, ram: [{ gpa: 0, bytes: 2 ** 22 }] });
			const before = engine.instance.exports.contextUsedBytes();
			engine.addPool({ slabs: 1024, areas: 1 }, { start: 0 });
			const { exports } = engine.instance;
			expect(engine.instance.u32(exports.poolPtr(0) + POOL_LIST) !== 0).toBe(of === "reference");
			return engine.instance.exports.contextUsedBytes() - before;
		};
		// 16 bytes a slot: Linux's io_tlb_slot without padding
		expect((await used("reference")) - (await used("engine"))).toBe(1024 * 16);
	});

	it("is known by the first 16 digits of its SHA-256, and no other build has the same", async () => {
		const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 16);
		expect((await loadModule(build as "engine")).hash).toBe(hash);
		const others = ["engine", "engine.threads", "reference", "debug"].filter((each) => each !== build);
		for (const other of others) expect((await loadModule(other as "engine")).hash).not.toBe(hash);
	});
});

describe("the other builds", () => {
	it("debug has names and a source map, and answers as the release build does", async () => {
		expect(read("debug").includes("sourceMappingURL")).toBe(true);
		const run = async (build: "engine" | "debug") => {
			const engine = await Engine.create({ build, ram: "4M", swiotlb: "256,2" });
			const device = engine.addDevice({ forceBounce: true, minAlignMask: 0xfff });
			const answers: number[] = [];
			for (let i = 0; i < 400; i++) {
				const dma = device.tryMap(i * 512, 1 + ((i * 977) % 20000), (i % 3) as Direction, i % 4);
				answers.push(dma);
				if (i % 3 !== 0 && dma >= 0) answers.push(device.tryUnmap(dma, 1 + ((i * 977) % 20000), (i % 3) as Direction));
			}
			return { answers, list: engine.pools[0]?.list() };
		};
		expect(await run("debug")).toEqual(await run("engine"));
	});

	it("debug traps when its state was damaged, where the release build cannot tell", async () => {
		for (const build of ["debug", "engine"] as const) {
			const engine = await Engine.create({ build, ram: "4M", swiotlb: "256" });
			const device = engine.addDevice({ forceBounce: true });
			const dma = device.map(0, 8192, Direction.ToDevice);
			// the mapping's slots are marked free behind the engine's back
			const { exports, data } = engine.instance;
			const pool = exports.poolPtr(0);
			const segments = pool + engine.instance.u32(pool + POOL_SEGMENTS);
			data.setBigUint64(segments + SEGMENT_FREE, 2n ** 64n - 1n, true);
			const unmap = () => device.tryUnmap(dma, 8192, Direction.ToDevice);
			if (build === "debug") expect(unmap).toThrow(WebAssembly.RuntimeError);
			else expect(unmap()).toBe(0);
		}
	});

	it.each(["debug", "engine.threads"] as const)(
		"answers as the reference build does over a short run (%s)",
		async (build) => {
			const lockstep = await Lockstep.create(8 * 2 ** 20, build);
			const ram = [
				{ gpa: 0, bytes: 0x60000 },
				{ gpa: 0x100000000, bytes: 0x60000 },
			];
			const devices = [{ minAlignMask: 0xfff }, { boundary: 0xffffn }, { minAlignMask: 0x7fff }];
			const load = { ops: 3000, fill: 0.9, allocAlignMasks: [0, 0xfff, 0x3fff], largeOneIn: 20, listEvery: 500 };
			lockstep.run({ slabs: 512, areas: 4, poolStart: 0x4001000, ram, devices }, load, 5, noCases());
			expect(lockstep.ops).toBe(3000);
		},
	);
});
