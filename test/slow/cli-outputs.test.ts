import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, linkSync, readdirSync, readFileSync, statSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { coco, cocoProcess, expectRefused, MAIN, shortTrace, temporaryFile, temporaryFolder } from "../helpers/cli.ts";

const SMALL = ["--ram", "64M", "--pool", "4M"];
const TRACE = shortTrace(200);
const compare = (...more: string[]) => coco("compare", TRACE, "--repeat", "1", ...SMALL, ...more);

/** Runs the command line in a shell. @returns its exit code and what it said on standard error */
function inShell(line: string): { readonly code: number | null; readonly err: string } {
	const { status, stderr } = spawnSync("bash", ["-c", line], {
		encoding: "utf8",
		env: { ...process.env, COCO: `${process.execPath} ${MAIN}`, TRACE },
	});
	return { code: status, err: stderr };
}

describe("the files that a command writes", () => {
	it("are never one of its inputs, by whatever name, and never one file for two", async () => {
		const before = readFileSync(TRACE);
		const folder = temporaryFolder();
		symlinkSync(TRACE, join(folder, "link"));
		linkSync(TRACE, join(folder, "hard"));
		for (const path of [TRACE, join(folder, "link"), join(folder, "hard")])
			for (const option of ["--json", "--html"])
				expectRefused(await compare(option, path), `${option}: `, "is an input too");
		expect(readFileSync(TRACE)).toEqual(before);
		const both = join(folder, "both");
		expectRefused(await compare("--json", both, "--html", both), "--html: ", "is what --json writes");
		expect(existsSync(both)).toBe(false);
		expectRefused(
			await compare("--json", both, "--html", join(folder, "..", folder.split("/").at(-1) as string, "both")),
		);
	});

	it("fail before the work where they cannot be written", async () => {
		for (const [path, ...parts] of [
			["", "--html: expected a file, found an empty name"],
			["/no/such/x.html", "/no/such/x.html: cannot be written: there is no folder /no/such (--html)"],
			["/tmp", "/tmp: cannot be written: it is a folder (--html)"],
		] as const) {
			const start = performance.now();
			expectRefused(await compare(`--html=${path}`), ...parts);
			expect(performance.now() - start).toBeLessThan(2000);
		}
	});

	it("are replaced as a whole, keep their mode, and leave nothing beside them", async () => {
		const path = temporaryFile("out.json", "old");
		chmodSync(path, 0o640);
		expect((await compare("--json", path)).code).toBe(0);
		expect(JSON.parse(readFileSync(path, "utf8")).command).toBe("compare");
		expect(statSync(path).mode & 0o777).toBe(0o640);
		expect(readdirSync(dirname(path))).toEqual(["out.json"]);
	});

	it("may be a pipe, which is written as it is", () => {
		const { code, err } = inShell(
			`$COCO compare $TRACE --repeat 1 --ram 64M --pool 4M --json >(wc -c >&2) >/dev/null; sleep 0.5`,
		);
		expect([code, Number(err) > 1000]).toEqual([0, true]);
	});

	it("cost no result where a disk is full: the table is printed, then one line, exit code 2", () => {
		const { code, out, err } = cocoProcess("compare", TRACE, "--repeat", "1", ...SMALL, "--json", "/dev/full");
		expect(out).toContain("DMA layer, ns per request");
		expect(err).toBe("coco-dma compare: /dev/full: cannot be written (ENOSPC)\n");
		expect(code).toBe(2);
	});
});

describe("standard output", () => {
	it("that is a full disk is one line and exit code 2", () => {
		expect(inShell("$COCO --help > /dev/full")).toEqual({
			code: 2,
			err: "coco-dma: standard output: cannot be written (ENOSPC)\n",
		});
	});

	it("whose reader closes early changes no exit code", () => {
		const audit = "$COCO audit $TRACE --ram 64M --pool 4M --policy";
		expect(inShell(`set -o pipefail; ${audit} rfc-v3 | true`)).toEqual({ code: 1, err: "" });
		expect(inShell(`set -o pipefail; ${audit} cc-accepted-bus | true`)).toEqual({ code: 0, err: "" });
	});
});

