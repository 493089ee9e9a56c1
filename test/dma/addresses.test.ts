import { describe, expect, expectTypeOf, it } from "vitest";
import { Engine } from "../../src/engine.ts";
import { DmaError } from "../../src/status.ts";
import { Direction, type DmaAddr, type Gpa } from "../../src/types.ts";

const BIT = 2 ** 40;

describe("an address", () => {
	it("is of one space: one of another space is a type error, and does not serve in its place", async () => {
		const engine = await Engine.create({ ram: "8M", swiotlb: "256,1" });
		const device = engine.addDevice({ trusted: true, privateBits: BigInt(BIT) });
		const gpa: Gpa = 0x4000;
		const dma = device.map(gpa, 4096, Direction.ToDevice);
		expectTypeOf(dma).toEqualTypeOf<DmaAddr>();
		expectTypeOf(engine.pools[0]?.start).toEqualTypeOf<Gpa | undefined>();
		expect(dma).toBe(gpa + BIT);
		// @ts-expect-error RAM does not lie at the device's address
		expect(() => engine.ram.read(dma, 1)).toThrow(DmaError);
		// @ts-expect-error nor was the device given the guest's
		const unmap = () => device.tryUnmap(gpa, 4096, Direction.ToDevice);
		expectTypeOf(unmap).returns.toBeNumber();
		expect(device.tryUnmap(dma, 4096, Direction.ToDevice)).toBe(0);
	});

	it("may be a plain number, also one that was computed", async () => {
		const engine = await Engine.create({ ram: "8M", swiotlb: "256,1" });
		const device = engine.addDevice({ trusted: true });
		const gpa: Gpa = 4096;
		expectTypeOf(gpa + 512).toEqualTypeOf<number>();
		engine.ram.fill(gpa + 512, 8, 7);
		const dma = device.map(gpa, 4096, Direction.ToDevice);
		expect(device.syncForCpu(dma + 512, 8, Direction.ToDevice)).toBe(0);
		device.unmap(dma + 0, 4096, Direction.ToDevice);
	});
});
