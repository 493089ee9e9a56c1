/** The replay loop inside WebAssembly, where a policy is all in its device's decision record. */
import * as layout from "../../assembly/layout/replay.ts";
import { type StatusName, statusName } from "../status.ts";
import { type PlacedPlan, placePlan, STORE_BYTES } from "../workload/plan.ts";
import type { Checked, Driver, Pass } from "./driver.ts";
import type { Replay } from "./replay.ts";

const { WORK_DMA, WORK_DEVICE, WORK_CHECK } = layout;

export class ReplayLoop implements Driver {
	readonly kind = "wasm";
	readonly #replay: Replay;
	readonly #placed: PlacedPlan;
	readonly #store: number;

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

	/** Runs all events. @returns ns */
	#timed(work: number): number {
		const start = performance.now();
		this.#run(0, this.#replay.plan.events.length, work);
		return (performance.now() - start) * 1e6;
	}

	checked(): Checked {
		const { plan, stage } = this.#replay;
		const wrongBytes = this.#run(0, plan.events.length, WORK_DMA | WORK_DEVICE | WORK_CHECK);
		const { data } = stage.guest.engine.instance;
		const failures: Partial<Record<StatusName, number>> = {};
		for (let i = 0; i < plan.commands.length; i++) {
			const status = data.getInt32(this.#placed.requests + i * layout.REQUEST_BYTES + layout.REQUEST_STATUS, true);
			if (status < 0) failures[statusName(status)] = (failures[statusName(status)] ?? 0) + 1;
		}
		return { wrongBytes, failures };
	}

	warm(): void {
		this.#timed(WORK_DMA | WORK_DEVICE);
	}

	pass(): Pass {
		const totalNs = this.#timed(WORK_DMA | WORK_DEVICE);
		return { totalNs, dmaNs: this.#timed(WORK_DMA), deviceNs: this.#timed(WORK_DEVICE) };
	}

	eventTimes(): Float64Array {
		this.#eventTimes();
		return this.#eventTimes();
	}

	#eventTimes(): Float64Array {
		const { eventStarts } = this.#replay.plan;
		return Float64Array.from({ length: eventStarts.length - 1 }, (_, i) => {
			const start = performance.now();
			this.#run(eventStarts[i] as number, eventStarts[i + 1] as number, WORK_DMA);
			return (performance.now() - start) * 1e6;
		});
	}
}
