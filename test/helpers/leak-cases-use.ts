/** Violations about who uses what and when. */

import { offerFlags } from "../../src/coco/trust/offer.ts";
import { PageState } from "../../src/memory/ram.ts";
import { Attr, Direction } from "../../src/types.ts";
import { type LeakCase, placeOf, secretPages, watched } from "./leaks.ts";
import { acceptedDevice, bitsOf, OFFER, TDISP, takePages, trustNow } from "./trust-guest.ts";

const { ToDevice, FromDevice, Bidirectional } = Direction;

/** The host stops a device that is accepted, with a mapping held or not. */
async function stopped(held: boolean) {
	const { guest, monitor } = await watched();
	const device = acceptedDevice(guest, { name: "nvme" });
	const dma = device.map(secretPages(guest), 4096, ToDevice);
	if (!held) device.unmap(dma, 4096, ToDevice);
	device.trust?.stop();
	return { monitor, gpa: null };
}

/** A device whose platform lets T=1 through, in RUN or in CONFIG_LOCKED. */
async function trustedEarly(early: boolean) {
	const { guest, monitor } = await watched();
	const device = guest.addDevice({ name: "nvme", tdisp: TDISP });
	if (early) device.trust?.lock();
	else trustNow(device);
	const page = secretPages(guest);
	guest.parties.device(device.dma.index, { t: 1 }).write(page + bitsOf("snp", "private"), new Uint8Array(24).fill(7));
	return { monitor, gpa: page };
}

/** A page whose conversion fails, and what its driver does then. */
async function failedConversion(then: "free" | "leak") {
	const { guest, monitor } = await watched();
	const page = takePages(guest, 1);
	guest.converter.failAt("host");
	guest.converter.convert(page, 4096, PageState.Shared);
	guest.pages[then](page, 1);
	return { monitor, gpa: page };
}

/** A conversion under which a device does or does not read the page. */
async function converted(touched: boolean) {
	const { guest, monitor } = await watched();
	const device = guest.addDevice({ name: "network" });
	const page = takePages(guest, 1);
	let once = touched;
	guest.converter.onTransition = () => {
		if (once) {
			once = false;
			try {
				device.read(page, 8);
			} catch {}
		}
	};
	guest.converter.convert(page, 4096, PageState.Shared);
	return { monitor, gpa: page };
}

/** A length in a shared page that is read, checked, and perhaps read again. */
async function lengthOf(times: number) {
	const { guest, monitor } = await watched();
	const page = takePages(guest, 1);
	guest.converter.convert(page, 4096, PageState.Shared);
	monitor.operation("receive a packet", () => {
		for (let i = 0; i < times; i++) guest.engine.ram.read(page + 8, 4);
	});
	monitor.operation("receive the next", () => guest.engine.ram.read(page + 8, 4));
	return { monitor, gpa: page + 8 };
}

/** A buffer that the CPU changes while it is mapped, and a device that reads it. */
async function changed(synced: boolean) {
	const { guest, monitor } = await watched();
	const device = guest.addDevice({ name: "network" });
	const page = secretPages(guest);
	const dma = device.map(page, 4096, Bidirectional);
	guest.engine.ram.write(page + 10, new Uint8Array(20).fill(3));
	if (synced) device.dma.syncForDevice(dma, 100, Bidirectional);
	device.read(dma, 64);
	return { monitor, gpa: page + 10 };
}

/** A buffer that the CPU reads while it is mapped. */
async function polled(synced: boolean) {
	const { guest, monitor } = await watched();
	const device = acceptedDevice(guest, { name: "nvme" });
	const page = takePages(guest, 1);
	const dma = device.map(page, 4096, FromDevice);
	if (synced) device.dma.syncForCpu(dma + 64, 32, FromDevice);
	guest.engine.ram.read(page + 64, 32);
	return { monitor, gpa: page + 64 };
}

/** An unmap that copies nothing back, and a driver that reads what the device wrote. */
async function skipped(synced: boolean) {
	const { guest, monitor } = await watched();
	const device = guest.addDevice({ name: "network" });
	const page = takePages(guest, 1);
	const dma = device.map(page, 4096, FromDevice);
	device.write(dma + 32, new Uint8Array(64).fill(7));
	if (synced) device.dma.syncForCpu(dma, 4096, FromDevice);
	device.unmap(dma, 4096, FromDevice, Attr.SkipCpuSync);
	guest.engine.ram.read(page, 64);
	return { monitor, gpa: page + 32 };
}

/** A device that reads slots before or after their mapping ends. */
async function lateRead(late: boolean) {
	const { guest, monitor } = await watched({ zeroOnFree: true });
	const device = guest.addDevice({ name: "network" });
	const dma = device.map(secretPages(guest), 4096, ToDevice);
	if (!late) device.read(dma, 128);
	device.unmap(dma, 4096, ToDevice);
	if (late) device.read(dma, 128);
	return { monitor, gpa: dma };
}

