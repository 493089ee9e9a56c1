import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { Actor } from "../../src/audit/audit.ts";
import { Engine } from "../../src/engine.ts";
import { verifyFile } from "../../src/node/input.ts";
import type { EngineOptions } from "../../src/setup.ts";
import type { Direction } from "../../src/types.ts";
import { audited, auditOf, GUEST, HOST, MIB, runs, write } from "../helpers/audited.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";

printSeed("audit-build");

describe("where the audit lies", () => {
	const ram = [{ gpa: 0, bytes: 2 * MIB, ptr: 4 * MIB }];
	const options = { ram, swiotlb: "128,1", build: "engine.audit" as const };
	const create = (change: object) => {
		const memory = new WebAssembly.Memory({ initial: 256 });
		const all = { ...options, memory, ...change } as EngineOptions;
		const context = { ptr: 65536, bytes: Engine.contextBytes(all) };
		return Engine.create({ context, audit: { ptr: 8 * MIB, bytes: Engine.auditBytes(all) }, ...all });
	};

	it("is said by the owner of the memory", async () => {
		const engine = await create({});
		write(engine, 0x1000, 3);
		expect(runs(auditOf(engine), 0x1000, 4)).toEqual([GUEST, 3, 0, 1]);
		await expect(create({ audit: undefined })).rejects.toThrow("the owner of the memory says which bytes");
	});

	it.each([
		[{ audit: { ptr: 8 * MIB, bytes: 1000 } }, /the audit has 1000 bytes and needs \d+/],
		[{ audit: { ptr: 5 * MIB, bytes: 2 ** 23 } }, "the audit overlaps what lies at ptr 4194304"],
		[{ audit: { ptr: 8 * MIB + 8, bytes: 2 ** 22 * 1.9 } }, "at a multiple of 64"],
		[{ audit: { ptr: 15 * MIB, bytes: 2 ** 23 } }, "must lie inside the memory"],
		[
			{ ram: [ram[0], { gpa: 2 * MIB, bytes: 4096, ptr: 7 * MIB + 8 }] },
			"a multiple of 4096 bytes from the first in memory",
		],
		[{ build: "engine" }, "the build engine has none"],
		[{ auditEvents: 100 }, "auditEvents must be a power of two, not 100"],
		[{ auditEvents: 8 }, "auditEvents must be a whole number from 16 to 16777216, not 8"],
	])("is refused where it does not fit: %j", async (change, message) => {
		const fallback = { audit: { ptr: 8 * MIB, bytes: 7.9 * MIB } };
		await expect(Promise.resolve().then(() => create({ ...fallback, ...change }))).rejects.toThrow(message);
	});

	it("may have the context between two stretches: what passes through there is no RAM", async () => {
		const memory = new WebAssembly.Memory({ initial: 256 });
		const between = [
			{ gpa: 0, bytes: MIB, ptr: MIB },
			{ gpa: MIB, bytes: MIB, ptr: 6 * MIB },
		];
		const all = { ram: between, swiotlb: null, build: "engine.audit" as const, auditEvents: 1024, memory };
		const context = { ptr: 3 * MIB, bytes: Engine.contextBytes(all) };
		const engine = await Engine.create({ ...all, context, audit: { ptr: 7 * MIB, bytes: Engine.auditBytes(all) } });
		const audit = auditOf(engine);
		write(engine, 0x1000, 64);
		engine.ram.read(0x1000, 64);
		audit.as(Actor.Host, null, () => write(engine, 0x2000, 64));
		expect(runs(audit, 0x2000, 64)).toEqual([HOST, 64]);
		expect(audit.events().map(({ kind, gpa, from }) => [kind, gpa, from])).toEqual([
			["write", 0x1000, -1],
			["read", -1, 0x1000],
			["write", 0x2000, -1],
		]);
	});

	it("is no part of a snapshot, which is refused", async () => {
		const { engine } = await audited();
		expect(() => engine.snapshot()).toThrow(new RangeError('an engine of the build "engine.audit" has no snapshots'));
	});

	it("is nowhere in the other builds", async () => {
		const engine = await Engine.create({ ram: MIB, swiotlb: null });
		expect(engine.audit).toBeNull();
		expect(engine.instance.exports.auditInit).toBeUndefined();
	});
});

describe("the build engine.audit", () => {
	it("answers as the release build does, address by address and byte by byte, over random histories", async () => {
		for (let seed = SEED; seed < SEED + 12; seed++) {
			const run = async (build: "engine" | "engine.audit") => {
				const random = new Random(seed);
				const zeroOnFree = random.oneIn(3);
				const engine = await Engine.create({ ram: 2 * MIB, swiotlb: null, build });
				const pool = engine.addPool({ slabs: 256, areas: 2 }, { start: MIB, zeroOnFree });
				const devices = [
					engine.addDevice({ forceBounce: true, pool, minAlignMask: 0xfff }),
					engine.addDevice({ forceBounce: true, pool, dmaMask: BigInt(MIB + 2 ** 18) }),
					engine.addDevice({ coherent: false, pool }),
				];
				const answers: number[] = [];
				const live: [number, number, number, Direction][] = [];
				for (let i = 0; i < 600; i++) {
					const gpa = random.below(MIB - 70_000);
					const bytes = random.between(1, random.pick([30, 3000, 60_000]));
					const dir = random.below(3) as Direction;
					engine.ram.write(gpa, random.bytes(random.between(1, 50)));
					const at = random.below(devices.length);
					const dma = devices[at]?.tryMap(gpa, bytes, dir, random.below(2)) ?? -1;
					answers.push(dma);
					if (dma >= 0) live.push([at, dma, bytes, dir]);
					const one = random.pick(live);
					if (one !== undefined) {
						const [device, address, length, way] = one;
						const view = devices[device];
						answers.push(view?.syncForCpu(address, random.between(1, length), way) ?? -1);
						if (random.oneIn(2)) answers.push(view?.syncForDevice(address, length, way) ?? -1);
						else {
							answers.push(view?.tryUnmap(address, length, way) ?? -1);
							live.splice(live.indexOf(one), 1);
						}
					}
				}
				return { answers, ram: Buffer.from(engine.ram.view(0, 2 * MIB)), list: pool.list() };
			};
			const [release, audit] = [await run("engine"), await run("engine.audit")];
			expect(audit.answers).toEqual(release.answers);
			expect(Buffer.compare(audit.ram, release.ram)).toBe(0);
			expect(audit.list).toEqual(release.list);
		}
	});

	it.each(["swiotlb-ops/rand107_ffff_2048_a8", "swiotlb-recorded/up-vblk", "swiotlb-dynamic/dyn-smp4", "ring/wrap_3p"])(
		"answers as Linux did in the recording %s",
		async (name) => {
			const path = fileURLToPath(new URL(`../golden/${name}.txt.gz`, import.meta.url));
			expect(await verifyFile(path, "engine.audit")).toMatchObject({ identical: true });
		},
	);
});
