/** Which interrupts of the hypervisor's SynIC a paravisor lets through to its guest. */
import { SINTS, SintBit } from "./registers.ts";
import type { Synic, VectorFilter } from "./synic.ts";

/** A paravisor's filter: the vectors of SINTs that the guest left to the hypervisor, and those that the relay needs. */
export class ProxyFilter implements VectorFilter {
	readonly #paravisor: Synic;
	readonly #relayed = new Set<number>();

	constructor(paravisor: Synic) {
		this.#paravisor = paravisor;
	}

	/**
	 * Also lets through the vector of this SINT, though the guest's SynIC there is the paravisor's: the host goes on to signal
	 * relayed channels through the hypervisor's event page (OpenVMM issue 1162).
	 */
	relay(sint: number): void {
		this.#relayed.add(sint);
	}

	passes(vp: number, vector: number, enabled: boolean): boolean {
		for (let sint = 0; sint < SINTS; sint++) {
			const bits = this.#paravisor.sint(vp, sint);
			if ((bits & SintBit.Masked) !== 0 || (bits & SintBit.VectorMask) !== vector) continue;
			if ((bits & SintBit.Proxy) !== 0 ? enabled : this.#relayed.has(sint)) return true;
		}
		return false;
	}
}
