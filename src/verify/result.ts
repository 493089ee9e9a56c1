import type { KernelPart } from "../coco/rules/kernel.ts";
import { oneLine } from "../input-error.ts";
import { DmaError } from "../status.ts";

/** What verifying one recording found. */
export interface VerifyResult {
	/** The recording's name: a file's path, where it was read from one. */
	readonly recording: string;
	/** The name of a format of RECORDING_FORMATS. */
	readonly format: string;
	readonly identical: boolean;
	/** The line that people read, the recording first. */
	readonly summary: string;
	/** How many answers of each kind were compared and found identical. */
	readonly compared: Readonly<Record<string, number>>;
	/** The first answer that differed. */
	readonly divergence?: Divergence;
	/** Why nothing was replayed. */
	readonly unsupported?: Unsupported;
}

/** A recording of a kernel whose rules are not here. */
export interface Unsupported {
	/** Where the recording names its kernel. */
	readonly line: number;
	/** The kernel's release as the recording has it. */
	readonly kernel: string;
	readonly part: KernelPart;
	/** Releases whose rules of this part are here. */
	readonly known: readonly string[];
}

/** The first answer that differs from the recording. */
export interface Divergence {
	readonly line: number;
	readonly what: string;
	readonly expected: string;
	readonly got: string;
}

/** Thrown inside a replay at the first difference. */
export class Diverged extends Error {
	readonly divergence: Divergence;
	constructor(line: number, what: string, expected: string, got: string) {
		super(`${what} at line ${line}`);
		this.divergence = { line, what, expected, got };
	}
}

/** Throws at the first difference. */
export function same(line: number, what: string, expected: string | number, got: string | number): void {
	if (expected !== got) throw new Diverged(line, what, String(expected), String(got));
}

/** What replaying a recording came to: what was found identical, in words, or the first answer that differed. */
export interface Replayed {
	readonly compared: VerifyResult["compared"];
	readonly outcome:
		| { readonly identical: true; readonly said: string }
		| {
				readonly identical: false;
				readonly divergence: Divergence;
				/** What is to be said beside the first difference, where the replay went on. */
				readonly said?: string;
		  };
}

/** The outcome of a replay that stopped with an error: a difference, or a call that the engine refused. Others are thrown on. */
export function divergedAt(line: number, error: unknown): Replayed["outcome"] {
	if (error instanceof DmaError) return divergedAt(line, new Diverged(line, "call", "success", error.message));
	if (!(error instanceof Diverged)) throw error;
	return { identical: false, divergence: error.divergence };
}

/** A file's name without folders and known endings. */
function stem(path: string): string {
	return path
		.replace(/^.*[\\/]/, "")
		.replace(/\.gz$/, "")
		.replace(/\.txt$/, "");
}

/** Longest side of a difference, and the longest name, that a summary tells: the divergence has all of it (characters). */
const SIDE_CHARACTERS = 300;
const cut = (text: string) => (text.length > SIDE_CHARACTERS ? `${text.slice(0, SIDE_CHARACTERS)}...` : text);

/** A summary of what is wrong at a line. */
function told(recording: string, line: number, what: string, text: string): string {
	return oneLine(`${cut(stem(recording))}: line ${line}: ${what}: ${text}`);
}

/** The result of a recording of that name and format. */
export function resultOf(recording: string, format: string, { compared, outcome }: Replayed): VerifyResult {
	const common = { recording, format, compared, identical: outcome.identical };
	if (outcome.identical) return { ...common, summary: `${stem(recording)}: ${outcome.said}` };
	const { line, what, expected, got } = outcome.divergence;
	const more = outcome.said === undefined ? "" : ` (${outcome.said})`;
	const summary = told(recording, line, what, `expected ${cut(expected)}, got ${cut(got)}${more}`);
	return { ...common, summary, divergence: outcome.divergence };
}

/** The result of a recording that cannot be replayed. */
export function refusal(recording: string, format: string, unsupported: Unsupported): VerifyResult {
	const { line, kernel, part, known } = unsupported;
	const expected = `a kernel whose ${part} rules are here (${known.join(", ")})`;
	const summary = told(recording, line, "kernel", `expected ${expected}, found ${cut(kernel)}`);
	return { recording, format, compared: {}, identical: false, summary, unsupported };
}
