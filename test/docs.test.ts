import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { coco, PGBENCH } from "./helpers/cli.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const README = readFileSync(`${ROOT}README.md`, "utf8");

/** The first block of a language, and the text block after it. */
function blocks(text: string, language: string): { code: string; output: string } {
	const match = new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\`\\s+\`\`\`text\n([\\s\\S]*?)\`\`\``).exec(text);
	return { code: match?.[1] ?? "", output: match?.[2] ?? "" };
}

describe("the README", () => {
	it("shows twelve lines of code and exactly what they print", () => {
		const { code, output } = blocks(README, "js");
		expect(
			code
				.trimEnd()
				.split("\n")
				.filter((line) => line !== ""),
		).toHaveLength(12);
		// inside the package, so that it finds the package by its name
		const file = `${ROOT}examples/.readme-${process.pid}.mjs`;
		writeFileSync(file, code);
		try {
			expect(execFileSync(process.execPath, [file], { encoding: "utf8" })).toBe(output);
		} finally {
			rmSync(file);
		}
	});

	it("shows a result with the rows that compare prints, and its counts", () => {
		const shown = /```text\n(bench\/traces[\s\S]*?)```/.exec(README)?.[1] ?? "";
		const printed = coco("compare", PGBENCH, "--repeat", "1").out;
		const label = (line: string) => line.slice(0, 33).trimEnd();
		const rows = (text: string) => text.split("\n").slice(1, 29).map(label);
		expect(rows(shown)).toEqual(rows(printed));
		for (const name of ["requests", "mappings", "data", "copied into slots", "copied back", "high-water mark, slots"]) {
			const figures = (text: string) => new RegExp(`^  ${name} .*$`, "m").exec(text)?.[0].replace(/ +/g, " ");
			expect(figures(shown)).toBe(figures(printed));
		}
	});

	it("links to files that exist", () => {
		const files = [README, ...readdirSync(`${ROOT}docs`).map((name) => readFileSync(`${ROOT}docs/${name}`, "utf8"))];
		for (const [i, text] of files.entries()) {
			for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)/g)) {
				expect(() => readFileSync(`${ROOT}${i === 0 ? "" : "docs/"}${target}`)).not.toThrow();
			}
		}
	});
});
