import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";
import { describe, expect, it } from "vitest";
import { ascArguments, type WasmName } from "../../build.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const HOOK = /^\s*if \(COCO_AUDIT\) .*;\n/gm;
const CONDITION = /if \(COCO_AUDIT === 0 \|\| .*?\)\) /g;
const IMPORT = /^import \{[^}]*\} from "\.\.?\/audit\/hooks\.ts";\n/gm;

/** A source as it would be if nothing had ever been audited. */
function withoutHooks(text: string): string {
	return text.replace(HOOK, "").replace(CONDITION, "").replace(IMPORT, "");
}

/** Compiles a target of build.ts from edited sources. @returns the binary */
async function compile(target: WasmName, edit: (text: string) => string): Promise<Uint8Array> {
	let binary: Uint8Array = new Uint8Array();
	const { error, stderr } = await asc.main(["--baseDir", ROOT, ...ascArguments(target)], {
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
	it.each(["engine", "engine.threads", "rings", "rings.threads"] as const)(
		"leave no byte in the release binary %s: compiled without them it is the same to the byte",
		async (target) => {
			let removed = 0;
			const bare = await compile(target, (text) => {
				const without = withoutHooks(text);
				if (without !== text) removed++;
				expect(without).not.toMatch(/COCO_AUDIT|audit\/hooks/);
				return without;
			});
			expect(removed).toBeGreaterThan(3);
			expect(Buffer.compare(bare, readFileSync(`${ROOT}build/${target}.wasm`))).toBe(0);
		},
		60_000,
	);
});
