/**
 * Makes what the package, the tests and the benchmarks run, and only what is stale of it: `npm run build -- [TARGET|SET...]`.
 *
 * A target is fresh when every file that it was made from, its options and its outputs are to the byte what its stamp
 * (build/.stamps/) says. Outputs appear under their names when they are whole, the stamp after them: a build that fails or
 * is killed leaves nothing that counts as fresh.
 */
import { type ChildProcess, fork, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
	chmodSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmdirSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, isAbsolute, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

// this file runs as build.ts, and as build/build.js where the built benchmarks import it
const ROOT = fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "./" : "../", import.meta.url));
const BUILD = join(ROOT, "build");
const MODULES = join(ROOT, "node_modules");

const ENGINE = "assembly/index.ts";
const RINGS = "assembly/rings.ts";
const AUDIT = "assembly/audit/index.ts";
const BENCH = "assembly/bench/index.ts";
const BENCH_BARE = "assembly/bench/bare-index.ts";

/** What each target of asconfig.json is compiled from. */
const WASM = {
	engine: [ENGINE],
	rings: [RINGS],
	"engine.threads": [ENGINE],
	"rings.threads": [RINGS],
	"engine.audit": [ENGINE, RINGS, AUDIT],
	reference: [ENGINE, RINGS],
	debug: [ENGINE, RINGS],
	bench: [ENGINE, RINGS, BENCH],
	"bench.bare": [BENCH_BARE],
	"bench.threads": [ENGINE, RINGS, BENCH],
	"bench.reference": [ENGINE, RINGS, BENCH],
} as const satisfies Record<string, readonly string[]>;

export type WasmName = keyof typeof WASM;
/** typescript: src/ and bench/ as JavaScript with declarations. */
type TargetName = WasmName | "typescript";

const SHIPPED = ["typescript", "engine", "rings", "engine.threads", "rings.threads", "engine.audit"] as const;

/** Targets by who needs them. */
export const SETS = {
	/** `npm start` */
	start: ["typescript", "engine", "rings"],
	/** What is packed: every command of an installed package. */
	package: SHIPPED,
	/** The tests; those of `coco-dma bench` ask for theirs as it does. */
	tests: [...SHIPPED, "reference", "debug"],
	/** `coco-dma bench`, beside typescript */
	benchmarks: ["engine", "rings", "engine.audit", "bench", "bench.bare", "bench.threads", "bench.reference"],
} as const satisfies Record<string, readonly TargetName[]>;

/** asc's arguments for a target, from the repository's root; its options and its output stand in asconfig.json. */
export function ascArguments(name: WasmName): string[] {
	return [...WASM[name], "--config", "asconfig.json", "--target", name];
}

/** SHA-256 by path from the root; null: there was no such file. */
type Hashes = Record<string, string | null>;

interface Stamp {
	/** What the target is made with: arguments, and the versions of the programs. */
	readonly options: readonly string[];
	readonly inputs: Hashes;
	readonly outputs: Hashes;
}

type Files = ReadonlyMap<string, string | Uint8Array>;

function sha256(content: string | Uint8Array): string {
	return createHash("sha256").update(content).digest("hex");
}

function hashFile(path: string): string | null {
	try {
		return sha256(readFileSync(join(ROOT, path)));
	} catch {
		return null;
	}
}

function hashFiles(paths: Iterable<string>): Hashes {
	return Object.fromEntries([...paths].map((path) => [path, hashFile(path)]));
}

/** Files under a folder whose names end so, as paths from the root. */
function filesUnder(folder: string, suffix = ""): string[] {
	return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
		.filter((entry) => entry.isFile() && entry.name.endsWith(suffix))
		.map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
}

function versionOf(name: string): string {
	const { version } = JSON.parse(readFileSync(join(MODULES, name, "package.json"), "utf8")) as { version: string };
	return `${name}@${version}`;
}

function stampPath(name: TargetName): string {
	return join(BUILD, ".stamps", `${name}.json`);
}

