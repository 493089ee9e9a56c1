import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KernelCrash } from "../../src/coco/rules/policy.ts";
import { InputError } from "../../src/input-error.ts";
import { loadPolicy } from "../../src/node/policy-file.ts";
import { parsePolicy } from "../../src/policy/parse.ts";
import { PRESETS } from "../../src/policy/presets.ts";
import { scenarioNamed } from "../../src/policy/scenarios.ts";
import type { PolicySetup } from "../../src/policy/setup.ts";
import { policyFrom } from "../../src/policy/validate.ts";
import { makeStage } from "../../src/study/stage.ts";
import { Direction } from "../../src/types.ts";
import { temporaryFolder } from "../helpers/cli.ts";
import { printSeed, SEED } from "../helpers/random.ts";

printSeed("policy-load");

const FOLDER = temporaryFolder();
const GOOD = { name: "mine", title: "a test's", source: "a test", kernel: "linux-7.3", acceptance: "any" };

/** Writes a file and loads it. */
function load(name: string, text: string, modifiers = ""): Promise<PolicySetup> {
	const path = join(FOLDER, name);
	writeFileSync(path, text);
	return loadPolicy(path + modifiers);
}

async function messageOf(promise: Promise<unknown>): Promise<string> {
	try {
		await promise;
	} catch (error) {
		if (!(error instanceof InputError) && !(error instanceof RangeError)) throw error;
		expect(error.message).not.toContain("\n");
		return error.message.replace(FOLDER, "");
	}
	throw new Error("not refused");
}

describe("a policy's name", () => {
	it("is a preset's, with modifiers joined by +", () => {
		for (const preset of PRESETS) expect(parsePolicy(preset.name)).toMatchObject({ name: preset.name, policy: preset });
		const setup = parsePolicy("cc-accepted+force+mask-32+non-coherent");
		expect(setup.name).toBe("cc-accepted+force+mask-32+non-coherent");
		expect(setup.guest).toEqual({ force: true });
		expect(setup.device).toEqual({ dmaMask: 0xffffffffn, coherent: false });
	});

	it.each([
		["", /^policy: expected one of force-bounce, .*bus-pool, or a path that ends in \.ts, \.js or \.mjs, not ""$/],
		["rfc-v4", /not "rfc-v4"$/],
		["force", /not "force"$/],
		["rfc-v3+", /^policy: expected modifiers out of force, .*zero-on-free, not ""$/],
		["rfc-v3+mask-33", /not "mask-33"$/],
		["rfc-v3+toString", /not "toString"$/],
		["rfc-v3+force+force", /^policy: force is given twice$/],
		["rfc-v3+pool-wins+request-wins", /^policy: pool-wins and request-wins exclude each other$/],
		["rfc-v3+no-fallback+fallback", /^policy: no-fallback and fallback exclude each other$/],
	])("is refused in one line: %j", async (text, message) => {
		expect(await messageOf(loadPolicy(text))).toMatch(message);
		expect(() => parsePolicy(text)).toThrow(RangeError);
	});
});

