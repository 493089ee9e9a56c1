import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { BUILDER } from "./floors.ts";
import { violationLine, violationsOf } from "./rules.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Every source file of the repository, by its path from the root. */
function house(): Map<string, string> {
	const paths = ["assembly", "src", "bench", "test"].flatMap((folder) =>
		(readdirSync(join(ROOT, folder), { recursive: true }) as string[]).map((path) => `${folder}/${path}`),
	);
	const sources = paths.filter((path) => /(?<!\.d)\.ts$/.test(path)).sort();
	return new Map([...BUILDER, ...sources].map((path) => [path, readFileSync(join(ROOT, path), "utf8")]));
}

describe("the house", () => {
	it("has arrows that go down, no circles, no export that nothing uses, one name for one thing, and brands on addresses", () => {
		expect(violationsOf(house()).map(violationLine)).toEqual([]);
	});
});

/** What the rules say about a small tree. */
function broken(files: Readonly<Record<string, string>>): string[] {
	return violationsOf(new Map(Object.entries(files))).map(violationLine);
}

/** Files of a sound house: an engine, a door to it, and a command. */
const SOUND = {
	"assembly/layout/pool.ts": "export const POOL_START = 0;\nexport const POOL_BYTES = 64;",
	"assembly/swiotlb/pool.ts":
		'import { POOL_START } from "../layout/pool";\nexport function poolPtr(): i32 { return POOL_START; }',
	"assembly/index.ts": 'export { poolPtr } from "./swiotlb/pool";',
	"src/status.ts": "export class DmaError {}",
	"src/memory/ram.ts":
		'import * as layout from "../../assembly/layout/pool.ts";\nexport const ram = layout.POOL_BYTES;',
	"src/swiotlb/pool.ts": "export const bytes = 1;",
	"src/engine.ts":
		'import { ram } from "./memory/ram.ts";\nimport { DmaError } from "./status.ts";\nimport { bytes } from "./swiotlb/pool.ts";\nexport class Engine { x = [ram, bytes, DmaError]; }',
	"src/node/file.ts": 'import { readFileSync } from "node:fs";\nexport const text = () => readFileSync("x", "utf8");',
	"src/cli/main.ts":
		'import { text } from "../node/file.ts";\nconst { Engine } = await import("../engine.ts");\nprocess.exit(text() === "" ? 1 : new Engine().x);',
	"src/doors/engine.ts": 'export { Engine } from "../engine.ts";',
};

