/** A device's queue in coherent memory, audited: what its driver writes of each command, and what the device answers. */
import type { Audit, Label } from "../audit/audit.ts";
import type { GuestDevice } from "../coco/guest/device.ts";
import type { Guest } from "../coco/guest/guest.ts";
import type { CoherentBuffer } from "../coco/memory/coherent.ts";
import { KernelCrash } from "../coco/rules/policy.ts";
import type { DeviceQueue } from "../workload/presets.ts";
import { type Cause, crashCause } from "./cause.ts";

/** The queue of an audited device. */
export interface QueueReport {
	readonly bytes: number;
	/** Where it comes from, or null: there is none. */
	readonly from: CoherentBuffer["source"] | null;
	/** Why there is none, or why its end failed, or null. */
	readonly cause: Cause | null;
}

/** A queue at work. */
export class AuditedQueue {
	readonly #guest: Guest;
	readonly #device: GuestDevice;
	readonly #audit: Audit;
	readonly #queue: DeviceQueue;
	readonly #buffer: CoherentBuffer | null;
	readonly #bytes: number;
	/** What commands and answers are known by: the driver's, and no secret of the data's. */
	readonly label: Label;
	#cause: Cause | null = null;

	/** Allocates it, as a driver's probe does. */
	constructor(guest: Guest, device: GuestDevice, audit: Audit, queue: DeviceQueue) {
		this.#guest = guest;
		this.#device = device;
		this.#audit = audit;
		this.#queue = queue;
		const { depth, commandBytes, answerBytes } = queue;
		const bytes = depth * (commandBytes + answerBytes);
		this.label = audit.label({ owner: device.dma.index, isPrivate: true, secret: false, accepted: device.accepted });
		let buffer: CoherentBuffer | null = null;
		try {
			const got = device.allocCoherent(bytes);
			if (got.ok) buffer = got;
			else this.#cause = { what: "status", status: got.status };
		} catch (error) {
			if (!(error instanceof KernelCrash)) throw error;
			this.#cause = crashCause(error);
		}
		this.#buffer = buffer;
		this.#bytes = bytes;
	}

	get report(): QueueReport {
		return { bytes: this.#bytes, from: this.#buffer?.source ?? null, cause: this.#cause };
	}

	/** Gives it back, as the driver's end does. */
	end(): void {
		if (this.#buffer === null) return;
		try {
			const freed = this.#device.freeCoherent(this.#buffer);
			if (!freed.ok) this.#cause = { what: "status", status: freed.status };
		} catch (error) {
			if (!(error instanceof KernelCrash)) throw error;
			this.#cause = crashCause(error);
		}
	}

	/** The driver writes a command. */
	issued(command: number): void {
		const { depth, commandBytes } = this.#queue;
		this.#write(-1, (command % depth) * commandBytes, commandBytes, command);
	}

	/** The device answers it. */
	done(command: number): void {
		const { depth, commandBytes, answerBytes } = this.#queue;
		const at = depth * commandBytes + (command % depth) * answerBytes;
		this.#write(this.#device.dma.index, at, answerBytes, command);
	}

	/** @param who the device's number, or -1: the guest's CPU */
	#write(who: number, at: number, bytes: number, command: number): void {
		if (this.#buffer === null) return;
		const data = Uint8Array.from({ length: bytes }, (_, i) => (Math.imul(command + 1, 31) + i) | 1);
		const { gpa } = this.#buffer;
		this.#audit.as(who, this.label, () => this.#guest.engine.ram.write(gpa + at, data));
	}
}
