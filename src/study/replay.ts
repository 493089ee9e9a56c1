/** A workload on a subject's stage: memory for its buffers, and a plan of its commands. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import { formatBytes } from "../bytes.ts";
import type { GuestOptions } from "../coco/guest/guest.ts";
import { PageState } from "../memory/ram.ts";
import type { PolicySetup } from "../policy/setup.ts";
import { Attr } from "../types.ts";
import { BufferAllocator, type PageStretch } from "../workload/pages.ts";
import { compilePlan, type Plan, planRoom, STORE_BYTES } from "../workload/plan.ts";
import type { Workload } from "../workload/workload.ts";
import type { Cause } from "./cause.ts";
import { type GuestSize, layoutFor, PoolTooLarge, sizedGuest } from "./layout.ts";
import { NOISE } from "./noise.ts";
import { makeStage, type Stage } from "./stage.ts";
import type { Subject } from "./subject.ts";

/** A subject's guest and device, and what that is asked to do. */
export interface Replay {
	readonly stage: Stage & { readonly refused: null };
	readonly plan: Plan;
	readonly workload: Workload;
	/** Where buffers lie. */
	readonly buffers: readonly PageStretch[];
}

const WASM_BYTES = 2 ** 32;

/**
 * Puts a workload on a subject's stage.
 * @param engine the build to make it on. Default: the release build
 * @returns the replay, or why there is none
 * @throws RangeError (PoolTooLarge among them), InputError for options and workloads that do not fit; as makeStage
 */
export async function makeReplay(
	workload: Workload,
	{ setup, scenario, place, preset, pool: hasPool, kernelBytes }: Subject,
	size: GuestSize = {},
	engine: Pick<GuestOptions, "build" | "auditEvents"> = {},
): Promise<Replay | Cause> {
	const guestSize = sizedGuest(size);
	const poolBytes = layoutFor(guestSize, workload.cpus).pool.slabs * IO_TLB_SIZE;
	const others = (setup.policy.pools?.length ?? 0) + (scenario.restricted ? 1 : 0);
	const layout = layoutFor(guestSize, workload.cpus, kernelBytes + others * poolBytes);
	const { pool, stretches, buffers, control, highestGpa } = layout;
	const isAudit = engine.build === "engine.audit";
	const held = stretches.reduce((sum, { bytes }) => sum + bytes, 0) * (isAudit ? 2 : 1);
	if (held > WASM_BYTES)
		throw new PoolTooLarge(
			`pool: ${formatBytes(poolBytes * (others + 1))} of pools and the buffers make ${formatBytes(held)}${isAudit ? ", held twice for the audit" : ""}, more than the 4 GiB of a WebAssembly memory: give it a smaller --pool`,
		);
	const stage = await makeStage(setup, scenario, {
		...place,
		...engine,
		ram: stretches,
		cpus: workload.cpus,
		swiotlb: hasPool ? `${pool.slabs},${pool.areas}` : null,
		atomicPools: kernelBytes > 0,
		poolBytes,
		reserved: [control, ...buffers],
		spareBytes: planRoom(workload) + (isAudit ? 0 : STORE_BYTES),
		cipher: NOISE,
		seed: guestSize.seed,
	});
	if (stage.refused !== null) return stage.refused;
	const { guest, device } = stage;
	const shared = sharedPart(buffers, guest.platform.conversion.steps.toShared.length > 0 ? setup : null);
	for (const { gpa, bytes } of shared) guest.converter.convert(gpa, bytes, PageState.Shared);
	const isShared = ({ gpa }: PageStretch) => shared.some((part) => gpa >= part.gpa && gpa < part.gpa + part.bytes);
	const rest = buffers.map((run) => {
		const taken = shared.find(({ gpa }) => gpa === run.gpa)?.bytes ?? 0;
		return { gpa: run.gpa + taken, bytes: run.bytes - taken };
	});
	const { contiguity, seed } = guestSize;
	const pages = new SplitPages(
		new BufferAllocator(rest, contiguity, seed),
		shared.length === 0 ? null : new BufferAllocator(shared, contiguity, seed),
		isShared,
		setup.policy.preSharedPercent ?? 0,
	);
	const plan = compilePlan(workload, preset, {
		pages,
		control,
		maxMappingBytes: device.dma.maxMappingBytes(highestGpa),
		attrsOf: (run) => (isShared(run) ? Attr.CcShared : 0),
	});
	return { stage, plan, workload, buffers };
}

/** The first part of each stretch of buffers that is shared for good, as large as the policy says. null: nothing is */
function sharedPart(buffers: readonly PageStretch[], setup: PolicySetup | null): PageStretch[] {
	const percent = setup?.policy.preSharedPercent ?? 0;
	if (percent === 0) return [];
	return buffers.map(({ gpa, bytes }) => ({
		gpa,
		bytes: Math.floor((bytes * percent) / 100 / PAGE_SIZE) * PAGE_SIZE,
	}));
}

/** Buffers out of two kinds of memory, in a fixed proportion of the requests. */
class SplitPages {
	readonly #own: BufferAllocator;
	readonly #shared: BufferAllocator | null;
	readonly #isShared: (run: PageStretch) => boolean;
	readonly #percent: number;
	#turn = 0;

	constructor(
		own: BufferAllocator,
		shared: BufferAllocator | null,
		isShared: (run: PageStretch) => boolean,
		percent: number,
	) {
		this.#own = own;
		this.#shared = shared;
		this.#isShared = isShared;
		this.#percent = percent;
	}

	take(bytes: number): PageStretch[] | undefined {
		this.#turn += this.#percent;
		if (this.#turn < 100 || this.#shared === null) return this.#own.take(bytes);
		this.#turn -= 100;
		// a full share is no reason to fail: the driver allocates as without it
		return this.#shared.take(bytes) ?? this.#own.take(bytes);
	}

	give(runs: readonly PageStretch[]): void {
		const [first] = runs;
		if (first !== undefined && this.#shared !== null && this.#isShared(first)) this.#shared.give(runs);
		else this.#own.give(runs);
	}
}
