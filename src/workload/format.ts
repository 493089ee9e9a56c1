/** What a reader of traces is. */
import type { Input } from "../source.ts";
import type { BuilderOptions } from "./builder.ts";
import type { Workload } from "./workload.ts";

/** A format that traces come in: a file of this room, and its line in TRACE_FORMATS (read.ts). */
export interface TraceFormat {
	/** As options name it. */
	readonly name: string;
	/** What errors say was expected. */
	readonly expected: string;
	/** Whether an input is of this format, by its head alone. */
	matches(input: Input): boolean;
	/** Reads all of an input. @throws RangeError for an iodepth that does not fit it; InputError in one line: the trace, the line and the field where they are known */
	read(input: Input, options: BuilderOptions): Promise<Workload>;
}
