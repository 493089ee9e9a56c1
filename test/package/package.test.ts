import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { temporaryFolder } from "../helpers/cli.ts";

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
		// the build is fresh (pretest), so its scripts need not run again
		const packed = JSON.parse(run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder], ROOT));
		const files: string[] = packed[0].files.map(({ path }: { path: string }) => path);
		expect(files).toContain("build/engine.wasm");
		const built = /^build\/(?:assembly|src|bench)\/.*\.(?:js|d\.ts)$|^build\/[\w.-]+\.wasm$/;
		expect(files.filter((path) => path.startsWith("build/") && !built.test(path))).toEqual([]);
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
		expect(run(join(folder, "node_modules/.bin/coco-dma"), ["--version"], folder)).toMatch(/^\d/);
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
