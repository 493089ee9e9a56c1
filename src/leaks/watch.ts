/** What the checks look at, and how they name things. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import type { Audit, Label } from "../audit/audit.ts";
import { labelRuns } from "../audit/runs.ts";
import type { Guest } from "../coco/guest/guest.ts";
import { hex } from "../status.ts";
import type { Pool } from "../swiotlb/pool.ts";
import { directionName, type Gpa } from "../types.ts";
import type { DeviceWatch } from "./devices.ts";
import type { Findings } from "./findings.ts";
import type { Mapping, Mappings } from "./mappings.ts";
import type { PageReplay } from "./pages.ts";
import type { RangeSet } from "./ranges.ts";

export interface Watch {
	readonly guest: Guest;
	readonly audit: Audit;
	readonly devices: DeviceWatch;
	readonly pages: PageReplay;
	readonly mappings: Mappings;
	readonly findings: Findings;
	/** Bytes, by gpa, that devices wrote straight to shared pages: their drivers gave these to everybody. */
	readonly given: RangeSet;
	/** How many ended buffers a check remembers. */
	readonly keep: number;
}

/** The common pool that holds `gpa`, or null. */
export function poolAt({ guest }: Watch, gpa: Gpa): Pool | null {
	return guest.engine.pools.find(({ start, bytes }) => gpa >= start && gpa < start + bytes) ?? null;
}

/** Runs of private labels in [from, to), page by page. */
export function* privateRuns(
	audit: Audit,
	from: Gpa,
	to: Gpa,
): Generator<{ readonly gpa: Gpa; readonly bytes: number; readonly label: Label }> {
	for (let at = from; at < to; ) {
		const labels = audit.labelsAt(at, Math.min(to - at, PAGE_SIZE - (at % PAGE_SIZE)));
		for (const run of labelRuns(labels)) {
			const label = run.number === 0 ? null : audit.labelOf(run.number);
			if (label?.isPrivate === true) yield { gpa: at + run.at, bytes: run.end - run.at, label };
		}
		at += labels.length;
	}
}

/** A mapping in words. */
export function mappingText({ devices }: Watch, { number, device, gpa, bytes, dir, tlb }: Mapping): string {
	const from = gpa < 0 ? "" : `${hex(gpa)}, `;
	const where = tlb === null ? "direct" : `bounced to ${hex(tlb)}`;
	return `mapping ${number} of "${devices.nameOf(device)}": ${from}${count(bytes)} ${directionName(dir)}, ${where}`;
}

/** A number of bytes in words. */
export function count(bytes: number): string {
	return bytes === 1 ? "1 byte" : `${bytes.toLocaleString("en-US")} bytes`;
}
