/**
 * A synthetic interrupt controller for the processors of a guest: its registers, and the message and event pages in guest
 * RAM. Rules after OpenVMM vm/hv1/hv1_emulator/src/synic.rs.
 *
 *   message page (SIMP): 16 slots of 256 bytes, one a SINT         event page (SIEFP): 16 x 2048 flags, one set a SINT
 *     0 u32 type (0: free)   4 u8 payload bytes   5 u8 flags: bit 0 message pending   8 u64 sender   16 payload[240]
 */
import type { InterruptQueue, SynicParty } from "./interrupts.ts";
import type { SynicMemory } from "./memory.ts";
import { ENABLED, Msr, PAGE_MASK, SINTS, SintBit, synicMsr } from "./registers.ts";
import { HvStatus } from "./status.ts";

/** A slot of a message page, or a SINT's part of an event page (bytes). */
export const SLOT_BYTES = 256;
/** Where the payload starts in a slot (bytes). */
export const SLOT_PAYLOAD = 16;
/** Where the payload's size stands in a slot (u8). */
export const SLOT_SIZE = 4;
export const SLOT_FLAGS = 5;
const SLOT_SENDER = 8;
/** Slot flag: the sender has more, write EOM. */
export const MESSAGE_PENDING = 1;
export const MAX_MESSAGE_BYTES = 240;
/** Types of the hypervisor's own messages; those of others are below. */
export const HvMessage = { UnmappedGpa: 0x80000000, GpaIntercept: 0x80000001, TimerExpired: 0x80000010 } as const;
/** Event flags of a SINT. */
export const EVENT_FLAGS = 2048;
const SVERSION = 1n;
/** The least vector that an unmasked SINT may have. */
const MIN_VECTOR = 16;

/** A message on its way into a slot. */
export interface SynicMessage {
	/** Not 0; from 2^31: the hypervisor's own messages. */
	readonly type: number;
	/** At most 240 bytes. */
	readonly payload: Uint8Array;
	/** Sender or port id. */
	readonly sender?: bigint;
}

/** The paravisor's word on interrupts of the hypervisor's SynIC. */
export interface VectorFilter {
	/** @param enabled whether the hypervisor's SynIC is enabled on that processor */
	passes(vp: number, vector: number, enabled: boolean): boolean;
}

interface SynicOptions {
	readonly party: SynicParty;
	/** Processors of the guest. */
	readonly vps: number;
	readonly memory: SynicMemory;
	readonly interrupts: InterruptQueue;
	/** A nested hypervisor's: it answers to the nested register numbers only. */
	readonly nested?: boolean;
	/** Without one, interrupts go to the guest if SCONTROL says so. */
	readonly filter?: VectorFilter;
}

interface Processor {
	scontrol: bigint;
	siefp: bigint;
	simp: bigint;
	readonly sints: BigUint64Array;
	readonly waiters: Set<() => void>;
}

export class Synic {
	readonly party: SynicParty;
	readonly #memory: SynicMemory;
	readonly #interrupts: InterruptQueue;
	readonly #nested: boolean;
	readonly #filter: VectorFilter | undefined;
	readonly #vps: readonly Processor[];

