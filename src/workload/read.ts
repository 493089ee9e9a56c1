/** The formats that traces come in, and reading one of them. */
import { InputError } from "../input-error.ts";
import { Input, type Source } from "../source.ts";
import type { BuilderOptions } from "./builder.ts";
import type { TraceFormat } from "./format.ts";
import { BLOCK_FTRACE } from "./ftrace.ts";
import type { Workload } from "./workload.ts";

/** Every format, in the order in which an input is tried for them. */
const TRACE_FORMATS: readonly TraceFormat[] = [BLOCK_FTRACE];

export interface ReadTraceOptions extends BuilderOptions {
	/** What errors and results call the trace. Default "trace". */
	readonly name?: string;
	/** A format's name. Default: found by the trace's beginning. */
	readonly format?: string;
}

/**
 * Reads a trace as it comes: plain or gzip.
 * @throws InputError for a trace of no known format, one without a request, one without completions and no iodepth, or one with
 * more than 1 % malformed lines; RangeError for a format that is not known, an iodepth that does not fit, or what is no source
 */
export async function readTrace(
	source: Source,
	{ name = "trace", format, ...options }: ReadTraceOptions = {},
): Promise<Workload> {
	const asked = TRACE_FORMATS.find((known) => known.name === format);
	if (format !== undefined && asked === undefined)
		throw new RangeError(`format: expected ${TRACE_FORMATS.map((known) => known.name).join(", ")}, not "${format}"`);
	const input = await Input.open(source, name);
	const found = asked ?? TRACE_FORMATS.find((known) => known.matches(input));
	if (found === undefined) {
		await input.close();
		throw new InputError(
			`${name}:1: unknown format: expected ${TRACE_FORMATS.map(({ expected }) => expected).join(", or ")}`,
		);
	}
	return found.read(input, options);
}

/** A workload, or a trace of one. */
export type WorkloadSource = Workload | Source;

/** The workload, read if it is a trace. @throws as readTrace */
export async function workloadOf(source: WorkloadSource): Promise<Workload> {
	return typeof source === "object" && "requests" in source ? source : readTrace(source);
}
