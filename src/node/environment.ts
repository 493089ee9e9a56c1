/** Where a figure was measured. */
import { readFileSync } from "node:fs";
import { arch, cpus, loadavg, platform, totalmem } from "node:os";

export interface Environment {
	readonly version: string;
	readonly node: string;
	readonly v8: string;
	readonly platform: string;
	readonly cpu: string;
	readonly cores: number;
	readonly memoryBytes: number;
	/** Runnable processes over the last minute: figures of a busy machine are worth less. */
	readonly load1: number;
	readonly date: string;
}

/** This package's version. */
export function packageVersion(): string {
	// as in wasm.ts: src/report/ under the tests, build/src/report/ when built
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

/** The environment in a line. */
export function describeEnvironment(env: Environment): string {
	return `coco-dma ${env.version}, Node ${env.node}, ${env.cpu}, ${env.cores} cores, ${env.platform}, load ${env.load1.toFixed(1)}, ${env.date}`;
}