describe("an option", () => {
	it.each([
		[["--seed", "1", "--seed", "2"], "--seed: given twice"],
		[["--json=a", "--json=a"], "--json: given twice"],
		[["--ram", "-1"], '--ram: expected a size such as 4096, 64K or 1.5G, not "-1"'],
		[["--ram"], "--ram: expected a value"],
		[["--help=yes"], '--help: expected no value, found "yes"'],
		[["--sed", "1"], "Unknown option '--sed': expected --device, "],
	])("that is wrong is named: %j", async (args, said) => {
		expectRefused(await coco("compare", TRACE, ...args), said);
	});
});

describe("a policy's file", () => {
	it.each([
		["ends the process", "process.exit(0)", "coco-dma: process.exit was called before the work was done\n"],
		[
			"leaves a promise behind that is rejected",
			"Promise.reject(new Error('later')); await new Promise((r) => setTimeout(r, 50)); export default {};",
			"coco-dma: a promise was rejected: later\n",
		],
	])("that %s does not end in silence or a stack trace", (_, code, said) => {
		const path = temporaryFile("mine.mjs", code);
		expect(cocoProcess("policies", "--no-cost", "--policy", path)).toEqual({ code: 2, out: "", err: said });
	});
});

describe("an input", () => {
	it.each([
		["/dev/zero", "expected a file or a pipe, found a device"],
		["/proc/self/maps", "expected a file or a pipe, found one of the kernel's own"],
		["/tmp", "is a folder"],
	])("that never ends or is no file is refused: %s", async (path, said) => {
		expectRefused(await coco("compare", path), path, said);
		expectRefused(await coco("verify", path), path, said);
	});

	it("may be standard input, or a pipe", () => {
		for (const line of [
			"$COCO compare - --repeat 1 --ram 64M --pool 4M < $TRACE > /dev/null",
			"$COCO compare <(cat $TRACE) --repeat 1 --ram 64M --pool 4M > /dev/null",
		])
			expect(inShell(line)).toEqual({ code: 0, err: "" });
	});

	it("gives the terminal no orders, and no line of a megabyte", async () => {
		const event = (rwbs: string) => `  p-1 [000] d.... 1.1: block_rq_issue: 8,0 ${rwbs} 4096 () 1 + 8 [p]\n`;
		const orders = temporaryFile("orders.txt", event("\u001b]0;pwned\u0007\u001b[31mX1"));
		const result = await coco("compare", orders);
		expectRefused(result, "\\u{1b}]0;pwned\\u{7}");
		// biome-ignore lint/suspicious/noControlCharactersInRegex: those must not be there
		expect(result.err.trimEnd()).not.toMatch(/[\x00-\x1f\x7f]/);
		const long = await coco("compare", temporaryFile("long.txt", event(`${"x".repeat(1e6)}1`)));
		expectRefused(long);
		expect(long.err.length).toBeLessThan(2000);
	});
});

describe("a command that is told to stop", () => {
	it("leaves no child behind", async () => {
		const child = spawn(process.execPath, [MAIN, "compare", TRACE, "--repeat", "1000"], { stdio: "ignore" });
		const children = () =>
			spawnSync("pgrep", ["-P", String(child.pid)], { encoding: "utf8" })
				.stdout.trim()
				.split("\n")
				.filter(Boolean);
		let started: string[] = [];
		for (let i = 0; i < 200 && started.length === 0; i++) {
			await new Promise((resolve) => setTimeout(resolve, 50));
			started = children();
		}
		expect(started.length).toBeGreaterThan(0);
		child.kill("SIGINT");
		const [, signal] = await once(child, "exit");
		expect(signal).toBe("SIGINT");
		await new Promise((resolve) => setTimeout(resolve, 200));
		const runs = started.filter((pid) => {
			const status = `/proc/${pid}/status`;
			// whoever adopts it may not have looked yet
			return existsSync(status) && !/^State:\s+Z/m.test(readFileSync(status, "utf8"));
		});
		expect(runs).toEqual([]);
	});
});
