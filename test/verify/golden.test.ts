import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { InputError } from "../../src/input-error.ts";
import { verifyFile } from "../../src/node/input.ts";
import type { VerifyResult } from "../../src/verify/result.ts";
import { printSeed, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";

const GOLDEN = new URL("../golden/", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "coco-golden-"));
afterAll(() => rmSync(folder, { recursive: true }));
printSeed("golden");

function filesOf(kind: string): string[] {
	return readdirSync(join(GOLDEN, kind)).map((name) => join(GOLDEN, kind, name));
}

function textOf(kind: string, name: string): string {
	return gunzipSync(readFileSync(join(GOLDEN, kind, `${name}.txt.gz`))).toString();
}

/** Verifies a text as a file of that name. */
function verifyText(text: string | Uint8Array, name = "tampered.txt"): Promise<VerifyResult> {
	const path = join(folder, name);
	writeFileSync(path, text);
	return verifyFile(path);
}

/** Verifies `text` with one line changed. */
async function tamper(text: string, line: number, change: (line: string) => string): Promise<VerifyResult> {
	const lines = text.split("\n");
	const before = lines[line - 1] as string;
	lines[line - 1] = change(before);
	expect(lines[line - 1]).not.toBe(before);
	return verifyText(lines.join("\n"));
}

function lineOf(text: string, pattern: RegExp, from = 0): number {
	const lines = text.split("\n");
	const at = lines.findIndex((line, i) => i >= from && pattern.test(line));
	expect(at).toBeGreaterThanOrEqual(0);
	return at + 1;
}

