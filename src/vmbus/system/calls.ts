/** The guest's hypercalls and register accesses on a SynIC machine, each written down before it takes effect. */
import type { Ram } from "../../memory/ram.ts";
import { CallCode, controlWord, encodePost, encodeSignal } from "../../synic/hypercall.ts";
import type { SynicParty } from "../../synic/interrupts.ts";
import type { HypercallReport, SynicMachine } from "../../synic/machine.ts";
import { type CallPath, inputAddress, registerPath } from "../../synic/modes.ts";
import { Msr } from "../../synic/registers.ts";
import type { Gpa } from "../../types.ts";
import type { GuestPorts } from "../guest/options.ts";
import type { CallEvent, Recorder, RegisterEvent } from "./events.ts";

type CallPorts = Required<Pick<GuestPorts, "post" | "signal" | "eom" | "writeMsr" | "readMsr">>;

export class RecordedCalls {
	readonly #machine: SynicMachine;
	readonly #record: Recorder;
	readonly #onSignal: () => void;
	readonly #inputGpa: () => Gpa;
	readonly #ram: Ram;
	#call: CallEvent | null = null;

	/**
	 * @param inputGpa where the guest wants messages to be placed, or -1
	 * @param onSignal called before a signal is written down
	 */
	constructor(machine: SynicMachine, ram: Ram, record: Recorder, inputGpa: () => Gpa, onSignal: () => void) {
		this.#machine = machine;
		this.#ram = ram;
		this.#record = record;
		this.#inputGpa = inputGpa;
		this.#onSignal = onSignal;
	}

	/** Says what became of the call under way. */
	report({ by, trusted, status }: HypercallReport): void {
		if (this.#call !== null) Object.assign(this.#call, { by, trusted, status });
		this.#call = null;
	}

	#calls(kind: CallEvent["kind"], path: CallPath, connectionId: number, payload = new Uint8Array(0)): void {
		const open = { by: null, trusted: false, status: null };
		this.#call = this.#record<CallEvent>({ kind, from: "guest", path, connectionId, payload, ...open });
	}

	#writeRegister(vp: number, synic: SynicParty, msr: number, value: bigint): boolean {
		const machine = this.#machine;
		const path = registerPath(machine.platform, synic);
		const event: RegisterEvent = { kind: "register", from: "guest", path, synic, vp, msr, value, done: true };
		this.#record(event);
		event.done = machine.writeRegister(vp, synic, msr, value);
		return event.done;
	}

	/** Puts a message's input where the call names it: into the GHCB, or into the guest's page for it. */
	#place(path: CallPath, block: Uint8Array): Uint8Array | bigint {
		const gpa = path === "ghcb" ? -1 : this.#inputGpa();
		if (gpa < 0) return block;
		this.#ram.write(gpa, block);
		return inputAddress(this.#machine.platform, path, gpa);
	}

	/** The guest side's ports. */
	ports(): CallPorts {
		const machine = this.#machine;
		return {
			post: (connectionId, type, payload, path) => {
				this.#calls("post", path, connectionId, payload.slice());
				const input = this.#place(path, encodePost({ connectionId, type, payload }));
				return Number(machine.hypercall({ vp: 0, path, control: controlWord(CallCode.PostMessage, false), input }));
			},
			signal: (connectionId, flag, path) => {
				this.#onSignal();
				this.#calls("signal", path, connectionId);
				const value = encodeSignal({ connectionId, flag });
				// the GHCB has no fast form
				const isFast = path !== "ghcb";
				const input = isFast ? value : new Uint8Array(BigUint64Array.of(value).buffer);
				machine.hypercall({ vp: 0, path, control: controlWord(CallCode.SignalEvent, isFast), input });
			},
			eom: (cpu, party) => void this.#writeRegister(cpu, party, Msr.EOM, 0n),
			writeMsr: (cpu, party, msr, value) => this.#writeRegister(cpu, party, msr, value),
			readMsr: (cpu, party, msr) => machine.readRegister(cpu, party, msr) ?? 0n,
		};
	}
}
