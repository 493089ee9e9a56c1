/** What stays in freed slots. */

import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import type { Label } from "../audit/audit.ts";
import { PageState } from "../memory/ram.ts";
import { hex } from "../status.ts";
import type { Gpa } from "../types.ts";
import { type Mapping, slotsOf } from "./mappings.ts";
import { count, privateRuns, type Watch } from "./watch.ts";

interface Holder {
	readonly device: number;
	readonly mapping: number;
	/** Whether the device was accepted when it got the slot. */
	readonly accepted: boolean;
}

/** Counts private bytes in freed slots, each stay once: those that lie there at a look, and those that were overwritten before one. */
export class Residue {
	readonly #watch: Watch;
	/** Slots, by gpa, that something came to since they were looked at. */
	readonly #touched = new Set<Gpa>();
	readonly #holders = new Map<Gpa, Holder>();
	/** Bytes in freed slots that are counted. */
	readonly #counted = new Map<Gpa, number>();
	/** Of what the engine counted as overwritten: bytes that were counted here before. */
	#explained = 0;
	/** What the engine counted as overwritten, by label. */
	#overwritten: ReadonlyMap<Label, number>;

	constructor(watch: Watch) {
		this.#watch = watch;
		this.#overwritten = this.#totals();
	}

	/** A mapping got slots. */
	taken(mapping: Mapping, tlb: Gpa): void {
		const { accepted } = this.#watch.devices.at(mapping.device, mapping.event);
		const { from, to } = slotsOf(tlb, mapping.bytes);
		for (let slot = from; slot < to; slot += IO_TLB_SIZE) {
			this.#explained += this.#counted.get(slot) ?? 0;
			this.#counted.delete(slot);
			this.#touched.add(slot);
			this.#holders.set(slot, { device: mapping.device, mapping: mapping.number, accepted });
		}
	}

	#totals(): ReadonlyMap<Label, number> {
		const { audit } = this.#watch;
		return new Map(audit.labels.map((label) => [label, audit.totals(label).residueBytes]));
	}

	/** Looks at the slots that were freed since the last look. */
	look(): void {
		const { audit, findings, devices, guest } = this.#watch;
		for (const slot of this.#touched) {
			const freedNs = audit.freedAtNs(slot);
			if (freedNs < 0) {
				// still held; or a pool's pages that became others'
				if (audit.holderAt(slot) === 0) this.#touched.delete(slot);
				continue;
			}
			this.#touched.delete(slot);
			if (guest.engine.ram.pageState(slot) !== PageState.Shared) continue;
			const holder = this.#holders.get(slot);
			let bytes = 0;
			for (const run of privateRuns(audit, slot, slot + IO_TLB_SIZE)) {
				bytes += run.bytes;
				const owner = run.label.accepted ? run.label.owner : (holder?.device ?? -1);
				const device = owner < 0 ? null : devices.nameOf(owner);
				const accepted = run.label.accepted || holder?.accepted === true;
				const text = () =>
					`${count(run.bytes)} stay in the freed slot at ${hex(slot)}, left by mapping ${holder?.mapping ?? 0}`;
				const seen = { gpa: run.gpa, device, mapping: holder?.mapping ?? 0, bytes: run.bytes, accepted, text };
				findings.add("residue-in-freed-slots", { ...seen, longestNs: audit.nowNs - freedNs });
			}
			if (bytes > 0) this.#counted.set(slot, bytes);
		}
		this.#age();
		this.#missed();
	}

	/** What lies there grows older. */
	#age(): void {
		const { audit, devices, findings } = this.#watch;
		for (const slot of this.#counted.keys()) {
			const holder = this.#holders.get(slot);
			const freedNs = audit.freedAtNs(slot);
			if (holder !== undefined && freedNs >= 0)
				findings.stayed("residue-in-freed-slots", devices.nameOf(holder.device), audit.nowNs - freedNs);
		}
	}

	/** What was left and overwritten between two looks: only its labels are known. */
	#missed(): void {
		const { audit, devices, findings } = this.#watch;
		const [before, now] = [this.#overwritten, this.#totals()];
		const grown = [...now].filter(([label, bytes]) => bytes > (before.get(label) ?? 0));
		const missed = grown.reduce((sum, [label, bytes]) => sum + bytes - (before.get(label) ?? 0), -this.#explained);
		this.#overwritten = now;
		this.#explained = 0;
		if (missed <= 0) return;
		const labels = grown.map(([label]) => label);
		const [owner = -1, ...others] = new Set(labels.map((label) => label.owner));
		const device = others.length > 0 || owner < 0 ? null : devices.nameOf(owner);
		const accepted = labels.every((label) => label.accepted);
		const longestNs = Math.max(...labels.map((label) => audit.totals(label).residueMaxNs));
		const text = () => `${count(missed)} stayed in freed slots and were overwritten before this look`;
		findings.add("residue-in-freed-slots", { device, bytes: missed, accepted, longestNs, text });
	}

	/** Events were lost: any slot may have changed hands. */
	clear(): void {
		for (const { start, bytes } of this.#watch.guest.engine.pools)
			for (let slot: number = start; slot < start + bytes; slot += IO_TLB_SIZE)
				if (!this.#counted.has(slot)) this.#touched.add(slot);
		this.#holders.clear();
		this.#explained = 0;
		this.#overwritten = this.#totals();
	}
}
