import { describe, expect, it } from "vitest";
import { PROPERTIES } from "../../src/leaks/properties.ts";
import { BYTE_CASES } from "../helpers/leak-cases-bytes.ts";
import { SLOT_CASES } from "../helpers/leak-cases-slots.ts";
import { USE_CASES } from "../helpers/leak-cases-use.ts";

const CASES = [...BYTE_CASES, ...SLOT_CASES, ...USE_CASES].sort((a, b) => a.property - b.property);
const rows = CASES.map((one) => [one.property, PROPERTIES[one.property - 1]?.name ?? "", one.does, one] as const);

describe("a monitor", () => {
	it("has a planted violation for each of the 28 properties", () => {
		const planted = new Set(CASES.map(({ property }) => property));
		expect([...planted]).toEqual(PROPERTIES.map(({ number }) => number));
	});

	it.each(rows)("reports by property %i, %s: %s", async (property, name, _does, one) => {
		const { plant, sees, device, bytes, count = 1 } = one;
		const { monitor, gpa } = await plant();
		monitor.look();
		expect([...new Set(monitor.findings.map((each) => each.property))]).toEqual(sees);
		const finding = monitor.findings.find((each) => each.property === property && each.first.device === device);
		const page = gpa === null ? null : gpa - (gpa % 4096);
		expect(finding).toMatchObject({ name, bytes, count, first: { device, gpa, page } });
		expect(monitor.report()[property - 1]).toMatchObject({ bytes, count, findings: [finding] });
		// what goes on is no second violation
		monitor.look();
		expect(monitor.report()[property - 1]?.findings).toEqual([finding]);
		expect(monitor.notes).toEqual([]);
	});

	it.each(rows)("is silent about property %i, %s, without: %s", async (property, _name, _does, { clean }) => {
		const { monitor } = await clean();
		monitor.look();
		expect(monitor.report()[property - 1]).toMatchObject({ findings: [], bytes: 0, count: 0 });
	});
});
