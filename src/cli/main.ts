#!/usr/bin/env node
import { TrustError } from "../coco/trust/error.ts";
import { InputError } from "../input-error.ts";
import { packageVersion } from "../node/environment.ts";
import { DmaError } from "../status.ts";
import { auditCommand } from "./audit.ts";
import { benchCommand } from "./bench.ts";
import { compareCommand } from "./compare.ts";
import { explainCommand } from "./explain.ts";
import { policiesCommand } from "./policies.ts";
import { UsageError } from "./usage.ts";
import { verifyCommand } from "./verify.ts";
import { vmbusCommand } from "./vmbus.ts";

const HELP = `Usage: coco-dma COMMAND [arguments]

A DMA engine for confidential-VM work: Linux's swiotlb and DMA-direct rules over one linear memory.

Commands:
  compare TRACE...   bounce against direct DMA on a recorded workload
  audit TRACE        what the host could read of a recorded workload under a DMA policy, to the byte
  policies           DMA policies by devices: what the host could read of each, to the byte, and what it costs
  explain            one mapping of a confidential guest, step by step: who decides what, and who can read the bytes
  verify FILE...     replay recordings of the real kernel and compare every answer
  vmbus decode HEX   VMBus messages and ring packets as a person reads them
  vmbus demo         a VMBus guest, host and paravisor, step by step, and what the host can read
  bench [SUITE...]   benchmarks against the kernel's algorithm, plain TypeScript and bare copies

coco-dma COMMAND --help tells more. --version prints the version.
`;

const COMMANDS = new Map<string, (args: readonly string[]) => Promise<number>>([
	["compare", compareCommand],
	["audit", auditCommand],
	["policies", policiesCommand],
	["explain", explainCommand],
	["verify", verifyCommand],
	["vmbus", vmbusCommand],
	["bench", benchCommand],
]);

/** Failures that are the caller's: one line, no stack trace. */
function isExpected(error: unknown): error is Error {
	return (
		error instanceof UsageError ||
		error instanceof InputError ||
		error instanceof RangeError ||
		error instanceof DmaError ||
		error instanceof TrustError
	);
}

async function main(args: readonly string[]): Promise<number> {
	const [name, ...rest] = args;
	if (name === "--version") {
		process.stdout.write(`${packageVersion()}\n`);
		return 0;
	}
	if (name === undefined || name === "--help" || name === "help") {
		process.stdout.write(HELP);
		return name === undefined ? 2 : 0;
	}
	const command = COMMANDS.get(name);
	if (command === undefined) {
		process.stderr.write(
			`coco-dma: unknown command "${name}": expected ${[...COMMANDS.keys()].join(", ")} (see coco-dma --help)\n`,
		);
		return 2;
	}
	try {
		return await command(rest);
	} catch (error) {
		const text = isExpected(error) ? error.message : `internal error: ${(error as Error).message}`;
		process.stderr.write(`coco-dma ${name}: ${text}\n`);
		return 2;
	}
}

// a reader that has seen enough, such as head, is no failure
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
	if (error.code === "EPIPE") process.exit(0);
	throw error;
});

process.exitCode = await main(process.argv.slice(2));
