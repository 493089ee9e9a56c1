/** What is done to twins at random: everything that moves bytes in a guest. */
import { BURST_BYTES, BURST_KIND, BURST_LENGTH, BURST_PTR } from "../../assembly/layout/ring.ts";
import type { Label } from "../../src/audit/audit.ts";
import type { GuestDevice } from "../../src/coco/guest/device.ts";
import type { CoherentBuffer } from "../../src/coco/memory/coherent.ts";
import { PageState } from "../../src/memory/ram.ts";
import { PacketType } from "../../src/ring/packet.ts";
import { RingPair } from "../../src/ring/pair.ts";
import { statusName } from "../../src/status.ts";
import { Attr, Direction } from "../../src/types.ts";
import { ACROSS, Twins } from "./audit-twins.ts";
import type { Random } from "./random.ts";
import { trustNow } from "./trust-guest.ts";

const PAGE = 4096;
const { Shared, Private, Hidden, Leaked } = PageState;
const DIRECTIONS = Object.values(Direction);

interface Mapping {
	readonly device: number;
	readonly dma: number;
	readonly gpa: number;
	readonly bytes: number;
	readonly dir: Direction;
}

interface Rings {
	readonly gpa: number;
	readonly pages: number;
	readonly guest: readonly RingPair[];
	readonly device: readonly RingPair[];
}

export class AuditHistory {
	readonly #twins: Twins;
	readonly #random: Random;
	readonly #met: Map<string, number>;
	/** Each device, in both guests. */
	readonly #devices: readonly (readonly [GuestDevice, GuestDevice])[];
	readonly #blocks = new Map<number, number>([[ACROSS.gpa, ACROSS.pages]]);
	#mappings: Mapping[] = [];
	readonly #coherent: { device: number; buffer: CoherentBuffer }[] = [];
	readonly #rings: Rings[] = [];

	constructor(
		twins: Twins,
		devices: readonly (readonly [GuestDevice, GuestDevice])[],
		random: Random,
		met: Map<string, number>,
	) {
		this.#twins = twins;
		this.#devices = devices;
		this.#random = random;
		this.#met = met;
	}

