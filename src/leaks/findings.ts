/** What a monitor found, merged by property and device. */

import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import type { Gpa } from "../types.ts";
import { PROPERTIES, PROPERTY_NAMES, type PropertyKind, type PropertyName } from "./properties.ts";

/** One violation, as it was met. */
export interface Occurrence {
	/** First byte concerned, or null: it is about no byte. */
	readonly gpa: Gpa | null;
	/** Name of the device, or null: no single one. */
	readonly device: string | null;
	/** Number of the mapping in the audit's log, or null. */
	readonly mapping: number | null;
	/** Number of the event in the audit's log, or null: seen in the state, not in an event. */
	readonly event: number | null;
	/** gpa of the page that holds `gpa`, or null. */
	readonly page: Gpa | null;
	readonly text: string;
}

/** All violations of one property by one device. */
export interface Finding {
	readonly property: PropertyName;
	/** As the property's, but a breach when the bytes are an accepted device's. */
	readonly kind: PropertyKind;
	/** Bytes concerned, each violation anew; 0 where it is about none. */
	readonly bytes: number;
	/** Violations. */
	readonly count: number;
	/** Longest time that a byte stayed (ns): of residue-in-freed-slots alone, else 0. */
	readonly longestNs: number;
	readonly first: Occurrence;
}

/** What a check saw. */
export interface Seen {
	readonly gpa?: Gpa;
	readonly device?: string | null;
	readonly mapping?: number;
	readonly event?: number;
	/** Default 0. */
	readonly bytes?: number;
	/** Whether the bytes are an accepted device's. Default false. */
	readonly accepted?: boolean;
	/** Default 0. */
	readonly longestNs?: number;
	/** Asked of the first alone: most violations are merged. */
	readonly text: () => string;
}

type Kept = { -readonly [key in keyof Finding]: Finding[key] };

/** Findings, at most one for each property, device and kind. */
export class Findings {
	readonly #kept = new Map<string, Kept>();

	add(property: PropertyName, seen: Seen): void {
		const designed = PROPERTIES[property].kind;
		const { gpa = null, device = null, mapping = 0, event = null, bytes = 0, longestNs = 0, text } = seen;
		const kind = designed === "exposure" && seen.accepted === true ? "breach" : designed;
		const key = `${property} ${kind} ${device}`;
		const kept = this.#kept.get(key);
		if (kept !== undefined) {
			kept.bytes += bytes;
			kept.count++;
			kept.longestNs = Math.max(kept.longestNs, longestNs);
			return;
		}
		const page = gpa === null ? null : gpa - (gpa % PAGE_SIZE);
		const first = { gpa, device, mapping: mapping === 0 ? null : mapping, event, page, text: text() };
		this.#kept.set(key, { property, kind, bytes, count: 1, longestNs, first });
	}

	/** Says how long bytes stayed that a finding is about already. */
	stayed(property: PropertyName, device: string | null, ns: number): void {
		for (const kept of this.#kept.values())
			if (kept.property === property && kept.first.device === device) kept.longestNs = Math.max(kept.longestNs, ns);
	}

	/** In the order of the properties. Allocates. */
	get list(): readonly Finding[] {
		const place = ({ property }: Kept) => PROPERTY_NAMES.indexOf(property);
		return [...this.#kept.values()].sort((a, b) => place(a) - place(b));
	}
}
