import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import type { GpaRange } from "../../src/ring/packet.ts";
import { multiPageRange, PacketType, pageArray } from "../../src/ring/packet.ts";
import { RingPair } from "../../src/ring/pair.ts";
import { ECHO, EchoCommand, EchoDevice, EchoStatus } from "../../src/vmbus/devices/echo.ts";
import type { ServerAction } from "../../src/vmbus/server/actions.ts";
import { pagesView, readRanges, ringPagesOf, writeRanges } from "../../src/vmbus/server/memory-view.ts";
import type { PageKind } from "../../src/vmbus/server/types.ts";
import { Feature, OfferFlag, Version } from "../../src/vmbus/wire/versions.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { device, gpadlHeader, TestGuest } from "./server-guest.ts";

printSeed("vmbus echo");
const PAGE = 4096;
const RING = 0x10_000;
const BUFFER = 0x30_000;
const DATA = 0x50_000;
const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const command = (op: number, ...more: number[]) => new Uint8Array(Uint32Array.of(ECHO, op, ...more).buffer);

/** A guest's end and an echo device on one channel, opened through a server. */
async function channel(options: { ring?: PageKind; external?: PageKind; rings?: PageKind; host?: boolean } = {}) {
	const { ring = "shared", external = "shared", rings = ring, host = false } = options;
	const engine = await Engine.create({ ram: "1M", swiotlb: null, spareBytes: 2 ** 18 });
	if (rings === "shared") engine.ram.convert(RING, 8 * PAGE, PageState.Shared);
	const signals = { guest: 0, device: 0 };
	const guest = new TestGuest({ confidential: true });
	guest.eager = false;
	const flags =
		(ring === "private" ? OfferFlag.ConfidentialRingBuffer : 0) |
		(external === "private" ? OfferFlag.ConfidentialExternalMemory : 0);
	const offerId = guest.offer(device(1, { flags }));
	guest.connect(Version.V6_0, Feature.ConfidentialChannels, true);
	const views = { shared: pagesView(engine, "shared"), private: host ? null : pagesView(engine, "private") };
	const echo = new EchoDevice({ engine, offerId, views, onSignal: () => signals.guest++, maxPacketBytes: 8192 });
	/** Lets the device do what the server asks. @returns the last completion's status */
	const serve = (actions: readonly ServerAction[]): number => {
		let status = -1;
		const queue = [...actions];
		for (let action = queue.shift(); action !== undefined; action = queue.shift()) {
			const completion = echo.handle(action);
			if (completion === null) continue;
			if ("status" in completion) status = completion.status;
			queue.push(...guest.server.complete(completion));
		}
		return status;
	};
	const post = (message: Parameters<TestGuest["post"]>[0]) => serve(guest.post(message, { trusted: true }).actions);
	const pages = Array.from({ length: 8 }, (_, i) => RING + i * PAGE);
	const pair = RingPair.attach(engine, { pages, side: "guest", requests: 0, onSignal: () => signals.device++ });
	post(gpadlHeader(1, 7, 8, RING / PAGE));
	const open = () =>
		post({ type: 5, relid: 1, openId: 1, ringGpadl: 7, targetVp: 0, downstreamPage: 4, userData: new Uint8Array(120) });
	return { engine, guest, echo, pair, post, open, serve, signals, offerId };
}
type Channel = Awaited<ReturnType<typeof channel>>;

/** Sends a command and returns what it is answered. */
function ask({ pair, echo }: Channel, send: () => boolean): { status: number; bytes: number } {
	expect(send()).toBe(true);
	expect(echo.service().broken).toBeNull();
	const payload = pair.reader.receive()?.payload ?? new Uint8Array(8).fill(0xff);
	const data = new DataView(payload.buffer, payload.byteOffset);
	return { status: data.getUint32(0, true), bytes: data.getUint32(4, true) };
}
const inBand = (one: Channel, payload: Uint8Array) =>
	ask(one, () => one.pair.writer.send(payload, { id: 1n, wantsCompletion: true }));
const direct = (one: Channel, ranges: GpaRange[], op: number) =>
	ask(one, () => one.pair.writer.sendGpaDirect(ranges, command(op), { id: 2n }));

