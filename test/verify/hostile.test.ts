import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "../../src/input-error.ts";
import { verifyRecording } from "../../src/verify/verify.ts";
import { recordingText } from "../helpers/golden.ts";
import { printSeed, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";

printSeed("hostile recordings");

/** A recording of each format, short enough that a case is quick. */
const RECORDINGS = [
	["swiotlb-recorded/up-small-mixed", 300],
	["swiotlb-dynamic/dyn-areas", 300],
	["swiotlb-ops/min1ff_256_a1", 300],
	["ring/small_2p", 300],
	["vmbus/iso_snp_para", Number.POSITIVE_INFINITY],
	["vmbus/subchannels", Number.POSITIVE_INFINITY],
] as const;
const TEXTS = RECORDINGS.map(([path, most]) => {
	const text = recordingText(new URL(`../golden/${path}.txt.gz`, import.meta.url).pathname);
	const lines = text.split("\n");
	return lines.length <= most ? text : [...lines.slice(0, most), ...lines.slice(-4)].join("\n");
});
const NAMES = RECORDINGS.map(([path]) => path);

/** Verifies what may be anything. @returns the one line that there is to say */
async function told(text: string): Promise<string> {
	try {
		const { summary, identical } = await verifyRecording(text, { name: "folder/x.txt" });
		expect(summary).toMatch(identical ? /^x: / : /^x: line \d+: .*(expected|got) /);
		return summary;
	} catch (error) {
		expect(error).toBeInstanceOf(InputError);
		const { message } = error as InputError;
		expect(message).toMatch(/^folder\/x\.txt(:\d+)?: .*(expected|holds no map|touches)/);
		return message;
	}
}

/** One short line that a terminal only shows. */
function expectOneLine(line: string): void {
	expect(line.length).toBeLessThan(800);
	// biome-ignore lint/suspicious/noControlCharactersInRegex: those are the ones
	expect(line).not.toMatch(/[\x00-\x1f\x7f]/);
}

describe("a recording of any kind that is broken", () => {
	it.each(NAMES)("%s: is told in one line wherever it is cut", { timeout: 600_000 }, async (name) => {
		const text = TEXTS[NAMES.indexOf(name)] as string;
		const cut = fc.integer({ min: 0, max: text.length - 2 });
		await fc.assert(
			fc.asyncProperty(cut, async (at) => expectOneLine(await told(text.slice(0, at)))),
			{ seed: SEED, numRuns: bySuite({ quick: 6, slow: 100 }) },
		);
	});

	it.each(NAMES)("%s: is told in one line when the rest is of another kind", { timeout: 600_000 }, async (name) => {
		const lines = (TEXTS[NAMES.indexOf(name)] as string).split("\n");
		const head = fc.integer({ min: 1, max: 15 });
		await fc.assert(
			fc.asyncProperty(fc.constantFrom(...TEXTS), head, async (other, n) => {
				const rest = other.split("\n");
				expectOneLine(await told([...lines.slice(0, n), ...rest.slice(n)].join("\n")));
			}),
			{ seed: SEED, numRuns: bySuite({ quick: 4, slow: 60 }) },
		);
	});

	it.each(NAMES)(
		"%s: is told in one line with fields of any size and any bytes",
		{ timeout: 600_000 },
		async (name) => {
			const lines = (TEXTS[NAMES.indexOf(name)] as string).split("\n");
			const field = fc.oneof(
				fc.constantFrom("9".repeat(5000), `0x${"f".repeat(5000)}`, "a".repeat(100_000), "ff".repeat(3000)),
				fc.constantFrom("", "-1", "4294967296", "0xffffffffffffffff", "NaN", "\u001b[2J", "\0", "{}", "="),
				fc.string({ unit: "binary", maxLength: 20 }),
			);
			const change = fc.record({ line: fc.nat(lines.length - 1), at: fc.nat(8), field, splits: fc.boolean() });
			await fc.assert(
				fc.asyncProperty(change, async ({ line, at, field, splits }) => {
					const parts = (lines[line] as string).split(splits ? " " : /(?<==)/);
					parts[at % parts.length] = field;
					expectOneLine(await told(lines.with(line, parts.join(splits ? " " : "")).join("\n")));
				}),
				{ seed: SEED, numRuns: bySuite({ quick: 12, slow: 300 }) },
			);
		},
	);

	it("names the field that asks for more than an engine has", async () => {
		const ops = TEXTS[2] as string;
		const large = ops
			.replace(/^ram_size .*/m, "ram_size 0x80000000")
			.replace(/^pool_start .*/m, "pool_start 0x100000000")
			.replace(/^nslabs .*/m, "nslabs 1048576");
		expect(await told(large)).toMatch(/^folder\/x\.txt:\d+: nslabs: expected at most 3221225472 bytes of RAM and pool/);
		const devices = Array.from({ length: 5000 }, (_, i) => `d${i} min_align_mask=0x0 seg_boundary=0xffffffff`).join(
			"; ",
		);
		const many = (TEXTS[0] as string).replace(/devices: .*/, `devices: ${devices}`);
		expect(await told(many)).toBe("folder/x.txt:1: devices: expected at most 2048 devices, found 5000");
	});
});
