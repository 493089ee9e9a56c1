import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { engineSources, recordFaults, redrawn } from "../../records.ts";
import { temporaryFolder } from "../helpers/cli.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const ENTRY = "assembly/layout/entry.ts";
const SOUND = `type At<_T> = usize;
/**
 * An entry.
 *
 *   ENTRY_BYTES 0..15
 *       0          4          8          12
 *     0 │ GPA                 │ SLOT│COUNT│ WORD     │
 *   ENTRY_WORD bits: low 0..18 │ OFFSET 19..29 │ dir 30..31
 */
export const ENTRY_GPA: At<u64> = 0;
export const ENTRY_SLOT: At<u16> = 8;
export const ENTRY_COUNT: At<u16> = 10;
export const ENTRY_WORD: At<u32> = 12;
export const WORD_OFFSET_SHIFT: u32 = 19;
export const ENTRY_BYTES: u32 = 16;
`;

/** Faults of one layout file, and perhaps of code that uses it. */
function faults(layout: string, code = ""): string[] {
	return recordFaults(
		new Map([
			[ENTRY, layout],
			["assembly/code.ts", code],
		]),
	);
}

/** The sound file with one change, redrawn when the drawing is not the point. */
function changed(from: string, to: string): string {
	expect(SOUND).toContain(from);
	return redrawn(new Map([[ENTRY, SOUND.replace(from, to)]])).get(ENTRY) as string;
}

const sound = redrawn(new Map([[ENTRY, SOUND]])).get(ENTRY) as string;

describe("the records of the engine", () => {
	it("lie as they are drawn, without overlap, and are read and written in their width", () => {
		expect(recordFaults(engineSources())).toEqual([]);
		const layout = [...engineSources()].filter(([path]) => path.startsWith("assembly/layout/"));
		const declared = layout.flatMap(([, text]) => text.match(/^export const \w+: At<\w+> = \d+;$/gm) ?? []);
		expect(declared.length).toBeGreaterThan(140);
		// an offset that is no field would be checked by nobody
		for (const [path, text] of layout) expect(text, path).not.toMatch(/^export const \w+: usize/m);
	});

	it("are drawn by the constants: to draw them again changes nothing", () => {
		expect(redrawn(engineSources())).toEqual(engineSources());
		expect(faults(sound)).toEqual([]);
		expect(sound).toContain(" *     0 │ GPA                   │ SLOT│COUNT│ WORD      │\n");
	});
});

