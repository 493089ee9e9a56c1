/** The two SynICs and what stands behind the guest's hypercalls: the hypervisor, and a paravisor if there is one. */

import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import type { Ram } from "../memory/ram.ts";
import type { Gpa } from "../types.ts";
import { Connections } from "./connections.ts";
import { CallCode, decodePost, decodeSignal, POST_INPUT_BYTES, parseControl, SIGNAL_INPUT_BYTES } from "./hypercall.ts";
import { InterruptQueue, type SynicInterrupt, type SynicParty } from "./interrupts.ts";
import { memoryOf, type SynicMemory } from "./memory.ts";
import type { CallPath, SynicPlatform } from "./modes.ts";
import { MessagePort, paravisorRoute } from "./port.ts";
import { ProxyFilter } from "./proxy.ts";
import { Msr } from "./registers.ts";
import { HvStatus } from "./status.ts";
import { Synic } from "./synic.ts";

/** A hypercall as it leaves the guest. */
export interface Hypercall {
	readonly vp: number;
	readonly path: CallPath;
	/** The control word. */
	readonly control: bigint;
	/** The input's gpa; its value in the fast form; or its bytes, copied into the GHCB. */
	readonly input: bigint | Uint8Array;
}

/** What became of a hypercall. */
export interface HypercallReport {
	readonly vp: number;
	readonly path: CallPath;
	/** CallCode, or what the guest asked for instead. */
	readonly code: number;
	readonly connectionId: number;
	/** The message's payload, or the event's flag. */
	readonly body: Uint8Array | number;
	/** Who took it; null: it was refused before. */
	readonly by: SynicParty | null;
	readonly trusted: boolean;
	readonly status: HvStatus;
}

export interface MachineOptions {
	readonly platform: SynicPlatform;
	/** Processors of the guest. */
	readonly vps: number;
	readonly ram: Ram;
	/** Virtual trust level of the guest. Default 0. */
	readonly vtl?: number;
	/** Each interrupt, one after the other; never called from within itself. */
	readonly onInterrupt: (interrupt: SynicInterrupt) => void;
	/** Each hypercall, when it is done. */
	readonly onHypercall?: (report: HypercallReport) => void;
	/**
	 * Whether the hypervisor hands calls for connections that it does not know to the paravisor. Default true; without, a
	 * guest's signals to the paravisor's devices are lost (OpenVMM issue 3273).
	 */
	readonly unknownConnectionIntercept?: boolean;
}

/** The parties outside the guest, and their memory, registers and connections. */
export class SynicMachine {
	readonly platform: SynicPlatform;
	readonly vps: number;
	readonly interrupts: InterruptQueue;
	readonly hypervisor: Synic;
	readonly paravisor: Synic | null;
	/** What the paravisor lets through of the hypervisor's interrupts. */
	readonly proxy: ProxyFilter | null;
	readonly connections: Readonly<Record<SynicParty, Connections>> = {
		hypervisor: new Connections(),
		paravisor: new Connections(),
	};
	readonly #memory: Readonly<Record<SynicParty, SynicMemory>>;
	readonly #vtl: number;
	readonly #onHypercall: ((report: HypercallReport) => void) | undefined;
	readonly #intercept: boolean;

