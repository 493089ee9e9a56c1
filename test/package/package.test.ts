import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";
import { beforeAll, describe, expect, it } from "vitest";
import { expectRefused, temporaryFolder } from "../helpers/cli.ts";
import { readSource, resolved } from "../house/reader.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

function run(command: string, args: readonly string[], cwd: string): string {
	return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

const MANIFEST = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));

/** Where the package is installed, by nothing but its archive. */
let folder: string;
let packedFiles: string[];

beforeAll(() => {
	folder = temporaryFolder();
	// the build is fresh (globalSetup), so its scripts need not run again
	const [packed] = JSON.parse(run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder], ROOT));
	packedFiles = packed.files.map(({ path }: { path: string }) => path);
	writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module", private: true }));
	run("npm", ["install", "--prefer-offline", join(folder, packed.filename)], folder);
}, 120_000);

/** Compiles a file there, without the types of Node. */
function compile(file: string): void {
	const options = ["--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "--types", ""];
	run(join(ROOT, "node_modules/.bin/tsc"), [...options, file], folder);
}

describe("the package", () => {
	it("has a command that runs in a clone: by itself, and by npx", () => {
		const { version } = MANIFEST;
		expect(run(join(ROOT, "build/src/cli/main.js"), ["--version"], ROOT)).toBe(`${version}\n`);
		expect(run("npx", ["--no-install", "coco-dma", "--version"], ROOT)).toBe(`${version}\n`);
	});

	it("packs, installs elsewhere and runs there, as a library with types and as a command", () => {
		const builds = ["engine", "engine.audit", "engine.threads", "rings", "rings.threads"];
		expect(packedFiles.filter((path) => path.endsWith(".wasm")).sort()).toEqual(
			builds.map((name) => `build/${name}.wasm`).sort(),
		);
		const others = packedFiles.filter((path) => path.startsWith("build/") && !path.endsWith(".wasm"));
		expect(others.filter((path) => !/^build\/(?:assembly\/layout|src)\/.*\.(?:js|d\.ts)$/.test(path))).toEqual([]);
		expect(readdirSync(join(folder, "node_modules")).filter((name) => /assemblyscript|tinybench/.test(name))).toEqual(
			[],
		);
		writeFileSync(
			join(folder, "use.ts"),
			`import { Direction, DmaError, Engine, type Gpa } from "coco-dma";
const engine: Engine = await Engine.create({ ram: "128M" });
const device = engine.addDevice();
const at: Gpa = 0x1000;
try { device.unmap(device.map(at, 4096, Direction.ToDevice), 4096, Direction.FromDevice); }
catch (error) { if (error instanceof DmaError) console.log(error.status, engine.pools[0]?.used); }
`,
		);
		compile("use.ts");
		expect(run(process.execPath, ["use.js"], folder)).toBe("MISMATCH 2\n");
	});

	it("has a command that runs where it is installed, and says what only a clone has", () => {
		const command = (...args: string[]) => {
			const { status, stdout, stderr } = spawnSync("npx", ["--no-install", "coco-dma", ...args], {
				cwd: folder,
				encoding: "utf8",
			});
			return { code: status, out: stdout, err: stderr };
		};
		expect(command("--version")).toMatchObject({ code: 0, out: expect.stringMatching(/^\d/), err: "" });
		const trace = join(folder, "node_modules/coco-dma/bench/traces/pgbench.block.ftrace.txt.gz");
		expect(command("audit", trace, "--policy", "cc-accepted-bus")).toMatchObject({ code: 0, err: "" });
		const recording = join(ROOT, "test/golden/swiotlb-recorded/up-nvme.txt.gz");
		expect(command("verify", recording)).toMatchObject({ code: 0, err: "" });
		expectRefused(command("bench", "slots"), 'the benchmarks are not in the package: "npm ci && npm run bench"');
		expectRefused(command("verify", recording, "--reference"), 'the build "reference" is not there: in a clone, ');
	});

	it("commits nothing of what is built", () => {
		expect(run("git", ["ls-files", "build"], ROOT).trim()).toBe("build/.gitignore");
		expect(readFileSync(join(ROOT, "build/.gitignore"), "utf8")).toContain("*");
	});
});

/** The doors as they are imported, each with its file. */
const DOORS = Object.entries<string>(MANIFEST.exports)
	.filter(([, file]) => file.endsWith(".js"))
	.map(([path, file]) => [path.replace(/^\./, "coco-dma"), file] as const);

describe("a door of the installed package", () => {
	it.each(DOORS)("%s opens alone in a plain process, with a name to take, and says nothing", (door) => {
		const code = `console.log(Object.keys(await import(${JSON.stringify(door)})).length)`;
		const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", code], {
			cwd: folder,
			encoding: "utf8",
		});
		expect(stderr).toBe("");
		expect(Number(stdout)).toBeGreaterThan(0);
	});

	it("has types of its own, which need none of Node's", () => {
		const imports = DOORS.map(([door], i) => `import * as door${i} from "${door}";\nexport const keep${i} = door${i};`);
		writeFileSync(join(folder, "doors.ts"), imports.join("\n"));
		compile("doors.ts");
	});

	it("leads from the engine's to the engine alone: no package, no module of Node's, nothing of the rooms above it", () => {
		const graph = new Map<string, readonly string[]>();
		const queue = ["build/src/doors/engine.js"];
		for (const path of queue) {
			const text = readFileSync(join(folder, "node_modules/coco-dma", path), "utf8");
			const specifiers = readSource(path, text).uses.map(({ specifier }) => specifier);
			graph.set(path, specifiers);
			for (const next of specifiers.flatMap((each) => resolved(path, each) ?? []))
				if (!queue.includes(next)) queue.push(next);
		}
		expect([...graph.values()].flat().filter((specifier) => !specifier.startsWith("."))).toEqual([]);
		const rooms = new Set([...graph.keys()].map((path) => path.replace(/^build\/|[^/]*$/g, "")));
		expect([...rooms].sort()).toEqual(
			["assembly/layout/", "src/", "src/audit/", "src/dma/", "src/doors/", "src/memory/", "src/swiotlb/"].sort(),
		);
	});

	it("names each of its WebAssembly files by a literal URL, which a bundler follows without running anything", () => {
		const code = readFileSync(join(folder, "node_modules/coco-dma/build/src/wasm.js"), "utf8");
		const named = [...code.matchAll(/new URL\("([^"]+)", import\.meta\.url\)/g)].map(([, path]) => path);
		const packed = packedFiles.filter((path) => path.endsWith(".wasm"));
		expect(named.sort()).toEqual(packed.map((path) => path.replace("build/", "../")).sort());
	});

	it.each(DOORS.filter(([door]) => door !== "coco-dma/node"))(
		"%s is bundled for a browser: every import resolves, and what is not used is left out",
		async (door) => {
			const entry = join(folder, "entry.js");
			const said: string[] = [];
			const bundled = async (code: string) => {
				writeFileSync(entry, code);
				const bundle = await rolldown({
					input: entry,
					platform: "browser",
					onLog: (_, { code, exporter, id }) => said.push(`${code} ${exporter} ${id}`),
				});
				const { output } = await bundle.generate({ format: "esm" });
				await bundle.close();
				return output;
			};
			const [whole] = await bundled(`import * as door from "${door}";\nconsole.log(door);`);
			expect(said).toEqual([]);
			expect([...whole.imports, ...whole.dynamicImports]).toEqual([]);
			const [nothing] = await bundled(`import "${door}";\nimport * as door from "${door}";`);
			expect(nothing.code.trim()).toBe("");
		},
	);
});
