import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { loadCipher, seededCipher } from "../../src/coco/platform/ciphertext.ts";
import { PageConverter } from "../../src/coco/platform/convert.ts";
import { Parties } from "../../src/coco/platform/parties.ts";
import { PLATFORMS, type Platform } from "../../src/coco/platform/platform.ts";
import { AccessFault } from "../../src/coco/platform/violations.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { DmaError } from "../../src/status.ts";
import { printSeed, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";
import { type Access, aesPages, type ConvertCall, type Crypt, dataOf, Model, STRETCHES } from "./parties-model.ts";

printSeed("parties-property");
const STEPS = ["unmap", "rescind", "attribute", "host", "accept", "map"] as const;
const { Shared, Private, Hidden, InTransition, Leaked } = PageState;
const PAGE_GPAS = STRETCHES.flatMap(({ gpa, bytes }) => Array.from({ length: bytes / 4096 }, (_, i) => gpa + i * 4096));

/** Addresses crowd around page boundaries, those of the hole and the end of RAM too, and on cache lines. */
const gpas = fc
	.tuple(
		fc.constantFrom(...PAGE_GPAS, 0x8000, 0x14000),
		fc.oneof(
			fc.integer({ min: -70, max: 70 }),
			fc.nat(4095),
			fc.nat(10).map((i) => i * 32),
		),
	)
	.map(([page, offset]) => Math.max(page + offset, 0));
const accesses: fc.Arbitrary<Access> = fc.record({
	kind: fc.constantFrom("read", "write"),
	who: fc.constantFrom("guest", "guest", "paravisor", "host", "host", "device", "device", "device"),
	t: fc.constantFrom(0, 1),
	form: fc.constantFrom("private", "shared"),
	encoded: fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
	gpa: gpas,
	bytes: fc.oneof(
		fc.constantFrom(32, 64, 96, 128),
		fc.integer({ min: 1, max: 200 }),
		fc.integer({ min: 1, max: 9000 }),
	),
	fill: fc.nat(255),
});
const strays = fc.record({ stray: gpas, bytes: fc.integer({ min: 1, max: 8 }) });
type Probe = Access | { stray: number; bytes: number };
const probes: fc.Arbitrary<Probe> = fc.oneof(accesses, strays);
const conversions = fc.record({
	gpa: fc.oneof(
		{ weight: 12, arbitrary: fc.constantFrom(...PAGE_GPAS) },
		{ weight: 1, arbitrary: fc.constantFrom(0x800, 0x7001, 0x8000, 0x14000) },
	),
	bytes: fc.oneof(
		{ weight: 12, arbitrary: fc.constantFrom(0x1000, 0x1000, 0x2000, 0x3000) },
		{ weight: 1, arbitrary: fc.constantFrom(0x800, 0x1fff) },
	),
	to: fc.oneof(
		{ weight: 12, arbitrary: fc.constantFrom<PageState>(Shared, Private, Hidden) },
		{ weight: 1, arbitrary: fc.constantFrom<PageState>(InTransition, Leaked) },
	),
	zero: fc.boolean(),
	throwAt: fc.oneof({ weight: 10, arbitrary: fc.constant(-1) }, { weight: 1, arbitrary: fc.nat(3) }),
	probes: fc.array(probes, { maxLength: 4 }),
});
type Op =
	| { op: "probe"; probe: Probe }
	| { op: "convert"; call: ConvertCall & { probes: Probe[] } }
	| { op: "failAt"; step: (typeof STEPS)[number]; nth: number };
const ops: fc.Arbitrary<Op[]> = fc.array(
	fc.oneof(
		{ weight: 12, arbitrary: probes.map((probe) => ({ op: "probe" as const, probe })) },
		{ weight: 8, arbitrary: conversions.map((call) => ({ op: "convert" as const, call })) },
		{
			weight: 1,
			arbitrary: fc.record({
				op: fc.constant("failAt" as const),
				step: fc.constantFrom(...STEPS),
				nth: fc.integer({ min: 1, max: 3 }),
			}),
		},
	),
	{ minLength: 20, maxLength: 60, size: "max" },
);

/** A guest and its model, in lockstep. */
async function pairOn(platform: Platform, keepPresent: boolean, aes: boolean) {
	const engine = await Engine.create({ ram: STRETCHES, swiotlb: null });
	const cipher = aes ? await loadCipher(3) : seededCipher(3);
	const converter = new PageConverter(engine, platform, { cipher, keepPresent });
	const parties = new Parties(converter, { keepViolations: 4096 });
	const seeded: Crypt = (how, page, data) => seededCipher(3)[how](page * 4096, data);
	const model = new Model(platform, keepPresent, aes, aes ? aesPages(3) : seeded);
	const caught = (run: () => unknown) => {
		try {
			return run();
		} catch (error) {
			return error;
		}
	};
	const access = (one: Access) => {
		const device = parties.device(5, { encoded: one.encoded });
		device.t = one.t;
		const view = one.who === "device" ? device : parties[one.who];
		const address = model.address(one);
		const got = caught(() => (one.kind === "read" ? view.read(address, one.bytes) : view.write(address, dataOf(one))));
		const expected = model.access(one);
		if (expected === "no cipher") expect(got).toMatchObject({ name: "CipherUnavailable" });
		else if (!(expected instanceof Uint8Array)) {
			expect(got).toBeInstanceOf(AccessFault);
			expect((got as AccessFault).violation).toEqual(expected);
		} else if (one.kind === "write") expect(got).toBeUndefined();
		else {
			expect(got).toBeInstanceOf(Uint8Array);
			expect(Buffer.compare(got as Uint8Array, expected), "the bytes that were read").toBe(0);
		}
	};
	const probe = (one: Probe) => {
		if (!("stray" in one)) return access(one);
		const expected = model.stray(one.stray, one.bytes);
		const got = caught(() => converter.strayRead(one.stray, one.bytes));
		if (typeof expected === "string") expect(got).toMatchObject({ name: "DmaError", status: expected });
		else expect(got).toEqual(expected);
	};
	const convert = (call: ConvertCall & { probes: Probe[] }) => {
		const course = model.begin(call);
		const thrown = new Error("thrown in a window");
		const windows: string[] = [];
		converter.onTransition = (gpa, bytes, step) => {
			expect([gpa, bytes]).toEqual([call.gpa, call.bytes]);
			windows.push(step);
			compare();
			for (const one of call.probes) probe(one);
			if (windows.length - 1 === call.throwAt) throw thrown;
		};
		const got = caught(() => converter.convert(call.gpa, call.bytes, call.to, { zero: call.zero }));
		if (Array.isArray(course)) {
			expect(windows).toEqual([]);
			expect(got).toBeInstanceOf(DmaError);
			expect(course).toContain((got as DmaError).status);
			return;
		}
		if (course.end === "throws") expect(got).toBe(thrown);
		else if (course.end === "ok") expect(got).toEqual({ ok: true });
		else expect(got).toEqual({ ok: false, step: course.windows.at(-1), leakedPages: call.bytes / 4096 });
		expect(windows).toEqual(course.windows);
		model.finish(call, course);
	};
	const compare = () => {
		const { violations } = parties;
		expect(violations.total).toBe(model.violations.length);
		expect(violations.list.slice(-8)).toEqual(model.violations.slice(-8));
		for (const [state, page] of model.states.map((one, i) => [one, i] as const)) {
			if (state < 0) continue;
			expect(engine.ram.pageState(page * 4096)).toBe(state);
			const usable = state !== Leaked && state !== InTransition;
			const at = page * 4096;
			const same = Buffer.compare(engine.ram.view(at, 4096), model.bytes.subarray(at, at + 4096)) === 0;
			if (usable) expect(same, `the bytes of page ${page}`).toBe(true);
		}
		for (const state of Object.values(PageState))
			expect(engine.ram.pagesInState(state)).toBe(model.states.filter((one) => one === state).length);
		expect(converter.leakedPages).toBe(model.states.filter((one) => one === Leaked).length);
		expect(converter.conversions).toBe(model.conversions);
		expect([converter.strayFixups, converter.unhandledExceptions]).toEqual([model.fixups, model.unhandled]);
	};
	const failAt = (step: (typeof STEPS)[number], nth: number) => {
		const got = caught(() => converter.failAt(step, nth));
		if (model.failAt(step, nth)) expect(got).toBeUndefined();
		else expect(got).toBeInstanceOf(RangeError);
	};
	return { probe, convert, failAt, compare };
}

describe("parties and conversions", () => {
	it.each(Object.values(PLATFORMS))(
		"on $name do what the platform's record says, byte by byte, over random histories",
		async (platform) => {
			const unmaps = platform.conversion.steps.toShared.some(({ step }) => step === "unmap");
			await fc.assert(
				fc.asyncProperty(ops, fc.boolean(), fc.boolean(), async (list, keep, aes) => {
					const pair = await pairOn(platform, keep && unmaps, aes);
					for (const one of list) {
						if (one.op === "probe") pair.probe(one.probe);
						else if (one.op === "convert") pair.convert(one.call);
						else pair.failAt(one.step, one.nth);
						pair.compare();
					}
					const whole = { who: "guest", t: 0, form: "shared", encoded: true, fill: 0, bytes: 64 } as const;
					for (const gpa of PAGE_GPAS)
						for (let at = gpa; at < gpa + 4096; at += 64) pair.probe({ ...whole, kind: "read", gpa: at });
				}),
				{ seed: SEED, numRuns: bySuite({ quick: 5, slow: 40 }) },
			);
		},
	);
});
