import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { InputError } from "../../src/input-error.ts";
import { verifyFile } from "../../src/node/input.ts";
import type { VerifyResult } from "../../src/verify/result.ts";
import { printSeed, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";
import { dynamicText, TAMPERED } from "../helpers/tampered-dynamic.ts";

const folder = mkdtempSync(join(tmpdir(), "coco-dynamic-"));
afterAll(() => rmSync(folder, { recursive: true }));
printSeed("verify-dynamic");
const GONE = "0xffffffffffffffff";

const burst = dynamicText("dyn-burst");

function verifyText(text: string): Promise<VerifyResult> {
	const path = join(folder, "tampered.txt");
	writeFileSync(path, text);
	return verifyFile(path);
}

/** Number of the nth line that a pattern matches. */
function lineOf(text: string, pattern: RegExp, nth = 1): number {
	let left = nth;
	const at = text.split("\n").findIndex((line) => pattern.test(line) && --left === 0);
	expect(at).toBeGreaterThanOrEqual(0);
	return at + 1;
}

/** `text` with one line changed; null: left out. */
function changed(text: string, line: number, by: (line: string) => string | null): string {
	const lines = text.split("\n");
	const before = lines[line - 1] as string;
	const after = by(before);
	expect(after).not.toBe(before);
	lines.splice(line - 1, 1, ...(after === null ? [] : [after]));
	return lines.join("\n");
}

const text = (value: string | RegExp) => (typeof value === "string" ? value : expect.stringMatching(value));

describe("a tampered recording of a kernel whose swiotlb grows diverges at", () => {
	it.each(TAMPERED)("$name", async ({ text: whole, at, nth, by, later = 0, what, expected, got }) => {
		const line = lineOf(whole, at, nth);
		const result = await verifyText(changed(whole, line, by));
		expect(result).toMatchObject({ format: "swiotlb-dynamic", identical: false });
		expect(result.divergence).toEqual({
			line: line + later,
			what: text(what),
			expected: text(expected),
			got: text(got),
		});
		expect(result.summary).toContain(`tampered: line ${line + later}: ${result.divergence?.what}: expected `);
	});
});

/** A line, what it becomes, and the field that is named. */
const MALFORMED: [RegExp, (line: string) => string, string][] = [
	[/^map 10 /, (line) => line.replace("map", "mop"), "op"],
	[/^map 10 /, (line) => line.replace("map 10", "map x"), "seq"],
	[/^map 10 /, (line) => line.replace("map 10 0", "map 10 65536"), "cpu"],
	[/^map 10 /, (line) => line.replace("swt3", "swt33"), "dev"],
	[/^map 10 /, (line) => line.replace(" 0x8283a00 ", " 8283a00 "), "orig_addr"],
	[/^map 10 /, (line) => line.replace(" 0x8283a00 ", " 0xfffffffffffff "), "orig_addr"],
	[/^map 10 /, (line) => line.replace(" 112570 ", " 0 "), "size"],
	[/^map 10 /, (line) => line.replace(" 0x0 0 ", " 0x100000000 0 "), "alloc_align_mask"],
	[/^map 10 /, (line) => line.replace(" 0x0 0 ", " 0x0 3 "), "dir"],
	[/^map 10 /, (line) => line.replace("-> 0x8140200", "-> 8140200"), "tlb"],
	[/^map 10 /, (line) => line.replace("-> 0x8140200", "-> 0x10000000000000"), "tlb"],
	[/^map 10 /, (line) => line.replace(/ -> .*/, ""), "tlb"],
	[/^map 107 /, (line) => line.replace("why=unusable", "why=?"), "why"],
	[/^map 107 /, (line) => line.replace(" why=unusable", ""), "why"],
	[/^unmap 11 /, (line) => line.replace("swt9", "swt99"), "dev"],
	[/^unmap 11 /, (line) => line.replace("0x26f44000", "0xffffffffffffff"), "tlb"],
	[/^unmap 11 /, (line) => line.replace(" 1435 ", " -1 "), "size"],
	[/^unmap 11 /, (line) => line.replace(/ 1$/, ""), "dir"],
	[/^pool_add 9 /, (line) => line.replace("start=0x8140000", "0x8140000"), "start"],
	[/^pool_add 9 /, (line) => line.replace("start=0x8140000", "start=0x8140800"), "start"],
	[/^pool_add 9 /, (line) => line.replace("start=0x8140000", "start=0xffffffffff000"), "start"],
	[/^pool_add 9 /, (line) => line.replace("nslabs=56 ", "nslabs=x "), "nslabs"],
	[/^pool_add 9 /, (line) => line.replace("nslabs=56 ", "nslabs=0 "), "nslabs"],
	[/^pool_add 9 /, (line) => line.replace("nslabs=56 ", "nslabs=129 "), "nslabs"],
	[/^pool_add 9 /, (line) => line.replace("nareas=1 ", "nareas=2 "), "nslabs"],
	[/^pool_add 9 /, (line) => line.replace("nareas=1 ", "nareas= "), "nareas"],
	[/^pool_add 9 /, (line) => line.replace("transient=1", "transient=2"), "transient"],
	[/^pool_add 9 /, (line) => line.replace(/ area_nslabs.*/, ""), "transient"],
	[/^pool_add 9 /, (line) => `${line}\n${line}`, "transient"],
	[/^pool_add .* transient=0/, (line) => line.replace("nslabs=128 ", "nslabs=100 "), "nslabs"],
	[/^pool_add .* transient=0/, (line) => line.replace("nareas=1 ", "nareas=3 "), "nslabs"],
	[/^pool_del 16 /, (line) => line.replace("start=", "from="), "start"],
	[/^stat 1 /, (line) => line.replace("stat 1", "stat"), "seq"],
	[/^#slow /, (line) => line.replace("queued=1", "queued=2"), "queued"],
	[/^#slow /, (line) => line.replace(" queued=1", ""), "queued"],
	[/^# end_pool /, (line) => line.replace("area0.index=", "index="), "area0"],
];

describe("a file that is no recording of a kernel whose swiotlb grows", () => {
	async function refused(whole: string): Promise<string> {
		const error = await verifyText(whole).then(
			() => new Error("was accepted"),
			(error: unknown) => error as Error,
		);
		expect(error).toBeInstanceOf(InputError);
		expect(error.message).not.toContain("\n");
		return error.message;
	}

	it.each(MALFORMED)("is named with line and field: %s, case %$: %s", async (at, by, field) => {
		const line = lineOf(burst, at);
		const added = by("a") === "a\na" ? 1 : 0;
		const path = join(folder, "tampered.txt");
		expect(await refused(changed(burst, line, by))).toContain(`${path}:${line + added}: ${field}: expected `);
	});

	it("is named with the header field that is missing or out of range", async () => {
		const header = (from: RegExp, to: string) => refused(changed(burst, 1, (line) => line.replace(from, to)));
		expect(await header(/pool_start=0x26f40000/, "pool_start=0x26f40800")).toMatch(/:1: pool_start: expected/);
		expect(await header(/nslabs=128/, "nslabs=100")).toMatch(/:1: nslabs: expected/);
		expect(await header(/nareas=1/, "nareas=3")).toMatch(/:1: nareas: expected/);
		expect(await header(/devices: .*/, "")).toMatch(/:1: devices: expected/);
		expect(await header(/seg_boundary=0x1ffff/, "seg_boundary=0x1fffe")).toMatch(/:1: seg_boundary: expected/);
	});

	it("is refused when it ends early", async () => {
		const lines = burst.split("\n");
		expect(await refused(lines.slice(0, 5000).join("\n"))).toMatch(/tampered\.txt: .*ends early/);
		expect(await refused(lines.slice(0, lineOf(burst, /^# end:/)).join("\n"))).toMatch(/ends early/);
		expect(await refused(lines.slice(0, 6).join("\n"))).toMatch(/expected maps/);
	});

	it("never fails in any other way, whatever is changed in it", async () => {
		const RUNS = bySuite({ quick: 80, slow: 400 });
		const source = burst.split("\n");
		const lines = [...source.slice(0, 400), ...source.slice(lineOf(burst, /^# end:/) - 1)];
		const junk = fc.oneof(
			fc.constantFrom(
				"",
				"-1",
				"0",
				"0x",
				GONE,
				"0xffffffffff000",
				"1e9",
				"NaN",
				"map",
				"pool_add",
				"#slow",
				"#",
				"\0",
			),
			fc.string({ maxLength: 12 }),
			fc.nat().map((n) => `0x${n.toString(16)}`),
			fc.nat().map(String),
		);
		const change = fc.record({ line: fc.nat(lines.length - 1), field: fc.nat(9), junk, how: fc.nat(3) });
		const seen = { divergences: 0, errors: 0 };
		await fc.assert(
			fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
				const copy = [...lines];
				for (const { line, field, junk, how } of changes) {
					const at = line % copy.length;
					if (how === 0) copy.splice(at, 1);
					else if (how === 1) copy.splice(at, 0, junk);
					else {
						const fields = (copy[at] as string).split(how === 2 ? " " : /(?<==)/);
						fields[field % fields.length] = junk;
						copy[at] = fields.join(" ");
					}
				}
				const error = await verifyText(copy.join("\n")).then(
					({ identical }) => {
						seen.divergences += identical ? 0 : 1;
						return null;
					},
					(error: unknown) => error,
				);
				if (error === null) return;
				seen.errors++;
				expect(error).toBeInstanceOf(InputError);
			}),
			{ seed: SEED, numRuns: RUNS },
		);
		expect(Math.min(seen.divergences, seen.errors)).toBeGreaterThan(RUNS / 20);
	});
});
