import { describe, expect, it } from "vitest";
import * as layout from "../../assembly/layout/ring.ts";
import * as status from "../../assembly/layout/status.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { pageList, RING_GPA, testRing } from "./ring-channel.ts";

const IN_BAND = layout.PACKET_IN_BAND;
const ASKS = (layout.PACKET_WANTS_COMPLETION << 16) | IN_BAND;
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

describe("attaching a ring", () => {
	const attach = async (pages: number[], flags = layout.RING_INIT, maxPacketBytes = 4096) => {
		const engine = await Engine.create({ ram: "1M", swiotlb: null });
		engine.ram.convert(0x40000, 4096, PageState.Leaked);
		const list = engine.scratch(Math.max(8, pages.length * 8));
		for (const [i, gpa] of pages.entries()) engine.instance.data.setFloat64(list + 8 * i, gpa, true);
		return engine.instance.exports.ringAttach(list, pages.length, flags, maxPacketBytes, 0);
	};

	it.each([
		["a page outside RAM", [0x1000, 0x200000], status.OUTSIDE_RAM],
		["an address that is no number", [0x1000, Number.NaN], status.OUTSIDE_RAM],
		["an address that is not page-aligned", [0x1000, 0x2008], status.BAD_ARGUMENT],
		["a leaked page", [0x1000, 0x40000], status.BLOCKED_PAGES],
		["a page twice", [0x1000, 0x2000, 0x1000], status.OVERLAP],
		["no page", [], status.BAD_ARGUMENT],
	])("refuses %s", async (_, pages, expected) => {
		expect(await attach(pages)).toBe(expected);
	});

	it("takes private pages as well as shared ones", async () => {
		expect(await attach([0x1000, 0x2000])).toBeGreaterThan(0);
	});

	it("refuses a reader without room for a packet header", async () => {
		expect(await attach([0x1000, 0x2000], layout.RING_READER, 8)).toBe(status.BAD_ARGUMENT);
	});

	it("writes indices 0 and the feature bit, and leaves the guest's interrupt counter alone", async () => {
		const engine = await Engine.create({ ram: "1M", swiotlb: null });
		engine.ram.fill(RING_GPA, 4096, 0xaa);
		const list = engine.scratch(16);
		for (const [i, gpa] of pageList(2, false).entries()) engine.instance.data.setFloat64(list + 8 * i, gpa, true);
		engine.instance.exports.ringAttach(list, 2, layout.RING_INIT, 0, 0);
		const header = engine.ram.read(RING_GPA, 4096);
		expect(hex(header.subarray(0, 16))).toBe("00".repeat(16));
		expect(hex(header.subarray(64, 68))).toBe("01000000");
		// include/linux/hyperv.h, guest_to_host_interrupt_count
		expect(hex(header.subarray(4088))).toBe("aa".repeat(8));
	});

	it("accepts a ring of one page, which is always full and always empty", async () => {
		const ring = await testRing({ pages: 1 });
		expect(ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 0)).toBe(status.RING_FULL);
		expect(ring.exports.ringNext(ring.reader, 0)).toBe(status.RING_EMPTY);
		expect(ring.exports.ringEndRead(ring.reader)).toBe(0);
	});

	it("uses the record of a detached ring again, so that channels can come and go for ever", async () => {
		const ring = await testRing();
		const list = ring.engine.scratch(24);
		for (const [i, gpa] of ring.pages.entries()) ring.engine.instance.data.setFloat64(list + 8 * i, gpa, true);
		const used = ring.exports.contextUsedBytes();
		for (let i = 0; i < 1000; i++) {
			ring.exports.ringDetach(ring.writer);
			expect(ring.exports.ringAttach(list, 3, layout.RING_INIT, 4096, 0)).toBe(ring.writer);
		}
		expect(ring.exports.contextUsedBytes()).toBe(used);
	});

	it("answers BAD_RING for a number that is no ring, a detached ring and the other end", async () => {
		const ring = await testRing();
		ring.exports.ringDetach(ring.reader);
		for (const number of [0, 64, 123456, -1, ring.reader])
			expect(ring.exports.ringNext(number, 0)).toBe(status.BAD_RING);
		expect(ring.exports.ringNext(ring.writer, 0)).toBe(status.BAD_RING);
		expect(ring.exports.ringWrite(ring.reader, IN_BAND, 0, 0, ring.buffer, 8)).toBe(status.BAD_RING);
	});
});

