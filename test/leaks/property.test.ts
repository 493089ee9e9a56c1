import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { GuestDevice } from "../../src/coco/guest/device.ts";
import type { CoherentBuffer } from "../../src/coco/memory/coherent.ts";
import { PageState } from "../../src/memory/ram.ts";
import { Attr, Direction } from "../../src/types.ts";
import { placeOf, type Watched, watched } from "../helpers/leaks.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { GUESTS, OFFER, TDISP, takePages, trustNow } from "../helpers/trust-guest.ts";

const DIRECTIONS = Object.values(Direction);
const { ToDevice, FromDevice } = Direction;
printSeed("leaks-property");

interface Held {
	readonly device: GuestDevice;
	readonly gpa: number;
	readonly bytes: number;
	readonly dir: Direction;
	readonly dma: number;
	readonly attrs: number;
}

/** Drivers of trusted devices that do everything right, at random. */
class Drivers {
	readonly watched: Watched;
	readonly #random: Random;
	readonly #devices: readonly GuestDevice[];
	readonly #pages: { gpa: number; shared: boolean }[] = [];
	readonly #held: Held[] = [];
	readonly #coherent: { device: GuestDevice; buffer: CoherentBuffer }[] = [];
	readonly #met: Set<string>;

	constructor(watched: Watched, devices: readonly GuestDevice[], random: Random, met: Set<string>) {
		this.watched = watched;
		this.#devices = devices;
		this.#random = random;
		this.#met = met;
		for (let i = 0; i < 24; i++) this.#pages.push({ gpa: takePages(watched.guest, 1), shared: false });
	}

