import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";
import { describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const HOOK = /^\s*if \(COCO_AUDIT\) .*;\n/gm;
const CONDITION = /if \(COCO_AUDIT === 0 \|\| .*?\)\) /g;
const IMPORT = /^import \{[^}]*\} from "\.\.?\/audit\/hooks\.ts";\n/gm;

/** A source as it would be if nothing had ever been audited. */
function withoutHooks(text: string): string {
	return text.replace(HOOK, "").replace(CONDITION, "").replace(IMPORT, "");
}

/** Compiles a target of asconfig.json. @returns the binary */
async function compile(entry: string, target: string, edit: (text: string) => string): Promise<Uint8Array> {
	let binary: Uint8Array = new Uint8Array();
	const { error, stderr } = await asc.main(["--baseDir", ROOT, entry, "--target", target], {
		readFile(name, base) {
			try {
				const text = readFileSync(resolve(base, name), "utf8");
				return name.endsWith(".ts") && name.includes("assembly/") ? edit(text) : text;
			} catch {
				return null;
			}
		},
		writeFile(name, contents) {
			if (name.endsWith(".wasm") && typeof contents !== "string") binary = contents;
		},
		listFiles: () => null,
	});
	expect(error, stderr.toString()).toBeNull();
	return binary;
}

describe("the hooks of the audit", () => {
	it.each([
		["assembly/index.ts", "engine", "engine"],
		["assembly/index.ts", "threads", "engine.threads"],
		["assembly/rings.ts", "rings", "rings"],
		["assembly/rings.ts", "rings.threads", "rings.threads"],
	])(
		"leave no byte in the release binary of %s, target %s: compiled without them it is %s.wasm to the byte",
		async (entry, target, build) => {
			let removed = 0;
			const bare = await compile(entry, target, (text) => {
				const without = withoutHooks(text);
				if (without !== text) removed++;
				expect(without).not.toMatch(/COCO_AUDIT|audit\/hooks/);
				return without;
			});
			expect(removed).toBeGreaterThan(3);
			expect(Buffer.compare(bare, readFileSync(`${ROOT}build/${build}.wasm`))).toBe(0);
		},
		60_000,
	);
});
