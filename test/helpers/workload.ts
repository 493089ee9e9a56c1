/** Small workloads for replays, and a model of what bouncing them shows the host. */
import fc from "fast-check";
import { readTraceFile } from "../../src/node/input.ts";
import type { GuestSize } from "../../src/study/layout.ts";
import { Direction } from "../../src/types.ts";
import type { Plan } from "../../src/workload/plan.ts";
import type { Workload } from "../../src/workload/workload.ts";
import { shortTrace } from "./cli.ts";

const MIB = 2 ** 20;

/** A guest as small as a replay's can be: 1 MiB of pool, 6.5 MiB of buffers. */
export const SMALL: GuestSize = { ramBytes: 26 * MIB, poolBytes: MIB, areas: 1, seed: 7, contiguity: 3 };

export interface Step {
	readonly read: boolean;
	readonly bytes: number;
	/** How many requests are issued before it completes. */
	readonly depth: number;
	/** Time from the event before it (ns); below 0: the clock steps back. */
	readonly ns: number;
}

/** Requests one after the other, each completed when `depth` more were issued, or at the end. */
export function workloadOf(steps: readonly Step[]): Workload {
	const requests = steps.map(({ read, bytes }, i) => ({ read, bytes, sector: i * 4096, cpu: i % 2 }));
	const events: number[] = [];
	const timesNs: number[] = [];
	let now = 0;
	const live: { number: number; until: number }[] = [];
	const happened = (event: number, ns: number) => {
		now += ns;
		events.push(event);
		timesNs.push(now);
	};
	for (const [i, { depth, ns }] of steps.entries()) {
		happened(i * 2, ns);
		live.push({ number: i, until: i + depth });
		for (const done of live.filter(({ until }) => until <= i)) happened(done.number * 2 + 1, 100);
		live.splice(0, live.length, ...live.filter(({ until }) => until > i));
	}
	for (const { number } of live) happened(number * 2 + 1, 100);
	return {
		name: "made up",
		requests,
		events: Uint32Array.from(events),
		timesNs: Float64Array.from(timesNs),
		counters: {} as never,
		cpus: 2,
	};
}

/** Up to 150 requests of 512 B to 64 KiB, some of them under way together. */
export const anyWorkload: fc.Arbitrary<Workload> = fc
	.array(
		fc.record({
			read: fc.boolean(),
			bytes: fc
				.oneof(fc.integer({ min: 1, max: 24 }), fc.constant(8), fc.integer({ min: 1, max: 128 }))
				.map((n) => n * 512),
			depth: fc.integer({ min: 0, max: 4 }),
			ns: fc.integer({ min: -2000, max: 5000 }),
		}),
		{ minLength: 2, maxLength: 150, size: "max" },
	)
	.map(workloadOf);

/** The first lines of the database recording. */
export function shortPgbench(lines: number): Promise<Workload> {
	return readTraceFile(shortTrace(lines));
}

/** What a plan that is bounced as a whole puts on shared pages: counted from its entries alone. */
export interface Shown {
	/** Of drivers' writes, of the first copies of FROM_DEVICE, and of what the device wrote. */
	sent: number;
	initial: number;
	answered: number;
}

/** @param accepted whether what the device writes is of private origin */
export function shownByBouncing({ plan, workload }: { plan: Plan; workload: Workload }, accepted: boolean): Shown {
	const shown: Shown = { sent: 0, initial: 0, answered: 0 };
	/** Bytes of buffers that are of private origin, by page. */
	const pages = new Map<number, Uint8Array>();
	const each = (gpa: number, bytes: number, visit: (page: Uint8Array, from: number, to: number) => void) => {
		for (let at = gpa; at < gpa + bytes; ) {
			const page = at - (at % 4096);
			const end = Math.min(page + 4096, gpa + bytes);
			const labels = pages.get(page) ?? new Uint8Array(4096);
			pages.set(page, labels);
			visit(labels, at - page, end - page);
			at = end;
		}
	};
	for (let i = 0; i < workload.events.length; i++) {
		for (let at = plan.eventStarts[i] as number; at < (plan.eventStarts[i + 1] as number); at++) {
			const event = plan.events[at] as number;
			const command = plan.commands[event >>> 1];
			if (command === undefined) throw new Error("no command");
			const { first, before, data, after } = command;
			for (const { gpa, bytes, dir } of plan.entries.slice(first, first + before + data + after)) {
				const issued = (event & 1) === 0;
				if (dir === Direction.ToDevice) {
					if (!issued) continue;
					each(gpa, bytes, (labels, from, to) => labels.fill(1, from, to));
					shown.sent += bytes;
				} else if (issued) {
					each(gpa, bytes, (labels, from, to) => {
						for (let i = from; i < to; i++) shown.initial += labels[i] as number;
					});
				} else {
					if (accepted) shown.answered += bytes;
					each(gpa, bytes, (labels, from, to) => labels.fill(accepted ? 1 : 0, from, to));
				}
			}
		}
	}
	return shown;
}