describe("the check of the records", () => {
	it.each([
		["a field that overlaps another", "SLOT: At<u16> = 8", "SLOT: At<u16> = 6", "ENTRY_SLOT overlaps ENTRY_GPA"],
		["two fields of one offset", "COUNT: At<u16> = 10", "COUNT: At<u16> = 8", "ENTRY_COUNT overlaps ENTRY_SLOT"],
		["a field that became wider", "SLOT: At<u16> = 8", "SLOT: At<u32> = 8", "ENTRY_COUNT overlaps ENTRY_SLOT"],
		[
			"a field that leaves its record",
			"WORD: At<u32> = 12",
			"WORD: At<u32> = 16",
			"ENTRY_WORD lies at 16..19, outside 0..15",
		],
		[
			"a field that is not aligned",
			"SLOT: At<u16> = 8",
			"SLOT: At<u16> = 9",
			"ENTRY_SLOT lies at 9, no multiple of its 2 bytes",
		],
		[
			"a record that is larger than its drawing",
			"BYTES: u32 = 16",
			"BYTES: u32 = 24",
			"the drawings of ENTRY_BYTES end at byte 16, and it is 24",
		],
		[
			"a drawing that begins too late",
			"ENTRY_BYTES 0..15",
			"ENTRY_BYTES 8..15",
			"the drawings of ENTRY_BYTES do not lie end to end at byte 0",
		],
		[
			"a record whose size nobody knows",
			"ENTRY_BYTES 0..15",
			"ENTRY_SIZE 0..15",
			"ENTRY_SIZE is no constant that is known",
		],
		[
			"bits that are not where the constant says",
			"SHIFT: u32 = 19",
			"SHIFT: u32 = 20",
			"ENTRY_WORD: OFFSET begins at bit 19, and WORD_OFFSET_SHIFT is 20",
		],
		[
			"bits with a gap",
			"OFFSET 19..29",
			"OFFSET 20..29",
			"bits are written as NAME first..last, one behind the other, from 0 on",
		],
		["more bits than the word has", "dir 30..31", "dir 30..32", "ENTRY_WORD: its bits are 33, and it is a u32"],
		[
			"named bits without a constant",
			"low 0..18",
			"LOW 0..18",
			"ENTRY_WORD: there is no constant LOW_SHIFT or LOW_MASK",
		],
		[
			"a type that is none",
			"WORD: At<u32> = 12",
			"WORD: At<bool> = 12",
			"ENTRY_WORD: expected At<u8|u16|u32|i32|u64|i64|f64>",
		],
		[
			"an offset that is no number",
			"WORD: At<u32> = 12",
			"WORD: At<u32> = HERE",
			"ENTRY_WORD: expected an offset in bytes",
		],
	])("refuses %s", (_, from, to, what) => {
		const found = faults(changed(from, to));
		expect(found.join("\n")).toContain(`${what}`);
		for (const fault of found) expect(fault).toMatch(/^assembly\/layout\/entry\.ts:\d+: /);
	});

	it("refuses a drawing that shows something else", () => {
		expect(faults(sound.replace("│ SLOT│COUNT│", "│COUNT│ SLOT│"))).toEqual([
			`${ENTRY}:5: the drawing of ENTRY_BYTES is not that of its fields: npx jiti records.ts --write`,
		]);
	});

	it("refuses a field that no drawing stands above", () => {
		expect(faults(`type At<_T> = usize;\nexport const LOOSE: At<u32> = 0;\n`)).toEqual([
			`${ENTRY}:2: LOOSE: a field stands below its record's drawing`,
		]);
	});

	it("refuses stretches of one record that share a byte, though each is drawn rightly", () => {
		const second = "/**\n *   ENTRY_BYTES 8..15\n */\nexport const LATER_SLOT: At<u16> = 8;\n";
		expect(faults(redrawn(new Map([[ENTRY, SOUND + second]])).get(ENTRY) as string).join("\n")).toContain(
			"LATER_SLOT overlaps ENTRY_SLOT",
		);
	});

	it.each([
		["load<u32>(at, ENTRY_GPA)", "ENTRY_GPA is a u64, not a u32"],
		["load<u64>(at, ENTRY_WORD)", "ENTRY_WORD is a u32, not a u64"],
		["load<f64>(at, ENTRY_GPA)", "ENTRY_GPA is a u64, not a f64"],
		["store<u32>(at, 0, ENTRY_COUNT)", "ENTRY_COUNT is a u16, not a u32"],
		["atomic.add<u64>(at + ENTRY_WORD, 1)", "ENTRY_WORD is a u32, not a u64"],
		["atomic.load<u8>(at, ENTRY_SLOT)", "ENTRY_SLOT is a u16, not a u8"],
	])("refuses the access %s", (access, what) => {
		const code = `export function f(at: usize): void {\n\t${access};\n}\n`;
		expect(faults(sound, code)).toEqual([`assembly/code.ts:2: ${what}`]);
	});

	it("lets one wide access cover whole fields side by side", () => {
		expect(
			faults(sound, "store<u64>(at, 0, ENTRY_SLOT);\nload<u32>(at, ENTRY_SLOT);\nload<i32>(at, ENTRY_WORD);"),
		).toEqual([]);
	});
});

describe("the build", () => {
	it("makes no binary of records with a fault, and names it", () => {
		const folder = temporaryFolder();
		for (const path of ["assembly", "build.ts", "records.ts", "package.json"])
			cpSync(join(ROOT, path), join(folder, path), { recursive: true });
		mkdirSync(join(folder, "build"));
		symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
		const pool = join(folder, "assembly/layout/pool.ts");
		const text = readFileSync(pool, "utf8");
		expect(text).toContain("AREA_USED: At<u32> = 4");
		writeFileSync(pool, text.replace("AREA_USED: At<u32> = 4", "AREA_USED: At<u32> = 8"));
		const jiti = join(ROOT, "node_modules/jiti/lib/jiti-cli.mjs");
		const { status, stderr } = spawnSync(process.execPath, [jiti, "build.ts", "engine"], {
			cwd: folder,
			encoding: "utf8",
		});
		expect(stderr).toMatch(/^assembly\/layout\/pool\.ts:\d+: AREA_INDEX overlaps AREA_USED$/m);
		expect(status).toBe(1);
	});
});
