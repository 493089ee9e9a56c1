/** The guest's hypercalls and register accesses on a SynIC machine, each written down before it takes effect. */
import { CallCode, controlWord, encodePost, encodeSignal } from "../../synic/hypercall.ts";
import type { Party } from "../../synic/interrupts.ts";
import type { HypercallReport, SynicMachine } from "../../synic/machine.ts";
import { type Path, registerPath } from "../../synic/modes.ts";
import { Msr } from "../../synic/registers.ts";
import type { GuestPorts } from "../guest/types.ts";
import type { CallEvent, Recorder, RegisterEvent } from "./events.ts";

type CallPorts = Required<Pick<GuestPorts, "post" | "signal" | "eom" | "writeMsr" | "readMsr">>;

export class RecordedCalls {
	readonly #machine: SynicMachine;
	readonly #record: Recorder;
	readonly #onSignal: () => void;
	#call: CallEvent | null = null;

	/** @param onSignal called before a signal is written down */
	constructor(machine: SynicMachine, record: Recorder, onSignal: () => void) {
		this.#machine = machine;
		this.#record = record;
		this.#onSignal = onSignal;
	}

	/** Says what became of the call under way. */
	report({ by, trusted, status }: HypercallReport): void {
		if (this.#call !== null) Object.assign(this.#call, { by, trusted, status });
		this.#call = null;
	}

	#calls(kind: CallEvent["kind"], path: Path, connectionId: number, payload = new Uint8Array(0)): void {
		const open = { by: null, trusted: false, status: null };
		this.#call = this.#record<CallEvent>({ kind, from: "guest", path, connectionId, payload, ...open });
	}

	#writeRegister(vp: number, synic: Party, msr: number, value: bigint): boolean {
		const machine = this.#machine;
		const path = registerPath(machine.platform, synic);
		const event: RegisterEvent = { kind: "register", from: "guest", path, synic, vp, msr, value, done: true };
		this.#record(event);
		event.done = machine.writeRegister(vp, synic, msr, value);
		return event.done;
	}

	/** The guest side's ports. */
	ports(): CallPorts {
		const machine = this.#machine;
		return {
			post: (connectionId, type, payload, path) => {
				this.#calls("post", path, connectionId, payload.slice());
				const input = encodePost({ connectionId, type, payload });
				return Number(machine.hypercall({ vp: 0, path, control: controlWord(CallCode.PostMessage, false), input }));
			},
			signal: (connectionId, flag, path) => {
				this.#onSignal();
				this.#calls("signal", path, connectionId);
				const input = encodeSignal({ connectionId, flag });
				machine.hypercall({ vp: 0, path, control: controlWord(CallCode.SignalEvent, true), input });
			},
			eom: (cpu, party) => void this.#writeRegister(cpu, party, Msr.EOM, 0n),
			writeMsr: (cpu, party, msr, value) => this.#writeRegister(cpu, party, msr, value),
			readMsr: (cpu, party, msr) => machine.readRegister(cpu, party, msr) ?? 0n,
		};
	}
}
