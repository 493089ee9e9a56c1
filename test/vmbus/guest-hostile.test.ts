import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { VmbusGuestOptions } from "../../src/vmbus/guest/options.ts";
import { encodeMessage } from "../../src/vmbus/wire/codec.ts";
import { type Message, MessageType } from "../../src/vmbus/wire/messages.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";
import { connected, created, goodHost, offer, RINGS, rescind, type TestGuest, testGuest } from "./guest-host.ts";

const T = MessageType;
/** Steps of a history; FUZZ_CASES asks for so many of them altogether (npm run fuzz). */
const STEPS = 120;
const TIMEOUT_MS = 3_600_000;
const ALL_STEPS = Number(process.env.FUZZ_CASES ?? bySuite({ quick: 12, slow: 60 }) * STEPS);
const run = { seed: SEED, numRuns: Math.ceil(ALL_STEPS / STEPS) };
printSeed("vmbus guest");

/** More than any wait lasts (ns). */
const LONG = 1e12;

/** Ends the connection with a host that says nothing more; nothing may be left, and no wait may go on. */
function expectEnd(test: TestGuest): void {
	test.answers = () => [];
	test.status = () => 0;
	const unload = test.guest.unload();
	for (let i = 0; i < 5; i++) {
		test.clock += LONG;
		test.guest.tick();
	}
	expect(unload.status).toBeDefined();
	for (const { status, name } of test.ended) expect([name, status]).toEqual([name, expect.any(String)]);
	expect(test.guest.waits).toEqual([]);
	expect(test.guest.pendingRequests).toBe(0);
	expect([test.guest.channels.size, test.guest.primaries.length]).toEqual([0, 0]);
	test.guest.dispose();
	expect(test.pages.used).toBe(0);
	expect(test.isolated ? test.sharedPages() : 0).toBe(0);
}

/** A message of a host that means no good: one of the real ones, with fields that may be anything. */
function anyMessage(random: Random): Message {
	const relid = random.oneIn(8) ? random.u32() : random.below(6);
	const gpadl = random.oneIn(6) ? random.u32() : 0xe1e10 + random.below(12);
	const status = random.oneIn(3) ? random.u32() : 0;
	switch (random.below(12)) {
		case 0:
		case 1:
		case 2: {
			const instanceId = offer(random.below(5)).instanceId;
			const more = {
				instanceId,
				subChannelIndex: random.oneIn(3) ? random.below(4) : 0,
				flags: random.oneIn(4) ? random.below(65536) : 0,
				monitorId: random.below(256),
				monitorAllocated: random.below(2),
				dedicatedInterrupt: random.below(2),
			};
			return offer(relid, more);
		}
		case 3:
		case 4:
			return rescind(relid);
		case 5:
			return { type: T.OpenChannelResult, relid, openId: random.oneIn(4) ? random.u32() : relid, status };
		case 6:
			return created(relid, gpadl, status);
		case 7:
			return { type: T.GpadlTorndown, gpadl };
		case 8:
			return { type: T.ModifyChannelResponse, relid, status };
		case 9:
			return {
				type: T.VersionResponse,
				supported: random.below(3),
				connectionState: random.below(4),
				connectionIdOrVersion: random.u32(),
			};
		case 10:
			return { type: T.UnloadResponse };
		default:
			return { type: T.AllOffersDelivered };
	}
}

/** Bytes of a message, whole, torn or with some of them changed. */
function mangled(random: Random): Uint8Array {
	const bytes = encodeMessage(anyMessage(random));
	if (random.oneIn(3)) return bytes.subarray(0, random.between(0, bytes.length));
	for (let n = random.below(4); n > 0; n--) bytes[random.below(bytes.length)] = random.below(256);
	return bytes;
}

