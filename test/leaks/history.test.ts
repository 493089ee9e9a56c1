import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { historyOf } from "../../src/leaks/history.ts";
import { PageState } from "../../src/memory/ram.ts";
import { historyText } from "../../src/report/history.ts";
import { Direction } from "../../src/types.ts";
import { placeOf, secretPages, watched } from "../helpers/leaks.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { takePages } from "../helpers/trust-guest.ts";

const { ToDevice, FromDevice, Bidirectional } = Direction;
printSeed("leaks-history");

describe("the history of a byte", () => {
	it("in a freed slot names the write, the mapping, the copy and the unmap", async () => {
		const { guest } = await watched({ kernel: "linux-6.12" });
		const { audit } = guest.engine;
		if (audit === null) throw new Error("no audit");
		const device = guest.addDevice({ name: "storvsc" });
		const page = secretPages(guest);
		const first = audit.eventCount - 1;
		const dma = device.map(page, 4096, ToDevice);
		device.read(dma, 512);
		device.read(dma, 512);
		device.unmap(dma, 4096, ToDevice);
		guest.parties.host.read(placeOf(guest, dma), 8);
		const history = historyOf(audit, dma + 5, { platform: guest.platform });
		const hex = (gpa: number) => `0x${gpa.toString(16)}`;
		expect(history).toMatchObject({ gpa: dma + 5, complete: true, goneEvents: 0 });
		expect(historyText(history, () => device.name)).toEqual([
			`write   gpa ${hex(page)} (4,096 bytes) by the guest's CPU, private page, event ${first}`,
			`map     mapping 1 of "storvsc": ${hex(page)}, 4,096 bytes TO_DEVICE, bounced to ${hex(dma)}, event ${first + 1}`,
			`copy    ${hex(page)} -> ${hex(dma)}, 4,096 bytes, shared page, by mapping 1, event ${first + 2}`,
			`read    gpa ${hex(dma)} (512 bytes) by "storvsc", 2 times, event ${first + 3}`,
			`unmap   mapping 1 ended, its slots are free, event ${first + 5}`,
			`read    gpa ${hex(dma)} (8 bytes) by the host, event ${first + 6}`,
		]);
	});

	it("that a device wrote goes back through the copy to the slots", async () => {
		const { guest } = await watched();
		const device = guest.addDevice({ name: "network" });
		const page = takePages(guest, 1);
		const dma = device.map(page, 4096, FromDevice);
		device.write(dma + 64, new Uint8Array(64).fill(7));
		device.unmap(dma, 4096, FromDevice);
		const { audit } = guest.engine;
		if (audit === null) throw new Error("no audit");
		const written = historyOf(audit, page + 100);
		expect(written.steps.map(({ role }) => role)).toEqual(["write", "unmap", "copy"]);
		expect(written.steps[0]).toMatchObject({ gpa: dma + 100, event: { device: device.dma.index, mapping: 1 } });
		// what the device did not write came from the page itself
		const kept = historyOf(audit, page);
		expect(kept).toMatchObject({ complete: false, steps: [{ role: "map" }, {}, {}, {}] });
		expect(historyText(kept)[0]).toBe("        what stood there first came when the audit began");
	});

	it("ends where a conversion scrambled its page, if the platform does that", async () => {
		for (const [platform, role] of [
			["snp", "convert"],
			["pkvm", "write"],
		] as const) {
			const { guest } = await watched({ platform });
			const { audit } = guest.engine;
			if (audit === null) throw new Error("no audit");
			const page = secretPages(guest);
			guest.converter.convert(page, 4096, PageState.Shared);
			const history = historyOf(audit, page, { platform: guest.platform });
			expect([history.complete, history.steps[0]?.role, history.steps.at(-1)?.role]).toEqual([true, role, "convert"]);
		}
	});

	it("in the original names the mappings that bounced it, and survives that the host maps its page", async () => {
		const { guest } = await watched({ platform: "snp-vtom" });
		const { audit } = guest.engine;
		if (audit === null) throw new Error("no audit");
		const device = guest.addDevice();
		const page = secretPages(guest);
		device.unmap(device.map(page, 64, ToDevice), 64, ToDevice);
		expect(historyOf(audit, page).steps.map(({ role }) => role)).toEqual(["write", "map", "unmap"]);
		const hidden = takePages(guest, 1);
		guest.converter.convert(hidden, 4096, PageState.Hidden);
		guest.parties.paravisor.write(hidden, new Uint8Array(8).fill(1));
		guest.converter.convert(hidden, 4096, PageState.Shared);
		const { steps } = historyOf(audit, hidden, { platform: guest.platform });
		expect(steps.map(({ role }) => role)).toEqual(["write", "convert"]);
		expect(historyText({ gpa: hidden, steps, complete: true, goneEvents: 0 })[0]).toMatch(
			/by the paravisor, hidden page/,
		);
	});

	it("says what is gone from the log, and names a direct mapping's unmap and a refused map", async () => {
		const { guest } = await watched();
		const { audit } = guest.engine;
		if (audit === null) throw new Error("no audit");
		const device = guest.addDevice({
			offer: {
				flags: { coRingBuffer: true, coExternalMemory: true },
				connection: { confidential: true, version: 0x60000 },
			},
		});
		const page = secretPages(guest);
		for (let i = 0; i < 70_000; i++) guest.engine.ram.read(0, 1);
		const dma = device.map(page, 16, Bidirectional);
		device.unmap(dma, 16, Bidirectional);
		expect(placeOf(guest, dma)).toBe(page);
		expect(guest.addDevice({ pools: [] }).tryMap(page, 16, ToDevice)).toBeLessThan(0);
		const history = historyOf(audit, page + 3);
		expect(history).toMatchObject({ complete: false, goneEvents: audit.firstEvent });
		expect(
			historyText(history).map((line) => line.replace(/0x[0-9a-f]+/g, "GPA").replace(/event \d+/g, "event N")),
		).toEqual([
			"        what stood there first came before event N, gone from the log",
			'map     mapping 1 of "device 0": GPA, 16 bytes BIDIRECTIONAL, direct, event N',
			'unmap   a direct mapping of "device 0" ended, event N',
			'map     mapping 2 of "device 1": GPA, 16 bytes TO_DEVICE, refused: NEEDS_SHARED, event N',
		]);
	});

	it("ends at the write that put it there, whatever was mapped meanwhile", async () => {
		await fc.assert(
			fc.asyncProperty(fc.integer(), async (seed) => {
				const random = new Random(seed);
				const { guest } = await watched({ swiotlb: "128,1" });
				const { audit } = guest.engine;
				if (audit === null) throw new Error("no audit");
				const device = guest.addDevice({ minAlignMask: random.pick([0, 0xfff]) });
				const page = takePages(guest, 2);
				// what each byte's last write was, kept by hand
				const writers = new Map<number, number>();
				const note = (gpa: number, bytes: number) => {
					for (let at = gpa; at < gpa + bytes; at++) writers.set(at, audit.eventCount - 1);
				};
				const move = (to: number, from: number, bytes: number) => {
					const old = Array.from({ length: bytes }, (_, i) => writers.get(from + i));
					for (const [i, writer] of old.entries()) {
						if (writer === undefined) writers.delete(to + i);
						else writers.set(to + i, writer);
					}
				};
				for (let i = 0; i < 30; i++) {
					const gpa = page + random.below(6000);
					const bytes = random.between(1, 2000);
					guest.engine.ram.write(gpa, random.bytes(bytes));
					note(gpa, bytes);
					const dir = random.pick([ToDevice, FromDevice, Bidirectional]);
					const dma = device.map(gpa, bytes, dir);
					move(dma, gpa, bytes);
					const part = random.between(1, bytes);
					if (random.oneIn(2)) {
						device.write(dma, random.bytes(part));
						note(dma, part);
					}
					device.unmap(dma, bytes, dir);
					if (dir !== ToDevice) move(gpa, dma, bytes);
				}
				for (let i = 0; i < 40; i++) {
					const at = random.pick([...writers.keys()]);
					const [origin] = historyOf(audit, at).steps;
					expect([at, origin?.role, origin?.event.number]).toEqual([at, "write", writers.get(at)]);
				}
			}),
			{ seed: SEED, numRuns: 30, endOnFailure: true },
		);
	});
});
