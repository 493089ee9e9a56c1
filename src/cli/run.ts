import { TrustError } from "../coco/trust/error.ts";
import { MapRefused } from "../dma/refusal.ts";
import { InputError, oneLine, shown } from "../input-error.ts";
import { packageVersion } from "../node/environment.ts";
import { refusalLine } from "../report/refusal.ts";
import { DmaError } from "../status.ts";
import { UsageError } from "./usage.ts";

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

type Command = (args: readonly string[]) => Promise<number>;

/** Each loads when it is called: help must not wait for all of them. */
const COMMANDS = new Map<string, () => Promise<Command>>([
	["compare", async () => (await import("./compare.ts")).compareCommand],
	["audit", async () => (await import("./audit.ts")).auditCommand],
	["policies", async () => (await import("./policies.ts")).policiesCommand],
	["explain", async () => (await import("./explain.ts")).explainCommand],
	["verify", async () => (await import("./verify.ts")).verifyCommand],
	["vmbus", async () => (await import("./vmbus.ts")).vmbusCommand],
	["bench", async () => (await import("./bench.ts")).benchCommand],
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

/** A refused mapping says why in the kernel's terms. */
function errorText(error: Error): string {
	return error instanceof MapRefused ? `${error.message}: ${refusalLine(error.refusal)}` : error.message;
}

/** Runs a command line without its first two words. @returns the exit code */
export async function run(args: readonly string[]): Promise<number> {
	const [name, ...rest] = args;
	if (name === "--version") {
		process.stdout.write(`${packageVersion()}\n`);
		return 0;
	}
	if (name === "help" && rest.length > 0) return run([...rest, "--help"]);
	if (name === undefined || name === "--help" || name === "-h" || name === "help") {
		process.stdout.write(HELP);
		return name === undefined ? 2 : 0;
	}
	const load = COMMANDS.get(name);
	if (load === undefined) {
		process.stderr.write(
			`coco-dma: unknown command ${shown(name)}: expected ${[...COMMANDS.keys()].join(", ")} (see coco-dma --help)\n`,
		);
		return 2;
	}
	try {
		return await (await load())(rest);
	} catch (error) {
		const text = isExpected(error) ? errorText(error) : `internal error: ${(error as Error).message}`;
		process.stderr.write(`coco-dma ${name}: ${oneLine(text)}\n`);
		return 2;
	}
}
