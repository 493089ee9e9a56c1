import { describe, expect, it } from "vitest";
import { CTX_STATES } from "../../assembly/layout/context.ts";
import { POOL_SUMMARY, SEGMENT_FREE } from "../../assembly/layout/pool.ts";
import { PLATFORMS } from "../../src/coco/platform/platform.ts";
import { checkAccount } from "../../src/leaks/account.ts";
import { LeakMonitor } from "../../src/leaks/monitor.ts";
import { PROPERTIES } from "../../src/leaks/properties.ts";
import { PageState } from "../../src/memory/ram.ts";
import { OWNED_CONTEXT_PTR } from "../../src/setup.ts";
import { Attr, Direction } from "../../src/types.ts";
import { misconfigure, poolPtrs, secretPages, watched } from "../helpers/leaks.ts";
import { acceptedDevice, OFFER, smallGuest, TDISP, takePages, trustNow } from "../helpers/trust-guest.ts";

const { ToDevice, FromDevice, Bidirectional } = Direction;

/** The properties that are reported, and of which kind. */
function seen({ findings }: LeakMonitor): string[] {
	return findings.map(({ property, kind, bytes }) => `${property} ${kind} ${bytes}`);
}

describe("the table of properties", () => {
	it("has 28 names, with text and source", () => {
		expect(Object.keys(PROPERTIES)).toHaveLength(28);
		for (const [key, { name, text, source }] of Object.entries(PROPERTIES)) {
			expect(name).toBe(key);
			expect(name).toMatch(/^[a-z0-9]+(-[a-z0-9]+)+$/);
			expect(text.length).toBeGreaterThan(10);
			expect(source.length).toBeGreaterThan(10);
		}
	});
});

describe("a monitor of untrusted devices", () => {
	it("is silent where pools are zeroed and nothing is received into old buffers", async () => {
		const { guest, monitor } = await watched({ zeroOnFree: true });
		const device = guest.addDevice();
		for (let i = 0; i < 20; i++) {
			const dma = device.map(secretPages(guest), 100 * (i + 1), ToDevice);
			device.read(dma, 100);
			device.unmap(dma, 100 * (i + 1), ToDevice);
		}
		monitor.end();
		expect(monitor.findings).toEqual([]);
	});

	it("counts each stay in a freed slot once, how long it lasted, and what was overwritten before a look", async () => {
		const { guest, monitor } = await watched({ swiotlb: "128,1" });
		const { audit } = guest.engine;
		if (audit === null) throw new Error("no audit");
		const device = guest.addDevice({ name: "network" });
		const pages = secretPages(guest, 64);
		const once = () => device.unmap(device.map(pages, 2 ** 18, ToDevice), 2 ** 18, ToDevice);
		audit.nowNs = 1000;
		once();
		audit.nowNs = 1500;
		monitor.look();
		expect(seen(monitor)).toEqual([`residue-in-freed-slots exposure ${2 ** 18}`]);
		expect(monitor.findings[0]).toMatchObject({ count: 128, longestNs: 500, first: { device: "network" } });
		audit.nowNs = 4000;
		monitor.look();
		expect(monitor.findings[0]).toMatchObject({ count: 128, longestNs: 3000 });
		// taken again and left again, twice before the next look: one stay can only be told by the engine's count
		once();
		once();
		monitor.look();
		expect(seen(monitor)).toEqual([
			`residue-in-freed-slots exposure ${2 ** 19}`,
			`residue-in-freed-slots exposure ${2 ** 18}`,
		]);
		expect(monitor.findings[1]?.first).toMatchObject({ device: null, gpa: null });
	});

	it("knows a breach by its label, when all that an accepted device left was overwritten before a look", async () => {
		const { guest, monitor } = await watched({ kernel: "linux-6.12", swiotlb: "128,1" });
		const { audit } = guest.engine;
		if (audit === null) throw new Error("no audit");
		const device = guest.addDevice({ name: "storvsc", offer: OFFER });
		const pages = secretPages(guest, 64);
		audit.paint(
			pages,
			2 ** 18,
			audit.label({ owner: device.dma.index, isPrivate: true, secret: true, accepted: true }),
		);
		for (let i = 0; i < 3; i++) device.unmap(device.map(pages, 2 ** 18, ToDevice), 2 ** 18, ToDevice);
		monitor.look();
		const residue = monitor.findings.filter(({ property }) => property === "residue-in-freed-slots");
		expect(residue).toMatchObject([{ kind: "breach", bytes: 3 * 2 ** 18, first: { device: "storvsc" } }]);
	});
});