/** Something that the embedder asks for. */
function anyCommand(test: TestGuest, random: Random): void {
	const { guest } = test;
	const relid = random.below(6);
	switch (random.below(11)) {
		case 0:
		case 1:
			guest.open(relid, { ...RINGS, requests: random.below(3) });
			return;
		case 2:
			guest.close(relid);
			return;
		case 3:
			guest.gpadl(relid, random.between(1, 60));
			return;
		case 4: {
			const handles = [...(guest.channels.get(relid)?.gpadls.keys() ?? [])];
			guest.gpadlDown(relid, handles.length > 0 ? random.pick(handles) : random.u32());
			return;
		}
		case 5:
			guest.modify(relid, random.below(5));
			return;
		case 6:
			guest.unbind(relid);
			return;
		case 7:
			guest.send(relid, random.bytes(random.below(300)), { wantsCompletion: random.oneIn(2) });
			return;
		case 8:
			for (const packet of guest.packets(relid)) guest.endRequest(relid, packet.id);
			return;
		case 9:
			guest.event(random.oneIn(4) ? random.below(4096) : relid);
			return;
		default:
			if (random.oneIn(4)) guest.suspend();
			else if (random.oneIn(3)) guest.resume();
			else if (random.oneIn(10)) guest.unload();
			else guest.connect();
	}
}

/** The host writes into a ring. */
function scribble(test: TestGuest, random: Random): void {
	for (const { ring } of test.guest.channels.values()) {
		if (ring === null || !random.oneIn(2)) continue;
		const page = random.below(ring.pages) * 4096;
		const at = random.oneIn(2) ? random.below(20) * 4 : random.below(4080);
		test.engine.ram.view(ring.gpa + page + at, 16).set(random.bytes(16));
	}
}