describe.each([
	["contiguous pages", false],
	["scattered pages", true],
])("writing over %s", (_, scattered) => {
	it("lays an in-band packet out as on the wire: 'hello', id 7, at offset 0x40", async () => {
		const ring = await testRing({ scattered });
		ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 0x28);
		ring.exports.ringWrite(ring.writer, ASKS, 7, 0, ring.payload(Buffer.from("hello")), 5);
		expect(hex(ring.data().subarray(0x40, 0x60))).toBe(
			"0600020003000100070000000000000068656c6c6f0000000000000040000000",
		);
		expect(ring.peek(layout.HEADER_WRITE_INDEX)).toBe(0x60);
	});

	it("lays a GPA-direct packet out as on the wire: one range over two pages, then 64 bytes", async () => {
		const ring = await testRing({ scattered });
		const { data } = ring.engine.instance;
		const ranges = ring.buffer + 4096;
		data.setUint32(ranges, 4096, true);
		data.setUint32(ranges + 4, 512, true);
		data.setBigUint64(ranges + 8, 0x100n, true);
		data.setBigUint64(ranges + 16, 0x101n, true);
		const kind = (1 << 16) | layout.PACKET_GPA_DIRECT;
		ring.exports.ringPutRanges(ring.writer, kind, 1, 0, 0, ranges, 24, 1, ring.payload(new Uint8Array(64)), 64);
		expect(hex(ring.data().subarray(0, 48))).toBe(
			"090006000e0001000100000000000000000000000100000000100000000200000001000000000000" + "0101000000000000",
		);
		expect(ring.field(ring.writer, layout.RING_AT)).toBe(120);
		expect(ring.peek(layout.HEADER_WRITE_INDEX)).toBe(0);
		expect(ring.exports.ringPublish(ring.writer)).toBe(1);
		expect(ring.peek(layout.HEADER_WRITE_INDEX)).toBe(120);
	});

	it("wraps byte-wise at every offset: packets of all lengths come back as they were sent", async () => {
		const ring = await testRing({ pages: 2, scattered });
		for (let i = 0; i < 3000; i++) {
			const payload = Uint8Array.from({ length: (i * 37) % 700 }, (_, k) => i + 31 * k);
			expect(ring.exports.ringWrite(ring.writer, IN_BAND, i, ~i, ring.payload(payload), payload.length)).toBe(1);
			const got = ring.exports.ringRead(ring.reader, 1, ring.buffer + 8192, 4096);
			const padded = (payload.length + 7) & ~7;
			expect(got >> 1).toBe(16 + padded);
			const packet = ring.bytes(ring.buffer + 8192, 16 + padded);
			expect(new DataView(packet.buffer).getInt32(8, true)).toBe(i);
			expect(new DataView(packet.buffer).getInt32(12, true)).toBe(~i);
			expect(Buffer.from(packet.subarray(16, 16 + payload.length)).equals(payload)).toBe(true);
			expect(packet.subarray(16 + payload.length).every((byte) => byte === 0)).toBe(true);
		}
	});

	it.each([false, true])(
		"takes a packet of all but 8 bytes into an empty ring, strict: %s, and no longer one",
		async (strict) => {
			const ring = await testRing({ pages: 2, scattered, strict, maxPacketBytes: 8192 });
			// header and trailer take 24 bytes of the ring
			const most = ring.dataBytes - 8 - 24;
			for (let i = 0; i < 5; i++) {
				const payload = Uint8Array.from({ length: most }, (_, k) => i + 7 * k);
				const never = strict ? status.RING_TOO_LARGE : status.RING_FULL;
				expect(ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.payload(payload), most + 1)).toBe(never);
				expect(ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.payload(payload), most)).toBe(1);
				expect(ring.peek(layout.HEADER_WRITE_INDEX)).toBe((ring.dataBytes - 8 * (i + 1)) % ring.dataBytes);
				expect(ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 0)).toBe(status.RING_FULL);
				expect(ring.exports.ringRead(ring.reader, 0, ring.buffer + 8192, 8192) >> 1).toBe(most);
				expect(Buffer.from(ring.bytes(ring.buffer + 8192, most)).equals(payload)).toBe(true);
				expect(ring.exports.ringNext(ring.reader, 0)).toBe(status.RING_EMPTY);
			}
			// with anything in the ring it waits for room
			expect(ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 0)).toBe(1);
			expect(ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, most)).toBe(status.RING_FULL);
		},
	);

	it("writes gathered pieces, reserved payloads and plain ones to the same bytes", async () => {
		const payload = Uint8Array.from({ length: 1000 }, (_, i) => i * 7);
		const images: string[] = [];
		for (const how of ["plain", "gather", "reserve"]) {
			const ring = await testRing({ pages: 2, scattered });
			for (let i = 0; i < 30; i++) {
				const length = 900 + i;
				const ptr = ring.payload(payload.subarray(0, length));
				if (how === "plain") expect(ring.exports.ringPut(ring.writer, ASKS, i, 9, ptr, length)).toBe(0);
				else if (how === "gather") {
					const list = ring.buffer + 4096;
					const cuts = [0, 1, 18, 500, length];
					for (let k = 0; k < 4; k++) {
						const from = cuts[k] as number;
						ring.engine.instance.data.setUint32(list + 8 * k, ptr + from, true);
						ring.engine.instance.data.setUint32(list + 8 * k + 4, (cuts[k + 1] as number) - from, true);
					}
					expect(ring.exports.ringPutGather(ring.writer, ASKS, i, 9, list, 4)).toBe(0);
				} else {
					const at = ring.exports.ringReserve(ring.writer, length);
					expect(at).toBeGreaterThan(0);
					ring.engine.instance.bytes.copyWithin(at, ptr, ptr + length);
					expect(ring.exports.ringCommit(ring.writer, ASKS, i, 9, length)).toBe(0);
				}
				ring.exports.ringPublish(ring.writer);
				ring.exports.ringNext(ring.reader, 0);
				ring.exports.ringAdvance(ring.reader);
				ring.exports.ringRelease(ring.reader);
			}
			images.push(hex(ring.data()));
		}
		expect(images[1]).toBe(images[0]);
		expect(images[2]).toBe(images[0]);
	});

	it("refuses a packet that does not leave a quadword free, and changes nothing", async () => {
		const ring = await testRing({ pages: 2, scattered });
		expect(ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 4096 - 24)).toBe(status.RING_FULL);
		const before = hex(ring.data());
		expect(ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 4096 - 31)).toBe(status.RING_FULL);
		expect(hex(ring.data())).toBe(before);
		expect(ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 4096 - 32)).toBe(1);
		expect(ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 0)).toBe(status.RING_FULL);
		expect(ring.field(ring.writer, layout.RING_FULL_TOTAL)).toBe(3);
		expect(ring.field(ring.writer, layout.RING_FULL_FIRST)).toBe(2);
	});
});

