import { expect, it } from "vitest";
import { AtomicPools, atomicPoolBytes } from "../src/coco/atomic.ts";
import { PageAllocator } from "../src/memory/allocator.ts";

it("atomic pools serve a zone, then lower ones, grow on tick, and say when they are exhausted", () => {
	const allocator = new PageAllocator([{ gpa: 0, bytes: 2 ** 26 }]);
	const pools = new AtomicPools({
		ram: { fill: () => {} },
		allocator,
		converter: { convert: () => ({ ok: true }) },
		bytes: atomicPoolBytes(2 ** 26),
		encrypted: true,
		kernel: "7.3",
	});
	expect(pools.pools.map(({ bytes }) => bytes)).toEqual([131072, 131072, 131072]);
	const taken = pools.alloc(131072, { device: "d", zone: "DMA", ccShared: true });
	expect(taken).toMatchObject({ ok: true });
	expect(pools.alloc(4096, { device: "d", zone: "DMA", ccShared: true })).toMatchObject({ status: "POOL_EXHAUSTED" });
	expect(pools.alloc(4096, { device: "d", ccShared: false })).toMatchObject({ status: "NO_SUITABLE_POOL" });
	expect(pools.tick()).toBe(131072);
	if (taken.ok) pools.free(taken.gpa, taken.bytes);
	expect(pools.pools.at(-1)).toMatchObject({ bytes: 262144, freeBytes: 262144 });
});