	/** @throws RangeError without processors */
	constructor(options: MachineOptions) {
		const { platform, vps, ram } = options;
		if (!Number.isInteger(vps) || vps < 1) throw new RangeError(`a guest has 1 processor or more, not ${vps}`);
		const { sharedGpaBoundary } = platform;
		this.platform = platform;
		this.vps = vps;
		this.#vtl = options.vtl ?? 0;
		this.#onHypercall = options.onHypercall;
		this.#intercept = options.unknownConnectionIntercept ?? true;
		// VBS isolation is the hypervisor's own: it keeps the host out, not itself
		const hypervisorSees = platform.isolation === "vbs" ? "guest" : "hypervisor";
		this.#memory = {
			hypervisor: memoryOf(ram, hypervisorSees, sharedGpaBoundary),
			paravisor: memoryOf(ram, "paravisor", sharedGpaBoundary),
		};
		this.interrupts = new InterruptQueue(options.onInterrupt);
		const synic = (party: SynicParty) => ({ party, vps, memory: this.#memory[party], interrupts: this.interrupts });
		this.paravisor = platform.paravisor ? new Synic(synic("paravisor")) : null;
		this.proxy = this.paravisor === null ? null : new ProxyFilter(this.paravisor);
		this.hypervisor = new Synic({ ...synic("hypervisor"), ...(this.proxy === null ? {} : { filter: this.proxy }) });
	}

	/** A party's SynIC. @throws RangeError for a paravisor that is not there */
	synic(party: SynicParty): Synic {
		if (party === "hypervisor") return this.hypervisor;
		if (this.paravisor === null) throw new RangeError("this guest has no paravisor");
		return this.paravisor;
	}

	/** A register as the guest reads it, or null where that faults: also for a paravisor that is not there. */
	readRegister(vp: number, party: SynicParty, number: number): bigint | null {
		return this[party]?.readRegister(vp, number) ?? null;
	}

	/** A guest's write to a register. @returns false where it faults */
	writeRegister(vp: number, party: SynicParty, number: number, value: bigint): boolean {
		return this[party]?.writeRegister(vp, number, value) ?? false;
	}

	/**
	 * Gives a processor the hypervisor's message and event pages, which under a paravisor are none of the guest's own: the
	 * guest finds their addresses in the registers. The pages must be shared.
	 */
	givePages(vp: number, messageGpa: Gpa, eventGpa: Gpa): void {
		const { sharedGpaBoundary } = this.platform;
		this.hypervisor.writeRegister(vp, Msr.SIMP, BigInt(messageGpa + sharedGpaBoundary));
		this.hypervisor.writeRegister(vp, Msr.SIEFP, BigInt(eventGpa + sharedGpaBoundary));
	}

	/** Through which SynIC a party reaches the guest's SINTs, as they are set now. @throws RangeError for a paravisor that is not there */
	route(sender: SynicParty): (vp: number, sint: number) => Synic {
		return sender === "hypervisor" ? () => this.hypervisor : paravisorRoute(this.synic("paravisor"), this.hypervisor);
	}

	/** A queue of messages to the guest. @throws RangeError for a SINT that is none, or a paravisor that is not there */
	guestPort(sender: SynicParty, vp: number, sint: number, depth?: number): MessagePort {
		const synics = this.paravisor === null ? [this.hypervisor] : [this.hypervisor, this.paravisor];
		const { interrupts } = this;
		const route = this.route(sender);
		return new MessagePort({ route, synics, interrupts, vp, sint, ...(depth === undefined ? {} : { depth }) });
	}

	/** Sets an event flag of the guest's. @returns as Synic.signal */
	signalGuest(sender: SynicParty, vp: number, sint: number, flag: number): HvStatus {
		return this.route(sender)(vp, sint).signal(vp, sint, flag);
	}

	/** A guest's call. @returns the hypercall's result: the status in its low 16 bits */
	hypercall(call: Hypercall): bigint {
		return BigInt(this.interrupts.during(() => this.#call(call)));
	}

	#call({ vp, path, control, input }: Hypercall): HvStatus {
		const code = Number(control & 0xffffn);
		const report = (
			status: HvStatus,
			by: SynicParty | null = null,
			connectionId = 0,
			body: Uint8Array | number = 0,
			trusted = false,
		) => {
			this.#onHypercall?.({ vp, path, code, connectionId, body, by, trusted, status });
			return status;
		};
		const word = parseControl(control);
		if (typeof word === "number") return report(word);
		if (!(vp >= 0 && vp < this.vps)) return report(HvStatus.INVALID_VP_INDEX);
		const bytes = code === CallCode.PostMessage ? POST_INPUT_BYTES : SIGNAL_INPUT_BYTES;
		const block = word.fast ? fastInput(input) : this.#inputBlock(path, input, bytes);
		if (typeof block === "number") return report(block);
		if (code === CallCode.PostMessage) {
			const post = decodePost(block as Uint8Array);
			if (typeof post === "number") return report(post);
			const { connectionId, type, payload } = post;
			const { by, trusted } = this.#taker(path, connectionId);
			const status = this.connections[by].post(connectionId, type, payload, { vp, vtl: this.#vtl, trusted });
			return report(status, by, connectionId, payload, trusted);
		}
		const { connectionId, flag } = decodeSignal(signalValue(block));
		const { by, trusted } = this.#taker(path, connectionId);
		const status = this.connections[by].signal(connectionId, flag, { vp, vtl: this.#vtl, trusted });
		return report(status, by, connectionId, flag, trusted);
	}

	/**
	 * Who takes a call. What traps goes to the paravisor alone, and is trusted. GHCB: the hypervisor, and what it does not know
	 * to the paravisor; tdcall: the other way round (OpenVMM openhcl/virt_mshv_vtl/src/processor). Neither is trusted.
	 */
	#taker(path: CallPath, connectionId: number): { by: SynicParty; trusted: boolean } {
		if (this.paravisor === null) return { by: "hypervisor", trusted: false };
		if (path === "direct") return { by: "paravisor", trusted: true };
		const { hypervisor, paravisor } = this.connections;
		const isIntercepted = path === "tdcall" || (this.#intercept && !hypervisor.has(connectionId));
		return { by: isIntercepted && paravisor.has(connectionId) ? "paravisor" : "hypervisor", trusted: false };
	}

	/** A copy of the input block, read by whoever the path leads to first. */
	#inputBlock(path: CallPath, input: bigint | Uint8Array, bytes: number): Uint8Array | HvStatus {
		if (input instanceof Uint8Array)
			return input.length >= bytes ? input.slice(0, bytes) : HvStatus.INVALID_HYPERCALL_INPUT;
		const offset = Number(input & 0xfffn);
		if (offset % 8 !== 0 || offset + bytes > PAGE_SIZE) return HvStatus.INVALID_ALIGNMENT;
		const reader = this.paravisor !== null && path === "direct" ? "paravisor" : "hypervisor";
		const page = this.#memory[reader].page(Number(input) - offset);
		return page === null ? HvStatus.ACCESS_DENIED : page.slice(offset, offset + bytes);
	}
}

/** What a fast call has in its register; bytes are none. */
function fastInput(input: bigint | Uint8Array): bigint | HvStatus {
	return typeof input === "bigint" ? input : HvStatus.INVALID_HYPERCALL_INPUT;
}

function signalValue(block: bigint | Uint8Array): bigint {
	if (typeof block === "bigint") return block;
	return new DataView(block.buffer, block.byteOffset).getBigUint64(0, true);
}
