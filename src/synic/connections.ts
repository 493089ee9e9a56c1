/** Connection ids that guests post and signal to, and the ports behind them. */
import { HvStatus } from "./status.ts";

/** A connection id has 24 bits; the 8 above are reserved. */
export const MAX_CONNECTION_ID = 0xffffff;

/** Who calls, as the side that takes the call knows it. */
export interface Caller {
	readonly vp: number;
	/** Virtual trust level of the guest code. */
	readonly vtl: number;
	/** Whether the call trapped to the paravisor: then the host has neither seen nor forged it. */
	readonly trusted: boolean;
}

/** A port for messages. `post` answers SUCCESS, or INSUFFICIENT_BUFFERS to have the guest try again. */
export interface MessageConnection {
	/** Callers of lower VTLs are refused. Default 0. */
	readonly minVtl?: number;
	/** The payload is the port's own copy. */
	post(type: number, payload: Uint8Array, caller: Caller): HvStatus;
}

/** A port for events. */
export interface EventConnection {
	/** Flags of the port. Default 1: flag 0 only. */
	readonly flags?: number;
	signal(flag: number, caller: Caller): void;
}

type Port =
	| { readonly kind: "message"; readonly port: MessageConnection }
	| { readonly kind: "event"; readonly port: EventConnection };

/** One party's table of connections. */
export class Connections {
	readonly #ports = new Map<number, Port>();

	has(id: number): boolean {
		return this.#ports.has(id);
	}

	/** @throws RangeError for an id that is taken, or has more than 24 bits */
	bindMessages(id: number, port: MessageConnection): void {
		this.#bind(id, { kind: "message", port });
	}

	/** @throws RangeError as bindMessages */
	bindEvents(id: number, port: EventConnection): void {
		this.#bind(id, { kind: "event", port });
	}

	unbind(id: number): void {
		this.#ports.delete(id);
	}

	#bind(id: number, port: Port): void {
		if (!Number.isInteger(id) || id < 0 || id > MAX_CONNECTION_ID)
			throw new RangeError(`a connection id has 24 bits, not ${id}`);
		if (this.#ports.has(id)) throw new RangeError(`connection id ${id} is taken`);
		this.#ports.set(id, port);
	}

	/** @returns the port's status; INVALID_CONNECTION_ID when there is none for messages; OPERATION_DENIED for a low VTL */
	post(id: number, type: number, payload: Uint8Array, caller: Caller): HvStatus {
		const found = this.#ports.get(id);
		if (found?.kind !== "message") return HvStatus.INVALID_CONNECTION_ID;
		if (caller.vtl < (found.port.minVtl ?? 0)) return HvStatus.OPERATION_DENIED;
		return found.port.post(type, payload, caller);
	}

	/** @returns SUCCESS; INVALID_CONNECTION_ID when there is none for events; INVALID_PARAMETER for a flag it does not have */
	signal(id: number, flag: number, caller: Caller): HvStatus {
		const found = this.#ports.get(id);
		if (found?.kind !== "event") return HvStatus.INVALID_CONNECTION_ID;
		if (flag >= (found.port.flags ?? 1)) return HvStatus.INVALID_PARAMETER;
		found.port.signal(flag, caller);
		return HvStatus.SUCCESS;
	}
}
