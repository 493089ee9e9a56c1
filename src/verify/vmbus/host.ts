/** The recorder's SynIC: one slot a processor for VMBus's SINT, and a queue behind it. */
import type { Engine } from "../../engine.ts";
import { ENABLED, Msr, PAGE_MASK, VMBUS_SINT } from "../../synic/registers.ts";
import { MESSAGE_PENDING, SLOT_BYTES, SLOT_FLAGS, SLOT_PAYLOAD } from "../../synic/synic.ts";
import type { EnginePages } from "../../vmbus/guest/pages.ts";

const FLAGS = 2048;

interface Processor {
	/** gpas of the message and event pages by register, and the registers that are on. */
	readonly pages: Map<number, number>;
	readonly on: Set<number>;
	readonly queue: Uint8Array[];
	/** An interrupt that waits for the end of `hold`. */
	held: boolean;
}

export class ReplayHost {
	readonly #engine: Engine;
	readonly #processors: Processor[];
	readonly #interrupt: (cpu: number) => void;
	#holds = false;

	/**
	 * @param own pages that a paravisor has placed, or null: the guest makes its own
	 * @param interrupt tells the guest
	 */
	constructor(engine: Engine, cpus: number, own: EnginePages | null, interrupt: (cpu: number) => void) {
		this.#engine = engine;
		this.#interrupt = interrupt;
		this.#processors = Array.from({ length: cpus }, () => {
			const placed = own === null ? [] : [Msr.SIMP, Msr.SIEFP].map((msr): [number, number] => [msr, sharedPage(own)]);
			return { pages: new Map(placed), on: new Set<number>(), queue: [], held: false };
		});
	}

	readMsr(cpu: number, msr: number): bigint {
		return BigInt(this.#processors[cpu]?.pages.get(msr) ?? 0);
	}

	writeMsr(cpu: number, msr: number, value: bigint): void {
		const processor = this.#processors[cpu];
		if (processor === undefined || (msr !== Msr.SIMP && msr !== Msr.SIEFP)) return;
		processor.on.delete(msr);
		if ((value & ENABLED) === 0n) return;
		processor.on.add(msr);
		processor.pages.set(msr, Number(value & PAGE_MASK));
	}

	#part(cpu: number, msr: number): Uint8Array | null {
		const processor = this.#processors[cpu];
		const gpa = processor?.on.has(msr) ? processor.pages.get(msr) : undefined;
		return gpa === undefined ? null : this.#engine.ram.view(gpa + VMBUS_SINT * SLOT_BYTES, SLOT_BYTES);
	}

	#raise(cpu: number): void {
		const processor = this.#processors[cpu];
		if (this.#holds && processor !== undefined) processor.held = true;
		else this.#interrupt(cpu);
	}

	/** A channel message in an else empty slot. */
	message(payload: Uint8Array, cpu: number): void {
		const slot = new Uint8Array(SLOT_BYTES);
		slot[0] = 1;
		slot[4] = payload.length;
		slot.set(payload, SLOT_PAYLOAD);
		this.slot(slot, cpu);
	}

	/** A whole message slot (256 bytes). One that is taken keeps it in the queue, and says that there is more. */
	slot(slot: Uint8Array, cpu: number): void {
		const live = this.#part(cpu, Msr.SIMP);
		const processor = this.#processors[cpu];
		if (live === null || processor === undefined) return;
		if (live.subarray(0, 4).some((byte) => byte !== 0)) {
			processor.queue.push(slot);
			live[SLOT_FLAGS] = (live[SLOT_FLAGS] as number) | MESSAGE_PENDING;
			return;
		}
		live.set(slot);
		if (processor.queue.length > 0) live[SLOT_FLAGS] = (live[SLOT_FLAGS] as number) | MESSAGE_PENDING;
		this.#raise(cpu);
	}

	/** End of message: the next one comes. */
	eom(cpu: number): void {
		const next = this.#processors[cpu]?.queue.shift();
		if (next !== undefined) this.slot(next, cpu);
	}

	event(flag: number, cpu: number): void {
		const flags = this.#part(cpu, Msr.SIEFP);
		if (flags === null || flag >= FLAGS) return;
		flags[flag >>> 3] = (flags[flag >>> 3] as number) | (1 << (flag & 7));
		this.#raise(cpu);
	}

	/** Holds interrupts back. */
	hold(): void {
		this.#holds = true;
	}

	release(): void {
		this.#holds = false;
		for (const [cpu, processor] of this.#processors.entries()) {
			if (!processor.held) continue;
			processor.held = false;
			this.#interrupt(cpu);
		}
	}
}

/** A page that a paravisor has placed: shared, as the host writes to it. */
function sharedPage(own: EnginePages): number {
	const gpa = own.alloc(1, "SynIC");
	own.decrypt(gpa, 1);
	return gpa;
}
