import { describe, expect, it } from "vitest";
import type { LeakMonitor } from "../../src/leaks/monitor.ts";
import { PROPERTY_NAMES, type PropertyName } from "../../src/leaks/properties.ts";
import { BYTE_CASES } from "../helpers/leak-cases-bytes.ts";
import { SLOT_CASES } from "../helpers/leak-cases-slots.ts";
import { USE_CASES } from "../helpers/leak-cases-use.ts";

const CASES = [...BYTE_CASES, ...SLOT_CASES, ...USE_CASES];
const rows = CASES.map((one) => [one.property, one.does, one] as const);

/** What a monitor reports of one property. */
function reported(monitor: LeakMonitor, property: PropertyName) {
	return monitor.report().find((each) => each.property.name === property);
}

describe("a monitor", () => {
	it("has a planted violation for each of the 28 properties", () => {
		const planted = new Set(CASES.map(({ property }) => property));
		expect([...planted].sort()).toEqual([...PROPERTY_NAMES].sort());
	});

	it.each(rows)("reports as %s: %s", async (property, _does, one) => {
		const { plant, sees, device, bytes, count = 1 } = one;
		const { monitor, gpa } = await plant();
		monitor.look();
		expect([...new Set(monitor.findings.map((each) => each.property))]).toEqual(sees);
		const finding = monitor.findings.find((each) => each.property === property && each.first.device === device);
		const page = gpa === null ? null : gpa - (gpa % 4096);
		expect(finding).toMatchObject({ bytes, count, first: { device, gpa, page } });
		expect(reported(monitor, property)).toMatchObject({ bytes, count, findings: [finding] });
		// what goes on is no second violation
		monitor.look();
		expect(reported(monitor, property)?.findings).toEqual([finding]);
		expect(monitor.notes).toEqual([]);
	});

	it.each(rows)("is silent about %s without: %s", async (property, _does, { clean }) => {
		const { monitor } = await clean();
		monitor.look();
		expect(reported(monitor, property)).toMatchObject({ findings: [], bytes: 0, count: 0 });
	});
});
