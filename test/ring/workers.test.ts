import { describe, expect, it } from "vitest";
import { soak } from "../../bench/ring-soak.ts";
import { Engine } from "../../src/engine.ts";
import { Doorbell } from "../../src/ring/doorbell.ts";
import { RingPair } from "../../src/ring/pair.ts";
import { pageList } from "./ring-channel.ts";

describe("two workers over one shared memory", () => {
	it.each([
		["a ring of one data page, asleep at almost every message", 2, false],
		["a ring of 16 data pages", 17, false],
		["threads that may not block", 5, true],
	])("lose no message and no wake-up: %s", async (_, pages, async) => {
		const seed = Date.now() % 1_000_000_000;
		console.log(`soak: seed ${seed}`);
		const { messages, sleeps } = await soak(60_000, seed, pages, async);
		expect(messages).toBe(60_000);
		expect(sleeps).toBeGreaterThan(0);
	});
});

describe("a doorbell", () => {
	it("does not sleep when it was rung after the count was read", async () => {
		const engine = await Engine.create({ ram: "1M", swiotlb: null, build: "engine.threads" });
		const bell = new Doorbell(engine.memory, engine.scratch(64));
		const seen = bell.count;
		bell.ring();
		expect(bell.wait(seen, 10_000)).toBe(true);
		expect(await bell.waitAsync(seen, 10_000)).toBe(true);
		expect(bell.wait(bell.count, 1)).toBe(false);
		expect(await bell.waitAsync(bell.count, 1)).toBe(false);
	});
});

describe("waiting on a ring", () => {
	const channel = async () => {
		const engine = await Engine.create({ ram: "1M", swiotlb: null, build: "engine.threads" });
		return RingPair.connect(engine, { pages: pageList(4, true) });
	};

	it.each(["waitForDataAsync", "waitForRoomAsync"] as const)(
		"ends when its time is up, however often a hostile peer rings: %s",
		async (call) => {
			const { guest, device } = await channel();
			while (call === "waitForRoomAsync" && guest.writer.send(new Uint8Array(1000)));
			const bell = (call === "waitForDataAsync" ? device.bell : guest.bell) as Doorbell;
			const rings = setInterval(() => bell.ring(), 5);
			try {
				const start = performance.now();
				const wait =
					call === "waitForDataAsync"
						? device.reader.waitForDataAsync(bell, 100)
						: guest.writer.waitForRoomAsync(1000, bell, 100);
				expect(await wait).toBe(false);
				expect(performance.now() - start).toBeGreaterThan(90);
			} finally {
				clearInterval(rings);
			}
		},
	);

	it("publishes what was put before it sleeps, and what was read", async () => {
		const { guest, device } = await channel();
		const bell = device.bell as Doorbell;
		expect(device.reader.waitForData(bell, 1)).toBe(false);
		const { number } = guest.writer;
		const before = bell.count;
		expect(guest.writer.put(6, 0, 0, guest.handle.scratch, 3000)).toBe(0);
		expect(guest.writer.put(6, 0, 0, guest.handle.scratch, 3000)).toBeLessThan(0);
		expect(guest.writer.waitForRoom(3000, guest.bell as Doorbell, 1)).toBe(false);
		expect(number).toBe(guest.writer.number);
		// the reader was awake and masked, so nobody rang: the re-check finds it
		expect(bell.count).toBe(before);
		expect(device.reader.waitForData(bell, 1)).toBe(true);
		expect(device.reader.next(0)).toBe(3000);
		expect(device.reader.waitForData(bell, 1)).toBe(false);
		expect(guest.writer.waitForRoom(3000, guest.bell as Doorbell, 1)).toBe(true);
	});

	it("rings the sleeping reader for the first message only", async () => {
		const { guest, device } = await channel();
		expect(device.reader.endRead()).toBe(0);
		const bell = device.bell as Doorbell;
		const before = bell.count;
		guest.writer.send(new Uint8Array(8));
		guest.writer.send(new Uint8Array(8));
		expect(bell.count).toBe(before + 1);
	});

	it("refuses to wait for room that there never is", async () => {
		const { guest } = await channel();
		expect(() => guest.writer.waitForRoom(4096 - 39, guest.bell as Doorbell)).toThrow(RangeError);
	});

	it("wakes up from a ring that is closed", async () => {
		const { guest, device } = await channel();
		guest.close({ rescinded: true });
		device.close();
		expect(device.reader.waitForData(device.bell as Doorbell, 10_000)).toBe(true);
		expect(() => device.reader.receive()).toThrow("RING_CLOSED");
		expect(() => guest.writer.send(new Uint8Array(8))).toThrow("RING_RESCINDED");
	});
});