describe("golden recordings of Linux 6.12", () => {
	for (const build of ["engine", "reference"] as const) {
		for (const kind of ["swiotlb-recorded", "swiotlb-dynamic", "swiotlb-ops"]) {
			for (const path of filesOf(kind)) {
				it(`${basename(path)} verifies on ${build}`, async () => {
					const result = await verifyFile(path, build);
					expect(result.summary).toContain("identical");
					expect(result).toMatchObject({ format: kind, identical: true });
				});
			}
		}
	}

	it("has something to verify in each folder", () => {
		expect(filesOf("swiotlb-dynamic").length).toBeGreaterThanOrEqual(6);
		expect(filesOf("swiotlb-recorded").length).toBeGreaterThanOrEqual(6);
		expect(filesOf("swiotlb-ops").length).toBeGreaterThanOrEqual(30);
	});

	it("sums a recording up in one line", async () => {
		const result = await verifyFile(join(GOLDEN, "swiotlb-recorded/up-nvme.txt.gz"));
		expect(result.summary).toBe("up-nvme: 9572/9572 maps, 9572 unmaps identical, hiwater 1796");
		expect(result.divergence).toBeUndefined();
	});

	it("replays several CPUs at a high-water mark of at most the recorded one, and prints the difference", async () => {
		const { summary } = await verifyFile(join(GOLDEN, "swiotlb-recorded/smp2-mixed.txt.gz"));
		const [, got, recorded] = /hiwater (\d+)(?: \(recorded (\d+), \d+ more)?/.exec(summary) ?? [];
		expect(Number(got)).toBeLessThanOrEqual(Number(recorded ?? 971));
	});
});

describe("a tampered recording", () => {
	const nvme = textOf("swiotlb-recorded", "up-nvme");
	const smp = textOf("swiotlb-recorded", "smp2-mixed");
	const ops = textOf("swiotlb-ops", "zero_orig_512_a1");

	it("diverges at the line of a changed bounce address", async () => {
		const line = lineOf(nvme, /^map .* 4096 /, 1000);
		const result = await tamper(nvme, line, (text) => text.replace(/0x([0-9a-f]+)$/, "0x22c01800"));
		expect(result.identical).toBe(false);
		expect(result.divergence).toMatchObject({
			line,
			what: expect.stringMatching(/^tlb_addr of map \d+$/),
			expected: "0x22c01800",
		});
		expect(result.divergence?.got).toMatch(/^0x22[0-9a-f]{6}$/);
		expect(result.summary).toBe(
			`tampered: line ${line}: ${result.divergence?.what}: expected 0x22c01800, got ${result.divergence?.got}`,
		);
	});

	it("diverges where a map is said to have found the pool full", async () => {
		const line = lineOf(nvme, /^map .* 4096 /, 1000);
		const result = await tamper(nvme, line, (text) => text.replace(/0x[0-9a-f]+$/, "0xffffffffffffffff"));
		expect(result.divergence).toMatchObject({ line, expected: "pool full" });
	});

	it("takes a race that found the pool full as it is: nothing changes", async () => {
		const line = lineOf(nvme, /^map .* 4096 /, 1000);
		const text = nvme.split("\n");
		const seq = 12_345_678;
		const map = (text[line - 1] as string).replace(/^map \d+ (.*) -> .*/, `map ${seq} $1 -> 0xffffffffffffffff`);
		const whole = await verifyText(nvme);
		text.splice(line - 1, 0, `#race ${seq}`, map);
		const raced = await verifyText(text.join("\n"));
		expect(raced.compared).toEqual(whole.compared);
		expect(raced.summary).toContain("1 races that found the pool full not compared");
		const other = await verifyText(text.with(line - 1, `#race ${seq + 1}`).join("\n"));
		expect(other.divergence).toMatchObject({ line: line + 1, expected: "pool full" });
	});

	it("diverges at an unmap of what is not mapped", async () => {
		const line = lineOf(nvme, /^unmap /);
		const text = nvme.split("\n");
		text.splice(line, 0, text[line - 1] as string);
		const result = await verifyText(text.join("\n"));
		expect(result.divergence).toMatchObject({ line: line + 1, what: "unmap", expected: "a live mapping" });
	});

	it.each([
		["used", /area0\.used=0/, "area0.used=2", "area 0 used", "2", "0"],
		["index", /area0\.index=22981/, "area0.index=22982", "area 0 index", "22982", "22981"],
		["high-water mark", /io_tlb_used_hiwater=1796/, "io_tlb_used_hiwater=1797", "hiwater", "1797", "1796"],
		["total", /io_tlb_used=0/, "io_tlb_used=1", "used at the end", "1", "0"],
	])("diverges at the footer's %s", async (_, pattern, replacement, what, expected, got) => {
		const first = lineOf(nvme, /^# end/);
		const line = lineOf(nvme, pattern, first - 1);
		const result = await tamper(nvme, line, (text) => text.replace(pattern, replacement));
		expect(result.divergence).toMatchObject({ what, expected, got });
		expect(result.divergence?.line).toBeGreaterThanOrEqual(line);
	});

	it("diverges at the second area's index", async () => {
		const line = lineOf(smp, /area1\.index=9550/);
		const result = await tamper(smp, line, (text) => text.replace("area1.index=9550", "area1.index=9549"));
		expect(result.divergence).toMatchObject({ what: "area 1 index", expected: "9549", got: "9550" });
	});

	it("diverges at an op's address and at its used count", async () => {
		const line = lineOf(ops, /^m 3 /);
		const address = await tamper(ops, line, (text) => text.replace("0x4033000", "0x4034000"));
		expect(address.divergence).toEqual({ line, what: "tlb of map 3", expected: "0x4034000", got: "0x4033000" });
		const used = await tamper(ops, line, (text) => text.replace(/ 72$/, " 73"));
		expect(used.divergence).toEqual({ line, what: "used", expected: "73", got: "72" });
	});

	it("diverges at a checkpoint's index, used and list checksum", async () => {
		const line = lineOf(ops, /^k /);
		const index = await tamper(ops, line, (text) =>
			text.replace(/(\d+):(\d+) /, (_, i, u) => `${Number(i) + 1}:${u} `),
		);
		expect(index.divergence).toMatchObject({ line, what: "areas (index:used)" });
		const crc = await tamper(ops, line, (text) => text.replace(/[0-9a-f]{8}$/, "deadbeef"));
		expect(crc.divergence).toMatchObject({ line, what: "crc of the list", expected: "deadbeef" });
		expect(crc.divergence?.got).toMatch(/^[0-9a-f]{8}$/);
	});

	it.each([
		[4, "sha-256 of the list"],
		[5, "sha-256 of the pool"],
		[6, "sha-256 of RAM"],
	])("diverges at a hash of the end (field %i)", async (field, what) => {
		const line = lineOf(ops, /^e /);
		const result = await tamper(ops, line, (text) => {
			const fields = text.split(" ");
			fields[field] = (fields[field] as string).replace(/^./, (digit) => (digit === "0" ? "1" : "0"));
			return fields.join(" ");
		});
		expect(result.divergence).toMatchObject({ line, what });
	});

	it("diverges when one byte that the device wrote is another one", async () => {
		const base = textOf("swiotlb-ops", "base_512_a1");
		const line = lineOf(base, /^w /);
		const result = await tamper(base, line, (text) => text.replace(/(\d+)$/, (seed) => String(Number(seed) + 1)));
		expect(result.divergence?.what).toMatch(/sha-256/);
	});
});

describe("a file that is no recording", () => {
	const nvme = textOf("swiotlb-recorded", "up-nvme");
	const ops = textOf("swiotlb-ops", "min1ff_256_a1");
	const refused = async (text: string | Uint8Array, message: RegExp, name = "bad.txt") => {
		const error = await verifyText(text, name).then(
			() => new Error("was accepted"),
			(error: unknown) => error as Error,
		);
		expect(error).toBeInstanceOf(InputError);
		expect(error.message).toMatch(message);
		expect(error.message).toContain(join(folder, name));
		expect(error.message).not.toContain("\n");
	};
	const replaced = (text: string, line: number, by: (text: string) => string) =>
		text
			.split("\n")
			.map((each, i) => (i + 1 === line ? by(each) : each))
			.join("\n");

	it("is named when it does not exist, is a folder or is of no known format", async () => {
		await expect(verifyFile(join(folder, "nothing.txt"))).rejects.toThrow(/nothing\.txt: no such file/);
		await expect(verifyFile(folder)).rejects.toThrow(/is a folder/);
		await refused("", /bad\.txt:1: unknown format/);
		await refused("hello\n", /bad\.txt:1: unknown format/);
		await refused(new Uint8Array(1000).fill(0xff), /bad\.txt:1: unknown format/);
	});

	it("is named when its gzip is torn or damaged", async () => {
		const whole = gzipSync(ops);
		await refused(whole.subarray(0, whole.length - 200), /torn\.gz: torn or damaged gzip/, "torn.gz");
		await refused(whole.subarray(0, 5), /torn or damaged gzip/, "head.gz");
		const damaged = Uint8Array.from(whole);
		damaged.fill(0, 5000, 5050);
		await refused(damaged, /torn or damaged gzip/, "damaged.gz");
	});

	it("is named with the line and field of a malformed op", async () => {
		const line = lineOf(ops, /^m 5 /);
		await refused(
			replaced(ops, line, (text) => text.replace(/^m 5 \d+ \S+/, "m 5 0 1234")),
			new RegExp(`bad\\.txt:${line}: orig: `),
		);
		await refused(
			replaced(ops, line, (text) => text.replace(/^m 5 \d+/, "m 5 -1")),
			new RegExp(`:${line}: cpu: `),
		);
		await refused(
			replaced(ops, line, (text) => text.replace(/^m/, "x")),
			new RegExp(`:${line}: op: expected one of`),
		);
		await refused(
			replaced(ops, line, (text) => text.split(" ").slice(0, 4).join(" ")),
			new RegExp(`:${line}: size: .*end of line`),
		);
		await refused(
			replaced(ops, line, (text) => text.replace(/^m 5 /, "m 4 ")),
			new RegExp(`:${line}: id: `),
		);
		await refused(
			replaced(ops, line, () => "u 99999 1 0"),
			new RegExp(`:${line}: id: expected the id of a live mapping`),
		);
		await refused(
			replaced(ops, line, (text) => text.replace(/^(m 5 \d+ \S+) \d+/, "$1 99999999999")),
			new RegExp(`:${line}: size: `),
		);
	});

	it("is named with the header line that is missing or out of range", async () => {
		await refused(ops.replace(/^nslabs \d+\n/m, ""), /header: expected a line "nslabs/);
		await refused(ops.replace(/^nslabs \d+/m, "nslabs 300"), /:\d+: nslabs: expected a power of two/);
		await refused(ops.replace(/^nareas \d+/m, "nareas 4"), /:\d+: nareas: /);
		await refused(ops.replace(/^pool_start \S+/m, "pool_start 0x4000800"), /:\d+: pool_start: expected a page-aligned/);
		await refused(ops.replace(/^pool_start \S+/m, "pool_start 0xffffffffff000"), /:\d+: pool_start: /);
		await refused(ops.replace(/^seg_boundary_mask \S+/m, "seg_boundary_mask 0x1234"), /seg_boundary_mask: .*2\^k - 1/);
		await refused(ops.replace(/^min_align_mask \S+/m, "min_align_mask 0x100000fff"), /:\d+: min_align_mask: /);
		await refused(ops.replace(/^ram_size \S+/m, "ram_size 0x123"), /:\d+: ram_size: /);
		await refused(ops.replace("\n--\n", "\n"), /expected a line "--"/);
		await refused(nvme.replace(/nslabs=\d+/, "nslabs=100"), /bad\.txt:1: nslabs: /);
		await refused(nvme.replace(/nareas=\d+/, "nareas=3"), /bad\.txt:1: nareas: /);
		await refused(nvme.replace(/pool_start=0x[0-9a-f]+/, "pool_start=0x800"), /bad\.txt:1: pool_start: /);
		await refused(nvme.replace(/pool_start=0x[0-9a-f]+/, "pool_start=0xffffffffff000"), /bad\.txt:1: pool_start: /);
		await refused(nvme.replace(/devices: .*/, "devices: none"), /bad\.txt:1: devices: /);
	});

	it("is named with the line of a malformed map or unmap", async () => {
		const line = lineOf(nvme, /^map .* 4096 /, 1000);
		await refused(
			replaced(nvme, line, (text) => text.replace("0000:00:02.0", "0000:00:09.0")),
			new RegExp(`:${line}: dev: `),
		);
		await refused(
			replaced(nvme, line, (text) => text.replace(" 4096 ", " 0 ")),
			new RegExp(`:${line}: size: `),
		);
		await refused(
			replaced(nvme, line, (text) => text.replace(" -> ", " ")),
			new RegExp(`:${line}: `),
		);
		await refused(
			replaced(nvme, line, (text) => text.replace(/0x[0-9a-f]+ 4096/, "0xfffffffffffff000 4096")),
			new RegExp(`:${line}: orig_addr: `),
		);
		await refused(
			replaced(nvme, line, () => "mop 1 2 3"),
			new RegExp(`:${line}: `),
		);
	});

	it("is refused when it ends early", async () => {
		const lines = ops.split("\n");
		await refused(lines.slice(0, 500).join("\n"), /ends early/);
		await refused(nvme.split("\n").slice(0, 5000).join("\n"), /ends early/);
		await refused(nvme.split("\n").slice(0, 9).join("\n"), /bad\.txt: /);
	});

	it("never fails in any other way, whatever is changed in it", async () => {
		// from pools of 0.5 and 4 MiB, so that each case is quick
		const small = textOf("swiotlb-recorded", "up-small-mixed").split("\n");
		const sources = [ops.split("\n").slice(0, 400), [...small.slice(0, 200), ...small.slice(-3)]];
		const junk = fc.oneof(
			fc.constantFrom(
				"",
				"-1",
				"0",
				"0x",
				"0xffffffffffffffff",
				"0xffffffffff000",
				"1e9",
				"NaN",
				"99999999999999999999",
				"map",
				"m",
				"u",
				"k",
				"e",
				"#",
				"--",
				"\0",
			),
			fc.string({ maxLength: 12 }),
			fc.nat().map((n) => `0x${n.toString(16)}`),
		);
		const change = fc.record({ source: fc.nat(1), line: fc.nat(399), field: fc.nat(9), junk, how: fc.nat(3) });
		await fc.assert(
			fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
				const lines = [...(sources[changes[0]?.source ?? 0] as string[])];
				for (const { line, field, junk, how } of changes) {
					const at = line % lines.length;
					if (how === 0) lines.splice(at, 1);
					else if (how === 1) lines.splice(at, 0, junk);
					else {
						const fields = (lines[at] as string).split(how === 2 ? " " : /(?<==)/);
						fields[field % fields.length] = junk;
						lines[at] = fields.join(" ");
					}
				}
				const error = await verifyText(lines.join("\n")).then(
					() => null,
					(error: unknown) => error,
				);
				if (error !== null) expect(error).toBeInstanceOf(InputError);
			}),
			{ seed: SEED, numRuns: bySuite({ quick: 50, slow: 400 }) },
		);
	});
});
