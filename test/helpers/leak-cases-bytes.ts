/** Violations about where bytes are. */

import { MUTATE_INITIAL_COPY } from "../../assembly/layout/audit.ts";
import { PageState } from "../../src/memory/ram.ts";
import { Attr, Direction } from "../../src/types.ts";
import { type LeakCase, placeOf, secretPages, watched } from "./leaks.ts";
import { acceptedDevice, OFFER, takePages } from "./trust-guest.ts";

const { ToDevice, FromDevice } = Direction;

/** A channel with confidential ring and external memory, on a kernel: a mapping of a page that the CPU wrote. */
async function storvsc(kernel: "linux-6.12" | "linux-7.3", swiotlb = "512,1") {
	const { guest, monitor } = await watched({ kernel, swiotlb });
	const device = guest.addDevice({ name: "storvsc", offer: OFFER });
	const dma = device.map(secretPages(guest), 4096, ToDevice);
	return { monitor, gpa: placeOf(guest, dma) };
}

/** What a trusted disk wrote, and a network device that sends the same page, or another one. */
async function diskAndNetwork(same: boolean) {
	const { guest, monitor } = await watched({ zeroOnFree: true });
	const [disk, network] = [acceptedDevice(guest, { name: "nvme" }), guest.addDevice({ name: "network" })];
	const page = takePages(guest, 1);
	const dma = disk.map(page, 4096, FromDevice);
	disk.write(dma + 128, new Uint8Array(64).fill(7));
	disk.unmap(dma, 4096, FromDevice);
	const sent = network.map(same ? page : secretPages(guest), 4096, ToDevice);
	return { monitor, gpa: placeOf(guest, sent) + 128 };
}

/** A mapping of an untrusted device that ends. */
async function ended(zeroOnFree: boolean) {
	const { guest, monitor } = await watched({ zeroOnFree });
	const device = guest.addDevice({ name: "network" });
	const dma = device.map(secretPages(guest), 4096, ToDevice);
	device.unmap(dma, 4096, ToDevice);
	return { monitor, gpa: dma };
}

/** A device that writes less than was mapped. */
async function shortWrite(mutations: number) {
	const { guest, monitor } = await watched();
	if (guest.engine.audit !== null) guest.engine.audit.mutations = mutations;
	const device = guest.addDevice({ name: "network" });
	const page = secretPages(guest);
	const dma = device.map(page, 4096, FromDevice);
	device.write(dma, new Uint8Array(100).fill(7));
	device.unmap(dma, 4096, FromDevice);
	return { monitor, gpa: page + 100 };
}

/** A FROM_DEVICE mapping of a page that the CPU has written, or not. */
async function received(page: "old" | "fresh") {
	const { guest, monitor } = await watched();
	const gpa = page === "old" ? secretPages(guest) : takePages(guest, 1);
	return { monitor, gpa: guest.addDevice({ name: "network" }).map(gpa, 4096, FromDevice) };
}

/** All slots hold bytes of an ended mapping, or zeros; then a small one gets the first. */
async function smallAfterLarge(zeroOnFree: boolean) {
	const { guest, monitor } = await watched({ swiotlb: "128,1", zeroOnFree });
	const device = guest.addDevice({ name: "network" });
	device.unmap(device.map(secretPages(guest, 64), 2 ** 18, ToDevice), 2 ** 18, ToDevice);
	const dma = device.map(secretPages(guest), 100, ToDevice);
	return { monitor, gpa: dma + 100 };
}

/** A buffer inside a page that is shared in place, as it is or zeroed first. */
async function sharedInPlace(zero: boolean) {
	const { guest, monitor } = await watched({ platform: "pkvm" });
	const page = secretPages(guest);
	guest.converter.convert(page, 4096, PageState.Shared, { zero });
	guest.engine.ram.write(page + 256, new Uint8Array(512).fill(3));
	guest.addDevice({ name: "network" }).map(page + 256, 512, ToDevice, 0, Attr.CcShared);
	return { monitor, gpa: page };
}

