/** A workload served by a subject on the release build: counts and checks first, then as many timed passes as are asked for. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import { InputError } from "../input-error.ts";
import { PageState } from "../memory/ram.ts";
import type { Pool } from "../swiotlb/pool.ts";
import { type TraceCounters, totalBytes, type Workload } from "../workload/workload.ts";
import { type Cause, crashCause } from "./cause.ts";
import type { Checked, Driver, DriverKind, Pass } from "./driver.ts";
import { driverOf } from "./driver-of.ts";
import type { GuestSize } from "./layout.ts";
import { requestsOf, type Served } from "./refusal.ts";
import { makeReplay, type Replay } from "./replay.ts";
import { type ServingPool, servingPool } from "./serving-pool.ts";
import {
	columnMedians,
	isNoise,
	median,
	type Percentiles,
	percentiles,
	type SizeClass,
	type Spread,
	sizeClasses,
	spreadOf,
} from "./statistics.ts";
import type { Subject } from "./subject.ts";

/** Percentiles, and those of each pass, which may lie below the clock. */
export interface Latency extends Percentiles {
	readonly passes: {
		readonly p50Ns: readonly number[];
		readonly p99Ns: readonly number[];
		readonly p999Ns: readonly number[];
		readonly maxNs: readonly number[];
	};
}

/** What a run counted and measured. Units stand in the names; times are of the whole workload unless they say otherwise. */
export interface RunResult extends Checked {
	readonly driver: DriverKind;
	readonly engineHash: string;
	/** Requests of the trace, and the commands they became at the preset's and the DMA layer's limits. */
	readonly requests: number;
	readonly commands: number;
	/** Of those, what was served; and the pool that would serve all of them, null where nothing was refused or there is no pool. */
	readonly served: Served;
	readonly servingPool: ServingPool | null;
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
	/** The same with their quartiles. */
	readonly spread: { readonly dmaNs: Spread; readonly deviceNs: Spread; readonly totalNs: Spread };
	/** What both together take more than the two alone, or less (ns, median of the passes), and whether that is noise. */
	readonly interaction: { readonly ns: number; readonly isNoise: boolean };
	/**
	 * The medians over the requests and bytes that were served, and bytes served by the time of both together; null: none was.
	 * The time that refusals took is in it.
	 */
	readonly dmaNsPerRequest: number | null;
	readonly deviceNsPerRequest: number | null;
	readonly totalNsPerRequest: number | null;
	readonly dmaNsPerKiB: number | null;
	readonly gigabytesPerSecond: number | null;
	/** Every timed pass (ns). */
	readonly passes: {
		readonly dmaNs: readonly number[];
		readonly deviceNs: readonly number[];
		readonly totalNs: readonly number[];
	};
	/** Of the timed passes' time, the share for which the process had a CPU, 0 to 1; null: not known. */
	readonly cpuShare: number | null;
	/** Whether that is so little that others had the machine. */
	readonly isBusy: boolean;
	/**
	 * Of the maps and unmaps of a request that was served: each request's median of up to 9 passes that read the clock around every
	 * event, less clockNs for each; null: none was served.
	 */
	readonly latency: Latency | null;
	/** What timing one event adds to it (ns): what an empty call takes so, or more where the passes with a clock took more. */
	readonly clockNs: number;
	readonly sizeClasses: readonly SizeClass[];
	readonly pool: null | {
		readonly slabs: number;
		readonly areas: number;
		readonly bytes: number;
		readonly hiwaterSlots: number;
		readonly hiwaterBytes: number;
		/**
		 * The high-water mark if each request whose completion was lost is held until its sector is issued again, or to the end;
		 * null: no completion was lost, or the buffers of so many held requests have no room.
		 */
		readonly heldHiwaterSlots: number | null;
	};
	/** Pages that the host can read at the end, and their bytes. */
	readonly hostReadablePages: number;
	readonly hostReadableBytes: number;
	readonly trace: TraceCounters;
}

/** How a run is made. */
export interface RunOptions extends GuestSize {
	/** Timed passes, 1 to 1000; medians are reported. Default 15. */
	readonly repeat?: number;
}

/** Passes that read the clock around every event, at most: what they hold is as large as the trace. */
const CLOCKED_PASSES = 9;
/** A process that has a CPU for less of its time than this waits for others. */
const LEAST_CPU_SHARE = 0.9;
/** Events of a request, each of which is timed. */
const EVENTS_PER_REQUEST = 2;