	#isMapped(page: number): boolean {
		return this.#held.some(({ gpa, bytes }) => gpa < page + 4096 && page < gpa + bytes);
	}

	#freePage() {
		const { gpa, shared } = this.#random.pick(this.#pages);
		return this.#isMapped(gpa) ? null : { gpa, shared };
	}

	/** The CPU writes to what is not mapped. */
	write(): void {
		const page = this.#freePage();
		if (page !== null) this.watched.guest.engine.ram.write(page.gpa, this.#random.bytes(this.#random.between(1, 4096)));
	}

	/** A page becomes shared, zeroed, or private again; no data is in it. */
	convert(): void {
		const page = this.#pages.find(({ gpa }) => !this.#isMapped(gpa) && this.#random.oneIn(4));
		if (page === undefined) return;
		const { ram } = this.watched.guest.engine;
		ram.fill(page.gpa, 4096);
		const to = page.shared ? PageState.Private : PageState.Shared;
		expect(this.watched.guest.converter.convert(page.gpa, 4096, to, { zero: true }).ok).toBe(true);
		page.shared = !page.shared;
		this.#met.add("converted");
	}

	map(): void {
		const page = this.#freePage();
		const device = this.#random.pick(this.#devices);
		if (page === null || !device.accepted) return;
		const offset = this.#random.below(4000);
		const bytes = this.#random.between(1, 4096 - offset);
		const dir = this.#random.pick(DIRECTIONS);
		const attrs = page.shared ? Attr.CcShared : 0;
		const dma = device.tryMap(page.gpa + offset, bytes, dir, 0, attrs);
		if (dma < 0) return;
		this.#held.push({ device, gpa: page.gpa + offset, bytes, dir, dma, attrs });
		this.#met.add(placeOf(this.watched.guest, dma) === page.gpa + offset ? `direct ${page.shared}` : "bounced");
	}

	/** The device does what the direction lets it do, and the driver syncs around what it does itself. */
	use(): void {
		if (this.#held.length === 0) return;
		const { device, gpa, bytes, dir, dma } = this.#random.pick(this.#held);
		if (!device.accepted) return;
		const n = this.#random.between(1, bytes);
		if (dir !== FromDevice) device.read(dma, n);
		if (dir !== ToDevice) device.write(dma, this.#random.bytes(n));
		const { ram } = this.watched.guest.engine;
		device.dma.syncForCpu(dma, bytes, dir);
		if (dir !== ToDevice) ram.read(gpa, n);
		if (dir !== FromDevice) ram.write(gpa, this.#random.bytes(n));
		device.dma.syncForDevice(dma, bytes, dir);
		this.#met.add("used");
	}

	unmap(): void {
		const [held] = this.#held.splice(this.#random.below(Math.max(this.#held.length, 1)), 1);
		if (held === undefined) return;
		const { device, gpa, bytes, dir, dma, attrs } = held;
		const synced = this.#random.oneIn(2);
		if (synced) device.dma.syncForCpu(dma, bytes, dir);
		device.unmap(dma, bytes, dir, synced ? attrs | Attr.SkipCpuSync : attrs);
		if (dir !== ToDevice) this.watched.guest.engine.ram.read(gpa, bytes);
	}

	coherent(): void {
		const device = this.#random.pick(this.#devices);
		if (this.#coherent.length > 0 && this.#random.oneIn(2)) {
			const one = this.#coherent.pop();
			if (one !== undefined) one.device.freeCoherent(one.buffer);
			return;
		}
		if (!device.accepted) return;
		const buffer = device.allocCoherent(this.#random.pick([64, 4096, 9000]), { atomic: this.#random.oneIn(3) });
		if (!buffer.ok) return;
		this.#coherent.push({ device, buffer });
		device.write(buffer.dma, this.#random.bytes(64));
		device.read(buffer.dma, 64);
		this.#met.add("coherent");
	}

	/** A device that holds nothing is given up, and trusted anew. */
	trust(): void {
		const device = this.#random.pick(this.#devices);
		const { mappings, bounceSlots, coherentBuffers } = device.holds();
		if (device.trust === null || mappings + bounceSlots + coherentBuffers > 0) return;
		if (device.accepted) device.trust.reject("enough");
		else trustNow(device);
		this.#met.add("trust changed");
	}

	look(): void {
		this.watched.monitor.look();
	}

	end(): void {
		while (this.#held.length > 0) this.unmap();
		for (const { device, buffer } of this.#coherent.splice(0)) device.freeCoherent(buffer);
		this.watched.guest.tick();
		this.watched.monitor.end();
	}
}

const STEPS = ["write", "convert", "map", "map", "use", "use", "unmap", "coherent", "trust", "look"] as const;
const met = new Set<string>();

describe("any legal history of trusted devices after the 7.3 merge", () => {
	it("has no finding", async () => {
		const shape = fc.record({
			platform: fc.constantFrom(...GUESTS),
			seed: fc.integer(),
			steps: fc.array(fc.constantFrom(...STEPS), { minLength: 40, maxLength: 150, size: "max" }),
		});
		await fc.assert(
			fc.asyncProperty(shape, async ({ platform, seed, steps }) => {
				const random = new Random(seed);
				const guest = await watched({ platform, swiotlb: "128,1", pools: [{ kind: "private", size: "256K" }] });
				const devices = [
					guest.guest.addDevice({ tdisp: TDISP }),
					guest.guest.addDevice({ tdisp: TDISP, minAlignMask: 0xfff, coherent: false }),
					guest.guest.addDevice({ offer: OFFER }),
					guest.guest.addDevice({ tdisp: TDISP, encoded: false, dmaMask: 2n ** 23n - 1n }),
				];
				for (const device of devices) if (device.trust !== null) trustNow(device);
				const drivers = new Drivers(guest, devices, random, met);
				for (const step of steps) drivers[step]();
				drivers.end();
				expect(guest.monitor.findings).toEqual([]);
				expect(guest.monitor.notes).toEqual([]);
			}),
			{ seed: SEED, numRuns: 60, endOnFailure: true },
		);
	});

	it("came to every kind of step", () => {
		const all = ["converted", "direct false", "direct true", "bounced", "used", "coherent", "trust changed"];
		expect(all.filter((name) => !met.has(name))).toEqual([]);
	});
});
