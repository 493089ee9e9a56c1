/** Policies compared on workloads: what each costs on the release build, and what it exposes on the audit build. */
import type { PolicyComparison, PolicyResult } from "../study/compare.ts";
import type { RunResult } from "../study/run.ts";
import { busyNote } from "./compare.ts";
import {
	BELOW_CLOCK,
	type Block,
	EQUAL,
	figure,
	list,
	MISSING,
	paragraph,
	type Report,
	type Row,
	range,
	report,
	rounded,
	row,
	type Section,
	said,
	table,
	text,
	type Value,
	type Words,
} from "./model.ts";
import { policyTitle, rulesText } from "./policy.ts";
import { NOT_COMPARABLE, refusedWords } from "./refusals.ts";
import { traceNotes } from "./trace.ts";
import {
	BYTES,
	COUNT,
	formatNumber,
	GB_PER_S,
	NS,
	NS_PER_KIB,
	NS_PER_REQUEST,
	SIZE,
	TIMES,
	type Unit,
} from "./units.ts";
import { causeText } from "./verdict.ts";

/** Names of the two groups: which figures came from which build. */
const COST_GROUP = "Cost: release build, timed";
const EXPOSURE_GROUP = "Exposure: audit build, same input and seed";

function sum(counts: readonly number[]): number {
	return counts.reduce((total, count) => total + count, 0);
}

function figures(results: readonly PolicyResult[]): Block {
	const costValue = (label: string, value: (cost: RunResult) => Value, more: Partial<Row> = {}): Row =>
		row(
			label,
			results.map(({ cost }) => (cost === null ? MISSING : value(cost))),
			more,
		);
	const cost = (label: string, unit: Unit, count: (cost: RunResult) => number | null, depth: Row["depth"] = 0): Row =>
		costValue(
			label,
			(each) => {
				const number = count(each);
				return number === null ? MISSING : figure(number, unit);
			},
			{ unit, depth },
		);
	const percentile = ({ latency }: RunResult): Value =>
		latency === null ? MISSING : latency.p99Ns === null ? BELOW_CLOCK : figure(latency.p99Ns, NS);
	const first = results.find(({ cost: figures }) => figures !== null);
	const againstFirst = (result: PolicyResult): Value => {
		if (result === first && result.cost?.firstRefused === null) return figure(1, TIMES);
		const ratio = result.againstFirst?.dma ?? null;
		if (ratio === null) return MISSING;
		return ratio.isEqual ? EQUAL : rounded(ratio.value, (ratio.high - ratio.low) / 2, TIMES);
	};
	const refused = results.some(({ cost: figures }) => (figures?.firstRefused ?? null) !== null);
	const exposure = (
		label: string,
		unit: Unit,
		count: (exposure: PolicyResult["exposure"]) => number,
		depth: Row["depth"] = 0,
	): Row =>
		row(
			label,
			results.map((result) => figure(count(result.exposure), unit)),
			{ unit, depth },
		);
	const device = ({ owners }: PolicyResult["exposure"]) => owners.find(({ owner }) => owner !== "guest");
	const own = ({ verdict }: PolicyResult["exposure"], confidential: boolean) =>
		verdict.confidential === confidential ? verdict.bytes : 0;
	const groups = [
		{
			title: COST_GROUP,
			rows: [
				cost("DMA layer", NS_PER_REQUEST, (c) => c.dmaNsPerRequest),
				costValue(
					"quartiles",
					({ spread: { dmaNs }, served: { requests } }) =>
						requests === 0 ? MISSING : range(dmaNs.lower / requests, dmaNs.upper / requests, NS_PER_REQUEST),
					{ depth: 1 },
				),
				row("against the first", results.map(againstFirst), { unit: TIMES, depth: 1 }),
				cost("DMA layer", NS_PER_KIB, (c) => c.dmaNsPerKiB),
				costValue("p99", percentile, { unit: NS }),
				cost("both together", GB_PER_S, (c) => c.gigabytesPerSecond),
				cost("mappings", COUNT, (c) => c.directMaps + c.bouncedMaps),
				cost("of them bounced", COUNT, (c) => c.bouncedMaps, 1),
				cost("data", SIZE, (c) => c.served.bytes),
				...(refused ? [cost("data refused", SIZE, (c) => c.bytes - c.served.bytes)] : []),
				cost("copied into slots", SIZE, (c) => c.bytesCopiedIn),
				cost("copied back", SIZE, (c) => c.bytesCopiedBack),
				cost("refused commands", COUNT, (c) => sum(Object.values(c.failures))),
				costValue("driven from", ({ driver }) => text(driver === "wasm" ? "WebAssembly" : "TypeScript")),
			],
		},
		{
			title: EXPOSURE_GROUP,
			rows: [
				row(
					"verdict",
					results.map(({ exposure: { verdict } }) => said(verdict.kind, verdict.kind)),
				),
				exposure("breached", BYTES, (e) => own(e, true)),
				exposure("exposed, as designed", BYTES, (e) => own(e, false)),
				exposure("by the first copy of FROM_DEVICE", BYTES, (e) => device(e)?.initialBytes ?? 0, 1),
				exposure("neighbours in shared pages", BYTES, (e) => e.verdict.neighbourBytes),
				exposure("hidden from the host", BYTES, (e) => e.verdict.hiddenBytes),
				exposure("readable at the end", BYTES, (e) => sum(e.owners.map(({ standingBytes }) => standingBytes))),
				exposure("in slots that are free", BYTES, (e) => sum(e.owners.map(({ residueBytes }) => residueBytes)), 1),
				exposure("page conversions", COUNT, (e) => e.drive?.sharedInPlace ?? 0),
				exposure("not delivered", COUNT, (e) => sum((e.drive?.undelivered ?? []).map(({ count }) => count))),
			],
		},
	];
	return table("figures", groups, { title: "", columns: results.map(({ policy }) => policy) });
}

