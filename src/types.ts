import * as device from "../assembly/layout/device.ts";

declare const space: unique symbol;
/**
 * An address of one space. The brand is optional: a plain number is taken as it is, an address of another space is a type
 * error.
 */
type Address<Space extends string> = number & { readonly [space]?: Space | undefined };

/** Guest physical address (bytes, whole, below 2^52). */
export type Gpa = Address<"gpa">;
/** The address that a device is given, encryption bits included (bytes, whole, below 2^52). */
export type DmaAddr = Address<"dma">;

/** Who writes the buffer while it is mapped; numbered as in Linux. */
export const Direction = {
	Bidirectional: device.BIDIRECTIONAL,
	ToDevice: device.TO_DEVICE,
	FromDevice: device.FROM_DEVICE,
} as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

/** Attributes of map and unmap; numbered as in Linux (CcShared: after the 7.3 merge). */
export const Attr = {
	/** No copy back, no cache maintenance. A map copies in all the same. */
	SkipCpuSync: device.DMA_ATTR_SKIP_CPU_SYNC,
	/** The address is a device's, not RAM. */
	Mmio: device.DMA_ATTR_MMIO,
	/** Never bounce. */
	RequireCoherent: device.DMA_ATTR_REQUIRE_COHERENT,
	/** The memory is shared already. */
	CcShared: device.DMA_ATTR_CC_SHARED,
} as const;

const DIRECTION_NAMES = ["BIDIRECTIONAL", "TO_DEVICE", "FROM_DEVICE"] as const;
export type DirectionName = (typeof DIRECTION_NAMES)[number];

/** Linux's name of a direction; a number that is none is named by itself. */
export function directionName(dir: Direction): DirectionName;
export function directionName(dir: number): string;
export function directionName(dir: number): string {
	return DIRECTION_NAMES[dir] ?? String(dir);
}