describe("a monitor of padding", () => {
	it("counts it in front of the mapped bytes and behind them", async () => {
		const { guest, monitor } = await watched({ swiotlb: "128,1" });
		const pages = secretPages(guest, 64);
		const large = guest.addDevice();
		large.unmap(large.map(pages, 2 ** 18, ToDevice), 2 ** 18, ToDevice);
		const device = guest.addDevice({ name: "nvme", minAlignMask: 0xfff });
		const dma = device.map(pages + 0x300, 64, ToDevice);
		monitor.look();
		expect(monitor.report()[5]).toMatchObject({ bytes: 2048 - 64, count: 2 });
		expect(monitor.report()[5]?.findings).toMatchObject([{ first: { device: "nvme", gpa: dma - 0x300 } }]);
	});
});

describe("a monitor of accepted devices", () => {
	it("calls what they expose a breach: residue, initial copies, padding", async () => {
		const { guest, monitor } = await watched({ kernel: "linux-6.12", swiotlb: "128,1" });
		const device = guest.addDevice({ name: "storvsc", offer: OFFER });
		const pages = secretPages(guest, 64);
		device.unmap(device.map(pages, 2 ** 18, ToDevice), 2 ** 18, ToDevice);
		monitor.look();
		expect(seen(monitor)).toEqual([
			`private-stays-private breach ${2 ** 18}`,
			`residue-in-freed-slots breach ${2 ** 18}`,
		]);
		device.map(pages, 64, FromDevice);
		monitor.look();
		expect(seen(monitor)).toEqual([
			`private-stays-private breach ${2 ** 18 + 64}`,
			`residue-in-freed-slots breach ${2 ** 18}`,
			"initial-copy-shows-old-contents breach 64",
			`padding-residue exposure ${2048 - 64}`,
		]);
	});

	it("counts what they write to shared slots on its way to a private buffer, and what a sync brings there", async () => {
		const { guest, monitor } = await watched({ kernel: "linux-6.12" });
		const device = guest.addDevice({ name: "storvsc", offer: OFFER });
		const dma = device.map(takePages(guest, 1), 4096, Bidirectional);
		monitor.look();
		expect(seen(monitor)).toEqual([]);
		device.write(dma, new Uint8Array(512).fill(7));
		monitor.look();
		expect(seen(monitor)).toEqual(["private-stays-private breach 512"]);
		// the copy back, and to the slots again
		device.dma.syncForCpu(dma, 4096, Bidirectional);
		device.dma.syncForDevice(dma, 100, Bidirectional);
		monitor.look();
		expect(seen(monitor)).toEqual(["private-stays-private breach 612"]);
	});

	it("knows what they were trusted with at each event, not at the look", async () => {
		const { guest, monitor } = await watched({ kernel: "linux-6.12" });
		const device = guest.addDevice({ name: "nvme", tdisp: TDISP });
		const page = secretPages(guest);
		const once = () => device.unmap(device.map(page, 4096, ToDevice), 4096, ToDevice);
		once();
		trustNow(device);
		once();
		device.trust?.stop();
		once();
		monitor.look();
		expect(monitor.report()[0]).toMatchObject({ bytes: 4096, count: 1 });
	});

	it("counts a page of theirs that becomes shared as it is", async () => {
		const { guest, monitor } = await watched({ platform: "pkvm" });
		const device = guest.addDevice({ name: "storvsc", offer: OFFER });
		const page = takePages(guest, 1);
		const dma = device.map(page, 4096, FromDevice);
		device.write(dma + 40, new Uint8Array(60).fill(7));
		device.unmap(dma, 4096, FromDevice);
		guest.converter.convert(page, 4096, PageState.Shared);
		monitor.look();
		expect(seen(monitor)).toEqual(["private-stays-private breach 60"]);
		expect(monitor.findings[0]?.first).toMatchObject({ device: "storvsc", gpa: page + 40 });
		// and an untrusted device that then may read it
		guest.addDevice({ name: "network" }).map(page, 64, ToDevice, 0, Attr.CcShared);
		monitor.look();
		expect(seen(monitor)).toEqual([
			"private-stays-private breach 60",
			"no-t1-data-in-t0-window breach 24",
			"sub-page-exposure breach 36",
		]);
	});
});

