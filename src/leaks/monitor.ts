/** Watches a guest for the properties of confidential DMA. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { Actor } from "../audit/audit.ts";
import type { AuditEvent } from "../audit/events.ts";
import type { GuestDevice } from "../coco/guest/device.ts";
import type { Guest } from "../coco/guest/guest.ts";
import type { TdispStep } from "../coco/trust/tdisp.ts";
import { tdispStateName } from "../coco/trust/tdisp.ts";
import { Attr } from "../types.ts";
import type { ChannelClaim } from "./claims.ts";
import { checkConversion, checkCopy, checkOwnMove } from "./copies.ts";
import { DeviceWatch } from "./devices.ts";
import { type Finding, Findings } from "./findings.ts";
import { type Mapping, Mappings } from "./mappings.ts";
import { PageReplay } from "./pages.ts";
import { checkMap, checkTake } from "./placement.ts";
import { PROPERTIES, type Property } from "./properties.ts";
import { RangeSet } from "./ranges.ts";
import { Residue } from "./residue.ts";
import { StateChecks } from "./state.ts";
import { Uses } from "./uses.ts";
import type { Watch } from "./watch.ts";

export interface LeakMonitorOptions {
	/** How many ended mappings are remembered, for accesses that come after them: from 0. Default 1024. */
	readonly keep?: number;
}

/** What was found about one property. */
export interface PropertyReport {
	readonly property: Property;
	/** At most one a device, and one more for its breaches. Empty: nothing. */
	readonly findings: readonly Finding[];
	/** Of all findings. */
	readonly bytes: number;
	readonly count: number;
}

/**
 * A monitor of one guest on the build "engine.audit". It learns what happened from the audit's log, which is bounded: call
 * `look` often enough, and in any case before what you want judged is gone (a coherent buffer is judged while it lives, a
 * shared page while it is shared). What it missed it says in `notes`.
 *
 * Data of an accepted device on a shared page is reported as private-stays-private, whichever way it came; other properties
 * tell the way beside it, so that bytes of different ones do not add up. An untrusted device's own data is not reported but for
 * what nobody asked to be exposed: the exposures. With TO_DEVICE mappings alone and pools that are zeroed it is silent.
 */
export class LeakMonitor {
	readonly #watch: Watch;
	readonly #uses: Uses;
	readonly #residue: Residue;
	readonly #state: StateChecks;
	readonly #findings = new Findings();
	/** Number of the next event. */
	#next: number;
	#lostEvents = 0;
	/** A mapping whose last events are being read. */
	#ending: { readonly mapping: Mapping; readonly attrs: number } | null = null;