	#count(name: string, yes = true): void {
		if (yes) this.#met.set(name, (this.#met.get(name) ?? 0) + 1);
	}

	#state(gpa: number): PageState {
		return this.#twins.one.engine.ram.pageState(gpa);
	}

	get #unused(): PageState {
		return this.#twins.one.platform.hostRead === "plain" ? Shared : Private;
	}

	/** A range of some block, of an odd size at an odd place. */
	#range(most = 9000): { gpa: number; bytes: number } {
		const [block, pages] = this.#random.pick([...this.#blocks]);
		// page ends are where things go wrong
		const near = this.#random.below(pages) * PAGE + this.#random.between(-3, 3);
		const any = this.#random.oneIn(3) ? near : this.#random.below(pages * PAGE);
		const offset = Math.min(Math.max(any, 0), pages * PAGE - 1);
		const bytes = this.#random.between(1, Math.min(pages * PAGE - offset, this.#random.pick([8, 200, most])));
		return { gpa: block + offset, bytes };
	}

	#label(isPrivate: boolean, side: 0 | 1): Label {
		const audit = this.#twins.guests[side].engine.audit;
		if (audit === null) throw new Error("no audit");
		return audit.label({ owner: 77, isPrivate, secret: isPrivate, accepted: false });
	}

	/** Runs something under a pen in both. */
	#penned<T>(isPrivate: boolean, run: (side: 0 | 1) => T): T | null {
		return this.#twins.both(({ engine }, side) => {
			if (engine.audit === null) return run(side);
			engine.audit.pen = this.#label(isPrivate, side);
			try {
				return run(side);
			} finally {
				engine.audit.pen = null;
			}
		});
	}

	alloc(): void {
		const pages = this.#random.between(1, 12);
		const gpa = this.#twins.both((guest) => guest.pages.alloc(pages));
		if (gpa === null || gpa < 0) return;
		this.#blocks.set(gpa, pages);
		this.#cpu(gpa, Math.min(pages * PAGE, 3000));
	}

	free(): void {
		const [gpa, pages] = this.#random.pick([...this.#blocks]);
		if (gpa === ACROSS.gpa || this.#isMapped(gpa, pages * PAGE)) return;
		this.#blocks.delete(gpa);
		for (let at = gpa; at < gpa + pages * PAGE; at += PAGE)
			if (this.#state(at) !== this.#unused) this.#convert(at, PAGE, Private);
		const lost = Array.from({ length: pages }, (_, i) => this.#state(gpa + i * PAGE)).includes(Leaked);
		this.#twins.both((guest) => (lost ? guest.pages.leak(gpa, pages) : guest.pages.free(gpa, pages)));
	}

	#isMapped(gpa: number, bytes: number): boolean {
		return this.#mappings.some((one) => one.gpa < gpa + bytes && gpa < one.gpa + one.bytes);
	}

	/** The guest's CPU writes: secrets where the host does not read. */
	cpu(): void {
		const { gpa, bytes } = this.#range(20_000);
		this.#cpu(gpa, bytes);
	}

	#cpu(gpa: number, bytes: number): void {
		const data = this.#random.bytes(bytes);
		const secret = Array.from(data, (_, at) => at).map((at) => this.#state(gpa + at) !== Shared);
		this.#twins.both((guest, side) =>
			guest.parties.guest.write(
				gpa,
				Twins.of(side, data, (at) => secret[at] === true),
			),
		);
	}

	/** The guest's CPU writes with a pen: a secret even on shared pages, or none even on private ones. */
	pen(): void {
		const { gpa, bytes } = this.#range(5000);
		const data = this.#random.bytes(bytes);
		const isPrivate = this.#random.oneIn(2);
		this.#penned(isPrivate, (side) => this.#twins.guests[side].engine.ram.write(gpa, Twins.of(side, data, isPrivate)));
	}

	/** Host and paravisor write where they can, at any place of RAM but in rings. */
	others(): void {
		const { regions } = this.#twins.one.engine.ram;
		const region = this.#random.pick(regions);
		const gpa = region.gpa + this.#random.below(region.bytes - 6000);
		const bytes = this.#random.between(1, this.#random.pick([16, 6000]));
		if (this.#rings.some((ring) => ring.gpa < gpa + bytes && gpa < ring.gpa + ring.pages * PAGE)) return;
		const data = this.#random.bytes(bytes);
		if (this.#random.oneIn(2)) {
			// what a host's write corrupts on TDX is not what this is about
			if (this.#twins.one.platform.hostWrite === "corruption" && this.#state(gpa) === Private) return;
			this.#twins.both((guest) => guest.parties.host.write(gpa, data));
			return;
		}
		const secret = Array.from(data, (_, at) => this.#state(gpa + at) !== Shared);
		const write = (at: number) => secret[at] === true;
		this.#twins.both((guest, side) => guest.parties.paravisor.write(gpa, Twins.of(side, data, write)));
	}

	fill(): void {
		const { gpa, bytes } = this.#range();
		const value = this.#random.below(256);
		this.#twins.both((guest) => guest.engine.ram.fill(gpa, bytes, value));
	}

	map(device = this.#random.below(this.#devices.length)): void {
		const { gpa, bytes } = this.#range(this.#random.pick([100, 9000, 40_000]));
		const dir = this.#random.pick(DIRECTIONS);
		const before = this.#counters(device);
		const allShared = this.#state(gpa) === Shared && this.#state(gpa + bytes - 1) === Shared;
		const attrs = allShared && this.#twins.one.platform.hostRead !== "plain" ? Attr.CcShared : 0;
		const cpu = this.#random.below(2);
		const dma = this.#twins.both((_, side) => this.#device(device, side).tryMap(gpa, bytes, dir, cpu, attrs)) ?? 0;
		const after = this.#counters(device);
		const copied = after.bytesIn > before.bytesIn;
		this.#count("bounced", dma >= 0 && copied);
		this.#count("direct", dma >= 0 && !copied);
		this.#count("refused after the copy", dma < 0 && copied);
		this.#count("mapped across stretches", dma >= 0 && copied && gpa < 2 ** 20 && gpa + bytes > 2 ** 20);
		if (dma >= 0) this.#mappings.push({ device, dma, gpa, bytes, dir });
		else this.#count(statusName(dma));
	}

	/** Maps for one device until its pool is short. */
	crowd(): void {
		const device = this.#random.below(this.#devices.length);
		for (let i = 0; i < 40; i++) this.map(device);
	}

	#device(device: number, side: 0 | 1): GuestDevice {
		return (this.#devices[device] as readonly [GuestDevice, GuestDevice])[side];
	}

	#counters(device: number) {
		return this.#device(device, 0).dma.counters;
	}

	sync(): void {
		if (this.#mappings.length === 0) return;
		const { device, dma, bytes, dir } = this.#random.pick(this.#mappings);
		const from = this.#random.below(bytes);
		const part = this.#random.between(1, bytes - from);
		const forCpu = this.#random.oneIn(2);
		const done = this.#twins.both((_, side) => {
			const { dma: own } = this.#device(device, side);
			return forCpu ? own.syncForCpu(dma + from, part, dir) : own.syncForDevice(dma + from, part, dir);
		});
		this.#count("synced a part", done !== null && done > 0 && done < bytes);
	}

	unmap(): void {
		for (let i = 0; i < 3; i++) if (this.#mappings.length > 0) this.#unmap(this.#random.pick(this.#mappings));
	}

	#unmap(mapping: Mapping): void {
		const { device, dma, bytes, dir } = mapping;
		const attrs = this.#random.oneIn(5) ? Attr.SkipCpuSync : 0;
		for (const how of [attrs, Attr.SkipCpuSync]) {
			const ended = this.#twins.both((_, side) => {
				this.#device(device, side).unmap(dma, bytes, dir, how);
				return true;
			});
			if (ended === true) break;
		}
		this.#mappings = this.#mappings.filter((one) => one !== mapping);
	}

	/** A device writes to what it has: with T=1 its bytes are secret, with T=0 they are not. */
	dma(): void {
		const places = [
			...this.#mappings.map(({ device, dma, bytes }) => ({ device, dma, bytes })),
			...this.#coherent.map(({ device, buffer }) => ({ device, dma: buffer.dma, bytes: buffer.bytes })),
		];
		if (places.length === 0) return;
		const { device, dma, bytes } = this.#random.pick(places);
		const from = this.#random.below(bytes);
		const data = this.#random.bytes(this.#random.between(1, bytes - from));
		const { t } = this.#device(device, 0);
		const done = this.#twins.both((_, side) => {
			this.#device(device, side).write(dma + from, Twins.of(side, data, t === 1));
			return true;
		});
		this.#count(`a device wrote with T=${t}`, done === true);
	}

	convert(): void {
		const [block, pages] = this.#random.pick([...this.#blocks]);
		const { conversion, hiddenPages } = this.#twins.one.platform;
		if (conversion.steps.toShared.length === 0) return;
		const first = this.#random.below(pages);
		const bytes = this.#random.between(1, Math.min(3, pages - first)) * PAGE;
		const gpa = block + first * PAGE;
		const to = this.#random.pick(hiddenPages ? [Shared, Private, Hidden] : [Shared, Private]);
		if (this.#random.oneIn(8)) {
			const { step } = this.#random.pick(conversion.steps.toShared);
			this.#twins.both((guest) => guest.converter.failAt(step));
		}
		this.#convert(gpa, bytes, to);
	}

	#convert(gpa: number, bytes: number, to: PageState): void {
		if (this.#state(gpa) === Leaked) return;
		const from = this.#state(gpa);
		const zero = this.#random.oneIn(4);
		const done = this.#twins.both((guest) => guest.converter.convert(gpa, bytes, to, { zero }));
		if (done === null) return;
		this.#count(done.ok ? "converted" : "leaked");
		const { toShared } = this.#twins.one.platform.conversion;
		this.#count(`${toShared} to shared`, done.ok && from === Private && to === Shared && !zero);
	}

	coherent(): void {
		if (this.#coherent.length > 0 && this.#random.oneIn(2)) {
			const [one] = this.#coherent.splice(this.#random.below(this.#coherent.length), 1);
			if (one !== undefined) this.#twins.both((_, side) => this.#device(one.device, side).freeCoherent(one.buffer).ok);
			return;
		}
		const device = this.#random.below(this.#devices.length);
		const bytes = this.#random.pick([64, 4096, 9000]);
		const atomic = this.#random.oneIn(4);
		const got = this.#twins.both((_, side) => this.#device(device, side).allocCoherent(bytes, { atomic }));
		if (got === null || !got.ok) return;
		const { gpa } = got;
		this.#coherent.push({ device, buffer: got });
		this.#cpu(gpa, this.#random.between(1, bytes));
		this.#count(`coherent on ${this.#state(gpa) === Shared ? "shared" : "other"} pages`);
	}

	/** Rings over the pages of a block, and packets through them: built, gathered, in bursts, in place. */
	ring(): void {
		if (this.#rings.length === 0 || this.#random.oneIn(8)) this.#openRing();
		if (this.#rings.length === 0) return;
		const ring = this.#random.pick(this.#rings);
		for (let i = 0; i < 6; i++) {
			this.#send(ring);
			if (this.#random.oneIn(2))
				this.#twins.both((_, side) => ring.device[side]?.reader.receive()?.payload.length ?? -1);
		}
		if (!this.#random.oneIn(6)) return;
		this.#rings.splice(this.#rings.indexOf(ring), 1);
		this.#twins.both((_, side) => {
			ring.guest[side]?.detach();
			ring.device[side]?.detach();
		});
		this.#blocks.set(ring.gpa, ring.pages);
	}

	#openRing(): void {
		const [gpa, pages] = this.#random.pick([...this.#blocks]);
		if (gpa === ACROSS.gpa || pages < 4 || this.#isMapped(gpa, pages * PAGE)) return;
		const list = Array.from({ length: pages - (pages % 2) }, (_, i) => gpa + i * PAGE);
		if (list.some((page) => this.#state(page) === Leaked)) return;
		// pages in any order: packets then go in pieces
		if (this.#random.oneIn(2)) list.reverse();
		const ends = (["guest", "device"] as const).map((side) =>
			this.#twins.guests.map(({ engine }) => RingPair.attach(engine, { pages: list, side, maxPacketBytes: 2048 })),
		);
		this.#blocks.delete(gpa);
		this.#rings.push({ gpa, pages, guest: ends[0] as RingPair[], device: ends[1] as RingPair[] });
	}

	#send(ring: Rings): void {
		const isPrivate = this.#random.oneIn(2);
		const data = this.#random.bytes(this.#random.between(1, this.#random.pick([40, 300, 1400])));
		const how = this.#random.pick(["send", "gather", "ranges", "burst", "place", "write"]);
		const sent = this.#penned(isPrivate, (side) => {
			const writer = (ring.guest[side] as RingPair).writer;
			const own = Twins.of(side, data, isPrivate);
			const { instance } = this.#twins.guests[side].engine;
			if (how === "send") return writer.send(own);
			if (how === "gather") return writer.sendGather([own.subarray(0, 5), own.subarray(5)]);
			// ranges are addresses, and so no secrets, but the pen does not tell them apart
			if (how === "ranges" && !isPrivate) return writer.sendGpaDirect([{ bytes: 8, offset: 0, pfns: [1] }], own);
			if (how === "place") {
				const ptr = writer.reserve(own.length);
				if (ptr < 0) return ptr;
				instance.bytes.set(own, ptr);
				return [writer.commit(PacketType.InBand, 1, 0, own.length), writer.publish()];
			}
			const { scratch } = (ring.guest[side] as RingPair).handle;
			instance.bytes.set(own, scratch);
			if (how === "write") return writer.tryWrite(PacketType.InBand, 1, 0, scratch, own.length);
			const list = scratch + 2048;
			for (let i = 0; i < 3; i++) {
				const entry = list + i * BURST_BYTES;
				instance.data.setUint32(entry + BURST_KIND, PacketType.InBand, true);
				instance.data.setUint32(entry + BURST_PTR, scratch, true);
				instance.data.setUint32(entry + BURST_LENGTH, Math.min(own.length, 16 + i * 40), true);
			}
			return writer.tryWriteBurst(list, 3);
		});
		this.#count(`ring: ${how}`, sent !== null);
	}

	tick(): void {
		const short = this.#random.oneIn(4);
		const done = this.#twins.both((guest) => {
			if (short) guest.pages.failNext(1);
			const { growth } = guest.tick();
			guest.pages.failNext(0);
			return growth.map(({ pool, freedTransients }) => [pool !== null, freedTransients] as const);
		});
		for (const [grew, freed] of done ?? []) {
			this.#count("grew", grew);
			this.#count("transient pool freed", freed > 0);
		}
	}

	/** A device gains or loses its trust. */
	trust(): void {
		const device = this.#random.below(this.#devices.length);
		const step = this.#random.pick(["fault", "stop", "all", "all"]);
		this.#twins.both((_, side) => {
			const { trust } = this.#device(device, side);
			if (step === "fault") trust?.fault("IDE_FAILURE");
			else if (step === "stop") trust?.stop();
			else trustNow(this.#device(device, side));
		});
	}
}
