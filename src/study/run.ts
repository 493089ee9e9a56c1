/** Runs one workload in one mode: counts and checks first, then timed passes, then an instrumented one. */

import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SIZE, poolBytes as poolContextBytes } from "../../assembly/layout/pool.ts";
import * as replay from "../../assembly/layout/replay.ts";
import type { Device, DeviceCounters } from "../dma/device.ts";
import { Engine } from "../engine.ts";
import { PageState } from "../memory/ram.ts";
import { type StatusName, statusName } from "../status.ts";
import type { Pool } from "../swiotlb/pool.ts";
import { PageAllocator } from "../workload/pages.ts";
import { compilePlan, type PlacedPlan, type Plan, placePlan, planRoom, STORE_BYTES } from "../workload/plan.ts";
import { presetNamed } from "../workload/presets.ts";
import type { TraceCounters, Workload } from "../workload/workload.ts";
import { type CompareOptions, layoutFor, type Mode } from "./options.ts";
import { clockCostNs, median, type Percentiles, percentiles, type SizeClass, sizeClasses } from "./statistics.ts";

/** What one mode did. Units stand in the names; times are of the whole workload unless they say otherwise. */
export interface ModeResult {
	/** A mode of Mode, or a policy's name. */
	readonly mode: string;
	/** Who called the DMA layer: the replay loop inside WebAssembly, or TypeScript, where a policy does more than the engine. */
	readonly driver: "wasm" | "typescript";
	readonly engineHash: string;
	/** Requests of the trace, and the commands they became at the preset's and the DMA layer's limits. */
	readonly requests: number;
	readonly commands: number;
	readonly directMaps: number;
	readonly bouncedMaps: number;
	/** Data bytes of the requests. */
	readonly bytes: number;
	readonly bytesCopiedIn: number;
	readonly bytesCopiedBack: number;
	/** Medians of the timed passes: the DMA layer alone, the device's moves alone, both together. */
	readonly dmaNs: number;
	readonly deviceNs: number;
	readonly totalNs: number;
	readonly dmaNsPerRequest: number;
	readonly dmaNsPerKiB: number;
	/** Data bytes by the time of both together. */
	readonly gigabytesPerSecond: number;
	/** Every timed pass (ns). */
	readonly passes: {
		readonly dmaNs: readonly number[];
		readonly deviceNs: readonly number[];
		readonly totalNs: readonly number[];
	};
	/** Of a request's maps and unmaps together, from the instrumented pass; the clock's cost is subtracted. */
	readonly latency: Percentiles;
	/** What reading the clock costs (ns). */
	readonly clockNs: number;
	readonly sizeClasses: readonly SizeClass[];
	readonly pool: null | {
		readonly slabs: number;
		readonly areas: number;
		readonly bytes: number;
		readonly hiwaterSlots: number;
		readonly hiwaterBytes: number;
		/** Of the last refused map, when there was one. */
		readonly lastRefused?: { readonly slots: number; readonly usedSlots: number; readonly longestFreeRunSlots: number };
	};
	/** Commands refused, by status. */
	readonly failures: Readonly<Partial<Record<StatusName, number>>>;
	/** Pages that the host can read at the end, and their bytes. */
	readonly hostReadablePages: number;
	readonly hostReadableBytes: number;
	/** Bytes that did not arrive as sent: 0, or the run is invalid. */
	readonly wrongBytes: number;
	readonly trace: TraceCounters;
}

/** A compiled workload on its engine. */
export class ModeRun {
	readonly engine: Engine;
	readonly device: Device;
	readonly #plan: Plan;
	readonly #placed: PlacedPlan;
	readonly #store: number;

	constructor(engine: Engine, device: Device, plan: Plan) {
		this.engine = engine;
		this.device = device;
		this.#plan = plan;
		this.#store = engine.scratch(STORE_BYTES);
		const tables = engine.scratch(plan.bytes);
		this.#placed = placePlan(plan, engine.instance.data, tables);
	}

	get commands(): number {
		return this.#plan.commands.length;
	}

