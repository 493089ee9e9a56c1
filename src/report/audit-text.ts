/** An audit as a person reads it. */
import { formatBytes } from "../bytes.ts";
import type { Finding } from "../leaks/findings.ts";
import { hex } from "../status.ts";
import type { AuditReport, OwnerReport } from "../study/audit.ts";
import { formatNumber, textTable } from "./table.ts";
import { causeText } from "./verdict.ts";

/** A time of the trace. */
function formatNs(ns: number): string {
	if (ns >= 1e9) return `${formatNumber(ns / 1e9)} s`;
	if (ns >= 1e6) return `${formatNumber(ns / 1e6)} ms`;
	return ns >= 1e3 ? `${formatNumber(ns / 1e3)} us` : `${formatNumber(ns)} ns`;
}

function exact(bytes: number): string {
	return `${bytes.toLocaleString("en-US")} bytes`;
}

/** What a policy knows as acceptance, and whose rules it changes, for the line above its figures. */
export function headerLine({ policy }: Pick<AuditReport, "policy">): string {
	const rules = policy.kernel === "linux-6.12" ? "rules of Linux 6.12" : "rules after the 7.3 merge";
	const known = {
		none: "knows no acceptance",
		offer: "acceptance from the offer",
		tdisp: "acceptance from TDISP",
		any: "acceptance from the offer or TDISP",
		driver: "acceptance is the driver's word",
	}[policy.acceptance];
	return `${policy.name}: ${rules}, ${known}; ${policy.title}`;
}

/** The sentence that an audit ends with. */
function verdictLine(report: AuditReport): string {
	const { refused, breachedBytes, exposedBytes, neighbourBytes, confidential } = report;
	if (refused !== null) return `Nothing ran: ${causeText(refused)}.`;
	if (breachedBytes > 0)
		return `BREACH: ${exact(breachedBytes)} of an accepted device's data reached pages that the host reads.`;
	const beside = neighbourBytes === 0 ? "" : ` ${exact(neighbourBytes)} of its neighbours did.`;
	if (exposedBytes > 0)
		return `Exposed, as designed for a device that is not trusted: ${exact(exposedBytes)} reached pages that the host reads.${beside}`;
	const whose = confidential ? "the accepted device's data" : "the device's data";
	return `No byte of ${whose} reached a page that the host reads.${beside}`;
}

function ownerRows(owners: readonly OwnerReport[]): string {
	const row = (label: string, figure: (owner: OwnerReport) => string) => [label, ...owners.map(figure)];
	return textTable([
		["", ...owners.map(({ owner, confidential }) => (confidential ? `${owner} (confidential)` : owner))],
		row("reached shared pages", ({ sharedBytes }) => exact(sharedBytes)),
		row("  by the first copy of FROM_DEVICE", ({ initialBytes }) => exact(initialBytes)),
		row("  by pages that were shared in place", ({ convertedBytes }) => exact(convertedBytes)),
		row("reached pages hidden from the host", ({ hiddenBytes }) => exact(hiddenBytes)),
		row("readable at the end", ({ standingBytes }) => exact(standingBytes)),
		row("  on pages", ({ standingPages }) => formatNumber(standingPages)),
		row("  in slots that are free", ({ residueBytes }) => exact(residueBytes)),
		row("  the oldest since", (o) => (o.residueBytes === 0 ? "-" : formatNs(o.oldestResidueNs))),
		row("stayed in free slots until taken again", ({ endedResidueBytes }) => exact(endedResidueBytes)),
		row("  mean time", (o) => (o.endedResidueBytes === 0 ? "-" : formatNs(o.meanResidueNs))),
		row("  longest", (o) => (o.endedResidueBytes === 0 ? "-" : formatNs(o.longestResidueNs))),
	]);
}

function counts(list: Readonly<Record<string, number>>): string {
	const parts = Object.entries(list).map(([name, count]) => `${formatNumber(count)} ${name}`);
	return parts.length === 0 ? "none" : parts.join(", ");
}

/** A property that did not hold: how often, and the first time. */
function findingLines({ property, kind, bytes, count, longestNs, first }: Finding): string[] {
	const amount = [`${formatNumber(count)} times`, ...(bytes > 0 ? [exact(bytes)] : [])];
	if (longestNs > 0) amount.push(`up to ${formatNs(longestNs)}`);
	return [`  ${property} (${kind}): ${amount.join(", ")}`, `    first: ${first.text}`];
}

/** The whole report. */
export function auditText(report: AuditReport): string {
	const { workload, scenario, platform, device, drive, requests, bytes, first, pages } = report;
	const lines = [
		headerLine(report),
		`${workload}: ${formatNumber(requests)} requests, ${formatBytes(bytes)}, on ${device} (${scenario}) on ${platform}`,
	];
	if (drive === null) return [...lines, "", verdictLine(report)].join("\n");
	const { directMaps, bouncedMaps } = report;
	const undelivered =
		Object.keys(drive.undelivered).length === 0 ? [] : [`not delivered: ${counts(drive.undelivered)}`];
	lines.push(
		`${formatNumber(directMaps)} direct maps, ${formatNumber(bouncedMaps)} bounced, ${formatNumber(drive.sharedInPlace)} page conversions; refused commands: ${counts(drive.refused)}`,
		...undelivered,
		...(drive.crash === null ? [] : [`crash: ${causeText(drive.crash)}`]),
	);
	if (report.owners.length > 0) lines.push("", ownerRows(report.owners));
	if (pages.length > 0) {
		const more = report.pagesStanding > pages.length ? `, the ${pages.length} with most` : "";
		lines.push(
			"",
			`${formatNumber(report.pagesEver)} pages ever held such bytes, ${formatNumber(report.pagesStanding)} do at the end${more}:`,
		);
		const rows = pages.map((page) => [hex(page.gpa), page.owner, exact(page.standingBytes), exact(page.everBytes)]);
		lines.push(textTable([["page", "owner", "now", "ever"], ...rows]));
	}
	if (first !== null) {
		const what = first.what === "breach" ? "breached" : "exposed";
		lines.push("", `The first ${what} byte, at gpa ${hex(first.gpa)}:`, ...first.history.map((line) => `  ${line}`));
	}
	if (report.findings.length > 0) {
		lines.push("", "Properties that did not hold:");
		lines.push(...report.findings.flatMap(findingLines));
	}
	lines.push(...report.notes.map((note) => `note: ${note}`));
	return [...lines, "", verdictLine(report)].join("\n");
}