describe("a policy's file", () => {
	it("may be the example, of less than 20 lines, with modifiers", async () => {
		const path = new URL("../../examples/my-policy.ts", import.meta.url).pathname;
		expect(readFileSync(path, "utf8").split("\n").length).toBeLessThan(21);
		const setup = await loadPolicy(`${path}+force+strict`);
		expect(setup.name).toBe("never-copy+force+strict");
		const stage = await makeStage(setup, scenarioNamed("tdisp-nvme"));
		if (stage.refused !== null) throw new Error(JSON.stringify(stage.refused));
		const { guest, device } = stage;
		device.map(guest.pages.alloc(1), 4096, Direction.ToDevice);
		expect(device.dma.counters).toMatchObject({ directMaps: 1, bouncedMaps: 0 });
	});

	it("may import this package, whose KernelCrash is then this one, in TypeScript and in JavaScript", async () => {
		const body = `import { acceptedIn, KernelCrash } from "coco-dma/policy";
export default { ...${JSON.stringify(GOOD)}, pool: acceptedIn("private"), pools: [{ kind: "private", size: "1M" }],
	predicates: { forAlloc: () => { throw new KernelCrash("here", "why"); } } }`;
		for (const [name, text] of [
			["crash.ts", `${body} satisfies import("coco-dma/policy").Policy;`],
			["crash.mjs", body],
			["crash.js", body],
		] as const) {
			const stage = await makeStage(await load(name, text), scenarioNamed("tdisp-nvme"));
			expect(() => stage.device?.allocCoherent(4096), name).toThrow(KernelCrash);
			expect(stage.guest?.pools.map(({ kind }) => kind)).toEqual(["default", "private"]);
		}
	});

	it("is told where a name is that it looks for at another door of this package", async () => {
		const text = 'import { parseBytes, KernelCrash } from "coco-dma";\nexport default KernelCrash ?? parseBytes;';
		expect(await messageOf(load("door.ts", text))).toBe(
			'/door.ts: running it threw expected "coco-dma/policy" as the module of KernelCrash, found "coco-dma"',
		);
	});

	it("may import its neighbours, lie in a folder with a +, and is read anew each time", async () => {
		const folder = join(FOLDER, "a+b.ts+c");
		mkdirSync(folder);
		writeFileSync(join(folder, "base.ts"), `export const base = ${JSON.stringify(GOOD)} as const;`);
		const path = join(folder, "mine.ts");
		for (const name of ["one", "two"]) {
			writeFileSync(path, `import { base } from "./base.ts"; export default { ...base, name: "${name}" };`);
			expect((await loadPolicy(`${path}+force`)).name).toBe(`${name}+force`);
		}
	});

	it.each([
		['export default { name: "x"\n\n  kernel: 1 };', /^\/bad\.ts:3: Unexpected token/],
		["const x: = 1;", /^\/bad\.ts:1: /],
		["throw new Error('boom\\nagain');", /^\/bad\.ts: running it threw boom$/],
		["throw null;", /^\/bad\.ts: running it threw null$/],
		[
			"import x from './nowhere.ts'; export default x;",
			/^\/bad\.ts: running it threw Cannot find module '.\/nowhere.ts'$/,
		],
		["export const policy = {};", /^\/bad\.ts: expected a policy as the default export, found undefined$/],
		["", /^\/bad\.ts: expected a policy as the default export, found undefined$/],
		["export default null;", /^\/bad\.ts: expected a record, found null$/],
		["export default 'rfc-v3';", /^\/bad\.ts: expected a record, found "rfc-v3"$/],
		["export default () => ({});", /^\/bad\.ts: expected a record, found a function$/],
		["export default [];", /^\/bad\.ts: expected a record, found an array$/],
		[
			"export default new Proxy({}, { ownKeys() { throw new Error('no\\nkeys'); } });",
			/^\/bad\.ts: reading the policy threw no$/,
		],
	])("is refused in one line: %j", async (text, message) => {
		expect(await messageOf(load("bad.ts", text))).toMatch(message);
	});

	it("is told apart from what it imports when that has the error", async () => {
		writeFileSync(join(FOLDER, "broken.ts"), "export const x = ;");
		expect(await messageOf(load("fine.ts", "import { x } from './broken.ts'; export default x;"))).toMatch(
			/^\/broken\.ts:1: /,
		);
	});

	it("is refused when there is none", async () => {
		expect(await messageOf(loadPolicy(join(FOLDER, "none.ts")))).toBe("/none.ts: no such file");
		mkdirSync(join(FOLDER, "folder.ts"));
		expect(await messageOf(loadPolicy(join(FOLDER, "folder.ts")))).toBe("/folder.ts: is no file");
		expect(await messageOf(load("good.ts", `export default ${JSON.stringify(GOOD)}`, "+nothing"))).toContain(
			'not "nothing"',
		);
	});

	it("works from the built package as well", async () => {
		const path = join(FOLDER, "built.ts");
		writeFileSync(
			path,
			`import { KernelCrash, type Policy } from "coco-dma/policy";
export default { ...${JSON.stringify(GOOD)}, predicates: { active: () => { throw new KernelCrash("there", "why"); } } } as Policy;`,
		);
		const door = (name: string) => JSON.stringify(new URL(`../../build/src/doors/${name}.js`, import.meta.url).href);
		const script = `const { Direction } = await import(${door("engine")});
const { KernelCrash, scenarioNamed } = await import(${door("policy")});
const { makeStage } = await import(${door("study")});
const { loadPolicy } = await import(${door("node")});
const { guest, device } = await makeStage(await loadPolicy(${JSON.stringify(path)}), scenarioNamed("legacy-virtio"));
try { device.tryMap(guest.pages.alloc(1), 4096, Direction.ToDevice); } catch (error) { console.log(error instanceof KernelCrash, error.where); }`;
		expect(execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" })).toBe(
			"true there\n",
		);
	});
});

