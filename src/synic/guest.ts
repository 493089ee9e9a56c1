/** The guest's use of its SynICs, by the tables in modes.ts. Linux 6.12 drivers/hv/hv.c and vmbus_drv.c */

import type { Ram } from "../memory/ram.ts";
import type { Gpa } from "../types.ts";
import { type GuestPages, PagesByProcessor, type PagesStatus } from "./guest-pages.ts";
import type { SynicParty } from "./interrupts.ts";
import { memoryOf, type SynicMemory } from "./memory.ts";
import {
	type CallPath,
	modeOf,
	type RegisterStep,
	registerPath,
	SYNIC_MODES,
	type SynicMode,
	type SynicPlatform,
	sharesSynicPages,
} from "./modes.ts";
import { ENABLED, Msr, PAGE_MASK, SintBit, sintMsr, VMBUS_SINT, VMBUS_VECTOR } from "./registers.ts";
import {
	EVENT_FLAGS,
	HvMessage,
	MAX_MESSAGE_BYTES,
	MESSAGE_PENDING,
	SLOT_BYTES,
	SLOT_FLAGS,
	SLOT_PAYLOAD,
	SLOT_SIZE,
} from "./synic.ts";

const SYNIC_PAGES = ["SynIC message", "SynIC event"] as const;

/** The registers of the SynICs: SynicMachine's, or those of an embedder's own hypervisor. */
export interface SynicRegisters {
	/** null: the read faults. */
	readRegister(vp: number, party: SynicParty, number: number): bigint | null;
	/** false: the write faults. */
	writeRegister(vp: number, party: SynicParty, number: number, value: bigint): boolean;
}

/** A write to a register, as it happened. */
export interface RegisterWrite {
	readonly vp: number;
	readonly synic: SynicParty;
	readonly path: CallPath;
	/** MSR number. */
	readonly msr: number;
	readonly value: bigint;
}

export interface GuestSynicOptions {
	readonly registers: SynicRegisters;
	readonly platform: SynicPlatform;
	/** Whether the guest uses Confidential VMBus. It decides what is done to pages, and cannot change later. */
	readonly confidential: boolean;
	/** Processors of the guest. */
	readonly vps: number;
	readonly ram: Ram;
	readonly pages: GuestPages;
	/** Default 2. */
	readonly sint?: number;
	/** Default 0xf3, as Linux on x86-64. */
	readonly vector?: number;
	/** Default true: the interrupt needs no EOI. */
	readonly autoEoi?: boolean;
	readonly onRegisterWrite?: (write: RegisterWrite) => void;
}

/** A message that was copied out of its slot. */
export interface ReceivedMessage {
	readonly type: number;
	/** At most 240 bytes, the guest's own. */
	readonly payload: Uint8Array;
	/** The whole slot, 256 bytes, copied with it. */
	readonly slot: Uint8Array;
	/** Whose page it was in. */
	readonly source: SynicParty;
}

/** The pages in use of one SynIC; gpa -1: none. */
interface PagesInUse {
	readonly messageGpa: Gpa;
	readonly eventGpa: Gpa;
	/** The host said where they are: the guest maps them shared, so that it cannot be made to write to private memory. */
	readonly isGiven: boolean;
}

export class GuestSynic {
	readonly mode: SynicMode;
	readonly #options: GuestSynicOptions;
	readonly #sint: number;
	readonly #memory: SynicMemory;
	readonly #pages: PagesByProcessor<(typeof SYNIC_PAGES)[number]>;
	readonly #sharedMemory: SynicMemory;
	/** The pages in use on each processor, by SynIC. */
	readonly #inUse: Map<SynicParty, PagesInUse>[];

	/** @throws RangeError for Confidential VMBus without a paravisor */
	constructor(options: GuestSynicOptions) {
		const { platform, confidential, vps, ram, pages } = options;
		if (confidential && !platform.paravisor) throw new RangeError("confidential: Confidential VMBus needs a paravisor");
		this.#options = options;
		this.mode = modeOf(platform, confidential);
		this.#sint = options.sint ?? VMBUS_SINT;
		this.#memory = memoryOf(ram, "guest", platform.sharedGpaBoundary);
		this.#sharedMemory = memoryOf(ram, "hypervisor", platform.sharedGpaBoundary);
		const shared = sharesSynicPages(platform, this.mode);
		this.#pages = new PagesByProcessor({ pages, memory: this.#memory, vps, names: SYNIC_PAGES, shared });
		this.#inUse = Array.from({ length: vps }, () => new Map());
	}

	/** Makes the SynICs' pages for all processors. When that fails, what was taken is given back or leaked. */
	allocate(): PagesStatus {
		return SYNIC_MODES[this.mode].ownPages === null ? "ok" : this.#pages.take();
	}

	/** Gives the pages back; every processor has been disabled. */
	free(): void {
		this.#pages.giveBack();
	}

	/** Sets up a processor's registers. @returns false when the world refuses one; disable takes back what was done */
	enable(vp: number): boolean {
		return SYNIC_MODES[this.mode].enable.every((step) => this.#apply(vp, step, true));
	}

	/** Takes a processor's registers down. */
	disable(vp: number): void {
		for (const step of SYNIC_MODES[this.mode].disable) this.#apply(vp, step, false);
		this.#inUse[vp]?.clear();
	}

	#write(vp: number, synic: SynicParty, msr: number, value: bigint): boolean {
		const { registers, platform, onRegisterWrite } = this.#options;
		onRegisterWrite?.({ vp, synic, path: registerPath(platform, synic), msr, value });
		return registers.writeRegister(vp, synic, msr, value);
	}

