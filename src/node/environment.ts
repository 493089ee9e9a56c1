/** This machine and this package. */
import { readFileSync } from "node:fs";
import { arch, cpus, loadavg, platform, totalmem } from "node:os";
import type { Environment } from "../report/environment.ts";

/** This package's version. */
export function packageVersion(): string {
	// as in wasm.ts: src/node/ under the tests, build/src/node/ when built
	const root = new URL(import.meta.url.endsWith(".ts") ? "../../" : "../../../", import.meta.url);
	return (JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as { version: string }).version;
}

export function environment(): Environment {
	return {
		version: packageVersion(),
		node: process.version,
		v8: process.versions.v8,
		platform: `${platform()} ${arch()}`,
		cpu: cpus()[0]?.model ?? "unknown",
		cores: cpus().length,
		memoryBytes: totalmem(),
		load1: loadavg()[0] as number,
		date: new Date().toISOString().slice(0, 10),
	};
}
