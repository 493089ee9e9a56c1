import { describe, expect, it } from "vitest";
import * as layout from "../../assembly/layout/ring.ts";
import * as status from "../../assembly/layout/status.ts";
import { type TestRing, testRing } from "./ring-channel.ts";

const IN_BAND = layout.PACKET_IN_BAND;
const u16 = (value: number) => [value & 255, value >> 8];
const write = (ring: TestRing, bytes: number, kind = IN_BAND) =>
	ring.exports.ringWrite(ring.writer, kind, 5, 0, ring.payload(new Uint8Array(bytes).fill(0x11)), bytes);
const head = (ring: TestRing) => {
	const at = ring.exports.ringPtr(ring.reader) + layout.RING_PACKET_HEAD;
	const { data } = ring.engine.instance;
	return { offset: data.getUint16(at + 2, true) * 8, bytes: data.getUint16(at + 4, true) * 8 };
};

describe("the clamp behaviour", () => {
	it.each([
		["a length below the header's", 4, 1],
		["a length of 0", 4, 0],
		["a length beyond what is there", 4, 600],
	])("takes everything that is there for %s", async (_, at, value) => {
		const ring = await testRing();
		write(ring, 40);
		ring.pokeData(at, u16(value));
		expect(ring.exports.ringNext(ring.reader, 0)).toBe(64 - 16);
		expect(head(ring)).toEqual({ offset: 16, bytes: 64 });
	});

	it("puts the payload behind the header when its offset is invalid", async () => {
		for (const offset8 of [0, 1, 9, 65535]) {
			const ring = await testRing();
			write(ring, 40);
			ring.pokeData(2, u16(offset8));
			expect(ring.exports.ringNext(ring.reader, 0)).toBe(40);
			expect(head(ring).offset).toBe(16);
		}
	});

	it("patches the private copy, which the peer can no longer change", async () => {
		const ring = await testRing();
		write(ring, 40);
		ring.pokeData(4, u16(0x7fff));
		ring.exports.ringNext(ring.reader, 0);
		const packet = ring.exports.ringPacket(ring.reader);
		const before = ring.bytes(packet, 64);
		ring.pokeData(0, new Uint8Array(64).fill(0xff));
		expect(ring.bytes(packet, 64)).toEqual(before);
		expect([before[2], before[4], before[5]]).toEqual([2, 8, 0]);
	});

	it("never takes more than its private buffer holds", async () => {
		const ring = await testRing({ maxPacketBytes: 80 });
		write(ring, 1000);
		expect(ring.exports.ringNext(ring.reader, 0)).toBe(80 - 16);
	});

	it("wraps a write index beyond the data, and a read index when it writes", async () => {
		const ring = await testRing();
		write(ring, 40);
		ring.poke(layout.HEADER_WRITE_INDEX, ring.dataBytes + 64);
		expect(ring.exports.ringNext(ring.reader, 0)).toBe(40);
		ring.poke(layout.HEADER_READ_INDEX, 0xffffffff);
		expect(write(ring, 8)).toBeGreaterThanOrEqual(0);
	});

	it("calls 1 to 15 bytes nothing, and lets the reader sleep on them", async () => {
		for (const bytes of [1, 8, 15]) {
			const ring = await testRing();
			ring.poke(layout.HEADER_WRITE_INDEX, bytes);
			expect(ring.exports.ringNext(ring.reader, 0)).toBe(status.RING_EMPTY);
			expect(ring.exports.ringEndRead(ring.reader)).toBe(0);
		}
	});

	it("stops an iterator that yielded more than the ring holds, where Linux would go on for ever", async () => {
		const ring = await testRing();
		for (let i = 0; i < 10; i++) write(ring, 40);
		ring.pokeData(4, u16(0x7fff));
		let n = 0;
		while (ring.exports.ringNext(ring.reader, 0) >= 0) expect(++n).toBeLessThan(1000);
		expect(ring.field(ring.reader, layout.RING_STOPPED)).toBe(1);
		ring.exports.ringRelease(ring.reader);
		expect(ring.exports.ringEndRead(ring.reader)).toBe(0);
		expect(ring.exports.ringRead(ring.reader, 1, ring.buffer, 4096)).toBe(status.RING_EMPTY);
		ring.exports.ringResume(ring.reader);
		expect(ring.exports.ringNext(ring.reader, 0)).toBeGreaterThanOrEqual(0);
	});

	it("does not stop an honest peer, however much goes through", async () => {
		const ring = await testRing({ pages: 2 });
		for (let i = 0; i < 5000; i++) {
			while (write(ring, (i * 8) % 1000) >= 0);
			while (ring.exports.ringNext(ring.reader, i & 1) >= 0);
			ring.exports.ringRelease(ring.reader);
			expect(ring.field(ring.reader, layout.RING_STOPPED)).toBe(0);
		}
	});

	it("ignores what its own index says in the header page", async () => {
		const ring = await testRing();
		write(ring, 40);
		ring.poke(layout.HEADER_WRITE_INDEX, 0x1000);
		write(ring, 40);
		expect(ring.peek(layout.HEADER_WRITE_INDEX)).toBe(128);
	});
});

