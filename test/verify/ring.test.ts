import { mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { verifyFile } from "../../src/node/input.ts";
import { recordingText } from "../helpers/golden.ts";

const FOLDER = new URL("../golden/ring/", import.meta.url).pathname;
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith(".txt.gz"));
const folder = mkdtempSync(join(tmpdir(), "ring-"));
let written = 0;

function file(text: string): string {
	const path = join(folder, `ring${written++}.txt`);
	writeFileSync(path, text);
	return path;
}

const small = recordingText(join(FOLDER, "small_2p.txt.gz"));
const lines = small.split("\n");
/** The recording with one line replaced; line: counted from 1. */
const changed = (line: number, text: string) => file(lines.map((old, i) => (i === line - 1 ? text : old)).join("\n"));

describe("verifying ring recordings", () => {
	it("finds the six recordings", () => {
		expect(FILES.length).toBe(6);
	});

	it.each(FILES)("answers every step of %s as Linux did", async (name) => {
		const result = await verifyFile(join(FOLDER, name));
		expect(result.summary).toMatch(/1500\/1500 steps identical/);
		expect(result).toMatchObject({ identical: true, format: "ring" });
	});

	// the threads build keeps the peer's index until it says full, so a reader that takes room back is noticed later
	it.each(FILES.filter((name) => !name.startsWith("hostile")))(
		"answers %s as Linux did with real fences",
		async (name) => {
			expect((await verifyFile(join(FOLDER, name), "engine.threads")).identical).toBe(true);
		},
	);

	it("takes plain text as well as gzip, and a ring of any page count", async () => {
		expect((await verifyFile(file(small))).identical).toBe(true);
		const empty = "# vmbus ring golden v1 (x)\nname x\npages 1\nmax_pkt_size 4096\n--\nW 8 1 6 1 0x1 = -11 | ";
		const result = await verifyFile(file(`${empty}0 0 0 1 1 0 4dfd6ad5ab9c0d4d\nE 00\n`)).catch((error) => error);
		expect(String(result.message ?? result.summary)).toMatch(/sha/);
	});

	it.each([
		["write_index", /^(.*\| )(\d+)( .*)$/],
		["rc of the write", /^(W .* = )(0)( .*)$/],
	])("stops at the first line where the %s differs", async (what, pattern) => {
		const line = lines.findIndex((text) => pattern.test(text)) + 1;
		const text = (lines[line - 1] as string).replace(pattern, what.startsWith("rc") ? "$1-11$3" : "$18$2$3");
		const result = await verifyFile(changed(line, text));
		expect(result).toMatchObject({ identical: false, divergence: { line, what } });
	});

	it("stops at a ring hash, a signal count and a packet hash that differ", async () => {
		const of = (op: string) => lines.findIndex((text, i) => i > 10 && text.startsWith(`${op} `)) + 1;
		const last = (line: number, from: RegExp, to: string) => (lines[line - 1] as string).replace(from, to);
		const cases: [number, string, string][] = [
			[of("R"), last(of("R"), /[0-9a-f]{16}$/, "0123456789abcdef"), "sha-256 of the ring"],
			[of("W"), last(of("W"), / (\d+) ([0-9a-f]{16})$/, " 999999 $2"), "signals"],
			[of("I"), last(of("I"), /[0-9a-f]{8} \|/, "01234567 |"), "hash of the packets"],
		];
		for (const [line, text, what] of cases)
			expect(await verifyFile(changed(line, text))).toMatchObject({ identical: false, divergence: { line, what } });
	});

	it.each<[string, string, RegExp]>([
		["a header without pages", small.replace(/^pages.*\n/m, ""), /header: expected a line "pages/],
		["pages that are no number", small.replace(/^pages.*$/m, "pages two"), /:3: pages: expected a whole number/],
		["more pages than a ring can have", small.replace(/^pages.*$/m, "pages 8191"), /:3: pages/],
		["no packet buffer", small.replace(/^max_pkt_size.*$/m, "max_pkt_size 8"), /:4: max_pkt_size/],
		["no line --", small.replace("\n--\n", "\n"), /expected a line "--"/],
		["an unknown op", small.replace(/^W /m, "Q "), /:7: op: expected one of W R I P M X E, found "Q"/],
		["a line that ends early", small.replace(/^W .*$/m, "W 36 117"), /:7: type: expected a value, found "end of line"/],
		["a payload that fits no packet", small.replace(/^W \d+/m, "W 99999999"), /:7: len/],
		["a hash that is none", small.replace(/[0-9a-f]{16}$/m, "xyz"), /:7: sha16: expected 16 hex digits/],
		["an id that is no 0x number", small.replace(/ 0x[0-9a-f]+ =/, " 12345 ="), /:7: rid/],
		["a missing end", small.replace(/\nE .*\n/, "\n"), /the file ends early/],
		["lines behind the end", `${small}W 1 1 6 0 0x1 = 0 | 0 0 0 0 0 0 00`, /nothing after the line E/],
		["fewer ops than promised", small.replace(/^ops.*$/m, "ops 1501"), /ops: expected 1501 ops, found 1500/],
	])("names file, line and field for %s", async (_, text, expected) => {
		const path = file(text);
		const error = await verifyFile(path).then(
			() => null,
			(thrown) => thrown,
		);
		expect(error?.name).toBe("InputError");
		expect(error.message).toMatch(expected);
		expect(error.message).toContain(path);
		expect(error.message).not.toContain("\n");
	});
});
