import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import type { GpaRange } from "../../src/ring/packet.ts";
import { encodeMessage } from "../../src/vmbus/wire/codec.ts";
import { gpadlMessages, parseGpadl } from "../../src/vmbus/wire/gpadl.ts";
import { MessageType } from "../../src/vmbus/wire/messages.ts";
import { printSeed, SEED } from "../helpers/random.ts";

printSeed("vmbus gpadl");

const range: fc.Arbitrary<GpaRange> = fc
	.record({ pages: fc.integer({ min: 1, max: 90 }), offset: fc.nat(PAGE_SIZE - 1), short: fc.nat(PAGE_SIZE - 1) })
	.chain(({ pages, offset, short }) => {
		const bytes = Math.max(pages * PAGE_SIZE - offset - short, pages > 1 ? (pages - 1) * PAGE_SIZE - offset + 1 : 1);
		const pfns = fc.array(fc.nat(2 ** 31 - 1), { minLength: pages, maxLength: pages });
		return pfns.map((list) => ({ bytes, offset, pfns: list }));
	});

describe("a GPADL as messages", () => {
	it("holds its ranges in a header and bodies of one SynIC message each, and gives them back", () => {
		fc.assert(
			fc.property(fc.array(range, { minLength: 1, maxLength: 6 }), (ranges) => {
				const [header, ...bodies] = [...gpadlMessages(3, 7, ranges)];
				if (header?.type !== MessageType.GpadlHeader) throw new Error("no header first");
				const quadwords = [header, ...bodies].flatMap((message) => message.ranges);
				expect(header).toMatchObject({
					relid: 3,
					gpadl: 7,
					rangeCount: ranges.length,
					rangeBytes: 8 * quadwords.length,
				});
				for (const body of bodies) expect(body).toMatchObject({ type: MessageType.GpadlBody, gpadl: 7 });
				for (const message of [header, ...bodies]) expect(encodeMessage(message).length).toBeLessThanOrEqual(240);
				// no body that an earlier one had room for
				for (const body of bodies.slice(0, -1)) expect(encodeMessage(body)).toHaveLength(240);
				expect(parseGpadl(quadwords, ranges.length)).toEqual(ranges);
			}),
			{ seed: SEED, numRuns: 300 },
		);
	});
});