describe("the strict behaviour", () => {
	it.each<[string, number, (ring: TestRing) => void]>([
		["a write index beyond the data", status.RING_BAD_INDEX, (r) => r.poke(0, r.dataBytes)],
		["a write index that is no multiple of 8", status.RING_BAD_INDEX, (r) => r.poke(0, 60)],
		["fewer bytes than a header", status.RING_BAD_AVAILABLE, (r) => r.poke(0, 8)],
		["a length below the header's", status.RING_BAD_LENGTH, (r) => r.pokeData(4, u16(1))],
		["a length beyond what is there", status.RING_BAD_LENGTH, (r) => r.pokeData(4, u16(9))],
		["a packet without room for its trailer", status.RING_BAD_LENGTH, (r) => r.poke(0, 56)],
		["a payload offset inside the header", status.RING_BAD_LENGTH, (r) => r.pokeData(2, u16(1))],
		["a payload offset behind the packet", status.RING_BAD_LENGTH, (r) => r.pokeData(2, u16(8))],
		["an unknown type", status.RING_BAD_TYPE, (r) => r.pokeData(0, u16(8))],
		["a type far beyond", status.RING_BAD_TYPE, (r) => r.pokeData(0, u16(6 + 32))],
		["an unknown flag", status.RING_BAD_FLAGS, (r) => r.pokeData(6, u16(2))],
	])("closes the ring for %s, and says so ever after", async (_, expected, break_) => {
		for (const take of ["next", "read", "burst"]) {
			const ring = await testRing({ strict: true });
			write(ring, 40);
			ring.poke(layout.HEADER_READ_INDEX, 0);
			break_(ring);
			const call = () =>
				take === "next"
					? ring.exports.ringNext(ring.reader, 0)
					: take === "read"
						? ring.exports.ringRead(ring.reader, 1, ring.buffer, 4096)
						: ring.exports.ringReadBurst(ring.reader, ring.buffer, 4096, 4);
			expect(call()).toBe(expected);
			ring.poke(0, 64);
			expect(call()).toBe(expected);
			expect(ring.exports.ringEndRead(ring.reader)).toBe(expected);
		}
	});

	it("closes the writing end for a read index beyond the data", async () => {
		const ring = await testRing({ strict: true });
		ring.poke(layout.HEADER_READ_INDEX, ring.dataBytes + 8);
		expect(write(ring, 8)).toBe(status.RING_BAD_INDEX);
		expect(write(ring, 8)).toBe(status.RING_BAD_INDEX);
	});

	it("refuses a packet that never fits, and leaves one that its buffer cannot hold in the ring", async () => {
		const ring = await testRing({ strict: true, maxPacketBytes: 64 });
		expect(write(ring, 8192)).toBe(status.RING_TOO_LARGE);
		write(ring, 100);
		expect(ring.exports.ringNext(ring.reader, 0)).toBe(status.RING_TOO_SMALL);
		expect(ring.exports.ringRead(ring.reader, 0, ring.buffer, 104)).toBe(104 * 2);
	});

	it("does not attach to a header whose indices are broken", async () => {
		const ring = await testRing({ strict: true });
		ring.poke(layout.HEADER_WRITE_INDEX, 12);
		const list = ring.engine.scratch(24);
		for (const [i, gpa] of ring.pages.entries()) ring.engine.instance.data.setFloat64(list + 8 * i, gpa, true);
		expect(ring.exports.ringAttach(list, 3, layout.RING_STRICT | layout.RING_READER, 64, 0)).toBe(
			status.RING_BAD_INDEX,
		);
	});
});