	/** Watches from now on: make it right after the guest. @throws RangeError for a guest of another build, or a `keep` that is no whole number from 0 */
	constructor(guest: Guest, options: LeakMonitorOptions = {}) {
		const { keep = 1024 } = options;
		const { audit } = guest.engine;
		if (audit === null) throw new RangeError('leaks: the guest must have the build "engine.audit"');
		if (!Number.isSafeInteger(keep) || keep < 0)
			throw new RangeError(`leaks: keep must be a whole number from 0, not ${keep}`);
		const isIdle = guest.pools.every(({ pool, growing, disabled }) => disabled || (growing?.used ?? pool.used) === 0);
		const devices = new DeviceWatch(guest, audit, (device, step, event) => this.#trustChanged(device, step, event));
		const [pages, mappings] = [new PageReplay(guest.engine.ram), new Mappings(keep, isIdle)];
		this.#watch = { guest, audit, devices, pages, mappings, findings: this.#findings, given: new RangeSet(), keep };
		this.#uses = new Uses(this.#watch);
		this.#residue = new Residue(this.#watch);
		this.#state = new StateChecks(this.#watch);
		this.#next = audit.eventCount;
	}

	/** Judges what happened since the last look, and the state that it led to. */
	look(): void {
		this.#drain();
		this.#residue.look();
		this.#state.look();
	}

	/** Looks, and judges what must hold when everything has ended: drivers hold nothing, the kernel's workers have run (Guest.tick). */
	end(): void {
		this.look();
		this.#state.end();
	}

	/**
	 * Runs something that the guest does as one operation: what it reads of shared pages, it may read once.
	 * @param name for people
	 * @returns what `run` returns
	 * @throws what `run` throws
	 */
	operation<T>(name: string, run: () => T): T {
		this.#drain();
		this.#uses.beginOperation(name);
		try {
			return run();
		} finally {
			this.#drain();
			this.#uses.endOperation();
		}
	}

	/** A channel that the guest uses, beside those of devices with an offer. Its claims are judged at each look. */
	channel(claim: ChannelClaim): void {
		this.#state.addChannel(claim);
	}

	/** What was found so far, in the order of the properties: at most two for each property and device. Allocates. */
	get findings(): readonly Finding[] {
		return this.#findings.list;
	}

	/** What the monitor could not see, in words: nothing, unless looks came too late. */
	get notes(): readonly string[] {
		const { lostViolations } = this.#state;
		const notes: string[] = [];
		if (this.#lostEvents > 0)
			notes.push(`${this.#lostEvents} events were overwritten before a look: what they did was not judged`);
		if (lostViolations > 0) notes.push(`${lostViolations} violations were forgotten before a look`);
		return notes;
	}

	/** All properties, in the order of reports, with what was found about them. Allocates. */
	report(): readonly PropertyReport[] {
		const all = this.findings;
		return Object.values(PROPERTIES).map((property) => {
			const findings = all.filter((finding) => finding.property === property.name);
			const sum = (field: "bytes" | "count") => findings.reduce((total, finding) => total + finding[field], 0);
			return { property, findings, bytes: sum("bytes"), count: sum("count") };
		});
	}

	/** A device's trust changed. */
	#trustChanged(device: GuestDevice, step: TdispStep, event: number): void {
		const { heldAcross, request, from, to } = step;
		const way = `${request} of "${device.name}", ${tdispStateName(from)} to ${tdispStateName(to)}`;
		const held = heldAcross ?? { mappings: 0, bounceSlots: 0, coherentBuffers: 0 };
		const { mappings, bounceSlots, coherentBuffers } = held;
		if (mappings + bounceSlots + coherentBuffers === 0) return;
		const text = () =>
			`${way}, with ${mappings} direct and ${bounceSlots} bounced mappings and ${coherentBuffers} coherent buffers held`;
		this.#findings.add("nothing-held-across-trust-change", { device: device.name, event, text });
	}

	#drain(): void {
		const { audit, devices, pages, mappings } = this.#watch;
		const lost = audit.firstEvent - this.#next;
		if (lost > 0) {
			this.#lostEvents += lost;
			this.#ending = null;
			this.#next = audit.firstEvent;
			pages.reset();
			mappings.clear();
			this.#watch.given.remove(0, Number.POSITIVE_INFINITY);
			this.#uses.clear();
			this.#residue.clear();
		}
		for (; this.#next < audit.eventCount; this.#next++) this.#judge(audit.event(this.#next));
		this.#finishEnding();
		devices.forgetBefore(this.#next);
	}

	#judge(event: AuditEvent): void {
		const { mappings, pages } = this.#watch;
		const { kind } = event;
		if (this.#ending !== null) {
			const itsOwn = (kind === "copy" || kind === "fill") && event.mapping === this.#ending.mapping.number;
			if (!itsOwn) this.#finishEnding();
		}
		if (kind === "map" || kind === "take slots") this.#mapped(event);
		else if (kind === "unmap" || kind === "give slots") this.#unmapped(event);
		else if (kind === "sync for device" || kind === "sync for cpu") {
			const mapping = event.status === null ? mappings.named(event) : null;
			if (mapping !== null) this.#uses.synced(mapping, event);
		} else if (kind === "convert") {
			this.#watch.given.remove(event.gpa, event.gpa + event.bytes);
			checkConversion(this.#watch, event, pages.convert(event));
		} else this.#moved(event);
	}

	#mapped(event: AuditEvent): void {
		if ((event.attrs & Attr.Mmio) !== 0) return;
		const { devices, mappings, pages } = this.#watch;
		const isTake = event.kind === "take slots";
		const named = event.status === null && !isTake ? devices.decode(event.device, event.dma) : null;
		const tlb =
			event.status !== null ? null : isTake ? event.tlb : named?.gpa === event.gpa ? null : (named?.gpa ?? null);
		const mapping = mappings.begin(event, tlb, pages.isPrivate(event.gpa, event.bytes));
		if (event.status !== null) {
			// what a refused map copied stays in the slots
			this.#ending = { mapping, attrs: 0 };
			return;
		}
		if (named !== null) checkMap(this.#watch, mapping, named.form);
		else checkTake(this.#watch, mapping);
		if (tlb !== null) this.#residue.taken(mapping, tlb);
	}

	#unmapped(event: AuditEvent): void {
		if (event.status !== null || (event.attrs & Attr.Mmio) !== 0) return;
		const { devices, mappings } = this.#watch;
		const mapping = mappings.named(event);
		if (mapping !== null) this.#ending = { mapping, attrs: event.attrs };
		else if (event.mapping !== 0)
			mappings.learn(event.tlb < 0 ? devices.decode(event.device, event.dma).gpa : event.tlb, event.bytes);
	}

	#finishEnding(): void {
		if (this.#ending === null) return;
		const { mapping, attrs } = this.#ending;
		this.#ending = null;
		if (mapping.dma >= 0) this.#uses.ended(mapping, attrs);
		else if (mapping.tlb !== null) this.#residue.taken(mapping, mapping.tlb);
		this.#watch.mappings.end(mapping);
	}

	/** A copy, read, write or fill. */
	#moved(event: AuditEvent): void {
		const { mappings } = this.#watch;
		const { kind, device } = event;
		const mapping = kind === "copy" ? mappings.of(event.mapping) : null;
		if (mapping !== null) checkCopy(this.#watch, mapping, event);
		else if (device !== Actor.Guest) this.#uses.byOthers(event);
		else this.#byGuest(event);
	}

	#byGuest(event: AuditEvent): void {
		const { kind } = event;
		if (kind === "copy" || kind === "read") this.#uses.read(event);
		if (kind === "read") return;
		if (kind === "fill" && event.gpa % PAGE_SIZE === 0 && event.bytes % PAGE_SIZE === 0)
			this.#watch.mappings.renew(event.gpa, event.gpa + event.bytes);
		this.#uses.write(event);
		checkOwnMove(this.#watch, event);
	}
}
