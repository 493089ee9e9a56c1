/** Violations about slots and addresses. */
import { AREA_INDEX, AREA_USED, SEGMENT_FREE } from "../../assembly/layout/pool.ts";
import { PageState } from "../../src/memory/ram.ts";
import { Attr, Direction } from "../../src/types.ts";
import { type LeakCase, misconfigure, poolPtrs, secretPages, watched } from "./leaks.ts";
import { takePages } from "./trust-guest.ts";

const { ToDevice, FromDevice } = Direction;

/** Two mappings; before the second, the first one's slot may be marked free, so that nothing else is wrong. */
async function twoMappings(damaged: boolean) {
	const { guest, monitor } = await watched();
	const [a, b] = [guest.addDevice({ name: "a" }), guest.addDevice({ name: "b" })];
	const tlb = a.map(secretPages(guest), 2048, ToDevice);
	const { area, segment } = poolPtrs(guest);
	const { data } = guest.engine.instance;
	if (damaged) {
		data.setBigUint64(segment + SEGMENT_FREE, 2n ** 64n - 1n, true);
		data.setUint32(area + AREA_USED, 0, true);
		data.setUint32(area + AREA_INDEX, 0, true);
	}
	b.map(secretPages(guest), 2048, ToDevice);
	return { monitor, gpa: tlb };
}

/** A mapping, and an area that counts its slots, or one more. */
async function counted(extra: number) {
	const { guest, monitor } = await watched();
	const tlb = guest.addDevice().map(secretPages(guest), 2048, ToDevice);
	const { area } = poolPtrs(guest);
	guest.engine.instance.data.setUint32(area + AREA_USED, 1 + extra, true);
	return { monitor, gpa: tlb };
}

/** A device that keeps 12 bits of the original, as its record says or not. */
async function aligned(forgotten: boolean) {
	const { guest, monitor } = await watched();
	const device = guest.addDevice({ name: "nvme", minAlignMask: 0xfff });
	if (forgotten) misconfigure(guest, device, { minAlignMask: 0 });
	return { monitor, gpa: device.map(secretPages(guest) + 0x200, 100, ToDevice) };
}

/** A device of 22 bits, and a pool beyond them. */
async function narrow(forgotten: boolean) {
	const { guest, monitor } = await watched({ zeroOnFree: true });
	const device = guest.addDevice({ name: "sound", dmaMask: 2n ** 22n - 1n });
	if (forgotten) misconfigure(guest, device, { dmaMask: 2n ** 64n - 1n });
	return { monitor, gpa: device.tryMap(secretPages(guest), 100, ToDevice) };
}

/** A device that maps a shared page. Linux 6.12 gives it the private form. */
async function sharedPage(kernel: "linux-6.12" | "linux-7.3") {
	const { guest, monitor } = await watched({ kernel, swiotlb: "noforce" });
	const page = takePages(guest, 1);
	guest.converter.convert(page, 4096, PageState.Shared);
	guest.addDevice({ name: "network" }).map(page + 64, 100, ToDevice, 0, Attr.CcShared);
	return { monitor, gpa: page + 64 };
}

/** An untrusted device, in the pool of shared pages or by a damaged record in that of private ones. */
async function wrongPool(damaged: boolean) {
	const { guest, monitor } = await watched({ pools: [{ kind: "private", size: "256K" }] });
	const device = guest.addDevice({ name: "network" });
	const pool = guest.pools.find(({ kind }) => kind === "private")?.pool ?? null;
	if (damaged) misconfigure(guest, device, { pool, checksState: false, checksPool: false, forceBounce: true });
	device.map(secretPages(guest), 100, ToDevice);
	return { monitor, gpa: pool?.start ?? 0 };
}

/** Slots that were rounded up to a page: what lies behind the buffer's length comes back when a longer one is named. */
async function roundedUp(unmapped: number) {
	const { guest, monitor } = await watched();
	const device = guest.addDevice({ name: "network" });
	const page = takePages(guest, 1);
	const { exports } = guest.engine.instance;
	const tlb: number = exports.swiotlbTblMap(device.dma.index, page, 100, 0xfff, FromDevice, 0, 0);
	device.write(tlb, new Uint8Array(160).fill(7));
	exports.swiotlbTblUnmap(device.dma.index, tlb, unmapped, FromDevice, 0);
	return { monitor, gpa: page + 100 };
}

/** A mapping that its driver ends, or forgets. */
async function forgotten(ends: boolean) {
	const { guest, monitor } = await watched({ zeroOnFree: true });
	const device = guest.addDevice({ name: "network" });
	const dma = device.map(secretPages(guest), 100, ToDevice);
	if (ends) device.unmap(dma, 100, ToDevice);
	monitor.end();
	return { monitor, gpa: dma };
}

export const SLOT_CASES: readonly LeakCase[] = [
	{
		property: "slot-has-one-owner",
		does: "a slot that a second mapping gets",
		plant: () => twoMappings(true),
		sees: ["slot-has-one-owner"],
		device: "b",
		bytes: 2048,
		clean: () => twoMappings(false),
	},
	{
		property: "lists-consistent",
		does: "an area that counts a slot too many",
		plant: () => counted(1),
		sees: ["lists-consistent"],
		device: null,
		bytes: 2048,
		clean: () => counted(0),
	},
	{
		property: "alignment-kept",
		does: "a bounce address without the original's low bits",
		plant: () => aligned(true),
		sees: ["alignment-kept"],
		device: "nvme",
		bytes: 100,
		clean: () => aligned(false),
	},
	{
		property: "address-within-mask",
		does: "an address that the device cannot emit",
		plant: () => narrow(true),
		sees: ["address-within-mask"],
		device: "sound",
		bytes: 100,
		clean: () => narrow(false),
	},
	{
		property: "encoding-equals-state",
		does: "the private form of a shared page's address",
		plant: () => sharedPage("linux-6.12"),
		sees: ["encoding-equals-state"],
		device: "network",
		bytes: 100,
		clean: () => sharedPage("linux-7.3"),
	},
	{
		property: "pool-state-equals-need",
		does: "an untrusted device that bounces on private pages",
		plant: () => wrongPool(true),
		sees: ["pool-state-equals-need"],
		device: "network",
		bytes: 100,
		clean: () => wrongPool(false),
	},
	{
		property: "write-beyond-mapping",
		does: "bytes behind the mapped ones that come back",
		plant: () => roundedUp(160),
		sees: ["write-beyond-mapping"],
		device: "network",
		bytes: 60,
		clean: () => roundedUp(100),
	},
	{
		property: "counters-return-to-zero",
		does: "a mapping that never ended",
		plant: () => forgotten(false),
		sees: ["counters-return-to-zero"],
		device: "network",
		bytes: 100,
		clean: () => forgotten(true),
	},
];
