import { InputError, oneLine } from "../input-error.ts";
import { environment } from "../node/environment.ts";
import { verifyFile } from "../node/input.ts";
import type { VerifyDocument } from "../report/documents.ts";
import { DmaError } from "../status.ts";
import type { VerifyResult } from "../verify/result.ts";
import { loadModule } from "../wasm.ts";
import { checkOutputs, writeJson } from "./outputs.ts";
import { parseOptions, progress, UsageError } from "./usage.ts";

const VERIFY_HELP = `Usage: coco-dma verify FILE... [options]

Replays recordings of real kernel code, plain or gzip, and stops each at the first answer that differs. Formats:
swiotlb-recorded (a running kernel), swiotlb-dynamic (one whose swiotlb grows), swiotlb-ops (the allocator, op by op),
ring (the VMBus ring, op by op) and vmbus (transcripts of the VMBus guest driver: our guest in its place, and our server
opposite a host that behaves); see docs/recordings.md.
Exit code: 0 when all are identical, 1 when one differs or is of a kernel whose rules are not here, 2 when one cannot be
read.

Options:
  --reference        replay on the kernel's list algorithm instead of the engine's bitmaps
  --json FILE|-      write the results as JSON; "-": JSON alone on standard output
  --help
`;

/** Runs `coco-dma verify`. @returns the exit code */
export async function verifyCommand(args: readonly string[]): Promise<number> {
	const { values, positionals: files } = parseOptions(args, {
		reference: { type: "boolean" },
		json: { type: "string" },
		help: { type: "boolean" },
	});
	if (values.help) {
		process.stdout.write(VERIFY_HELP);
		return 0;
	}
	if (files.length === 0) throw new UsageError("expected at least one FILE");
	checkOutputs({ json: values.json }, files);
	const build = values.reference ? "reference" : "engine";
	const results: VerifyResult[] = [];
	const errors: { file: string; error: string }[] = [];
	for (const file of files) {
		progress(file);
		try {
			const result = await verifyFile(file, build);
			results.push(result);
			progress("");
			if (values.json !== "-") process.stdout.write(`${result.summary}\n`);
		} catch (error) {
			if (!(error instanceof InputError || error instanceof RangeError || error instanceof DmaError)) throw error;
			progress("");
			// what the engine refuses names no file
			const message = error instanceof InputError ? error.message : `${file}: ${error.message}`;
			errors.push({ file, error: message });
			process.stderr.write(`coco-dma verify: ${oneLine(message)}\n`);
		}
	}
	const identical = errors.length === 0 && results.every((result) => result.identical);
	if (values.json !== undefined) {
		const engine = await loadModule(build);
		writeJson<VerifyDocument>(values.json, {
			schema: "coco-dma/verify/1",
			command: "verify",
			environment: environment(),
			options: { build },
			engineHash: engine.hash,
			identical,
			results,
			errors,
		});
	}
	return errors.length > 0 ? 2 : identical ? 0 : 1;
}
