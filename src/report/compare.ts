/** Modes compared on workloads: bounce against direct. */
import type { Comparison, ModeResult } from "../study/compare.ts";
import {
	type Block,
	type Curves,
	figure,
	MISSING,
	paragraph,
	type Report,
	type Row,
	report,
	row,
	type Section,
	table,
	type Value,
	type Words,
} from "./model.ts";
import {
	COUNT,
	formatNumber,
	GB_PER_S,
	NS,
	NS_PER_KIB,
	NS_PER_REQUEST,
	SIZE,
	SLOTS,
	TIMES,
	type Unit,
} from "./units.ts";

type Count = (result: ModeResult) => number | undefined;

/** The rows of one workload's figures. */
class Rows {
	readonly #results: readonly ModeResult[];

	constructor(results: readonly ModeResult[]) {
		this.#results = results;
	}

	/** Counts a mode; nothing is compared. */
	counts(label: string, unit: Unit, count: Count, depth: Row["depth"] = 0): Row {
		return row(label, [...this.#values(unit, count), ...this.#comparison(null, null)], { unit, depth });
	}

	/** Costs a mode, with the difference and the ratio of bounce to direct. */
	costs(label: string, unit: Unit, count: Count): Row {
		const [direct, bounce] = (["direct", "bounce"] as const).map((name) => {
			const result = this.#results.find(({ mode }) => mode === name);
			return result === undefined ? undefined : count(result);
		});
		const both = direct !== undefined && bounce !== undefined;
		const compared = this.#comparison(
			both ? figure(bounce - direct, unit, true) : null,
			both && direct > 0 ? figure(bounce / direct, TIMES) : null,
		);
		return row(label, [...this.#values(unit, count), ...compared], { unit });
	}

	/** How often what was refused. */
	failures(label: string): Row {
		const values = this.#results.map(({ failures }): Value => ({ value: "counts", counts: failures }));
		return row(label, [...values, ...this.#comparison(null, null)]);
	}

	#values(unit: Unit, count: Count): Value[] {
		return this.#results.map((result) => {
			const number = count(result);
			return number === undefined ? MISSING : figure(number, unit);
		});
	}

	#comparison(difference: Value | null, ratio: Value | null): (Value | null)[] {
		return this.#results.length > 1 ? [difference, ratio] : [];
	}
}

function figures(results: readonly ModeResult[]): Block {
	const rows = new Rows(results);
	const groups = [
		{
			title: "What was done",
			rows: [
				rows.counts("requests", COUNT, (r) => r.requests),
				rows.counts("commands to the device", COUNT, (r) => r.commands),
				rows.counts("mappings", COUNT, (r) => r.directMaps + r.bouncedMaps),
				rows.counts("of them bounced", COUNT, (r) => r.bouncedMaps, 1),
				rows.counts("data", SIZE, (r) => r.bytes),
				rows.counts("copied into slots", SIZE, (r) => r.bytesCopiedIn),
				rows.counts("copied back", SIZE, (r) => r.bytesCopiedBack),
			],
		},
		{
			title: "What it cost",
			rows: [
				rows.costs("DMA layer", NS_PER_REQUEST, (r) => r.dmaNsPerRequest),
				rows.costs("DMA layer", NS_PER_KIB, (r) => r.dmaNsPerKiB),
				rows.costs("device's moves", NS_PER_REQUEST, (r) => r.deviceNs / r.requests),
				rows.costs("both together", NS_PER_REQUEST, (r) => r.totalNs / r.requests),
				rows.costs("both together", GB_PER_S, (r) => r.gigabytesPerSecond),
			],
		},
		{
			title: "DMA layer by request",
			rows: [
				rows.costs("p50", NS, (r) => r.latency.p50Ns),
				rows.costs("p99", NS, (r) => r.latency.p99Ns),
				rows.costs("p99.9", NS, (r) => r.latency.p999Ns),
				rows.costs("max", NS, (r) => r.latency.maxNs),
			],
		},
		{
			title: "Pool and host",
			rows: [
				rows.counts("pool", SIZE, (r) => r.pool?.bytes),
				rows.counts("pool slots", COUNT, (r) => r.pool?.slabs),
				rows.counts("pool areas", COUNT, (r) => r.pool?.areas),
				rows.counts("high-water mark", SLOTS, (r) => r.pool?.hiwaterSlots),
				rows.failures("refused commands"),
				rows.counts("pages the host can read", COUNT, (r) => r.hostReadablePages),
				rows.counts("bytes the host can read", SIZE, (r) => r.hostReadableBytes),
			],
		},
	];
	const columns = [
		...results.map(({ mode }) => mode),
		...(results.length > 1 ? ["bounce - direct", "bounce / direct"] : []),
	];
	return table("figures", groups, { columns });
}

/** What the reader of the trace saw. */
function traceLine({ trace }: ModeResult): string {
	return [
		`${formatNumber(trace.issues)} issued`,
		`${formatNumber(trace.dataRequests)} move data`,
		`${formatNumber(trace.issuesWithoutData)} without data`,
		`${formatNumber(trace.zeroLengthCompletions)} zero-length completions`,
		`${formatNumber(trace.unmatchedCompletions)} completions without issue`,
		`${formatNumber(trace.reissues)} issued again while live`,
		`${formatNumber(trace.drained)} live at the end`,
		`${formatNumber(trace.malformedLines)} malformed lines`,
	].join(", ");
}

/** What bouncing comes to, where both modes ran. */
function lead(results: readonly ModeResult[]): Words | null {
	const direct = results.find(({ mode }) => mode === "direct");
	const bounce = results.find(({ mode }) => mode === "bounce");
	if (direct === undefined || bounce === undefined) return null;
	return [
		"Bouncing makes the DMA layer ",
		{ strong: `${formatNumber(bounce.dmaNsPerRequest / direct.dmaNsPerRequest)} times` },
		` as expensive: ${formatNumber(direct.dmaNsPerRequest)} ns a request become ${formatNumber(bounce.dmaNsPerRequest)} ns.`,
		` With the device's own moves the whole takes ${formatNumber(bounce.totalNs / direct.totalNs)} times as long.`,
		` The host can read ${SIZE.write(bounce.hostReadableBytes)} of the guest then, and ${SIZE.write(direct.hostReadableBytes)} otherwise.`,
	];
}

/** Where a request's time goes. */
function breakdown(results: readonly ModeResult[]): Block {
	const rows = results.map(({ mode, dmaNs, deviceNs, requests }) => {
		const [dma, device] = [dmaNs / requests, deviceNs / requests];
		const text = `${formatNumber(Math.round(dma))} + ${formatNumber(Math.round(device))} ns`;
		return {
			label: mode,
			bars: [
				{
					pieces: [
						{ tone: mode, length: dma },
						{ tone: "device" as const, length: device },
					],
					text,
				},
			],
		};
	});
	const key = [
		{ tones: ["direct", "bounce"] as const, text: "DMA layer (map, copies, unmap)" },
		{ tones: ["device"] as const, text: "the device's own moves" },
	];
	return { block: "bars", title: "Where a request's time goes", measures: [""], rows, key };
}

/** The scale is logarithmic: it has no 0. */
const LEAST_NS = 1;

function curves(results: readonly ModeResult[]): Curves[] {
	const sizes = [...new Set(results.flatMap(({ sizeClasses }) => sizeClasses.map(({ bytes }) => bytes)))].sort(
		(a, b) => a - b,
	);
	const line = (mode: ModeResult["mode"], values: readonly (number | undefined)[]) => ({
		name: mode,
		tone: mode,
		ns: values.map((ns) => (ns === undefined ? null : Math.max(ns, LEAST_NS))),
	});
	return [
		{
			block: "curves",
			title: "DMA layer by size of the request: median ns",
			axis: "bytes",
			at: sizes,
			lines: results.map(({ mode, sizeClasses }) =>
				line(
					mode,
					sizes.map((size) => sizeClasses.find(({ bytes }) => bytes === size)?.medianNs),
				),
			),
		},
		{
			block: "curves",
			title: "DMA layer by share of the requests: ns, the slowest at the right",
			axis: "share",
			at: results[0]?.latency.curve.map(({ quantile }) => quantile) ?? [],
			lines: results.map(({ mode, latency }) =>
				line(
					mode,
					latency.curve.map(({ ns }) => ns),
				),
			),
		},
	];
}

function section({ results, options }: Comparison): Section {
	const [first] = results;
	if (first === undefined) return { title: "", blocks: [] };
	const said = lead(results);
	const clocks = results.map(({ mode, clockNs }) => `${mode} ${formatNumber(clockNs)} ns`).join(", ");
	return {
		title: `${first.workload} on ${options.device}`,
		blocks: [
			...(said === null ? [] : [paragraph(said, "lead")]),
			paragraph(traceLine(first)),
			breakdown(results),
			...curves(results),
			figures(results),
			paragraph(
				`Totals come from passes without clocks; percentiles from a pass that reads the clock around each map and unmap, its cost subtracted (${clocks}).`,
				"note",
			),
			paragraph("Every byte was checked on both sides before the timed passes.", "note"),
		],
	};
}

const METHOD: readonly Words[] = [
	[
		"Recorded block requests go through Linux 6.12's DMA rules: ",
		{ strong: "direct" },
		" is a trusted device on private pages, ",
		{ strong: "bounce" },
		" an untrusted one through the shared swiotlb pool. In both the device really moves the bytes. Totals are medians of passes without clocks; percentiles come from a pass that reads the clock around each map and unmap, and the clock's cost is subtracted. Every byte was checked on both sides before the timed passes. ",
		{ code: "coco-dma compare --help" },
		" states the model.",
	],
];

/** A section a workload. @param ranOn what ran it and where, in a line */
export function compareReport(comparisons: readonly Comparison[], ranOn: string): Report {
	const { modes, ...options } = comparisons[0]?.options ?? { modes: [] };
	return report("Bounce against direct DMA", comparisons.map(section), {
		ranOn,
		method: METHOD,
		options: Object.entries({ ...options, modes: modes.join(", ") }).map(([name, value]) => [name, String(value)]),
	});
}
