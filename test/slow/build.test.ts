import { type ChildProcess, spawn } from "node:child_process";
import {
	copyFileSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	rmSync,
	symlinkSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { temporaryFolder } from "../helpers/cli.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const JITI = join(ROOT, "node_modules/jiti/lib/jiti-cli.mjs");

/** A repository with the real build program and sources that compile in no time. */
class Clone {
	readonly folder = temporaryFolder();

	constructor() {
		for (const name of [
			"build.ts",
			"records.ts",
			"asconfig.json",
			"package.json",
			"package-lock.json",
			"tsconfig.json",
			"tsconfig.build.json",
		])
			copyFileSync(join(ROOT, name), join(this.folder, name));
		symlinkSync(join(ROOT, "node_modules"), join(this.folder, "node_modules"));
		this.write(
			"assembly/index.ts",
			'import { two } from "./two";\nexport function four(): i32 { return two() + two(); }\n',
		);
		this.write("assembly/two.ts", "export function two(): i32 { return 2; }\n");
		this.write("assembly/audit/index.ts", "export function three(): i32 { return 3; }\n");
		this.write("assembly/rings.ts", "export function one(): i32 { return 1; }\n");
		this.write(
			"src/wasm.ts",
			'export { instantiate } from "@assemblyscript/loader";\nexport { one } from "./one.ts";\n',
		);
		this.write("src/one.ts", "export const one: number = 1;\n");
		this.write("src/cli/main.ts", "console.log(1);\n");
		this.write("bench/run.ts", "console.log(2);\n");
	}

	write(path: string, content: string | Uint8Array): void {
		const file = join(this.folder, path);
		mkdirSync(dirname(file), { recursive: true });
		writeFileSync(file, content);
	}

	read(path: string): string {
		return readFileSync(join(this.folder, path), "latin1");
	}

	start(...names: string[]): ChildProcess {
		// a group of its own, to be killed with its compilers
		return spawn(process.execPath, [JITI, "build.ts", ...names], {
			cwd: this.folder,
			stdio: ["ignore", "pipe", "pipe"],
			detached: true,
		});
	}

	/** Builds. @returns the exit code, what was made, and all lines */
	async build(...names: string[]): Promise<{ code: number | null; made: string[]; lines: string }> {
		const child = this.start(...names);
		let lines = "";
		child.stderr?.setEncoding("utf8").on("data", (text) => {
			lines += text;
		});
		const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
		const made = Array.from(lines.matchAll(/^build: (\S+) +\d+\.\d s$/gm), ([, name]) => name as string);
		return { code, made: made.sort(), lines };
	}

	async run(path: string): Promise<unknown> {
		return import(join(this.folder, path));
	}
}

describe("the build", () => {
	it("makes what is asked for with a line for each, and nothing when nothing is stale", async () => {
		const clone = new Clone();
		expect(await clone.build("start")).toMatchObject({ code: 0, made: ["engine", "rings", "typescript"] });
		expect(await clone.build("start")).toEqual({ code: 0, made: [], lines: "build: nothing is stale\n" });
		expect(await clone.run("build/src/wasm.js")).toMatchObject({ instantiate: expect.any(Function), one: 1 });
		expect(clone.read("build/src/wasm.js")).not.toContain('"@assemblyscript/loader"');
		expect(existsSync(join(clone.folder, "build/engine.threads.wasm"))).toBe(false);
	});

	it("makes again what was made from a file that changed, went or appeared, and nothing else", async () => {
		const clone = new Clone();
		await clone.build("start");
		const before = clone.read("build/engine.wasm");
		clone.write("assembly/two.ts", "export function two(): i32 { return 3; }\n");
		expect(await clone.build("start")).toMatchObject({ code: 0, made: ["engine"] });
		expect(clone.read("build/engine.wasm")).not.toBe(before);
		utimesSync(join(clone.folder, "assembly/two.ts"), 1, 1);
		clone.write("assembly/nobody.ts", "export const importsMe: i32 = 0;\n");
		expect((await clone.build("start")).made).toEqual([]);
		clone.write("src/more.ts", "export const more: number = 2;\n");
		expect((await clone.build("start")).made).toEqual(["typescript"]);
		expect(clone.read("build/src/more.js")).toContain("more = 2");
		rmSync(join(clone.folder, "src/more.ts"));
		expect((await clone.build("start")).made).toEqual(["typescript"]);
		expect(existsSync(join(clone.folder, "build/src/more.js"))).toBe(false);
		// an import finds x.ts before x/index.ts
		rmSync(join(clone.folder, "assembly/two.ts"));
		clone.write("assembly/two/index.ts", "export function two(): i32 { return 5; }\n");
		expect((await clone.build("start")).made).toEqual(["engine"]);
		clone.write("assembly/two.ts", "export function two(): i32 { return 6; }\n");
		expect((await clone.build("start")).made).toEqual(["engine"]);
	});

	it("makes again what was lost or damaged, and what has other options", async () => {
		const clone = new Clone();
		await clone.build("start");
		rmSync(join(clone.folder, "build/rings.wasm"));
		clone.write("build/engine.wasm", clone.read("build/engine.wasm").slice(0, -1));
		clone.write("build/src/one.js", "export const one = 2;");
		expect((await clone.build("start")).made).toEqual(["engine", "rings", "typescript"]);
		expect(clone.read("build/src/one.js")).toContain("one = 1");
		clone.write("asconfig.json", clone.read("asconfig.json").replaceAll(`"optimizeLevel": 3`, `"optimizeLevel": 2`));
		expect((await clone.build("start")).made).toEqual(["engine", "rings"]);
	});

	it("fails with the compiler's words, and leaves nothing of it fresh", async () => {
		const clone = new Clone();
		clone.write("assembly/index.ts", "export function four(): i32 { return nothing; }\n");
		const failed = await clone.build("engine");
		expect(failed).toMatchObject({ code: 1, made: [] });
		expect(failed.lines).toContain("Cannot find name 'nothing'");
		expect(failed.lines).toContain("assembly/index.ts(1,38)");
		expect((await clone.build("engine")).code).toBe(1);
		await clone.build("typescript");
		clone.write("src/one.ts", 'export const one: number = "1";\n');
		const untyped = await clone.build("typescript");
		expect(untyped).toMatchObject({ code: 1, made: [] });
		expect(untyped.lines).toContain("src/one.ts(1,14)");
		// what was there is whole, and old
		expect(clone.read("build/src/one.js")).toContain("one = 1");
		clone.write("src/one.ts", "export const one: number = 7;\n");
		expect((await clone.build("typescript")).made).toEqual(["typescript"]);
	});

	it("goes on where it was killed, whenever that is", async () => {
		const clone = new Clone();
		for (const ms of [300, 700, 1100, 1500, 1900, 2300]) {
			const child = clone.start("package");
			const ended = new Promise((resolve) => child.once("close", resolve));
			await new Promise((resolve) => setTimeout(resolve, ms));
			try {
				process.kill(-(child.pid as number), "SIGKILL");
			} catch (error) {
				expect(error).toMatchObject({ code: "ESRCH" });
			}
			await ended;
		}
		expect((await clone.build("package")).code).toBe(0);
		expect((await clone.build("package")).made).toEqual([]);
		for (const name of ["engine", "engine.threads", "engine.audit", "rings", "rings.threads"])
			await WebAssembly.compile(readFileSync(join(clone.folder, `build/${name}.wasm`)));
		expect(await clone.run("build/src/wasm.js")).toMatchObject({ one: 1 });
		expect(readdirSync(join(clone.folder, "build")).filter((name) => /\d/.test(name))).toEqual([]);
	});

	it("names the targets and the sets that there are", async () => {
		const { code, lines } = await new Clone().build("everything");
		expect(code).toBe(1);
		expect(lines).toMatch(/^build: unknown target "everything": expected start, package, tests, .*engine.*\n$/);
	});
});
