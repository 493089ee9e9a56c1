/** Modes compared on workloads: bounce against direct. */
import type { Comparison, ModeResult } from "../study/compare.ts";
import type { RunResult } from "../study/run.ts";
import type { Ratio, Spread } from "../study/statistics.ts";
import {
	BELOW_CLOCK,
	type Block,
	type Curves,
	EQUAL,
	figure,
	MISSING,
	paragraph,
	type Report,
	type Row,
	range,
	report,
	rounded,
	row,
	type Section,
	table,
	text,
	type Value,
	type Words,
} from "./model.ts";
import { NOT_COMPARABLE, refusedWords } from "./refusals.ts";
import { traceLine, traceNotes } from "./trace.ts";
import {
	COUNT,
	formatNumber,
	formatRounded,
	GB_PER_S,
	NS,
	NS_PER_KIB,
	NS_PER_REQUEST,
	SIZE,
	SLOTS,
	TIMES,
	type Unit,
} from "./units.ts";

type Count = (result: ModeResult) => number | null | undefined;
type Ratios = NonNullable<ModeResult["againstFirst"]>;

/** The other way round. */
function inverse({ value, low, high, isEqual }: Ratio): Ratio {
	return { value: 1 / value, low: 1 / high, high: 1 / low, isEqual };
}

function halfWidth({ low, high }: Ratio): number {
	return (high - low) / 2;
}

function ratioValue(ratio: Ratio): Value {
	return ratio.isEqual ? EQUAL : rounded(ratio.value, halfWidth(ratio), TIMES);
}

/** The rows of one workload's figures: a column a mode, and where there are two the second against the first. */
class Rows {
	readonly #results: readonly ModeResult[];

	constructor(results: readonly ModeResult[]) {
		this.#results = results;
	}

	/** Counts a mode; nothing is compared. */
	counts(label: string, unit: Unit, count: Count, depth: Row["depth"] = 0): Row {
		return this.#row(label, this.#values(unit, count), { unit, depth });
	}

	/** Costs a mode; with the difference and the ratio, as far as the spread lets them be told. */
	costs(label: string, unit: Unit, count: Count, ratioOf: (ratios: Ratios) => Ratio | null): Row {
		const [first, second] = this.#results;
		const ratios = second?.againstFirst ?? null;
		const ratio = ratios === null ? null : ratioOf(ratios);
		const base = first === undefined ? null : (count(first) ?? null);
		const compared =
			ratio === null || base === null
				? []
				: ratio.isEqual
					? [null, EQUAL]
					: [rounded(base * (ratio.value - 1), base * halfWidth(ratio), unit, true), ratioValue(ratio)];
		return this.#row(label, this.#values(unit, count), { unit }, compared);
	}

	/** The middle half of the passes. @param scale what a pass's time is divided by */
	quartiles(unit: Unit, spreadOf: (result: ModeResult) => Spread, scale: (result: ModeResult) => number): Row {
		const values = this.#results.map((result) => {
			const [{ lower, upper }, by] = [spreadOf(result), scale(result)];
			return by === 0 ? MISSING : range(lower / by, upper / by, unit);
		});
		return this.#row("quartiles", values, { unit: null, depth: 1 });
	}

	/** What both parts together take beyond the two alone. */
	interaction(label: string, unit: Unit): Row {
		const values = this.#results.map(({ interaction, served }) =>
			served.requests === 0
				? MISSING
				: interaction.isNoise
					? text("nothing beyond noise")
					: figure(Math.round(interaction.ns / served.requests), unit, true),
		);
		return this.#row(label, values, { depth: 1 });
	}

	/** A percentile: not all are above the clock. */
	percentile(label: string, name: "p50" | "p99" | "p999" | "max"): Row {
		const field = `${name}Ns` as const;
		const row = this.costs(
			label,
			NS,
			({ latency }) => latency?.[field],
			(ratios) => ratios[name],
		);
		const isBelow = ({ latency }: ModeResult) => latency !== null && latency[field] === null;
		const values = row.values.map((value, i) => {
			const result = this.#results[i];
			return result !== undefined && isBelow(result) ? BELOW_CLOCK : value;
		});
		return { ...row, values };
	}

	/** How often what was refused. */
	failures(label: string): Row {
		return this.#row(
			label,
			this.#results.map(({ failures }): Value => ({ value: "counts", counts: failures })),
			{},
		);
	}

	#values(unit: Unit, count: Count): Value[] {
		return this.#results.map((result) => {
			const number = count(result) ?? null;
			return number === null ? MISSING : figure(number, unit);
		});
	}

	#row(label: string, values: Value[], more: Partial<Row>, compared: readonly (Value | null)[] = []): Row {
		const beside = this.#results.length > 1 ? [compared[0] ?? null, compared[1] ?? null] : [];
		return row(label, [...values, ...beside], more);
	}
}