describe("writing", () => {
	it("drops a reservation when another packet is written first", async () => {
		const ring = await testRing();
		expect(ring.exports.ringCommit(ring.writer, IN_BAND, 0, 0, 0)).toBe(status.BAD_ARGUMENT);
		ring.exports.ringReserve(ring.writer, 100);
		expect(ring.exports.ringCommit(ring.writer, IN_BAND, 0, 0, 101)).toBe(status.BAD_ARGUMENT);
		ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 8);
		expect(ring.exports.ringCommit(ring.writer, IN_BAND, 0, 0, 100)).toBe(status.BAD_ARGUMENT);
	});

	it("refuses GPA ranges that do not fill their bytes, are empty, or start behind their first page", async () => {
		const ring = await testRing();
		const { data } = ring.engine.instance;
		const put = (bytes: number, offset: number, rangesBytes: number, count: number) => {
			data.setUint32(ring.buffer, bytes, true);
			data.setUint32(ring.buffer + 4, offset, true);
			const { writer, buffer } = ring;
			return ring.exports.ringPutRanges(
				writer,
				layout.PACKET_GPA_DIRECT,
				0,
				0,
				0,
				buffer,
				rangesBytes,
				count,
				buffer,
				8,
			);
		};
		expect(put(4096, 0, 16, 1)).toBe(0);
		for (const bad of [
			put(4096, 1, 16, 1),
			put(0, 0, 8, 1),
			put(1, 4096, 16, 1),
			put(4096, 0, 16, 2),
			put(1, 0, 16, 0),
		])
			expect(bad).toBe(status.BAD_ARGUMENT);
		expect(put(0xffffffff, 4095, 16, 1)).toBe(status.BAD_ARGUMENT);
	});

	it("publishes a burst once and signals for the whole of it", async () => {
		const ring = await testRing();
		const list = ring.engine.scratch(10 * layout.BURST_BYTES);
		for (let i = 0; i < 10; i++) {
			const entry = list + i * layout.BURST_BYTES;
			ring.engine.instance.data.setUint32(entry + layout.BURST_KIND, IN_BAND, true);
			ring.engine.instance.data.setUint32(entry + layout.BURST_PTR, ring.buffer, true);
			ring.engine.instance.data.setUint32(entry + layout.BURST_LENGTH, 800, true);
			ring.engine.instance.data.setUint32(entry + layout.BURST_ID, i, true);
		}
		expect(ring.exports.ringWriteBurst(ring.writer, list, 10)).toBe(9 * 2 + 1);
		expect(ring.exports.ringWriteBurst(ring.writer, list, 10)).toBe(status.RING_FULL);
		expect(ring.exports.ringReadBurst(ring.reader, ring.buffer, 4 * 816 + 815, 10)).toBe(4 * 2);
		expect(ring.field(ring.reader, layout.RING_BURST_BYTES)).toBe(4 * 816);
		expect(ring.exports.ringReadBurst(ring.reader, ring.buffer, 65536, 10)).toBe(5 * 2);
		expect(ring.exports.ringReadBurst(ring.reader, ring.buffer, 65536, 10)).toBe(status.RING_EMPTY);
	});

	it("answers why a ring is closed to every later call", async () => {
		const ring = await testRing();
		ring.exports.ringClose(ring.writer, 1);
		ring.exports.ringClose(ring.reader, 0);
		expect(ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 8)).toBe(status.RING_RESCINDED);
		expect(ring.exports.ringNext(ring.reader, 0)).toBe(status.RING_CLOSED);
	});
});

