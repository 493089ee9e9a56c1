import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine.ts";
import { multiPageRange, PacketType, pageArray, pageBuffers } from "../../src/ring/packet.ts";
import { RingPair, type RingPairOptions } from "../../src/ring/pair.ts";
import { pageList } from "./ring-channel.ts";

const bytes = (text: string) => new Uint8Array(Buffer.from(text));

async function channel(options: { requests?: number } = {}) {
	const engine = await Engine.create({ ram: "2M", swiotlb: null });
	return { engine, ...RingPair.connect(engine, { pages: pageList(8, true), ...options }) };
}

describe("a ring pair", () => {
	it("carries requests and completions, ids given by the requestor", async () => {
		const { guest, device } = await channel({ requests: 16 });
		expect(guest.writer.send(bytes("read 4096"), { id: 0xfedcba9876543210n, wantsCompletion: true })).toBe(true);
		const request = device.reader.receive();
		expect(request).toMatchObject({ type: PacketType.InBand, flags: 1, id: 1n });
		expect(Buffer.from(request?.payload.subarray(0, 9) ?? []).toString()).toBe("read 4096");
		expect(device.writer.complete(request?.id ?? 0n, bytes("done"))).toBe(true);
		const completion = guest.reader.receive();
		expect(completion).toMatchObject({ type: PacketType.Completion, id: 1n });
		expect(guest.writer.endRequest(completion?.id ?? 0n)).toBe(0xfedcba9876543210n);
		expect(guest.writer.liveRequests).toBe(0);
		expect(() => guest.writer.endRequest(1n)).toThrow("BAD_REQUEST");
		expect(guest.reader.receive()).toBeNull();
	});

	it("carries page buffers, multi-page ranges, page arrays and transfer pages", async () => {
		const { guest, device } = await channel();
		const ranges = [
			...pageBuffers([{ gpa: 0x1800, bytes: 0x1000 }]),
			multiPageRange({ gpa: 0x5ffc, bytes: 8192 }),
			pageArray([0x9000, 0x7000, 0x8000], 16, 9000),
		];
		expect(ranges).toEqual([
			{ bytes: 0x800, offset: 0x800, pfns: [1] },
			{ bytes: 0x800, offset: 0, pfns: [2] },
			{ bytes: 8192, offset: 0xffc, pfns: [5, 6, 7] },
			{ bytes: 9000, offset: 16, pfns: [9, 7, 8] },
		]);
		guest.writer.sendGpaDirect(ranges, bytes("payload!"), { id: 9n });
		const direct = device.reader.receive();
		expect(direct).toMatchObject({ type: PacketType.GpaDirect, flags: 1, id: 9n, gpaRanges: ranges });
		expect(Buffer.from(direct?.payload ?? []).toString()).toBe("payload!");
		const stretches = [
			{ bytes: 100, offset: 0 },
			{ bytes: 1500, offset: 1728 },
		];
		device.writer.sendTransferPages(0xcafe, stretches, bytes("received"), { id: 3n });
		expect(guest.reader.receive()).toMatchObject({ transferRanges: stretches, transferSet: 0xcafe, id: 3n });
	});

	it("sends gathered pieces as one payload", async () => {
		const { guest, device } = await channel();
		guest.writer.sendGather([bytes("head"), bytes(""), bytes("er, bo"), bytes("dy")]);
		expect(Buffer.from(device.reader.receive()?.payload.subarray(0, 12) ?? []).toString()).toBe("header, body");
	});

	it("answers false when the ring is full, and counts refusals", async () => {
		const { guest, device } = await channel();
		let sent = 0;
		while (guest.writer.send(new Uint8Array(1000))) sent++;
		expect(sent).toBe(11);
		expect(guest.writer.refusals).toEqual({ total: 1, first: 1 });
		expect([...device.reader.packets(4)].length).toBe(4);
		expect(guest.writer.freeBytes).toBe(3 * 4096 - 7 * 1024);
		expect([...device.reader.packets()].length).toBe(7);
	});

	it("consumes exactly the packets that a loop was given, also when it stops early", async () => {
		const { guest, device } = await channel();
		for (let i = 0; i < 5; i++) guest.writer.send(Uint8Array.of(i));
		for (const packet of device.reader.packets()) if (packet.payload[0] === 1) break;
		expect(device.reader.receive()?.payload[0]).toBe(2);
	});

	it("throws for bad arguments and names them", async () => {
		const { engine, guest } = await channel();
		expect(() => guest.writer.send(new Uint8Array(100_000))).toThrow(/100000 bytes: this ring takes up to/);
		expect(() => guest.writer.send(new Uint8Array(1), { id: -1n })).toThrow(RangeError);
		const attach = (pages: number[], downstreamPage?: number) => () =>
			RingPair.attach(engine, { pages, side: "guest", ...(downstreamPage === undefined ? {} : { downstreamPage }) });
		expect(attach([0x1000, 0x2000, 0x3000])).toThrow(/downstreamPage/);
		expect(attach([0x1000, 0x2000, 0x1000, 0x1000])).toThrow("OVERLAP");
		expect(attach([0x1000, 0x2000, 0x3000, 2 ** 40], 2)).toThrow("OUTSIDE_RAM");
		const choose = (options: object) => () =>
			RingPair.attach(engine, { pages: [], ...options } as unknown as RingPairOptions);
		expect(choose({ side: "host" })).toThrow(/^side: expected "guest" or "device", found "host"$/);
		expect(choose({ side: "guest", behaviour: "Strict" })).toThrow(
			/^behaviour: expected "clamp" or "strict", found "Strict"$/,
		);
		expect(() => pageArray([0x1000], 0, 5000)).toThrow(RangeError);
		expect(() => pageBuffers([{ gpa: 0, bytes: 0 }])).toThrow(RangeError);
	});

	it("opens and closes channels for ever in the same context", async () => {
		const { engine, guest, device } = await channel();
		guest.detach();
		device.detach();
		const used = engine.instance.exports.contextUsedBytes();
		for (let i = 0; i < 100; i++) {
			const pair = RingPair.attach(engine, { pages: pageList(8, true), side: "guest" });
			expect(() => RingPair.attach(engine, { pages: [0x1000, 2 ** 40], side: "guest" })).toThrow();
			pair.detach();
		}
		expect(engine.instance.exports.contextUsedBytes()).toBe(used);
	});

	it("gives doorbells back, and a pair that is detached twice harms no other", async () => {
		const engine = await Engine.create({ ram: "1M", swiotlb: null, build: "engine.threads" });
		const connect = () => RingPair.connect(engine, { pages: pageList(4, true) });
		const first = connect();
		const used = engine.instance.exports.contextUsedBytes();
		let { guest, device } = first;
		for (let i = 0; i < 200; i++) {
			guest.detach();
			device.detach();
			({ guest, device } = connect());
		}
		expect(engine.instance.exports.contextUsedBytes()).toBe(used);
		first.guest.detach();
		first.device.detach();
		first.guest.close();
		expect(guest.writer.send(bytes("hello"))).toBe(true);
		expect(device.reader.receive()?.payload.length).toBe(8);
	});

	it("leaves nothing behind where the device's end cannot be attached", async () => {
		const engine = await Engine.create({ ram: "1M", swiotlb: null });
		const connect = (maxPacketBytes: number) =>
			RingPair.connect(engine, { pages: pageList(4, true), maxPacketBytes, requests: 8 });
		const { guest, device } = connect(4096);
		guest.detach();
		device.detach();
		const used = engine.instance.exports.contextUsedBytes();
		for (let i = 0; i < 100; i++) expect(() => connect(8)).toThrow("BAD_ARGUMENT");
		expect(engine.instance.exports.contextUsedBytes()).toBe(used);
	});

	it("attaches thousands of channels in a time that grows as they do", async () => {
		const attachMany = async (count: number) => {
			const engine = await Engine.create({ ram: "1M", swiotlb: null, spareBytes: count * 32768 });
			const pairs = Array.from({ length: count }, () =>
				RingPair.attach(engine, { pages: pageList(4, true), side: "guest" }),
			);
			expect(new Set(pairs.map(({ writer }) => writer.number)).size).toBe(count);
			for (const pair of pairs) pair.detach();
			const used = engine.instance.exports.contextUsedBytes();
			for (const _ of pairs) RingPair.attach(engine, { pages: pageList(4, true), side: "guest" });
			expect(engine.instance.exports.contextUsedBytes()).toBe(used);
		};
		await attachMany(2000);
	});

	it("goes on when the memory's owner lets it grow: a doorbell too", async () => {
		const options = { ram: [{ gpa: 0, bytes: 1 << 20, ptr: 1 << 20 }], swiotlb: null };
		const memory = new WebAssembly.Memory({ initial: 64 });
		const context = { ptr: 65536, bytes: Engine.contextBytes(options) };
		const engine = await Engine.create({ ...options, memory, context });
		const { guest, device } = RingPair.connect(engine, { pages: pageList(4, true) });
		memory.grow(1);
		const rung = guest.peerBell?.count;
		expect(guest.writer.send(bytes("after"))).toBe(true);
		expect(device.bell?.count).toBe((rung ?? 0) + 1);
		expect(device.reader.receive()?.payload.length).toBe(8);
	});

	it.each([
		["an ArrayBuffer", new ArrayBuffer(8), "ArrayBuffer"],
		["text", "hello", "string"],
		["a number", 8, "number"],
		["wider elements", new Uint16Array(4), "Uint16Array"],
		["nothing", null, "null"],
	])("takes bytes alone for a payload: %s is refused by name", async (_, payload, found) => {
		const { guest } = await channel();
		const wrong = payload as unknown as Uint8Array;
		const said = new RegExp(`^p(ayload|ieces): expected a Uint8Array, found ${found}$`);
		expect(() => guest.writer.send(wrong)).toThrow(said);
		expect(() => guest.writer.sendGather([bytes("a"), wrong])).toThrow(said);
		expect(() => guest.writer.sendGpaDirect(pageBuffers([{ gpa: 0x1000, bytes: 4 }]), wrong)).toThrow(said);
		expect(() => guest.writer.complete(1n, wrong)).toThrow(said);
		expect(guest.writer.freeBytes).toBe(3 * 4096);
	});

	it("goes on in a restored engine, at another base and with its RAM elsewhere", async () => {
		const { engine, guest, device } = await channel({ requests: 4 });
		guest.writer.send(bytes("before the snapshot"), { wantsCompletion: true, id: 7n });
		const snapshot = engine.snapshot();
		const memory = new WebAssembly.Memory({ initial: 128 });
		const regionPtrs = snapshot.regions.map(() => 4 * 2 ** 20);
		const restored = await Engine.restore(snapshot, { memory, contextPtr: 2 ** 20, regionPtrs });
		const [there, here] = [device, guest].map(({ handle }) =>
			RingPair.fromHandle(restored, { ...handle, bells: null, scratch: handle.scratch - 65536 + 2 ** 20 }),
		);
		expect(Buffer.from(there?.reader.receive()?.payload.subarray(0, 19) ?? []).toString()).toBe("before the snapshot");
		expect(here?.writer.endRequest(1n)).toBe(7n);
		for (let i = 0; i < 40; i++) {
			here?.writer.send(new Uint8Array(900).fill(i));
			expect(there?.reader.receive()?.payload[899]).toBe(i);
		}
		const header = pageList(8, true)[0] as number;
		expect(engine.ram.read(header, 8)).not.toEqual(restored.ram.read(header, 8));
	});
});
