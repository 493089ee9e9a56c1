/** Small confidential guests, and the devices that their tests trust. */
import type { GuestDevice, GuestDeviceOptions } from "../../src/coco/guest/device.ts";
import { Guest, type GuestOptions } from "../../src/coco/guest/guest.ts";
import { PLATFORMS, type PlatformName } from "../../src/coco/platform/platform.ts";
import type { Evidence, EvidenceDecision } from "../../src/coco/trust/tdisp.ts";

export const MIB = 2 ** 20;
export const NAMES = Object.keys(PLATFORMS) as PlatformName[];
/** Platforms of which the host cannot read every page. */
export const CONFIDENTIAL = NAMES.filter((name) => PLATFORMS[name].hostRead !== "plain");
/** Those of them that are guests: an encrypted host has devices of its own, which none of this is about. */
export const GUESTS = CONFIDENTIAL.filter((name) => PLATFORMS[name].protection !== "host");
export const KERNEL_NAMES = ["linux-6.12", "linux-7.3"] as const;

export const EVIDENCE: Evidence = {
	interfaceReport: Uint8Array.of(1, 2),
	measurements: Uint8Array.of(3),
	digest: "00ff",
};

/** Options of a TDISP device that every policy accepts. */
export const TDISP = { evidence: () => EVIDENCE, policy: (): EvidenceDecision => ({ accept: true }) };

/** An offer with confidential ring and external memory. */
export const OFFER = {
	flags: { coRingBuffer: true, coExternalMemory: true },
	connection: { confidential: true, version: 0x00060000 },
};

/** A guest of 8 MiB with a default pool of 1 MiB, unless told otherwise. */
export function smallGuest(options: Omit<GuestOptions, "ram"> & { ram?: GuestOptions["ram"] }): Promise<Guest> {
	return Guest.create({ ram: 8 * MIB, swiotlb: "512,1", ...options });
}

/** Adds a TDISP device and brings it to RUN, accepted. */
export function acceptedDevice(guest: Guest, options: GuestDeviceOptions = {}): GuestDevice {
	const device = guest.addDevice({ ...options, tdisp: options.tdisp ?? TDISP });
	trustNow(device);
	return device;
}

/** Every step from CONFIG_UNLOCKED to accepted in RUN. */
export function trustNow({ trust }: GuestDevice): void {
	trust?.lock();
	trust?.collectEvidence();
	trust?.accept();
	trust?.start();
}

/** Takes pages for a buffer. @throws Error when the guest has none */
export function takePages(guest: Guest, pages: number): number {
	const gpa = guest.pages.alloc(pages);
	if (gpa < 0) throw new Error(`no ${pages} pages`);
	return gpa;
}

/** The bits that a platform's addresses of one kind of page carry. */
export function bitsOf(platform: PlatformName, form: "private" | "shared"): number {
	const { dmaBit } = PLATFORMS[platform];
	return dmaBit?.means === form ? 2 ** dmaBit.bit : 0;
}
