import { describe, expect, it } from "vitest";
import { loadCipher } from "../src/coco/ciphertext.ts";
import { PageConverter } from "../src/coco/convert.ts";
import { Parties } from "../src/coco/parties.ts";
import { PLATFORMS } from "../src/coco/platform.ts";
import { Engine, PageState } from "../src/index.ts";
import { printSeed, Random, SEED } from "./helpers/random.ts";

const { Shared, Private, Hidden, InTransition, Leaked } = PageState;
const ALL = Object.values(PLATFORMS);
const PAGES = 16;
printSeed("convert");

const guestOf = () => Engine.create({ ram: "64K", swiotlb: null });

describe("a page conversion", () => {
	it("that fails at any step of any platform leaks its whole range and no page beside it", async () => {
		for (const platform of ALL) {
			for (const [from, to] of [
				[Private, Shared],
				[Shared, Private],
			] as const) {
				const { length } = new PageConverter(await guestOf(), platform).steps(from, to);
				for (let i = 0; i < length; i++) {
					const engine = await guestOf();
					engine.ram.convert(0x4000, 0x4000, from);
					const converter = new PageConverter(engine, platform);
					const step = converter.steps(from, to)[i]?.step as "host";
					converter.failAt(step);
					expect(converter.convert(0x5000, 0x2000, to)).toEqual({ ok: false, step, leakedPages: 2 });
					expect(converter.leakedPages).toBe(2);
					for (const [gpa, state] of [
						[0x4000, from],
						[0x5000, Leaked],
						[0x6000, Leaked],
						[0x7000, from],
					] as const)
						expect(engine.ram.pageState(gpa)).toBe(state);
					expect(engine.ram.pagesInState(InTransition)).toBe(0);
					expect(() => converter.convert(0x5000, 0x1000, to)).toThrow(/BLOCKED_PAGES/);
				}
			}
		}
	});

	it("leaves on SNP the very ciphertext that the host saw before, and the plaintext when it goes back", async () => {
		const engine = await guestOf();
		const converter = new PageConverter(engine, PLATFORMS.snp, { cipher: await loadCipher() });
		const { host, guest } = new Parties(converter);
		guest.write(0x3000, new Uint8Array(4096).fill(7));
		const before = host.read(0x3000, 4096);
		converter.convert(0x3000, 4096, Shared);
		expect(guest.read(0x3000, 4096)).toEqual(before);
		converter.convert(0x3000, 4096, Private);
		expect(guest.read(0x3000, 4096)).toEqual(new Uint8Array(4096).fill(7));
	});

	it("meets a stray read with zeros, or with an unhandled exception where the page stays present under a paravisor", async () => {
		for (const [keepPresent, outcome] of [
			[false, "zero-padded"],
			[true, "unhandled"],
		] as const) {
			const converter = new PageConverter(await guestOf(), PLATFORMS["snp-vtom"], { keepPresent });
			const seen: string[] = [];
			converter.onTransition = () => seen.push(converter.strayRead(0x2ffc).outcome);
			converter.convert(0x3000, 4096, Shared);
			expect(new Set(seen)).toEqual(new Set([outcome]));
			expect(converter.strayFixups + converter.unhandledExceptions).toBe(seen.length);
		}
	});

	it("keeps every page in exactly the model's state over random histories on every platform", async () => {
		const random = new Random(SEED);
		for (const platform of ALL) {
			const engine = await guestOf();
			const converter = new PageConverter(engine, platform);
			const { host, guest } = new Parties(converter);
			const model = new Array<PageState>(PAGES).fill(Private);
			for (let i = 0; i < 300; i++) {
				const first = random.below(PAGES);
				const n = 1 + random.below(Math.min(3, PAGES - first));
				const to = random.pick([Shared, Private, Hidden]);
				const steps = converter.steps(model[first] as PageState, to);
				const before = model.slice(first, first + n);
				const refused =
					before.some((state) => state === Leaked || state !== before[0]) ||
					(to === Hidden && !platform.hiddenPages) ||
					(to === before[0] && platform.conversion.steps.toShared.length > 0);
				if (refused)
					expect(() => converter.convert(first * 4096, n * 4096, to)).toThrow(/BLOCKED_PAGES|MIXED_PAGES|BAD_ARGUMENT/);
				else {
					const fails = steps.length > 0 && random.oneIn(12);
					if (fails) converter.failAt(random.pick(steps).step);
					expect(converter.convert(first * 4096, n * 4096, to).ok).toBe(!fails);
					model.fill(fails ? Leaked : to, first, first + n);
				}
				for (let page = 0; page < PAGES; page++) expect(engine.ram.pageState(page * 4096)).toBe(model[page]);
				if (model[first] === Leaked) {
					expect(() => guest.read(first * 4096, 8)).toThrow(/leaked-page/);
					expect(() => host.write(first * 4096, new Uint8Array(8))).toThrow(/leaked-page/);
				}
			}
		}
	});
});
