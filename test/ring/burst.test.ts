import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as layout from "../../assembly/layout/ring.ts";
import { printSeed, SEED } from "../helpers/random.ts";
import { type TestRing, testRing } from "./ring-channel.ts";

printSeed("ring bursts");

const packet = fc.record({
	kind: fc.constantFrom(layout.PACKET_IN_BAND, layout.PACKET_IN_BAND | (layout.PACKET_WANTS_COMPLETION << 16)),
	bytes: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 5000 })),
});

/** Lays payloads and list out behind the ring's buffer. @returns ptr of the list */
function layList(ring: TestRing, list: number, packets: readonly { kind: number; bytes: number }[]): number {
	const { data, bytes } = ring.engine.instance;
	let ptr = ring.buffer;
	for (const [i, { kind, bytes: length }] of packets.entries()) {
		for (let k = 0; k < length; k++) bytes[ptr + k] = i * 37 + k * 11;
		const entry = list + i * layout.BURST_BYTES;
		data.setUint32(entry + layout.BURST_KIND, kind, true);
		data.setUint32(entry + layout.BURST_PTR, ptr, true);
		data.setUint32(entry + layout.BURST_LENGTH, length, true);
		data.setBigUint64(entry + layout.BURST_ID, BigInt(i) + 0x100000000n, true);
		ptr += length;
	}
	return list;
}

describe("a burst", () => {
	it("leaves the packet out that would fill the last quadword", async () => {
		const ring = await testRing({ pages: 2 });
		const list = ring.engine.scratch(17 * layout.BURST_BYTES);
		const write = (...sizes: number[]) => {
			const packets = sizes.map((bytes) => ({ kind: layout.PACKET_IN_BAND, bytes }));
			return ring.exports.ringWriteBurst(ring.writer, layList(ring, list, packets), sizes.length);
		};
		write(...Array(16).fill(216));
		for (let i = 0; i < 8; i++) ring.exports.ringRead(ring.reader, 0, ring.buffer + 131072, 65536);
		// 256 bytes up to the end, 7 times 240 from the front on: an 8th would end where the reader is
		expect(write(232, ...Array(8).fill(216))).toBe(8 * 2);
	});

	it("goes on at the front when a packet ends where the data ends", async () => {
		const ring = await testRing({ pages: 2 });
		const list = ring.engine.scratch(17 * layout.BURST_BYTES);
		const write = (...sizes: number[]) =>
			ring.exports.ringWriteBurst(
				ring.writer,
				layList(
					ring,
					list,
					sizes.map((bytes) => ({ kind: layout.PACKET_IN_BAND, bytes })),
				),
				sizes.length,
			);
		write(...Array(16).fill(216));
		for (let i = 0; i < 16; i++) ring.exports.ringRead(ring.reader, 0, ring.buffer + 131072, 65536);
		expect(write(232, 24)).toBe(2 * 2 + 1);
		expect(ring.peek(layout.HEADER_WRITE_INDEX)).toBe(48);
		for (const bytes of [232, 24]) {
			expect(ring.exports.ringRead(ring.reader, 0, ring.buffer + 131072, 65536)).toBe(bytes * 2);
		}
	});

	it("writes byte for byte what single puts and one publication write, refusals and ids included", async () => {
		const shape = fc.record({
			pages: fc.integer({ min: 2, max: 5 }),
			scattered: fc.boolean(),
			requests: fc.constantFrom(0, 3, 40),
			build: fc.constantFrom("engine" as const, "engine.threads" as const),
		});
		await fc.assert(
			fc.asyncProperty(
				shape,
				fc.array(fc.array(packet, { minLength: 1, maxLength: 12 }), { maxLength: 12 }),
				async (options, bursts) => {
					const [burst, single] = [await testRing(options), await testRing(options)];
					const lists = [burst, single].map((ring) => ring.engine.scratch(12 * layout.BURST_BYTES));
					for (const packets of bursts) {
						layList(single, lists[1] as number, packets);
						const got = burst.exports.ringWriteBurst(
							burst.writer,
							layList(burst, lists[0] as number, packets),
							packets.length,
						);
						let written = 0;
						let status = 0;
						for (const [i, { kind, bytes }] of packets.entries()) {
							const ptr = single.engine.instance.u32((lists[1] as number) + i * layout.BURST_BYTES + layout.BURST_PTR);
							status = single.exports.ringPut(single.writer, kind, i, 1, ptr, bytes);
							if (status !== 0) break;
							written++;
						}
						expect(got).toBe(written === 0 ? status : written * 2 + single.exports.ringPublish(single.writer));
						expect(Buffer.from(burst.data()).equals(Buffer.from(single.data()))).toBe(true);
						for (const field of [
							layout.RING_AT,
							layout.RING_PUBLISHED,
							layout.RING_FULL_TOTAL,
							layout.RING_FULL_FIRST,
						]) {
							expect(burst.field(burst.writer, field)).toBe(single.field(single.writer, field));
						}
						// the readers take some of it, so that bursts start anywhere and wrap
						for (const ring of [burst, single]) {
							for (let k = 0; k < packets.length - 1; k++)
								ring.exports.ringRead(ring.reader, 1, ring.buffer + 131072, 65536);
						}
					}
				},
			),
			{ seed: SEED, numRuns: 80 },
		);
	});
});