	/** Runs replay events [from, to). @returns bytes that did not arrive as sent */
	replay(from: number, to: number, work: number): number {
		const { events, requests, entries } = this.#placed;
		const at = events + from * replay.EVENT_BYTES;
		return (
			this.engine.instance.exports.replayRun(this.device.index, at, to - from, requests, entries, this.#store, work) >>>
			0
		);
	}

	/** Runs all events. @returns ns */
	timed(work: number): number {
		const start = performance.now();
		this.replay(0, this.#plan.events.length, work);
		return (performance.now() - start) * 1e6;
	}

	/** Runs all events with checks. @returns wrong bytes */
	checked(): number {
		return this.replay(0, this.#plan.events.length, replay.WORK_DMA | replay.WORK_DEVICE | replay.WORK_CHECK);
	}

	/** How many commands each status refused. */
	failures(): Partial<Record<StatusName, number>> {
		const { data } = this.engine.instance;
		const failures: Partial<Record<StatusName, number>> = {};
		for (let i = 0; i < this.#plan.commands.length; i++) {
			const at = this.#placed.requests + i * replay.REQUEST_BYTES + replay.REQUEST_STATUS;
			const status = data.getInt32(at, true);
			if (status < 0) failures[statusName(status)] = (failures[statusName(status)] ?? 0) + 1;
		}
		return failures;
	}

	/** Runs the events one of the trace at a time, by the clock. @returns ns of each request's maps and unmaps */
	instrumented(workload: Workload, clockNs: number): Float64Array {
		const times = new Float64Array(workload.requests.length);
		const { eventStarts } = this.#plan;
		for (const [i, event] of workload.events.entries()) {
			const from = eventStarts[i] as number;
			const to = eventStarts[i + 1] as number;
			const start = performance.now();
			this.replay(from, to, replay.WORK_DMA);
			const ns = (performance.now() - start) * 1e6 - clockNs;
			times[event >>> 1] = (times[event >>> 1] as number) + Math.max(0, ns);
		}
		return times;
	}
}

async function prepare(workload: Workload, mode: Mode, options: CompareOptions): Promise<ModeRun> {
	const preset = presetNamed(options.device);
	const layout = layoutFor(options, workload.cpus);
	// a trusted device that reaches all of RAM needs no pool
	const needsPool = mode === "bounce" || BigInt(layout.highestGpa) > (preset.dma.dmaMask ?? 2n ** 64n - 1n);
	const engine = await Engine.create({
		ram: layout.stretches,
		swiotlb: null,
		spareBytes:
			planRoom(workload) +
			STORE_BYTES +
			(needsPool ? poolContextBytes(layout.pool.slabs, layout.pool.areas, false) : 0) +
			4096,
	});
	const pool = needsPool ? engine.addPool(layout.pool) : null;
	const device = engine.addDevice({ ...preset.dma, pool, forceBounce: mode === "bounce" });
	const pages = new PageAllocator(layout.buffers, options.contiguity, options.seed);
	const maxMapping = device.maxMappingBytes(layout.highestGpa);
	const plan = compilePlan(workload, preset, pages, layout.control, maxMapping);
	// touched once, so that no pass pays for the host's page faults
	for (const { gpa, bytes } of layout.buffers) engine.ram.fill(gpa, bytes, 0x5a);
	return new ModeRun(engine, device, plan);
}

/** Runs a workload in one mode. @throws RangeError and InputError for options and workloads that do not fit */
export async function runMode(workload: Workload, mode: Mode, options: CompareOptions): Promise<ModeResult> {
	return measure(await prepare(workload, mode, options), workload, mode, options.repeat);
}

/** Counts and checks a run, then times it. @param mode what it is called @param repeat timed passes */
export function measure(run: ModeRun, workload: Workload, mode: string, repeat: number): ModeResult {
	const { engine, device } = run;
	const pool = device.pool;

	const wrongBytes = run.checked();
	const counters = device.counters;
	const failures = run.failures();
	const hiwater = pool?.hiwater ?? 0;
	const last = pool?.failures.last;

	const passes = { dmaNs: [] as number[], deviceNs: [] as number[], totalNs: [] as number[] };
	run.timed(replay.WORK_DMA | replay.WORK_DEVICE);
	for (let i = 0; i < repeat; i++) {
		passes.totalNs.push(run.timed(replay.WORK_DMA | replay.WORK_DEVICE));
		passes.dmaNs.push(run.timed(replay.WORK_DMA));
		passes.deviceNs.push(run.timed(replay.WORK_DEVICE));
	}
	const clockNs = clockCostNs();
	run.instrumented(workload, clockNs);
	const times = run.instrumented(workload, clockNs);

	return modeResult(workload, engine, {
		mode,
		driver: "wasm",
		commands: run.commands,
		counters,
		passes,
		times,
		clockNs,
		pool: pool === null ? null : { ...poolFacts(pool, hiwater), ...(last === undefined ? {} : { lastRefused: last }) },
		failures,
		wrongBytes,
	});
}

/** Facts of a pool for a result. */
export function poolFacts(pool: Pool, hiwaterSlots: number): NonNullable<ModeResult["pool"]> {
	const { slabs, areaCount: areas, bytes } = pool;
	return { slabs, areas, bytes, hiwaterSlots, hiwaterBytes: hiwaterSlots * IO_TLB_SIZE };
}

/** What a run was told and measured. */
export interface Measured
	extends Pick<ModeResult, "mode" | "driver" | "commands" | "passes" | "clockNs" | "pool" | "failures" | "wrongBytes"> {
	readonly counters: DeviceCounters;
	/** ns of each request's maps and unmaps. */
	readonly times: Float64Array;
}

/** A result: what was measured, and what follows from it. */
export function modeResult(workload: Workload, engine: Engine, measured: Measured): ModeResult {
	const { counters, times, passes, ...given } = measured;
	const bytes = workload.requests.reduce((sum, request) => sum + request.bytes, 0);
	const dmaNs = median(passes.dmaNs);
	const totalNs = median(passes.totalNs);
	const hostReadablePages = engine.ram.pagesInState(PageState.Shared);
	return {
		...given,
		engineHash: engine.hash,
		requests: workload.requests.length,
		directMaps: counters.directMaps,
		bouncedMaps: counters.bouncedMaps,
		bytes,
		bytesCopiedIn: counters.bytesIn,
		bytesCopiedBack: counters.bytesBack,
		dmaNs,
		deviceNs: median(passes.deviceNs),
		totalNs,
		dmaNsPerRequest: dmaNs / workload.requests.length,
		dmaNsPerKiB: dmaNs / (bytes / 1024),
		gigabytesPerSecond: bytes / totalNs,
		passes,
		latency: percentiles(times),
		sizeClasses: sizeClasses(workload.requests, times),
		hostReadablePages,
		hostReadableBytes: hostReadablePages * PAGE_SIZE,
		trace: workload.counters,
	};
}
