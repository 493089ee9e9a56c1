import { describe, expect, it } from "vitest";
import { PoisonedLines } from "../../src/coco/platform/poison.ts";

describe("corrupted lines", () => {
	const [NONE, LINE, NEXT] = [-1, 0x1040, 0x1080];
	const lines = () => {
		const poison = new PoisonedLines();
		poison.add(0x1050, 0x30);
		return poison;
	};

	it("are those that a write touches, and none beside them", () => {
		for (const [gpa, bytes, first] of [
			[0x1000, 0x40, NONE],
			[0x1000, 0x41, LINE],
			[0x107f, 1, LINE],
			[0x1080, 0x1000, NONE],
		] as const)
			expect(lines().firstIn(gpa, bytes)).toBe(first);
	});

	it("heal when they are written whole", () => {
		for (const [gpa, bytes, left] of [
			[0x1041, 0xff, LINE],
			[0x1000, 0x7f, LINE],
			[0x1040, 0x40, NONE],
			[0x1001, 0x80, NONE],
		] as const) {
			const poison = lines();
			poison.remove(gpa, bytes);
			expect(poison.firstIn(0x1000, 0x1000)).toBe(left);
		}
	});

	it("stop a write that covers them in part, at either end", () => {
		const poison = lines();
		poison.add(NEXT, 1);
		for (const [gpa, bytes, line] of [
			[0x1040, 0x3f, LINE],
			[0x1041, 0x3f, LINE],
			[0x1040, 0x80, NONE],
			[0x1000, 0xbf, NEXT],
			[0x1000, 0x40, NONE],
			[0x10c0, 0x10, NONE],
		] as const)
			expect(poison.firstPartlyIn(gpa, bytes)).toBe(line);
	});
});
