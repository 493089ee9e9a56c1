/** What stands in each byte of RAM and how it came there: the face of the build `engine.audit`. */
import * as layout from "../../assembly/layout/audit.ts";
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import type { Region } from "../memory/ram.ts";
import { hex, orThrow } from "../status.ts";
import type { Gpa } from "../types.ts";
import type { Instance } from "../wasm.ts";
import { type AuditEvent, EventReader } from "./events.ts";
import { labelRuns } from "./runs.ts";

/** Who reads and writes: a device has its number in the engine. */
export type Actor = number;
export const Actor = {
	Guest: layout.ACTOR_GUEST,
	Paravisor: layout.ACTOR_PARAVISOR,
	Host: layout.ACTOR_HOST,
} as const;

/** What a byte is. */
export interface Label {
	/** 1 .. 255; a byte that is nothing known is 0. */
	readonly number: number;
	/** Number of the device whose data it is, or -1. */
	readonly owner: number;
	/** Whether it comes from private memory, or from a device that reaches private memory. */
	readonly isPrivate: boolean;
	/** Whether whoever wrote it counts on its staying confidential. */
	readonly secret: boolean;
	/** Whether its owner was accepted when the label was made. */
	readonly accepted: boolean;
}

/** What became of a label's bytes so far. */
export interface LabelTotals {
	/** Bytes ever put on shared pages and on hidden ones, each time anew. */
	readonly sharedBytes: number;
	readonly hiddenBytes: number;
	/** Of sharedBytes: by the copy that starts a FROM_DEVICE mapping; by pages that became shared with their contents. */
	readonly initialBytes: number;
	readonly convertedBytes: number;
	/** Of what stayed in freed slots and was overwritten there: bytes, bytes times ns, and the longest stay (ns). */
	readonly residueBytes: number;
	readonly residueByteNs: number;
	readonly residueMaxNs: number;
}

export class Audit {
	readonly #instance: Instance;
	readonly #ptr: number;
	readonly #regions: readonly Region[];
	readonly #spanPtr: number;
	readonly #labels: (Label | undefined)[] = [];
	readonly #reader: EventReader;
	#nextLabel: number = layout.LABEL_FIRST;

	/** Made by Engine. ptr: the audit's block; regions as the engine's RAM has them */
	constructor(instance: Instance, ptr: number, regions: readonly Region[]) {
		this.#instance = instance;
		this.#ptr = ptr;
		this.#regions = regions;
		this.#spanPtr = instance.u32(ptr + layout.AUDIT_SPAN_PTR);
		this.#reader = new EventReader(instance, ptr, (span) => this.#gpaOf(span));
		this.#define(layout.LABEL_GUEST, { owner: -1, isPrivate: true, secret: true, accepted: false });
		this.#define(layout.LABEL_HOST, { owner: layout.ACTOR_HOST, isPrivate: false, secret: false, accepted: false });
	}

