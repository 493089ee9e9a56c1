/** Finds out what a recording is and replays it. */
import { InputError } from "../input-error.ts";
import { type Source, textOf } from "../source.ts";
import type { Build } from "../wasm.ts";
import { isDecisions, verifyDecisions } from "./decisions.ts";
import { isDynamic, verifyDynamic } from "./dynamic.ts";
import { isOps, verifyOps } from "./ops.ts";
import { isRecorded, verifyRecorded } from "./recorded.ts";
import { type Replayed, resultOf, type VerifyResult } from "./result.ts";
import { isRing, verifyRing } from "./ring.ts";
import { type TranscriptHost, verifyVmbus } from "./vmbus.ts";
import { isVmbus } from "./vmbus-lines.ts";

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
	readonly matches: (text: string) => boolean;
	/** @param name of the recording */
	readonly verify: (name: string, text: string, options: VerifyOptions) => Promise<Replayed>;
}

/** Every format, in the order in which a recording is tried for them. */
const RECORDING_FORMATS: readonly RecordingFormat[] = [
	{ name: "swiotlb-ops", matches: isOps, verify: (name, text, { build }) => verifyOps(name, text, build) },
	{ name: "swiotlb-dynamic", matches: isDynamic, verify: (name, text, { build }) => verifyDynamic(name, text, build) },
	{
		name: "swiotlb-recorded",
		matches: isRecorded,
		verify: (name, text, { build }) => verifyRecorded(name, text, build),
	},
	{ name: "ring", matches: isRing, verify: (name, text, { build }) => verifyRing(name, text, build) },
	{
		name: "dma-decisions",
		matches: isDecisions,
		verify: (name, text, { build }) => verifyDecisions(name, text, build),
	},
	{ name: "vmbus", matches: isVmbus, verify: (name, text, { build, host }) => verifyVmbus(name, text, build, host) },
];

/**
 * Replays a recording of real code and stops at the first answer that differs.
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
	return resultOf(name, format.name, await format.verify(name, text, options));
}
