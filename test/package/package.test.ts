import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { expectRefused, temporaryFolder } from "../helpers/cli.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

function run(command: string, args: readonly string[], cwd: string): string {
	return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

describe("the package", () => {
	it("has a command that runs in a clone: by itself, and by npx", () => {
		const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
		expect(run(join(ROOT, "build/src/cli/main.js"), ["--version"], ROOT)).toBe(`${version}\n`);
		expect(run("npx", ["--no-install", "coco-dma", "--version"], ROOT)).toBe(`${version}\n`);
	});

	it("packs, installs elsewhere and runs there, as a library with types and as a command", () => {
		const folder = temporaryFolder();
		// the build is fresh (test/builds.ts), so its scripts need not run again
		const packed = JSON.parse(run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder], ROOT));
		const files: string[] = packed[0].files.map(({ path }: { path: string }) => path);
		const builds = ["engine", "engine.audit", "engine.threads", "rings", "rings.threads"];
		expect(files.filter((path) => path.endsWith(".wasm")).sort()).toEqual(
			builds.map((name) => `build/${name}.wasm`).sort(),
		);
		const others = files.filter((path) => path.startsWith("build/") && !path.endsWith(".wasm"));
		expect(others.filter((path) => !/^build\/(?:assembly\/layout|src)\/.*\.(?:js|d\.ts)$/.test(path))).toEqual([]);
		writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module", private: true }));
		run("npm", ["install", "--prefer-offline", join(folder, packed[0].filename)], folder);
		writeFileSync(
			join(folder, "use.ts"),
			`import { Direction, DmaError, Engine, type Gpa } from "coco-dma";
const engine: Engine = await Engine.create({ ram: "128M" });
const device = engine.addDevice({ forceBounce: true });
const at: Gpa = 0x1000;
try { device.unmap(device.map(at, 4096, Direction.ToDevice), 4096, Direction.FromDevice); }
catch (error) { if (error instanceof DmaError) console.log(error.status, engine.pools[0]?.used); }
`,
		);
		const options = [
			"--strict",
			"--module",
			"nodenext",
			"--target",
			"es2022",
			"--lib",
			"es2022,dom",
			"--types",
			"",
			"use.ts",
		];
		run(join(ROOT, "node_modules/.bin/tsc"), options, folder);
		expect(run(process.execPath, ["use.js"], folder)).toBe("MISMATCH 2\n");
		const installed = join(folder, "node_modules/coco-dma");
		expect(readdirSync(join(folder, "node_modules")).filter((name) => /assemblyscript|tinybench/.test(name))).toEqual(
			[],
		);
		const command = (...args: string[]) => {
			const { status, stdout, stderr } = spawnSync("npx", ["--no-install", "coco-dma", ...args], {
				cwd: folder,
				encoding: "utf8",
			});
			return { code: status, out: stdout, err: stderr };
		};
		expect(command("--version")).toMatchObject({ code: 0, out: expect.stringMatching(/^\d/), err: "" });
		const trace = join(installed, "bench/traces/pgbench.block.ftrace.txt.gz");
		expect(command("audit", trace, "--policy", "cc-accepted-bus")).toMatchObject({ code: 0, err: "" });
		expectRefused(command("bench", "slots"), 'the benchmarks are not in the package: "npm ci && npm run bench"');
		const recording = join(ROOT, "test/golden/swiotlb-recorded/up-nvme.txt.gz");
		expect(command("verify", recording)).toMatchObject({ code: 0, err: "" });
		expectRefused(command("verify", recording, "--reference"), 'the build "reference" is not there: in a clone, ');
	});

	it("has an example that embeds the engine in a memory that someone else owns and grows", () => {
		const out = run(process.execPath, ["examples/embed.js"], ROOT);
		expect(out.split("\n")).toEqual([
			"guest buffer 0x100001200 bounced to 0xc00200",
			'device reads "guest data"',
			'guest reads "disk  data"',
			"unmap(0xc00200, 4096 bytes, BIDIRECTIONAL) on device 0: NOT_MAPPED: no live mapping starts there",
			"slots in use 0, simulator's CPU state untouched",
			"",
		]);
	});

	it("commits nothing of what is built", () => {
		expect(run("git", ["ls-files", "build"], ROOT).trim()).toBe("build/.gitignore");
		expect(readFileSync(join(ROOT, "build/.gitignore"), "utf8")).toContain("*");
	});
});
