import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { PROPERTIES } from "../../src/leaks/properties.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const README = readFileSync(`${ROOT}README.md`, "utf8");

/** The first block of a language, and the text block after it. */
function blocks(text: string, language: string): { code: string; output: string } {
	const match = new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\`\\s+\`\`\`text\n([\\s\\S]*?)\`\`\``).exec(text);
	return { code: match?.[1] ?? "", output: match?.[2] ?? "" };
}

describe("the README", () => {
	it("has less than 1,200 words", () => {
		expect(README.split(/\s+/).length).toBeLessThan(1200);
	});

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

	it("shows a policy of one's own that is the example's, in less than 20 lines", () => {
		const shown = /```ts\n([\s\S]*?)```/.exec(README)?.[1] ?? "";
		expect(readFileSync(`${ROOT}examples/my-policy.ts`, "utf8")).toContain(shown);
		expect(shown.split("\n").length).toBeLessThan(20);
		expect(shown).toContain("satisfies Policy");
	});

	it("shows all properties of the leaks", () => {
		const text = readFileSync(`${ROOT}docs/leaks.md`, "utf8");
		for (const { name, kind, text: rule } of Object.values(PROPERTIES))
			expect(text).toContain(`| \`${name}\` (${kind}) | ${rule} |\n`);
	});

	it("links to files that exist", () => {
		const pages = readdirSync(`${ROOT}docs`).filter((name) => name.endsWith(".md"));
		const files = [README, ...pages.map((name) => readFileSync(`${ROOT}docs/${name}`, "utf8"))];
		for (const [i, text] of files.entries()) {
			for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)/g)) {
				expect(() => readFileSync(`${ROOT}${i === 0 ? "" : "docs/"}${target}`)).not.toThrow();
			}
		}
	});
});
