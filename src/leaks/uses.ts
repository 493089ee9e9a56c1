/** Who touches mapped memory, and when: the device's side, and the guest's CPU. */
import type { AuditEvent } from "../audit/events.ts";
import { PageState } from "../memory/ram.ts";
import { hex } from "../status.ts";
import { Attr, Direction, type Gpa } from "../types.ts";
import { checkDeviceWrite } from "./copies.ts";
import { type Mapping, slotsOf } from "./mappings.ts";
import { bytesOf, RangeSet } from "./ranges.ts";
import { count, mappingText, poolAt, type Watch } from "./watch.ts";

/** What a device wrote and an unmap did not bring to the buffer. */
interface Lost {
	readonly device: number;
	readonly mapping: number;
	readonly bytes: RangeSet;
}

interface Operation {
	readonly name: string;
	readonly fetched: RangeSet;
}

/** Follows accesses. */
export class Uses {
	readonly #watch: Watch;
	readonly #lost: Lost[] = [];
	/** The operation of the guest that is under way. */
	#operation: Operation | null = null;

	constructor(watch: Watch) {
		this.#watch = watch;
	}

	beginOperation(name: string): void {
		this.#operation = { name, fetched: new RangeSet() };
	}

	endOperation(): void {
		this.#operation = null;
	}

	/** A device, the host or the paravisor read or wrote. */
	byOthers(event: AuditEvent): void {
		const { device, kind, bytes } = event;
		const gpa = kind === "read" ? event.from : event.gpa;
		const touched = this.#watch.mappings.touching(gpa, bytes);
		if (device >= 0) {
			this.#checkTrust(event, gpa);
			this.#checkMapped(event, gpa, touched);
		}
		for (const mapping of touched) {
			const base = mapping.tlb ?? mapping.gpa;
			const from = Math.max(gpa - base, 0);
			const to = Math.min(gpa + bytes - base, mapping.bytes);
			if (from >= to) continue;
			if (kind === "write") {
				mapping.filled.add(from, to);
				if (device !== mapping.device) continue;
				mapping.wrote.add(from, to);
				checkDeviceWrite(this.#watch, mapping, event);
			} else if (device === mapping.device) this.#checkDirty(mapping, event, from, to);
		}
		if (kind !== "write") return;
		this.#found(gpa, bytes);
		const { given } = this.#watch;
		given.remove(gpa, gpa + bytes);
		if (device >= 0 && event.state === PageState.Shared && !touched.some(({ tlb }) => tlb !== null))
			given.add(gpa, gpa + bytes);
	}

	/** A device without the guest's trust reached a private page, or wrote as one that has it. */
	#checkTrust(event: AuditEvent, gpa: Gpa): void {
		const { audit, devices, findings } = this.#watch;
		if (devices.at(event.device, event.number).t === 1) return;
		const wroteAsTrusted = event.kind === "write" && audit.labelOf(event.label)?.accepted === true;
		if (event.state !== PageState.Private && !wroteAsTrusted) return;
		const device = devices.nameOf(event.device);
		const text = () =>
			`"${device}" ${event.kind === "read" ? "reads" : "writes"} ${count(event.bytes)} at ${hex(gpa)} with T=1, and is not accepted in RUN`;
		findings.add("t1-only-in-run", { gpa, device, event: event.number, bytes: event.bytes, text });
	}

	/** Slots, or a buffer that it had, without a live mapping. */
	#checkMapped(event: AuditEvent, gpa: Gpa, touched: readonly Mapping[]): void {
		const { guest, devices, findings, mappings } = this.#watch;
		const own = new RangeSet();
		for (const { device, tlb, gpa: original, bytes } of touched) {
			if (device !== event.device) continue;
			const { from, to } = tlb === null ? { from: original, to: original + bytes } : slotsOf(tlb, bytes);
			own.add(from, to);
		}
		for (const { device, buffer } of guest.coherent.buffers())
			if (device === event.device) own.add(buffer.gpa, buffer.gpa + buffer.bytes);
		for (const [from, to] of own.missing(gpa, gpa + event.bytes)) {
			const had = mappings.ended.findLast((one) => one.device === event.device && one.from < to && from < one.to);
			const other = touched.find((one) => one.device !== event.device && one.tlb !== null);
			const inPool = poolAt(this.#watch, from) !== null && (other !== undefined || mappings.knows(from));
			if (had === undefined && !inPool) continue;
			const device = devices.nameOf(event.device);
			const was = had === undefined ? "which it never had" : `which its mapping ${had.mapping} has left`;
			const now =
				other === undefined ? "" : `, and which is mapping ${other.number} of "${devices.nameOf(other.device)}"`;
			const text = () =>
				`"${device}" ${event.kind === "read" ? "reads" : "writes"} ${count(to - from)} at ${hex(from)}, ${was}${now}`;
			const mapping = had?.mapping ?? 0;
			findings.add("use-after-unmap", { gpa: from, device, mapping, event: event.number, bytes: to - from, text });
		}
	}