/** What was counted before the first pass. */
type Counted = Pick<
	RunResult,
	| keyof Checked
	| "served"
	| "servingPool"
	| "directMaps"
	| "bouncedMaps"
	| "bytesCopiedIn"
	| "bytesCopiedBack"
	| "pool"
	| "hostReadablePages"
>;

/** A run under way: every byte is checked, and it is warm. */
export class Run {
	readonly #replay: Replay;
	readonly #driver: Driver;
	readonly #counted: Counted;
	/** Numbers of the requests that were served. */
	readonly #served: readonly number[];
	readonly #cpuMs: (() => number) | null;
	readonly #passes: Pass[] = [];
	/** ns of each request, the clock's cost in them, a pass each. */
	readonly #clocked: Float64Array[] = [];
	#timedMs = 0;
	#usedMs = 0;

	private constructor(
		replay: Replay,
		driver: Driver,
		counted: Counted,
		refused: Uint8Array,
		cpuMs: (() => number) | null,
	) {
		this.#replay = replay;
		this.#driver = driver;
		this.#counted = counted;
		this.#served = [...refused.keys()].filter((number) => refused[number] === 0);
		this.#cpuMs = cpuMs;
	}

	/**
	 * Puts a workload on a subject: in the replay loop of WebAssembly where the policy is all in the device's decision record, else
	 * command by command from TypeScript.
	 * @param cpuMs the CPU time that this process had until now (ms); null: nobody knows
	 * @returns why there is nothing to time, or the run
	 * @throws RangeError and InputError for options and workloads that do not fit
	 */
	static async open(
		workload: Workload,
		subject: Subject,
		size: GuestSize = {},
		cpuMs: (() => number) | null = null,
	): Promise<Run | Cause> {
		const replay = await makeReplay(workload, subject, size);
		if ("what" in replay) return replay;
		const { guest, device } = replay.stage;
		if (device.crash !== null) return crashCause(device.crash);
		// touched once, so that no pass pays for the host's page faults
		for (const { gpa, bytes } of replay.buffers) guest.engine.ram.fill(gpa, bytes, 0x5a);
		const driver = driverOf(replay);
		const { refused, ...checked } = driver.checked();
		const { directMaps, bouncedMaps, bytesIn, bytesBack } = device.dma.counters;
		const pool = device.pool?.pool ?? null;
		const requests = refusedRequests(replay, refused);
		const counted: Counted = {
			...checked,
			directMaps,
			bouncedMaps,
			bytesCopiedIn: bytesIn,
			bytesCopiedBack: bytesBack,
			pool: pool === null ? null : factsOf(pool, await heldHiwater(workload, subject, size)),
			hostReadablePages: guest.engine.ram.pagesInState(PageState.Shared),
			served: servedOf(replay, refused, requests),
			servingPool: checked.firstRefused === null ? null : await servingPool(workload, subject, size),
		};
		driver.warm();
		return new Run(replay, driver, counted, requests, cpuMs);
	}