describe("the rules of the house", () => {
	it("have nothing against a sound house", () => {
		expect(broken(SOUND)).toEqual([]);
	});

	it.each<[what: string, planted: Readonly<Record<string, string>>, said: readonly string[]]>([
		[
			"an arrow that goes up",
			{ "src/status.ts": 'import { bytes } from "./swiotlb/pool.ts";\nexport class DmaError { x = bytes; }' },
			[
				"src/status.ts:1: upward: src/bytes.ts, src/input-error.ts, src/source.ts, src/fields.ts, src/status.ts, src/types.ts, src/wasm.ts imports src/swiotlb/pool.ts, and src/swiotlb/ stands above it",
			],
		],
		[
			"an arrow of types that goes up",
			{ "src/swiotlb/pool.ts": 'export const bytes = 1;\nexport type { Engine } from "../engine.ts";' },
			[
				"src/swiotlb/pool.ts:2: upward: src/swiotlb/ imports src/engine.ts, and src/setup.ts, src/engine.ts stands above it",
				"src/swiotlb/pool.ts:2: circle: src/swiotlb/pool.ts -> src/engine.ts -> src/swiotlb/pool.ts",
				"src/swiotlb/pool.ts:2: unused: neither a door nor code uses the re-export Engine",
			],
		],
		[
			"an arrow that goes up inside a type",
			{ "src/swiotlb/pool.ts": 'export let bytes: import("../node/file.ts").text;' },
			["src/swiotlb/pool.ts:1: upward: src/swiotlb/ imports src/node/file.ts, and src/node/ stands above it"],
		],
		[
			"an arrow that goes up when code runs",
			{ "src/swiotlb/pool.ts": 'export const bytes = async () => import("../node/file.ts");' },
			["src/swiotlb/pool.ts:1: upward: src/swiotlb/ imports src/node/file.ts, and src/node/ stands above it"],
		],
		[
			"a circle of files in one room",
			{
				"src/swiotlb/pool.ts":
					'import type { Slot } from "./slot.ts";\nexport const bytes = 1;\nexport type Of = Slot;',
				"src/swiotlb/slot.ts": 'import type { Of } from "./pool.ts";\nexport type Slot = Of;',
			},
			["src/swiotlb/pool.ts:1: circle: src/swiotlb/pool.ts -> src/swiotlb/slot.ts -> src/swiotlb/pool.ts"],
		],
		[
			"a file that imports itself",
			{ "src/status.ts": 'import { DmaError as Self } from "./status.ts";\nexport class DmaError extends Self {}' },
			["src/status.ts:1: circle: src/status.ts -> src/status.ts"],
		],
		[
			"a room that imports a door above it",
			{ "src/swiotlb/pool.ts": 'import { Engine } from "../doors/engine.ts";\nexport const bytes = Engine;' },
			[
				"src/swiotlb/pool.ts:1: door: src/swiotlb/ imports the door src/doors/engine.ts, which stands above it",
				"src/swiotlb/pool.ts:1: circle: src/swiotlb/pool.ts -> src/doors/engine.ts -> src/engine.ts -> src/swiotlb/pool.ts",
			],
		],
		[
			"an export that nothing uses",
			{ "src/status.ts": "export class DmaError {}\nexport const statusName = 1;" },
			["src/status.ts:2: unused: neither a door nor code uses the const statusName"],
		],
		[
			"an export that only tests use",
			{
				"src/status.ts": "export class DmaError {}\nexport interface Found {}",
				"test/status.test.ts": 'import type { Found } from "../src/status.ts";',
			},
			["src/status.ts:2: unused: neither a door nor code uses the interface Found"],
		],
		[
			"an export of a layout that no reader of the layout names",
			{ "assembly/layout/pool.ts": "export const POOL_START = 0, POOL_BYTES = 64, POOL_USED = 8;" },
			["assembly/layout/pool.ts:1: unused: neither a door nor code uses the const POOL_USED"],
		],
		[
			"a module of Node's below node/, by any of its names",
			{
				"src/swiotlb/pool.ts":
					'import "fs/promises";\nimport type { Stats } from "node:fs";\nexport const bytes = async (x: Stats) => [x, await import("node:zlib")];',
			},
			["fs/promises", "node:fs", "node:zlib"].map(
				(name, i) => `src/swiotlb/pool.ts:${i + 1}: node: it imports ${name}, and only node/ and cli/ know Node`,
			),
		],
		[
			"a word of Node's below node/, but process where a file may reach for Node with it",
			{
				"src/swiotlb/pool.ts":
					"const x = { process: 1 };\nexport const bytes = Buffer.from([x.process]);\nglobalThis.process.exit();",
				"src/wasm.ts": 'process.getBuiltinModule("node:fs");\nsetImmediate(() => {});',
			},
			[
				"src/swiotlb/pool.ts:2: node: it uses Buffer, and only node/ and cli/ know Node",
				"src/swiotlb/pool.ts:3: node: it uses process, and only node/ and cli/ know Node",
				"src/wasm.ts:2: node: it uses setImmediate, and only node/ and cli/ know Node",
			],
		],
		[
			"a package that a browser would have to find",
			{
				"src/swiotlb/pool.ts": 'import "@assemblyscript/loader";\nexport const bytes = () => import("uplot");',
				"src/wasm.ts": 'import "@assemblyscript/loader";',
			},
			["@assemblyscript/loader", "uplot"].map(
				(name, i) =>
					`src/swiotlb/pool.ts:${i + 1}: package: it imports ${name}; only node/ and cli/ may need a package that is not inside`,
			),
		],
		[
			"two exported classes or interfaces that share a name",
			{ "src/engine.ts": `${SOUND["src/engine.ts"]}\nexport interface DmaError {}` },
			[
				"src/engine.ts:5: unused: neither a door nor code uses the interface DmaError",
				"src/engine.ts:5: namesake: the interface DmaError shares its name with the one of src/status.ts",
			],
		],
		[
			"engine source that the control plane cannot run",
			{
				"src/swiotlb/pool.ts":
					'import { poolPtr } from "../../assembly/swiotlb/pool.ts";\nexport const bytes = poolPtr;',
			},
			[
				"src/swiotlb/pool.ts:1: engine: it imports assembly/swiotlb/pool.ts; of the engine's source only assembly/layout/ is for both sides",
			],
		],
		[
			"an address that is declared as a plain number",
			{
				"src/swiotlb/pool.ts":
					"export function bytes(gpa: number, slots: number, { dma }: { dma?: number | null }): readonly number[] {\n\tconst startGpas: readonly number[] = [gpa, slots, dma ?? 0];\n\treturn startGpas; }\nclass X { tlb: number = 1; gpa: Gpa = 2; }",
			},
			[
				"src/swiotlb/pool.ts:1: brand: gpa is an address, and declared as a plain number",
				"src/swiotlb/pool.ts:1: brand: dma is an address, and declared as a plain number",
				"src/swiotlb/pool.ts:2: brand: startGpas is an address, and declared as a plain number",
				"src/swiotlb/pool.ts:4: brand: tlb is an address, and declared as a plain number",
			],
		],
		[
			"a status of the engine that nobody looks at",
			{
				"src/swiotlb/pool.ts":
					"export function bytes({ exports, x }) {\n\texports.poolReset(1);\n\tx.exports?.poolCreate(0);\n\tvoid x.exports.poolPtr(2);\n\texports.allowBlocking(1);\n\tx.poolPtr(3);\n\treturn exports.poolPtr(4); }",
			},
			[
				"src/swiotlb/pool.ts:2: status: what poolReset() answers is ignored",
				"src/swiotlb/pool.ts:3: status: what poolCreate() answers is ignored",
				"src/swiotlb/pool.ts:4: status: what poolPtr() answers is ignored",
			],
		],
		[
			"an import of a file that is not there",
			{ "src/cli/main.ts": 'import "../node/gone.ts";' },
			[
				"src/cli/main.ts:1: no file: it imports src/node/gone.ts, and there is no such file",
				"src/node/file.ts:2: unused: neither a door nor code uses the const text",
			],
		],
		[
			"a file in no room",
			{ "src/attic/box.ts": "" },
			["src/attic/box.ts:1: no room: it stands in no room of the list of floors"],
		],
		[
			"a file that does not parse",
			{ "src/cli/main.ts": "import {" },
			[
				expect.stringMatching(/^src\/cli\/main\.ts:1: unread: it does not parse: /),
				"src/node/file.ts:2: unused: neither a door nor code uses the const text",
			],
		],
	])("name file, line and rule of %s", (_, planted, said) => {
		expect(broken({ ...SOUND, ...planted })).toEqual(said);
	});

	it("let a room import a door that opens only rooms below it, and a test every room and no door", () => {
		const files = {
			"src/node/policy.ts": 'export * as engine from "../doors/engine.ts";',
			"src/doors/node.ts": 'export { engine } from "../node/policy.ts";',
			"test/node.test.ts": 'import "../src/node/policy.ts";\nimport "node:fs";',
			"test/door.test.ts": 'import "../src/doors/node.ts";',
		};
		expect(broken({ ...SOUND, ...files })).toEqual([
			"test/door.test.ts:1: door: it imports the door src/doors/node.ts; a test imports rooms",
		]);
	});

	it("count as used what is taken from a module that loads later, and all of one that is handed on", () => {
		const use = (code: string) =>
			broken({ ...SOUND, "src/node/file.ts": `export const text = 1, other = 2;\n`, "src/cli/main.ts": code });
		const idle = (name: string) => `src/node/file.ts:1: unused: neither a door nor code uses the const ${name}`;
		expect(use('const { other: mine } = await import("../node/file.ts");')).toEqual([idle("text")]);
		expect(use('(await import("../node/file.ts")).text();')).toEqual([idle("other")]);
		expect(use('import("../node/file.ts").then(console.log);')).toEqual([]);
		expect(use('import * as file from "../node/file.ts";\nconsole.log(file.text);')).toEqual([idle("other")]);
		expect(use('import * as file from "../node/file.ts";\nconsole.log(file[0]);')).toEqual([]);
		expect(use('import * as file from "../node/file.ts";\nexport type X = keyof typeof file;').length).toBe(1);
		expect(use('export * from "../node/file.ts";')).toEqual([]);
	});
});
