/** Which processor a channel interrupts (Linux 6.12 drivers/hv/channel_mgmt.c, init_vp_index, with one NUMA node). */
import { DeviceType } from "../wire/guid.ts";
import type { GuestChannel } from "./channel.ts";

/** Device types whose channels are spread over the processors; all others stay with processor 0. */
const SPREAD: readonly string[] = [
	DeviceType.Ide,
	DeviceType.Scsi,
	DeviceType.FibreChannel,
	DeviceType.Network,
	DeviceType.NetworkDirect,
];

function isSpread(channel: GuestChannel): boolean {
	return !channel.isHvSocket && SPREAD.includes(channel.offer.interfaceId);
}

/** Whether a sibling of the channel already interrupts a processor. */
function isUsedBySiblings(channel: GuestChannel, cpu: number): boolean {
	const { primary } = channel;
	if (primary === null) return false;
	return primary.targetCpu === cpu || primary.subChannels.some((sub) => sub !== channel && sub.targetCpu === cpu);
}

/** Hands processors out in turn. */
export class CpuPlan {
	readonly #cpus: number;
	readonly #taken = new Set<number>();

	constructor(cpus: number) {
		this.#cpus = cpus;
	}

	#next(): number {
		if (this.#taken.size >= this.#cpus) this.#taken.clear();
		let cpu = 0;
		while (this.#taken.has(cpu)) cpu++;
		this.#taken.add(cpu);
		return cpu;
	}

	/** Chooses the processor of a new channel, whose primary is known. */
	assign(channel: GuestChannel): void {
		channel.targetCpu = 0;
		if (!isSpread(channel)) return;
		const any = channel.offer.subChannelIndex >= this.#cpus;
		for (let i = 0; i <= this.#cpus; i++) {
			channel.targetCpu = this.#next();
			if (any || i >= this.#cpus || !isUsedBySiblings(channel, channel.targetCpu)) return;
		}
	}

	/** A channel moves from one processor to another. */
	move(channel: GuestChannel, cpu: number): void {
		if (isSpread(channel)) {
			this.#taken.add(cpu);
			this.#taken.delete(channel.targetCpu);
		}
		channel.targetCpu = cpu;
	}

	/** A channel is gone. */
	release(channel: GuestChannel): void {
		if (isSpread(channel)) this.#taken.delete(channel.targetCpu);
	}
}