describe("signalling", () => {
	it("signals when the ring was empty, not when it was not, and not while masked", async () => {
		const ring = await testRing();
		const write = () => ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 8);
		expect([write(), write()]).toEqual([1, 0]);
		while (ring.exports.ringRead(ring.reader, 1, ring.buffer, 4096) >= 0);
		ring.exports.ringMask(ring.reader, 1);
		expect(write()).toBe(0);
		// the re-check of end-read finds what was written while masked
		expect(ring.exports.ringEndRead(ring.reader)).toBe(32);
		while (ring.exports.ringRead(ring.reader, 1, ring.buffer, 4096) >= 0);
		expect(ring.exports.ringEndRead(ring.reader)).toBe(0);
		expect(write()).toBe(1);
	});

	it.each([false, true])(
		"wakes a writer that waits for 8048 bytes at the second read of 4024-byte packets (strict: %s)",
		async (strict) => {
			const ring = await testRing({ pages: 5, strict, maxPacketBytes: 8192 });
			while (ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 4000) >= 0);
			expect(ring.exports.ringSetPending(ring.writer, 8048)).toBe(0);
			const signals = [];
			for (let i = 0; i < 3; i++) signals.push(ring.exports.ringRead(ring.reader, 1, ring.buffer, 8192) & 1);
			expect(signals).toEqual([0, 1, 0]);
		},
	);

	it("does not wake a writer whose ring lacks the feature bit", async () => {
		const ring = await testRing({ pages: 5 });
		while (ring.exports.ringWrite(ring.writer, IN_BAND, 0, 0, ring.buffer, 4000) >= 0);
		ring.exports.ringSetPending(ring.writer, 4048);
		ring.poke(layout.HEADER_FEATURES, 0);
		expect(ring.exports.ringRead(ring.reader, 1, ring.buffer, 8192) & 1).toBe(0);
	});

	it("tells a writer at once when the room is there already", async () => {
		const ring = await testRing();
		expect(ring.exports.ringSetPending(ring.writer, 8191)).toBe(1);
		expect(ring.exports.ringSetPending(ring.writer, 8192)).toBe(0);
	});
});

