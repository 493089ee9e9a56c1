/**
 * Runs a module of this repository as a browser does: modules and WebAssembly by HTTP, imports by relative addresses alone,
 * and none of Node's globals. `node --experimental-vm-modules test/helpers/browser.mjs CODE` prints what CODE assigns to
 * `globalThis.result`; CODE's imports are relative to the repository's root.
 */
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createContext, SourceTextModule } from "node:vm";

const ROOT = new URL("../../", import.meta.url);

const server = createServer(async ({ url }, response) => {
	try {
		response.end(await readFile(new URL(`.${url}`, ROOT)));
	} catch {
		response.writeHead(404).end();
	}
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${server.address().port}/`;

const context = createContext({ fetch, URL, crypto, TextDecoder, TextEncoder, structuredClone, performance });
const modules = new Map();

function moduleOf(source, url) {
	const module = new SourceTextModule(source, {
		context,
		identifier: url,
		initializeImportMeta: (meta) => {
			meta.url = url;
		},
		importModuleDynamically: async (specifier) => {
			const found = await load(specifier, { identifier: url });
			if (found.status === "unlinked") await found.link(load);
			await found.evaluate();
			return found;
		},
	});
	modules.set(url, module);
	return module;
}

async function load(specifier, { identifier }) {
	if (!/^\.\.?\//.test(specifier)) throw new Error(`${identifier}: no browser resolves the import "${specifier}"`);
	const url = new URL(specifier, identifier).href;
	if (!modules.has(url)) {
		const loading = fetch(url).then(async (response) => {
			if (!response.ok) throw new Error(`${identifier}: ${specifier}: ${response.status}`);
			return moduleOf(await response.text(), url);
		});
		modules.set(url, loading);
	}
	return modules.get(url);
}

try {
	const page = moduleOf(process.argv[2], `${origin}page.js`);
	await page.link(load);
	await page.evaluate();
	console.log(JSON.stringify(context.result));
} catch (error) {
	console.error(error.message);
	process.exitCode = 1;
} finally {
	server.close();
	server.closeAllConnections();
}