describe("a monitor of slots", () => {
	it("sees a slot that is marked free under its mapping, and a search that overlooks free runs", async () => {
		const { guest, monitor } = await watched();
		const tlb = guest.addDevice().map(secretPages(guest), 2048, ToDevice);
		const { segment } = poolPtrs(guest);
		const { data, exports } = guest.engine.instance;
		const { audit } = guest.engine;
		const [pool] = guest.engine.pools;
		if (audit === null || pool === undefined) throw new Error("no audit, no pool");
		const free = data.getBigUint64(segment + SEGMENT_FREE, true);
		data.setBigUint64(segment + SEGMENT_FREE, free | 1n, true);
		monitor.look();
		expect(monitor.findings).toMatchObject([
			{
				property: "lists-consistent",
				first: { gpa: tlb, text: expect.stringMatching(/counts as free, and mapping 1/) },
			},
		]);
		// what goes on being wrong is one violation
		data.setBigUint64(segment + SEGMENT_FREE, free & ~2n, true);
		monitor.look();
		expect(monitor.findings).toMatchObject([{ property: "lists-consistent", count: 1 }]);
		const account = checkAccount({ audit }, pool);
		expect(account?.text).toMatch(/^slot 1 at 0x[0-9a-f]+ counts as used, and no mapping holds it$/);
		data.setBigUint64(segment + SEGMENT_FREE, free, true);
		monitor.look();
		const record = exports.poolPtr(0) >>> 0;
		const summary = record + guest.engine.instance.u32(record + POOL_SUMMARY);
		for (let set = 0; set < 4; set++) data.setUint8(summary + set, 5);
		monitor.look();
		expect(monitor.findings).toMatchObject([{ property: "lists-consistent", count: 2 }]);
	});

	it("sees a list that does not count to the end of its run", async () => {
		const { guest } = await watched();
		const { audit } = guest.engine;
		const [pool] = guest.engine.pools;
		if (audit === null || pool === undefined) throw new Error("no audit, no pool");
		// the build has bits for lists, so that a wrong one has to be made up
		const { start, slabs, areaSlabs, flags, longestFreeRun } = pool;
		const list = pool.list();
		const like = { start, slabs, areaSlabs, flags, longestFreeRun, list: () => list, areas: () => pool.areas() };
		expect(checkAccount({ audit }, like)).toBeNull();
		list[7] = 120;
		expect(checkAccount({ audit }, like)?.text).toBe("slot 7: list says 120 free slots from it on, there are 121");
	});

	it("sees a mapping across its device's boundary, and a whole page that starts in the middle of one", async () => {
		const { guest, monitor } = await watched({ zeroOnFree: true });
		const device = guest.addDevice({ name: "nvme", segBoundaryMask: 0xfffn });
		misconfigure(guest, device, { segBoundaryMask: 0n });
		device.map(secretPages(guest), 2048, ToDevice);
		monitor.look();
		expect(seen(monitor)).toEqual([]);
		device.map(secretPages(guest), 2048, ToDevice);
		device.map(secretPages(guest, 2), 8192, ToDevice);
		monitor.look();
		expect(monitor.findings).toMatchObject([
			{
				property: "slot-has-one-owner",
				count: 1,
				bytes: 8192,
				first: { text: expect.stringMatching(/boundary 0xfff/) },
			},
		]);
		const plain = guest.addDevice({ name: "network" });
		misconfigure(guest, plain, { minAlignMask: 0x7ff });
		plain.map(secretPages(guest), 2048, ToDevice);
		plain.map(secretPages(guest, 2) + 0x100, 4096, ToDevice);
		monitor.look();
		expect(seen(monitor)).toEqual(["slot-has-one-owner fault 8192", "alignment-kept fault 4096"]);
	});

	it("sees the pages of a hidden pool that the host maps with bytes in them", async () => {
		const pools = [{ kind: "bus", size: "256K", hidden: true }] as const;
		const { guest, monitor } = await watched({ platform: "tdx", pools });
		const [, hidden] = guest.pools;
		if (hidden === undefined) throw new Error("no pool");
		const device = guest.addDevice({ pools: [hidden], matcher: () => hidden });
		device.map(secretPages(guest), 1000, ToDevice);
		monitor.look();
		expect(seen(monitor)).toEqual([]);
		// behind the engine's back: it converts no pages of pools
		const { instance } = guest.engine;
		const states = OWNED_CONTEXT_PTR + instance.u32(OWNED_CONTEXT_PTR + CTX_STATES);
		instance.data.setUint8(states + hidden.pool.start / 4096, PageState.Shared);
		monitor.look();
		monitor.look();
		expect(seen(monitor)).toEqual(["paravisor-page-unmapped breach 1000"]);
		expect(monitor.findings[0]).toMatchObject({ count: 1, first: { gpa: hidden.pool.start } });
	});
});

