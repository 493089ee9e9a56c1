import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

const PAGES = readdirSync(`${ROOT}docs`)
	.filter((name) => name.endsWith(".md"))
	.map((name) => [`docs/${name}`, readFileSync(`${ROOT}docs/${name}`, "utf8")]);

/** Blocks that say which example they show: ```js examples/x.js its code, ```text examples/x.js what it prints. */
const SHOWN = PAGES.flatMap(([page, text = ""]) =>
	[...text.matchAll(/^```(js|text) (examples\/[\w-]+\.js)\n([\s\S]*?)^```$/gm)].map(
		([, what, example, shown]) => [what as string, example as string, page as string, shown as string] as const,
	),
);

/** Blocks that begin with an import: whole programs. */
const PROGRAMS = PAGES.flatMap(([page, text = ""]) =>
	[...text.matchAll(/^```js\n(import [\s\S]*?)^```$/gm)].map(([, code]) => [page as string, code as string] as const),
);

const EXAMPLES = readdirSync(`${ROOT}examples`)
	.filter((name) => name.endsWith(".js"))
	.map((name) => `examples/${name}`);

describe("an example", () => {
	it.each(EXAMPLES)("%s has its output on a page, which links to it", (example) => {
		const [page] = SHOWN.filter(([what, name]) => what === "text" && name === example).map(([, , page]) => page);
		expect(page).toBeDefined();
		expect(PAGES.find(([name]) => name === page)?.[1]).toContain(`(../${example})`);
	});

	it.each(SHOWN.filter(([what]) => what === "text"))("shows the %s of %s on %s as it prints it", async (...row) => {
		const [, example, , shown] = row;
		const { stdout, stderr } = await promisify(execFile)(process.execPath, [example], { cwd: ROOT });
		expect(stderr).toBe("");
		expect(stdout).toBe(shown);
	});

	it.each(SHOWN.filter(([what]) => what === "js"))("shows the %s of %s on %s as it is", (...row) => {
		const [, example, , shown] = row;
		// a page's lines may be longer
		const squeezed = (code: string) => code.replace(/\s|,(?=\s*\))/g, "");
		expect(squeezed(readFileSync(`${ROOT}${example}`, "utf8"))).toContain(squeezed(shown));
	});
});

describe("a door of the package", () => {
	const { exports } = JSON.parse(readFileSync(`${ROOT}package.json`, "utf8")) as { exports: Record<string, string> };
	const doors = Object.keys(exports)
		.filter((path) => exports[path]?.endsWith(".js"))
		.map((path) => path.replace(/^\./, "coco-dma"));
	const library = PAGES.find(([name]) => name === "docs/library.md")?.[1] ?? "";

	it.each(doors)("%s has its row in the library, a page that names it and an example that imports it", (door) => {
		const [row = ""] = library.split("\n").filter((line) => line.startsWith(`| \`${door}\` |`));
		const files = [...row.matchAll(/\]\(([^)]+)\)/g)].map(([, link = ""]) =>
			readFileSync(`${ROOT}docs/${link}`, "utf8"),
		);
		expect(files.length).toBeGreaterThanOrEqual(2);
		const [page = "", ...others] = files;
		expect(page).toMatch(new RegExp(`["\`]${door}["\`]`));
		expect(others.some((text) => text.includes(`from "${door}"`))).toBe(true);
	});
});

describe("a page", () => {
	it.each(PROGRAMS)("%s shows a program that runs to its end", async (_, code) => {
		const run = promisify(execFile)(process.execPath, ["--input-type=module", "-e", code], { cwd: ROOT });
		await expect(run).resolves.toMatchObject({ stderr: "" });
	});
});
