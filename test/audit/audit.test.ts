import { describe, expect, it } from "vitest";
import { MUTATE_INITIAL_COPY, MUTATE_LABELS } from "../../assembly/layout/audit.ts";
import { ATTR_TRANSIENT } from "../../assembly/layout/device.ts";
import { Actor } from "../../src/audit/audit.ts";
import { PageConverter } from "../../src/coco/platform/convert.ts";
import { Parties } from "../../src/coco/platform/parties.ts";
import { PLATFORMS, type PlatformName } from "../../src/coco/platform/platform.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { Direction } from "../../src/types.ts";
import { audited, GUEST, HOST, last, MIB, runs, write } from "../helpers/audited.ts";
import { tlbOf } from "../helpers/slots.ts";

const { ToDevice, FromDevice, Bidirectional } = Direction;

function partiesOn(name: PlatformName, engine: Engine) {
	const converter = new PageConverter(engine, PLATFORMS[name]);
	return { converter, parties: new Parties(converter) };
}

describe("labels", () => {
	it("follow a copy into slots, byte by byte, and no further", async () => {
		const { engine, audit } = await audited();
		write(engine, 0x1005, 700);
		const dma = engine.addDevice({ forceBounce: true }).map(0x1000, 1000, ToDevice);
		expect(runs(audit, dma, 2048)).toEqual([0, 5, GUEST, 700, 0, 1343]);
		expect(audit.totals({ number: GUEST })).toMatchObject({ sharedBytes: 700, hiddenBytes: 0, initialBytes: 0 });
	});

	it("follow what a device wrote back into the original", async () => {
		const { engine, audit } = await audited();
		const device = engine.addDevice({ forceBounce: true });
		write(engine, 0x1000, 600);
		const dma = device.map(0x1000, 600, FromDevice);
		const { parties } = partiesOn("snp", engine);
		parties.device(device.index, { encoded: false }).write(dma + 100, new Uint8Array(50));
		device.unmap(dma, 600, FromDevice);
		const [, , number] = runs(audit, 0x1000, 600);
		expect(runs(audit, 0x1000, 600)).toEqual([GUEST, 100, number, 50, GUEST, 450]);
		expect(audit.labelOf(number as number)).toMatchObject({ owner: device.index, isPrivate: false, accepted: false });
	});

	it("follow the part that a sync copies, in both directions", async () => {
		const { engine, audit } = await audited();
		const device = engine.addDevice({ forceBounce: true });
		const dma = device.map(0x3000, 2048, Bidirectional);
		expect(runs(audit, dma, 2048)).toEqual([0, 2048]);
		write(engine, 0x3000, 2048);
		device.syncForDevice(dma + 10, 20, Bidirectional);
		expect(runs(audit, dma, 2048)).toEqual([0, 10, GUEST, 20, 0, 2018]);
		audit.paint(tlbOf(dma), 2048, { number: HOST });
		device.syncForCpu(dma + 2000, 8, Bidirectional);
		expect(runs(audit, 0x3000, 2048)).toEqual([GUEST, 2000, HOST, 8, GUEST, 40]);
	});

	it("follow a copy across stretches that do not adjoin in memory", async () => {
		const memory = new WebAssembly.Memory({ initial: 256 });
		const ram = [
			{ gpa: 0, bytes: MIB, ptr: 3 * MIB },
			{ gpa: MIB, bytes: MIB, ptr: MIB },
		];
		const options = { ram, memory, swiotlb: "128,1", build: "engine.audit" as const };
		const context = { ptr: 65536, bytes: Engine.contextBytes(options) };
		const place = { ptr: 5 * MIB, bytes: Engine.auditBytes(options) };
		const { engine, audit } = await audited({ ...options, context, audit: place });
		write(engine, MIB - 100, 150);
		const dma = engine.addDevice({ forceBounce: true }).map(MIB - 110, 200, ToDevice);
		expect(runs(audit, dma, 200)).toEqual([0, 10, GUEST, 150, 0, 40]);
		const copies = audit.events().filter(({ kind }) => kind === "copy");
		expect(copies.map(({ from, gpa, bytes }) => [from, gpa, bytes])).toEqual([
			[MIB - 110, dma, 110],
			[MIB, dma + 110, 90],
		]);
	});

	it("stay in freed slots, and leave them when the pool zeroes them, padding too", async () => {
		for (const zeroOnFree of [false, true]) {
			const { engine, audit } = await audited({ swiotlb: null });
			const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: 3 * MIB, zeroOnFree });
			const device = engine.addDevice({ forceBounce: true, pool, minAlignMask: 0xfff });
			write(engine, 0x1900, 100);
			const dma = device.map(0x1900, 100, ToDevice);
			expect(dma % 4096).toBe(0x900);
			// the slot begins in front of the mapping, and somebody wrote there
			audit.paint(dma - 0x100, 0x100, { number: HOST });
			audit.nowNs = 7;
			device.unmap(dma, 100, ToDevice);
			expect(audit.freedAtNs(tlbOf(dma))).toBe(7);
			const kept = [HOST, 0x100, GUEST, 100, 0, 2048 - 0x164];
			expect(runs(audit, dma - 0x100, 2048)).toEqual(zeroOnFree ? [0, 2048] : kept);
			const filled = audit.events().filter(({ kind, gpa }) => kind === "fill" && gpa === dma - 0x100);
			expect(filled.map(({ bytes, timeNs }) => [bytes, timeNs])).toEqual(zeroOnFree ? [[2048, 7]] : []);
		}
	});

	it("end where bytes are filled", async () => {
		const { engine, audit } = await audited();
		write(engine, 0x1000, 4096);
		engine.ram.fill(0x1800, 0x10, 0xff);
		expect(runs(audit, 0x1000, 4096)).toEqual([GUEST, 0x800, 0, 0x10, GUEST, 0x7f0]);
	});

	it.each([
		["pkvm", [GUEST, 4096], 4096],
		["snp", [0, 4096], 0],
		["cca", [0, 4096], 0],
	] as const)("of converted pages on %s are what their contents are", async (name, after, converted) => {
		const { engine, audit } = await audited();
		const { converter, parties } = partiesOn(name, engine);
		write(engine, 0x8000, 4096);
		converter.convert(0x8000, 4096, PageState.Shared);
		expect(runs(audit, 0x8000, 4096)).toEqual(after);
		expect(audit.totals({ number: GUEST }).convertedBytes).toBe(converted);
		expect(last(audit, "convert")).toMatchObject({ gpa: 0x8000, state: PageState.Shared, sharedBytes: converted });
		if (converted > 0) expect(parties.host.read(0x8000, 1)).toEqual(Uint8Array.of(0x5a));
		// nothing is counted twice
		expect(audit.totals({ number: GUEST }).sharedBytes).toBe(converted);
	});

	it("of a device's writes say its trust, of the host's that it was the host", async () => {
		const { engine, audit } = await audited();
		const { parties, converter } = partiesOn("pkvm", engine);
		converter.convert(0x4000, 4096, PageState.Shared);
		const device = engine.addDevice();
		const view = parties.device(device.index);
		view.write(0x4000, new Uint8Array(8));
		view.t = 1;
		view.write(0x5000, new Uint8Array(8));
		parties.host.write(0x4100, new Uint8Array(8));
		parties.paravisor.write(0x4200, new Uint8Array(8));
		parties.paravisor.write(0x6000, new Uint8Array(8));
		const of = (gpa: number) => audit.labelOf(audit.labelsAt(gpa, 1)[0] as number);
		expect(of(0x4000)).toMatchObject({ owner: device.index, isPrivate: false, secret: false, accepted: false });
		expect(of(0x5000)).toMatchObject({ owner: device.index, isPrivate: true, secret: true, accepted: true });
		expect(of(0x4100)?.number).toBe(HOST);
		expect(of(0x4200)).toBeNull();
		expect(of(0x6000)?.number).toBe(GUEST);
		expect(
			audit
				.events()
				.slice(-5)
				.map(({ kind, device: who, gpa }) => [kind, who, gpa]),
		).toEqual([
			["write", device.index, 0x4000],
			["write", device.index, 0x5000],
			["write", Actor.Host, 0x4100],
			["write", Actor.Paravisor, 0x4200],
			["write", Actor.Paravisor, 0x6000],
		]);
	});

	it("of what the guest writes are none on shared pages, one on private and hidden ones, and the pen's where there is one", async () => {
		const { engine, audit } = await audited();
		engine.ram.convert(0x2000, 4096, PageState.Shared);
		engine.ram.convert(0x3000, 4096, PageState.Hidden);
		write(engine, 0x1ff0, 0x1020);
		expect(runs(audit, 0x1ff0, 0x1020)).toEqual([GUEST, 0x10, 0, 4096, GUEST, 0x10]);
		const mine = audit.label({ owner: 3, isPrivate: true, secret: true, accepted: true });
		audit.pen = mine;
		write(engine, 0x2000, 5);
		audit.pen = null;
		write(engine, 0x2008, 5);
		expect(runs(audit, 0x2000, 16)).toEqual([mine.number, 5, 0, 11]);
		expect(audit.totals(mine)).toMatchObject({ sharedBytes: 5, hiddenBytes: 0 });
		expect(audit.totals({ number: GUEST })).toMatchObject({ sharedBytes: 0, hiddenBytes: 0x10 });
	});

	it("end where a pool is made, which shares its pages first and zeroes them then", async () => {
		const { engine, audit } = await audited({ swiotlb: null });
		write(engine, 3 * MIB + 100, 500);
		engine.addPool({ slabs: 128, areas: 1 }, { start: 3 * MIB });
		expect(runs(audit, 3 * MIB, 4096)).toEqual([0, 4096]);
		expect(audit.totals({ number: GUEST })).toMatchObject({ sharedBytes: 500, convertedBytes: 500 });
		expect(last(audit, "fill")).toMatchObject({ gpa: 3 * MIB, bytes: 128 * 2048, state: PageState.Shared });
	});

	it("are right at the edges of 2 KiB, of which one word may stand for all", async () => {
		const { engine, audit } = await audited();
		const device = engine.addDevice({ forceBounce: true, minAlignMask: 0xfff });
		const pen = audit.label({ owner: 1, isPrivate: true, secret: true, accepted: false });
		for (const from of [0, 1, 2047, 2048, 2049]) {
			for (const bytes of [1, 2047, 2048, 2049, 4095, 4096, 4097]) {
				audit.paint(0x4000, 0x3000, { number: GUEST });
				audit.pen = pen;
				write(engine, 0x4000 + from, bytes);
				const before = audit.totals(pen).sharedBytes;
				const dma = device.map(0x4000, 0x3000, ToDevice);
				const edges = [GUEST, from, pen.number, bytes, GUEST, 0x3000 - from - bytes];
				expect(runs(audit, dma, 0x3000)).toEqual(from === 0 ? edges.slice(2) : edges);
				expect(audit.totals(pen).sharedBytes - before).toBe(bytes);
				device.unmap(dma, 0x3000, ToDevice);
				for (let unit = 0x4000; unit < 0x6000; unit += 2048) {
					const one = device.map(unit, 2048, ToDevice);
					expect(runs(audit, one, 2048)).toEqual(runs(audit, unit, 2048));
					device.unmap(one, 2048, ToDevice);
				}
			}
		}
	});

	it("are the caller's again when what ran as somebody else throws", async () => {
		const { engine, audit } = await audited();
		const pen = audit.label({ owner: 1, isPrivate: true, secret: false, accepted: false });
		audit.pen = pen;
		const thrown = new Error("thrown");
		expect(() =>
			audit.as(Actor.Host, null, () => {
				write(engine, 0x1000, 1);
				throw thrown;
			}),
		).toThrow(thrown);
		write(engine, 0x1001, 1);
		expect(runs(audit, 0x1000, 2)).toEqual([HOST, 1, pen.number, 1]);
		expect(last(audit, "write").device).toBe(Actor.Guest);
	});

	it("are the same for the same properties, and end at 253", async () => {
		const { audit } = await audited();
		const spec = (owner: number) => ({ owner, isPrivate: true, secret: true, accepted: false });
		for (let owner = 0; owner < 253; owner++) expect(audit.label(spec(owner)).number).toBe(owner + 2);
		expect(audit.label(spec(7)).number).toBe(9);
		expect(() => audit.label(spec(253))).toThrow(new RangeError("audit: all labels are taken"));
		expect(audit.labels).toHaveLength(255);
		expect(audit.labelOf(0)).toBeNull();
		expect(audit.labelOf(254)).toEqual({ number: 254, ...spec(252) });
	});

	it("of a paint are one by one what was said", async () => {
		const { engine, audit } = await audited();
		write(engine, 0, 8192);
		audit.paint(0, 8192, null);
		audit.paint(100, 5000, { number: GUEST });
		expect(runs(audit, 0, 8192)).toEqual([0, 100, GUEST, 5000, 0, 3092]);
		const dma = engine.addDevice({ forceBounce: true }).map(0, 8192, ToDevice);
		expect(runs(audit, dma, 8192)).toEqual([0, 100, GUEST, 5000, 0, 3092]);
		expect(audit.totals({ number: GUEST }).sharedBytes).toBe(5000);
		expect([...audit.runs()].map(({ gpa, bytes, page }) => [gpa, bytes, page])).toEqual([
			[100, 3996, 0],
			[4096, 1004, 4096],
			[dma + 100, 3996, dma],
			[dma + 4096, 1004, dma + 4096],
		]);
	});
});

