/** Finds out what a recording is and replays it. */
import { findKernel, KERNELS, type KernelPart } from "../coco/rules/kernel.ts";
import { InputError } from "../input-error.ts";
import { type Source, textOf } from "../source.ts";
import type { Build } from "../wasm.ts";
import { isDecisions, verifyDecisions } from "./decisions/decisions.ts";
import { type Replayed, refusal, resultOf, type Unsupported, type VerifyResult } from "./result.ts";
import { isRing, verifyRing } from "./ring.ts";
import { isDynamic, verifyDynamic } from "./swiotlb/dynamic.ts";
import { isOps, verifyOps } from "./swiotlb/ops.ts";
import { isRecorded, verifyRecorded } from "./swiotlb/recorded.ts";
import { isVmbus } from "./vmbus/lines.ts";
import { type TranscriptHost, verifyVmbus } from "./vmbus/vmbus.ts";

export interface VerifyOptions {
	/** What errors and the result call the recording. Default "recording". */
	readonly name?: string;
	/** The build that replays it. "reference": the kernel's list algorithm in place of the engine's bitmaps. Default "engine". */
	readonly build?: Build;
	/** Of a transcript: "special" where its recorder says that the host misbehaves on purpose. Default: its lines tell. */
	readonly host?: TranscriptHost;
}

interface RecordingFormat {
	readonly name: string;
	/** The part of Linux that was recorded. */
	readonly part: KernelPart;
	/** The kernel's release in the first line. */
	readonly release: RegExp;
	readonly matches: (text: string) => boolean;
	/** @param name of the recording */
	readonly verify: (name: string, text: string, options: VerifyOptions) => Promise<Replayed>;
}

/** Where first lines name the kernel: `kernel=6.12.117`, `(linux 6.12 kernel/dma/swiotlb.c, ...)`. */
const AS_KEY = /\bkernel=(\S+)/;
const IN_BRACKETS = /\(linux (\S+)/i;
/** Longest first line that is looked at (characters). */
const HEAD_CHARS = 65536;

/** Every format, in the order in which a recording is tried for them. */
const RECORDING_FORMATS: readonly RecordingFormat[] = [
	{
		name: "swiotlb-ops",
		part: "swiotlb",
		release: IN_BRACKETS,
		matches: isOps,
		verify: (name, text, { build }) => verifyOps(name, text, build),
	},
	{
		name: "swiotlb-dynamic",
		part: "swiotlb",
		release: AS_KEY,
		matches: isDynamic,
		verify: (name, text, { build }) => verifyDynamic(name, text, build),
	},
	{
		name: "swiotlb-recorded",
		part: "swiotlb",
		release: AS_KEY,
		matches: isRecorded,
		verify: (name, text, { build }) => verifyRecorded(name, text, build),
	},
	{
		name: "ring",
		part: "ring",
		release: IN_BRACKETS,
		matches: isRing,
		verify: (name, text, { build }) => verifyRing(name, text, build),
	},
	{
		name: "dma-decisions",
		part: "dma",
		release: AS_KEY,
		matches: isDecisions,
		verify: (name, text, { build }) => verifyDecisions(name, text, build),
	},
	{
		name: "vmbus",
		part: "vmbus-guest",
		release: /^G HELLO \S+ \S+ linux-(\S+)/,
		matches: isVmbus,
		verify: (name, text, { build, host }) => verifyVmbus(name, text, build, host),
	},
];

/** What is missing to replay a text of a format, or null. One that names no kernel is taken for one that is known. */
function lacking({ part, release }: RecordingFormat, text: string): Unsupported | null {
	const [, kernel] = release.exec(text.slice(0, HEAD_CHARS).split("\n", 1)[0] as string) ?? [];
	if (kernel === undefined || findKernel(kernel)?.parts.includes(part)) return null;
	const known = Object.values(KERNELS).filter(({ parts }) => parts.includes(part));
	return { line: 1, kernel, part, known: known.map((one) => one.release) };
}

/**
 * Replays a recording of real code and stops at the first answer that differs. One of a kernel whose rules are not here is not
 * replayed: the result says so.
 * @param source plain or gzip
 * @throws InputError for a recording of no known format, or that breaks its own; RangeError for what is no source
 */
export async function verifyRecording(source: Source, options: VerifyOptions = {}): Promise<VerifyResult> {
	const { name = "recording" } = options;
	const text = await textOf(source, name);
	const format = RECORDING_FORMATS.find(({ matches }) => matches(text));
	if (format === undefined)
		throw new InputError(
			`${name}:1: unknown format: expected a recording, one of ${RECORDING_FORMATS.map((known) => known.name).join(", ")}`,
		);
	const unsupported = lacking(format, text);
	if (unsupported !== null) return refusal(name, format.name, unsupported);
	return resultOf(name, format.name, await format.verify(name, text, options));
}
