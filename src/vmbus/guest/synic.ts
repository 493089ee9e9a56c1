/**
 * The guest's end of its SynICs: their pages, their registers, and what it does on an interrupt. Without a paravisor the guest
 * makes the hypervisor's pages and shares them; with one it finds them in the registers. In a confidential connection it makes
 * the paravisor's pages as well, which are never shared.
 */
import type { Party } from "../../synic/interrupts.ts";
import { ENABLED, Msr, PAGE_MASK, SintBit, sintMsr, VMBUS_SINT, VMBUS_VECTOR } from "../../synic/registers.ts";
import { MESSAGE_PENDING, SLOT_BYTES, SLOT_FLAGS } from "../../synic/synic.ts";
import type { GuestCore } from "./core.ts";
import type { GuestStatus } from "./types.ts";

const PAGE_BYTES = 4096;
const TIMER_EXPIRED = 0x80000010;
/** A page that is not there, and one that was leaked. */
const NONE = -1;

interface Pages {
	message: number;
	event: number;
	/** Whether the guest made them. */
	owned: boolean;
}

interface Processor {
	/** The page that hypercalls take their input from, where the host must see it; or NONE. */
	input: number;
	readonly hypervisor: Pages;
	readonly paravisor: Pages;
	/** The page that TDX passes messages in, or NONE. */
	post: number;
}

const none = (): Pages => ({ message: NONE, event: NONE, owned: false });