describe("a policy's record", () => {
	it.each([
		[{ name: undefined }, "f.ts: expected the field name, found none"],
		[{ kernel: undefined }, "f.ts: expected the field kernel, found none"],
		[{ acceptance: undefined }, "f.ts: expected the field acceptance, found none"],
		[{ name: "My Policy" }, 'f.ts: name: expected lower-case words joined by "-", found "My Policy"'],
		[{ name: "a+b" }, 'f.ts: name: expected lower-case words joined by "-", found "a+b"'],
		[{ title: "two\nlines" }, 'f.ts: title: expected a line of text of up to 500 characters, found "two\\nlines"'],
		[{ kernel: "linux-5.4" }, 'f.ts: kernel: expected "linux-6.12", "linux-7.3", found "linux-5.4"'],
		[{ kernel: "toString" }, 'f.ts: kernel: expected "linux-6.12", "linux-7.3", found "toString"'],
		[{ acceptance: true }, 'f.ts: acceptance: expected "none", "offer", "tdisp", "any", "driver", found true'],
		[{ predicates: [] }, "f.ts: predicates: expected a record, found an array"],
		[
			{ predicates: { isForced: () => true } },
			'f.ts: predicates: expected the fields forceBounce, forceDmaUnencrypted, active, forAlloc, usePool, found "isForced"',
		],
		[
			{ predicates: { active: true } },
			"f.ts: predicates: active: expected a function that answers true or false, found true",
		],
		[{ pool: null }, "f.ts: pool: expected a function that answers one of its pools, or null, found null"],
		[{ pools: {} }, "f.ts: pools: expected an array of up to 16 entries, found an object"],
		[{ pools: [{ kind: "private" }] }, "f.ts: pools[0]: expected the field size, found none"],
		[
			{ pools: [{ kind: "default", size: 1 }] },
			'f.ts: pools[0]: kind: expected "private", "restricted", "bus", found "default"',
		],
		[{ pools: [{ kind: "bus", size: "much" }] }, /^f\.ts: pools\[0\]: size: .*much/],
		[{ mechanism: { all: "bounce" } }, 'f.ts: mechanism: expected the fields accepted, others, found "all"'],
		[
			{ mechanism: { others: "drop" } },
			'f.ts: mechanism: others: expected "bounce", "refuse", "share-in-place", found "drop"',
		],
		[{ preSharedPercent: 101 }, "f.ts: preSharedPercent: expected a whole number from 0 to 100, found 101"],
		[{ preSharedPercent: Number.NaN }, "f.ts: preSharedPercent: expected a whole number from 0 to 100, found NaN"],
		[{ transitions: "never" }, 'f.ts: transitions: expected "checked", "anytime", "before-driver", found "never"'],
		[{ checksPoolState: "no" }, 'f.ts: checksPoolState: expected true or false, found "no"'],
		[{ messages: ["a", 1] }, "f.ts: messages[1]: expected a line of text of up to 500 characters, found 1"],
		[{ colour: "red" }, /^f\.ts: expected the fields name, title, .*, found "colour"$/],
	])("is refused where a field is wrong: %j", (fields, message) => {
		const read = () => policyFrom({ ...GOOD, ...fields }, "f.ts");
		expect(read).toThrow(InputError);
		expect(read).toThrow(message);
	});

	it("is copied, so that a file's later changes change nothing", () => {
		const mine = { ...GOOD, mechanism: { accepted: "refuse" } };
		const policy = policyFrom(mine, "f.ts");
		mine.mechanism.accepted = "bounce";
		expect(policy.mechanism?.accepted).toBe("refuse");
		for (const preset of PRESETS) expect(policyFrom(preset, "f.ts")).toEqual(preset);
	});

	it("whatever it is, is taken or refused in one line", () => {
		fc.assert(
			fc.property(
				fc.oneof(
					fc.anything(),
					fc.record(
						{
							name: fc.anything(),
							title: fc.constant("t"),
							source: fc.constant("s"),
							kernel: fc.constantFrom("linux-6.12", "linux", null),
							acceptance: fc.constantFrom("any", 1),
							predicates: fc.anything(),
							pools: fc.anything(),
							mechanism: fc.anything(),
						},
						{ requiredKeys: [] },
					),
				),
				(value) => {
					try {
						policyFrom(value, "f.ts");
					} catch (error) {
						expect(error).toBeInstanceOf(InputError);
						expect((error as Error).message).toMatch(/^f\.ts: [^\n]+$/);
					}
				},
			),
			{ seed: SEED, numRuns: 2000 },
		);
	});
});