describe("what is counted", () => {
	it("holds bytes that reached shared pages though the map was refused: the label stays in the freed slot", async () => {
		const { engine, audit } = await audited();
		const device = engine.addDevice({ forceBounce: true, dmaMask: 0xffffn });
		write(engine, 0x1000, 300);
		expect(() => device.map(0x1000, 300, ToDevice)).toThrow("SLOTS_BEYOND_MASK");
		const copy = last(audit, "copy");
		expect(copy).toMatchObject({ bytes: 300, from: 0x1000, sharedBytes: 300, label: GUEST, mapping: 1 });
		expect(last(audit, "map")).toMatchObject({ status: "SLOTS_BEYOND_MASK", mapping: 1, gpa: 0x1000, bytes: 300 });
		expect(runs(audit, copy.gpa, 301)).toEqual([GUEST, 300, 0, 1]);
		expect(audit.freedAtNs(copy.gpa)).toBe(0);
		expect(engine.pools[0]?.used).toBe(0);
		expect(audit.totals({ number: GUEST }).sharedBytes).toBe(300);
	});

	it("tells what stayed in freed slots: bytes, bytes times ns and the longest stay, when they are taken again", async () => {
		const { engine, audit } = await audited({ swiotlb: null });
		const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: 3 * MIB });
		const device = engine.addDevice({ forceBounce: true, pool });
		write(engine, 0x1000, 4096);
		const lap = (bytes: number) => {
			// once around the pool
			for (let i = 0; i < 128; i++) device.unmap(device.map(0x1000, bytes, ToDevice), bytes, ToDevice);
		};
		audit.nowNs = 1000;
		lap(100);
		const none = { residueBytes: 0, residueByteNs: 0, residueMaxNs: 0 };
		expect(audit.totals({ number: GUEST })).toMatchObject(none);
		audit.nowNs = 1500;
		device.unmap(device.map(0x1000, 2048, ToDevice), 2048, ToDevice);
		expect(audit.totals({ number: GUEST })).toMatchObject({
			residueBytes: 100,
			residueByteNs: 50_000,
			residueMaxNs: 500,
		});
		audit.nowNs = 4000;
		lap(100);
		expect(audit.totals({ number: GUEST })).toMatchObject({
			residueBytes: 100 + 127 * 100 + 2048,
			residueByteNs: 50_000 + 127 * 100 * 3000 + 2048 * 2500,
			residueMaxNs: 3000,
		});
	});

	it("forgets freed slots whose pages are converted", async () => {
		const { engine, audit } = await audited({ swiotlb: null });
		const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: 3 * MIB, grows: true });
		const device = engine.addDevice({ forceBounce: true, pool });
		engine.ram.convert(0x100000, 4096, PageState.Shared);
		expect(engine.instance.exports.poolCreateTransient(pool.index, 0x100000, 2)).toBe(0);
		write(engine, 0x1000, 64);
		for (let i = 0; i < 64; i++) device.map(0x1000, 4096, ToDevice);
		const dma = device.map(0x1000, 64, ToDevice, 0, ATTR_TRANSIENT);
		expect(dma).toBe(0x100000);
		audit.nowNs = 5;
		device.unmap(dma, 64, ToDevice);
		expect(audit.freedAtNs(tlbOf(dma))).toBe(5);
		engine.instance.exports.retiredTake();
		engine.ram.convert(0x100000, 4096, PageState.Private);
		expect(audit.freedAtNs(tlbOf(dma))).toBe(-1);
	});

	it("tells what the copy that starts a FROM_DEVICE mapping showed, and nothing once that is left out", async () => {
		const { engine, audit } = await audited();
		const device = engine.addDevice({ forceBounce: true });
		write(engine, 0x1000, 500);
		device.map(0x1000, 512, FromDevice);
		device.map(0x1000, 512, ToDevice);
		device.map(0x1000, 512, Bidirectional);
		expect(audit.totals({ number: GUEST })).toMatchObject({ sharedBytes: 1500, initialBytes: 500 });
		audit.mutations = MUTATE_INITIAL_COPY;
		const dma = device.map(0x1000, 512, FromDevice);
		expect(runs(audit, dma, 512)).toEqual([0, 512]);
		expect(engine.ram.read(tlbOf(dma), 512)).toEqual(new Uint8Array(512));
		device.map(0x1000, 512, ToDevice);
		expect(audit.totals({ number: GUEST })).toMatchObject({ sharedBytes: 2000, initialBytes: 500 });
	});

	it("is nothing when labels are left behind: the fault that a test plants", async () => {
		const { engine, audit } = await audited();
		audit.mutations = MUTATE_LABELS;
		write(engine, 0x1000, 500);
		const dma = engine.addDevice({ forceBounce: true }).map(0x1000, 500, ToDevice);
		expect(engine.ram.read(tlbOf(dma), 500)).toEqual(engine.ram.read(0x1000, 500));
		expect(runs(audit, dma, 500)).toEqual([0, 500]);
		expect(audit.totals({ number: GUEST }).sharedBytes).toBe(0);
	});

	it("ends where shared pages do", async () => {
		const { engine, audit } = await audited();
		engine.ram.convert(0x2000, 0x2000, PageState.Shared);
		audit.pen = { number: GUEST };
		write(engine, 0x2000, 0x2800);
		expect(audit.totals({ number: GUEST }).sharedBytes).toBe(0x2000);
		expect(last(audit, "write")).toMatchObject({ bytes: 0x2800, sharedBytes: 0x2000 });
	});

	it("is apart for hidden pages", async () => {
		const { engine, audit } = await audited({ swiotlb: null });
		const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: 3 * MIB, state: PageState.Hidden });
		write(engine, 0x1000, 500);
		engine.addDevice({ forceBounce: true, pool }).map(0x1000, 512, FromDevice);
		expect(audit.totals({ number: GUEST })).toMatchObject({ sharedBytes: 0, hiddenBytes: 500, initialBytes: 0 });
		expect(last(audit, "copy")).toMatchObject({ sharedBytes: 0, hiddenBytes: 500, state: PageState.Hidden });
	});
});
