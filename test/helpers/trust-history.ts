/** One guest, what is done to it at random, and a plain record of what has to be true of it. */
import { expect } from "vitest";
import type { GuestDevice } from "../../src/coco/guest/device.ts";
import type { Guest } from "../../src/coco/guest/guest.ts";
import type { CoherentBuffer } from "../../src/coco/memory/coherent.ts";
import { TrustError } from "../../src/coco/trust/error.ts";
import { TdispState, type TdispStep } from "../../src/coco/trust/tdisp.ts";
import { PageState } from "../../src/memory/ram.ts";
import { statusName } from "../../src/status.ts";
import { Attr, Direction } from "../../src/types.ts";
import { isGuest } from "./kernel-facts.ts";
import type { Random } from "./random.ts";
import { statesOf } from "./trust-model.ts";
import { DriverPages } from "./trust-pages.ts";

interface Mapping {
	readonly dma: number;
	readonly gpa: number;
	readonly bytes: number;
	readonly dir: Direction;
	/** tlb_addr, or null: direct. */
	readonly tlb: number | null;
}

interface Held {
	readonly device: GuestDevice;
	readonly mappings: Mapping[];
	readonly coherent: CoherentBuffer[];
	/** Its steps since the last look. */
	readonly steps: TdispStep[];
}

const { Private, Shared, Leaked } = PageState;
const DIRECTIONS = Object.values(Direction);
/** An access that is refused by name. */
const REFUSED = /AccessFault|CipherUnavailable/;

export class History extends DriverPages {
	readonly #held: Held[];
	readonly #late: boolean;
	readonly #isGuest: boolean;