	constructor({ party, vps, memory, interrupts, nested, filter }: SynicOptions) {
		this.party = party;
		this.#memory = memory;
		this.#interrupts = interrupts;
		this.#nested = nested ?? false;
		this.#filter = filter;
		this.#vps = Array.from({ length: vps }, () => ({
			scontrol: 0n,
			siefp: 0n,
			simp: 0n,
			sints: new BigUint64Array(SINTS).fill(BigInt(SintBit.Masked)),
			waiters: new Set<() => void>(),
		}));
	}

	/** A register's value, or null where the read faults: no such register or processor. */
	readRegister(vp: number, number: number): bigint | null {
		const processor = this.#vps[vp];
		const msr = synicMsr(number, this.#nested);
		if (processor === undefined || msr < 0) return null;
		switch (msr) {
			case Msr.SCONTROL:
				return processor.scontrol;
			case Msr.SVERSION:
				return SVERSION;
			case Msr.SIEFP:
				return processor.siefp;
			case Msr.SIMP:
				return processor.simp;
			case Msr.EOM:
				return 0n;
			default:
				return processor.sints[msr - Msr.SINT0] as bigint;
		}
	}

	/**
	 * Writes a register (u64). Whatever could let a waiting message in, EOM first of all, has senders try again.
	 * @returns false where the write faults: no such register or processor, SVERSION, a vector below 16 that is not masked
	 */
	writeRegister(vp: number, number: number, value: bigint): boolean {
		const processor = this.#vps[vp];
		const msr = synicMsr(number, this.#nested);
		if (processor === undefined || msr < 0 || msr === Msr.SVERSION) return false;
		const bits = Number(value & 0xffffffffn);
		if (msr >= Msr.SINT0) {
			if ((bits & SintBit.Masked) === 0 && (bits & SintBit.VectorMask) < MIN_VECTOR) return false;
			processor.sints[msr - Msr.SINT0] = value;
		} else if (msr === Msr.SCONTROL) processor.scontrol = value;
		else if (msr === Msr.SIEFP) processor.siefp = value;
		else if (msr === Msr.SIMP) processor.simp = value;
		this.#interrupts.during(() => {
			for (const retry of processor.waiters) retry();
		});
		return true;
	}

	/** A SINT's low bits; masked for what does not exist. */
	sint(vp: number, sint: number): number {
		const value = this.#vps[vp]?.sints[sint];
		return value === undefined ? SintBit.Masked : Number(value & 0xffffffffn);
	}

	/** Has `retry` called whenever a slot of the processor may have become free. @returns how to end that */
	whenFree(vp: number, retry: () => void): () => void {
		const waiters = this.#vps[vp]?.waiters;
		waiters?.add(retry);
		return () => waiters?.delete(retry);
	}

	#page(register: bigint): Uint8Array | null {
		return (register & ENABLED) === 0n ? null : this.#memory.page(Number(register & PAGE_MASK));
	}

	/**
	 * Puts a message into a SINT's slot, once, and raises the interrupt.
	 * @returns SUCCESS; OBJECT_IN_USE when the slot is taken (the pending flag is then set); INVALID_SYNIC_STATE when the
	 * SINT is masked or proxied, the SynIC off, or its page not there for this party; INVALID_VP_INDEX, INVALID_PARAMETER
	 */
	deliver(vp: number, sint: number, { type, payload, sender = 0n }: SynicMessage): HvStatus {
		const processor = this.#vps[vp];
		if (processor === undefined) return HvStatus.INVALID_VP_INDEX;
		if (!(sint >= 0 && sint < SINTS) || type === 0 || payload.length > MAX_MESSAGE_BYTES)
			return HvStatus.INVALID_PARAMETER;
		const closed = (this.sint(vp, sint) & (SintBit.Masked | SintBit.Proxy)) !== 0;
		const page = this.#page(processor.simp);
		if (closed || (processor.scontrol & ENABLED) === 0n || page === null) return HvStatus.INVALID_SYNIC_STATE;
		const slot = page.subarray(sint * SLOT_BYTES, (sint + 1) * SLOT_BYTES);
		const typeWord = new Uint32Array(slot.buffer, slot.byteOffset, 1);
		if (Atomics.load(typeWord, 0) !== 0) {
			Atomics.or(slot, SLOT_FLAGS, MESSAGE_PENDING);
			return HvStatus.OBJECT_IN_USE;
		}
		slot.fill(0, SLOT_SIZE);
		slot[SLOT_SIZE] = payload.length;
		new DataView(slot.buffer, slot.byteOffset).setBigUint64(SLOT_SENDER, sender, true);
		slot.set(payload, SLOT_PAYLOAD);
		// the type makes the message visible
		Atomics.store(typeWord, 0, type);
		this.#assert(vp, sint);
		return HvStatus.SUCCESS;
	}

	/**
	 * Sets an event flag, atomically; the interrupt comes only with a flag that was clear.
	 * @returns SUCCESS; INVALID_SYNIC_STATE without an event page that this party may touch, or for a SINT that is proxied;
	 * INVALID_VP_INDEX, INVALID_PARAMETER (SINT, flag)
	 */
	signal(vp: number, sint: number, flag: number): HvStatus {
		const processor = this.#vps[vp];
		if (processor === undefined) return HvStatus.INVALID_VP_INDEX;
		if (!(sint >= 0 && sint < SINTS && flag >= 0 && flag < EVENT_FLAGS)) return HvStatus.INVALID_PARAMETER;
		const page = this.#page(processor.siefp);
		if (page === null || (this.sint(vp, sint) & SintBit.Proxy) !== 0) return HvStatus.INVALID_SYNIC_STATE;
		const bit = 1 << (flag & 7);
		const before = Atomics.or(page, sint * SLOT_BYTES + (flag >>> 3), bit);
		if ((before & bit) === 0) this.#assert(vp, sint);
		return HvStatus.SUCCESS;
	}

	#assert(vp: number, sint: number): void {
		const bits = this.sint(vp, sint);
		if ((bits & (SintBit.Masked | SintBit.Polling)) !== 0) return;
		const vector = bits & SintBit.VectorMask;
		const enabled = ((this.#vps[vp] as Processor).scontrol & ENABLED) !== 0n;
		const passes = this.#filter === undefined ? enabled : this.#filter.passes(vp, vector, enabled);
		if (!passes) return;
		this.#interrupts.raise({
			vp,
			vector,
			sint,
			source: this.party,
			proxied: this.#filter !== undefined,
			autoEoi: (bits & SintBit.AutoEoi) !== 0,
		});
	}
}