	#apply(vp: number, { synic, register, page, mirror }: RegisterStep, enable: boolean): boolean {
		const { registers, vector = VMBUS_VECTOR, autoEoi = true } = this.#options;
		const msr = register === "SINT" ? sintMsr(this.#sint) : Msr[register];
		// the paravisor's copy of a SINT follows from the hypervisor's
		const value = registers.readRegister(vp, mirror === undefined ? synic : "hypervisor", msr);
		if (value === null) return false;
		if (register === "SCONTROL") return this.#write(vp, synic, msr, enable ? value | ENABLED : value & ~ENABLED);
		if (register === "SINT") {
			const clear = BigInt(SintBit.VectorMask | SintBit.Masked | SintBit.AutoEoi | SintBit.Proxy);
			const set = vector | (autoEoi ? SintBit.AutoEoi : 0) | (mirror === "proxy" ? SintBit.Proxy : 0);
			if (enable) return this.#write(vp, synic, msr, (value & ~clear) | BigInt(set));
			const masked = value | BigInt(SintBit.Masked);
			return this.#write(vp, synic, msr, mirror === "proxy" ? masked | BigInt(SintBit.Proxy) : masked);
		}
		if (!enable) return this.#write(vp, synic, msr, (page === "none" ? value & ~PAGE_MASK : value) & ~ENABLED);
		const own = this.#pages.gpa(vp, register === "SIMP" ? "SynIC message" : "SynIC event");
		const named = page === "own" ? (value & ~PAGE_MASK) | BigInt(own) : value;
		const key = register === "SIMP" ? "messageGpa" : "eventGpa";
		const before = this.#inUse[vp]?.get(synic) ?? { messageGpa: -1, eventGpa: -1 };
		const isGiven = page === "given";
		this.#inUse[vp]?.set(synic, { ...before, isGiven, [key]: Number(named & PAGE_MASK) });
		return this.#write(vp, synic, msr, named | ENABLED);
	}

	#pageInUse(vp: number, synic: SynicParty, kind: "messageGpa" | "eventGpa"): Uint8Array | null {
		const inUse = this.#inUse[vp]?.get(synic);
		if (inUse === undefined || inUse[kind] < 0) return null;
		const page = (inUse.isGiven ? this.#sharedMemory : this.#memory).page(inUse[kind]);
		return page?.subarray(this.#sint * SLOT_BYTES, (this.#sint + 1) * SLOT_BYTES) ?? null;
	}

	/** Takes all event flags off a processor's event pages, in the table's order; flag 0 is nobody's. */
	takeEvents(vp: number, onEvent: (flag: number, source: SynicParty) => void): void {
		for (const { synic, page } of SYNIC_MODES[this.mode].scan) {
			const flags = page === "events" ? this.#pageInUse(vp, synic, "eventGpa") : null;
			if (flags === null) continue;
			for (const flag of takeFlags(flags)) {
				if (flag !== 0) onEvent(flag, synic);
			}
		}
	}

	/**
	 * Takes at most one message from each of a processor's message pages, in the table's order: copies it, hands it over,
	 * frees the slot, and writes EOM if the sender has more.
	 */
	takeMessages(vp: number, onMessage: (message: ReceivedMessage) => void): void {
		for (const { synic, page } of SYNIC_MODES[this.mode].scan) {
			const slot = page === "message" ? this.#pageInUse(vp, synic, "messageGpa") : null;
			const type = slot === null ? 0 : Atomics.load(typeWord(slot), 0);
			if (slot === null || type === 0) continue;
			const copy = slot.slice();
			const bytes = copy[SLOT_SIZE] as number;
			const payload = copy.subarray(SLOT_PAYLOAD, SLOT_PAYLOAD + bytes);
			try {
				// VMBus takes timers' messages off the slot and does not look at them
				if (type !== HvMessage.TimerExpired && bytes <= MAX_MESSAGE_BYTES)
					onMessage({ type, payload, slot: copy, source: synic });
			} finally {
				this.#freeSlot(vp, synic, type);
			}
		}
	}

	#freeSlot(vp: number, synic: SynicParty, type: number): void {
		const slot = this.#pageInUse(vp, synic, "messageGpa");
		if (slot === null || Atomics.compareExchange(typeWord(slot), 0, type, 0) !== type) return;
		// only now: a sender that finds the slot taken has set the flag before
		if ((Atomics.load(slot, SLOT_FLAGS) & MESSAGE_PENDING) !== 0)
			this.#write(vp, SYNIC_MODES[this.mode].eom, Msr.EOM, 0n);
	}
}

function typeWord(slot: Uint8Array): Uint32Array {
	return new Uint32Array(slot.buffer, slot.byteOffset, 1);
}

/** Clears the flags of a SINT. @returns those that were set; what is set meanwhile raises its own interrupt */
function takeFlags(flags: Uint8Array): number[] {
	const words = new Uint32Array(flags.buffer, flags.byteOffset, EVENT_FLAGS / 32);
	const taken: number[] = [];
	for (let i = 0; i < words.length; i++) {
		if (Atomics.load(words, i) === 0) continue;
		for (let set = Atomics.exchange(words, i, 0); set !== 0; set &= set - 1)
			taken.push(i * 32 + 31 - Math.clz32(set & -set));
	}
	return taken;
}
