/**
 * The guest side's use of its SynICs (src/synic/guest.ts): pages and registers of one connection after the other, and what it
 * does on an interrupt.
 */
import { CallPages } from "../../synic/call-pages.ts";
import { GuestSynic } from "../../synic/guest.ts";
import { type SynicPlatform, sharesInputPages } from "../../synic/modes.ts";
import { Msr } from "../../synic/registers.ts";
import type { Gpa } from "../../types.ts";
import type { GuestCore } from "./core.ts";
import type { GuestStatus } from "./options.ts";

export class ConnectionSynic {
	readonly #core: GuestCore;
	readonly #platform: SynicPlatform;
	readonly #onMessage: (slot: Uint8Array) => void;
	readonly #onEvent: (flag: number) => (() => void) | null;
	readonly #calls: CallPages;
	#synic: GuestSynic | null = null;
	#busy = false;
	readonly #again = new Set<number>();

	/**
	 * @param onMessage takes a copy of a message slot (256 bytes)
	 * @param onEvent takes an event flag and answers what is to run when all flags are read
	 */
	constructor(core: GuestCore, onMessage: (slot: Uint8Array) => void, onEvent: (flag: number) => (() => void) | null) {
		this.#core = core;
		this.#onMessage = onMessage;
		this.#onEvent = onEvent;
		this.#platform = core.platform;
		const { pages, engine, cpus } = core;
		this.#calls = new CallPages({ platform: this.#platform, vps: cpus, ram: engine.ram, pages });
	}

	/** Makes the input pages of hypercalls, which without a paravisor the host must see. They stay until freeInputs. */
	allocInputs(): GuestStatus {
		return sharesInputPages(this.#platform) ? this.#calls.takeInputs() : "ok";
	}

	freeInputs(): void {
		this.#calls.giveInputsBack();
	}

	/** The page that a processor's messages pass in (gpa), or -1 when the guest has none: then they are the caller's to place. */
	inputGpa(cpu: number): Gpa {
		return this.#calls.gpa(cpu);
	}

	/** Makes every processor's pages (Linux 6.12 drivers/hv/hv.c, hv_synic_alloc). After a failure, call free. */
	alloc(): GuestStatus {
		const { confidential, cpus, engine, pages, ports } = this.#core;
		this.#synic = new GuestSynic({
			registers: {
				readRegister: (cpu, party, msr) => ports.readMsr?.(cpu, party, msr) ?? 0n,
				writeRegister: (cpu, party, msr, value) => {
					if (msr !== Msr.EOM) return ports.writeMsr?.(cpu, party, msr, value) ?? true;
					ports.eom?.(cpu, party);
					return true;
				},
			},
			platform: this.#platform,
			confidential,
			vps: cpus,
			ram: engine.ram,
			pages,
		});
		const status = this.#calls.takePosts(confidential);
		return status === "ok" ? this.#synic.allocate() : status;
	}

	/** Gives the pages back, or leaks them. */
	free(): void {
		this.#calls.givePostsBack();
		this.#synic?.free();
		this.#synic = null;
	}

	/** Switches the SynICs on. @returns false when a register cannot be written: there is no such paravisor's SynIC */
	enable(): boolean {
		return Array.from({ length: this.#core.cpus }, (_, cpu) => cpu).every((cpu) => this.#synic?.enable(cpu) === true);
	}

	/** Switches them off, the last processor first. */
	disable(): void {
		for (let cpu = this.#core.cpus - 1; cpu >= 0; cpu--) this.#synic?.disable(cpu);
	}

	/**
	 * An interrupt of VMBus's SINT: event flags of both pages, then both message slots. Called while it runs, it runs again
	 * when it is done.
	 */
	interrupt(cpu: number): void {
		this.#again.add(cpu);
		if (this.#busy) return;
		this.#busy = true;
		try {
			for (const next of this.#again) {
				this.#again.delete(next);
				this.#scan(next);
			}
		} finally {
			this.#busy = false;
		}
	}

	/** Takes at most one message off each of a processor's slots. In a confidential connection only the paravisor has something to say. */
	#takeMessages(cpu: number, take: (slot: Uint8Array) => void): void {
		const { confidential } = this.#core;
		this.#synic?.takeMessages(cpu, ({ slot, source }) => {
			if (!confidential || source === "paravisor") take(slot);
			else this.#core.warn("a message of the host is dropped: the connection is confidential");
		});
	}

	#scan(cpu: number): void {
		const callbacks: (() => void)[] = [];
		this.#synic?.takeEvents(cpu, (flag) => {
			const callback = this.#onEvent(flag);
			if (callback !== null) callbacks.push(callback);
		});
		for (const callback of callbacks) callback();
		this.#takeMessages(cpu, this.#onMessage);
	}

	/** Looks through every processor's slots without interrupts: in a crash. */
	pollMessages(take: (slot: Uint8Array) => void): void {
		for (let cpu = 0; cpu < this.#core.cpus; cpu++) this.#takeMessages(cpu, take);
	}
}
