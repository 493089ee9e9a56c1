import { describe, expect, it } from "vitest";
import type { LeakMonitor } from "../../src/leaks/monitor.ts";
import { PageState } from "../../src/memory/ram.ts";
import { Attr, Direction } from "../../src/types.ts";
import { secretPages, type Watched, watched } from "../helpers/leaks.ts";
import { acceptedDevice, takePages } from "../helpers/trust-guest.ts";

const { ToDevice, FromDevice } = Direction;

function seen({ findings }: LeakMonitor): string[] {
	return findings.map(({ property, kind, bytes }) => `${property} ${kind} ${bytes}`);
}

/** More events than the log holds. */
function overflow({ guest }: Watched): void {
	for (let i = 0; i < 70_000; i++) guest.engine.ram.read(0, 1);
}

describe("after lost events a monitor", () => {
	it("still finds what lies in freed slots", async () => {
		const all = await watched();
		const device = all.guest.addDevice();
		device.unmap(device.map(secretPages(all.guest), 4096, ToDevice), 4096, ToDevice);
		overflow(all);
		all.monitor.look();
		expect(seen(all.monitor)).toEqual(["residue-in-freed-slots exposure 4096"]);
		all.monitor.look();
		expect(all.monitor.findings).toMatchObject([{ bytes: 4096, count: 2 }]);
	});

	it("knows the pages as they are", async () => {
		const all = await watched();
		const page = takePages(all.guest, 1);
		all.guest.converter.convert(page, 4096, PageState.Shared);
		overflow(all);
		all.guest.addDevice().map(page, 4096, ToDevice, 0, Attr.CcShared);
		all.monitor.look();
		expect(all.monitor.findings).toEqual([]);
	});

	it("knows who left slots as soon as an unmap tells", async () => {
		const all = await watched();
		const device = all.guest.addDevice();
		const dma = device.map(takePages(all.guest, 1), 4096, ToDevice);
		overflow(all);
		device.read(dma, 8);
		all.monitor.look();
		expect(all.monitor.findings).toEqual([]);
		device.unmap(dma, 4096, ToDevice);
		device.read(dma, 8);
		all.monitor.look();
		expect(seen(all.monitor)).toEqual(["use-after-unmap fault 8"]);
	});

	it("holds nothing against a buffer that may have new bytes, and forgets mappings that may have ended", async () => {
		const all = await watched({ zeroOnFree: true });
		const device = all.guest.addDevice();
		const page = takePages(all.guest, 2);
		const dma = device.map(page, 4096, FromDevice);
		device.write(dma, new Uint8Array(64).fill(7));
		device.unmap(dma, 4096, FromDevice, Attr.SkipCpuSync);
		const second = device.map(page + 4096, 4096, FromDevice);
		all.monitor.look();
		all.guest.engine.ram.write(page, new Uint8Array(64));
		device.unmap(second, 4096, FromDevice);
		overflow(all);
		all.guest.engine.ram.read(page, 8192);
		all.monitor.end();
		expect(all.monitor.findings).toEqual([]);
	});
});

describe("a monitor", () => {
	it("counts what a map left in slots that was refused after its copy", async () => {
		const { guest, monitor } = await watched();
		const device = guest.addDevice({ name: "sound", dmaMask: 2n ** 22n - 1n });
		expect(device.tryMap(secretPages(guest), 2048, ToDevice)).toBeLessThan(0);
		monitor.look();
		expect(seen(monitor)).toEqual(["residue-in-freed-slots exposure 2048"]);
		expect(monitor.findings[0]?.first).toMatchObject({ device: "sound", mapping: 1 });
		monitor.end();
		expect(monitor.findings).toHaveLength(1);
	});

	it("has nothing to say about what stays in the slots of a private pool", async () => {
		const { guest, monitor } = await watched({ pools: [{ kind: "private", size: "256K" }] });
		const device = acceptedDevice(guest, { dmaMask: 2n ** 52n - 1n, coherent: false });
		const dma = device.map(secretPages(guest), 32, FromDevice);
		device.unmap(dma, 32, FromDevice);
		monitor.end();
		expect(device.dma.counters.bouncedMaps).toBe(1);
		expect(monitor.findings).toEqual([]);
	});

	it("takes pages that the kernel zeroed for new ones, whatever a device had there before", async () => {
		const { guest, monitor } = await watched();
		const device = acceptedDevice(guest);
		const page = takePages(guest, 1);
		device.unmap(device.map(page, 4096, ToDevice), 4096, ToDevice);
		guest.pages.free(page, 1);
		const buffer = device.allocCoherent(4096);
		expect(buffer).toMatchObject({ ok: true, gpa: page });
		if (!buffer.ok) return;
		device.write(buffer.dma, new Uint8Array(64));
		device.freeCoherent(buffer);
		monitor.look();
		expect(monitor.findings).toEqual([]);
	});

	it("takes what a device gave to a shared page for given until the guest writes there", async () => {
		const { guest, monitor } = await watched();
		const { audit } = guest.engine;
		if (audit === null) throw new Error("no audit");
		const device = acceptedDevice(guest);
		const page = takePages(guest, 1);
		guest.converter.convert(page, 4096, PageState.Shared, { zero: true });
		const first = device.map(page, 256, FromDevice, 0, Attr.CcShared);
		device.write(first, new Uint8Array(256).fill(7));
		device.unmap(first, 256, FromDevice, Attr.CcShared);
		device.map(page + 1024, 64, FromDevice, 0, Attr.CcShared);
		monitor.look();
		expect(monitor.findings).toEqual([]);
		audit.pen = audit.label({ owner: device.dma.index, isPrivate: true, secret: true, accepted: false });
		guest.engine.ram.write(page + 100, new Uint8Array(28));
		device.map(page + 2048, 64, FromDevice, 0, Attr.CcShared);
		monitor.look();
		expect(seen(monitor)).toEqual(["sub-page-exposure breach 28"]);
	});

	it("reports a channel that claims more than its version knows", async () => {
		const { monitor } = await watched();
		const connection = { confidential: true, version: 0x00050003 };
		monitor.channel({ name: "netvsc", ring: "private", externalMemory: "shared", connection });
		monitor.look();
		expect(monitor.findings.map(({ first }) => first.text)).toEqual([
			'"netvsc" claims an encrypted ring, and its connection has version 5.3',
		]);
	});
});
