import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { PROPERTIES } from "../../src/leaks/properties.ts";
import { coco } from "../helpers/cli.ts";

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

	it.each([
		["modes", "README.md", "on nvme", []],
		[
			"policies",
			"docs/compare.md",
			"13,990 requests on storvsc",
			["--policy", "rfc-v3,paravisor-bounce,cc-accepted-bus,linux-7.3+share-in-place"],
		],
	])(
		"shows lines of a result that compare prints, of %s: counts to the digit, times by their rows",
		async (_, page, head, options) => {
			const text = readFileSync(`${ROOT}${page}`, "utf8");
			const blocks = [...text.matchAll(/```text\n(bench\/traces[\s\S]*?)```/g)].map(([, block]) => block as string);
			const shown = (blocks.find((text) => text.includes(head)) ?? "").trimEnd().split("\n");
			const trace = "bench/traces/pgbench.block.ftrace.txt.gz";
			const printed = (await coco("compare", trace, "--repeat", "1", ...options)).out.split("\n");
			const label = (line: string) => line.slice(0, 33).trimEnd();
			const squeezed = (line: string) => line.replace(/ +/g, " ");
			expect(shown.length).toBeGreaterThan(9);
			for (const line of shown) {
				if (/\d ns|, ns|GB\/s|against the first/.test(line)) expect(printed.map(label)).toContain(label(line));
				else expect(printed.map(squeezed)).toContain(squeezed(line));
			}
		},
	);

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

	it.each(["README.md", "docs/trust.md", "docs/vmbus.md", "docs/policies.md", "docs/audit-command.md"])(
		"shows of the commands in %s what they print",
		async (name) => {
			const text = readFileSync(`${ROOT}${name}`, "utf8");
			const shown = [
				...text.matchAll(/```console\n\$ npx coco-dma ([^|\n]*?)(?: \| (head|tail) -n (\d+))?\n([\s\S]*?)```/g),
			];
			expect(shown.length).toBe(text.split("```console").length - 1);
			for (const [, command, end, count, output] of shown) {
				const lines = (await coco(...(command as string).split(" "))).out.split("\n");
				const part =
					end === undefined
						? lines
						: end === "head"
							? [...lines.slice(0, Number(count)), ""]
							: lines.slice(-1 - Number(count));
				expect(part.join("\n"), command).toBe(output);
			}
		},
	);

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