	constructor(guest: Guest, devices: readonly GuestDevice[], random: Random, met: Map<string, number>) {
		super(guest, random, met);
		this.#late = guest.kernel.name === "linux-7.3";
		this.#isGuest = isGuest(guest.kernel.name, guest.platform.name);
		this.#held = devices.map((device) => {
			const steps: TdispStep[] = [];
			device.trust?.onChange((step) => steps.push(step));
			return { device, mappings: [], coherent: [], steps };
		});
	}

	protected anyDevice(): GuestDevice {
		return this.random.pick(this.#held).device;
	}

	protected isMapped(gpa: number, bytes: number): boolean {
		return this.#held.some(({ mappings }) =>
			mappings.some((one) => one.gpa < gpa + bytes && gpa < one.gpa + one.bytes),
		);
	}

	/** Maps until a small pool is short. */
	fill(): void {
		for (let i = 0; i < 10; i++) this.map();
	}

	map(): void {
		const held = this.random.pick(this.#held);
		const { device } = held;
		const [block, pages] = this.block();
		if (pages === 0) return;
		const offset = this.random.below(pages * 4096 - 1);
		const bytes = this.random.between(1, Math.min(pages * 4096 - offset, this.random.pick([64, 8192, 32768])));
		const gpa = block + offset;
		const dir = this.random.pick(DIRECTIONS);
		const states = statesOf(this.guest, gpa, bytes);
		const allShared = states.every((state) => state === Shared) && this.guest.platform.hostRead !== "plain";
		const attrs = allShared ? Attr.CcShared : 0;
		const before = device.dma.counters;
		const dma = device.tryMap(gpa, bytes, dir, this.random.below(2), attrs);
		const after = device.dma.counters;
		const copied = after.bytesIn > before.bytesIn;
		const { needsShared } = device.mapRules;
		if (dma < 0) {
			const status = statusName(dma);
			this.count(status);
			this.count("forced, accepted: POOL_STATE", status === "POOL_STATE" && device.accepted && device.ruled.forced);
			// 13: what the pool's state forbids is refused before any copy; 17: leaked pages are never served
			if (states.includes(Leaked)) expect(status).toBe("BLOCKED_PAGES");
			if (status !== "SLOTS_BEYOND_MASK") expect(copied).toBe(false);
			return;
		}
		expect(states.includes(Leaked)).toBe(false);
		const { dmaMask = 2n ** 64n - 1n, busLimit = 0n, encoded = true } = device.options;
		// 11: what the device is given it reaches, encoding included
		const end = BigInt(dma) + BigInt(bytes) - 1n;
		expect(end <= dmaMask && (busLimit === 0n || end <= busLimit)).toBe(true);
		const { dmaBit } = this.guest.platform;
		const bit = dmaBit === null || !encoded ? 0 : 2 ** dmaBit.bit;
		const place = bit !== 0 && dma >= bit ? dma - bit : dma;
		const isPrivateForm = bit === 0 ? null : (dmaBit?.means === "private") === dma >= bit;
		const direct = after.directMaps > before.directMaps;
		if (direct) expect(place).toBe(gpa);
		const placed = new Set(statesOf(this.guest, place, bytes));
		// 12: 6.12 knows no attribute; a mixed buffer has none that is right
		const checked = direct ? this.#late && placed.size === 1 : true;
		if (isPrivateForm === true && checked) expect([...placed]).toEqual([Private]);
		if (!direct) {
			const shared = !placed.has(Private);
			// 13: the pool's state is the device's need
			if (this.#late && this.#isGuest) expect(shared).toBe(needsShared);
			// 22: data of a device that is trusted with private memory stays out of shared pools
			const breach = device.accepted && shared && states[0] === Private && this.#isGuest;
			if (breach) expect(this.#late).toBe(false);
			this.count("accepted device's data in a shared pool", breach);
			this.count("bounced in a private pool", !shared && device.accepted);
		}
		this.count(direct ? "direct" : "bounce");
		held.mappings.push({ dma, gpa, bytes, dir, tlb: direct ? null : place });
	}

	unmap(all = false): void {
		for (const held of this.#held) {
			if (held.mappings.length === 0 || (!all && this.random.oneIn(2))) continue;
			const { dma, gpa, bytes, dir } = all
				? (held.mappings.at(-1) as Mapping)
				: (held.mappings[this.random.below(held.mappings.length)] as Mapping);
			const lost = statesOf(this.guest, gpa, bytes).includes(Leaked);
			// what became unusable meanwhile takes no bytes
			held.device.unmap(dma, bytes, dir, lost ? Attr.SkipCpuSync : 0);
			held.mappings.splice(
				held.mappings.findIndex((one) => one.dma === dma),
				1,
			);
			if (!all) return;
		}
	}

	/** The device, the host and the driver touch what is mapped, each as it may. */
	touch(): void {
		const { device, mappings } = this.random.pick(this.#held);
		if (mappings.length === 0) return;
		const { dma, gpa, bytes, dir, tlb } = this.random.pick(mappings);
		const states = statesOf(this.guest, tlb ?? gpa, bytes);
		const data = this.random.bytes(Math.min(bytes, 40));
		const isSecret = states[0] === Private && this.guest.platform.hostRead !== "plain";
		const truth = states[0] === Leaked ? null : this.guest.engine.ram.read(tlb ?? gpa, 1);
		for (const [who, view, address] of [
			["device", device, dma],
			["host", this.guest.parties.host, tlb ?? gpa],
		] as const) {
			let fault = "";
			let total = this.guest.parties.violations.total;
			try {
				view.read(address, 1);
			} catch (error) {
				fault = (error as Error).name;
				expect(fault).toMatch(REFUSED);
			}
			const stopped = fault !== "" || this.guest.parties.violations.total > total;
			// 15: private memory answers T=1 alone
			if (isSecret && truth !== null && (who === "host" || device.t === 0)) expect(stopped).toBe(true);
			this.count(`${who} stopped`, stopped);
			total = this.guest.parties.violations.total;
			if (who === "host" && this.guest.platform.hostWrite === "corruption") continue;
			try {
				view.write(address, data);
			} catch (error) {
				expect((error as Error).name).toMatch(REFUSED);
			}
		}
		if (tlb === null || states[0] === Leaked || statesOf(this.guest, gpa, bytes).includes(Leaked)) return;
		if (this.random.oneIn(2)) device.dma.syncForCpu(dma, bytes, dir);
		else device.dma.syncForDevice(dma, bytes, dir);
	}

	/** A step of the device's trust. */
	trust(): void {
		const held = this.random.pick(this.#held);
		const { trust } = held.device;
		if (trust === null) return;
		const request = this.random.pick([
			"lock",
			"report",
			"accept",
			"start",
			"start",
			"reject",
			"stop",
			"fault",
			"judge",
			"all",
		]);
		const holding = held.mappings.length + held.coherent.length > 0;
		const before = [trust.state, trust.accepted];
		held.steps.length = 0;
		let status = "ok";
		try {
			const several = request === "all" || request === "judge";
			if (request === "lock" || several) trust.lock();
			if (request === "report" || several) trust.collectEvidence();
			if (request === "accept" || several) trust.accept();
			if (request === "start" || request === "all") trust.start();
			if (request === "reject") trust.reject("enough");
			if (request === "stop") trust.stop();
			if (request === "fault") trust.fault("IDE_FAILURE");
		} catch (error) {
			expect(error).toBeInstanceOf(TrustError);
			status = (error as TrustError).status;
		}
		// 14: the guest's own decisions are refused, the others say what was held
		if (holding && (request === "accept" || request === "reject"))
			expect([trust.state, trust.accepted]).toEqual(before);
		for (const step of held.steps) {
			if (!holding) expect(step.heldAcross).toBeNull();
			else expect(step.heldAcross).toMatchObject(this.#holds(held));
			this.count("held across", holding);
		}
		this.count(status === "ok" ? `${request} ok` : status);
	}

	#holds({ mappings, coherent }: Held) {
		const bounceSlots = mappings.filter(({ tlb }) => tlb !== null).length;
		// a restricted pool's coherent slots are slots too
		const slots = coherent.filter(({ source }) => source === "slots").length;
		return {
			mappings: mappings.length - bounceSlots,
			bounceSlots: bounceSlots + slots,
			coherentBuffers: coherent.length,
		};
	}

	coherent(all = false): void {
		const held = this.random.pick(this.#held);
		const { device, coherent } = held;
		if (all || (coherent.length > 0 && this.random.oneIn(2))) {
			for (const one of this.#held)
				for (const buffer of one.coherent.splice(0, all ? one.coherent.length : 1)) {
					const done = one.device.freeCoherent(buffer);
					const states = new Set(statesOf(this.guest, buffer.gpa, buffer.bytes));
					expect(states.has(Leaked)).toBe(!done.ok);
					this.count("coherent memory leaked", !done.ok);
				}
			return;
		}
		const done = device.allocCoherent(this.random.pick([64, 4096, 9000]), { atomic: this.random.oneIn(4) });
		if (!done.ok) return;
		coherent.push(done);
		const states = new Set(statesOf(this.guest, done.gpa, done.bytes));
		const remapped612 = device.options.coherent === false && !this.#late && done.source === "pages";
		// 28: a trusted device's coherent memory is private
		if (this.#isGuest && !remapped612)
			expect(states).toEqual(new Set([this.#late && device.accepted ? Private : Shared]));
		this.count(`coherent ${states.has(Private) ? "private" : "shared"}`);
	}

	tick(): void {
		if (this.random.oneIn(4)) this.guest.pages.failNext(1);
		const { growth } = this.guest.tick();
		this.guest.pages.failNext(0);
		for (const { pool, freedTransients } of growth) {
			this.count("grew", pool !== null);
			this.count("transient pool freed", freedTransients > 0);
		}
	}

	/** What holds at any time. */
	check(): void {
		for (const held of this.#held) {
			const { device } = held;
			expect(device.holds()).toEqual(this.#holds(held));
			// 15: T=1 in RUN only
			if (device.trust !== null) {
				const trusted = device.trust.accepted && device.trust.state === TdispState.Run;
				expect(device.t).toBe(trusted ? 1 : 0);
				this.count("T=1", trusted);
			}
		}
		this.noteLeaks();
	}

	/** Ends everything: what was counted is zero again (26), and no page that failed comes out of the allocator (16). */
	end(): void {
		while (this.#held.some(({ mappings }) => mappings.length > 0)) this.unmap(true);
		this.coherent(true);
		this.guest.tick();
		this.check();
		for (const { pool, growing, disabled } of this.guest.pools) {
			expect(disabled ? 0 : pool.used).toBe(0);
			expect([growing?.used ?? 0, growing?.transientSlabs ?? 0, growing?.transients.length ?? 0]).toEqual([0, 0, 0]);
		}
		for (let gpa = this.guest.pages.alloc(1); gpa >= 0; gpa = this.guest.pages.alloc(1))
			expect(this.leaked.has(gpa)).toBe(false);
	}
}