/** Writes a file under another name first: whoever reads it meanwhile sees the old one or the new one, whole. */
function replaceFile(path: string, content: string | Uint8Array): void {
	mkdirSync(dirname(path), { recursive: true });
	const part = `${path}.${process.pid}.part`;
	writeFileSync(part, content);
	renameSync(part, path);
}

/** A target's options now, and the files that it is made from whatever its stamp says. */
function describeTarget(name: TargetName): {
	readonly options: readonly string[];
	readonly sources: readonly string[];
} {
	if (name !== "typescript") return { options: [versionOf("assemblyscript"), ...ascArguments(name)], sources: [] };
	return {
		options: ["typescript", "rolldown", ...[...WITH_INSIDE.values()].map(([name]) => name)].map(versionOf),
		sources: [
			...["build.ts", "package-lock.json", "tsconfig.json", "tsconfig.build.json"],
			...["src", "bench"].flatMap((folder) => filesUnder(folder, ".ts")),
		],
	};
}

function isFresh(name: TargetName): boolean {
	let stamp: Stamp;
	try {
		stamp = JSON.parse(readFileSync(stampPath(name), "utf8")) as Stamp;
	} catch {
		return false;
	}
	const { options, sources } = describeTarget(name);
	const same = (hashes: Hashes) => Object.entries(hashes).every(([path, hash]) => hashFile(path) === hash);
	return (
		options.join("\n") === stamp.options.join("\n") &&
		sources.every((path) => path in stamp.inputs) &&
		same(stamp.inputs) &&
		same(stamp.outputs)
	);
}

/** Puts a target's outputs and then its stamp in place. */
function settle(name: TargetName, inputs: Hashes, outputs: Files): void {
	const written: Hashes = {};
	for (const [path, content] of outputs) {
		written[path] = sha256(content);
		if (hashFile(path) !== written[path]) replaceFile(join(ROOT, path), content);
	}
	const stamp: Stamp = { options: describeTarget(name).options, inputs, outputs: written };
	replaceFile(stampPath(name), JSON.stringify(stamp));
}

/** What a compiler process answers. */
type Compiled = { readonly inputs: Hashes; readonly outputs: Map<string, string | Uint8Array> } | { error: string };

/** In a compiler process: compiles one target after the other, the later ones with warm code. */
async function serveCompiler(): Promise<void> {
	const { default: asc } = await import("assemblyscript/asc");
	const compile = async (name: WasmName): Promise<Compiled> => {
		const inputs: Hashes = {};
		const outputs = new Map<string, string | Uint8Array>();
		const { error, stderr } = await asc.main(ascArguments(name), {
			readFile(path, base) {
				const file = resolve(base, path);
				// a file that is not there is an input too: it might appear
				const content = existsSync(file) ? readFileSync(file, "utf8") : null;
				inputs[relative(ROOT, file)] = content === null ? null : sha256(content);
				return content;
			},
			writeFile: (path, content, base) => void outputs.set(relative(ROOT, resolve(base, path)), content),
			listFiles: () => null,
		});
		return error === null ? { inputs, outputs } : { error: stderr.toString().trim() || error.message };
	};
	process.on("message", (name: WasmName) => void compile(name).then((answer) => process.send?.(answer)));
	process.once("disconnect", () => process.exit(1));
}

class Compiler {
	readonly #child: ChildProcess;

	constructor() {
		this.#child = fork(fileURLToPath(import.meta.url), ["--compiler"], {
			cwd: ROOT,
			execArgv: ["--import", "jiti/register"],
			serialization: "advanced",
			stdio: ["ignore", "inherit", "inherit", "ipc"],
		});
	}

	/** @throws Error with the compiler's words */
	make(name: WasmName): Promise<void> {
		return new Promise((resolve, reject) => {
			const died = () => reject(new Error("the compiler's process ended early"));
			this.#child.once("exit", died);
			this.#child.once("message", (answer: Compiled) => {
				this.#child.off("exit", died);
				if ("error" in answer) return reject(new Error(answer.error));
				settle(name, answer.inputs, answer.outputs);
				resolve();
			});
			this.#child.send(name);
		});
	}

	end(): void {
		this.#child.kill();
	}
}

