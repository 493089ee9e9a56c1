import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Runs `coco-dma bench`: the benchmarks are a program of their own (bench/run.ts). @returns its exit code */
export function benchCommand(args: readonly string[]): Promise<number> {
	const program = fileURLToPath(new URL("../../bench/run.js", import.meta.url));
	return new Promise((resolve, reject) => {
		const child = spawn(process.execPath, [program, ...args], { stdio: "inherit" });
		child.once("error", reject);
		child.once("exit", (code) => resolve(code ?? 1));
	});
}
