/** What a policy costs on a workload: the release build, timed. */

import type { Scenario } from "../policy/scenarios.ts";
import type { PolicySetup } from "../policy/setup.ts";
import type { Workload } from "../workload/workload.ts";
import { type Cause, crashCause } from "./cause.ts";
import { Drive } from "./drive.ts";
import { type ReplayOptions, type ReplayStage, replayStage } from "./replay-stage.ts";
import { type ModeResult, ModeRun, measure, modeResult, poolFacts } from "./run.ts";
import { clockCostNs } from "./statistics.ts";

/**
 * Runs a workload under a policy and times it: in the replay loop of WebAssembly where the policy is all in the device's
 * decision record, else command by command from TypeScript.
 * @param repeat timed passes
 * @returns why there is nothing to time, or the figures
 * @throws RangeError and InputError for options and workloads that do not fit
 */
export async function runPolicy(
	workload: Workload,
	setup: PolicySetup,
	scenario: Scenario,
	options: ReplayOptions,
	repeat: number,
): Promise<ModeResult | Cause> {
	const on = await replayStage(workload, setup, scenario, options, { build: "engine" });
	if ("what" in on) return on;
	const { guest, device } = on.stage;
	if (device.crash !== null) return crashCause(device.crash);
	// touched once, so that no pass pays for the host's page faults
	for (const { gpa, bytes } of on.buffers) guest.engine.ram.fill(gpa, bytes, 0x5a);
	if (device.mechanism === "share-in-place") return measureDriven(on, setup.name, repeat);
	return measure(new ModeRun(guest.engine, device.dma, on.plan), workload, setup.name, repeat);
}

/** Times a drive. The device's part is its moves through its own view of memory, and is told apart. */
function measureDriven(on: ReplayStage, mode: string, repeat: number): ModeResult {
	const { workload, stage, plan } = on;
	const { guest, device } = stage;
	const { engine } = guest;
	const first = new Drive(on).run();
	const counters = device.dma.counters;
	const pool = device.pool?.pool ?? null;
	const hiwater = pool?.hiwater ?? 0;
	const timed = (moves: boolean): number => {
		const drive = new Drive(on, { moves });
		const start = performance.now();
		drive.run();
		return (performance.now() - start) * 1e6;
	};
	const passes = { dmaNs: [] as number[], deviceNs: [] as number[], totalNs: [] as number[] };
	for (let i = 0; i < repeat; i++) {
		const [dmaNs, totalNs] = [timed(false), timed(true)];
		passes.dmaNs.push(dmaNs);
		passes.totalNs.push(totalNs);
		passes.deviceNs.push(Math.max(0, totalNs - dmaNs));
	}
	const clockNs = clockCostNs();
	const times = new Float64Array(workload.requests.length);
	const drive = new Drive(on, { moves: false });
	for (const [i, event] of workload.events.entries()) {
		const start = performance.now();
		drive.event(i);
		const ns = (performance.now() - start) * 1e6 - clockNs;
		times[event >>> 1] = (times[event >>> 1] as number) + Math.max(0, ns);
	}
	return modeResult(workload, engine, {
		mode,
		driver: "typescript",
		commands: plan.commands.length,
		counters,
		passes,
		times,
		clockNs,
		pool: pool === null ? null : poolFacts(pool, hiwater),
		failures: first.refused as ModeResult["failures"],
		wrongBytes: 0,
	});
}
