import {
	ACTIVE_LINES,
	ACTIVE_SHIFT,
	alignBlock,
	CONTEXT_ALIGN,
	CONTEXT_HEADER_BYTES,
	CONTEXT_MAGIC,
	CONTEXT_VERSION,
	CTX_ACTIVE,
	CTX_BUILD,
	CTX_BYTES,
	CTX_DEVICES,
	CTX_MAGIC,
	CTX_MAX_DEVICES,
	CTX_MAX_POOLS,
	CTX_MAX_REGIONS,
	CTX_NEXT,
	CTX_NPAGES,
	CTX_POOLS,
	CTX_REGIONS,
	CTX_VERSION,
	REGION_BYTES,
	tablesBytes,
} from "../layout/context.ts";
import { DEVICE_BYTES } from "../layout/device.ts";
import { MAX_OWNERS } from "../layout/pool.ts";
import { BAD_ARGUMENT, BAD_CONTEXT, CONTEXT_FULL, OK } from "../layout/status.ts";

/** ptr of the context that this instance works on; all other engine state lies behind it. */
let base: usize = 0;

/** ptr of the attached context. */
export function context(): usize {
	return base;
}

function buildTag(): u32 {
	return (COCO_THREADS << 1) | COCO_REFERENCE;
}

/** Whether [ptr, ptr + bytes) is linear memory. */
export function inMemory(ptr: usize, bytes: u64): bool {
	return u64(ptr) + bytes <= u64(memory.size()) << 16;
}

/**
 * Makes an empty context and attaches this instance to it. The caller owns [ptr, ptr + bytes) and keeps others out of it.
 * @param ptr a multiple of 64
 * @param bytes at least tablesBytes()
 * @returns OK, BAD_ARGUMENT or CONTEXT_FULL
 */
export function contextInit(ptr: usize, bytes: u32, maxRegions: u32, maxPools: u32, maxDevices: u32): i32 {
	if ((ptr & (CONTEXT_ALIGN - 1)) !== 0 || !inMemory(ptr, bytes)) return BAD_ARGUMENT;
	if (maxRegions - 1 >= 65536 || maxPools > 4096 || maxDevices > MAX_OWNERS) return BAD_ARGUMENT;
	const tables = tablesBytes(maxRegions, maxPools, maxDevices);
	if (bytes < tables) return CONTEXT_FULL;
	memory.fill(ptr, 0, tables);
	store<u32>(ptr, CONTEXT_MAGIC, CTX_MAGIC);
	store<u32>(ptr, CONTEXT_VERSION, CTX_VERSION);
	store<u32>(ptr, buildTag(), CTX_BUILD);
	store<u32>(ptr, bytes, CTX_BYTES);
	store<u32>(ptr, maxRegions, CTX_MAX_REGIONS);
	store<u32>(ptr, maxPools, CTX_MAX_POOLS);
	store<u32>(ptr, maxDevices, CTX_MAX_DEVICES);
	let next: u32 = CONTEXT_HEADER_BYTES;
	store<u32>(ptr, next, CTX_REGIONS);
	next += alignBlock(maxRegions * REGION_BYTES);
	store<u32>(ptr, next, CTX_POOLS);
	next += alignBlock(maxPools * 4);
	store<u32>(ptr, next, CTX_DEVICES);
	next += alignBlock(maxDevices * DEVICE_BYTES);
	store<u32>(ptr, next, CTX_ACTIVE);
	next += ACTIVE_LINES << ACTIVE_SHIFT;
	store<u32>(ptr, next, CTX_NEXT);
	base = ptr;
	return OK;
}

/**
 * Attaches this instance to the context that another instance made at `ptr`, or that a snapshot was laid down at.
 * @returns OK, or BAD_CONTEXT when there is no context of this version and build
 */
export function contextAttach(ptr: usize): i32 {
	if ((ptr & (CONTEXT_ALIGN - 1)) !== 0 || !inMemory(ptr, CONTEXT_HEADER_BYTES)) return BAD_CONTEXT;
	if (load<u32>(ptr, CTX_MAGIC) !== CONTEXT_MAGIC) return BAD_CONTEXT;
	if (load<u32>(ptr, CTX_VERSION) !== CONTEXT_VERSION) return BAD_CONTEXT;
	if (load<u32>(ptr, CTX_BUILD) !== buildTag()) return BAD_CONTEXT;
	if (!inMemory(ptr, load<u32>(ptr, CTX_BYTES)) || load<u32>(ptr, CTX_NEXT) > load<u32>(ptr, CTX_BYTES))
		return BAD_CONTEXT;
	base = ptr;
	return OK;
}

/**
 * Takes a zeroed block out of the context: for pools, rings, and as scratchTake for lists and plans.
 * @returns its offset from the context base, or 0 when the context has no room
 */
export function takeBlock(bytes: u32): u32 {
	const at = load<u32>(base, CTX_NEXT);
	const end = u64(at) + u64(alignBlock(bytes));
	if (end > u64(load<u32>(base, CTX_BYTES))) return 0;
	store<u32>(base, u32(end), CTX_NEXT);
	memory.fill(base + at, 0, bytes);
	return at;
}

/** Bytes of the context that are in use: what a snapshot has to keep. */
export function contextUsedBytes(): u32 {
	return load<u32>(base, CTX_NEXT);
}

/** Pages of RAM, 0 until RAM is sealed. */
export function ramPages(): u32 {
	return load<u32>(base, CTX_NPAGES);
}
