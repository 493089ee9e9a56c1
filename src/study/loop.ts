/** The replay loop inside WebAssembly, where a policy is all in its device's decision record. */
import * as layout from "../../assembly/layout/replay.ts";
import type { RefusedRequest } from "../dma/refusal.ts";
import { type StatusName, statusName } from "../status.ts";
import type { Direction } from "../types.ts";
import { type Command, type PlacedPlan, placePlan, STORE_BYTES } from "../workload/plan.ts";
import { attrsOf } from "./drive.ts";
import type { CheckedRun, Driver, Pass } from "./driver.ts";
import { type FirstRefusal, refusalNow, whyRefused } from "./refusal.ts";
import type { Replay } from "./replay.ts";
import { Sampler } from "./sampler.ts";
import { clockCostNs } from "./statistics.ts";

const { WORK_DMA, WORK_DEVICE, WORK_CHECK } = layout;

export class ReplayLoop implements Driver {
	readonly kind = "wasm";
	readonly #replay: Replay;
	readonly #placed: PlacedPlan;
	readonly #store: number;
	readonly #total = new Sampler(() => this.#runAll(WORK_DMA | WORK_DEVICE));
	readonly #dma = new Sampler(() => this.#runAll(WORK_DMA));
	readonly #device = new Sampler(() => this.#runAll(WORK_DEVICE));

	constructor(replay: Replay) {
		this.#replay = replay;
		const { engine } = replay.stage.guest;
		this.#store = engine.scratch(STORE_BYTES);
		this.#placed = placePlan(replay.plan, engine.instance.data, engine.scratch(replay.plan.bytes));
	}

	/** Runs replay events [first, end). @returns bytes that did not arrive as sent */
	#run(first: number, end: number, work: number): number {
		const { guest, device } = this.#replay.stage;
		const { events, requests, entries } = this.#placed;
		const at = events + first * layout.EVENT_BYTES;
		const { exports } = guest.engine.instance;
		return exports.replayRun(device.dma.index, at, end - first, requests, entries, this.#store, work) >>> 0;
	}

	/** Runs all events. */
	#runAll(work: number): void {
		this.#run(0, this.#replay.plan.events.length, work);
	}

	/** OK, or what refused a command. */
	#status(command: number): number {
		const { data } = this.#replay.stage.guest.engine.instance;
		return data.getInt32(this.#placed.requests + command * layout.REQUEST_BYTES + layout.REQUEST_STATUS, true);
	}

	/** What a command maps. */
	#mappings(number: number): RefusedRequest[] {
		const { plan } = this.#replay;
		const command = plan.commands[number] as Command;
		const { first, before, data, after } = command;
		return plan.entries.slice(first, first + before + data + after).map(({ gpa, bytes, dir }, i) => {
			return { gpa, bytes, dir: dir as Direction, attrs: attrsOf(command, i) };
		});
	}

	checked(): CheckedRun {
		const { plan, workload, stage } = this.#replay;
		const work = WORK_DMA | WORK_DEVICE | WORK_CHECK;
		let wrongBytes = 0;
		let firstRefused: FirstRefusal | null = null;
		let at = 0;
		// one by one up to the first refusal, whose pool is looked at as it was then
		for (let i = 0; i < workload.events.length && firstRefused === null; i++) {
			for (; at < (plan.eventStarts[i + 1] as number) && firstRefused === null; at++) {
				wrongBytes += this.#run(at, at + 1, work);
				const event = plan.events[at] as number;
				const status = (event & 1) === 0 ? this.#status(event >>> 1) : 0;
				if (status < 0) {
					const why = whyRefused(stage.device, this.#mappings(event >>> 1), status);
					firstRefused = refusalNow(workload, (workload.events[i] as number) >>> 1, status, stage.guest, why);
				}
			}
		}
		wrongBytes += this.#run(at, plan.events.length, work);
		const failures: Partial<Record<StatusName, number>> = {};
		const refused = new Uint8Array(plan.commands.length);
		for (let i = 0; i < refused.length; i++) {
			const status = this.#status(i);
			if (status >= 0) continue;
			refused[i] = 1;
			failures[statusName(status)] = (failures[statusName(status)] ?? 0) + 1;
		}
		return { wrongBytes, failures, firstRefused, refused };
	}

	refuses(): boolean {
		this.#runAll(WORK_DMA);
		return this.#replay.plan.commands.some((_, i) => this.#status(i) < 0);
	}

	warm(): void {
		for (const sampler of [this.#total, this.#dma, this.#device]) sampler.warm();
		this.eventTimes();
	}

	pass(): Pass {
		return { totalNs: this.#total.sample(), dmaNs: this.#dma.sample(), deviceNs: this.#device.sample() };
	}

	clockNs(): number {
		return clockCostNs(() => this.#run(0, 0, WORK_DMA));
	}

	eventTimes(): Float64Array {
		const { eventStarts } = this.#replay.plan;
		return Float64Array.from({ length: eventStarts.length - 1 }, (_, i) => {
			const start = performance.now();
			this.#run(eventStarts[i] as number, eventStarts[i + 1] as number, WORK_DMA);
			return (performance.now() - start) * 1e6;
		});
	}
}
