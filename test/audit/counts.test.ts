import { describe, expect, it } from "vitest";
import { PageState } from "../../src/memory/ram.ts";
import { Direction } from "../../src/types.ts";
import { audited, GUEST, last, write } from "../helpers/audited.ts";

const { ToDevice } = Direction;

describe("counts of the audit", () => {
	it("take no residue from a pool that the host does not read", async () => {
		for (const state of [PageState.Private, PageState.Hidden, PageState.Shared]) {
			const { engine, audit } = await audited({ swiotlb: null });
			const pool = engine.addPool({ slabs: 128, areas: 1 }, { start: 0x100000, state });
			const device = engine.addDevice({ forceBounce: true, pool });
			write(engine, 0x1000, 2048);
			for (let i = 0; i < 130; i++) {
				audit.nowNs = i;
				device.unmap(device.map(0x1000, 2048, ToDevice), 2048, ToDevice);
			}
			const { residueBytes } = audit.totals({ number: GUEST });
			expect(residueBytes, `state ${state}`).toBe(state === PageState.Shared ? 2 * 2048 : 0);
		}
	});

	it("take a page once that is made shared twice", async () => {
		const { engine, audit } = await audited();
		write(engine, 0x2000, 100);
		for (let i = 0; i < 2; i++) engine.ram.convert(0x2000, 4096, PageState.Shared);
		expect(audit.totals({ number: GUEST })).toMatchObject({ sharedBytes: 100, convertedBytes: 100 });
		expect(audit.pageBytes(0x2000)).toBe(100);
	});

	it("name the first accepted owner's label of those that one copy brings", async () => {
		const { engine, audit } = await audited();
		const device = engine.addDevice({ forceBounce: true });
		const [first, second] = [5, 6].map((owner) =>
			audit.label({ owner, isPrivate: true, secret: true, accepted: true }),
		);
		audit.paint(0x1000, 300, first ?? null);
		audit.paint(0x1000 + 300, 200, second ?? null);
		device.map(0x1000, 500, ToDevice);
		expect(last(audit, "copy")).toMatchObject({ sharedBytes: 500, acceptedBytes: 500, acceptedLabel: first?.number });
	});
});
