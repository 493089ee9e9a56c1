import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const { exports } = JSON.parse(readFileSync(`${ROOT}package.json`, "utf8")) as { exports: Record<string, string> };

/** Runs code as a page of a browser would, from what is built. @returns what it assigned to `result`, or the error */
function inBrowser(code: string): unknown {
	const args = ["--no-warnings", "--experimental-vm-modules", `${ROOT}test/helpers/browser.mjs`, code];
	const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
	return stderr === "" ? JSON.parse(stdout) : stderr.trimEnd();
}

describe("the engine in a browser", () => {
	it("loads with its WebAssembly and runs, with no import map, no bundler and nothing of Node", () => {
		const code = `
			import { Direction, Engine } from "${exports["."]}";
			const engine = await Engine.create({ ram: "16M", swiotlb: "1024" });
			const device = engine.addDevice();
			engine.ram.write(0x1000, new Uint8Array([1, 2, 3]));
			const dma = device.map(0x1000, 3, Direction.ToDevice);
			globalThis.result = { process: typeof process, bytes: Array.from(engine.ram.read(dma, 3)), used: engine.pools[0].used };`;
		expect(inBrowser(code)).toEqual({ process: "undefined", bytes: [1, 2, 3], used: 1 });
	});

	it("says which file a server does not have", () => {
		const code = `
			import { Engine } from "${exports["."]}";
			const { fetch } = globalThis;
			globalThis.fetch = (url) => fetch(url + ".gone");
			globalThis.result = await Engine.create({ ram: "1M", swiotlb: null }).catch(({ message }) => message);`;
		expect(inBrowser(code)).toMatch(/^http:.*\/build\/(engine|rings)\.wasm: 404 Not Found$/);
	});

	it("would be refused a module of Node's", () => {
		expect(inBrowser(`import "node:fs"`)).toMatch(/no browser resolves the import "node:fs"$/);
	});
});
