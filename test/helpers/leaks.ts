/** Guests that are watched, and what a scene of a test plants in them. */
import { POOL_HEADER_BYTES, POOL_SEGMENTS } from "../../assembly/layout/pool.ts";
import type { GuestDevice } from "../../src/coco/guest/device.ts";
import { hardwareOf } from "../../src/coco/guest/device.ts";
import type { Guest, GuestOptions } from "../../src/coco/guest/guest.ts";
import { compile } from "../../src/coco/rules/decision.ts";
import type { DeviceOptions } from "../../src/dma/options.ts";
import { LeakMonitor } from "../../src/leaks/monitor.ts";
import type { PropertyName } from "../../src/leaks/properties.ts";
import { smallGuest, takePages } from "./trust-guest.ts";

export interface Watched {
	readonly guest: Guest;
	readonly monitor: LeakMonitor;
}

/** A guest on SNP with the late kernel, unless told otherwise, that is watched from its start. */
export async function watched(options: Partial<GuestOptions> = {}): Promise<Watched> {
	const guest = await smallGuest({ platform: "snp", kernel: "linux-7.3", build: "engine.audit", ...options });
	return { guest, monitor: new LeakMonitor(guest) };
}

/** What a scene leaves: the monitor, and where it expects the first violation. */
export interface Scene {
	readonly monitor: LeakMonitor;
	readonly gpa: number | null;
}

export interface LeakCase {
	readonly property: PropertyName;
	/** What is planted, as the end of "reports ...". */
	readonly does: string;
	readonly plant: () => Promise<Scene>;
	/** All properties that are reported: mostly this one alone. */
	readonly sees: readonly PropertyName[];
	readonly device: string | null;
	readonly bytes: number;
	/** How often. Default 1. */
	readonly count?: number;
	/** The same without the violation. */
	readonly clean: () => Promise<Pick<Scene, "monitor">>;
}

/** Takes pages that the CPU has written to. */
export function secretPages(guest: Guest, pages = 1): number {
	const gpa = takePages(guest, pages);
	guest.engine.ram.write(gpa, new Uint8Array(pages * 4096).fill(0xa5));
	return gpa;
}

/** Changes a device's decision record behind the guest's back. */
export function misconfigure(guest: Guest, device: GuestDevice, changes: DeviceOptions): void {
	const { kernel, platform } = guest;
	const { record } = compile({ policy: null, kernel, platform, device: device.ruled });
	device.dma.configure({ trusted: true, ...hardwareOf(device.options), ...record, ...changes });
}

/** ptrs of the first pool's first area and first segment, for damage. */
export function poolPtrs(guest: Guest): { readonly area: number; readonly segment: number } {
	const { exports } = guest.engine.instance;
	const pool = exports.poolPtr(0) >>> 0;
	return { area: pool + POOL_HEADER_BYTES, segment: pool + guest.engine.instance.u32(pool + POOL_SEGMENTS) };
}

/** Where a device's address leads, as gpa. */
export function placeOf(guest: Guest, dma: number): number {
	const { dmaBit } = guest.platform;
	return dmaBit !== null && dma >= 2 ** dmaBit.bit ? dma - 2 ** dmaBit.bit : dma;
}