describe("an echo device", () => {
	it("completes what asks for it and sends the rest back, through shared rings and through private ones", async () => {
		for (const ring of ["shared", "private"] as const) {
			const { open, pair, echo, signals, guest, offerId } = await channel({ ring });
			expect(open()).toBe(0);
			expect(guest.state(offerId)).toBe("Open");
			pair.writer.send(bytes("question"), { id: 7n, wantsCompletion: true });
			pair.writer.send(bytes("just so"), { id: 8n });
			expect(signals.device).toBe(1);
			expect(echo.service()).toEqual({ packets: 2, more: false, broken: null });
			expect(signals.guest).toBe(1);
			expect(pair.reader.receive()).toMatchObject({ type: PacketType.Completion, id: 7n, payload: bytes("question") });
			expect(pair.reader.receive()).toMatchObject({ type: PacketType.InBand, id: 8n, payload: bytes("just so\0") });
			expect(pair.reader.receive()).toBeNull();
		}
	});

	it("opens no rings of the wrong pages: private ones to a host, shared ones where the offer says private", async () => {
		for (const options of [
			{ ring: "shared", rings: "private" },
			{ ring: "private", rings: "shared" },
			{ ring: "private", rings: "private", host: true },
		] as const) {
			const one = await channel(options);
			expect(one.open()).toBe(0x8000ffff);
			expect(one.echo.isOpen).toBe(false);
			expect(one.guest.state(one.offerId)).toBe("Closed");
		}
	});

	it("reads and writes the guest memory that packets name", async () => {
		const one = await channel();
		one.open();
		one.engine.ram.convert(DATA, 8 * PAGE, PageState.Shared);
		const secret = new Random(SEED).bytes(9000);
		one.engine.ram.write(DATA + 100, secret);
		expect(direct(one, [multiPageRange({ gpa: DATA + 100, bytes: 9000 })], EchoCommand.Take)).toEqual({
			status: EchoStatus.Done,
			bytes: 9000,
		});
		const scattered = [
			pageArray([DATA + 5 * PAGE, DATA + 3 * PAGE], 16, 5000),
			multiPageRange({ gpa: DATA + 6 * PAGE + 8, bytes: 6000 }),
		];
		expect(direct(one, scattered, EchoCommand.Give)).toEqual({ status: EchoStatus.Done, bytes: 9000 });
		const view = pagesView(one.engine, "shared");
		expect(readRanges(view, scattered, 0, 9000)).toEqual(secret);
	});

	it("touches external memory of the offer's kind only, and all of a write or nothing", async () => {
		for (const external of ["shared", "private"] as const) {
			const one = await channel({ ring: "private", external });
			expect(one.open()).toBe(0);
			one.engine.ram.convert(DATA, PAGE, PageState.Shared);
			const [shared, hidden] = [
				multiPageRange({ gpa: DATA, bytes: 64 }),
				multiPageRange({ gpa: DATA + PAGE, bytes: 64 }),
			];
			const [good, bad] = external === "shared" ? [shared, hidden] : [hidden, shared];
			one.engine.ram.fill(DATA, 64, 0x11);
			one.engine.ram.fill(DATA + PAGE, 64, 0x11);
			expect(direct(one, [good as GpaRange], EchoCommand.Take).status).toBe(EchoStatus.Done);
			one.engine.ram.fill(DATA, 64, 0x22);
			one.engine.ram.fill(DATA + PAGE, 64, 0x22);
			expect(direct(one, [bad as GpaRange], EchoCommand.Take).status).toBe(EchoStatus.Refused);
			expect(direct(one, [good, bad] as GpaRange[], EchoCommand.Give).status).toBe(EchoStatus.Done);
			const split = [{ ...(good as GpaRange), bytes: 32 }, bad as GpaRange];
			one.engine.ram.fill(DATA, 64, 0x33);
			one.engine.ram.fill(DATA + PAGE, 64, 0x33);
			expect(direct(one, split, EchoCommand.Give).status).toBe(EchoStatus.Refused);
			expect(one.engine.ram.read(DATA, 64)).toEqual(new Uint8Array(64).fill(0x33));
			expect(one.engine.ram.read(DATA + PAGE, 64)).toEqual(new Uint8Array(64).fill(0x33));
		}
	});

	it("sends transfer pages through a GPADL buffer, and again the same pages when they were completed", async () => {
		const one = await channel();
		one.open();
		one.engine.ram.convert(BUFFER, 2 * PAGE, PageState.Shared);
		one.post(gpadlHeader(1, 9, 2, BUFFER / PAGE));
		expect(inBand(one, command(EchoCommand.Transfer, 1)).status).toBe(EchoStatus.Invalid);
		expect(inBand(one, command(EchoCommand.Buffer, 8, 0xcafe)).status).toBe(EchoStatus.Invalid);
		expect(inBand(one, command(EchoCommand.Buffer, 9, 0xcafe))).toEqual({ status: EchoStatus.Done, bytes: 2 * PAGE });
		const data = new Random(SEED + 1).bytes(5000);
		const request = new Uint8Array([...command(EchoCommand.Transfer), ...data]);
		const { pair, echo } = one;
		for (let round = 0; round < 3; round++) {
			pair.writer.send(request, { id: 5n, wantsCompletion: true });
			echo.service();
			const packet = pair.reader.receive();
			expect(packet).toMatchObject({ type: PacketType.TransferPages, transferSet: 0xcafe, flags: 1 });
			const ranges = packet?.transferRanges ?? [];
			expect(ranges.map((range) => range.bytes)).toEqual([2048, 2048, 904]);
			const read = ranges.flatMap((range) => [...one.engine.ram.read(BUFFER + range.offset, range.bytes)]);
			expect(read).toEqual([...data]);
			expect(pair.reader.receive()?.payload).toEqual(new Uint8Array(Uint32Array.of(EchoStatus.Done, 5000).buffer));
			// not yet given back: three of four sections are out
			expect(inBand(one, request).status).toBe(EchoStatus.Busy);
			pair.writer.complete(packet?.id ?? 0n, new Uint8Array(8));
			pair.writer.complete(packet?.id ?? 0n, new Uint8Array(8));
		}
		one.post({ type: 11, relid: 1, gpadl: 9 });
		expect(inBand(one, request).status).toBe(EchoStatus.Invalid);
	});

	it("keeps its answers while the ring is full, in order, and has the guest signal when there is room", async () => {
		const one = await channel();
		one.open();
		const { pair, echo, signals } = one;
		let sent = 0;
		let received = 0;
		for (let turn = 0; turn < 60; turn++) {
			while (pair.writer.send(new Uint8Array(900).fill(sent), { id: BigInt(sent), wantsCompletion: true })) sent++;
			echo.service();
			if (turn % 3 !== 0) continue;
			const before = signals.device;
			for (const packet of pair.reader.packets()) expect(packet.id).toBe(BigInt(received++));
			// in the first turn everything had room
			if (turn > 0) expect(signals.device).toBeGreaterThan(before);
		}
		while (received < sent) {
			echo.service();
			for (const packet of pair.reader.packets()) expect(packet.id).toBe(BigInt(received++));
		}
		expect(sent).toBeGreaterThan(100);
	});

	it("stops, touching nothing more, when the guest takes the rings' pages away or breaks the ring", async () => {
		const converted = await channel();
		converted.open();
		converted.pair.writer.send(bytes("late"));
		converted.engine.ram.convert(RING + PAGE, PAGE, PageState.Private);
		expect(converted.echo.service()).toEqual({ packets: 0, more: false, broken: "WRONG_PAGES" });
		const torn = await channel();
		torn.open();
		torn.post({ type: 11, relid: 1, gpadl: 7 });
		expect(torn.echo.service().broken).toBe("RING_CLOSED");
		const broken = await channel();
		broken.open();
		broken.engine.ram.write(RING, Uint8Array.of(3, 0, 0, 0));
		expect(broken.echo.service().broken).toBe("RING_BAD_INDEX");
		expect(broken.echo.service().broken).toBe("RING_BAD_INDEX");
		broken.post({ type: 7, relid: 1 });
		expect(broken.guest.state(broken.offerId)).toBe("Closed");
		expect(broken.echo.service()).toEqual({ packets: 0, more: false, broken: null });
	});

	it("can be closed and opened again, and is done when it is revoked", async () => {
		const { echo, open, post, pair, offerId, guest } = await channel();
		for (let i = 0; i < 20; i++) {
			expect(open()).toBe(0);
			post({ type: 7, relid: 1 });
		}
		open();
		pair.writer.send(bytes("unheard"));
		guest.server.revoke(offerId);
		echo.revoked();
		expect(echo.service().packets).toBe(0);
		expect(echo.handle({ type: "close", offerId: offerId + 1 })).toBeNull();
	});

	it("survives any bytes in its ring: it answers, or stops with a name, and never writes outside what is shared", async () => {
		const random = new Random(SEED + 2);
		for (let run = 0; run < 60; run++) {
			const one = await channel();
			one.open();
			one.engine.ram.fill(DATA, 16 * PAGE, 0x5a);
			for (let i = 0; i < 20; i++) {
				const op = random.between(0, 6);
				const ranges = [multiPageRange({ gpa: random.below(2 ** 20), bytes: random.between(1, 9000) })];
				if (random.oneIn(2))
					one.pair.writer.send(new Uint8Array([...command(op, 7, 7), ...random.bytes(random.below(60))]), {
						wantsCompletion: true,
					});
				else one.pair.writer.sendGpaDirect(ranges, command(op));
				if (random.oneIn(4)) one.engine.ram.write(RING + random.below(2 * PAGE), random.bytes(random.between(1, 12)));
				const turn = one.echo.service();
				if (turn.broken !== null) break;
				for (let n = 0; n < 40; n++) if (one.pair.reader.receive() === null) break;
			}
			expect(one.engine.ram.read(DATA, 16 * PAGE).every((byte) => byte === 0x5a)).toBe(true);
		}
	});
});

