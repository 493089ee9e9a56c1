/** An audit: what the host could read of a workload under a policy. */
import type { Finding } from "../leaks/findings.ts";
import { hex } from "../status.ts";
import type { AuditReport, OwnerReport } from "../study/audit.ts";
import type { FirstByteReport } from "../study/first-byte.ts";
import type { QueueReport } from "../study/queue.ts";
import { historyText } from "./history.ts";
import {
	type Block,
	type Figure,
	figure,
	type List,
	list,
	MISSING,
	type Paragraph,
	paragraph,
	type Report,
	type Row,
	report,
	row,
	type Table,
	table,
	text,
} from "./model.ts";
import { policyTitle, rulesText } from "./policy.ts";
import { firstRefusal } from "./refusals.ts";
import { traceNotes } from "./trace.ts";
import { BYTES, COUNT, exactBytes, formatNs, formatNumber, SIZE, TIME } from "./units.ts";
import { causeCounts, causeText } from "./verdict.ts";

/** What it comes to, in a sentence. */
function answer({ verdict, drive }: AuditReport): string {
	const { confidential, bytes, neighbourBytes, cause } = verdict;
	if (drive === null && cause !== null) return `Nothing ran: ${causeText(cause)}.`;
	const beside = neighbourBytes === 0 ? "" : ` BREACH: ${exactBytes(neighbourBytes)} of its neighbours did.`;
	if (confidential && bytes > 0)
		return `BREACH: ${exactBytes(bytes)} of an accepted device's data reached pages that the host reads.${beside}`;
	if (bytes > 0)
		return `Exposed, as designed for a device that is not trusted: ${exactBytes(bytes)} reached pages that the host reads.${beside}`;
	const whose = confidential ? "the accepted device's data" : "the device's data";
	return `No byte of ${whose} reached a page that the host reads.${beside}`;
}

function ownersTable(owners: readonly OwnerReport[]): Table {
	const rowOf = (label: string, depth: Row["depth"], value: (owner: OwnerReport) => Figure | typeof MISSING) =>
		row(label, owners.map(value), { depth });
	const bytes = (label: string, depth: Row["depth"], count: (owner: OwnerReport) => number) =>
		rowOf(label, depth, (owner) => figure(count(owner), BYTES));
	const time = (label: string, has: (owner: OwnerReport) => number, ns: (owner: OwnerReport) => number) =>
		rowOf(label, 1, (owner) => (has(owner) === 0 ? MISSING : figure(ns(owner), TIME)));
	const ended = ({ endedResidueBytes }: OwnerReport) => endedResidueBytes;
	const rows = [
		bytes("reached shared pages", 0, (o) => o.sharedBytes),
		bytes("by the first copy of FROM_DEVICE", 1, (o) => o.initialBytes),
		bytes("by pages that were shared in place", 1, (o) => o.convertedBytes),
		bytes("reached pages hidden from the host", 0, (o) => o.hiddenBytes),
		bytes("readable at the end", 0, (o) => o.standingBytes),
		rowOf("on pages", 1, (o) => figure(o.standingPages, COUNT)),
		bytes("in slots that are free", 1, (o) => o.residueBytes),
		time(
			"the oldest since",
			({ residueBytes }) => residueBytes,
			(o) => o.oldestResidueNs,
		),
		bytes("stayed in free slots until taken again", 0, ended),
		time("mean time", ended, (o) => o.meanResidueNs),
		time("longest", ended, (o) => o.longestResidueNs),
	];
	const columns = owners.map(({ owner, confidential }) => (confidential ? `${owner} (confidential)` : owner));
	return table("figures", [{ title: "", rows }], { columns });
}

function pagesTable({ pages, pagesEver, pagesStanding }: AuditReport): Table {
	const more = pagesStanding > pages.length ? `, the ${pages.length} with most` : "";
	const title = `${formatNumber(pagesEver)} pages ever held such bytes, ${formatNumber(pagesStanding)} do at the end${more}:`;
	const rows = pages.map(({ gpa, owner, standingBytes, everBytes }) =>
		row(hex(gpa), [text(owner), figure(standingBytes, BYTES), figure(everBytes, BYTES)]),
	);
	return table("figures", [{ title: "", rows }], { title, corner: "page", columns: ["owner", "now", "ever"] });
}

/** A property that did not hold: how often, and the first time. */
function findingItem({ property, kind, bytes, count, longestNs, first }: Finding): List["items"][number] {
	const amounts = [
		`${formatNumber(count)} times`,
		...(bytes > 0 ? [exactBytes(bytes)] : []),
		...(longestNs > 0 ? [`up to ${formatNs(longestNs)}`] : []),
	];
	return { words: `${property} (${kind}): ${amounts.join(", ")}`, under: [`first: ${first.text}`] };
}