describe("a monitor of uses", () => {
	it("tells whose a slot is that a device reads after its unmap", async () => {
		const { guest, monitor } = await watched({ swiotlb: "128,1", zeroOnFree: true });
		const [a, b] = [guest.addDevice({ name: "a" }), guest.addDevice({ name: "b" })];
		const pages = secretPages(guest, 64);
		const dma = a.map(pages, 2 ** 18, ToDevice);
		a.unmap(dma, 2 ** 18, ToDevice);
		b.map(pages, 2 ** 18, ToDevice);
		a.read(dma + 4096, 64);
		monitor.look();
		expect(monitor.findings).toMatchObject([
			{
				property: "use-after-unmap",
				bytes: 64,
				first: { device: "a", mapping: 1, text: expect.stringMatching(/is mapping 2 of "b"/) },
			},
		]);
	});

	it("takes a buffer away from the CPU when it is given to the device again", async () => {
		const { guest, monitor } = await watched();
		const device = acceptedDevice(guest);
		const page = takePages(guest, 1);
		const dma = device.map(page, 4096, Bidirectional);
		device.dma.syncForCpu(dma, 64, Bidirectional);
		guest.engine.ram.read(page, 64);
		device.dma.syncForDevice(dma + 16, 16, Bidirectional);
		guest.engine.ram.read(page, 16);
		monitor.look();
		expect(seen(monitor)).toEqual([]);
		guest.engine.ram.read(page, 64);
		monitor.look();
		expect(seen(monitor)).toEqual(["sync-ordering fault 16"]);
		expect(monitor.findings[0]?.first.gpa).toBe(page + 16);
	});

	it("sees a device in slots that it never had", async () => {
		const { guest, monitor } = await watched();
		const [a, b] = [guest.addDevice({ name: "a" }), guest.addDevice({ name: "b" })];
		const dma = a.map(takePages(guest, 1), 4096, FromDevice);
		b.write(dma + 8, new Uint8Array(4));
		b.read(dma + 8192, 4);
		monitor.look();
		expect(monitor.findings).toMatchObject([
			{ property: "use-after-unmap", count: 2, bytes: 8, first: { device: "b", gpa: dma + 8 } },
		]);
	});

	it("lets a device use a coherent buffer that lies where it had a mapping", async () => {
		const { guest, monitor } = await watched();
		const device = acceptedDevice(guest);
		const page = takePages(guest, 1);
		device.unmap(device.map(page, 4096, ToDevice), 4096, ToDevice);
		guest.pages.free(page, 1);
		// not mapped by the kernel, and so not zeroed
		const buffer = device.allocCoherent(4096, { noKernelMapping: true });
		expect(buffer).toMatchObject({ ok: true, gpa: page });
		if (buffer.ok) device.write(buffer.dma, new Uint8Array(64));
		monitor.look();
		expect(monitor.findings).toEqual([]);
	});

	it("lets a device use what it holds: padding, coherent buffers, slots of a restricted pool", async () => {
		const { guest, monitor } = await watched({ pools: [{ kind: "restricted", size: "256K" }], zeroOnFree: true });
		const restricted = guest.pools.filter(({ kind }) => kind === "restricted");
		const device = guest.addDevice({ pools: restricted });
		const buffer = device.allocCoherent(4096);
		if (!buffer.ok) throw new Error(buffer.message);
		device.write(buffer.dma, new Uint8Array(4096));
		const dma = device.map(takePages(guest, 1), 100, FromDevice);
		device.read(dma, 2048);
		device.unmap(dma, 100, FromDevice);
		monitor.look();
		device.freeCoherent(buffer);
		monitor.end();
		expect(monitor.findings).toEqual([]);
		device.read(buffer.dma, 8);
		monitor.look();
		expect(seen(monitor)).toEqual(["use-after-unmap fault 8"]);
	});

	it("reports an address of the wrong form when the platform stops it, and a stray read that nobody fixes up", async () => {
		const exception = { name: "#VC", fixedUp: false };
		const { guest, monitor } = await watched({ platform: { ...PLATFORMS.snp, hostRead: "fault", exception } });
		const device = acceptedDevice(guest, { name: "nvme" });
		const pages = secretPages(guest, 2);
		expect(() => device.read(pages, 8)).toThrow(/wrong-encoding/);
		monitor.look();
		expect(seen(monitor)).toEqual(["encoding-equals-state fault 8"]);
		let once = true;
		guest.converter.onTransition = () => {
			if (once) guest.converter.strayRead(pages + 4092);
			once = false;
		};
		guest.converter.convert(pages + 4096, 4096, PageState.Shared);
		monitor.look();
		expect(seen(monitor)).toEqual(["encoding-equals-state fault 8", "no-touch-in-transition fault 0"]);
	});

	it("forgets what was lost when the buffer gets other bytes, and reads outside of operations", async () => {
		const { guest, monitor } = await watched();
		const device = guest.addDevice({ name: "network" });
		const page = takePages(guest, 1);
		const dma = device.map(page, 4096, FromDevice);
		device.write(dma, new Uint8Array(64).fill(7));
		device.unmap(dma, 4096, FromDevice, Attr.SkipCpuSync);
		guest.engine.ram.write(page, new Uint8Array(48));
		guest.engine.ram.read(page, 48);
		monitor.look();
		expect(seen(monitor)).toEqual([]);
		guest.engine.ram.read(page, 64);
		monitor.look();
		expect(seen(monitor)).toEqual(["skip-sync-keeps-data fault 16"]);
	});
});

