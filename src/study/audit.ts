/** A workload under a policy on the audit build: what the host could read, whose it was, and what stayed behind. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import type { Audit, Label } from "../audit/audit.ts";
import type { Finding } from "../leaks/findings.ts";
import { LeakMonitor } from "../leaks/monitor.ts";
import { PageState } from "../memory/ram.ts";
import type { Gpa } from "../types.ts";
import { type WorkloadSource, workloadOf } from "../workload/read.ts";
import { type TraceCounters, totalBytes, type Workload } from "../workload/workload.ts";
import { Drive, type DriveResult } from "./drive.ts";
import { FirstByte, type FirstByteReport } from "./first-byte.ts";
import type { GuestSize } from "./layout.ts";
import { headerOf, type PolicyHeader } from "./matrix.ts";
import { ownLabel } from "./part.ts";
import { AuditedQueue, type QueueReport } from "./queue.ts";
import { makeReplay, type Replay } from "./replay.ts";
import { type PolicyChoice, type Subject, subjectOf } from "./subject.ts";
import { NO_BYTES, type Verdict, verdictOf } from "./verdict.ts";

/** What became readable of one owner's bytes. Bytes count each time that they reach a shared page. */
export interface OwnerReport {
	/** The device's name, or "guest": pages of nobody's request. */
	readonly owner: string;
	/** Whether its offer or its accepted state makes its data confidential. */
	readonly confidential: boolean;
	readonly sharedBytes: number;
	/** Of these: by the copy that starts a FROM_DEVICE mapping, and by pages that became shared with their contents. */
	readonly initialBytes: number;
	readonly convertedBytes: number;
	/** On pages that the host does not map. */
	readonly hiddenBytes: number;
	/** On shared pages at the end. */
	readonly standingBytes: number;
	readonly standingPages: number;
	/** Of what stands: in slots that are free, and how long the oldest has been there (ns of the trace). */
	readonly residueBytes: number;
	readonly oldestResidueNs: number;
	/** Of what stayed in free slots until they were taken again: bytes, their mean time there, and the longest (ns). */
	readonly endedResidueBytes: number;
	readonly meanResidueNs: number;
	readonly longestResidueNs: number;
}

/**
 * Bytes of all owners, each time that one reaches a shared page counted once: what the other counts are parts of. By the way
 * there: firstCopyBytes + convertedBytes + sentBytes. By the end: readableBytes + endedResidueBytes + goneBytes, less twiceBytes.
 */
export interface ExposureTotal {
	readonly reachedBytes: number;
	/** By the copy that starts a FROM_DEVICE mapping; by pages that became shared with their contents; as it was meant to. */
	readonly firstCopyBytes: number;
	readonly convertedBytes: number;
	readonly sentBytes: number;
	/** On shared pages at the end, and of these in slots that are free. */
	readonly readableBytes: number;
	readonly residueBytes: number;
	/** Stayed in free slots until those were taken again. */
	readonly endedResidueBytes: number;
	/** Written over while it was mapped, or private again. At least, where twiceBytes is not 0. */
	readonly goneBytes: number;
	/** In two of those at least: slots were taken again by what did not fill them, so that what had stayed there stayed on. */
	readonly twiceBytes: number;
}

/** A page that the host reads, with what stands on it at the end and what it ever got. */
export interface PageReport {
	readonly gpa: Gpa;
	readonly owner: string;
	readonly standingBytes: number;
	readonly everBytes: number;
}

export interface AuditReport {
	readonly schema: "coco-dma/audit/1";
	/** The workload's name. */
	readonly workload: string;
	readonly policy: PolicyHeader;
	readonly scenario: string;
	readonly platform: string;
	readonly device: string;
	/** On the whole workload. Its cause is why nothing ran, or where the kernel ended. */
	readonly verdict: Verdict;
	readonly requests: number;
	readonly bytes: number;
	readonly directMaps: number;
	readonly bouncedMaps: number;
	/** Null: nothing ran. */
	readonly drive: DriveResult | null;
	readonly owners: readonly OwnerReport[];
	/** The pages with most of it, and how many there are: ever, and at the end. */
	readonly pages: readonly PageReport[];
	readonly pagesEver: number;
	readonly pagesStanding: number;
	/** The first byte of the device's that the host could read, else the first of its neighbours. */
	readonly first: FirstByteReport | null;
	/** Events logged, and of those no longer in the log. */
	readonly events: number;
	/** Properties that did not hold, and what the monitor could not see. */
	readonly findings: readonly Finding[];
	readonly notes: readonly string[];
	readonly trace: TraceCounters;
	/** The device's queue; null: it has none, or nothing ran. */
	readonly queue: QueueReport | null;
	/** Null: nothing ran. */
	readonly total: ExposureTotal | null;
}

