import { describe, expect, it } from "vitest";
import { BURST_BYTES, BURST_KIND, BURST_LENGTH, BURST_PTR } from "../../assembly/layout/ring.ts";
import { Actor } from "../../src/audit/audit.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { PacketType } from "../../src/ring/packet.ts";
import { RingPair } from "../../src/ring/pair.ts";
import { Attr, Direction } from "../../src/types.ts";
import { audited, GUEST, MIB, runs, write } from "../helpers/audited.ts";

const { ToDevice, Bidirectional } = Direction;

describe("the log", () => {
	it("tells of each call what it was about, and of each copy to which mapping it belongs", async () => {
		const { engine, audit } = await audited({ auditEvents: 64 });
		const device = engine.addDevice({ forceBounce: true });
		audit.nowNs = 11;
		write(engine, 0x1000, 100);
		const from = audit.eventCount;
		audit.nowNs = 12;
		const dma = device.map(0x1000, 100, Bidirectional, 0, Attr.SkipCpuSync);
		device.syncForDevice(dma, 10, Bidirectional);
		device.syncForCpu(dma + 1, 9, Bidirectional);
		device.unmap(dma, 100, Bidirectional);
		const call = { device: device.index, dir: Bidirectional, status: null, timeNs: 12, mapping: 1 };
		const copy = { kind: "copy", device: -1, mapping: 1, dma: -1, label: GUEST, timeNs: 12 };
		const shared = { state: PageState.Shared };
		expect(audit.events(from)).toMatchObject([
			{ ...call, kind: "map", gpa: 0x1000, from: -1, dma, bytes: 100, attrs: Attr.SkipCpuSync },
			{ ...copy, ...shared, from: 0x1000, gpa: dma, bytes: 100, sharedBytes: 100 },
			{ ...call, kind: "sync for device", gpa: -1, from: -1, dma, bytes: 10 },
			{ ...copy, ...shared, from: 0x1000, gpa: dma, bytes: 10, sharedBytes: 10 },
			{ ...call, kind: "sync for cpu", dma: dma + 1, bytes: 9 },
			{ ...copy, state: PageState.Private, from: dma + 1, gpa: 0x1001, bytes: 9, sharedBytes: 0 },
			{ ...call, kind: "unmap", dma, bytes: 100 },
			{ ...copy, state: PageState.Private, from: dma, gpa: 0x1000, bytes: 100 },
		]);
		expect(audit.event(from - 1)).toMatchObject({
			number: from - 1,
			kind: "write",
			device: Actor.Guest,
			gpa: 0x1000,
			from: -1,
			bytes: 100,
			timeNs: 11,
			state: PageState.Private,
			label: GUEST,
		});
	});

	it("tells of reads, fills, conversions, refused calls and slots taken beside a map", async () => {
		const { engine, audit } = await audited();
		const device = engine.addDevice({ forceBounce: true });
		write(engine, 0x1000, 100);
		const from = audit.eventCount;
		engine.ram.read(0x1000, 40);
		engine.ram.fill(0x1010, 4);
		engine.ram.convert(0x2000, 8192, PageState.Hidden);
		expect(device.tryUnmap(0x1000, 5, 9 as Direction)).toBeLessThan(0);
		const { exports } = engine.instance;
		const tlb = exports.swiotlbTblMap(device.index, 0x1000, 64, 0, ToDevice, 0, 0);
		expect(exports.swiotlbTblUnmap(device.index, tlb, 64, ToDevice, 0)).toBe(0);
		const empty = exports.swiotlbAlloc(device.index, 4096, 4095, 0);
		exports.swiotlbTblUnmap(device.index, empty, 4096, Bidirectional, Attr.SkipCpuSync);
		expect(audit.events(from)).toMatchObject([
			{ kind: "read", from: 0x1000, gpa: -1, bytes: 40, label: GUEST, device: Actor.Guest },
			{ kind: "fill", gpa: 0x1010, bytes: 4, label: 0 },
			{ kind: "convert", gpa: 0x2000, bytes: 8192, state: PageState.Hidden },
			{ kind: "unmap", status: "BAD_DIRECTION", dma: 0x1000, mapping: 0 },
			{ kind: "take slots", device: device.index, gpa: 0x1000, tlb: tlb, bytes: 64, mapping: 1 },
			{ kind: "copy", from: 0x1000, gpa: tlb, bytes: 64, mapping: 1 },
			{ kind: "give slots", tlb: tlb, bytes: 64, mapping: 1 },
			{ kind: "take slots", tlb: empty, bytes: 4096, mapping: 2 },
			{ kind: "give slots", tlb: empty, bytes: 4096, mapping: 2 },
		]);
	});

	it("keeps the latest events and says which are gone", async () => {
		const { engine, audit } = await audited({ auditEvents: 16 });
		const before = audit.eventCount;
		for (let i = 0; i < 40; i++) write(engine, i * 64, i + 1);
		expect([audit.eventCount, audit.firstEvent]).toEqual([before + 40, before + 24]);
		const events = audit.events();
		expect(events.map(({ number, bytes }) => [number - before, bytes])).toEqual(
			Array.from({ length: 16 }, (_, i) => [24 + i, 25 + i]),
		);
		expect(audit.events(before + 39)).toHaveLength(1);
		const gone = `audit: the log holds events ${before + 24} to ${before + 39}, not ${before + 23}`;
		expect(() => audit.event(before + 23)).toThrow(new RangeError(gone));
		expect(() => audit.event(before + 40)).toThrow(RangeError);
	});

	it("is not spoilt by a call that logs more than it holds", async () => {
		const bytes = 4096;
		// stretches that follow each other in the guest and lie backwards in memory: a copy of each
		const ram = Array.from({ length: 64 }, (_, i) => ({ gpa: i * bytes, bytes, ptr: 4 * MIB + (64 - i) * bytes }));
		ram.push({ gpa: 64 * bytes, bytes: 128 * 2048, ptr: 5 * MIB });
		const options = { ram, swiotlb: null, build: "engine.audit" as const, auditEvents: 16 };
		const memory = new WebAssembly.Memory({ initial: 256 });
		const context = { ptr: 65536, bytes: Engine.contextBytes(options) };
		const place = { ptr: 6 * MIB, bytes: Engine.auditBytes(options) };
		const { engine, audit } = await audited({ ...options, memory, context, audit: place });
		const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: 64 * bytes });
		const device = engine.addDevice({ forceBounce: true, pool, dmaMask: 0xffffn });
		expect(() => device.map(0, 30 * bytes, ToDevice)).toThrow("SLOTS_BEYOND_MASK");
		const events = audit.events().map(({ kind, status, mapping }) => [kind, status, mapping]);
		expect(events).toEqual(new Array(16).fill(["copy", null, 1]));
	});
});

