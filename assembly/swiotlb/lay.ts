/** A pool's record, before anything uses it. */
import { alignBlock } from "../layout/context.ts";
import {
	AREA_FIRST,
	AREA_NSLABS,
	AREA_SHIFT,
	IO_TLB_SEGSIZE,
	IO_TLB_SHIFT,
	POOL_AREA_NSLABS,
	POOL_AREA_SHIFT,
	POOL_DELTA,
	POOL_END,
	POOL_FLAGS,
	POOL_HEADER_BYTES,
	POOL_NAREAS,
	POOL_NSLABS,
	POOL_RECORDS,
	POOL_SEGMENTS,
	POOL_START,
	POOL_SUMMARY,
	SEGMENT_SHIFT,
} from "../layout/pool.ts";
import { ledgerInit } from "./ledger.ts";
import { areaAt } from "./record.ts";

/**
 * Lays a pool's record down in a zeroed block: every slot free.
 * @param ptr where its RAM lies
 * @param nslabs slots; with one area not necessarily a multiple of 128: the rest of the last segment counts as used
 */
export function poolLay(pool: usize, start: u64, ptr: usize, nslabs: u32, nareas: u32, flags: u32): void {
	const whole = (nslabs + (IO_TLB_SEGSIZE - 1)) >> 7;
	const segments = POOL_HEADER_BYTES + alignBlock(nareas << AREA_SHIFT);
	const summary = segments + alignBlock(whole << SEGMENT_SHIFT);
	const records = summary + alignBlock(whole + 16);
	const areaSlots = nslabs / nareas;
	const bytes = u64(nslabs) << IO_TLB_SHIFT;
	store<u32>(pool, flags, POOL_FLAGS);
	store<u64>(pool, start, POOL_START);
	store<u64>(pool, start + bytes, POOL_END);
	store<u32>(pool, u32(ptr - pool), POOL_DELTA);
	store<u32>(pool, nslabs, POOL_NSLABS);
	store<u32>(pool, nareas, POOL_NAREAS);
	store<u32>(pool, areaSlots, POOL_AREA_NSLABS);
	store<u32>(pool, nareas > 1 ? ctz(areaSlots) : 31, POOL_AREA_SHIFT);
	store<u32>(pool, segments, POOL_SEGMENTS);
	store<u32>(pool, summary, POOL_SUMMARY);
	store<u32>(pool, records, POOL_RECORDS);
	for (let i: u32 = 0; i < nareas; i++) {
		store<u32>(areaAt(pool, i), i * areaSlots, AREA_FIRST);
		store<u32>(areaAt(pool, i), areaSlots, AREA_NSLABS);
	}
	ledgerInit(pool, whole);
}
