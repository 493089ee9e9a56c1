/** The history of one byte of RAM, back to who wrote it. */

import { Actor, type Audit } from "../audit/audit.ts";
import type { AuditEvent } from "../audit/events.ts";
import type { Platform } from "../coco/platform/platform.ts";
import { PageState } from "../memory/ram.ts";
import type { Gpa } from "../types.ts";

/** What an event did to the byte. sync: a sync of a mapping that it came by; read: somebody else than the guest read it. */
export type HistoryRole = "write" | "fill" | "copy" | "map" | "sync" | "unmap" | "convert" | "read";

export interface HistoryStep {
	readonly role: HistoryRole;
	readonly event: AuditEvent;
	/** Where the byte was, after the event. */
	readonly gpa: Gpa;
	/** Of a map: where its bytes were bounced to, or null: direct, or it was refused. */
	readonly bouncedTo: number | null;
	/** How often: reads by the same party with nothing between them that changed the byte are one step. */
	readonly times: number;
}

export interface ByteHistory {
	readonly gpa: Gpa;
	/** The oldest first: the write that made the byte, unless that is not in the log. */
	readonly steps: readonly HistoryStep[];
	/** Whether the first step made the byte. If not, it comes from before the log: from the audit's start, or from events that were overwritten. */
	readonly complete: boolean;
	/** Events that the log no longer holds. */
	readonly goneEvents: number;
}

export interface HistoryOptions {
	/** The guest's: then a conversion that does not keep a page's contents makes its bytes. Default: all are kept. */
	readonly platform?: Pick<Platform, "conversion">;
}

type Contents = HistoryOptions["platform"] | null;

/** Where the byte was from one event on. */
interface Stay {
	readonly gpa: Gpa;
	/** The event that brought it there; null: it was there before the log. */
	readonly since: AuditEvent | null;
}

/**
 * The history of the byte at `gpa`, as far as the log goes back: which copies brought it there and which mappings they
 * belong to, what was mapped and converted where it stood, who read it. Walks the whole log: for reports.
 * @throws DmaError OUTSIDE_RAM
 */
export function historyOf(audit: Audit, gpa: Gpa, options: HistoryOptions = {}): ByteHistory {
	audit.labelsAt(gpa, 1);
	const events = audit.events();
	const { stays, complete } = staysOf(events, gpa, options.platform ?? null);
	const steps: HistoryStep[] = [];
	const numbers = new Set(stays.flatMap(({ since }) => (since === null || since.mapping === 0 ? [] : [since.mapping])));
	for (const [i, { gpa: at, since }] of stays.entries()) {
		if (since !== null) keep(steps, { role: roleOf(since), event: since, gpa: at, bouncedTo: null, times: 1 });
		const direct = new Set(events.filter((event) => event.kind === "map" && covers(event, at)).map(nameOf));
		const from = since?.number ?? -1;
		const to = stays[i + 1]?.since?.number ?? Number.POSITIVE_INFINITY;
		for (const event of events) {
			if (event.number <= from || event.number >= to) continue;
			const role = meets(event, at, { numbers, direct });
			if (role === null) continue;
			if (role === "map" && event.status === null) numbers.add(event.mapping);
			keep(steps, { role, event, gpa: at, bouncedTo: role === "map" ? bounceOf(events, event) : null, times: 1 });
		}
	}
	return { gpa, steps, complete, goneEvents: audit.firstEvent };
}

/** Where the byte was, the first place first. */
function staysOf(events: readonly AuditEvent[], gpa: Gpa, platform: Contents) {
	const stays: Stay[] = [];
	let at = gpa;
	for (let i = events.length - 1; i >= 0; i--) {
		const event = events[i] as AuditEvent;
		const { kind } = event;
		if (kind === "map" || kind === "take slots" || !covers(event, at)) continue;
		const makes = kind === "write" || kind === "fill" || (kind === "convert" && remakes(events, i, at, platform));
		if (!makes && (kind !== "copy" || event.from < 0)) continue;
		stays.unshift({ gpa: at, since: event });
		if (makes) return { stays, complete: true };
		at = event.from + (at - event.gpa);
	}
	stays.unshift({ gpa: at, since: null });
	return { stays, complete: false };
}

/** Whether a conversion leaves other bytes than it found. */
function remakes(events: readonly AuditEvent[], index: number, gpa: Gpa, platform: Contents) {
	const { state } = events[index] as AuditEvent;
	if (!platform || !usable(state)) return false;
	const before = events.findLast(
		(event, i) => i < index && event.kind === "convert" && usable(event.state) && covers(event, gpa),
	);
	const wasPrivate = before === undefined ? state !== PageState.Private : before.state === PageState.Private;
	if (wasPrivate === (state === PageState.Private)) return false;
	const { toPrivate, toShared } = platform.conversion;
	return (state === PageState.Private ? toPrivate : toShared) !== "kept";
}

function usable(state: number): boolean {
	return state !== PageState.InTransition;
}

function covers({ gpa, bytes }: Pick<AuditEvent, "gpa" | "bytes">, at: number): boolean {
	return gpa >= 0 && at >= gpa && at < gpa + bytes;
}

function roleOf({ kind }: AuditEvent): HistoryRole {
	return kind === "write" || kind === "fill" || kind === "convert" ? kind : "copy";
}

/** The mappings that a byte came by, lies in or is mapped by. */
interface Concerned {
	readonly numbers: Set<number>;
	/** Direct ones, by what their unmap names: the log has no number there. */
	readonly direct: ReadonlySet<string>;
}

/** What an event has to do with a byte that stands at `at`, beside moving it. */
function meets(event: AuditEvent, at: number, { numbers, direct }: Concerned): HistoryRole | null {
	switch (event.kind) {
		case "map":
		case "take slots":
			return covers(event, at) ? "map" : null;
		case "unmap":
		case "give slots":
			return numbers.has(event.mapping) || (event.mapping === 0 && direct.has(nameOf(event))) ? "unmap" : null;
		case "sync for device":
		case "sync for cpu":
			return numbers.has(event.mapping) ? "sync" : null;
		case "convert":
			return usable(event.state) && covers(event, at) ? "convert" : null;
		case "read":
			return event.device !== Actor.Guest && covers({ gpa: event.from, bytes: event.bytes }, at) ? "read" : null;
		default:
			return null;
	}
}

/** What a map and the unmap that ends it have in common. */
function nameOf({ device, dma, bytes, dir }: AuditEvent): string {
	return `${device} ${dma} ${bytes} ${dir}`;
}

/** Where a mapping's bytes went. */
function bounceOf(events: readonly AuditEvent[], map: AuditEvent): number | null {
	const copy = events.find(
		(event) => event.number > map.number && event.kind === "copy" && event.mapping === map.mapping,
	);
	return copy === undefined ? null : copy.gpa - (copy.from - map.gpa);
}

/** Adds a step; a party's reads one after the other are one. */
function keep(steps: HistoryStep[], step: HistoryStep): void {
	const last = steps.at(-1);
	if (step.role === "read" && last?.role === "read" && last.event.device === step.event.device)
		steps[steps.length - 1] = { ...last, times: last.times + 1 };
	else steps.push(step);
}
