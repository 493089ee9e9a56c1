/** What each device was trusted with at any event. */

import type { Audit } from "../audit/audit.ts";
import type { GuestDevice } from "../coco/guest/device.ts";
import type { Guest } from "../coco/guest/guest.ts";
import { decodeAddress } from "../coco/platform/platform.ts";
import type { TdispStep } from "../coco/trust/tdisp.ts";
import type { DmaAddr, Gpa } from "../types.ts";

/** A device's trust from one event of the log on. */
interface Trust {
	/** Number of the first event that this holds for. */
	readonly from: number;
	readonly accepted: boolean;
	readonly t: 0 | 1;
	/** force_dma_unencrypted(dev). */
	readonly needsShared: boolean;
	/** swiotlb=force. */
	readonly forced: boolean;
}

/** Keeps every device's trust by event, from now on. */
export class DeviceWatch {
	readonly #audit: Audit;
	readonly #devices = new Map<number, { readonly device: GuestDevice; trust: Trust[] }>();
	readonly #guest: Guest;
	readonly #onStep: (device: GuestDevice, step: TdispStep, event: number) => void;

	/** onStep: called for each step of a device's trust, with the number of the event that comes next */
	constructor(guest: Guest, audit: Audit, onStep: (device: GuestDevice, step: TdispStep, event: number) => void) {
		this.#audit = audit;
		this.#guest = guest;
		this.#onStep = onStep;
		for (const device of guest.devices) this.#adopt(device);
		guest.onDevice((device) => this.#adopt(device));
	}

	#adopt(device: GuestDevice): void {
		const kept = { device, trust: [this.#now(device)] };
		this.#devices.set(device.dma.index, kept);
		device.trust?.onChange((step) => {
			kept.trust.push(this.#now(device));
			this.#onStep(device, step, this.#audit.eventCount);
		});
	}

	#now(device: GuestDevice): Trust {
		const { accepted, t } = device;
		const { needsShared } = device.mapRules;
		return { from: this.#audit.eventCount, accepted, t, needsShared, forced: device.ruled.forced };
	}

	/** The device of a number, or null: one that the guest does not know. */
	of(index: number): GuestDevice | null {
		return this.#devices.get(index)?.device ?? null;
	}

	/** What people call the device of a number. */
	nameOf(index: number): string {
		return this.of(index)?.name ?? `device ${index}`;
	}

	/** A device's trust when an event happened; of one that the guest does not know: none. */
	at(index: number, event: number): Trust {
		const trust = this.#devices.get(index)?.trust.findLast(({ from }) => from <= event);
		return trust ?? { from: 0, accepted: false, t: 0, needsShared: true, forced: false };
	}

	/** Forgets what only events before this one could ask for. */
	forgetBefore(event: number): void {
		for (const kept of this.#devices.values()) {
			const first = kept.trust.findLastIndex(({ from }) => from <= event);
			if (first > 0) kept.trust = kept.trust.slice(first);
		}
	}

	/** The gpa that a DMA address of the device names, and in which form; null: it encodes nothing. */
	decode(index: number, dma: DmaAddr): { gpa: Gpa; form: "private" | "shared" | null } {
		return decodeAddress(this.#guest.platform, dma, this.of(index)?.options.encoded);
	}
}
