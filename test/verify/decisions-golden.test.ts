import { readdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { readDecisions } from "../../src/verify/decisions/lines.ts";
import type { VerifyResult } from "../../src/verify/result.ts";
import { verifyRecording } from "../../src/verify/verify.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";

const GOLDEN = new URL("../golden/dma-decisions/", import.meta.url);
const FILES = readdirSync(GOLDEN);
/** One case in so many. */
const SHARE = bySuite({ quick: 24, slow: 1 });
/** Cases of an allocator or a pool pointer that no kernel makes. */
const NO_KERNEL = /pool=(priv|null) /;
printSeed("decisions");

const linesOf = (name: string) =>
	gunzipSync(readFileSync(new URL(name, GOLDEN)))
		.toString()
		.trim()
		.split("\n");

function verify(name: string, header: string, cases: readonly string[]): Promise<VerifyResult> {
	return verifyRecording([header, ...cases, ""].join("\n"), { name });
}

describe("the decisions of Linux 6.12 and 7.3", () => {
	it("are 25,830, of nine platforms, and 2,840 of them nobody can set up", () => {
		const cases = FILES.flatMap((name) => linesOf(name).slice(1));
		expect([cases.length, cases.filter((line) => NO_KERNEL.test(line)).length]).toEqual([25830, 2840]);
		expect(new Set(cases.map((line) => line.split(" ")[0])).size).toBe(9);
	});

	it.each(FILES)("are replayed field by field alike (%s)", async (name) => {
		const [header = "", ...all] = linesOf(name);
		const random = new Random(SEED);
		const cases = all.filter(() => random.oneIn(SHARE));
		const expected = cases.filter((line) => !NO_KERNEL.test(line)).length;
		const { summary, compared, identical } = await verify(name, header, cases);
		expect([summary, identical]).toEqual([expect.stringContaining(`${expected}/${cases.length} decisions`), true]);
		expect(compared).toMatchObject({ decisions: expected, notSetUp: cases.length - expected, differing: 0 });
	});
});

/** Another value that the field may have, or more than one where it tells several things. */
function others(name: string, value: string): string[] {
	if (name === "prot") return [value === "shared" ? "private" : "shared"];
	if (name === "max") return [value === "unlimited" ? "262144" : "unlimited"];
	if (["dma", "tlb", "phys", "reqmask"].includes(name)) {
		const digits = value.slice(0, -1);
		return [`${digits}${value.endsWith("0") ? 1 : 0}`];
	}
	if (/^\d+\/\d+$/.test(value)) {
		const [bytes = 0, calls = 0] = value.split("/").map(Number);
		return [`${bytes + 1}/${calls}`, `${bytes}/${calls + 1}`];
	}
	if (name === "lim" || name === "grow") return [value === "1" ? "0" : "1"];
	if (/^-?\d+$/.test(value))
		return [name === "n" || name === "ri" ? String(Number(value) - 1) : String(Number(value) + 1)];
	if (["w", "bw", "uw", "fw"].includes(name))
		return [value === "-" ? "FULL" : "-", value === "-" ? "WARN-ON" : `${value},WARN-ON`];
	const words = [
		["private", "shared", "plain", "mmio"],
		["direct", "bounce", "bus", "err"],
		["ok", "null"],
		["slot", "pages", "atomic"],
		["lin", "remap", "cookie", "page"],
		["first", "grown", "transient"],
	].find((list) => list.includes(value));
	return (words ?? []).filter((word) => word !== value).slice(0, 2);
}

describe("a recorded decision with one field changed", () => {
	it("differs, whichever field it is, in every file that has it", async () => {
		const seen = new Set<string>();
		for (const file of FILES) {
			const [header = "", ...all] = linesOf(file);
			const random = new Random(SEED);
			const names = new Set<string>();
			// the first case of each field, in an order of its own
			for (const line of all.sort(() => (random.oneIn(2) ? 1 : -1))) {
				if (NO_KERNEL.test(line)) continue;
				const { cases } = readDecisions(file, [header, line].join("\n"));
				for (const [name, value] of cases[0]?.expected ?? []) {
					if (names.has(name)) continue;
					names.add(name);
					for (const other of others(name, value)) {
						const bar = line.indexOf(" | ");
						const answer = ` ${line.slice(bar)} `.replace(` ${name}=${value} `, ` ${name}=${other} `).trim();
						const changed = `${line.slice(0, bar)} ${answer}`;
						expect(changed).not.toBe(line);
						const { identical, divergence } = await verify(file, header, [changed]);
						expect([file, name, other, identical, divergence?.line]).toEqual([file, name, other, false, 2]);
						seen.add(name);
					}
				}
			}
		}
		const fields =
			"bw cin cm cout dec dma enc fenc fleak fpg fused fw grow leak lim max n pg phys pool prot r redec reqmask ri sc sd src tlb tpg tr u2 un used uw va w";
		expect([...seen].sort()).toEqual(fields.split(" "));
	});
});