function figures(results: readonly ModeResult[]): Block {
	const rows = new Rows(results);
	const requests = ({ served }: ModeResult) => served.requests;
	const refused = results.some(({ firstRefused }) => firstRefused !== null);
	const held = results.some(({ pool }) => pool !== null && pool.heldHiwaterSlots !== null);
	const groups = [
		{
			title: "What was done",
			rows: [
				rows.counts("requests", COUNT, (r) => r.requests),
				...(refused ? [rows.counts("of them served", COUNT, requests, 1)] : []),
				rows.counts("commands to the device", COUNT, (r) => r.commands),
				...(refused ? [rows.counts("of them served", COUNT, (r) => r.served.commands, 1)] : []),
				rows.counts("mappings", COUNT, (r) => r.directMaps + r.bouncedMaps),
				rows.counts("of them bounced", COUNT, (r) => r.bouncedMaps, 1),
				rows.counts("data", SIZE, (r) => r.served.bytes),
				...(refused ? [rows.counts("data refused", SIZE, (r) => r.bytes - r.served.bytes)] : []),
				rows.counts("copied into slots", SIZE, (r) => r.bytesCopiedIn),
				rows.counts("copied back", SIZE, (r) => r.bytesCopiedBack),
			],
		},
		{
			title: "What it cost",
			rows: [
				rows.costs(
					"DMA layer",
					NS_PER_REQUEST,
					(r) => r.dmaNsPerRequest,
					({ dma }) => dma,
				),
				rows.quartiles(NS_PER_REQUEST, ({ spread }) => spread.dmaNs, requests),
				rows.costs(
					"DMA layer",
					NS_PER_KIB,
					(r) => r.dmaNsPerKiB,
					({ dma }) => dma,
				),
				rows.counts("device's moves", NS_PER_REQUEST, (r) => r.deviceNsPerRequest),
				rows.quartiles(NS_PER_REQUEST, ({ spread }) => spread.deviceNs, requests),
				rows.costs(
					"both together",
					NS_PER_REQUEST,
					(r) => r.totalNsPerRequest,
					({ total }) => total,
				),
				rows.quartiles(NS_PER_REQUEST, ({ spread }) => spread.totalNs, requests),
				rows.interaction("more than its parts", NS_PER_REQUEST),
				rows.costs(
					"both together",
					GB_PER_S,
					(r) => r.gigabytesPerSecond,
					({ total }) => total && inverse(total),
				),
			],
		},
		{
			title: "DMA layer by request",
			rows: [
				rows.percentile("p50", "p50"),
				rows.percentile("p99", "p99"),
				rows.percentile("p99.9", "p999"),
				rows.percentile("max", "max"),
			],
		},
		{
			title: "Pool and host",
			rows: [
				rows.counts("pool", SIZE, (r) => r.pool?.bytes),
				rows.counts("pool slots", COUNT, (r) => r.pool?.slabs),
				rows.counts("pool areas", COUNT, (r) => r.pool?.areas),
				rows.counts("high-water mark", SLOTS, (r) => r.pool?.hiwaterSlots),
				...(held ? [rows.counts("lost completions held", SLOTS, (r) => r.pool?.heldHiwaterSlots, 1)] : []),
				rows.failures("refused commands"),
				rows.counts("pages the host can read", COUNT, (r) => r.hostReadablePages),
				rows.counts("bytes the host can read", SIZE, (r) => r.hostReadableBytes),
			],
		},
	];
	const [first, second] = results;
	const columns = [
		...results.map(({ mode }) => mode),
		...(first !== undefined && second !== undefined
			? [`${second.mode} - ${first.mode}`, `${second.mode} / ${first.mode}`]
			: []),
	];
	return table("figures", groups, { columns });
}

/** What bouncing comes to, where both modes ran and served the same. */
function lead(results: readonly ModeResult[]): Words | null {
	const [first, second] = results;
	const ratios = second?.againstFirst ?? null;
	if (first === undefined || second === undefined || ratios === null) return null;
	const [direct, bounce] = first.mode === "direct" ? [first, second] : [second, first];
	const turned = (ratio: Ratio | null) => (ratio === null || first === direct ? ratio : inverse(ratio));
	const [dma, total] = [turned(ratios.dma), turned(ratios.total)];
	const costs = [direct, bounce].map(({ dmaNsPerRequest }) => formatNumber(dmaNsPerRequest ?? Number.NaN));
	if (dma === null || total === null) return null;
	const times = (ratio: Ratio) => `${formatRounded(ratio.value, halfWidth(ratio))} times`;
	return [
		...(dma.isEqual
			? ["Bouncing makes no difference to the DMA layer beyond noise"]
			: ["Bouncing makes the DMA layer ", { strong: times(dma) }, " as expensive"]),
		`: ${costs[0]} ns a request become ${costs[1]} ns.`,
		` With the device's own moves the whole takes ${total.isEqual ? "the same time within noise" : `${times(total)} as long`}.`,
		` The host can read ${SIZE.write(bounce.hostReadableBytes)} of the guest then, and ${SIZE.write(direct.hostReadableBytes)} otherwise.`,
	];
}