describe("a view of guest memory", () => {
	it("refuses by name what is not of its kind, and touches nothing then", async () => {
		const engine = await Engine.create({ ram: "64K", swiotlb: null });
		engine.ram.convert(0x2000, PAGE, PageState.Shared);
		engine.ram.convert(0x3000, PAGE, PageState.Leaked);
		engine.ram.convert(0x4000, PAGE, PageState.Hidden);
		const shared = pagesView(engine, "shared");
		const own = pagesView(engine, "private");
		expect(shared.refusal(0x2000, PAGE)).toBeNull();
		expect(own.refusal(0x0, 2 * PAGE)).toBeNull();
		expect(shared.refusal(0x2fff, 2)).toBe("BLOCKED_PAGES");
		expect(shared.refusal(0x1fff, 2)).toBe("WRONG_PAGES");
		expect(shared.refusal(0x4000, 1)).toBe("WRONG_PAGES");
		expect(own.read(0x2000, 1)).toBe("WRONG_PAGES");
		expect(shared.read(2 ** 45, 8)).toBe("OUTSIDE_RAM");
		expect(shared.read(0x2000, 0)).toBe("BAD_SIZE");
		expect(shared.read(0x2000, 2 ** 31)).toBe("BAD_SIZE");
		expect(shared.read(-1, 1)).toBe("OUTSIDE_RAM");
		expect(shared.write(0x1ffc, new Uint8Array(8).fill(1))).toBe("WRONG_PAGES");
		expect(engine.ram.read(0x2000, 4)).toEqual(new Uint8Array(4));
		expect(writeRanges(shared, [{ bytes: 8, offset: 0, pfns: [2] }], 4, new Uint8Array(8))).toBe("BAD_SIZE");
		expect(readRanges(shared, [{ bytes: 8, offset: 4095, pfns: [2] }], 0, 8)).toBe("BAD_SIZE");
		expect(
			readRanges(
				shared,
				[
					{ bytes: 8, offset: 9, pfns: [2] },
					{ bytes: 8, offset: 0, pfns: [2] },
				],
				7,
				3,
			),
		).toEqual(new Uint8Array(3));
	});

	it("takes for rings one range of whole pages that is split inside", () => {
		const range = { bytes: 3 * PAGE, offset: 0, pfns: [4, 9, 2] };
		expect(ringPagesOf([range], 1)).toEqual([0x4000, 0x9000, 0x2000]);
		for (const split of [0, 3, 4, 0xffffffff]) expect(ringPagesOf([range], split)).toBeNull();
		expect(ringPagesOf([], 1)).toBeNull();
		expect(ringPagesOf([range, range], 1)).toBeNull();
		expect(ringPagesOf([{ ...range, offset: 8 }], 1)).toBeNull();
		expect(ringPagesOf([{ ...range, bytes: 3 * PAGE - 1 }], 1)).toBeNull();
	});
});