describe("a monitor", () => {
	it("says what was lost when looks come too late, and goes on from there", async () => {
		const { guest, monitor } = await watched({ zeroOnFree: true });
		const device = guest.addDevice({ name: "network" });
		const old = device.map(secretPages(guest), 4096, ToDevice);
		for (let i = 0; i < 70_000; i++) guest.engine.ram.read(0, 1);
		expect(monitor.notes).toEqual([]);
		monitor.look();
		expect(monitor.notes).toEqual([expect.stringMatching(/^\d+ events were overwritten before a look/)]);
		// a mapping that it does not know is no reason for a finding
		device.read(old, 64);
		device.unmap(old, 4096, ToDevice);
		monitor.look();
		expect(monitor.findings).toEqual([]);
		device.map(secretPages(guest), 100, FromDevice);
		monitor.look();
		expect(seen(monitor)).toEqual(["initial-copy-shows-old-contents exposure 100"]);
		expect(monitor.notes).toHaveLength(1);
	});

	it("reports a touch of a leaked page as one of a page in transition", async () => {
		const { guest, monitor } = await watched();
		const page = takePages(guest, 1);
		guest.converter.failAt("host");
		guest.converter.convert(page, 4096, PageState.Shared);
		guest.pages.leak(page, 1);
		expect(() => guest.parties.host.read(page, 8)).toThrow();
		monitor.look();
		expect(seen(monitor)).toEqual(["no-touch-in-transition fault 8"]);
	});

	it("counts violations that the guest's log forgot", async () => {
		const { guest, monitor } = await watched({ platform: "cca" });
		const page = secretPages(guest);
		for (let i = 0; i < 1100; i++) expect(() => guest.parties.host.read(page, 1)).toThrow(/private-page/);
		monitor.look();
		expect([monitor.findings, monitor.notes]).toEqual([[], ["76 violations were forgotten before a look"]]);
	});

	it("at the end names what is held: direct and coherent too", async () => {
		const { guest, monitor } = await watched();
		const device = acceptedDevice(guest, { name: "nvme" });
		const buffer = device.allocCoherent(4096);
		monitor.end();
		expect(monitor.findings).toMatchObject([
			{
				property: "counters-return-to-zero",
				first: { text: expect.stringMatching(/0 bounced mappings, 1 coherent buffers/) },
			},
		]);
		if (buffer.ok) device.freeCoherent(buffer);
		const page = secretPages(guest);
		device.map(page, 64, ToDevice);
		monitor.end();
		expect(monitor.findings).toMatchObject([
			{ property: "counters-return-to-zero", count: 2, bytes: 64, first: { device: "nvme" } },
		]);
	});

	it("is refused for a guest that does not audit, and for a bad keep", async () => {
		const plain = await smallGuest({ platform: "snp" });
		expect(() => new LeakMonitor(plain)).toThrow(/must have the build "engine.audit"/);
		const { guest } = await watched();
		for (const keep of [-1, 1.5, Number.NaN])
			expect(() => new LeakMonitor(guest, { keep })).toThrow(/keep must be a whole number from 0/);
	});
});