describe("a guest with a hostile host", () => {
	/** A random history of commands, messages and bytes, with a host that answers most of the time. */
	async function history(seed: number, options: Partial<VmbusGuestOptions>): Promise<TestGuest> {
		const random = new Random(seed);
		const good = goodHost([0x60000, 0x50003], 0xff);
		const test = await testGuest(
			{ ...options, driver: () => (random.oneIn(3) ? { open: RINGS, subChannels: true } : null) },
			{ callback: ({ relid }) => void [...test.guest.packets(relid)] },
			(message) => {
				const answers = random.oneIn(5) ? [] : good(message);
				return random.oneIn(6) ? [...answers, anyMessage(random), ...answers] : answers;
			},
		);
		test.status = () => (random.oneIn(20) ? random.pick([5, 6, 18, 19, 120]) : 0);
		test.keeps = () => random.oneIn(4);
		test.guest.connect();
		const steps = [
			() => anyCommand(test, random),
			() => anyCommand(test, random),
			() => test.guest.message(random.oneIn(3) ? random.bytes(random.below(256)) : mangled(random)),
			() => test.send(anyMessage(random)),
			() => test.send(anyMessage(random)),
			() => test.release(random.below(3)),
			() => scribble(test, random),
			() => {
				test.clock += random.oneIn(20) ? LONG : 1e9;
				test.guest.tick();
			},
		];
		for (let step = 0; step < STEPS; step++) random.pick(steps)();
		test.keeps = () => false;
		return test;
	}

	it.each(["none", "snp"] as const)(
		"survives random histories and leaves nothing: %s",
		{ timeout: TIMEOUT_MS },
		async (isolation) => {
			const options = { isolation, paravisor: isolation === "snp" };
			await fc.assert(
				fc.asyncProperty(fc.integer(), async (seed) => expectEnd(await history(seed, options))),
				run,
			);
		},
	);

	it("survives them as linux-6.12 too, though it may wait for ever", { timeout: TIMEOUT_MS }, async () => {
		const options = { behaviour: "linux-6.12", isolation: "tdx" } as const;
		await fc.assert(
			fc.asyncProperty(fc.integer(), async (seed) => {
				const test = await history(seed, options);
				expect(["disconnected", "connecting", "connected"]).toContain(test.guest.state);
			}),
			run,
		);
	});

	it("may refuse a guest as linux-6.12 that then resumes what is not there", async () => {
		const test = await connected({ behaviour: "linux-6.12" });
		test.guest.unload();
		test.answers = goodHost([]);
		expect(test.guest.connect().status).toBe("no-version");
		expect(test.guest.resume().status).toBe("cancelled");
	});

	it("may rescind at any step of an open, a GPADL, a change and a close", async () => {
		const steps = [T.GpadlHeader, T.GpadlBody, T.OpenChannel, T.ModifyChannel, T.CloseChannel, T.GpadlTeardown];
		for (const isolation of ["none", "snp"] as const) {
			for (const at of steps) {
				for (const answersFirst of [true, false]) {
					const test = await connected({ isolation, paravisor: isolation === "snp" }, [offer(1)]);
					const good = test.answers;
					test.answers = (message) => {
						const answers = message.type === T.GpadlBody ? [created(1, message.gpadl)] : good(message);
						if (message.type !== at) return answers;
						return answersFirst ? [...answers, rescind(1)] : [rescind(1), ...answers];
					};
					test.guest.open(1, RINGS);
					test.guest.gpadl(1, 50);
					test.guest.modify(1, 3);
					test.guest.close(1);
					if (at !== T.GpadlBody) expect(test.guest.channels.size).toBe(0);
					expect(test.posts.filter(({ type }) => type === T.RelidReleased).length).toBe(1);
					test.answers = good;
					expect(test.guest.unload().status).toBe("ok");
					test.guest.dispose();
					expect([test.pages.used, test.pages.leaked]).toEqual([0, 0]);
				}
			}
		}
	});

	it("may answer twice, late, or for others", async () => {
		const test = await connected();
		const good = test.answers;
		test.answers = (message) => good(message).flatMap((answer) => [answer, answer, answer]);
		expect(test.guest.open(1, RINGS).status).toBe("ok");
		expect(test.guest.modify(1, 3).status).toBe("ok");
		expect(test.guest.close(1).status).toBe("ok");
		test.answers = () => [];
		const open = test.guest.open(2, RINGS);
		test.send(created(1, 0xe1e11), created(2, 0xe1e10), { type: T.GpadlTorndown, gpadl: 0xe1e11 });
		expect(open.status).toBeUndefined();
		test.send(created(2, 0xe1e11));
		test.send({ type: T.OpenChannelResult, relid: 2, openId: 1, status: 0 });
		expect(open.status).toBeUndefined();
		test.send({ type: T.OpenChannelResult, relid: 2, openId: 2, status: 0 });
		expect(open.status).toBe("ok");
	});

	it("may lie in the length of every message", async () => {
		const test = await connected();
		const whole = [offer(3), rescind(1), created(1, 1), { type: T.UnloadResponse } as const].map(encodeMessage);
		for (const payload of whole) {
			for (let bytes = 0; bytes < payload.length; bytes++) test.guest.message(payload.subarray(0, bytes));
		}
		expect([...test.guest.channels.keys()]).toEqual([1, 2]);
		for (const claimed of [241, 255]) test.guest.message(new Uint8Array(claimed).fill(1));
		test.guest.message(Uint8Array.from([...encodeMessage(offer(3)), ...new Uint8Array(44).fill(0xff)]));
		expect([...test.guest.channels.keys()]).toEqual([1, 2, 3]);
		expect(test.take()).toEqual([]);
	});

	it("may put anything into the message and event pages", async () => {
		const random = new Random(SEED);
		const pages: number[] = [];
		const test = await connected({}, undefined, {
			writeMsr: (_, __, msr, value) => {
				if (msr === 0x40000082 || msr === 0x40000083) pages.push(Number(value & ~1n));
				return true;
			},
		});
		for (let round = 0; round < 300; round++) {
			for (const page of pages) test.engine.ram.view(page, 4096).set(random.bytes(4096));
			for (let cpu = -1; cpu < 5; cpu++) test.guest.interrupt(cpu);
		}
		expectEnd(test);
	});

	it("may place the SynIC's pages where there is no RAM", async () => {
		for (const gpa of [0n, 1n << 40n, 0x4000000n, 0x3ffffff000n]) {
			const test = await testGuest(
				{ isolation: "snp", paravisor: true, sharedGpaBoundary: 2 ** 46 },
				{ readMsr: () => gpa | 1n },
			);
			expect(test.guest.connect().status).toBe("ok");
			for (let cpu = 0; cpu < 4; cpu++) test.guest.interrupt(cpu);
			expect(test.guest.unload().status).toBe("ok");
		}
	});

	it("gets no more of the guest's memory than was shared with it", async () => {
		const test = await connected({ isolation: "snp", paravisor: true });
		const secret = test.pages.alloc(4, "secret");
		test.engine.ram.fill(secret, 4 * 4096, 0x5a);
		test.pages.free(secret, 4);
		test.guest.open(1, RINGS);
		const { ring } = test.guest.channels.get(1) as NonNullable<ReturnType<typeof test.guest.channels.get>>;
		expect(ring?.gpa).toBe(secret);
		expect(test.engine.ram.read(secret, 4 * 4096).includes(0x5a)).toBe(false);
	});
});