/** Pages that a report names. */
const NAMED_PAGES = 8;
/** A trace's command makes a handful of events: the log holds what is needed to tell the first byte's history. */
const LOG_EVENTS = 2 ** 16;
/** The monitor looks at least once for so many events, long before the log forgets them. */
const LOOK_EVENTS = 2 ** 14;

/** Which policy, on what device, in what guest. */
export interface AuditOptions extends PolicyChoice, GuestSize {}

/**
 * Replays a workload under a policy on the audit build.
 * @throws RangeError that names the option and what it may be; InputError for a workload or a policy that does not fit
 */
export async function auditWorkload(source: WorkloadSource, options: AuditOptions): Promise<AuditReport> {
	const subject = await subjectOf(options);
	return auditSubject(await workloadOf(source), subject, options);
}

/** Audits a subject. @throws RangeError and InputError for options and workloads that do not fit */
export async function auditSubject(workload: Workload, subject: Subject, size: GuestSize = {}): Promise<AuditReport> {
	const common = {
		schema: "coco-dma/audit/1" as const,
		workload: workload.name,
		policy: headerOf(subject.setup),
		scenario: subject.scenario.name,
		platform: subject.place.platform,
		device: subject.preset.name,
		requests: workload.requests.length,
		bytes: totalBytes(workload),
		trace: workload.counters,
	};
	const on = await makeReplay(workload, subject, size, { build: "engine.audit", auditEvents: LOG_EVENTS });
	const { platform, encoded } = subject.place;
	const place = { part: "workload", platform, encoded };
	if ("what" in on) {
		const verdict = verdictOf({ ...place, ...NO_BYTES, confidential: false, cause: on, hazards: [] });
		return { ...common, ...NOTHING, verdict };
	}
	const { guest, device } = on.stage;
	const { audit } = guest.engine;
	if (audit === null) throw new Error("the build engine.audit audits nothing");
	const label = ownLabel(audit, device);
	const { queue: described } = subject.preset;
	const queue = described === null ? null : new AuditedQueue(guest, device, audit, described);
	const monitor = new LeakMonitor(guest);
	const first = new FirstByte(guest, audit, device);
	let looked = audit.eventCount;
	let now = 0;
	const drive = new Drive(on, {
		label,
		onEvent: (_, timeNs) => {
			// the clock of a trace may step back
			now = Math.max(now, timeNs);
			audit.nowNs = now;
		},
		onIssued: (command) => queue?.issued(command),
		onDone: (command) => queue?.done(command),
		onCommand: () => {
			first.look();
			if (audit.eventCount - looked < LOOK_EVENTS) return;
			monitor.look();
			looked = audit.eventCount;
		},
	}).run();
	const { directMaps, bouncedMaps } = device.dma.counters;
	const { bytes, ...read } = exposures(on, audit, queue?.label ?? null);
	// what a crash leaves mapped has not ended
	if (drive.crash === null) {
		queue?.end();
		monitor.end();
	} else monitor.look();
	return {
		...common,
		verdict: verdictOf({
			...place,
			...bytes,
			atOnceBytes: null,
			generations: 0,
			confidential: device.accepted,
			cause: drive.crash,
			hazards: [...new Set(guest.hazards.map(({ what }) => what))],
		}),
		directMaps,
		bouncedMaps,
		drive,
		...read,
		first: first.found,
		findings: monitor.findings,
		notes: monitor.notes,
		events: audit.eventCount,
		queue: queue?.report ?? null,
	};
}

const NOTHING = {
	directMaps: 0,
	bouncedMaps: 0,
	drive: null,
	owners: [],
	pages: [],
	pagesEver: 0,
	pagesStanding: 0,
	first: null,
	findings: [],
	notes: [],
	events: 0,
	queue: null,
	total: null,
};

