/** What a run could not serve: commands that the DMA layer refused, and the first of them. */
import type { GuestDevice } from "../coco/guest/device.ts";
import type { Guest } from "../coco/guest/guest.ts";
import { type Refusal, type RefusedRequest, tellsWhy } from "../dma/refusal.ts";
import { type StatusName, statusName } from "../status.ts";
import type { Plan } from "../workload/plan.ts";
import type { Workload } from "../workload/workload.ts";

/** The first refused command of a run. */
export interface FirstRefusal {
	/** Number of its request in the workload, from 1 on. */
	readonly request: number;
	/** Line of the request in the trace, from 1 on; null: the workload comes from no trace. */
	readonly line: number | null;
	/** Data bytes of the request. */
	readonly bytes: number;
	readonly status: StatusName;
	/** The pool that refused a mapping of it, at that moment; null: no pool was asked, or none refused. */
	readonly pool: {
		/** Slots that the mapping wanted together. */
		readonly wantedSlots: number;
		readonly usedSlots: number;
		readonly slots: number;
		/** Longest run of free slots, 0 to 128. */
		readonly longestFreeRunSlots: number;
	} | null;
	/** Why its mapping was refused, in the kernel's terms; null: not to be seen any more. */
	readonly why: Refusal | null;
}

/** What a run served, over which its figures are. A refused command adds to the refusals, and to nothing here. */
export interface Served {
	readonly commands: number;
	/** Requests all of whose commands were served. */
	readonly requests: number;
	/** Data bytes of the commands that were served. */
	readonly bytes: number;
}

/** Numbers of the requests that a plan's commands belong to. */
export function requestsOf({ eventStarts, events, commands }: Plan, workload: Workload): Uint32Array {
	const numbers = new Uint32Array(commands.length);
	for (const [i, event] of workload.events.entries())
		for (let at = eventStarts[i] as number; at < (eventStarts[i + 1] as number); at++)
			numbers[(events[at] as number) >>> 1] = event >>> 1;
	return numbers;
}

/**
 * The refusal of a command, told right after it happened.
 * @param number of the command's request
 */
export function refusalNow(
	{ requests, lines }: Workload,
	number: number,
	status: number,
	{ pools }: Pick<Guest, "pools">,
	why: Refusal | null,
): FirstRefusal {
	const refused = pools.find(({ pool }) => pool.failures.last !== undefined)?.pool;
	const last = refused?.failures.last;
	return {
		request: number + 1,
		line: lines?.[number] ?? null,
		bytes: requests[number]?.bytes ?? 0,
		status: statusName(status),
		pool:
			refused === undefined || last === undefined
				? null
				: {
						wantedSlots: last.slots,
						usedSlots: last.usedSlots,
						slots: refused.slabs,
						longestFreeRunSlots: last.longestFreeRunSlots,
					},
		why,
	};
}

/**
 * Why a command was refused, seen from its end: what its earlier mappings held is free again.
 * @returns the first of its mappings that is refused as it stands, or null: none is
 */
export function whyRefused(
	device: Pick<GuestDevice, "refusal">,
	mappings: readonly RefusedRequest[],
	status: number,
): Refusal | null {
	return mappings.map((mapping) => device.refusal(mapping, status)).find(tellsWhy) ?? null;
}
