/** A workload on a policy's stage: memory for its buffers, and a plan of its commands. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import { formatBytes } from "../bytes.ts";
import type { GuestOptions } from "../coco/guest/guest.ts";
import { PageState } from "../memory/ram.ts";
import type { Place, Scenario } from "../policy/scenarios.ts";
import type { PolicySetup } from "../policy/setup.ts";
import { Attr } from "../types.ts";
import { PageAllocator, type Run } from "../workload/pages.ts";
import { compilePlan, type Plan, planRoom, STORE_BYTES } from "../workload/plan.ts";
import { type DevicePreset, presetNamed } from "../workload/presets.ts";
import type { Workload } from "../workload/workload.ts";
import type { Cause } from "./cause.ts";
import { NOISE } from "./noise.ts";
import { type CompareOptions, layoutFor } from "./options.ts";
import { makeStage, type Stage } from "./stage.ts";

/** A guest of a policy, its device, and what that is asked to do. */
export interface ReplayStage {
	readonly stage: Stage & { readonly refused: null };
	readonly preset: DevicePreset;
	readonly plan: Plan;
	readonly workload: Workload;
	/** Where buffers lie, and the driver's per-command structures. */
	readonly buffers: readonly Run[];
	readonly control: Run;
}

/** What a replay runs with, beside the policy. */
export interface ReplayOptions extends Omit<CompareOptions, "device" | "repeat"> {
	readonly place?: Place;
}

/** Memory that the guest's kernel has for itself: atomic pools, coherent buffers (bytes). */
const KERNEL_BYTES = 16 * 2 ** 20;
const WASM_BYTES = 2 ** 32;

/**
 * Makes the stage for a workload.
 * @returns the stage, or why there is none
 * @throws RangeError, InputError for options and workloads that do not fit; as makeStage
 */
export async function replayStage(
	workload: Workload,
	setup: PolicySetup,
	scenario: Scenario,
	options: ReplayOptions,
	engine: Pick<GuestOptions, "build" | "auditEvents">,
): Promise<ReplayStage | Cause> {
	const preset = presetNamed(scenario.driver);
	const compareOptions = { ...options, device: preset.name, repeat: 1 };
	const alone = layoutFor(compareOptions, workload.cpus);
	const poolBytes = alone.pool.slabs * IO_TLB_SIZE;
	const others = (setup.policy.pools?.length ?? 0) + (scenario.restricted ? 1 : 0);
	const { pool, stretches, buffers, control } = layoutFor(
		compareOptions,
		workload.cpus,
		KERNEL_BYTES + others * poolBytes,
	);
	const isAudit = engine.build === "engine.audit";
	const held = stretches.reduce((sum, { bytes }) => sum + bytes, 0) * (isAudit ? 2 : 1);
	if (held > WASM_BYTES)
		throw new RangeError(
			`pool: ${formatBytes(poolBytes * (others + 1))} of pools and the buffers make ${formatBytes(held)}${isAudit ? ", held twice for the audit" : ""}, more than the 4 GiB of a WebAssembly memory: give it a smaller --pool`,
		);
	const stage = await makeStage(setup, scenario, {
		...options.place,
		...engine,
		ram: stretches,
		cpus: workload.cpus,
		swiotlb: `${pool.slabs},${pool.areas}`,
		poolBytes,
		reserved: [control, ...buffers],
		spareBytes: planRoom(workload) + (isAudit ? 0 : STORE_BYTES),
		cipher: NOISE,
		seed: options.seed,
	});
	if (stage.refused !== null) return stage.refused;
	const { guest, device } = stage;
	const shared = sharedPart(buffers, guest.platform.conversion.steps.toShared.length > 0 ? setup : null);
	for (const { gpa, bytes } of shared) guest.converter.convert(gpa, bytes, PageState.Shared);
	const isShared = ({ gpa }: Run) => shared.some((part) => gpa >= part.gpa && gpa < part.gpa + part.bytes);
	const rest = buffers.map((run) => {
		const taken = shared.find(({ gpa }) => gpa === run.gpa)?.bytes ?? 0;
		return { gpa: run.gpa + taken, bytes: run.bytes - taken };
	});
	const { contiguity, seed } = options;
	const pages = new SplitPages(
		new PageAllocator(rest, contiguity, seed),
		shared.length === 0 ? null : new PageAllocator(shared, contiguity, seed),
		isShared,
		setup.policy.preSharedPercent ?? 0,
	);
	const last = guest.engine.ram.regions.at(-1);
	const highest = last === undefined ? 0 : last.gpa + last.bytes - 1;
	const maxMapping = device.dma.maxMappingBytes(highest);
	const attrsOf = (run: Run) => (isShared(run) ? Attr.CcShared : 0);
	const plan = compilePlan(workload, preset, pages, control, maxMapping, attrsOf);
	return { stage, preset, plan, workload, buffers, control };
}

/** The first part of each stretch of buffers that is shared for good, as large as the policy says. null: nothing is */
function sharedPart(buffers: readonly Run[], setup: PolicySetup | null): Run[] {
	const percent = setup?.policy.preSharedPercent ?? 0;
	if (percent === 0) return [];
	return buffers.map(({ gpa, bytes }) => ({
		gpa,
		bytes: Math.floor((bytes * percent) / 100 / PAGE_SIZE) * PAGE_SIZE,
	}));
}

/** Buffers out of two kinds of memory, in a fixed proportion of the requests. */
class SplitPages {
	readonly #own: PageAllocator;
	readonly #shared: PageAllocator | null;
	readonly #isShared: (run: Run) => boolean;
	readonly #percent: number;
	#turn = 0;

	constructor(own: PageAllocator, shared: PageAllocator | null, isShared: (run: Run) => boolean, percent: number) {
		this.#own = own;
		this.#shared = shared;
		this.#isShared = isShared;
		this.#percent = percent;
	}

	take(bytes: number): Run[] | undefined {
		this.#turn += this.#percent;
		if (this.#turn < 100 || this.#shared === null) return this.#own.take(bytes);
		this.#turn -= 100;
		// a full share is no reason to fail: the driver allocates as without it
		return this.#shared.take(bytes) ?? this.#own.take(bytes);
	}

	give(runs: readonly Run[]): void {
		const [first] = runs;
		if (first !== undefined && this.#shared !== null && this.#isShared(first)) this.#shared.give(runs);
		else this.#own.give(runs);
	}
}
