/**
 * Which processor a channel interrupts (Linux 6.12 drivers/hv/channel_mgmt.c, init_vp_index, with one NUMA node;
 * drivers/hv/hyperv_vmbus.h, hv_clear_allocated_cpu).
 */
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
	/** Primary channels with their sub-channels; one that comes or goes is not among them. */
	readonly #primaries: readonly GuestChannel[];
	readonly #taken = new Set<number>();

	constructor(cpus: number, primaries: readonly GuestChannel[]) {
		this.#cpus = cpus;
		this.#primaries = primaries;
	}

	#next(): number {
		if (this.#taken.size >= this.#cpus) this.#taken.clear();
		let cpu = 0;
		while (this.#taken.has(cpu)) cpu++;
		this.#taken.add(cpu);
		return cpu;
	}

	/** A processor is free again unless another channel that is spread still interrupts it. */
	#free(cpu: number): void {
		const isUsed = this.#primaries.some(
			(primary) => isSpread(primary) && [primary, ...primary.subChannels].some((channel) => channel.targetCpu === cpu),
		);
		if (!isUsed) this.#taken.delete(cpu);
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
		const from = channel.targetCpu;
		channel.targetCpu = cpu;
		if (!isSpread(channel)) return;
		this.#taken.add(cpu);
		this.#free(from);
	}

	/** A channel is gone. */
	release(channel: GuestChannel): void {
		if (isSpread(channel)) this.#free(channel.targetCpu);
	}
}
