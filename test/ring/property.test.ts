import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as layout from "../../assembly/layout/ring.ts";
import * as status from "../../assembly/layout/status.ts";
import { testRing } from "./ring-channel.ts";

/** The seed of a run: printed, and again by fast-check when a property fails. */
const seed = Number(process.env.FC_SEED ?? Date.now() % 2 ** 31);
console.log(`ring properties: FC_SEED=${seed}`);
const run = { seed, numRuns: 60 };

const shape = fc.record({
	pages: fc.integer({ min: 2, max: 6 }),
	scattered: fc.boolean(),
	strict: fc.boolean(),
	maxPacketBytes: fc.constant(32768),
});
type Step = { kind: "put" | "write" | "reserve" | "publish" | "read" | "next" | "in place" | "burst"; bytes: number };
const steps = fc.array(
	fc.record({
		kind: fc.constantFrom<Step["kind"]>("put", "write", "reserve", "publish", "read", "next", "in place", "burst"),
		bytes: fc.oneof(fc.integer({ min: 0, max: 64 }), fc.integer({ min: 0, max: 6000 })),
	}),
	{ minLength: 1, maxLength: 120 },
);
const pattern = (bytes: number, n: number) => Uint8Array.from({ length: bytes }, (_, i) => n * 13 + i * 7);

describe("properties of a ring", () => {
	it("is a queue: packets come out once, in order, as they went in, and only after they were published", async () => {
		await fc.assert(
			fc.asyncProperty(shape, steps, async (options, list) => {
				const ring = await testRing(options);
				const queue: Uint8Array[] = [];
				let visible = 0;
				let sent = 0;
				const out = ring.buffer + 65536;
				const expectNext = (payload: Uint8Array, bytes: number) => {
					const expected = queue.shift() as Uint8Array;
					visible--;
					expect(bytes).toBe((expected.length + 7) & ~7);
					expect(Buffer.from(payload.subarray(0, expected.length)).equals(expected)).toBe(true);
				};
				for (const { kind, bytes } of list) {
					const payload = pattern(bytes, sent);
					const { exports, writer, reader } = ring;
					if (kind === "put" || kind === "write" || kind === "reserve") {
						const free = exports.ringFree(writer);
						const total = 24 + ((bytes + 7) & ~7);
						let result: number;
						if (kind === "reserve") {
							const at = exports.ringReserve(writer, bytes);
							if (at >= 0) ring.engine.instance.bytes.set(payload, at);
							result = at < 0 ? at : exports.ringCommit(writer, layout.PACKET_IN_BAND, sent, 0, bytes);
						} else {
							const call = kind === "put" ? exports.ringPut : exports.ringWrite;
							result = call(writer, layout.PACKET_IN_BAND, sent, 0, ring.payload(payload), bytes);
						}
						// all or nothing, and one quadword stays free
						expect(result >= 0).toBe(free > total);
						if (result >= 0) {
							queue.push(payload);
							sent++;
							if (kind === "write") visible = queue.length;
						}
					} else if (kind === "publish") {
						expect(exports.ringPublish(writer)).toBeGreaterThanOrEqual(0);
						visible = queue.length;
					} else if (kind === "burst") {
						const result = exports.ringReadBurst(reader, out, 65536, 3);
						expect(result < 0 ? 0 : result >> 1).toBe(Math.min(visible, 3));
						let at = out;
						for (let i = 0; i < result >> 1; i++) {
							const length = ring.engine.instance.data.getUint16(at + 4, true) * 8;
							expectNext(ring.bytes(at + 16, length - 16), length - 16);
							at += length;
						}
					} else if (kind === "read") {
						const result = exports.ringRead(reader, 0, out, 65536);
						if (visible === 0) expect(result).toBe(status.RING_EMPTY);
						else expectNext(ring.bytes(out, result >> 1), result >> 1);
					} else {
						const result = exports.ringNext(reader, kind === "in place" ? 1 : 0);
						if (visible === 0) expect(result).toBe(status.RING_EMPTY);
						else expectNext(ring.bytes(exports.ringPacket(reader) + 16, result), result);
						exports.ringConsume(reader);
					}
				}
			}),
			run,
		);
	});

	it("holds the same bytes whether its pages are contiguous or scattered, on both builds", async () => {
		await fc.assert(
			fc.asyncProperty(fc.integer({ min: 2, max: 5 }), steps, async (pages, list) => {
				const images: string[] = [];
				for (const [scattered, build] of [
					[false, "engine"],
					[true, "engine"],
					[true, "engine.threads"],
				] as const) {
					const ring = await testRing({ pages, scattered, build, maxPacketBytes: 32768 });
					const signals: number[] = [];
					for (const [i, { kind, bytes }] of list.entries()) {
						const write = kind === "put" || kind === "write" || kind === "reserve" || kind === "publish";
						const { exports, writer, reader, buffer } = ring;
						if (write) signals.push(exports.ringWrite(writer, 6, i, 0, ring.payload(pattern(bytes, i)), bytes));
						else signals.push(exports.ringRead(reader, i & 1, buffer, 8192) & 0xffff);
					}
					images.push(`${signals} ${createHash("sha256").update(ring.data()).digest("hex")}`);
				}
				expect(images[1]).toBe(images[0]);
				expect(images[2]).toBe(images[0]);
			}),
			{ ...run, numRuns: 30 },
		);
	});
});