/** Two bars a policy: what it costs, and what the host could read. */
function chart(results: readonly PolicyResult[]): Block {
	const rows = results.map(({ policy, cost, exposure: { verdict } }) => {
		const { kind, bytes, neighbourBytes } = verdict;
		const ns = cost?.dmaNsPerRequest ?? 0;
		const read = bytes + neighbourBytes;
		return {
			label: policy,
			bars: [
				{
					pieces: [{ tone: "cost" as const, length: ns }],
					text: cost === null || cost.dmaNsPerRequest === null ? "refused" : `${formatNumber(ns)} ns`,
				},
				{ pieces: [{ tone: kind, length: read }], text: read === 0 ? kind : `${kind} ${BYTES.write(read)}` },
			],
		};
	});
	const measures = ["DMA layer, ns per request (release build)", "Bytes the host could read (audit build)"];
	return { block: "bars", title: "Cost and exposure", measures, rows, key: [] };
}

function section({ results }: PolicyComparison): Section {
	const [first] = results;
	if (first === undefined) return { title: "", blocks: [] };
	const { workload, scenario, platform, device, requests } = first.exposure;
	const policies = results.map(({ exposure: { policy } }) => ({
		words: [{ strong: policyTitle(policy) }, ` (${rulesText(policy)})`],
		under: [`source: ${policy.source}`],
	}));
	const ended = results.flatMap(({ policy, exposure: { verdict } }) =>
		verdict.cause === null
			? []
			: [`${policy}: ${verdict.cause.what === "crash" ? "crash" : "refused"}: ${causeText(verdict.cause)}`],
	);
	const refused = results.flatMap(({ policy, cost }) => (cost === null ? [] : (refusedWords(policy, cost) ?? [])));
	const busy = busyNote(results.flatMap(({ cost }) => cost ?? []));
	return {
		title: `${workload}: ${formatNumber(requests)} requests on ${device} (${scenario}) on ${platform}`,
		blocks: [
			list("", [...policies, ...ended]),
			...(refused.length > 0 ? [...refused, NOT_COMPARABLE].map((words) => paragraph(words, "lead")) : []),
			...traceNotes(first.exposure.trace).map((words) => paragraph(words)),
			...(busy === null ? [] : [paragraph(busy)]),
			chart(results),
			figures(results),
		],
	};
}

const METHOD: readonly Words[] = [
	[
		"Cost is timed on the release build, each policy in a process of its own, in turns: medians of the passes, over the requests that were served. Exposure is counted on the audit build, which keeps a label for each byte of RAM, over the same requests with the same seed: bytes of private origin each time that they reach a page that the host reads. ",
		{ strong: "Exposed" },
		": of a device that is not trusted, as designed. ",
		{ strong: "BREACH" },
		": of a device whose offer or accepted state says that its data is confidential, whatever the policy believes.",
	],
];

/** A section a workload. @param ranOn what ran it and where, in a line */
export function comparePoliciesReport(comparisons: readonly PolicyComparison[], ranOn: string): Report {
	const { policies, ...options } = comparisons[0]?.options ?? { policies: [] };
	return report("What a DMA policy costs, and what it leaks", comparisons.map(section), {
		ranOn,
		method: METHOD,
		options: Object.entries(options).map(([name, value]) => [name, String(value)]),
	});
}
