/** Policies of the user's own, from a file of TypeScript or JavaScript. */
import { InputError, shown, thrown } from "../input-error.ts";
import { modify, parsePolicy } from "../policy/parse.ts";
import { type PolicySetup, setupOf } from "../policy/setup.ts";
import { policyFrom } from "../policy/validate.ts";

/**
 * Reads a policy: a preset's name, or the path of a file whose default export is a Policy; either with modifiers, such as
 * `./mine.ts+force`. The file may import from "coco-dma/policy". It is run: load only what you would run.
 * @throws RangeError as parsePolicy; InputError in one line that names the file, and the line or the field
 */
export async function loadPolicy(text: string): Promise<PolicySetup> {
	const [, path, modifiers = ""] = /^(.*\.(?:ts|js|mjs))((?:\+[^+]*)*)$/s.exec(text) ?? [];
	if (path === undefined) return parsePolicy(text);
	const policy = policyFrom(await defaultExport(path), path);
	return modify(setupOf(policy), modifiers === "" ? [] : modifiers.slice(1).split("+"));
}

async function defaultExport(path: string): Promise<unknown> {
	const { stat } = await import("node:fs/promises");
	const { resolve } = await import("node:path");
	const file = await stat(path).catch(() => null);
	if (file === null || !file.isFile())
		throw new InputError(`${path}: ${file === null ? "no such file" : "is no file"}`);
	const { createJiti } = await import("jiti");
	const jiti = createJiti(import.meta.url, {
		virtualModules: await ownModules(),
		fsCache: false,
		moduleCache: false,
		interopDefault: false,
	});
	const resolved = resolve(path);
	let module: unknown;
	try {
		module = await jiti.import(resolved);
	} catch (error) {
		throw new InputError(loadingText(path, resolved, error));
	}
	const exported = (module as { default?: unknown } | null)?.default;
	if (exported === undefined)
		throw new InputError(`${path}: expected a policy as the default export, found ${shown(exported)}`);
	return exported;
}

/** Doors as the file imports them: of this very package, so that a KernelCrash of the file's is one of ours. */
async function ownModules(): Promise<Record<string, Record<string, unknown>>> {
	const policy = await import("../doors/policy.ts");
	const engine = { ...(await import("../doors/engine.ts")) };
	for (const name of Object.keys(policy)) {
		const get = () => {
			throw new InputError(`expected "coco-dma/policy" as the module of ${name}, found "coco-dma"`);
		};
		Object.defineProperty(engine, name, { get });
	}
	return { "coco-dma/policy": policy, "coco-dma": engine };
}

/** Why a file did not load, in one line; for a syntax error with the line where it is. */
function loadingText(path: string, resolved: string, error: unknown): string {
	const message = error instanceof Error ? String(error.message) : "";
	const syntax = /^ParseError: ([^\n]*?)\s*\n\s*(.*?):(\d+):\d+/.exec(message);
	// what the file imports may be what has the error
	if (syntax !== null) return `${syntax[2] === resolved ? path : syntax[2]}:${syntax[3]}: ${syntax[1]}`;
	return `${path}: running it threw ${thrown(error)}`;
}