/** A line for each step, with its time in the trace. @param name the device's */
function historyLines({ history, device }: FirstByteReport, name: string): string[] {
	const lines = historyText(history, (number) => (number === device ? name : `device ${number}`));
	// what the log does not hold is a line of its own, the first
	const before = history.complete ? 0 : 1;
	return lines.map((line, i) => {
		const event = history.steps[i - before]?.event;
		return event === undefined ? line : `${line}, at ${event.timeNs.toLocaleString("en-US")} ns`;
	});
}

const QUEUE_FROM: Readonly<Record<NonNullable<QueueReport["from"]>, string>> = {
	pages: "the page allocator",
	cookie: "the page allocator",
	slots: "slots of the restricted pool",
	atomic: "an atomic pool",
};

function queueLine({ bytes, from, cause }: QueueReport): string {
	const what = `its queue, ${exactBytes(bytes)} of coherent memory`;
	if (from !== null) return `${what} from ${QUEUE_FROM[from]}${cause === null ? "" : `; its end: ${causeText(cause)}`}`;
	return `${what}: ${cause === null ? "none" : causeText(cause)}; the commands run without it here`;
}

/** One total, and how the counts of the table are parts of it. */
function totalLines({ total }: AuditReport): Paragraph[] {
	if (total === null || total.reachedBytes === 0) return [];
	const { reachedBytes, firstCopyBytes, convertedBytes, sentBytes } = total;
	const { readableBytes, residueBytes, endedResidueBytes, goneBytes, twiceBytes } = total;
	const n = formatNumber;
	const twice =
		twiceBytes === 0
			? ""
			: ` ${n(twiceBytes)} at least are in two of these: what took their slots again did not fill them.`;
	return [
		`In all ${exactBytes(reachedBytes)} reached pages that the host reads, each time counted once: ${n(sentBytes)} as they were sent or received, ${n(firstCopyBytes)} by first copies, ${n(convertedBytes)} by pages that were shared.`,
		`The same bytes by their end: ${n(readableBytes)} are readable still (${n(residueBytes)} in free slots), ${n(endedResidueBytes)} stayed in free slots until those were taken again, ${n(goneBytes)} were written over while mapped or are private again.${twice} Properties below count these bytes too, each by its own rule, and do not add up.`,
	].map((line) => paragraph(line));
}

/** What the commands came to. */
function driveLines({ directMaps, bouncedMaps, drive, queue }: AuditReport): Paragraph[] {
	if (drive === null) return [];
	const counts = (happened: Readonly<Record<string, number>>) =>
		Object.entries(happened)
			.map(([what, count]) => `${formatNumber(count)} ${what}`)
			.join(", ") || "none";
	return [
		`${formatNumber(directMaps)} direct maps, ${formatNumber(bouncedMaps)} bounced, ${formatNumber(drive.sharedInPlace)} page conversions; refused commands: ${counts(drive.refused)}`,
		...(drive.firstRefused === null ? [] : [firstRefusal(drive.firstRefused)]),
		...(drive.undelivered.length === 0 ? [] : [`not delivered: ${causeCounts(drive.undelivered)}`]),
		...(drive.crash === null ? [] : [`crash: ${causeText(drive.crash)}`]),
		...(queue === null ? [] : [queueLine(queue)]),
	].map((line) => paragraph(line));
}

/** The whole audit. */
export function auditReport(audit: AuditReport): Report {
	const { workload, policy, scenario, platform, device, requests, bytes, owners, pages, first, findings, notes } =
		audit;
	const what = `${workload}: ${formatNumber(requests)} requests, ${SIZE.write(bytes)}, on ${device} (${scenario}) on ${platform}`;
	const blocks: Block[] = [paragraph(rulesText(policy)), paragraph(what), ...driveLines(audit)];
	blocks.push(...traceNotes(audit.trace).map((words) => paragraph(words)));
	if (owners.length > 0) blocks.push(ownersTable(owners));
	blocks.push(...totalLines(audit));
	if (pages.length > 0) blocks.push(pagesTable(audit));
	if (first !== null) {
		const how = first.what === "breach" ? "breached" : "exposed";
		blocks.push(list(`The first ${how} byte, at gpa ${hex(first.gpa)}:`, historyLines(first, scenario)));
	}
	if (findings.length > 0) blocks.push(list("Properties that did not hold:", findings.map(findingItem)));
	blocks.push(...notes.map((note) => paragraph(`note: ${note}`, "note")));
	blocks.push(paragraph(answer(audit), "answer"));
	return report("What a DMA policy leaks of a workload", [{ title: policyTitle(policy), blocks }]);
}
