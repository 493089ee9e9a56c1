/** A workload served by a subject on the release build: counts and checks first, then timed passes, then one event by event. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import { PageState } from "../memory/ram.ts";
import type { Pool } from "../swiotlb/pool.ts";
import { type TraceCounters, totalBytes, type Workload } from "../workload/workload.ts";
import { type Cause, crashCause } from "./cause.ts";
import { DriveTimes } from "./drive.ts";
import type { Checked, Driver, DriverKind } from "./driver.ts";
import { checkRepeat, DEFAULT_REPEAT, type GuestSize } from "./layout.ts";
import { ReplayLoop } from "./loop.ts";
import { makeReplay, type Replay } from "./replay.ts";
import { clockCostNs, median, type Percentiles, percentiles, type SizeClass, sizeClasses } from "./statistics.ts";
import type { Subject } from "./subject.ts";

/** What a run counted and measured. Units stand in the names; times are of the whole workload unless they say otherwise. */
export interface RunResult extends Checked {
	readonly driver: DriverKind;
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
	/** Of a request's maps and unmaps together, from the last pass; the clock's cost is subtracted. */
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
	/** Pages that the host can read at the end, and their bytes. */
	readonly hostReadablePages: number;
	readonly hostReadableBytes: number;
	readonly trace: TraceCounters;
}

/** How a run is made. */
export interface RunOptions extends GuestSize {
	/** Timed passes, 1 to 1000; medians are reported. Default 5. */
	readonly repeat?: number;
}

/**
 * Runs a workload on a subject and times it: in the replay loop of WebAssembly where the policy is all in the device's
 * decision record, else command by command from TypeScript.
 * @returns why there is nothing to time, or the figures
 * @throws RangeError and InputError for options and workloads that do not fit
 */
export async function runSubject(
	workload: Workload,
	subject: Subject,
	{ repeat = DEFAULT_REPEAT, ...size }: RunOptions = {},
): Promise<RunResult | Cause> {
	checkRepeat(repeat);
	const replay = await makeReplay(workload, subject, size);
	if ("what" in replay) return replay;
	const { guest, device } = replay.stage;
	if (device.crash !== null) return crashCause(device.crash);
	// touched once, so that no pass pays for the host's page faults
	for (const { gpa, bytes } of replay.buffers) guest.engine.ram.fill(gpa, bytes, 0x5a);
	const driver = device.mechanism === "share-in-place" ? new DriveTimes(replay) : new ReplayLoop(replay);
	return measured(replay, driver, repeat);
}

function measured({ workload, stage, plan }: Replay, driver: Driver, repeat: number): RunResult {
	const { engine } = stage.guest;
	const pool = stage.device.pool?.pool ?? null;
	const { wrongBytes, failures } = driver.checked();
	const { directMaps, bouncedMaps, bytesIn, bytesBack } = stage.device.dma.counters;
	const poolFacts = pool === null ? null : factsOf(pool);
	driver.warm();
	const passes = Array.from({ length: repeat }, () => driver.pass());
	const dmaNs = median(passes.map((pass) => pass.dmaNs));
	const totalNs = median(passes.map((pass) => pass.totalNs));
	const deviceNs = median(passes.map((pass) => pass.deviceNs));
	const clockNs = clockCostNs();
	const times = requestTimes(workload, driver.eventTimes(), clockNs);
	const bytes = totalBytes(workload);
	const hostReadablePages = engine.ram.pagesInState(PageState.Shared);
	return {
		driver: driver.kind,
		engineHash: engine.hash,
		requests: workload.requests.length,
		commands: plan.commands.length,
		directMaps,
		bouncedMaps,
		bytes,
		bytesCopiedIn: bytesIn,
		bytesCopiedBack: bytesBack,
		dmaNs,
		deviceNs,
		totalNs,
		dmaNsPerRequest: dmaNs / workload.requests.length,
		dmaNsPerKiB: dmaNs / (bytes / 1024),
		gigabytesPerSecond: bytes / totalNs,
		passes: {
			dmaNs: passes.map((pass) => pass.dmaNs),
			deviceNs: passes.map((pass) => pass.deviceNs),
			totalNs: passes.map((pass) => pass.totalNs),
		},
		latency: percentiles(times),
		clockNs,
		sizeClasses: sizeClasses(workload.requests, times),
		pool: poolFacts,
		failures,
		hostReadablePages,
		hostReadableBytes: hostReadablePages * PAGE_SIZE,
		wrongBytes,
		trace: workload.counters,
	};
}

function factsOf({ slabs, areaCount: areas, bytes, hiwater, failures }: Pool): NonNullable<RunResult["pool"]> {
	const { last } = failures;
	const used = { slabs, areas, bytes, hiwaterSlots: hiwater, hiwaterBytes: hiwater * IO_TLB_SIZE };
	return last === undefined ? used : { ...used, lastRefused: last };
}

/** ns of each request's maps and unmaps. @param times of each event */
function requestTimes({ requests, events }: Workload, times: Float64Array, clockNs: number): Float64Array {
	const sums = new Float64Array(requests.length);
	for (const [i, event] of events.entries()) {
		const number = event >>> 1;
		sums[number] = (sums[number] as number) + Math.max(0, (times[i] as number) - clockNs);
	}
	return sums;
}
