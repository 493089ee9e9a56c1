/** One mapping, explained: by the kernel's rules, and under a policy beside that. */

import { type Explanation, exposes, type Readers } from "../coco/guest/explain.ts";
import type { CoherentExplanation, ListExplanation, ListedSegment } from "../coco/guest/explain-others.ts";
import { PLATFORMS, type Platform } from "../coco/platform/platform.ts";
import type { PredicateReply } from "../coco/rules/decision.ts";
import type { Refusal } from "../dma/refusal.ts";
import { hex, type StatusName } from "../status.ts";
import type { ExplainedUse, ExplainReport } from "../study/explain.ts";
import {
	type Block,
	list,
	paragraph,
	type Report,
	report,
	row,
	type Section,
	type Table,
	table,
	text,
} from "./model.ts";
import { policyTitle, rulesText } from "./policy.ts";
import { refusalTable } from "./refusal.ts";
import { exactBytes } from "./units.ts";

const PARTIES = ["guest", "paravisor", "host", "device"] as const;

function sights(readers: Readers) {
	return PARTIES.map((party) => text(readers[party] ?? "-"));
}

function readersTable(all: readonly Readers[]): Table {
	const rows = all.map((each) => row(each.when, [text(each.where), text(each.pages), ...sights(each)]));
	return table("words", [{ title: "", rows }], { corner: "when", columns: ["bytes", "pages", ...PARTIES] });
}

/** A status; where a policy forbids to bounce, that. */
function statusText(status: StatusName, refusal: Refusal | null): string {
	const by = refusal?.broken.find(({ rule }) => rule === "policy");
	return by?.rule === "policy" ? `policy ${by.policy} has ${by.mechanism} in place of a bounce` : status;
}

/** Where the bytes go, or why they go nowhere. */
function outcome({ decision, status, dma, bounce, crash, refusal }: Explanation): string {
	if (crash !== null) return `crash in ${crash.where}: ${crash.why}`;
	if (status !== null && bounce === null) return `refused: ${statusText(status, refusal)}`;
	if (bounce === null) return `${decision}: the device is given ${hex(dma as number)}`;
	const { pool, tlb, firstSlot, slots, transient } = bounce;
	const where = transient ? `a transient pool of "${pool}"` : `pool "${pool}"`;
	const which = `${slots} slot${slots === 1 ? "" : "s"} of 2 KiB, tlb_addr ${hex(tlb)} in slot ${firstSlot}`;
	if (status !== null) return `refused after a copy into ${where}, ${which}: ${status}`;
	return `bounce: ${where}, ${which}; the device is given ${hex(dma as number)}`;
}

function answer({ hostRead }: Platform, explanation: Explanation): string {
	if (hostRead === "plain") return "Nothing is private on this platform.";
	if (explanation.readers[0]?.pages !== "private") return "The buffer lies on shared pages: the host reads it anyway.";
	return exposes(explanation) ? "The host reads bytes of a private buffer." : "The host reads no byte of the buffer.";
}

function mappingBlocks(platform: Platform, explanation: Explanation): Block[] {
	const { request, steps, readers, refusal } = explanation;
	const { gpa, bytes, dir, cpu } = request;
	const asked = steps.map(({ predicate, value, why }, i) =>
		row(String(i + 1).padStart(2), [text(predicate), text(value), text(why)]),
	);
	return [
		paragraph(`map(gpa ${hex(gpa)}, ${bytes} bytes, ${dir}) on CPU ${cpu}`),
		table("words", [{ title: "", rows: asked }]),
		paragraph(outcome(explanation)),
		...(refusal === null ? [] : [refusalTable(refusal)]),
		readersTable(readers),
		paragraph(answer(platform, explanation), "answer"),
	];
}

function coherentOutcome({ buffer, refused, crash }: CoherentExplanation): string {
	if (refused !== null) {
		const { status, message } = refused;
		return `NULL: ${status}${message === "" ? "" : `: ${message}`}`;
	}
	if (buffer === null) return `crash in ${crash?.where}: ${crash?.why}`;
	const { gpa, dma, bytes, source } = buffer;
	const ended = crash === null ? "" : `; its free ends in ${crash.where}: ${crash.why}`;
	return `${exactBytes(bytes)} from ${SOURCES[source]}, gpa ${hex(gpa)}; the device is given ${hex(dma)}${ended}`;
}

const SOURCES: Readonly<Record<NonNullable<CoherentExplanation["buffer"]>["source"], string>> = {
	pages: "the page allocator",
	cookie: "the page allocator, not mapped by the kernel",
	slots: "slots of the restricted pool",
	atomic: "an atomic pool",
};

