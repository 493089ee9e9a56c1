/** A guest with a page allocator, atomic pools and coherent memory over a real engine and converter. */
import { AtomicPools } from "../../src/coco/memory/atomic.ts";
import type { CoherentBuffer, CoherentDevice, SlotSource } from "../../src/coco/memory/coherent.ts";
import { CoherentMemory } from "../../src/coco/memory/coherent.ts";
import type { Hazard } from "../../src/coco/memory/hazard.ts";
import { PageConverter } from "../../src/coco/platform/convert.ts";
import { type PlatformName, platformNamed } from "../../src/coco/platform/platform.ts";
import { KERNELS, type KernelName } from "../../src/coco/rules/kernel.ts";
import { Engine } from "../../src/engine.ts";
import { PageAllocator } from "../../src/memory/allocator.ts";

export const PAGE = 4096;
export const MIB = 2 ** 20;

/** What a test says of a device. */
export interface DevicePlan {
	readonly index?: number;
	readonly needsShared?: boolean;
	readonly coherent?: boolean;
	readonly mask?: number;
	readonly slots?: SlotSource | null;
}

export interface CoherentPlan {
	readonly platform: PlatformName;
	readonly kernel?: KernelName;
	readonly ram?: readonly { readonly gpa: number; readonly bytes: number }[];
	/** What the page allocator leaves alone, such as a pool's range. */
	readonly reserved?: readonly { readonly gpa: number; readonly bytes: number }[];
	/** Bytes of each atomic pool; 0: no pools. Default 0. */
	readonly atomicBytes?: number;
}

export async function coherentGuest({
	platform: name,
	kernel = "linux-7.3",
	ram,
	reserved,
	atomicBytes = 0,
}: CoherentPlan) {
	const platform = platformNamed(name);
	const regions = ram ?? [{ gpa: 0, bytes: 4 * MIB }];
	const engine = await Engine.create({ ram: regions, swiotlb: null, coco: platform.hostRead !== "plain" });
	// what earlier owners left
	for (const { gpa, bytes } of regions) engine.ram.fill(gpa, bytes, 0xa5);
	const converter = new PageConverter(engine, platform);
	const allocator = new PageAllocator(regions, reserved);
	const hazards: Hazard[] = [];
	const common = { ram: engine.ram, allocator, converter, kernel: KERNELS[kernel] };
	const atomic = atomicBytes === 0 ? null : new AtomicPools({ ...common, bytes: atomicBytes });
	const coherent = new CoherentMemory({ ...common, atomic, onHazard: (hazard) => hazards.push(hazard) });
	const bit = platform.dmaBit === null ? 0 : 2 ** platform.dmaBit.bit;
	const device = (plan: DevicePlan = {}): CoherentDevice & { needsShared: boolean } => {
		const { index = 0, needsShared = true, coherent: isCoherent = true, mask = 2 ** 52 - 1, slots = null } = plan;
		return {
			name: `device ${index}`,
			index,
			needsShared,
			coherent: isCoherent,
			slots,
			encode: (gpa, shared) => ((platform.dmaBit?.means === "shared") === shared ? gpa + bit : gpa),
			fits: (dma, bytes) => dma + bytes - 1 <= mask,
			reach: BigInt(mask) & ~BigInt(bit),
		};
	};
	/** Allocates what must succeed. */
	const take = (...call: Parameters<CoherentMemory["alloc"]>): CoherentBuffer => {
		const got = coherent.alloc(...call);
		if (!got.ok) throw new Error(`${got.status}: ${got.message}`);
		return got;
	};
	return { engine, ram: engine.ram, platform, converter, allocator, atomic, coherent, hazards, device, take };
}

/** Slots of a shared range that are handed out in turn, each call's arguments kept. */
export function slotsAt(gpa: number, bytes: number, ccShared = true) {
	const calls: { bytes: number; mask: number }[] = [];
	const freed: { tlb: number; bytes: number }[] = [];
	let next = gpa;
	return {
		calls,
		freed,
		ccShared,
		alloc(size: number, mask: number): number {
			calls.push({ bytes: size, mask });
			if (next + size > gpa + bytes) return -1;
			next += size;
			return next - size;
		},
		free: (tlb: number, size: number) => void freed.push({ tlb, bytes: size }),
	};
}