describe.each([false, true])("ranges (strict: %s)", (strict) => {
	const gpaDirect = async (ranges: number[][], declared = ranges.length) => {
		const ring = await testRing({ strict });
		const words = ranges.flatMap(([bytes = 0, offset = 0, ...pfns]) => [
			bytes,
			offset,
			...pfns.flatMap((pfn) => [pfn, 0]),
		]);
		const body = new Uint8Array(8 + 4 * words.length + 8);
		const view = new DataView(body.buffer);
		view.setUint32(4, declared, true);
		for (const [i, word] of words.entries()) view.setUint32(8 + 4 * i, word, true);
		ring.exports.ringWrite(ring.writer, layout.PACKET_GPA_DIRECT, 1, 0, ring.payload(body), body.length);
		ring.pokeData(2, u16((24 + 4 * words.length) / 8));
		ring.exports.ringNext(ring.reader, 0);
		return ring;
	};

	it("walks every range with the pages that it touches", async () => {
		const ring = await gpaDirect([
			[4096, 512, 1, 2],
			[1, 4095, 3],
			[8192, 1, 4, 5, 6],
		]);
		expect(ring.exports.ringRanges(ring.reader)).toBe(3);
		const found = [];
		while (ring.exports.ringNextRange(ring.reader) > 0)
			found.push([
				ring.field(ring.reader, layout.RING_RANGE_LENGTH),
				ring.field(ring.reader, layout.RING_RANGE_OFFSET),
				ring.field(ring.reader, layout.RING_RANGE_NPFNS),
			]);
		expect(found).toEqual([
			[4096, 512, 2],
			[1, 4095, 1],
			[8192, 1, 3],
		]);
	});

	it.each<[string, number[][], number | undefined]>([
		["a count of 0", [[1, 0, 1]], 0],
		["a count that the packet cannot hold", [[1, 0, 1]], 0xffffffff],
		["one range more than there are", [[1, 0, 1]], 2],
		["a range of 0 bytes", [[0, 0, 1]], undefined],
		["an offset behind the first page", [[1, 4096, 1]], undefined],
		["too few pages", [[8192, 1, 1, 2]], undefined],
		["a length whose pages overflow", [[0xffffffff, 4095, 1]], undefined],
	])("refuses %s", async (_, ranges, declared) => {
		const ring = await gpaDirect(ranges, declared);
		let last = ring.exports.ringRanges(ring.reader);
		while (last > 0) last = ring.exports.ringNextRange(ring.reader);
		expect(last).toBe(status.RING_BAD_RANGES);
		expect(ring.exports.ringNext(ring.reader, 0)).toBe(strict ? status.RING_BAD_RANGES : status.RING_EMPTY);
	});

	it("reads the count of a packet in place once: raising it later gains nothing", async () => {
		const ring = await testRing({ strict });
		const body = new Uint8Array(32);
		new DataView(body.buffer).setUint32(4, 1, true);
		new DataView(body.buffer).setUint32(8, 100, true);
		ring.exports.ringWrite(ring.writer, layout.PACKET_TRANSFER_PAGES, 1, 0, ring.payload(body), body.length);
		ring.pokeData(2, u16(4));
		ring.exports.ringNext(ring.reader, 1);
		expect(ring.exports.ringRanges(ring.reader)).toBe(1);
		ring.pokeData(20, [255, 255, 255, 255]);
		expect(ring.exports.ringNextRange(ring.reader)).toBe(1);
		expect(ring.exports.ringNextRange(ring.reader)).toBe(0);
	});

	it("has none without a packet in hand, and for packets without ranges", async () => {
		const ring = await testRing({ strict });
		expect(ring.exports.ringRanges(ring.reader)).toBe(status.BAD_ARGUMENT);
		write(ring, 64);
		ring.exports.ringNext(ring.reader, 0);
		expect(ring.exports.ringRanges(ring.reader)).toBe(status.BAD_ARGUMENT);
	});
});
