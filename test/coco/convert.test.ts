import { describe, expect, it } from "vitest";
import { loadCipher } from "../../src/coco/platform/ciphertext.ts";
import { PageConverter, type StrayRead } from "../../src/coco/platform/convert.ts";
import { Parties } from "../../src/coco/platform/parties.ts";
import { type ConversionStep, PLATFORMS, type Platform } from "../../src/coco/platform/platform.ts";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";

const { Shared, Private, Hidden, InTransition, Leaked } = PageState;
const ALL = Object.values(PLATFORMS);
const PAGES = 16;

const guestOf = () => Engine.create({ ram: "64K", swiotlb: null });

function viewsOf(converter: PageConverter) {
	const parties = new Parties(converter);
	const { guest, paravisor, host } = parties;
	const device = parties.device(1, { encoded: false });
	return { guest, paravisor, host, device, trusted: parties.device(2, { t: 1, encoded: false }) };
}

function turns(platform: Platform): [PageState, PageState][] {
	const states = platform.hiddenPages ? [Private, Shared, Hidden] : [Private, Shared];
	return states.flatMap((from) => states.filter((to) => to !== from).map((to) => [from, to] as [PageState, PageState]));
}

type ConverterOptions = NonNullable<ConstructorParameters<typeof PageConverter>[2]>;

/** Pages 0 to 15, the four from 0x4000 in state `from`, page n filled with n + 1. */
async function fourPages(platform: Platform, from: PageState, options: ConverterOptions = {}) {
	const engine = await guestOf();
	for (let page = 0; page < PAGES; page++) engine.ram.fill(page * 4096, 4096, page + 1);
	engine.ram.convert(0x4000, 0x4000, from);
	const converter = new PageConverter(engine, platform, options);
	const states = () => [0x4000, 0x5000, 0x6000, 0x7000].map((gpa) => engine.ram.pageState(gpa));
	const counted = () =>
		Object.values(PageState).reduce<number>((sum, state) => sum + engine.ram.pagesInState(state), 0);
	return { engine, converter, states, counted };
}