describe("rings", () => {
	it.each([PageState.Private, PageState.Shared])(
		"label their packets' bytes and nothing of their own (pages %i)",
		async (state) => {
			const { engine, audit } = await audited();
			write(engine, 0x10000, 8 * 4096);
			const pages = Array.from({ length: 8 }, (_, i) => 0x10000 + i * 4096);
			if (state === PageState.Shared) engine.ram.convert(0x10000, 8 * 4096, state);
			const pair = RingPair.attach(engine, { pages, side: "guest" });
			expect(runs(audit, 0x10000, 16)).toEqual([0, 16]);
			const mine = audit.label({ owner: 2, isPrivate: true, secret: true, accepted: true });
			const was = audit.totals(mine).sharedBytes;
			audit.pen = mine;
			pair.writer.send(new Uint8Array(21));
			pair.writer.sendGather([new Uint8Array(3), new Uint8Array(4)]);
			const ptr = pair.writer.reserve(10);
			engine.instance.bytes.fill(9, ptr, ptr + 10);
			pair.writer.commit(6, 0, 0, 10);
			pair.writer.publish();
			audit.pen = null;
			// head 16, payload, padding to 8, trailer 8
			const { number } = mine;
			expect(runs(audit, 0x11000, 144)).toEqual([
				0,
				16,
				number,
				21,
				0,
				3 + 8 + 16,
				number,
				7,
				0,
				1 + 8 + 16,
				number,
				10,
				0,
				6 + 8,
				GUEST,
				24,
			]);
			expect(audit.totals(mine).sharedBytes - was).toBe(state === PageState.Shared ? 38 : 0);
		},
	);

	it("do so in bursts and one by one, over pages that held something else", async () => {
		const { engine, audit } = await audited();
		write(engine, 0x10000, 8 * 4096);
		const pages = Array.from({ length: 8 }, (_, i) => 0x10000 + i * 4096);
		const { writer, handle } = RingPair.attach(engine, { pages, side: "guest" });
		const { data } = engine.instance;
		const list = handle.scratch + 256;
		for (let i = 0; i < 2; i++) {
			data.setUint32(list + i * BURST_BYTES + BURST_KIND, PacketType.InBand, true);
			data.setUint32(list + i * BURST_BYTES + BURST_PTR, handle.scratch, true);
			data.setUint32(list + i * BURST_BYTES + BURST_LENGTH, 20 + i, true);
		}
		const { number } = audit.label({ owner: 2, isPrivate: true, secret: true, accepted: true });
		audit.pen = { number };
		expect(writer.tryWriteBurst(list, 2) >> 1).toBe(2);
		expect(writer.tryWrite(PacketType.InBand, 1, 0, handle.scratch, 30)).toBeGreaterThanOrEqual(0);
		expect(writer.put(PacketType.InBand, 1, 0, handle.scratch, 9)).toBe(0);
		audit.pen = null;
		const heads = [
			number,
			20,
			0,
			4 + 8 + 16,
			number,
			21,
			0,
			3 + 8 + 16,
			number,
			30,
			0,
			2 + 8 + 16,
			number,
			9,
			0,
			7 + 8,
		];
		expect(runs(audit, 0x11000, 232)).toEqual([0, 16, ...heads, GUEST, 40]);
	});
});