/** Why the parts do not add up, where they do not. */
function interactionNote(results: readonly ModeResult[]): string[] {
	const off = results.filter(({ interaction, served }) => !interaction.isNoise && served.requests > 0);
	if (off.length === 0) return [];
	const amounts = off.map(({ mode, interaction, served }) => {
		const ns = Math.round(interaction.ns / served.requests);
		return `${mode} ${formatNumber(Math.abs(ns))} ns a request ${ns < 0 ? "less" : "more"}`;
	});
	return [
		`Both together take other than the sum of the two alone (${amounts.join(", ")}): less where one finds in the caches what the other has just touched, more where one drives the other's bytes out of them.`,
	];
}

/** A warning where others had the machine; null: they had not, or nobody knows. */
export function busyNote(shares: readonly Pick<RunResult, "isBusy" | "cpuShare">[]): string | null {
	const busy = shares.filter(({ isBusy }) => isBusy).map(({ cpuShare }) => cpuShare ?? 1);
	if (busy.length === 0) return null;
	return `The machine was busy: a process that was timed had a CPU for only ${formatNumber(Math.round(Math.min(...busy) * 100))} % of its time. Read the counts; repeat the times on a quiet machine.`;
}

/** Where a request's time goes. */
function breakdown(results: readonly ModeResult[]): Block {
	const rows = results.map(({ mode, dmaNsPerRequest, deviceNsPerRequest }) => {
		const [dma, device] = [dmaNsPerRequest ?? 0, deviceNsPerRequest ?? 0];
		const said = `${formatNumber(Math.round(dma))} + ${formatNumber(Math.round(device))} ns`;
		return {
			label: mode,
			bars: [
				{
					pieces: [
						{ tone: mode, length: dma },
						{ tone: "device" as const, length: device },
					],
					text: said,
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
	const line = (mode: ModeResult["mode"], values: readonly (number | null | undefined)[]) => ({
		name: mode,
		tone: mode,
		ns: values.map((ns) => (ns === undefined || ns === null ? null : Math.max(ns, LEAST_NS))),
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
			at: results.find(({ latency }) => latency !== null)?.latency?.curve.map(({ quantile }) => quantile) ?? [],
			lines: results.flatMap(({ mode, latency }) =>
				latency === null
					? []
					: [
							line(
								mode,
								latency.curve.map(({ ns }) => ns),
							),
						],
			),
		},
	];
}

function section({ results, options }: Comparison): Section {
	const [first] = results;
	if (first === undefined) return { title: "", blocks: [] };
	const said = lead(results);
	const refused = results.flatMap((result) => refusedWords(result.mode, result) ?? []);
	const busy = busyNote(results);
	const passes = first.passes.dmaNs.length === 1 ? "one pass" : `${formatNumber(first.passes.dmaNs.length)} passes`;
	const clocks = results.map(({ mode, clockNs }) => `${mode} ${formatNumber(clockNs)} ns`).join(", ");
	return {
		title: `${first.workload} on ${options.device}`,
		blocks: [
			...(said === null ? [] : [paragraph(said, "lead")]),
			...(refused.length > 0 ? [...refused, NOT_COMPARABLE].map((words) => paragraph(words, "lead")) : []),
			paragraph(traceLine(first.trace)),
			...traceNotes(first.trace).map((words) => paragraph(words)),
			...(busy === null ? [] : [paragraph(busy)]),
			breakdown(results),
			...curves(results),
			figures(results),
			...interactionNote(results).map((words) => paragraph(words, "note")),
			paragraph(
				`Medians of ${passes}, the modes in turns. Percentiles are of passes that read the clock around each event, its cost subtracted (${clocks}); what is not above that cost is below the clock.`,
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
		" an untrusted one through the shared swiotlb pool. In both the device really moves the bytes. The modes are timed in turns, each in a process of its own; times are medians of their passes, over the requests that were served. Percentiles are each request's median of passes that read the clock around each event, and the clock's cost is subtracted. A ratio has the digits that the spread of the passes allows. Every byte was checked on both sides before the timed passes. ",
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