/** Runs tsc. @returns what it printed @throws Error with that */
/** What the compiler found wrong, without the list of the files that it read. */
function faultsOf(printed: string): string {
	const faults = printed.split("\n").filter((line) => line !== "" && !isAbsolute(line));
	return faults.length > 0 ? faults.join("\n") : printed.trimEnd();
}

function runTsc(args: readonly string[]): Promise<string> {
	const tsc = join(MODULES, "typescript/bin/tsc");
	return new Promise((resolve, reject) => {
		const child = spawn(process.execPath, [tsc, ...args], { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
		let printed = "";
		child.stdout.setEncoding("utf8").on("data", (text) => {
			printed += text;
		});
		child.once("error", reject);
		child.once("close", (code) => (code === 0 ? resolve(printed) : reject(new Error(faultsOf(printed)))));
	});
}

/** Modules with a package inside, which a browser could not find by its name; and whose it is. */
const WITH_INSIDE = new Map<string, readonly [name: string, copyright: string]>([
	["src/wasm.js", ["@assemblyscript/loader", "The AssemblyScript Authors, Apache-2.0"]],
	[
		"src/verify/hashes.js",
		["hash-wasm", "2020 Dani Biró, MIT: https://github.com/Daninet/hash-wasm/blob/master/LICENSE"],
	],
]);

/** A module with a package inside. */
async function withInside(
	path: string,
	[name, copyright]: readonly [name: string, copyright: string],
): Promise<string> {
	const { rolldown } = await import("rolldown");
	const bundle = await rolldown({
		input: path,
		external: /^\.\.?\//,
		platform: "browser",
		experimental: { attachDebugInfo: "none" },
		// such as an import that is nowhere to be found: it would stay one
		onLog: (_, { message }) => {
			throw new Error(message);
		},
	});
	const { output } = await bundle.generate({
		format: "esm",
		banner: `/* With ${versionOf(name)} inside: Copyright ${copyright}. */`,
	});
	await bundle.close();
	if (output.length !== 1) throw new Error(`${path}: ${output.length} modules came of it`);
	return output[0].code;
}

/** An emitted file lies in build itself. */
function fromBuild(code: string): string {
	return code.replaceAll('new URL("../build/', 'new URL("../');
}

const EMITTED = ["build/assembly", "build/src", "build/bench", "build/build.js", "build/build.d.ts"];
const COMMAND = "build/src/cli/main.js";

async function makeTypescript(): Promise<void> {
	// hashed before the compiler reads them: a change meanwhile makes the target stale
	const before = hashFiles([...describeTarget("typescript").sources, ...filesUnder("assembly", ".ts")]);
	const staged = `build/.staged.${process.pid}`;
	try {
		const printed = await runTsc(["-p", "tsconfig.build.json", "--outDir", staged, "--listFiles"]);
		const read = printed.split("\n").map((path) => relative(ROOT, path));
		const needed = new Set([...describeTarget("typescript").sources, ...read]);
		const inputs = Object.fromEntries(Object.entries(before).filter(([path]) => needed.has(path)));
		const outputs = new Map<string, string | Uint8Array>();
		for (const path of filesUnder(staged)) {
			const inside = WITH_INSIDE.get(path.slice(staged.length + 1));
			const content = inside === undefined ? readFileSync(join(ROOT, path)) : await withInside(path, inside);
			outputs.set(path.replace(staged, "build"), typeof content === "string" ? fromBuild(content) : content);
		}
		settle("typescript", inputs, outputs);
		removeOthers(new Set(outputs.keys()));
		chmodSync(join(ROOT, COMMAND), 0o755);
	} finally {
		rmSync(join(ROOT, staged), { recursive: true, force: true });
	}
}

/** Removes what earlier sources made, files and then folders. */
function removeOthers(kept: ReadonlySet<string>): void {
	const roots = EMITTED.filter((path) => existsSync(join(ROOT, path)) && !path.includes("build/build."));
	for (const path of roots.flatMap((root) => filesUnder(root))) if (!kept.has(path)) rmSync(join(ROOT, path));
	for (const root of roots) {
		const folders = readdirSync(join(ROOT, root), { recursive: true, withFileTypes: true })
			.filter((entry) => entry.isDirectory())
			.map((entry) => join(entry.parentPath, entry.name));
		for (const folder of folders.sort().reverse()) if (readdirSync(folder).length === 0) rmdirSync(folder);
	}
}

/** @throws Error that names each field, or access to one, that is not as the records are drawn */
async function checkRecords(): Promise<void> {
	const { engineSources, recordFaults } = await import("./records.ts");
	const faults = recordFaults(engineSources());
	if (faults.length > 0) throw new Error(`records:\n${faults.join("\n")}`);
}

/** Removes what killed builds left half made. */
function sweep(): void {
	for (const name of readdirSync(BUILD)) {
		const pid = /^\.staged\.(\d+)$|\.(\d+)\.part$/.exec(name)?.slice(1).find(Boolean);
		if (pid === undefined) continue;
		try {
			process.kill(Number(pid), 0);
		} catch {
			rmSync(join(BUILD, name), { recursive: true, force: true });
		}
	}
}

/** From so many targets up a second compiler saves more time than it takes to get warm. */
const TWO_COMPILERS_FROM = 5;

/**
 * Makes what is stale of these targets, at most two at a time, with a line for each on standard error.
 * @returns how many were stale
 * @throws Error that names the target, with the compiler's words
 */
export async function build(names: readonly TargetName[]): Promise<number> {
	const started = performance.now();
	const seconds = (since: number) => `${((performance.now() - since) / 1000).toFixed(1)} s`;
	const say = (line: string) => process.stderr.write(`build: ${line}\n`);
	const stale = [...new Set(names)].filter((name) => !isFresh(name));
	// npm packs nothing of a folder whose .gitignore says so, unless it has this
	if (!existsSync(join(BUILD, ".npmignore"))) replaceFile(join(BUILD, ".npmignore"), "");
	if (stale.length === 0) return 0;
	say(`making ${stale.join(", ")}`);
	sweep();

	const queue = stale.filter((name) => name !== "typescript");
	const timed = async (name: TargetName, work: () => Promise<void>) => {
		const since = performance.now();
		try {
			await work();
		} catch (error) {
			throw new Error(`${name}: ${(error as Error).message}`);
		}
		say(`${name.padEnd(16)} ${seconds(since).padStart(7)}`);
	};
	const compilers: Compiler[] = [];
	const compileInTurn = async () => {
		const compiler = new Compiler();
		compilers.push(compiler);
		for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
			const next = name;
			await timed(next, () => compiler.make(next));
		}
	};
	if (queue.length > 0) await checkRecords();
	const work: Promise<void>[] = [];
	if (stale.includes("typescript")) work.push(timed("typescript", makeTypescript));
	const wanted = queue.length >= TWO_COMPILERS_FROM && availableParallelism() > 1 ? 2 : Math.min(queue.length, 1);
	for (let i = 0; i < wanted; i++) work.push(compileInTurn());
	try {
		await Promise.all(work);
	} finally {
		for (const compiler of compilers) compiler.end();
	}
	say(`${stale.length} made in ${seconds(started)}`);
	return stale.length;
}

/** The targets that names of targets and sets stand for; those of the package without any. @throws RangeError for an unknown name */
function targetsOf(names: readonly string[]): TargetName[] {
	const isSet = (name: string): name is keyof typeof SETS => Object.hasOwn(SETS, name);
	const isTarget = (name: string): name is TargetName => name === "typescript" || Object.hasOwn(WASM, name);
	return (names.length === 0 ? ["package"] : names).flatMap((name): readonly TargetName[] => {
		if (isSet(name)) return SETS[name];
		if (isTarget(name)) return [name];
		const known = [...Object.keys(SETS), "typescript", ...Object.keys(WASM)];
		throw new RangeError(`unknown target "${name}": expected ${known.join(", ")}`);
	});
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
	const args = process.argv.slice(2);
	try {
		if (args[0] === "--compiler") await serveCompiler();
		else if ((await build(targetsOf(args))) === 0) process.stderr.write("build: nothing is stale\n");
	} catch (error) {
		process.stderr.write(`build: ${(error as Error).message}\n`);
		process.exitCode = 1;
	}
}
