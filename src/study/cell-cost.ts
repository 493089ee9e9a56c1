/** What a policy's mapping costs: map and unmap of 4 KiB on the release build. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { PageState } from "../memory/ram.ts";
import { FOUR_GIB } from "../memory/stretches.ts";
import type { Scenario } from "../policy/scenarios.ts";
import type { PolicySetup } from "../policy/setup.ts";
import { Attr, Direction } from "../types.ts";
import type { Cell, CellOptions } from "./cell.ts";
import { NOISE } from "./noise.ts";
import { makeStage } from "./stage.ts";

/** Buffers that are mapped in turn: the copies meet other addresses each time, and stay in the second-level cache. */
const BUFFERS = 64;
/** A sample lasts at least this long, and the samples altogether (ms). */
const SAMPLE_MS = 0.4;
const BUDGET_MS = 8;

/**
 * Times map and unmap of 4 KiB TO_DEVICE from TypeScript, buffers touched before, warm; median of the samples.
 * @returns null for a mapping that is refused or crashes
 */
export async function measureCost(
	setup: PolicySetup,
	scenario: Scenario,
	{ place, arena }: Pick<CellOptions, "place" | "arena"> = {},
): Promise<Pick<Cell, "nsPer4KiB" | "conversionsPer4KiB">> {
	const none = { nsPer4KiB: null, conversionsPer4KiB: 0 };
	const stage = await makeStage(setup, scenario, {
		...place,
		cipher: NOISE,
		...(arena === undefined ? {} : { arena }),
	});
	if (stage.refused !== null) return none;
	const { guest, device } = stage;
	const shares = (setup.policy.preSharedPercent ?? 0) > 0 && guest.platform.conversion.steps.toShared.length > 0;
	const buffers = Array.from({ length: BUFFERS }, () => {
		const gpa = guest.pages.alloc(1, { belowGpa: FOUR_GIB });
		if (shares) guest.converter.convert(gpa, PAGE_SIZE, PageState.Shared);
		guest.engine.ram.fill(gpa, PAGE_SIZE, 0x5a);
		return gpa;
	});
	const attrs = shares ? Attr.CcShared : 0;
	const { ToDevice } = Direction;
	const run = (count: number): boolean => {
		for (let i = 0; i < count; i++) {
			const dma = device.tryMap(buffers[i % BUFFERS] as number, PAGE_SIZE, ToDevice, 0, attrs);
			if (dma < 0) return false;
			device.unmap(dma, PAGE_SIZE, ToDevice);
		}
		return true;
	};
	const before = device.conversions;
	if (!run(1)) return none;
	const conversionsPer4KiB = device.conversions - before;
	let count = 1;
	const elapsed = (): number => {
		const start = performance.now();
		run(count);
		return performance.now() - start;
	};
	while (elapsed() < SAMPLE_MS) count *= 2;
	const samples: number[] = [];
	for (let spent = 0; spent < BUDGET_MS || samples.length < 5; ) {
		const ms = elapsed();
		spent += ms;
		samples.push((ms * 1e6) / count);
	}
	samples.sort((a, b) => a - b);
	return { nsPer4KiB: samples[samples.length >> 1] as number, conversionsPer4KiB };
}
