/** The pages of a guest's drivers: taken, converted, given back, and lost when a conversion fails. */
import { expect } from "vitest";
import type { GuestDevice } from "../../src/coco/guest/device.ts";
import type { Guest } from "../../src/coco/guest/guest.ts";
import { PageState } from "../../src/memory/ram.ts";
import { statusName } from "../../src/status.ts";
import { Direction } from "../../src/types.ts";
import type { Random } from "./random.ts";
import { statesOf } from "./trust-model.ts";

const { Private, Shared, Leaked } = PageState;

export abstract class DriverPages {
	readonly guest: Guest;
	protected readonly random: Random;
	/** Blocks of the drivers', by gpa. */
	readonly #blocks = new Map<number, number>();
	/** Every page whose conversion failed. */
	protected readonly leaked = new Set<number>();
	/** How often each case came up. */
	readonly #met: Map<string, number>;

	constructor(guest: Guest, random: Random, met: Map<string, number>) {
		this.guest = guest;
		this.random = random;
		this.#met = met;
	}

	protected abstract anyDevice(): GuestDevice;
	protected abstract isMapped(gpa: number, bytes: number): boolean;

	protected count(name: string, yes = true): void {
		if (yes) this.#met.set(name, (this.#met.get(name) ?? 0) + 1);
	}

	/** Takes pages for a buffer: never one that failed. */
	alloc(): void {
		const pages = this.random.between(1, 16);
		const gpa = this.guest.pages.alloc(pages);
		if (gpa < 0) return;
		this.#blocks.set(gpa, pages);
		for (let i = 0; i < pages; i++) expect(this.leaked.has(gpa + i * 4096)).toBe(false);
		expect(statesOf(this.guest, gpa, pages * 4096)).toEqual(new Array(pages).fill(this.#unused));
		this.guest.engine.ram.write(gpa, this.random.bytes(256));
	}

	/** State of pages that nobody uses. */
	get #unused(): PageState {
		return this.guest.platform.hostRead === "plain" ? Shared : Private;
	}

	/** Gives a block back that nothing is mapped of, private again as it was taken. */
	free(): void {
		const [gpa, pages] = this.block();
		if (pages === 0 || this.isMapped(gpa, pages * 4096)) return;
		for (let at = gpa; at < gpa + pages * 4096; at += 4096)
			if (this.guest.engine.ram.pageState(at) !== this.#unused) this.#convert(at, 4096, Private);
		this.#blocks.delete(gpa);
		const lost = statesOf(this.guest, gpa, pages * 4096).includes(Leaked);
		if (lost) this.guest.pages.leak(gpa, pages);
		else this.guest.pages.free(gpa, pages);
	}

	/** Any block and its pages; 0 pages: there is none. */
	protected block(): [number, number] {
		return this.#blocks.size === 0 ? [0, 0] : this.random.pick([...this.#blocks]);
	}

	/** Converts a page of a block; one time in six it fails at some step, and it never is usable under way. */
	convert(): void {
		const [gpa, pages] = this.block();
		const steps = this.guest.platform.conversion.steps.toShared;
		if (pages === 0 || steps.length === 0) return;
		const at = gpa + this.random.below(pages) * 4096;
		const state = this.guest.engine.ram.pageState(at);
		if (state === Leaked) return;
		if (this.random.oneIn(6)) this.guest.converter.failAt(this.random.pick(steps).step);
		this.#convert(at, 4096, state === Private ? Shared : Private);
	}

	#convert(gpa: number, bytes: number, to: PageState): void {
		const { converter, parties } = this.guest;
		if (this.guest.engine.ram.pageState(gpa) === Leaked) return;
		const device = this.anyDevice();
		converter.onTransition = () => {
			expect(statusName(device.tryMap(gpa, 64, Direction.ToDevice))).toBe("BLOCKED_PAGES");
			expect(() => parties.host.read(gpa, 8)).toThrow(/in-transition-page/);
			expect(() => device.write(gpa, new Uint8Array(8))).toThrow(/in-transition-page|outside-ram/);
			this.count("looked into a transition");
		};
		const done = converter.convert(gpa, bytes, to);
		converter.onTransition = null;
		this.count("converted", done.ok);
		if (done.ok) return;
		this.count(`failed to become ${to === Shared ? "shared" : "private"}`);
		expect([done.leakedPages, this.guest.engine.ram.pageState(gpa)]).toEqual([bytes / 4096, Leaked]);
	}

	/** 16: a page that failed once, in whatever conversion, stays what it is. */
	protected noteLeaks(): void {
		const { engine, converter } = this.guest;
		if (converter.leakedPages === this.leaked.size) return;
		for (let page = 0; page < engine.ram.bytes; page += 4096) {
			if (engine.ram.pageState(page) === Leaked) this.leaked.add(page);
			else expect(this.leaked.has(page)).toBe(false);
		}
		expect(converter.leakedPages).toBe(this.leaked.size);
	}
}