	/** One more timed pass. */
	pass(): void {
		const used = this.#cpuMs?.() ?? 0;
		const start = performance.now();
		this.#passes.push(this.#driver.pass());
		this.#timedMs += performance.now() - start;
		this.#usedMs += (this.#cpuMs?.() ?? 0) - used;
		if (this.#clocked.length < CLOCKED_PASSES)
			this.#clocked.push(requestTimes(this.#replay.workload, this.#driver.eventTimes()));
	}

	/** What it came to. After one pass or more. */
	result(): RunResult {
		const { workload, plan, stage } = this.#replay;
		const { engine } = stage.guest;
		const passes = {
			dmaNs: this.#passes.map((pass) => pass.dmaNs),
			deviceNs: this.#passes.map((pass) => pass.deviceNs),
			totalNs: this.#passes.map((pass) => pass.totalNs),
		};
		const spread = {
			dmaNs: spreadOf(passes.dmaNs),
			deviceNs: spreadOf(passes.deviceNs),
			totalNs: spreadOf(passes.totalNs),
		};
		const [dmaNs, deviceNs, totalNs] = [spread.dmaNs.median, spread.deviceNs.median, spread.totalNs.median];
		const more = this.#passes.map((pass) => pass.totalNs - pass.dmaNs - pass.deviceNs);
		const { served, hostReadablePages } = this.#counted;
		const per = (ns: number, count: number) => (count === 0 ? null : ns / count);
		const cpuShare = this.#cpuMs === null ? null : Math.min(1, this.#usedMs / this.#timedMs);
		return {
			driver: this.#driver.kind,
			engineHash: engine.hash,
			requests: workload.requests.length,
			commands: plan.commands.length,
			bytes: totalBytes(workload),
			...this.#counted,
			hostReadableBytes: hostReadablePages * PAGE_SIZE,
			dmaNs,
			deviceNs,
			totalNs,
			spread,
			interaction: { ns: median(more), isNoise: isNoise(more, totalNs) },
			dmaNsPerRequest: per(dmaNs, served.requests),
			deviceNsPerRequest: per(deviceNs, served.requests),
			totalNsPerRequest: per(totalNs, served.requests),
			dmaNsPerKiB: per(dmaNs, served.bytes / 1024),
			gigabytesPerSecond: served.bytes === 0 ? null : served.bytes / totalNs,
			passes,
			cpuShare,
			isBusy: cpuShare !== null && cpuShare < LEAST_CPU_SHARE,
			...this.#latency(dmaNs),
			trace: workload.counters,
		};
	}

	/** @param dmaNs what the same takes without a clock: what a clocked pass takes more is the clock's */
	#latency(dmaNs: number): Pick<RunResult, "latency" | "clockNs" | "sizeClasses"> {
		const { requests, events } = this.#replay.workload;
		const times = columnMedians(this.#clocked);
		const clockedNs = times.reduce((sum, ns) => sum + ns, 0);
		const clockNs = Math.max(this.#driver.clockNs(), (clockedNs - dmaNs) / events.length);
		const clockPerRequest = clockNs * EVENTS_PER_REQUEST;
		const own = (all: Float64Array) =>
			Float64Array.from(this.#served, (number) => Math.max(0, (all[number] as number) - clockPerRequest));
		if (this.#served.length === 0) return { latency: null, clockNs, sizeClasses: [] };
		const served = own(times);
		const passes = this.#clocked.map((all) => percentiles(own(all), -1));
		const each = (name: "p50Ns" | "p99Ns" | "p999Ns" | "maxNs") => passes.map((pass) => pass[name] ?? 0);
		return {
			clockNs,
			latency: {
				...percentiles(served, clockPerRequest),
				passes: { p50Ns: each("p50Ns"), p99Ns: each("p99Ns"), p999Ns: each("p999Ns"), maxNs: each("maxNs") },
			},
			sizeClasses: sizeClasses(
				this.#served.map((number) => requests[number] as { bytes: number }),
				served,
				clockPerRequest,
			),
		};
	}
}

/** Of each request of a workload: 1 where a command of it was refused. @param refused the same of each command */
function refusedRequests({ workload, plan }: Replay, refused: Uint8Array): Uint8Array {
	const marks = new Uint8Array(workload.requests.length);
	for (const [command, request] of requestsOf(plan, workload).entries()) if (refused[command] === 1) marks[request] = 1;
	return marks;
}

function servedOf({ plan }: Replay, refused: Uint8Array, refusedRequests: Uint8Array): Served {
	let [commands, bytes] = [0, 0];
	for (const [i, { first, before, data }] of plan.commands.entries()) {
		if (refused[i] === 1) continue;
		commands++;
		for (let entry = first + before; entry < first + before + data; entry++) bytes += plan.entries[entry]?.bytes ?? 0;
	}
	const requests = refusedRequests.reduce((sum, mark) => sum + 1 - mark, 0);
	return { commands, requests, bytes };
}

/** The pool's high-water mark with every request whose completion was lost held, or null. */
async function heldHiwater(workload: Workload, subject: Subject, size: GuestSize): Promise<number | null> {
	const { heldEvents } = workload;
	if (heldEvents === undefined) return null;
	try {
		const replay = await makeReplay({ ...workload, events: heldEvents }, subject, size);
		if ("what" in replay) return null;
		driverOf(replay).refuses();
		return replay.stage.device.pool?.pool.hiwater ?? null;
	} catch (error) {
		if (error instanceof InputError) return null;
		throw error;
	}
}

function factsOf(
	{ slabs, areaCount: areas, bytes, hiwater }: Pool,
	heldHiwaterSlots: number | null,
): NonNullable<RunResult["pool"]> {
	return { slabs, areas, bytes, hiwaterSlots: hiwater, hiwaterBytes: hiwater * IO_TLB_SIZE, heldHiwaterSlots };
}

/** ns of each request's events. @param times of each event */
function requestTimes({ requests, events }: Workload, times: Float64Array): Float64Array {
	const sums = new Float64Array(requests.length);
	for (const [i, event] of events.entries()) {
		const number = event >>> 1;
		sums[number] = (sums[number] as number) + (times[i] as number);
	}
	return sums;
}