describe("the requestor", () => {
	it("gives ids from 1 on, the one freed last first, and stands in for 64-bit values", async () => {
		const ring = await testRing({ requests: 4 });
		const send = (low: number, high: number) => {
			const result = ring.exports.ringWrite(ring.writer, ASKS, low, high, ring.buffer, 8);
			return result < 0 ? result : ring.field(ring.writer, layout.RING_GIVEN_ID);
		};
		const end = (low: number, high = 0) => {
			const result = ring.exports.ringComplete(ring.writer, low, high);
			const found = ring.exports.requestorOf(ring.writer) + layout.REQUESTOR_FOUND;
			return result < 0 ? result : ring.engine.instance.data.getBigUint64(found, true);
		};
		expect([send(1, 0x80000000), send(2, 0), send(3, 0)]).toEqual([1, 2, 3]);
		expect(end(1)).toBe(0x8000000000000001n);
		expect(end(3)).toBe(3n);
		expect([send(4, 0), send(5, 0), send(6, 0)]).toEqual([3, 1, 4]);
		expect(send(7, 0)).toBe(status.REQUESTOR_FULL);
	});

	it("refuses id 0, ids never issued, ids with a high half and a second completion", async () => {
		const ring = await testRing({ requests: 2 });
		ring.exports.ringWrite(ring.writer, ASKS, 99, 0, ring.buffer, 8);
		for (const [low, high] of [
			[0, 0],
			[2, 0],
			[3, 0],
			[1, 1],
			[-1, -1],
		] as const)
			expect(ring.exports.ringComplete(ring.writer, low, high)).toBe(status.BAD_REQUEST);
		expect(ring.exports.ringComplete(ring.writer, 1, 0)).toBe(status.OK);
		expect(ring.exports.ringComplete(ring.writer, 1, 0)).toBe(status.BAD_REQUEST);
	});

	it("takes an id after the copy: a full requestor leaves bytes behind the write index, which stays", async () => {
		const ring = await testRing({ requests: 1 });
		ring.exports.ringWrite(ring.writer, ASKS, 1, 0, ring.buffer, 8);
		const payload = ring.payload(Buffer.from("left behind"));
		expect(ring.exports.ringWrite(ring.writer, ASKS, 2, 0, payload, 11)).toBe(status.REQUESTOR_FULL);
		expect(ring.peek(layout.HEADER_WRITE_INDEX)).toBe(32);
		// VMBUS_RQST_ERROR stands where the id would be, and no trailer follows
		expect(hex(ring.data().subarray(32, 72))).toBe(
			"0600020004000100" + "feffffffffffffff" + "6c65667420626568696e640000000000" + "0000000000000000",
		);
	});

	it("gives ids only to packets whose flags are exactly the completion flag", async () => {
		const ring = await testRing({ requests: 1 });
		for (const [i, kind] of [IN_BAND, (3 << 16) | IN_BAND].entries()) {
			ring.exports.ringWrite(ring.writer, kind, 77, 1, ring.buffer, 8);
			expect(hex(ring.data().subarray(32 * i + 8, 32 * i + 16))).toBe("4d00000001000000");
		}
		expect(ring.exports.ringComplete(ring.writer, 1, 0)).toBe(status.BAD_REQUEST);
	});

	it("lets requests be ended after the ring was closed", async () => {
		const ring = await testRing({ requests: 1 });
		ring.exports.ringWrite(ring.writer, ASKS, 5, 0, ring.buffer, 8);
		ring.exports.ringClose(ring.writer, 1);
		expect(ring.exports.ringComplete(ring.writer, 1, 0)).toBe(status.OK);
	});
});