export class GuestSynic {
	readonly #core: GuestCore;
	readonly #processors: Processor[];
	readonly #onMessage: (slot: Uint8Array) => void;
	readonly #onEvent: (flag: number) => (() => void) | null;
	/** Whether the pages are there; and in which way they were made: they must end in the same. */
	#made = false;
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
		this.#processors = Array.from({ length: core.cpus }, () => ({
			hypervisor: none(),
			paravisor: none(),
			input: NONE,
			post: NONE,
		}));
	}

	/** Whether pages that the guest makes are shared: without a paravisor, in an SNP or TDX guest. */
	get #sharesPages(): boolean {
		const { isolation, paravisor } = this.#core;
		return !paravisor && (isolation === "snp" || isolation === "tdx");
	}

	/** A zeroed page for the host. @returns its gpa, or a status */
	#sharedPage(purpose: string, shares: boolean): number | GuestStatus {
		const { pages, engine } = this.#core;
		const gpa = pages.alloc(1, purpose);
		if (gpa < 0) return "no-memory";
		if (shares && !this.#core.decrypt(gpa, 1)) {
			pages.leak(gpa, 1);
			return "conversion-failed";
		}
		engine.ram.fill(gpa, PAGE_BYTES, 0);
		return gpa;
	}

	#makePair(pages: Pages, purpose: string, shares: boolean): GuestStatus {
		for (const kind of ["message", "event"] as const) {
			const page = this.#sharedPage(`${purpose} ${kind} page`, shares);
			if (typeof page === "string") return page;
			pages[kind] = page;
			pages.owned = true;
		}
		return "ok";
	}

	/** Makes the input pages of hypercalls, which without a paravisor the host must see. They stay until freeInputs. */
	allocInputs(): GuestStatus {
		if (!this.#sharesPages) return "ok";
		for (const processor of this.#processors) {
			const page = this.#sharedPage("hypercall input page", true);
			if (typeof page === "string") return page;
			processor.input = page;
		}
		return "ok";
	}

	freeInputs(): void {
		for (const processor of this.#processors) {
			this.#release(processor.input, true);
			processor.input = NONE;
		}
	}

	/** Makes every processor's pages (Linux 6.12 drivers/hv/hv.c, hv_synic_alloc). After a failure, call free. */
	alloc(): GuestStatus {
		const core = this.#core;
		this.#made = true;
		for (const processor of this.#processors) {
			if (core.paravisor && core.isolation === "tdx") {
				const page = this.#sharedPage("post page", !core.confidential);
				if (typeof page === "string") return page;
				processor.post = page;
			}
			let status: GuestStatus = "ok";
			if (!core.paravisor) status = this.#makePair(processor.hypervisor, "hypervisor", this.#sharesPages);
			if (status === "ok" && core.confidential) status = this.#makePair(processor.paravisor, "paravisor", false);
			if (status !== "ok") return status;
		}
		return "ok";
	}

	#release(gpa: number, shared: boolean): void {
		if (gpa !== NONE) this.#core.release(gpa, 1, !shared || this.#core.encrypt(gpa, 1));
	}

	/** Gives the pages back, or leaks them. `confidential` of the connection is still as it was for alloc. */
	free(): void {
		const core = this.#core;
		if (!this.#made) return;
		this.#made = false;
		for (const processor of this.#processors) {
			this.#release(processor.post, !core.confidential);
			processor.post = NONE;
			for (const party of ["hypervisor", "paravisor"] as const) {
				const pages = processor[party];
				const shared = party === "hypervisor" && this.#sharesPages;
				if (pages.owned) for (const gpa of [pages.message, pages.event]) this.#release(gpa, shared);
				Object.assign(pages, none());
			}
		}
	}

	#write(cpu: number, party: Party, msr: number, value: bigint): boolean {
		return this.#core.ports.writeMsr?.(cpu, party, msr, value) ?? true;
	}

	/** Programs one SynIC's pages of a processor, or takes those that are there. */
	#programPages(cpu: number, party: Party, pages: Pages): boolean {
		for (const [msr, kind] of [
			[Msr.SIMP, "message"],
			[Msr.SIEFP, "event"],
		] as const) {
			let gpa = BigInt(Math.max(pages[kind], 0));
			if (!pages.owned) {
				gpa = (this.#core.ports.readMsr?.(cpu, party, msr) ?? 0n) & PAGE_MASK;
				const boundary = BigInt(this.#core.options.sharedGpaBoundary ?? 0);
				const page = Number(boundary !== 0n ? gpa & ~boundary : gpa);
				pages[kind] = gpa !== 0n && this.#core.isRam(page) ? page : NONE;
			}
			if (!this.#write(cpu, party, msr, gpa | ENABLED)) return false;
		}
		return true;
	}

	#writeSint(cpu: number, masked: boolean): boolean {
		const { paravisor, confidential } = this.#core;
		const value = VMBUS_VECTOR | SintBit.AutoEoi | (masked ? SintBit.Masked : 0);
		const done = this.#write(cpu, "hypervisor", sintMsr(VMBUS_SINT), BigInt(value));
		if (!paravisor) return done;
		const mirrored = value | (confidential ? 0 : SintBit.Proxy);
		return this.#write(cpu, "paravisor", sintMsr(VMBUS_SINT), BigInt(mirrored)) && done;
	}

	/** Switches the SynICs on. @returns false when a register cannot be written: there is no such paravisor's SynIC */
	enable(): boolean {
		const { confidential } = this.#core;
		return this.#processors.every(({ hypervisor, paravisor }, cpu) => {
			if (confidential && !this.#programPages(cpu, "paravisor", paravisor)) return false;
			if (!this.#programPages(cpu, "hypervisor", hypervisor) || !this.#writeSint(cpu, false)) return false;
			return this.#write(cpu, confidential ? "paravisor" : "hypervisor", Msr.SCONTROL, 1n);
		});
	}

	/** Switches them off, the last processor first. */
	disable(): void {
		const { confidential } = this.#core;
		for (let cpu = this.#processors.length - 1; cpu >= 0; cpu--) {
			this.#writeSint(cpu, true);
			for (const party of ["hypervisor", ...(confidential ? ["paravisor" as const] : [])] as const)
				for (const msr of [Msr.SIMP, Msr.SIEFP]) this.#write(cpu, party, msr, 0n);
			this.#write(cpu, confidential ? "paravisor" : "hypervisor", Msr.SCONTROL, 0n);
		}
	}

	/** VMBus's part of a page: its message slot, or its event flags. A view, good for one operation. */
	#part(gpa: number): Uint8Array | null {
		return gpa === NONE ? null : this.#core.engine.ram.view(gpa + VMBUS_SINT * SLOT_BYTES, SLOT_BYTES);
	}

	#pagesOf(cpu: number, kind: "message" | "event"): number[] {
		const processor = this.#processors[cpu];
		return processor === undefined ? [] : [processor.hypervisor[kind], processor.paravisor[kind]];
	}

	/** Takes what is in one message slot, if anything, and frees it (Linux 6.12 drivers/hv/vmbus_drv.c, vmbus_on_msg_dpc). */
	#takeMessage(cpu: number, gpa: number, take: (slot: Uint8Array) => void): boolean {
		const live = this.#part(gpa);
		if (live === null) return false;
		const slot = live.slice();
		const type = new DataView(slot.buffer).getUint32(0, true);
		if (type === 0) return false;
		if (type === TIMER_EXPIRED) this.#core.ports.timerMessage?.(cpu);
		else take(slot);
		const after = this.#part(gpa) as Uint8Array;
		const view = new DataView(after.buffer, after.byteOffset, SLOT_BYTES);
		if (view.getUint32(0, true) !== type) return true;
		view.setUint32(0, 0, true);
		if (((after[SLOT_FLAGS] as number) & MESSAGE_PENDING) !== 0)
			this.#core.ports.eom?.(cpu, this.#core.confidential ? "paravisor" : "hypervisor");
		return true;
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

	/** In a confidential connection only the paravisor has something to say; Linux would listen to the host as well. */
	#takeFromHost(slot: Uint8Array): void {
		if (this.#core.confidential) this.#core.warn("a message of the host is dropped: the connection is confidential");
		else this.#onMessage(slot);
	}

	#scan(cpu: number): void {
		const callbacks: (() => void)[] = [];
		for (const page of this.#pagesOf(cpu, "event")) {
			for (const flag of this.#takeFlags(page)) {
				const callback = this.#onEvent(flag);
				if (callback !== null) callbacks.push(callback);
			}
		}
		for (const callback of callbacks) callback();
		const [host, paravisor] = this.#pagesOf(cpu, "message");
		if (host !== undefined) this.#takeMessage(cpu, host, (slot) => this.#takeFromHost(slot));
		if (paravisor !== undefined) this.#takeMessage(cpu, paravisor, this.#onMessage);
	}

	#takeFlags(gpa: number): number[] {
		const flags = this.#part(gpa);
		const set: number[] = [];
		if (flags === null) return set;
		for (let at = 0; at < SLOT_BYTES; at++) {
			const byte = flags[at] as number;
			if (byte === 0) continue;
			flags[at] = 0;
			for (let bit = 0; bit < 8; bit++) if ((byte & (1 << bit)) !== 0) set.push(8 * at + bit);
		}
		return set;
	}

	/** Looks through every processor's slots without interrupts: in a crash. */
	pollMessages(take: (slot: Uint8Array) => void): void {
		for (let cpu = 0; cpu < this.#processors.length; cpu++)
			for (const page of this.#pagesOf(cpu, "message")) this.#takeMessage(cpu, page, take);
	}
}