/** A paravisor's bounce page, given to the host with its bytes, or after they were wiped. */
async function paravisorPage(wiped: boolean) {
	const { guest, monitor } = await watched({ platform: "snp-vtom" });
	const page = takePages(guest, 1);
	guest.converter.convert(page, 4096, PageState.Hidden, { zero: true });
	guest.parties.paravisor.write(page + 16, new Uint8Array(48).fill(9));
	// labels do not look at values: only a fill is known to leave nothing
	if (wiped) guest.engine.ram.fill(page, 4096);
	guest.converter.convert(page, 4096, PageState.Shared);
	return { monitor, gpa: page + 16 };
}

/** A coherent buffer of a channel with confidential external memory. */
async function coherent(kernel: "linux-6.12" | "linux-7.3") {
	const { guest, monitor } = await watched({ kernel });
	const buffer = guest.addDevice({ name: "storvsc", offer: OFFER }).allocCoherent(8192);
	return { monitor, gpa: buffer.ok ? buffer.gpa : null };
}

export const BYTE_CASES: readonly LeakCase[] = [
	{
		property: "private-stays-private",
		does: "an accepted channel's buffer that Linux 6.12 bounces",
		plant: () => storvsc("linux-6.12"),
		sees: ["private-stays-private"],
		device: "storvsc",
		bytes: 4096,
		clean: () => storvsc("linux-7.3"),
	},
	{
		property: "no-t1-data-in-t0-window",
		does: "what a trusted disk wrote, in the slots of an untrusted network device",
		plant: () => diskAndNetwork(true),
		sees: ["private-stays-private", "no-t1-data-in-t0-window"],
		device: "network",
		bytes: 64,
		clean: () => diskAndNetwork(false),
	},
	{
		property: "residue-in-freed-slots",
		does: "bytes that stay in a freed slot",
		plant: () => ended(false),
		sees: ["residue-in-freed-slots"],
		device: "network",
		bytes: 4096,
		count: 2,
		clean: () => ended(true),
	},
	{
		property: "from-device-starts-as-copy",
		does: "old bytes of the slots that a device did not overwrite, when the initial copy is left out",
		plant: () => shortWrite(MUTATE_INITIAL_COPY),
		sees: ["from-device-starts-as-copy"],
		device: "network",
		bytes: 3996,
		clean: () => shortWrite(0),
	},
	{
		property: "initial-copy-shows-old-contents",
		does: "a receive buffer's old contents, which its initial copy shows",
		plant: () => received("old"),
		sees: ["initial-copy-shows-old-contents"],
		device: "network",
		bytes: 4096,
		clean: () => received("fresh"),
	},
	{
		property: "padding-residue",
		does: "an ended mapping's bytes beside a small one",
		plant: () => smallAfterLarge(false),
		sees: ["residue-in-freed-slots", "padding-residue"],
		device: "network",
		bytes: 1948,
		clean: () => smallAfterLarge(true),
	},
	{
		property: "sub-page-exposure",
		does: "the rest of a page that was shared for a small buffer",
		plant: () => sharedInPlace(false),
		sees: ["sub-page-exposure"],
		device: "network",
		bytes: 4096 - 512,
		count: 2,
		clean: () => sharedInPlace(true),
	},
	{
		property: "force-never-redirects-accepted",
		does: "an accepted channel's buffer that swiotlb=force bounces",
		plant: () => storvsc("linux-6.12", "512,1,force"),
		sees: ["private-stays-private", "force-never-redirects-accepted"],
		device: "storvsc",
		bytes: 4096,
		clean: () => storvsc("linux-6.12"),
	},
	{
		property: "paravisor-page-unmapped",
		does: "a paravisor's page that the host maps with bytes in it",
		plant: () => paravisorPage(false),
		sees: ["paravisor-page-unmapped"],
		device: null,
		bytes: 48,
		clean: () => paravisorPage(true),
	},
	{
		property: "accepted-coherent-private",
		does: "an accepted channel's coherent buffer that Linux 6.12 decrypts",
		plant: () => coherent("linux-6.12"),
		sees: ["accepted-coherent-private"],
		device: "storvsc",
		bytes: 8192,
		clean: () => coherent("linux-7.3"),
	},
];
