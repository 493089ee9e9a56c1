import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { endWithUs } from "../node/children.ts";

/**
 * Runs `coco-dma bench`: the benchmarks are a program of their own (bench/run.ts), which is not packed. @returns its exit code
 * @throws RangeError that says where they are
 */
export function benchCommand(args: readonly string[]): Promise<number> {
	const program = fileURLToPath(new URL("../../bench/run.js", import.meta.url));
	if (!existsSync(program))
		throw new RangeError('the benchmarks are not in the package: "npm ci && npm run bench" runs them in a clone');
	return new Promise((resolve, reject) => {
		const child = spawn(process.execPath, [program, ...args], { stdio: "inherit" });
		endWithUs(child);
		child.once("error", reject);
		child.once("exit", (code) => resolve(code ?? 1));
	});
}
