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