function coherentBlocks(explanation: CoherentExplanation): Block[] {
	const { request, readers } = explanation;
	return [
		paragraph(`dma_alloc_coherent(${request.bytes} bytes, ${request.atomic ? "GFP_ATOMIC" : "GFP_KERNEL"})`),
		paragraph(coherentOutcome(explanation)),
		...(readers.length === 0 ? [] : [readersTable(readers)]),
	];
}

function segmentRow({ gpa, bytes, decision, dma, readers }: ListedSegment, i: number) {
	const parties = readers === null ? PARTIES.map(() => text("-")) : sights(readers);
	const address = dma === null ? "-" : hex(dma);
	return row(String(i), [text(hex(gpa)), text(exactBytes(bytes)), text(decision), text(address), ...parties]);
}

function listBlocks({ segments, status, refusal, crash }: ListExplanation): Block[] {
	const rows = segments.map(segmentRow);
	const columns = ["gpa", "size", "decision", "dma", ...PARTIES];
	const ended =
		crash !== null
			? `crash in ${crash.where}: ${crash.why}`
			: status === null
				? "mapped whole"
				: `refused whole: ${statusText(status, refusal)}; what was mapped before is unmapped without a copy back`;
	return [
		paragraph(`dma_map_sgtable(${segments.length} segments)`),
		table("words", [{ title: "", rows }], { corner: "segment", columns }),
		paragraph(ended),
		...(refusal === null ? [] : [refusalTable(refusal)]),
	];
}

/** All that was asked for, by one set of rules. */
function useSections(title: string, platform: Platform, use: ExplainedUse): Section[] {
	const { coherent, list: listed, hazards } = use;
	const sections: Section[] = [{ title, blocks: mappingBlocks(platform, use) }];
	if (listed !== null) sections.push({ title: `${title}: a list`, blocks: listBlocks(listed) });
	if (coherent !== null) sections.push({ title: `${title}: coherent memory`, blocks: coherentBlocks(coherent) });
	const met = hazards.map(({ what, detail }) => `${what}: ${detail}`);
	if (met.length > 0) sections.push({ title: "", blocks: [list("Hazards:", met)] });
	return sections;
}

const said = ({ value }: PredicateReply) => (value === null ? "crash" : String(value));

/** Every predicate's answer by the kernel alone and under the policy. */
function predicatesTable(without: ExplainedUse, use: ExplainedUse, name: string): Table {
	const rows = use.predicates.map((reply, i) => {
		const own = without.predicates[i] as PredicateReply;
		const why = own.why === reply.why ? reply.why : `${own.why}; ${reply.why}`;
		return row(reply.call, [text(said(own)), text(said(reply)), text(why)]);
	});
	const last = row("mechanism", [
		text(without.mechanism),
		text(use.mechanism),
		text("for what may not be mapped as it is"),
	]);
	return table("words", [{ title: "", rows: [...rows, last] }], {
		corner: "predicate",
		columns: ["kernel", name, "why"],
	});
}

/** What it comes to in a line. */
function brief(platform: Platform, use: ExplainedUse): string {
	const { list: listed, coherent, decision, status, refusal } = use;
	const why = status === null ? "" : `: ${statusText(status, refusal)}${decision === "bounce" ? ", after a copy" : ""}`;
	const mapped = status === null ? decision : `refused${why}`;
	const parts = [
		`${mapped}. ${answer(platform, use)}`,
		...(listed === null
			? []
			: [`The list: ${listed.status === null ? (listed.crash === null ? "mapped" : "crash") : "refused"}.`]),
		...(coherent === null
			? []
			: [
					`Coherent memory: ${coherent.refused?.status ?? (coherent.buffer === null ? "crash" : coherent.buffer.source)}.`,
				]),
	];
	return parts.join(" ");
}

/** The whole explanation. */
export function explainReport(explained: ExplainReport): Report {
	const { device, kernel, policy, without } = explained;
	const platform = PLATFORMS[explained.platform as keyof typeof PLATFORMS];
	const where = `${device} on ${platform.title} (${platform.name})`;
	const title = "One DMA mapping, step by step";
	const alone = `${where}, rules of ${kernel}`;
	if (policy === null || without === null) return report(title, useSections(alone, platform, explained));
	const { name } = policy;
	const lines = [
		paragraph(rulesText(policy)),
		predicatesTable(without, explained, name),
		paragraph(`${kernel} alone: ${brief(platform, without)}`),
		paragraph(`${name}: ${brief(platform, explained)}`, "answer"),
	];
	return report(title, [
		{ title: policyTitle(policy), blocks: lines },
		...useSections(`${alone} alone`, platform, without),
		...useSections(`${alone}, under ${name}`, platform, explained),
	]);
}