describe("a page conversion", () => {
	it("that fails at any step of any platform leaks its whole range and no page beside it", async () => {
		for (const platform of ALL) {
			for (const [from, to] of turns(platform)) {
				const { length } = (await fourPages(platform, from)).converter.steps(from, to);
				for (let i = 0; i < length; i++) {
					const { engine, converter, states, counted } = await fourPages(platform, from);
					const step = converter.steps(from, to)[i]?.step as ConversionStep;
					converter.failAt(step);
					expect(converter.convert(0x5000, 0x2000, to)).toEqual({ ok: false, step, leakedPages: 2 });
					expect([converter.leakedPages, converter.conversions]).toEqual([2, 0]);
					expect(states()).toEqual([from, Leaked, Leaked, from]);
					expect(counted()).toBe(PAGES);
					const { guest, paravisor, host, device } = viewsOf(converter);
					for (const view of [guest, paravisor, host, device]) {
						expect(() => view.read(0x5000, 8)).toThrow(/leaked-page: fault/);
						expect(() => view.write(0x6ff0, new Uint8Array(8))).toThrow(/leaked-page: refused/);
					}
					for (const again of [Private, Shared])
						for (const gpa of [0x4000, 0x5000, 0x6000])
							expect(() => converter.convert(gpa, 0x2000, again)).toThrow(/BLOCKED_PAGES/);
					// the failure is used up, and what leaked stays as it is
					expect(converter.convert(0x4000, 0x1000, to)).toEqual({ ok: true });
					expect(states()).toEqual([to, Leaked, Leaked, from]);
					expect([converter.leakedPages, converter.conversions]).toEqual([2, 1]);
					expect(engine.ram.view(0x7000, 4096).every((byte) => byte === 8)).toBe(true);
				}
			}
		}
	});

	it("has a window before each of its steps in which nobody can use its pages, pKVM's single step too", async () => {
		for (const platform of ALL) {
			for (const [from, to] of turns(platform)) {
				const { engine, converter, states } = await fourPages(platform, from);
				const windows: string[] = [];
				converter.onTransition = (gpa, bytes, step) => {
					windows.push(step);
					expect([gpa, bytes]).toEqual([0x5000, 0x1000]);
					expect(states()).toEqual([from, InTransition, from, from]);
					for (const view of Object.values(viewsOf(converter))) {
						expect(() => view.read(0x5000, 8)).toThrow(/in-transition-page: fault \(not present\)/);
						expect(() => view.write(0x5000, new Uint8Array(8))).toThrow(/in-transition-page: refused/);
					}
					expect(() => engine.ram.read(0x5000, 8)).toThrow(/BLOCKED_PAGES/);
					expect(() => converter.convert(0x5000, 0x1000, to)).toThrow(/BLOCKED_PAGES/);
				};
				converter.convert(0x5000, 0x1000, to);
				const { toShared, toPrivate } = platform.conversion.steps;
				const all = (to === Private ? toPrivate : toShared).map(({ step }) => step);
				expect(windows).toEqual(from === Private || to === Private ? all : ["host"]);
				expect(states()).toEqual([from, to, from, from]);
			}
		}
	});

	it("leaks its range when a window throws, and what was thrown reaches the caller", async () => {
		for (const platform of ALL) {
			for (const [from, to] of turns(platform)) {
				const { length } = (await fourPages(platform, from)).converter.steps(from, to);
				for (let i = 0; i < length; i++) {
					const { converter, states } = await fourPages(platform, from);
					const thrown = new Error("from the window");
					let window = 0;
					converter.onTransition = () => {
						if (window++ === i) throw thrown;
					};
					expect(() => converter.convert(0x5000, 0x2000, to)).toThrow(thrown);
					expect(states()).toEqual([from, Leaked, Leaked, from]);
					expect([converter.leakedPages, converter.conversions]).toEqual([2, 0]);
				}
			}
		}
	});

	it("can run inside another's window, on other pages", async () => {
		const { converter, states } = await fourPages(PLATFORMS.cca, Private);
		converter.onTransition = () => {
			converter.onTransition = null;
			converter.convert(0x7000, 0x1000, Shared);
		};
		converter.convert(0x4000, 0x2000, Shared);
		expect(states()).toEqual([Shared, Shared, Private, Shared]);
		expect(converter.conversions).toBe(2);
	});

	it("fails where failAt says: the nth that reaches the step, each call one failure", async () => {
		const { converter } = await fourPages(PLATFORMS.tdx, Private);
		converter.failAt("host", 3);
		converter.failAt("attribute", 2);
		converter.failAt("accept");
		const results = [0, 1, 2, 3, 8].map((page) => converter.convert(page * 4096, 4096, Shared));
		// the second ends before it reaches the step "host"
		expect(results.map((one) => one.ok || one.step)).toEqual([true, "attribute", true, "host", true]);
		const back = [0, 2].map((page) => converter.convert(page * 4096, 4096, Private));
		expect(back.map((one) => one.ok || one.step)).toEqual(["accept", true]);
		expect(converter.conversions).toBe(4);
	});

	it("cannot be told to fail at a step that the platform does not have, or never", async () => {
		for (const platform of ALL) {
			const { converter } = await fourPages(platform, Private);
			const { toShared, toPrivate } = platform.conversion.steps;
			const has = new Set([...toShared, ...toPrivate].map(({ step }) => step));
			for (const step of ["unmap", "rescind", "attribute", "host", "accept", "map"] as const) {
				if (has.has(step)) converter.failAt(step, 100);
				else expect(() => converter.failAt(step)).toThrow(RangeError);
			}
			expect(() => converter.failAt("later" as "host")).toThrow(
				`failAt: ${platform.name} converts pages by the steps ${[...has].join(", ") || "none"}, not "later"`,
			);
			for (const nth of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])
				if (has.has("host")) expect(() => converter.failAt("host", nth)).toThrow(/nth must be a whole number from 1/);
		}
		const present = new PageConverter(await guestOf(), PLATFORMS.cca, { keepPresent: true });
		expect(() => present.failAt("unmap")).toThrow(/cca converts pages by the steps host, not "unmap"/);
	});

	it("leaves zeros where the kernel zeroes, and else what the platform leaves", async () => {
		for (const platform of ALL) {
			for (const [from, to] of turns(platform)) {
				for (const zero of [true, false]) {
					const { engine, converter } = await fourPages(platform, from);
					converter.convert(0x5000, 0x2000, to, { zero });
					const { toShared, toPrivate } = platform.conversion;
					const contents = from === Private ? toShared : to === Private ? toPrivate : "kept";
					for (const page of [5, 6]) {
						const bytes = engine.ram.view(page * 4096, 4096);
						if (zero || contents === "zeroed") expect(bytes.every((byte) => byte === 0)).toBe(true);
						else if (contents === "kept") expect(bytes.every((byte) => byte === page + 1)).toBe(true);
						else expect(bytes.filter((byte) => byte === page + 1).length).toBeLessThan(100);
					}
					for (const page of [4, 7])
						expect(engine.ram.view(page * 4096, 4096).every((byte) => byte === page + 1)).toBe(true);
				}
			}
		}
	});

	it("scrambles by its seed: the same seed leaves the same bytes, another one others, 1 is the default", async () => {
		const left = async (options: ConverterOptions) => {
			const { engine, converter } = await fourPages(PLATFORMS.snp, Private, options);
			converter.convert(0x4000, 0x1000, Shared);
			return Buffer.from(engine.ram.read(0x4000, 4096)).toString("hex");
		};
		expect(await left({ seed: 1 })).toBe(await left({}));
		expect(await left({ seed: 2 })).not.toBe(await left({}));
	});

	it("that is refused has changed nothing", async () => {
		for (const platform of ALL) {
			const { engine, converter, states } = await fourPages(platform, Shared);
			const cases: [number, number, PageState, RegExp][] = [
				[0x3000, 0x2000, Shared, /MIXED_PAGES.*Private at gpa 0x3000, Shared at 0x4000/],
				[0x7000, 0x2000, Private, /MIXED_PAGES/],
				[0xf000, 0x2000, Shared, /OUTSIDE_RAM/],
				[-4096, 0x1000, Shared, /OUTSIDE_RAM/],
				[0x1800, 0x800, Shared, /BAD_ARGUMENT/],
				[0x1000, 0x800, Shared, /BAD_ARGUMENT/],
				[0x1000, 0, Shared, /BAD_SIZE/],
				[0x1000, 4096.5, Shared, /BAD_SIZE/],
				[0x1000, 0x1000, InTransition, /BAD_ARGUMENT.*pages convert to Shared, Private or Hidden/],
				[0x1000, 0x1000, Leaked, /BAD_ARGUMENT/],
				[0x1000, 0x1000, 9 as PageState, /convert\(gpa 0x1000, 4096 bytes, 9\): BAD_ARGUMENT/],
			];
			if (platform.conversion.steps.toShared.length > 0)
				cases.push([0x1000, 0x1000, Private, /BAD_ARGUMENT.*the pages are Private already/]);
			if (!platform.hiddenPages) cases.push([0x1000, 0x1000, Hidden, /BAD_ARGUMENT.*has no hidden pages/]);
			converter.onTransition = () => expect.unreachable();
			for (const [gpa, bytes, to, message] of cases)
				expect(() => converter.convert(gpa, bytes, to, { zero: true })).toThrow(message);
			expect(states()).toEqual([Shared, Shared, Shared, Shared]);
			expect([engine.ram.pagesInState(Private), engine.ram.pagesInState(Shared)]).toEqual([PAGES - 4, 4]);
			for (let page = 0; page < PAGES; page++)
				expect(engine.ram.view(page * 4096, 4096).every((byte) => byte === page + 1)).toBe(true);
			expect(converter.conversions).toBe(0);
		}
	});

	it("leaves the pages of a bounce pool alone", async () => {
		const engine = await Engine.create({ ram: "4M", swiotlb: null });
		const pool = engine.addPool({ slabs: 256, areas: 1 }, { start: 0x300000 });
		const converter = new PageConverter(engine, PLATFORMS.tdx);
		for (const gpa of [0x300000, 0x310000, 0x300000 + pool.bytes - 0x2000])
			expect(() => converter.convert(gpa, 0x2000, Private)).toThrow(/POOL_PAGES/);
		expect(engine.ram.pagesInState(Shared)).toBe(pool.bytes / 4096);
	});

	it("cannot be had for RAM that reaches the address bit, nor with entries kept present where none are unmapped", async () => {
		const engine = await guestOf();
		for (const name of ["snp", "tdx"] as const) {
			expect(
				() => new PageConverter(engine, { ...PLATFORMS[name], pageTableBit: { bit: 15, means: "shared" } }),
			).toThrow(`${name}: RAM up to gpa 0x10000 reaches address bit 15`);
			expect(
				new PageConverter(engine, { ...PLATFORMS[name], pageTableBit: { bit: 16, means: "shared" } }).conversions,
			).toBe(0);
		}
		for (const platform of ALL) {
			const make = () => new PageConverter(engine, platform, { keepPresent: true });
			if (["snp-vtom", "cca"].includes(platform.name)) {
				const steps = make().steps(Private, Shared);
				expect(steps.map(({ step }) => step)).toEqual(platform.name === "cca" ? ["host"] : ["attribute", "host"]);
			} else expect(make).toThrow(/never makes pages in transition not present/);
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

	it("meets a stray read at every step as the platform does: read on, zeros after an exception, or the guest's end", async () => {
		for (const platform of ALL) {
			for (const keepPresent of ["snp-vtom", "cca"].includes(platform.name) ? [false, true] : [false]) {
				const { converter } = await fourPages(platform, Private, { keepPresent });
				const seen: StrayRead[] = [];
				converter.onTransition = () => {
					seen.push(converter.strayRead(0x4ffd));
					expect(converter.strayRead(0x4ff8)).toMatchObject({ outcome: "read", data: new Uint8Array(8).fill(5) });
					expect(() => converter.strayRead(0x5ffd)).toThrow(/BLOCKED_PAGES.*at its first byte/);
				};
				converter.convert(0x5000, 4096, Shared);
				expect(seen.length).toBe(converter.steps(Private, Shared).length);
				const expected = {
					snp: ["zero-padded", "#VC"],
					"snp-vtom": keepPresent ? ["unhandled", "#VC"] : ["zero-padded", "page fault"],
					tdx: ["zero-padded", "#VE"],
					cca: keepPresent ? ["unhandled", "synchronous external abort"] : ["zero-padded", "page fault"],
					pkvm: ["read", null],
					"s390-pv": ["read", null],
					sme: ["read", null],
					arm64: [],
					none: [],
				}[platform.name as "snp"];
				for (const { outcome, exception, data } of seen) {
					expect([outcome, exception]).toEqual(expected);
					if (outcome === "unhandled") expect(data).toBeNull();
					else expect([...(data ?? [])]).toEqual([5, 5, 5, ...new Array(5).fill(outcome === "read" ? 6 : 0)]);
				}
				const padded = seen.filter(({ outcome }) => outcome === "zero-padded").length;
				const ended = seen.filter(({ outcome }) => outcome === "unhandled").length;
				expect([converter.strayFixups, converter.unhandledExceptions]).toEqual([padded, ended]);
				expect(converter.strayRead(0x5ffd).outcome).toBe("read");
				expect(converter.strayRead(0xfffe)).toEqual({
					outcome: "zero-padded",
					exception: "page fault",
					data: Uint8Array.of(16, 16, 0, 0, 0, 0, 0, 0),
				});
				expect(() => converter.strayRead(0x10000)).toThrow(/OUTSIDE_RAM/);
			}
		}
		const { converter } = await fourPages({ ...PLATFORMS.cca, exception: null }, Private);
		converter.onTransition = () => expect(converter.strayRead(0x4ffd).exception).toBe("page fault");
		expect(converter.convert(0x5000, 4096, Shared).ok).toBe(true);
		for (const bytes of [0, 9, 2.5, -1, Number.NaN])
			expect(() => converter.strayRead(0x1000, bytes)).toThrow(/a word has 1 to 8 bytes/);
		expect(converter.strayRead(0x1000, 1).data).toEqual(Uint8Array.of(2));
	});
});
