/** The first byte that the host could read, with its way there. */
import type { Audit, Label } from "../audit/audit.ts";
import type { GuestDevice } from "../coco/guest/device.ts";
import type { Guest } from "../coco/guest/guest.ts";
import { type ByteHistory, type HistoryStep, historyOf } from "../leaks/history.ts";
import type { Gpa } from "../types.ts";

export interface FirstByteReport {
	readonly gpa: Gpa;
	readonly what: "breach" | "exposure";
	/** The write that made the byte first, up to the end of the command that exposed it. */
	readonly history: ByteHistory;
	/** The device's number in the history's events. */
	readonly device: number;
}

/** Waits for the byte, and takes its history down while the log still holds it. */
export class FirstByte {
	readonly #guest: Guest;
	readonly #audit: Audit;
	readonly #device: GuestDevice;
	/** Number of the next event. */
	#next: number;
	#isOwn = false;
	/** Null: there was none, or nothing of it stood there any more when its command had been issued. */
	found: FirstByteReport | null = null;

	constructor(guest: Guest, audit: Audit, device: GuestDevice) {
		this.#guest = guest;
		this.#audit = audit;
		this.#device = device;
		this.#next = audit.eventCount;
	}

	/** Reads the events since the last look: call it before the log forgets them. */
	look(): void {
		if (this.#isOwn) return;
		const { eventCount } = this.#audit;
		for (; this.#next < eventCount && !this.#isOwn; this.#next++) {
			const { sharedBytes, gpa, bytes } = this.#audit.event(this.#next);
			if (sharedBytes === 0) continue;
			const labels = this.#audit.labelsAt(gpa, bytes);
			const own = labels.findIndex((number) => this.#isOf(this.#device.dma.index, number));
			if (own >= 0) this.#take(gpa + own, true);
			else if (this.found === null) {
				const other = labels.findIndex((number) => this.#isOf(null, number));
				if (other >= 0) this.#take(gpa + other, false);
			}
		}
	}

	/** Whether a label's bytes are of private origin, and an owner's. owner null: anybody's */
	#isOf(owner: number | null, number: number): boolean {
		const label: Label | null = this.#audit.labelOf(number);
		return label?.isPrivate === true && (owner === null || label.owner === owner);
	}

	#take(gpa: Gpa, isOwn: boolean): void {
		const { dma, accepted } = this.#device;
		const history = historyOf(this.#audit, gpa, { platform: this.#guest.platform });
		this.#isOwn = isOwn;
		this.found = {
			gpa,
			what: isOwn && accepted ? "breach" : "exposure",
			history: { ...history, steps: [...this.#mapOf(history), ...history.steps] },
			device: dma.index,
		};
	}

	/** Of a byte that a device wrote into a slot: the map that gave the device the slot. */
	#mapOf({ steps }: ByteHistory): HistoryStep[] {
		const write = steps[0]?.event;
		if (write?.kind !== "write" || write.mapping === 0) return [];
		const events = this.#audit.events().filter(({ mapping }) => mapping === write.mapping);
		const map = events.find(({ kind }) => kind === "map");
		const copy = events.find(({ kind }) => kind === "copy");
		if (map === undefined) return [];
		const bouncedTo = copy === undefined ? null : copy.gpa - (copy.from - map.gpa);
		return [{ role: "map", event: map, gpa: map.gpa, bouncedTo, times: 1 }];
	}
}
