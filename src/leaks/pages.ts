/** Page states as they were at an event: replayed from the log's conversions. */

import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import type { AuditEvent } from "../audit/events.ts";
import { PageState, type Ram } from "../memory/ram.ts";
import type { Gpa } from "../types.ts";

export class PageReplay {
	readonly #ram: Ram;
	readonly #states: { readonly gpa: Gpa; readonly states: Uint8Array }[] = [];
	/** What pages in transition were before. */
	readonly #before = new Map<Gpa, PageState>();
	/** gpas of the pages that are leaked. */
	readonly leaked = new Set<Gpa>();

	/** Starts with RAM as it is. */
	constructor(ram: Ram) {
		this.#ram = ram;
		this.reset();
	}

	/** Takes all states from RAM: events were lost. */
	reset(): void {
		this.#states.length = 0;
		this.#before.clear();
		this.leaked.clear();
		for (const { gpa, bytes } of this.#ram.regions) {
			const states = Uint8Array.from({ length: bytes / PAGE_SIZE }, (_, i) => this.#ram.pageState(gpa + i * PAGE_SIZE));
			this.#states.push({ gpa, states });
			for (const [i, state] of states.entries()) if (state === PageState.Leaked) this.leaked.add(gpa + i * PAGE_SIZE);
		}
	}

	#regionOf(gpa: Gpa) {
		return this.#states.find(({ gpa: start, states }) => gpa >= start && gpa < start + states.length * PAGE_SIZE);
	}

	/** State of the page that holds `gpa`, or null outside RAM. */
	stateAt(gpa: Gpa): PageState | null {
		const region = this.#regionOf(gpa);
		return region === undefined ? null : (region.states[Math.floor((gpa - region.gpa) / PAGE_SIZE)] as PageState);
	}

	/** Whether all pages of [gpa, gpa + bytes) are private. */
	isPrivate(gpa: Gpa, bytes: number): boolean {
		for (let page = gpa - (gpa % PAGE_SIZE); page < gpa + bytes; page += PAGE_SIZE)
			if (this.stateAt(page) !== PageState.Private) return false;
		return true;
	}

	/** Goes on over a conversion. @returns the state that the first page had, before any transition */
	convert({ gpa, bytes, state }: AuditEvent): PageState | null {
		const found = this.stateAt(gpa);
		const before = this.#before.get(gpa) ?? found;
		for (let page = gpa; page < gpa + bytes; page += PAGE_SIZE) {
			const region = this.#regionOf(page);
			if (region === undefined) continue;
			const at = (page - region.gpa) / PAGE_SIZE;
			if (state === PageState.InTransition) this.#before.set(page, region.states[at] as PageState);
			else this.#before.delete(page);
			region.states[at] = state;
			if (state === PageState.Leaked) this.leaked.add(page);
		}
		return before;
	}
}
