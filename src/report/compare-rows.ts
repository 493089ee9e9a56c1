/** The comparison as rows of figures: what the text table and the HTML report both show. */
import { formatBytes } from "../bytes.ts";
import type { ModeResult } from "../study/compare.ts";
import { formatNumber } from "./table.ts";

export interface Row {
	readonly label: string;
	readonly cells: readonly string[];
	/** bounce minus direct, and their ratio, where both modes ran and the row is a cost. */
	readonly difference?: string;
	readonly ratio?: string;
	/** Starts a group of rows. */
	readonly group?: string;
}

type Figure = (result: ModeResult) => number | undefined;

/** The results of one trace. */
export class TraceReport {
	readonly file: string;
	readonly results: readonly ModeResult[];

	constructor(results: readonly ModeResult[]) {
		this.results = results;
		this.file = results[0]?.workload ?? "";
	}

	#row(label: string, figure: Figure, format: (value: number) => string = formatNumber, cost = false): Row {
		const values = this.results.map(figure);
		const cells = values.map((value) => (value === undefined ? "-" : format(value)));
		const direct = values[this.results.findIndex(({ mode }) => mode === "direct")];
		const bounce = values[this.results.findIndex(({ mode }) => mode === "bounce")];
		if (!cost || direct === undefined || bounce === undefined) return { label, cells };
		const more = bounce - direct;
		return {
			label,
			cells,
			difference: `${more < 0 ? "-" : "+"}${format(Math.abs(more))}`,
			...(direct > 0 ? { ratio: `${formatNumber(bounce / direct)}x` } : {}),
		};
	}

	rows(): Row[] {
		const bytes = (value: number) => formatBytes(value);
		const failures = this.results.map(({ failures }) => {
			const list = Object.entries(failures).map(([name, count]) => `${formatNumber(count)} ${name}`);
			return list.length === 0 ? "none" : list.join(", ");
		});
		return [
			{ ...this.#row("requests", (r) => r.requests), group: "What was done" },
			this.#row("commands to the device", (r) => r.commands),
			this.#row("mappings", (r) => r.directMaps + r.bouncedMaps),
			this.#row("  of them bounced", (r) => r.bouncedMaps),
			this.#row("data", (r) => r.bytes, bytes),
			this.#row("copied into slots", (r) => r.bytesCopiedIn, bytes),
			this.#row("copied back", (r) => r.bytesCopiedBack, bytes),
			{
				...this.#row("DMA layer, ns per request", (r) => r.dmaNsPerRequest, formatNumber, true),
				group: "What it cost",
			},
			this.#row("DMA layer, ns per KiB", (r) => r.dmaNsPerKiB, formatNumber, true),
			this.#row("device's moves, ns per request", (r) => r.deviceNs / r.requests, formatNumber, true),
			this.#row("both together, ns per request", (r) => r.totalNs / r.requests, formatNumber, true),
			this.#row("both together, GB/s", (r) => r.gigabytesPerSecond, formatNumber, true),
			{ ...this.#row("p50, ns", (r) => r.latency.p50Ns, formatNumber, true), group: "DMA layer by request" },
			this.#row("p99, ns", (r) => r.latency.p99Ns, formatNumber, true),
			this.#row("p99.9, ns", (r) => r.latency.p999Ns, formatNumber, true),
			this.#row("max, ns", (r) => r.latency.maxNs, formatNumber, true),
			{ ...this.#row("pool", (r) => r.pool?.bytes, bytes), group: "Pool and host" },
			this.#row("pool slots", (r) => r.pool?.slabs),
			this.#row("pool areas", (r) => r.pool?.areas),
			this.#row("high-water mark, slots", (r) => r.pool?.hiwaterSlots),
			{ label: "refused commands", cells: failures },
			this.#row("pages the host can read", (r) => r.hostReadablePages),
			this.#row("bytes the host can read", (r) => r.hostReadableBytes, bytes),
		];
	}

	/** What the reader of the trace saw, in a line. */
	traceLine(): string {
		const t = (this.results[0] as ModeResult).trace;
		const parts = [
			`${formatNumber(t.issues)} issued`,
			`${formatNumber(t.dataRequests)} move data`,
			`${formatNumber(t.issuesWithoutData)} without data`,
			`${formatNumber(t.zeroLengthCompletions)} zero-length completions`,
			`${formatNumber(t.unmatchedCompletions)} completions without issue`,
			`${formatNumber(t.reissues)} issued again while live`,
			`${formatNumber(t.drained)} live at the end`,
			`${formatNumber(t.malformedLines)} malformed lines`,
		];
		return parts.join(", ");
	}
}

/** One report a trace, in order. */
export function byTrace(results: readonly ModeResult[]): TraceReport[] {
	const files = [...new Set(results.map(({ workload }) => workload))];
	return files.map((file) => new TraceReport(results.filter(({ workload }) => workload === file)));
}