/** A trusted device that writes to a buffer before or after its mapping ends. */
async function lateWrite(late: boolean) {
	const { guest, monitor } = await watched();
	const device = acceptedDevice(guest, { name: "nvme" });
	const dma = device.map(secretPages(guest), 4096, FromDevice);
	if (!late) device.write(dma + 8, new Uint8Array(16));
	device.unmap(dma, 4096, FromDevice);
	if (late) device.write(dma + 8, new Uint8Array(16));
	return { monitor, gpa: placeOf(guest, dma) + 8 };
}

/** A channel whose connection is what it was offered on, or has fallen back. */
async function fallenBack(confidential: boolean) {
	const { guest, monitor } = await watched();
	const connection = { confidential: true, version: 0x00060000 };
	guest.addDevice({ name: "storvsc", offer: { flags: OFFER.flags, connection } });
	connection.confidential = confidential;
	return { monitor, gpa: null };
}

/** A channel that a guest opens as its offer's flags say, judged by nobody. */
async function unjudged(channelFlags: number) {
	const { monitor } = await watched();
	const { coRingBuffer, coExternalMemory } = offerFlags(channelFlags);
	monitor.channel({
		name: "netvsc",
		ring: coRingBuffer ? "private" : "shared",
		externalMemory: coExternalMemory ? "private" : "shared",
		connection: OFFER.connection,
	});
	return { monitor, gpa: null };
}

export const USE_CASES: readonly LeakCase[] = [
	{
		property: "nothing-held-across-trust-change",
		does: "a mapping that an accepted device holds when the host stops it",
		plant: () => stopped(true),
		sees: ["nothing-held-across-trust-change"],
		device: "nvme",
		bytes: 0,
		clean: () => stopped(false),
	},
	{
		property: "t1-only-in-run",
		does: "a device in CONFIG_LOCKED that reaches private memory",
		plant: () => trustedEarly(true),
		sees: ["t1-only-in-run"],
		device: "nvme",
		bytes: 24,
		clean: () => trustedEarly(false),
	},
	{
		property: "leaked-never-reused",
		does: "a page that failed to convert and is freed",
		plant: () => failedConversion("free"),
		sees: ["leaked-never-reused"],
		device: null,
		bytes: 4096,
		clean: () => failedConversion("leak"),
	},
	{
		property: "no-touch-in-transition",
		does: "a device that reads a page in transition",
		plant: () => converted(true),
		sees: ["no-touch-in-transition"],
		device: "network",
		bytes: 8,
		clean: () => converted(false),
	},
	{
		property: "double-fetch",
		does: "a length that is fetched twice",
		plant: () => lengthOf(2),
		sees: ["double-fetch"],
		device: null,
		bytes: 4,
		clean: () => lengthOf(1),
	},
	{
		property: "sync-ordering",
		does: "a device that reads what no sync has given to it",
		plant: () => changed(false),
		sees: ["sync-ordering"],
		device: "network",
		bytes: 20,
		clean: () => changed(true),
	},
	{
		property: "sync-ordering",
		does: "a CPU that reads what no sync has given to it",
		plant: () => polled(false),
		sees: ["sync-ordering"],
		device: "nvme",
		bytes: 32,
		clean: () => polled(true),
	},
	{
		property: "skip-sync-keeps-data",
		does: "bytes that an unmap with SKIP_CPU_SYNC lost",
		plant: () => skipped(false),
		sees: ["skip-sync-keeps-data"],
		device: "network",
		bytes: 32,
		clean: () => skipped(true),
	},
	{
		property: "use-after-unmap",
		does: "a device that reads slots after the unmap",
		plant: () => lateRead(true),
		sees: ["use-after-unmap"],
		device: "network",
		bytes: 128,
		clean: () => lateRead(false),
	},
	{
		property: "use-after-unmap",
		does: "a trusted device that writes to a buffer after the unmap",
		plant: () => lateWrite(true),
		sees: ["use-after-unmap"],
		device: "nvme",
		bytes: 16,
		clean: () => lateWrite(false),
	},
	{
		property: "fallback-claims-nothing",
		does: "a channel that keeps its claims when the connection falls back",
		plant: () => fallenBack(false),
		sees: ["fallback-claims-nothing"],
		device: "storvsc",
		bytes: 0,
		clean: () => fallenBack(true),
	},
	{
		property: "external-needs-ring",
		does: "a channel with confidential external memory and a shared ring",
		plant: () => unjudged(0x4),
		sees: ["external-needs-ring"],
		device: "netvsc",
		bytes: 0,
		clean: () => unjudged(0x2),
	},
];
