/** The pool that would serve a whole workload: found by trying. */
import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import type { Workload } from "../workload/workload.ts";
import { driverOf } from "./driver-of.ts";
import { type GuestSize, layoutFor, MAX_POOL_BYTES, PoolTooLarge, sizedGuest } from "./layout.ts";
import { makeReplay } from "./replay.ts";
import type { Subject } from "./subject.ts";

/** What the search for a pool found. */
export interface ServingPool {
	/** The smallest power of two that refuses nothing (bytes); null: none of those that were tried. */
	readonly bytes: number | null;
	/** The largest pool that was tried (bytes); null: none larger fits into the guest. */
	readonly triedBytes: number | null;
}

/**
 * Replays a workload with pools of powers of two, each larger than the subject's, until one refuses nothing or none larger fits.
 * @returns null for a subject without a pool
 */
export async function servingPool(
	workload: Workload,
	subject: Subject,
	size: GuestSize = {},
): Promise<ServingPool | null> {
	if (!subject.pool && !subject.scenario.restricted && (subject.setup.policy.pools ?? []).length === 0) return null;
	const now = layoutFor(sizedGuest(size), workload.cpus).pool.slabs * IO_TLB_SIZE;
	let triedBytes: number | null = null;
	for (let poolBytes = 2 ** (Math.floor(Math.log2(now)) + 1); poolBytes <= MAX_POOL_BYTES; poolBytes *= 2) {
		try {
			const replay = await makeReplay(workload, subject, { ...size, poolBytes });
			if ("what" in replay) break;
			triedBytes = poolBytes;
			if (!driverOf(replay).refuses()) return { bytes: poolBytes, triedBytes };
		} catch (error) {
			if (error instanceof PoolTooLarge) break;
			throw error;
		}
	}
	return { bytes: null, triedBytes };
}