/** What is, and ever was, on pages that the host reads. */
function exposures({ stage }: Replay, audit: Audit, queue: Label | null) {
	const { guest, device } = stage;
	const { ram } = guest.engine;
	const queueName = `${device.name} queue`;
	const nameOf = (label: Label) =>
		label.number === queue?.number ? queueName : label.owner === device.dma.index ? device.name : "guest";
	const isDevices = (owner: string) => owner === device.name || owner === queueName;
	const standing = new Map<string, { bytes: number; pages: Set<number>; residue: number; oldestNs: number }>();
	const pages = new Map<number, PageReport>();
	for (const { gpa, bytes, label, page } of audit.runs()) {
		if (!label.isPrivate || ram.pageState(page) !== PageState.Shared) continue;
		const owner = nameOf(label);
		const sum = standing.get(owner) ?? { bytes: 0, pages: new Set<number>(), residue: 0, oldestNs: 0 };
		sum.bytes += bytes;
		sum.pages.add(page);
		for (let at = gpa; at < gpa + bytes; ) {
			const end = Math.min(gpa + bytes, at - (at % IO_TLB_SIZE) + IO_TLB_SIZE);
			const freedNs = audit.freedAtNs(at);
			if (freedNs >= 0) {
				sum.residue += end - at;
				sum.oldestNs = Math.max(sum.oldestNs, audit.nowNs - freedNs);
			}
			at = end;
		}
		standing.set(owner, sum);
		const before = pages.get(page)?.standingBytes ?? 0;
		pages.set(page, { gpa: page, owner, standingBytes: before + bytes, everBytes: audit.pageBytes(page) });
	}
	const owners = [...new Set(audit.labels.filter(({ isPrivate }) => isPrivate).map(nameOf))].map((owner) =>
		ownerReport(audit, owner, isDevices(owner) && device.accepted, nameOf, standing.get(owner)),
	);
	const own = owners.filter(({ owner }) => isDevices(owner));
	let pagesEver = 0;
	for (const region of ram.regions)
		for (let page = region.gpa; page < region.gpa + region.bytes; page += PAGE_SIZE)
			if (audit.pageBytes(page) > 0) pagesEver++;
	return {
		bytes: {
			bytes: own.reduce((sum, { sharedBytes }) => sum + sharedBytes, 0),
			hiddenBytes: own.reduce((sum, { hiddenBytes }) => sum + hiddenBytes, 0),
			neighbourBytes: owners.find(({ owner }) => owner === "guest")?.sharedBytes ?? 0,
		},
		owners: owners.filter(
			({ sharedBytes, hiddenBytes, standingBytes }) => sharedBytes + hiddenBytes + standingBytes > 0,
		),
		pages: [...pages.values()].sort((a, b) => b.everBytes - a.everBytes).slice(0, NAMED_PAGES),
		pagesEver,
		pagesStanding: pages.size,
		total: totalOf(owners),
	};
}

/** What all owners' bytes come to, and how the counts overlap. */
function totalOf(owners: readonly OwnerReport[]): ExposureTotal {
	const sum = (count: (owner: OwnerReport) => number) => owners.reduce((all, owner) => all + count(owner), 0);
	const reachedBytes = sum((owner) => owner.sharedBytes);
	const firstCopyBytes = sum((owner) => owner.initialBytes);
	const convertedBytes = sum((owner) => owner.convertedBytes);
	const readableBytes = sum((owner) => owner.standingBytes);
	const endedResidueBytes = sum((owner) => owner.endedResidueBytes);
	const goneBytes = reachedBytes - readableBytes - endedResidueBytes;
	return {
		reachedBytes,
		firstCopyBytes,
		convertedBytes,
		sentBytes: reachedBytes - firstCopyBytes - convertedBytes,
		readableBytes,
		residueBytes: sum((owner) => owner.residueBytes),
		endedResidueBytes,
		goneBytes: Math.max(0, goneBytes),
		twiceBytes: Math.max(0, -goneBytes),
	};
}

function ownerReport(
	audit: Audit,
	owner: string,
	confidential: boolean,
	nameOf: (label: Label) => string,
	standing: { bytes: number; pages: Set<number>; residue: number; oldestNs: number } | undefined,
): OwnerReport {
	const sum = { sharedBytes: 0, initialBytes: 0, convertedBytes: 0, hiddenBytes: 0, ended: 0, byteNs: 0, longestNs: 0 };
	for (const label of audit.labels) {
		if (!label.isPrivate || nameOf(label) !== owner) continue;
		const totals = audit.totals(label);
		sum.sharedBytes += totals.sharedBytes;
		sum.initialBytes += totals.initialBytes;
		sum.convertedBytes += totals.convertedBytes;
		sum.hiddenBytes += totals.hiddenBytes;
		sum.ended += totals.residueBytes;
		sum.byteNs += totals.residueByteNs;
		sum.longestNs = Math.max(sum.longestNs, totals.residueMaxNs);
	}
	return {
		owner,
		confidential,
		sharedBytes: sum.sharedBytes,
		initialBytes: sum.initialBytes,
		convertedBytes: sum.convertedBytes,
		hiddenBytes: sum.hiddenBytes,
		standingBytes: standing?.bytes ?? 0,
		standingPages: standing?.pages.size ?? 0,
		residueBytes: standing?.residue ?? 0,
		oldestResidueNs: standing?.oldestNs ?? 0,
		endedResidueBytes: sum.ended,
		meanResidueNs: sum.ended === 0 ? 0 : sum.byteNs / sum.ended,
		longestResidueNs: sum.longestNs,
	};
}
