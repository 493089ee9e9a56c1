import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { createMemory, Instance, loadModule } from "../../src/wasm.ts";

function source(path: string): string {
	return readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
}

/** Function types of an interface of src/wasm.ts: name and number of parameters. */
function declared(name: string): Map<string, number> {
	const body = new RegExp(`interface ${name} \\{\\n(.*?)\\n\\}`, "s").exec(source("src/wasm.ts"))?.[1] as string;
	const members = body.replace(/\/\*\*.*?\*\//gs, "").matchAll(/^\t(\w+)\??\(([^)]*)\): \w+;/gms);
	return new Map(Array.from(members, ([, key, list]) => [key as string, (list as string).split(":").length - 1]));
}

describe("the ABI", () => {
	it.each(["assembly/index.ts", "assembly/rings.ts", "assembly/audit/index.ts"])(
		"is a list of exports and nothing else in %s",
		(path) => {
			const rest = source(path)
				.replace(/\/\*\*.*?\*\//gs, "")
				.replace(/^export \{[^}]*\} from "\.\/[\w/-]+";$/gm, "");
			expect(rest.trim()).toBe("");
		},
	);

	it("is typed as it is compiled: src/wasm.ts names each export of engine, rings and audit, with its parameters", async () => {
		const { exports } = await Instance.create(await loadModule("engine.audit"), createMemory(65536, false));
		const compiled = Object.entries(exports).map(([name, value]) => [name, (value as () => number).length]);
		const typed = new Map([...declared("EngineExports"), ...declared("RingsSetUp")]);
		expect(typed.size).toBeGreaterThan(70);
		expect(new Map(compiled as [string, number][])).toEqual(typed);
	});
});