	#define(number: number, spec: Omit<Label, "number">): Label {
		const label = { number, ...spec };
		const at = this.#labelPtr(number);
		const flags =
			(spec.isPrivate ? layout.LABEL_PRIVATE : 0) |
			(spec.secret ? layout.LABEL_SECRET : 0) |
			(spec.accepted ? layout.LABEL_ACCEPTED : 0);
		this.#instance.data.setUint32(at + layout.LABEL_FLAGS, flags, true);
		this.#instance.data.setInt32(at + layout.LABEL_OWNER, spec.owner, true);
		this.#labels[number] = label;
		return label;
	}

	#labelPtr(number: number): number {
		return this.#ptr + layout.AUDIT_HEADER_BYTES + number * layout.LABEL_BYTES;
	}

	/** The label with these properties: the same each time. @throws RangeError when all 253 are taken */
	label(spec: Omit<Label, "number">): Label {
		const { owner, isPrivate, secret, accepted } = spec;
		const same = this.#labels.find(
			(one) =>
				one !== undefined &&
				one.owner === owner &&
				one.isPrivate === isPrivate &&
				one.secret === secret &&
				one.accepted === accepted,
		);
		if (same !== undefined) return same;
		if (this.#nextLabel === layout.LABEL_HOST) throw new RangeError("audit: all labels are taken");
		return this.#define(this.#nextLabel++, { owner, isPrivate, secret, accepted });
	}

	/** Every label that was made. */
	get labels(): readonly Label[] {
		return this.#labels.filter((label) => label !== undefined);
	}

	/** The label of a number, or null: 0, or a number that was never made. */
	labelOf(number: number): Label | null {
		return this.#labels[number] ?? null;
	}

	totals({ number }: Pick<Label, "number">): LabelTotals {
		const at = this.#labelPtr(number);
		const { data } = this.#instance;
		return {
			sharedBytes: this.#instance.u64(at + layout.LABEL_SHARED_BYTES),
			hiddenBytes: this.#instance.u64(at + layout.LABEL_HIDDEN_BYTES),
			initialBytes: this.#instance.u64(at + layout.LABEL_INITIAL_BYTES),
			convertedBytes: this.#instance.u64(at + layout.LABEL_CONVERTED_BYTES),
			residueBytes: this.#instance.u64(at + layout.LABEL_RESIDUE_BYTES),
			residueByteNs: data.getFloat64(at + layout.LABEL_RESIDUE_BYTE_NS, true),
			residueMaxNs: data.getFloat64(at + layout.LABEL_RESIDUE_MAX_NS, true),
		};
	}

	/** The label of what the guest's CPU writes from now on; null: none on shared pages, number 1 on others. */
	set pen(label: Pick<Label, "number"> | null) {
		this.#instance.data.setUint32(this.#ptr + layout.AUDIT_PEN, label?.number ?? 0, true);
	}

	/** The time that events take from now on (ns). */
	set nowNs(ns: number) {
		this.#instance.data.setFloat64(this.#ptr + layout.AUDIT_NOW, ns, true);
	}

	get nowNs(): number {
		return this.#instance.data.getFloat64(this.#ptr + layout.AUDIT_NOW, true);
	}

	/** Runs something as somebody else's reads and writes, with that one's label. */
	as<T>(actor: Actor, label: Pick<Label, "number"> | null, run: () => T): T {
		const { data } = this.#instance;
		const [actorAt, penAt] = [this.#ptr + layout.AUDIT_ACTOR, this.#ptr + layout.AUDIT_PEN];
		const before = [data.getInt32(actorAt, true), data.getUint32(penAt, true)] as const;
		data.setInt32(actorAt, actor, true);
		data.setUint32(penAt, label?.number ?? 0, true);
		try {
			return run();
		} finally {
			this.#instance.data.setInt32(actorAt, before[0], true);
			this.#instance.data.setUint32(penAt, before[1], true);
		}
	}

	/** Says what stands in a range, all in one region, whoever wrote it. null: nothing known @throws DmaError OUTSIDE_RAM, BAD_SIZE */
	paint(gpa: Gpa, bytes: number, label: Pick<Label, "number"> | null): void {
		const number = label?.number ?? 0;
		this.#shadow(gpa, bytes).fill(number);
		this.#units(gpa, bytes, (word, start) => {
			const whole = start >= gpa && start + IO_TLB_SIZE <= gpa + bytes;
			if (whole) this.#instance.data.setUint16(word, number, true);
		});
	}

	/** Labels of a range, all in one region, a byte each: a view to read before anything else happens to RAM. @throws DmaError OUTSIDE_RAM, BAD_SIZE */
	labelsAt(gpa: Gpa, bytes: number): Uint8Array {
		return this.#shadow(gpa, bytes);
	}

	#shadow(gpa: Gpa, bytes: number): Uint8Array {
		const at = this.#shadowPtr(gpa, bytes);
		// where a word stands for all bytes of 2 KiB, they are written now
		this.#units(gpa, bytes, (word, start) => {
			const { data } = this.#instance;
			const number = data.getUint16(word, true);
			if (number === layout.MIXED) return;
			data.setUint16(word, layout.MIXED, true);
			this.#instance.bytes.fill(number, at + (start - gpa), at + (start - gpa) + IO_TLB_SIZE);
		});
		return this.#instance.bytes.subarray(at, at + bytes);
	}

	#shadowPtr(gpa: Gpa, bytes: number): number {
		const ram = orThrow(this.#instance.exports.ramPtr(gpa, bytes), () => `audit(gpa ${hex(gpa)}, ${bytes} bytes)`);
		return this.#ptr + this.#instance.u32(this.#ptr + layout.AUDIT_SHADOW) + (ram - this.#spanPtr);
	}

	/** Each 2 KiB that a range touches: ptr of its word, and its first gpa. */
	#units(gpa: Gpa, bytes: number, visit: (word: number, start: Gpa) => void): void {
		const shadow = this.#ptr + this.#instance.u32(this.#ptr + layout.AUDIT_SHADOW);
		const words = this.#ptr + this.#instance.u32(this.#ptr + layout.AUDIT_UNIFORM);
		const span = this.#shadowPtr(gpa, bytes) - shadow;
		for (let start = gpa - (span % IO_TLB_SIZE); start < gpa + bytes; start += IO_TLB_SIZE)
			visit(words + ((span + start - gpa) / IO_TLB_SIZE) * 2, start);
	}

	/** When the 2 KiB that hold `gpa` were last given back as a slot (ns), or -1: never, or taken since. */
	freedAtNs(gpa: Gpa): number {
		return Math.max(this.#unit(gpa), -1);
	}

	/** Number of the mapping that holds the slot of `gpa` now, or 0: none, or no slot. @throws DmaError OUTSIDE_RAM */
	holderAt(gpa: Gpa): number {
		return Math.max(-1 - this.#unit(gpa), 0);
	}

	/** What the audit keeps of 2 KiB of RAM: when they were freed (ns), -1: never, or -1 - the mapping that holds them. */
	#unit(gpa: Gpa): number {
		const ram = orThrow(this.#instance.exports.ramPtr(gpa, 1), () => `audit(gpa ${hex(gpa)})`);
		const freed = this.#ptr + this.#instance.u32(this.#ptr + layout.AUDIT_FREED);
		return this.#instance.data.getFloat64(freed + ((ram - this.#spanPtr) >>> 11) * 8, true);
	}

	/** Bytes of private origin that the page of `gpa` ever got while it was shared, each time anew, modulo 2^32. */
	pageBytes(gpa: Gpa): number {
		const ram = orThrow(this.#instance.exports.ramPtr(gpa, 1), () => `audit(gpa ${hex(gpa)})`);
		const pages = this.#ptr + this.#instance.u32(this.#ptr + layout.AUDIT_PAGE_BYTES);
		return this.#instance.u32(pages + Math.floor((ram - this.#spanPtr) / PAGE_SIZE) * 4);
	}

	#gpaOf(span: number): Gpa {
		const ptr = this.#spanPtr + span;
		const region = this.#regions.find((one) => ptr >= one.ptr && ptr < one.ptr + one.bytes);
		return region === undefined ? -1 : region.gpa + (ptr - region.ptr);
	}

	/** Events ever logged. */
	get eventCount(): number {
		return this.#reader.count;
	}

	/** Number of the oldest event that the log still holds. */
	get firstEvent(): number {
		return this.#reader.first;
	}

	/** An event by its number, from firstEvent to eventCount - 1. @throws RangeError for one that is not there */
	event(number: number): AuditEvent {
		return this.#reader.event(number);
	}

	/** Events from `from` on that the log still holds, the oldest first. Allocates. */
	events(from = 0): AuditEvent[] {
		return this.#reader.events(from);
	}

	/** Plants faults for tests: MUTATE_* bits of assembly/layout/audit.ts. */
	set mutations(bits: number) {
		this.#instance.data.setUint32(this.#ptr + layout.AUDIT_MUTATIONS, bits, true);
	}

	/** Runs of equal, known labels in all pages of RAM, with each page's state. Allocates; for reports. */
	*runs(): Generator<{ readonly gpa: Gpa; readonly bytes: number; readonly label: Label; readonly page: Gpa }> {
		for (const region of this.#regions) {
			for (let page = region.gpa; page < region.gpa + region.bytes; page += PAGE_SIZE) {
				let known = false;
				this.#units(page, PAGE_SIZE, (word) => {
					known ||= this.#instance.data.getUint16(word, true) !== 0;
				});
				if (!known) continue;
				for (const { at, end, number } of labelRuns(this.#shadow(page, PAGE_SIZE))) {
					const label = this.#labels[number];
					if (label !== undefined) yield { gpa: page + at, bytes: end - at, label, page };
				}
			}
		}
	}
}