	/** The device reads what the CPU wrote and no sync has given to it. */
	#checkDirty(mapping: Mapping, event: AuditEvent, from: number, to: number): void {
		const stale = mapping.dirty.within(from, to);
		const [first] = stale;
		if (first === undefined) return;
		const text = () =>
			`${mappingText(this.#watch, mapping)}: the device reads ${count(bytesOf(stale))} that the CPU wrote and no sync for device followed`;
		this.#breaksSync(mapping, event, mapping.gpa + first[0], bytesOf(stale), text);
	}

	#breaksSync(mapping: Mapping, event: AuditEvent, gpa: Gpa, bytes: number, text: () => string): void {
		const device = this.#watch.devices.nameOf(mapping.device);
		this.#watch.findings.add("sync-ordering", {
			gpa,
			device,
			mapping: mapping.number,
			event: event.number,
			bytes,
			text,
		});
	}

	/** The guest's CPU reads. */
	read(event: AuditEvent): void {
		const { from: gpa, bytes } = event;
		this.#checkFetch(event, gpa, bytes);
		for (const mapping of this.#watch.mappings.touching(gpa, bytes)) {
			const from = Math.max(gpa - mapping.gpa, 0);
			const to = Math.min(gpa + bytes - mapping.gpa, mapping.bytes);
			if (mapping.gpa < 0 || from >= to || mapping.dir === Direction.ToDevice) continue;
			const early = mapping.cpuOwned.missing(from, to);
			const [first] = early;
			if (first === undefined) continue;
			const text = () =>
				`${mappingText(this.#watch, mapping)}: the CPU reads ${count(bytesOf(early))} before a sync for cpu or the unmap`;
			this.#breaksSync(mapping, event, mapping.gpa + first[0], bytesOf(early), text);
		}
		for (const { device, mapping, bytes: lost } of this.#lost) {
			const parts = lost.within(gpa, gpa + bytes);
			const [first] = parts;
			if (first === undefined) continue;
			const name = this.#watch.devices.nameOf(device);
			const text = () =>
				`${count(bytesOf(parts))} that "${name}" wrote are not in the buffer at ${hex(first[0])}: mapping ${mapping} ended without a copy back`;
			const seen = { gpa: first[0], device: name, mapping, event: event.number, bytes: bytesOf(parts), text };
			this.#watch.findings.add("skip-sync-keeps-data", seen);
		}
	}

	/** What one operation reads a second time. */
	#checkFetch(event: AuditEvent, gpa: Gpa, bytes: number): void {
		const operation = this.#operation;
		if (operation === null || this.#watch.pages.stateAt(gpa) !== PageState.Shared) return;
		const again = operation.fetched.within(gpa, gpa + bytes);
		operation.fetched.add(gpa, gpa + bytes);
		const [first] = again;
		if (first === undefined) return;
		const text = () =>
			`"${operation.name}" reads ${count(bytesOf(again))} of a shared page at ${hex(first[0])} a second time`;
		this.#watch.findings.add("double-fetch", { gpa: first[0], event: event.number, bytes: bytesOf(again), text });
	}

	/** The guest's CPU writes. */
	write({ gpa, bytes }: AuditEvent): void {
		this.#watch.given.remove(gpa, gpa + bytes);
		for (const mapping of this.#watch.mappings.touching(gpa, bytes)) {
			const from = Math.max(gpa - mapping.gpa, 0);
			const to = Math.min(gpa + bytes - mapping.gpa, mapping.bytes);
			if (mapping.gpa >= 0 && mapping.dir !== Direction.FromDevice) mapping.dirty.add(from, to);
		}
		this.#found(gpa, bytes);
	}

	/** New bytes: what was lost there is missed no more. */
	#found(gpa: Gpa, bytes: number): void {
		for (let i = this.#lost.length - 1; i >= 0; i--) {
			const lost = this.#lost[i] as Lost;
			lost.bytes.remove(gpa, gpa + bytes);
			if (lost.bytes.ranges.length === 0) this.#lost.splice(i, 1);
		}
	}

	/** A sync of (part of) a mapping. */
	synced(mapping: Mapping, { kind, dma, bytes }: AuditEvent): void {
		const from = Math.max(dma - mapping.dma, 0);
		const to = Math.min(from + bytes, mapping.bytes);
		if (kind === "sync for cpu") mapping.cpuOwned.add(from, to);
		else {
			mapping.cpuOwned.remove(from, to);
			mapping.dirty.remove(from, to);
		}
	}

	/** A mapping has ended. */
	ended(mapping: Mapping, attrs: number): void {
		if ((attrs & Attr.SkipCpuSync) === 0 || mapping.tlb === null || mapping.gpa < 0) return;
		if (mapping.dir === Direction.ToDevice || mapping.wrote.ranges.length === 0) return;
		const bytes = new RangeSet();
		for (const [from, to] of mapping.wrote.ranges) bytes.add(mapping.gpa + from, mapping.gpa + to);
		this.#lost.push({ device: mapping.device, mapping: mapping.number, bytes });
		if (this.#lost.length > this.#watch.keep) this.#lost.shift();
	}

	/** Forgets everything: events were lost. */
	clear(): void {
		this.#lost.length = 0;
		this.#operation?.fetched.remove(0, Number.POSITIVE_INFINITY);
	}
}
