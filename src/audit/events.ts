/** The audit's log, read. */
import * as layout from "../../assembly/layout/audit.ts";
import { type StatusName, statusName } from "../status.ts";
import type { DmaAddr, Gpa } from "../types.ts";
import type { Instance } from "../wasm.ts";

const KINDS = {
	[layout.EVENT_MAP]: "map",
	[layout.EVENT_UNMAP]: "unmap",
	[layout.EVENT_SYNC_FOR_DEVICE]: "sync for device",
	[layout.EVENT_SYNC_FOR_CPU]: "sync for cpu",
	[layout.EVENT_COPY]: "copy",
	[layout.EVENT_WRITE]: "write",
	[layout.EVENT_READ]: "read",
	[layout.EVENT_FILL]: "fill",
	[layout.EVENT_CONVERT]: "convert",
	[layout.EVENT_TAKE]: "take slots",
	[layout.EVENT_GIVE]: "give slots",
} as const;
export type EventKind = (typeof KINDS)[keyof typeof KINDS];

/** One thing that happened to RAM. */
export interface AuditEvent {
	/** Counts all events from 0. */
	readonly number: number;
	readonly kind: EventKind;
	/** Device, or Actor of a read or write; -1 for the guest's own. */
	readonly device: number;
	/** Number of the mapping that it belongs to, 0: none. A map and its copies, unmap and syncs have the same. */
	readonly mapping: number;
	/** Direction of a map, unmap or sync. */
	readonly dir: number;
	/** Why a call was refused, or null. */
	readonly status: StatusName | null;
	readonly timeNs: number;
	/** gpa that bytes went to, or -1: outside RAM. Of a map or take: the original's gpa. Of a conversion: the pages. */
	readonly gpa: Gpa;
	/** gpa that bytes came from, or -1: from outside RAM. */
	readonly from: Gpa;
	/** Of a map, unmap or sync: the DMA address; else -1. */
	readonly dma: DmaAddr;
	/** Of slots that are taken or given back: their address; else -1. */
	readonly tlb: Gpa;
	readonly bytes: number;
	readonly attrs: number;
	/** Page state (PageState) where bytes went to, or came from; of a conversion: the new one. */
	readonly state: number;
	/** Label of the first byte. */
	readonly label: number;
	/** Bytes of private origin that it put on shared pages, and on hidden ones. */
	readonly sharedBytes: number;
	readonly hiddenBytes: number;
	/** Of sharedBytes: those whose owner was accepted when they were labelled, and the first of these labels, or 0. */
	readonly acceptedBytes: number;
	readonly acceptedLabel: number;
}

export class EventReader {
	readonly #instance: Instance;
	readonly #ptr: number;
	readonly #max: number;
	readonly #gpaOf: (span: number) => Gpa;

	/** ptr: the audit's block; gpaOf: the gpa of a span offset, or -1 */
	constructor(instance: Instance, ptr: number, gpaOf: (span: number) => Gpa) {
		this.#instance = instance;
		this.#ptr = ptr;
		this.#gpaOf = gpaOf;
		this.#max = instance.u32(ptr + layout.AUDIT_MAX_EVENTS);
	}

	get count(): number {
		return this.#instance.u64(this.#ptr + layout.AUDIT_EVENT_COUNT);
	}

	get first(): number {
		return Math.max(0, this.count - this.#max);
	}

	events(from: number): AuditEvent[] {
		const events: AuditEvent[] = [];
		for (let number = Math.max(from, this.first); number < this.count; number++) events.push(this.event(number));
		return events;
	}

	event(number: number): AuditEvent {
		if (!(Number.isInteger(number) && number >= this.first && number < this.count))
			throw new RangeError(`audit: the log holds events ${this.first} to ${this.count - 1}, not ${number}`);
		const { data } = this.#instance;
		const events = this.#ptr + this.#instance.u32(this.#ptr + layout.AUDIT_EVENTS);
		const at = events + (number % this.#max) * layout.EVENT_RECORD_BYTES;
		const code = data.getUint8(at + layout.EVENT_KIND) as keyof typeof KINDS;
		const kind = KINDS[code];
		const to = data.getFloat64(at + layout.EVENT_TO, true);
		const from = data.getFloat64(at + layout.EVENT_FROM, true);
		const status = data.getInt32(at + layout.EVENT_STATUS, true);
		return {
			number,
			kind,
			device: data.getInt32(at + layout.EVENT_DEVICE, true),
			mapping: data.getUint32(at + layout.EVENT_MAPPING, true),
			dir: data.getUint8(at + layout.EVENT_DIR),
			status: status < 0 ? statusName(status) : null,
			timeNs: data.getFloat64(at + layout.EVENT_TIME, true),
			...this.#places(kind, to, from),
			bytes: data.getUint32(at + layout.EVENT_LENGTH, true),
			attrs: data.getUint32(at + layout.EVENT_ATTRS, true),
			state: data.getUint8(at + layout.EVENT_STATE),
			label: data.getUint8(at + layout.EVENT_LABEL),
			sharedBytes: data.getUint32(at + layout.EVENT_SHARED_BYTES, true),
			hiddenBytes: data.getUint32(at + layout.EVENT_HIDDEN_BYTES, true),
			acceptedBytes: data.getUint32(at + layout.EVENT_ACCEPTED_BYTES, true),
			acceptedLabel: data.getUint32(at + layout.EVENT_ACCEPTED_LABEL, true),
		};
	}

	/** What the two addresses of a record are, by its kind. */
	#places(kind: EventKind, to: number, from: number): Pick<AuditEvent, "gpa" | "from" | "dma" | "tlb"> {
		const span = (offset: number) => (offset < 0 ? -1 : this.#gpaOf(offset));
		switch (kind) {
			case "map":
				return { gpa: from, from: -1, dma: to, tlb: -1 };
			case "take slots":
				return { gpa: from, from: -1, dma: -1, tlb: to };
			case "unmap":
			case "sync for device":
			case "sync for cpu":
				return { gpa: -1, from: -1, dma: from, tlb: -1 };
			case "give slots":
				return { gpa: -1, from: -1, dma: -1, tlb: from };
			default:
				return { gpa: span(to), from: span(from), dma: -1, tlb: -1 };
		}
	}
}
